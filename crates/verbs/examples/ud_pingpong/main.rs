//! `ibv_ud_pingpong` on the safe verbs: a datagram goes back and forth between two machines as often as asked.
//! Who loses one loses the game, and hears nothing of the peer any more.
//!
//! ```text
//!   ibv_ud_pingpong -d rxe0 -g 1                                                     one machine, 192.0.2.1
//!   cargo run --release -p rdma-verbs --example ud_pingpong -- -d rxe0 192.0.2.1     the other
//! ```

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "each program uses a part of it")]
mod common;
#[path = "../pingpong/mod.rs"]
#[allow(dead_code, reason = "each program uses a part of it")]
mod pingpong;

use clap::{CommandFactory, FromArgMatches};
use common::{End, Failure, Meeting, PATIENCE};
use pingpong::args::Args;
use pingpong::{check, print};
use rdma_verbs::{
    Access, AddressHandle, CompletionQueue, Destination, Device, QueuePair, QueuePairLimits, ReadyToSend,
    RecvRequest, SendRequest, Slice, Status, Ud,
};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The stock program's Q_Key.
const QKEY: u32 = 0x1111_1111;

/// Bytes that stand before each datagram received.
const GRH: u32 = 40;

fn main() -> ExitCode {
    // A message has to fit into one packet: the stock program's default.
    let command = Args::command().mut_arg("size", |arg| arg.default_value("1024"));
    let args = Args::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let meeting = Meeting::new(args.host.as_deref(), args.port);
    match meeting.and_then(|meeting| run(&args, meeting, &mut io::stdout())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ud_pingpong: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, meeting: Meeting, out: &mut impl Write) -> Result<(), Failure> {
    let device = Device::open(&args.device())?;
    let domain = device.protection_domain()?;
    let (size, depth) = (args.size, args.depth());
    let channel = if args.events { Some(device.completion_channel()?) } else { None };
    let queue = device.completion_queue(depth as usize + 1, channel.as_ref())?;
    let limits = QueuePairLimits {
        max_send_requests: 1,
        max_recv_requests: depth as usize,
        ..QueuePairLimits::default()
    };
    let qp = QueuePair::builder(&domain, &queue).ud().limits(limits).build()?.init(QKEY)?;
    let room = u64::from(size) + u64::from(GRH);
    let memory = domain.register(usize::try_from((u64::from(depth) + 1) * room)?, Access::LOCAL_WRITE)?;
    let slice = |number: u64| memory.slice(number * room, size + GRH);
    let mut own = memory.slice(u64::from(depth) * room, size)?;
    own.fill(&check::content(size as usize, args.chk))?;
    let end = End {
        device: Arc::clone(&device),
        queue_pairs: vec![(qp.qpn(), qp.psn().get())],
        mtu: args.mtu,
        gid_idx: args.gid_idx,
        told: 1,
    };
    let (mut game, _stream) = end.meet(meeting, out, |gid, peers| {
        if size > gid.mtu.bytes() {
            return Err(format!("a datagram holds {} bytes: give both ends a smaller -s", gid.mtu).into());
        }
        let way = domain.address_handle(gid, &peers[0])?;
        let mut qp = qp.ready()?;
        for number in 0..depth {
            qp.post_recv(RecvRequest::new([slice(number.into())?]))?;
        }
        let to = Destination { qpn: peers[0].qpn, qkey: QKEY };
        Ok(Game { args, qp, way, to, own: Some(own), has_ball: args.host.is_some(), sent: 0, received: 0 })
    })?;
    let took = game.play(&queue)?;
    print(args, took, out)
}

/// The state of the game at one end.
struct Game<'a> {
    args: &'a Args,
    qp: QueuePair<ReadyToSend, Ud>,
    way: Arc<AddressHandle>,
    to: Destination,
    /// What is sent, while it isn't under way. (What came in stands behind a header that isn't sent.)
    own: Option<Slice>,
    /// Whether it's this end's turn.
    has_ball: bool,
    sent: u64,
    received: u64,
}

impl Game<'_> {
    fn play(&mut self, queue: &CompletionQueue) -> Result<Duration, Failure> {
        let start = Instant::now();
        self.send()?;
        let mut done = Vec::with_capacity(2);
        while self.received < self.args.iters || self.sent < self.args.iters || self.own.is_none() {
            let count = if self.args.events {
                queue.wait(&mut done, 2, PATIENCE)?
            } else {
                queue.spin(&mut done, 2, PATIENCE)?
            };
            if count == 0 {
                return Err(format!("nothing was heard of the peer for {} s", PATIENCE.as_secs()).into());
            }
            for mut completion in done.drain(..) {
                if completion.status != Status::Success {
                    return Err(format!("{:?} ended with {}", completion.kind, completion.status).into());
                }
                let slice = completion.slice().ok_or("a completion came without its buffer")?;
                if completion.kind.is_recv() {
                    self.look_at(&slice, completion.len)?;
                    self.qp.post_recv(RecvRequest::new([slice]))?;
                    (self.received, self.has_ball) = (self.received + 1, true);
                } else {
                    self.own = Some(slice);
                }
                self.send()?;
            }
        }
        Ok(start.elapsed())
    }

    /// Sends the message back if it is here and the last one has left.
    fn send(&mut self) -> Result<(), Failure> {
        if !self.has_ball || self.sent == self.args.iters {
            return Ok(());
        }
        if let Some(slice) = self.own.take() {
            self.qp.post_send(SendRequest::datagram([slice], &self.way, self.to))?;
            (self.has_ball, self.sent) = (false, self.sent + 1);
        }
        Ok(())
    }

    fn look_at(&self, slice: &Slice, len: u32) -> Result<(), Failure> {
        let size = self.args.size;
        if len != size + GRH {
            return Err(format!("the peer sent {} bytes, not {size}", len.saturating_sub(GRH)).into());
        }
        if !self.args.chk {
            return Ok(());
        }
        let mut got = vec![0; size as usize];
        slice.read(GRH, &mut got)?;
        match check::invalid_page(&got, &check::content(size as usize, true)) {
            Some(page) => Err(format!("invalid data in page {page} of message {}", self.received).into()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::meeting::both_ends;
    use clap::Parser;

    #[test]
    fn two_embedded_devices_play() {
        let ends = both_ends("127.0.0.1", |host, meeting| {
            let args = Args::parse_from(["ud_pingpong", "-n", "100", "-c"].into_iter().chain(host));
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
