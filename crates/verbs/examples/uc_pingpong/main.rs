//! `ibv_uc_pingpong` on the safe verbs: `rc_pingpong` over an unreliable connection. Who loses a message loses
//! the game, and hears nothing of the peer any more.
//!
//! ```text
//!   ibv_uc_pingpong -d rxe0 -g 1                                              one machine, 192.0.2.1
//!   cargo run --release -p rdma-verbs --example uc_pingpong -- -d rxe0 192.0.2.1     the other
//! ```
//!
//! The embedded device has no unreliable connections yet, and says so.

#[path = "../common/mod.rs"]
mod common;
#[path = "../pingpong/mod.rs"]
mod pingpong;

use rdma_verbs::QueuePairBuilder;
use std::process::ExitCode;

fn main() -> ExitCode {
    pingpong::main("uc_pingpong", QueuePairBuilder::uc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::Meeting;
    use crate::pingpong::args::Args;
    use clap::Parser;
    use std::net::TcpListener;

    #[test]
    fn a_device_without_unreliable_connections_is_told_apart() {
        let args = Args::parse_from(["uc_pingpong"]);
        let meeting = Meeting::Server(TcpListener::bind(("127.0.0.1", 0)).unwrap());
        let refused = pingpong::run(&args, QueuePairBuilder::uc, meeting, &mut Vec::new()).unwrap_err();
        assert_eq!(refused.to_string(), "the embedded device has no unreliable connections");
    }
}
