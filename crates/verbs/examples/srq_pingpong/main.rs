//! `ibv_srq_pingpong` on the safe verbs: messages go back and forth between two machines on several connections,
//! whose receive queue is one.
//!
//! ```text
//!   ibv_srq_pingpong -d rxe0 -g 1                                                     one machine, 192.0.2.1
//!   cargo run --release -p rdma-verbs --example srq_pingpong -- -d rxe0 192.0.2.1     the other
//! ```

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "each program uses a part of it")]
mod common;
#[path = "../pingpong/mod.rs"]
#[allow(dead_code, reason = "each program uses a part of it")]
mod pingpong;

use clap::Parser;
use common::end::options;
use common::{End, Failure, Meeting, PATIENCE};
use pingpong::args::Args;
use pingpong::{check, print};
use rdma_verbs::{
    Access, Completion, CompletionQueue, Device, PeerRights, QueuePair, QueuePairLimits, Rc, ReadyToSend,
    RecvRequest, SendRequest, Shared, SharedReceiveQueue, SharedReceiveQueueLimits, Slice, Status,
};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Addresses that the stock program tells, however many connections there are.
const TOLD: usize = 256;

/// The command line: `rc_pingpong`'s, and how many connections.
#[derive(Debug, Parser)]
#[command(version)]
struct SrqArgs {
    #[command(flatten)]
    game: Args,
    /// Connections
    #[arg(short = 'q', long, value_name = "COUNT", default_value = "16")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    num_qp: u16,
}

