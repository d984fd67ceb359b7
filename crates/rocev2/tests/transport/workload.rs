//! Work for connections, and what must have become of it: each request executed once, in order, with its
//! bytes, and completed once.
//!
//! A [`Flow`] is one direction of one connection. What the peer's memory holds after each request is worked
//! out beforehand on a model; it follows from the order of the requests alone, except where the transport
//! gives no order: a READ and what comes after it. There the flow sets a fence.

use super::memory::{RegionId, Rights, Slice, executed};
use super::rng::Rng;
use super::world::World;
use rocev2::Time;
use rocev2::work::{
    AtomicOperation, Completion, CompletionKind, PostError, Recipient, RecvRequest, RemoteAddress,
    SendOperation, SendRequest, State, Status,
};
use std::ops::Range;
use std::time::Duration;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Send,
    SendImmediate,
    SendInvalidate,
    Write,
    WriteImmediate,
    Read,
    CompareSwap,
    FetchAdd,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Send,
        Self::SendImmediate,
        Self::SendInvalidate,
        Self::Write,
        Self::WriteImmediate,
        Self::Read,
        Self::CompareSwap,
        Self::FetchAdd,
    ];

    pub(crate) fn is_atomic(self) -> bool {
        matches!(self, Self::CompareSwap | Self::FetchAdd)
    }

    fn is_read_or_atomic(self) -> bool {
        self.is_atomic() || self == Self::Read
    }

    fn is_send(self) -> bool {
        matches!(self, Self::Send | Self::SendImmediate | Self::SendInvalidate)
    }

    fn takes_receive(self) -> bool {
        self.is_send() || self == Self::WriteImmediate
    }
}

/// One request of a flow, in short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    /// Bytes; 8 is meant for an atomic, whatever stands here.
    pub(crate) len: u32,
    pub(crate) signaled: bool,
}

/// When receive requests are posted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Receives {
    /// As early as the queue takes them.
    Early,
    /// One at each interval: senders must wait for some.
    Late(Duration),
}

/// A request with what must become of it.
struct Planned {
    request: SendRequest<Vec<Slice>>,
    completion: Completion,
    /// Where answers go to, and what must be there when the request has completed.
    answer: Option<(Slice, Vec<u8>)>,
}

struct PlannedReceive {
    request: RecvRequest<Vec<Slice>>,
    completion: Completion,
    data: Option<(Slice, Vec<u8>)>,
    invalidated: Option<RegionId>,
}

pub(crate) struct Flow {
    from: usize,
    pair: usize,
    sends: Vec<Planned>,
    receives: Vec<PlannedReceive>,
    target: Slice,
    model: Vec<u8>,
    written: u64,
    atomics: u64,
    scattered: [u64; 2],

    posted: usize,
    receives_posted: usize,
    /// The next request whose completion must come.
    completed: usize,
    received: usize,
    next_receive_at: Time,
}

