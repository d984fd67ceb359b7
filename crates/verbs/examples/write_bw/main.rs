//! The bandwidth of RDMA WRITEs between two machines, measured as perftest's `ib_write_bw` does: the client
//! keeps several under way, the server's program takes no part in it. They meet as `rc_pingpong`'s ends do.
//!
//! ```text
//!   cargo run --release -p rdma-verbs --example write_bw                    one machine, 192.0.2.1
//!   cargo run --release -p rdma-verbs --example write_bw -- 192.0.2.1       the other
//! ```
//!
//! Both print the bandwidth on standard output, and the server whether its memory holds at the end what the
//! client wrote. Standard error says what had to be sent again.

#[path = "../common/mod.rs"]
mod common;

mod args;
mod target;

use args::Args;
use clap::Parser;
use common::end::options;
use common::{End, Failure, Meeting, PATIENCE, exchange};
use rdma_verbs::{
    Access, CompletionQueue, Device, Endpoint, GidEntry, MemoryRegion, PeerRights, QueuePair,
    QueuePairLimits, ReadyToSend, RemoteRegion, SendRequest, Slice, Status,
};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What every byte of a message is.
const CONTENT: u8 = 0x7b;

/// How long the server waits for the client to have written everything.
const LONGEST: Duration = Duration::from_secs(3600);

fn main() -> ExitCode {
    let args = Args::parse();
    let meeting = Meeting::new(args.host.as_deref(), args.port);
    match meeting.and_then(|meeting| run(&args, meeting, &mut io::stdout())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("write_bw: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, meeting: Meeting, out: &mut impl Write) -> Result<(), Failure> {
    let device = Device::open(&args.device())?;
    let domain = device.protection_domain()?;
    let server = args.host.is_none();
    let depth = args.tx_depth as usize;
    let queue = device.completion_queue(depth, None)?;
    let limits =
        QueuePairLimits { max_send_requests: depth, max_recv_requests: 1, max_sge: 1, max_inline: 0 };
    let rights = PeerRights { write: server, ..PeerRights::default() };
    let qp = QueuePair::builder(&domain, &queue).limits(limits).build()?.init(rights)?;
    let size = args.size as usize;
    let end = End {
        device: Arc::clone(&device),
        queue_pairs: vec![(qp.qpn(), qp.psn().get())],
        mtu: args.mtu,
        gid_idx: args.gid_index,
        told: 1,
    };
    let connect = |own: &GidEntry, peers: &[Endpoint]| Ok(qp.connect(own, &peers[0], &options(args.mtu))?);
    let took = if server {
        let memory = domain.register(size, Access::LOCAL_WRITE | Access::REMOTE_WRITE)?;
        let (qp, stream) = end.meet(meeting, out, connect)?;
        target::send(&memory.remote(), &stream)?;
        let start = Instant::now();
        stream.set_read_timeout(Some(LONGEST))?;
        let written = exchange::receive_done(&stream);
        let took = start.elapsed();
        common::report(&device, &qp);
        written?;
        check(&memory)?;
        took
    } else {
        let bytes = depth.checked_mul(size).ok_or("so many messages of that size don't fit into memory")?;
        let memory = domain.register(bytes, Access::LOCAL_WRITE)?;
        let slice = |number| -> Result<Slice, Failure> {
            let mut slice = memory.slice(number * u64::from(args.size), args.size)?;
            slice.fill(&vec![CONTENT; size])?;
            Ok(slice)
        };
        let slices = (0..u64::from(args.tx_depth)).map(slice).collect::<Result<_, _>>()?;
        let (mut qp, stream) = end.meet(meeting, out, connect)?;
        let target = target::receive(&stream)?;
        let start = Instant::now();
        let written = write(args, &mut qp, &queue, slices, &target);
        let took = start.elapsed();
        common::report(&device, &qp);
        written?;
        exchange::send_done(&stream)?;
        took
    };
    print(args, took, out)
}

/// Writes all messages to `target`, as many at a time as there are slices.
fn write(
    args: &Args,
    qp: &mut QueuePair<ReadyToSend>,
    queue: &CompletionQueue,
    mut free: Vec<Slice>,
    target: &RemoteRegion,
) -> Result<(), Failure> {
    let depth = free.len();
    let range = target.range(0, args.size.into()).map_err(|_| {
        format!("the server has {} bytes to write to: give both ends the same -s", target.len)
    })?;
    let (mut posted, mut completed) = (0, 0);
    let mut done = Vec::with_capacity(depth);
    while completed < args.iters {
        while posted < args.iters
            && let Some(slice) = free.pop()
        {
            qp.post_send(SendRequest::write([slice], range))?;
            posted += 1;
        }
        if queue.spin(&mut done, depth, PATIENCE)? == 0 {
            return Err(format!("nothing was heard of the server for {} s", PATIENCE.as_secs()).into());
        }
        for mut completion in done.drain(..) {
            if completion.status != Status::Success {
                return Err(format!("a write ended with {:?}", completion.status).into());
            }
            free.push(completion.slice().ok_or("a completion came without its buffer")?);
            completed += 1;
        }
    }
    Ok(())
}

/// Whether the client's bytes are there.
fn check(memory: &MemoryRegion) -> Result<(), Failure> {
    let mut got = vec![0; usize::try_from(memory.len())?];
    memory.read(0, &mut got)?;
    match got.iter().position(|byte| *byte != CONTENT) {
        Some(place) => Err(format!("byte {place} isn't what the client wrote").into()),
        None => Ok(()),
    }
}

/// In perftest's columns.
fn print(args: &Args, took: Duration, out: &mut impl Write) -> Result<(), Failure> {
    let (size, iters, took) = (args.size, args.iters, took.as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "for reading")]
    let messages = iters as f64 / took / 1e6;
    let gigabits = messages * f64::from(size) * 8. / 1e3;
    writeln!(out, " #bytes     #iterations    BW average[Gb/sec]   MsgRate[Mpps]")?;
    writeln!(out, " {size:<10} {iters:<14} {gigabits:<20.2} {messages:.6}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::meeting::both_ends;

    /// Runs both ends on this machine, with these flags of the server and of the client.
    fn measure(server: &[&str], client: &[&str]) -> [Result<String, String>; 2] {
        both_ends("127.0.0.1", |host, meeting| {
            let flags = if host.is_none() { server } else { client };
            let args = Args::parse_from(["write_bw"].iter().chain(flags).copied().chain(host));
            let mut out = Vec::new();
            let measured = run(&args, meeting, &mut out);
            measured.map(|()| String::from_utf8(out).unwrap()).map_err(|error| error.to_string())
        })
    }

    #[test]
    fn all_sizes_and_depths_are_written_and_both_ends_say_so() {
        for (size, depth) in [("1", "1"), ("4097", "3"), ("65536", "16"), ("1048576", "2")] {
            let flags = ["-s", size, "-t", depth, "-n", "50"];
            for out in measure(&flags, &flags).map(Result::unwrap) {
                let row: Vec<_> = out.lines().last().unwrap().split_whitespace().collect();
                assert_eq!(row[..2], [size, "50"], "{out}");
                // A byte at a time is too little for the bandwidth to show.
                assert!(row[3].parse::<f64>().unwrap() > 0., "{out}");
            }
        }
    }

    #[test]
    fn a_larger_client_is_refused_before_it_writes() {
        let [server, client] = measure(&["-s", "4096"], &["-s", "8192"]);
        assert!(client.unwrap_err().contains("give both ends the same -s"));
        assert!(server.is_err());
    }
}