fn main() -> ExitCode {
    let args = SrqArgs::parse();
    let meeting = Meeting::new(args.game.host.as_deref(), args.game.port);
    match meeting.and_then(|meeting| run(&args, meeting, &mut io::stdout())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("srq_pingpong: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &SrqArgs, meeting: Meeting, out: &mut impl Write) -> Result<(), Failure> {
    let (count, args) = (usize::from(args.num_qp), &args.game);
    let device = Device::open(&args.device())?;
    let domain = device.protection_domain()?;
    let (size, depth) = (args.size, args.depth() as usize);
    let channel = if args.events { Some(device.completion_channel()?) } else { None };
    let queue = device.completion_queue(depth + count, channel.as_ref())?;
    let srq = domain.shared_receive_queue(SharedReceiveQueueLimits { max_requests: depth, max_sge: 1 })?;
    let limits = QueuePairLimits { max_send_requests: 1, ..QueuePairLimits::default() };
    let make = |_| {
        let builder = QueuePair::builder(&domain, &queue).limits(limits).shared_receive_queue(&srq);
        builder.build()?.init(PeerRights::default())
    };
    let queue_pairs = (0..count).map(make).collect::<Result<Vec<_>, _>>()?;
    let bytes = u64::from(size);
    let memory = usize::try_from((depth + count) as u64 * bytes)?.max(1);
    let memory = domain.register(memory, Access::LOCAL_WRITE)?;
    for number in 0..depth as u64 {
        srq.post_recv(RecvRequest::new([memory.slice(number * bytes, size)?]))?;
    }
    let content = check::content(size as usize, args.chk);
    let own = |at: usize| -> Result<Slice, Failure> {
        let mut slice = memory.slice((depth + at) as u64 * bytes, size)?;
        slice.fill(&content)?;
        Ok(slice)
    };
    let own = (0..count).map(own).collect::<Result<Vec<_>, _>>()?;
    let end = End {
        device: Arc::clone(&device),
        queue_pairs: queue_pairs.iter().map(|qp| (qp.qpn(), qp.psn().get())).collect(),
        mtu: args.mtu,
        gid_idx: args.gid_idx,
        told: TOLD,
    };
    let (connected, _stream) = end.meet(meeting, out, |gid, peers| {
        let connect = |(qp, peer): (QueuePair<_, _, Shared>, _)| qp.connect(gid, peer, &options(args.mtu));
        Ok(queue_pairs.into_iter().zip(peers).map(connect).collect::<Result<Vec<_>, _>>()?)
    })?;
    let lane = |(qp, own)| Lane { qp, own: Some(own), has_ball: args.host.is_some() };
    let lanes = connected.into_iter().zip(own).map(lane).collect();
    let mut game = Game { args, srq, lanes, content, sent: 0, received: 0 };
    let took = game.play(&queue)?;
    print(args, took, out)
}

/// A connection, with the message that it sends while that isn't under way.
struct Lane {
    qp: QueuePair<ReadyToSend, Rc, Shared>,
    own: Option<Slice>,
    /// Whether it's this end's turn.
    has_ball: bool,
}

/// The state of the game at one end. The counts are those of all connections together, as the stock program's.
struct Game<'a> {
    args: &'a Args,
    srq: Arc<SharedReceiveQueue>,
    lanes: Vec<Lane>,
    content: Vec<u8>,
    sent: u64,
    received: u64,
}

impl Game<'_> {
    fn play(&mut self, queue: &CompletionQueue) -> Result<Duration, Failure> {
        let start = Instant::now();
        for at in 0..self.lanes.len() {
            self.send(at)?;
        }
        let mut done = Vec::with_capacity(16);
        while self.received < self.args.iters || self.sent < self.args.iters {
            let count = if self.args.events {
                queue.wait(&mut done, 16, PATIENCE)?
            } else {
                queue.spin(&mut done, 16, PATIENCE)?
            };
            if count == 0 {
                return Err(format!("nothing was heard of the peer for {} s", PATIENCE.as_secs()).into());
            }
            for completion in done.drain(..) {
                self.complete(completion)?;
            }
        }
        Ok(start.elapsed())
    }

    fn complete(&mut self, mut completion: Completion) -> Result<(), Failure> {
        if completion.status != Status::Success {
            return Err(format!("{:?} ended with {}", completion.kind, completion.status).into());
        }
        let of = |lane: &Lane| lane.qp.qpn() == completion.qpn;
        let at = self.lanes.iter().position(of).ok_or("a completion of no queue pair")?;
        let slice = completion.slice().ok_or("a completion came without its buffer")?;
        if completion.kind.is_recv() {
            self.look_at(&slice, completion.len)?;
            self.srq.post_recv(RecvRequest::new([slice]))?;
            self.received += 1;
            self.lanes[at].has_ball = true;
        } else {
            self.sent += 1;
            self.lanes[at].own = Some(slice);
        }
        self.send(at)
    }

    /// Sends the message back if it is here and the last one has arrived.
    fn send(&mut self, at: usize) -> Result<(), Failure> {
        let Lane { qp, own, has_ball } = &mut self.lanes[at];
        if *has_ball
            && self.sent < self.args.iters
            && let Some(slice) = own.take()
        {
            qp.post_send(SendRequest::send([slice]))?;
            *has_ball = false;
        }
        Ok(())
    }

    fn look_at(&self, slice: &Slice, len: u32) -> Result<(), Failure> {
        let size = self.args.size;
        if len != size {
            return Err(format!("the peer sent {len} bytes, not {size}: give both ends the same -s").into());
        }
        if !self.args.chk {
            return Ok(());
        }
        let mut got = vec![0; size as usize];
        slice.read(0, &mut got)?;
        match check::invalid_page(&got, &self.content) {
            Some(page) => Err(format!("invalid data in page {page} of message {}", self.received).into()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::meeting::both_ends;

    #[test]
    fn two_embedded_devices_play() {
        let ends = both_ends("127.0.0.1", |host, meeting| {
            let args =
                SrqArgs::parse_from(["srq_pingpong", "-n", "100", "-c", "-q", "2"].into_iter().chain(host));
            let mut out = Vec::new();
            let played = run(&args, meeting, &mut out);
            played.map(|()| String::from_utf8(out).unwrap()).map_err(|error| error.to_string())
        });
        for end in ends {
            let text = end.unwrap();
            assert!(text.contains("100 iters"), "{text}");
        }
    }
}