impl Flow {
    /// Plans `ops`, from host `from` to the other, over the connection `pair`.
    pub(crate) fn new(world: &mut World, from: usize, pair: usize, ops: &[Op]) -> Self {
        let mut rng = Rng::new(world.rng.next());
        let total = |of: fn(Kind) -> bool| -> usize {
            ops.iter().filter(|op| of(op.kind)).map(|op| op.len.max(8) as usize).sum()
        };
        let names = world.hosts[from].ends[pair].xrc_srq.as_ref().map(|(number, _)| *number);
        let longest = ops.iter().map(|op| op.len as usize).max().unwrap_or(0);
        let (own, peer) = (&world.hosts[from].ram, &world.hosts[1 - from].ram);

        let outgoing = rng.bytes(total(|kind| !kind.is_read_or_atomic()));
        let out_region =
            own.register(&mut rng, 0, outgoing.clone(), Rights { local_write: false, ..Rights::LOCAL });
        let in_region = own.register(&mut rng, 0, vec![0; total(Kind::is_read_or_atomic)], Rights::LOCAL);
        let mut model = rng.bytes(longest + 4096);
        // 8-byte words that atomics use must be aligned.
        let va = rng.next() >> 2 & !7;
        let remote = Rights { invalidate: false, ..Rights::ALL };
        let target = peer.register(&mut rng, va, model.clone(), remote);
        let slack = 64;
        let inbox_len = total(Kind::takes_receive) + slack * ops.len();
        let inbox = peer.register(&mut rng, 0, vec![0; inbox_len], Rights::LOCAL);

        let (mut out_at, mut in_at, mut inbox_at) = (0, 0, 0);
        let (mut written, mut atomics, mut scattered) = (0, 0, [0, 0]);
        // What was read since the last fence.
        let mut reading: Vec<Range<usize>> = Vec::new();
        let (mut sends, mut receives) = (Vec::new(), Vec::new());
        for (index, op) in ops.iter().enumerate() {
            let len = if op.kind.is_atomic() { 8 } else { op.len };
            let bytes = len as usize;
            let mut offset = rng.index(model.len() - bytes + 1);
            if op.kind.is_atomic() {
                // Few words, so that requests meet each other's results.
                offset = 8 * rng.index(4);
            }
            let there = offset..offset + bytes;
            let address = RemoteAddress { va: va + offset as u64, rkey: peer.rkey(target) };
            let immediate = rng.word();
            let mut invalidated = None;
            let mut answer = None;
            let mut source = Slice { region: out_region, offset: out_at, len: bytes };
            let data = if op.kind.is_read_or_atomic() {
                source = Slice { region: in_region, offset: in_at, len: bytes };
                in_at += bytes;
                Vec::new()
            } else {
                out_at += bytes;
                outgoing[source.offset..source.offset + bytes].to_vec()
            };
            let operation = match op.kind {
                Kind::Send => SendOperation::Send,
                Kind::SendImmediate => SendOperation::SendImmediate(immediate),
                Kind::SendInvalidate => {
                    let region = peer.register(&mut rng, 0, vec![0; 8], Rights::ALL);
                    invalidated = Some(region);
                    SendOperation::SendInvalidate(peer.rkey(region))
                }
                Kind::Write => SendOperation::Write(address),
                Kind::WriteImmediate => SendOperation::WriteImmediate(address, immediate),
                Kind::Read => SendOperation::Read(address),
                Kind::CompareSwap | Kind::FetchAdd => {
                    let word = model[there.clone()].first_chunk().expect("8 bytes");
                    let original = u64::from_ne_bytes(*word);
                    let operation = if op.kind == Kind::FetchAdd {
                        AtomicOperation::FetchAdd { add: rng.next() }
                    } else {
                        let compare = if rng.percent(50) { original } else { rng.next() };
                        AtomicOperation::CompareSwap { compare, swap: rng.next() }
                    };
                    answer = Some((source, original.to_ne_bytes().to_vec()));
                    SendOperation::Atomic(address, operation)
                }
            };
            let mut fence = rng.percent(5);
            let changes = matches!(op.kind, Kind::Write | Kind::WriteImmediate) || op.kind.is_atomic();
            let overtakes = |read: &Range<usize>| read.start < there.end && there.start < read.end;
            fence |= changes && reading.iter().any(overtakes);
            if fence {
                reading.clear();
            }
            match operation {
                SendOperation::Write(_) | SendOperation::WriteImmediate(..) => {
                    model[there.clone()].copy_from_slice(&data);
                    written += u64::from(len);
                }
                SendOperation::Read(_) => {
                    answer = Some((source, model[there.clone()].to_vec()));
                    reading.push(there.clone());
                    scattered[0] += u64::from(len);
                }
                SendOperation::Atomic(_, operation) => {
                    let word = model[there.clone()].first_chunk_mut().expect("8 bytes");
                    *word = executed(operation, u64::from_ne_bytes(*word)).to_ne_bytes();
                    atomics += 1;
                    scattered[0] += 8;
                }
                _ => scattered[1] += u64::from(len),
            }
            let solicited = rng.percent(50);
            let signaled = op.signaled;
            if op.kind.takes_receive() {
                let room = rng.index(slack + 1) + if op.kind.is_send() { bytes } else { 0 };
                let place = Slice { region: inbox, offset: inbox_at, len: room };
                inbox_at += room;
                let id = receives.len() as u64;
                let request = RecvRequest { id, buffers: place.scattered(&mut rng), len: room as u64 };
                let kind =
                    if op.kind.is_send() { CompletionKind::Recv } else { CompletionKind::RecvWriteImmediate };
                let completion = Completion {
                    id,
                    status: Status::Success,
                    kind,
                    len,
                    immediate: matches!(op.kind, Kind::SendImmediate | Kind::WriteImmediate)
                        .then_some(immediate),
                    invalidated: invalidated.map(|region| peer.rkey(region)),
                    solicited,
                    ..Completion::new(id, Status::Success, kind)
                };
                let filled = Slice { len: bytes, ..place };
                let data = op.kind.is_send().then(|| (filled, data.clone()));
                receives.push(PlannedReceive { request, completion, data, invalidated });
            }
            let kind = match op.kind {
                Kind::Send | Kind::SendImmediate | Kind::SendInvalidate => CompletionKind::Send,
                Kind::Write | Kind::WriteImmediate => CompletionKind::Write,
                Kind::Read => CompletionKind::Read,
                Kind::CompareSwap => CompletionKind::CompareSwap,
                Kind::FetchAdd => CompletionKind::FetchAdd,
            };
            let id = index as u64;
            let buffers = source.scattered(&mut rng);
            sends.push(Planned {
                request: SendRequest {
                    id,
                    operation,
                    buffers,
                    len,
                    signaled,
                    solicited,
                    fence,
                    destination: names.map(Recipient::SharedReceiveQueue),
                },
                completion: Completion {
                    id,
                    status: Status::Success,
                    kind,
                    len,
                    immediate: None,
                    invalidated: None,
                    ..Completion::new(id, Status::Success, kind)
                },
                answer,
            });
        }
        Self {
            from,
            pair,
            sends,
            receives,
            target: Slice { region: target, offset: 0, len: model.len() },
            model,
            written,
            atomics,
            scattered,
            posted: 0,
            receives_posted: 0,
            completed: 0,
            received: 0,
            next_receive_at: Time::ZERO,
        }
    }

