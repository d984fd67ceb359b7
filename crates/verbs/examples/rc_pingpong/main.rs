//! `ibv_rc_pingpong` on the safe verbs: a message goes back and forth between two machines as often as asked.
//!
//! It speaks the stock program's TCP exchange and has its flags and its output, so that either can be the
//! other's peer: the embedded device here, the kernel's Soft-RoCE or a network card there.
//!
//! ```text
//!   ibv_rc_pingpong -d rxe0 -g 1                                       one machine, 192.0.2.1
//!   cargo run --release -p rdma-verbs --example rc_pingpong -- 192.0.2.1    the other
//! ```
//!
//! The result goes to standard output. Standard error says at the end what had to be sent again: on a clean
//! link nothing.

#[path = "../common/mod.rs"]
mod common;
#[path = "../pingpong/mod.rs"]
mod pingpong;

use std::process::ExitCode;

fn main() -> ExitCode {
    pingpong::main("rc_pingpong", |builder| builder)
}

#[cfg(test)]
mod tests {
    use crate::common::meeting::both_ends;
    use crate::pingpong::args::Args;
    use crate::pingpong::run;
    use clap::Parser;

    /// Plays a game between two embedded devices on this machine and returns what each end printed.
    fn play(address: &str, flags: &[&str]) -> [Result<String, String>; 2] {
        both_ends(address, |host, meeting| {
            let args = Args::parse_from(["rc_pingpong"].iter().chain(flags).copied().chain(host));
            let mut out = Vec::new();
            let played = run(&args, |builder| builder, meeting, &mut out);
            played.map(|()| String::from_utf8(out).unwrap()).map_err(|error| error.to_string())
        })
    }

    #[test]
    fn every_byte_comes_back_polled_and_with_events() {
        for size in ["0", "1", "7", "4096", "4097", "1048576"] {
            for events in [&[][..], &["-e"]] {
                let flags = ["-c", "-m", "4096", "-n", "20", "-s", size];
                let [server, client] = play("127.0.0.1", &[&flags, events].concat()).map(Result::unwrap);
                for out in [&server, &client] {
                    let bytes = size.parse::<u64>().unwrap() * 40;
                    assert!(out.contains(&format!("\n{bytes} bytes in ")), "{out}");
                    assert!(out.contains("\n20 iters in "), "{out}");
                }
                // What one prints of itself, the other prints of its peer.
                let address = |out: &str, which: &str| {
                    out.lines().find_map(|line| {
                        line.trim_start().strip_prefix(which).map(|rest| rest.trim().to_string())
                    })
                };
                let [local, remote] = ["local address:", "remote address:"];
                assert_eq!(address(&server, local), address(&client, remote));
                assert_eq!(address(&client, local), address(&server, remote));
            }
        }
    }

    #[test]
    fn one_receive_at_a_time_is_enough() {
        for played in play("127.0.0.1", &["-r", "1", "-n", "200", "-c"]) {
            played.unwrap();
        }
    }

    #[test]
    fn an_ipv6_end_that_cannot_tell_its_port_says_so() {
        // Only one of the two gets port 4791, if any.
        let refused = play("::1", &["-n", "1"]).into_iter().filter_map(Result::err).collect::<Vec<_>>();
        assert!(refused.iter().any(|error| error.contains("IPv6 GID has no room")), "{refused:?}");
    }
}
