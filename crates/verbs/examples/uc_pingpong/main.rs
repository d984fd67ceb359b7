//! `ibv_uc_pingpong` on the safe verbs: `rc_pingpong` over an unreliable connection. Who loses a message loses
//! the game, and hears nothing of the peer any more.
//!
//! ```text
//!   ibv_uc_pingpong -d rxe0 -g 1                                              one machine, 192.0.2.1
//!   cargo run --release -p rdma-verbs --example uc_pingpong -- -d rxe0 192.0.2.1     the other
//! ```

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
    use crate::common::meeting::both_ends;
    use crate::pingpong::args::Args;
    use clap::Parser;

    #[test]
    fn two_embedded_devices_play() {
        let ends = both_ends("127.0.0.1", |host, meeting| {
            let args = Args::parse_from(["uc_pingpong", "-n", "100", "-c"].into_iter().chain(host));
            let mut out = Vec::new();
            let played = pingpong::run(&args, QueuePairBuilder::uc, meeting, &mut out);
            played.map(|()| String::from_utf8(out).unwrap()).map_err(|error| error.to_string())
        });
        for end in ends {
            let text = end.unwrap();
            assert!(text.contains("100 iters"), "{text}");
        }
    }
}