    /// Posts everything, which the queues must take, and expects nothing of it.
    pub(crate) fn post_all(mut self, world: &mut World) {
        self.post(world, Receives::Early);
        assert!(self.posted == self.sends.len() && self.receives_posted == self.receives.len());
    }

    /// Posts what the queues take.
    fn post(&mut self, world: &mut World, receives: Receives) {
        let now = world.now;
        let peer = &mut world.hosts[1 - self.from].ends[self.pair];
        let mut changed = false;
        while let Some(planned) = self.receives.get(self.receives_posted) {
            if let Receives::Late(_) = receives
                && now < self.next_receive_at
            {
                break;
            }
            let request = planned.request.clone();
            let taken = match &peer.xrc_srq {
                Some((_, queue)) => queue.borrow_mut().post(request),
                None => peer.qp.post_recv(request),
            };
            match taken {
                Ok(()) => self.receives_posted += 1,
                Err(PostError::QueueFull(_)) => break,
                Err(error) => panic!("a receive request is refused: {error}"),
            }
            if let Receives::Late(interval) = receives {
                self.next_receive_at = now + interval;
            }
        }
        if self.next_receive_at > now && self.receives_posted < self.receives.len() {
            world.alarm = Some(world.alarm.map_or(self.next_receive_at, |at| at.min(self.next_receive_at)));
        }
        let end = &mut world.hosts[self.from].ends[self.pair];
        while let Some(planned) = self.sends.get(self.posted) {
            match end.qp.post_send(planned.request.clone()) {
                Ok(()) => {
                    self.posted += 1;
                    changed = true;
                }
                Err(PostError::QueueFull(_)) => break,
                Err(error) => panic!("a send request is refused: {error}"),
            }
        }
        if changed {
            world.pump(self.from, self.pair);
        }
    }

