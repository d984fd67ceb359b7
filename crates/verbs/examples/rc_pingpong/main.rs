//! `ibv_rc_pingpong` on the safe verbs: a message goes back and forth between two machines as often as asked.
//!
//! It speaks the stock program's TCP exchange and has its flags and its output, so that either can be the other's peer: the embedded
//! device here, the kernel's Soft-RoCE or a network card there.
//!
//! ```text
//!   ibv_rc_pingpong -d rxe0 -g 1                                       one machine, 192.0.2.1
//!   cargo run --release -p verbs --example rc_pingpong -- 192.0.2.1    the other
//! ```
//!
//! The result goes to standard output. Standard error says at the end what had to be sent again: on a clean link nothing.

mod args;
mod check;
mod endpoint;
mod exchange;
mod rounds;

use args::Args;
use clap::Parser;
use endpoint::{Connection, Endpoint, Local};
use exchange::Address;
use rounds::Rounds;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;
use verbs::{GidEntry, QueuePairCounters, Snapshot};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The UDP port to which kernels and network cards send.
const PORT: u16 = rocev2::UDP_PORT;

/// How long the peer may take for its part of the TCP exchange.
const EXCHANGE: Duration = Duration::from_secs(30);

/// Where the TCP connection comes from.
enum Meeting {
    Server(TcpListener),
    Client(TcpStream),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let played = Meeting::new(&args).and_then(|meeting| run(&args, meeting, &mut io::stdout()));
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rc_pingpong: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Meeting {
    fn new(args: &Args) -> Result<Self, Failure> {
        let port = args.port;
        match &args.host {
            Some(host) => match TcpStream::connect((host.as_str(), port)) {
                Ok(stream) => Ok(Self::Client(stream)),
                Err(error) => Err(format!("connecting to {host}, port {port}: {error}").into()),
            },
            // The IPv6 socket takes IPv4 connections too.
            None => TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
                .or_else(|error| match error.kind() {
                    ErrorKind::AddrInUse => Err(error),
                    _ => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
                })
                .map(Self::Server)
                .map_err(|error| format!("listening on TCP port {port}: {error}").into()),
        }
    }

    fn stream(self) -> Result<TcpStream, Failure> {
        let stream = match self {
            Self::Server(listener) => listener.accept()?.0,
            Self::Client(stream) => stream,
        };
        stream.set_read_timeout(Some(EXCHANGE))?;
        stream.set_write_timeout(Some(EXCHANGE))?;
        Ok(stream)
    }
}

fn run(args: &Args, meeting: Meeting, out: &mut impl Write) -> Result<(), Failure> {
    let endpoint = Endpoint::open(args)?;
    let mut tell = |gid: GidEntry| -> Result<Local, Failure> {
        let local = endpoint.local(gid)?;
        writeln!(out, "  local address:  {}", local.address)?;
        Ok(local)
    };
    // Told before the client comes, if it doesn't depend on the client.
    let chosen = endpoint.chosen_gid(args.gid_idx)?.map(&mut tell).transpose()?;
    let stream = meeting.stream()?;
    let local = match chosen {
        Some(local) => local,
        None => tell(endpoint.gid_for(stream.local_addr()?.ip().to_canonical())?)?,
    };
    let server = args.host.is_none();
    if !server {
        local.address.send(&stream)?;
    }
    let peer = Address::receive(&stream)?;
    if !server {
        exchange::send_done(&stream)?;
    }
    writeln!(out, "  remote address: {peer}")?;
    let mut connection = endpoint.connect(args, &local, &peer)?;
    let mut rounds = Rounds::new(args, &mut connection);
    rounds.start()?;
    if server {
        // Only now may the client send.
        local.address.send(&stream)?;
        exchange::receive_done(&stream)?;
    }
    let played = rounds.play();
    report(&connection);
    let took = played?.as_secs_f64();
    let (iters, bytes) = (args.iters, u128::from(args.size) * u128::from(args.iters) * 2);
    #[expect(clippy::cast_precision_loss, reason = "for reading")]
    let (megabits, each) = (bytes as f64 * 8. / 1e6 / took, took * 1e6 / iters as f64);
    writeln!(out, "{bytes} bytes in {took:.2} seconds = {megabits:.2} Mbit/sec")?;
    writeln!(out, "{iters} iters in {took:.2} seconds = {each:.2} usec/iter")?;
    Ok(())
}

/// Says on standard error what went wrong on the way, if only for a while, and what the sockets did.
fn report(connection: &Connection) {
    // libibverbs' devices don't count for each queue pair.
    if let Ok(Snapshot { counters: Some(QueuePairCounters { requester, responder }), .. }) =
        connection.qp.query()
    {
        eprintln!(
            "retransmitted {} packets, {} timeouts; {} NAKs and {} RNR NAKs taken, {} and {} sent",
            requester.retransmitted,
            requester.timeouts,
            requester.sequence_naks,
            requester.rnr_naks,
            responder.naks,
            responder.rnr_naks
        );
    }
    let counters = connection.device.counters().into_iter().filter(|(_, count)| *count > 0);
    let counters: Vec<_> = counters.map(|(name, count)| format!("{name} {count}")).collect();
    eprintln!("device: {}", counters.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Plays a game between two embedded devices on this machine and returns what each end printed.
    fn play(address: &str, flags: &[&str]) -> [Result<String, String>; 2] {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap();
        let end = |host: Option<&str>, meeting: Meeting| {
            let args = Args::parse_from(["rc_pingpong"].iter().chain(flags).copied().chain(host));
            let mut out = Vec::new();
            let played = run(&args, meeting, &mut out);
            played.map(|()| String::from_utf8(out).unwrap()).map_err(|error| error.to_string())
        };
        thread::scope(|scope| {
            let server = scope.spawn(move || end(None, Meeting::Server(listener)));
            let client = TcpStream::connect(port).unwrap();
            let client = end(Some(address), Meeting::Client(client));
            [server.join().unwrap(), client]
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