    /// Checks the completions that came.
    fn check(&mut self, world: &mut World) {
        for completion in world.take_done(self.from, self.pair, |completion| !completion.kind.is_recv()) {
            while self.sends.get(self.completed).is_some_and(|planned| !planned.completion_due()) {
                self.completed += 1;
            }
            let planned = self.sends.get(self.completed).expect("no completion without a request");
            let what = "a send request's completion";
            assert_eq!(completion, planned.completion, "{what}; {}", world.describe(self.pair));
            if let Some((place, bytes)) = &planned.answer {
                assert!(
                    world.hosts[self.from].ram.bytes(*place) == *bytes,
                    "the answer to request {}",
                    completion.id
                );
            }
            self.completed += 1;
        }
        for completion in world.take_done(1 - self.from, self.pair, |completion| completion.kind.is_recv()) {
            let planned = self.receives.get(self.received).expect("no completion without a request");
            let what = "a receive request's completion";
            assert_eq!(completion, planned.completion, "{what}; {}", world.describe(self.pair));
            let host = &world.hosts[1 - self.from];
            if let Some((place, bytes)) = &planned.data {
                assert!(host.ram.bytes(*place) == *bytes, "the message in receive {}", completion.id);
            }
            if let Some(region) = planned.invalidated {
                assert!(host.ram.is_revoked(region), "the region that receive {} withdrew", completion.id);
            }
            self.received += 1;
        }
    }

    fn is_done(&self, world: &World) -> bool {
        let end = &world.hosts[self.from].ends[self.pair];
        self.posted == self.sends.len()
            && end.qp.snapshot().send_outstanding == 0
            && self.received == self.receives.len()
    }

    fn check_end(&self, world: &World) {
        let rest = self.sends.iter().skip(self.completed);
        assert_eq!(rest.filter(|planned| planned.completion_due()).count(), 0, "a completion is missing");
        let host = &world.hosts[self.from];
        for planned in &self.sends {
            if let Some((place, bytes)) = &planned.answer {
                assert!(host.ram.bytes(*place) == *bytes, "the answer to request {}", planned.request.id);
            }
        }
        let there = world.hosts[1 - self.from].ram.bytes(self.target);
        assert!(there == self.model, "the peer's region isn't what the requests make of it");
    }
}

impl Planned {
    fn completion_due(&self) -> bool {
        self.request.signaled
    }
}

/// Runs flows together and checks everything about them.
pub(crate) fn run(world: &mut World, mut flows: Vec<Flow>, receives: Receives) {
    let limit = Time::ZERO + Duration::from_secs(3600);
    for flow in &mut flows {
        flow.post(world, receives);
    }
    let by_end: std::collections::HashMap<(usize, usize), usize> =
        flows.iter().enumerate().map(|(index, flow)| ((flow.from, flow.pair), index)).collect();
    let mut open: usize = flows.len();
    let mut finished = vec![false; flows.len()];
    loop {
        let mut touched: Vec<usize> = core::mem::take(&mut world.touched)
            .into_iter()
            .flat_map(|(host, pair)| [(host, pair), (1 - host, pair)])
            .filter_map(|end| by_end.get(&end).copied())
            .collect();
        touched.sort_unstable();
        touched.dedup();
        if matches!(receives, Receives::Late(_)) {
            touched = (0..flows.len()).collect();
        }
        for index in touched {
            flows[index].check(world);
            flows[index].post(world, receives);
            if !finished[index] && flows[index].is_done(world) {
                finished[index] = true;
                open -= 1;
            }
        }
        if open == 0 && world.touched.is_empty() {
            break;
        }
        assert!(world.step() && world.now < limit, "{open} flows haven't finished; {}", world.describe_all());
    }
    // Late packets must change nothing, and timers must fall silent.
    world.run(Duration::from_secs(60));
    let mut totals = [[0; 3]; 2];
    for flow in &mut flows {
        flow.check(world);
        flow.check_end(world);
        let (own, peer) = (flow.from, 1 - flow.from);
        totals[own][0] += flow.scattered[0];
        totals[peer][0] += flow.scattered[1];
        totals[peer][1] += flow.written;
        totals[peer][2] += flow.atomics;
    }
    for (host, total) in world.hosts.iter().zip(totals) {
        let tally = host.ram.tally();
        assert_eq!([tally.scattered, tally.written, tally.atomics], total, "something was executed twice");
        assert_eq!(host.malformed, 0, "a malformed packet was sent");
        for end in &host.ends {
            assert_eq!(end.done, [], "a completion too many");
            assert_eq!(end.events, [], "an event without a cause");
            let snapshot = end.qp.snapshot();
            assert_eq!(
                (snapshot.state, snapshot.send_outstanding, end.qp.poll_timeout()),
                (State::ReadyToSend, 0, None)
            );
        }
    }
}
