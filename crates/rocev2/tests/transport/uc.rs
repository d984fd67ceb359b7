//! The unreliable connection: what arrives is whole and in its place, the rest is dropped without a word.

use super::driven::Driven;
use super::memory::{Ram, RegionId, Rights, Slice};
use super::rng::{Rng, seeds};
use super::world::{Options, Receiving, World, changes, protocol};
use netem::{Corrupt, LinkConfig, Loss, Reorder};
use rocev2::transport::{DropReason, Limits};
use rocev2::wire::{Bth, Headers, Opcode, Operation as O, Packet, Reth, Transport};
use rocev2::work::{
    AddressId, AsyncEvent, AtomicOperation, Attributes, Completion, CompletionKind, Datagram, Event,
    PeerRights, PostError, QueuePairType, Recipient, RecvRequest, RemoteAddress, SendOperation, SendRequest,
    State, Status,
};
use rocev2::{Mtu, Psn, Qpn, Time};
use std::time::Duration;

const OWN: Qpn = Qpn::truncate(0x1234);
const PEER: Qpn = Qpn::truncate(0xabcd);
/// Both meet the end of the circle soon.
const SQ: Psn = Psn::truncate(0xff_fffe);
const RQ: Psn = Psn::truncate(0xff_fffd);
const VA: u64 = 0x10_0000;
const REGION: usize = 1 << 14;
const FULL: [u8; 256] = [7; 256];

pub(crate) fn options() -> Options {
    Options { of: QueuePairType::Uc, mtu: Mtu::B256, ..Options::default() }
}

/// One queue pair, its peer's packets written by hand.
struct Alone {
    qp: Driven<Ram>,
    ram: Ram,
    region: RegionId,
    done: Vec<Completion>,
    events: Vec<AsyncEvent>,
}

impl Alone {
    fn new(options: &Options) -> Self {
        let ram = Ram::default();
        let region = ram.register(&mut Rng::new(1), VA, vec![0; REGION], Rights::ALL);
        let mut qp = Driven::with(protocol(options, OWN), 16);
        for change in changes(options, PEER, SQ, RQ) {
            qp.set(change).expect("the usual transitions");
        }
        Self { qp, ram, region, done: Vec::new(), events: Vec::new() }
    }

    fn place(&self, offset: usize, len: usize) -> Vec<Slice> {
        vec![Slice { region: self.region, offset, len }]
    }

    fn receive(&mut self, id: u64, offset: usize, len: usize) {
        let buffers = self.place(offset, len);
        self.qp.post_recv(RecvRequest { id, buffers, len: len as u64 }).expect("there is room");
        self.collect();
    }

    fn send(&mut self, id: u64, operation: SendOperation, len: u32) -> Result<(), PostError> {
        let buffers = self.place(0, len as usize);
        let request = SendRequest {
            id,
            operation,
            buffers,
            len,
            signaled: true,
            solicited: true,
            fence: false,
            destination: None,
        };
        let result = self.qp.post_send(request);
        self.collect();
        result
    }

    fn sent(&mut self) -> Vec<(Headers, Vec<u8>)> {
        let mut bytes = vec![0; Headers::MAX_LEN + 4096 + 3];
        let mut sent = Vec::new();
        while let Some(transmit) = self.qp.poll_transmit(Time::ZERO, &self.ram, &mut bytes) {
            let packet = Packet::parse(&bytes[..transmit.len]).expect("what is sent can be read");
            sent.push((packet.headers, packet.payload.to_vec()));
            assert!(sent.len() < 1000, "it sends without end");
        }
        self.collect();
        sent
    }

    fn handle(&mut self, headers: Headers, payload: &[u8]) -> Result<(), DropReason> {
        let mut bytes = vec![0; Headers::MAX_LEN + payload.len() + 3];
        let frame = headers.frame(&mut bytes, payload.len()).expect("the headers fit the opcode");
        frame.payload.copy_from_slice(payload);
        let len = frame.len;
        let packet = Packet::parse(&bytes[..len]).expect("it was just written");
        let result = self.qp.handle_packet(Time::ZERO, &packet, &self.ram);
        self.collect();
        assert_eq!((self.sent(), self.qp.poll_timeout()), (vec![], None), "nobody answers");
        result
    }

    fn reth(&self, offset: u64, len: u32) -> Reth {
        Reth { va: VA + offset, rkey: self.ram.rkey(self.region), len }
    }

    fn collect(&mut self) {
        while let Some(event) = self.qp.poll() {
            match event {
                Event::Completion(completion) => self.done.push(completion),
                Event::Async(event) => self.events.push(event),
            }
        }
    }

    fn outcome(&mut self) -> Vec<(u64, Status)> {
        self.done.drain(..).map(|completion| (completion.id, completion.status)).collect()
    }
}

/// The peer's packet with that number, from 0.
fn packet(operation: O, number: u32) -> Headers {
    let mut headers =
        Headers::new(Bth::new(Opcode::Known { transport: Transport::Uc, operation }, OWN, RQ.plus(number)));
    if matches!(operation, O::SendOnlyImm | O::SendLastImm | O::WriteLastImm | O::WriteOnlyImm) {
        headers.immediate = Some(99);
    }
    headers
}

fn with_reth(operation: O, number: u32, reth: Reth) -> Headers {
    Headers { reth: Some(reth), ..packet(operation, number) }
}

const REMOTE: RemoteAddress = RemoteAddress { va: 0x7000, rkey: 0x5555 };

#[test]
fn a_message_leaves_in_full_packets_numbered_in_order_and_completes_when_it_has_left() {
    let mut alone = Alone::new(&options());
    let operations = [
        (SendOperation::Send, 600, vec![O::SendFirst, O::SendMiddle, O::SendLast]),
        (SendOperation::SendImmediate(5), 0, vec![O::SendOnlyImm]),
        (SendOperation::Write(REMOTE), 512, vec![O::WriteFirst, O::WriteLast]),
        (SendOperation::WriteImmediate(REMOTE, 6), 513, vec![O::WriteFirst, O::WriteMiddle, O::WriteLastImm]),
        (SendOperation::Write(REMOTE), 0, vec![O::WriteOnly]),
        (SendOperation::WriteImmediate(REMOTE, 8), 256, vec![O::WriteOnlyImm]),
    ];
    let mut psn = SQ;
    for (id, (operation, len, expected)) in (0..).zip(operations) {
        alone.send(id, operation, len).expect("there is room");
        assert_eq!(alone.outcome(), [], "nothing has left");
        let sent = alone.sent();
        let count = expected.len();
        assert_eq!(sent.len(), count);
        for (at, ((headers, payload), expected)) in sent.iter().zip(expected).enumerate() {
            assert_eq!(headers.bth.opcode, Opcode::Known { transport: Transport::Uc, operation: expected });
            assert_eq!((headers.bth.psn, headers.bth.ack_req, headers.bth.dest_qp), (psn, false, PEER));
            psn = psn.plus(1);
            let last = at + 1 == count;
            assert_eq!(headers.bth.solicited, last && !matches!(operation, SendOperation::Write(_)));
            assert_eq!(payload.len(), if last { len as usize - 256 * at } else { 256 });
            let whole = headers.reth.map(|reth| (reth.va, reth.rkey, reth.len));
            let writes = matches!(operation, SendOperation::Write(_) | SendOperation::WriteImmediate(..));
            assert_eq!(whole, (at == 0 && writes).then_some((REMOTE.va, REMOTE.rkey, len)));
            let immediate = match operation {
                SendOperation::SendImmediate(value) | SendOperation::WriteImmediate(_, value) => Some(value),
                _ => None,
            };
            assert_eq!(headers.immediate, immediate.filter(|_| last));
        }
        assert_eq!(alone.outcome(), [(id, Status::Success)]);
    }
}

#[test]
fn what_has_no_answer_is_refused_and_so_is_a_destination() {
    let mut alone = Alone::new(&options());
    for operation in [
        SendOperation::Read(REMOTE),
        SendOperation::Atomic(REMOTE, AtomicOperation::FetchAdd { add: 1 }),
        SendOperation::SendInvalidate(1),
    ] {
        assert_eq!(alone.send(0, operation, 8), Err(PostError::Operation));
    }
    let destination = Datagram { address: AddressId(0), remote_qpn: PEER, remote_qkey: 0 };
    let request = SendRequest {
        id: 0,
        operation: SendOperation::Send,
        buffers: vec![],
        len: 0,
        signaled: true,
        solicited: false,
        fence: false,
        destination: Some(Recipient::Datagram(destination)),
    };
    assert_eq!(alone.qp.post_send(request), Err(PostError::Destination));
    assert_eq!(alone.sent(), []);
}

#[test]
fn a_gap_drops_the_message_and_the_next_first_goes_on_with_its_receive_request() {
    let mut alone = Alone::new(&options());
    alone.receive(1, 0, 1024);
    alone.receive(2, 1024, 1024);
    assert_eq!(alone.handle(packet(O::SendFirst, 0), &FULL), Ok(()));
    // 1 is lost.
    assert_eq!(alone.handle(packet(O::SendMiddle, 2), &FULL), Err(DropReason::OutOfSequence));
    assert_eq!(alone.handle(packet(O::SendLast, 3), &[1; 8]), Err(DropReason::OutOfSequence));
    assert_eq!(alone.qp.recv_outstanding(), 2);
    assert_eq!(alone.handle(packet(O::SendFirst, 4), &[2; 256]), Ok(()));
    assert_eq!(alone.handle(packet(O::SendLastImm, 5), &[3; 4]), Ok(()));
    let done = alone.done.pop().expect("a completion");
    assert_eq!((done.id, done.status, done.len, done.immediate), (1, Status::Success, 260, Some(99)));
    let expected = [vec![2; 256], vec![3; 4]].concat();
    assert_eq!(alone.ram.bytes(Slice { region: alone.region, offset: 0, len: 260 }), expected);
    // A new message instead of the end of the one before.
    assert_eq!(alone.handle(packet(O::SendFirst, 6), &FULL), Ok(()));
    assert_eq!(alone.handle(packet(O::SendOnly, 7), &[4; 4]), Ok(()));
    assert_eq!(alone.outcome(), [(2, Status::Success)]);
    assert_eq!(alone.qp.recv_outstanding(), 0);
    // One that the network repeats comes again: that is how it is.
    alone.receive(3, 0, 64);
    assert_eq!(alone.handle(packet(O::SendOnly, 7), &[4; 4]), Ok(()));
    assert_eq!(alone.outcome(), [(3, Status::Success)]);
    assert_eq!((alone.qp.state(), alone.events.len()), (State::ReadyToSend, 0));
}

#[test]
fn a_message_that_does_not_fit_is_dropped_without_a_word() {
    type Play = fn(&mut Alone) -> Result<(), DropReason>;
    let cases: &[(&str, DropReason, Play)] = &[
        ("too long for its receive request", DropReason::ReceiveTooShort, |alone| {
            alone.handle(packet(O::SendFirst, 0), &FULL)?;
            alone.handle(packet(O::SendLast, 1), &FULL)
        }),
        ("a middle that is not full", DropReason::InvalidRequest, |alone| {
            alone.handle(packet(O::SendFirst, 0), &FULL)?;
            alone.handle(packet(O::SendMiddle, 1), &[1; 252])
        }),
        ("a packet over the path MTU", DropReason::InvalidRequest, |alone| {
            alone.handle(packet(O::SendOnly, 0), &[1; 260])
        }),
        ("a SEND that goes on as a WRITE", DropReason::InvalidRequest, |alone| {
            alone.handle(packet(O::SendFirst, 0), &FULL)?;
            alone.handle(packet(O::WriteMiddle, 1), &FULL)
        }),
        ("an end without a beginning", DropReason::OutOfSequence, |alone| {
            alone.handle(packet(O::SendLast, 0), &FULL)
        }),
        ("an unknown key", DropReason::RemoteAccess, |alone| {
            let reth = Reth { rkey: !alone.ram.rkey(alone.region), ..alone.reth(0, 4) };
            alone.handle(with_reth(O::WriteOnly, 0, reth), &[1; 4])
        }),
        ("a range beyond the region", DropReason::RemoteAccess, |alone| {
            alone.handle(with_reth(O::WriteOnly, 0, alone.reth(REGION as u64 - 3, 4)), &[1; 4])
        }),
        ("more than the RETH says", DropReason::InvalidRequest, |alone| {
            alone.handle(with_reth(O::WriteOnly, 0, alone.reth(0, 4)), &[1; 8])
        }),
        ("less than the RETH says", DropReason::InvalidRequest, |alone| {
            alone.handle(with_reth(O::WriteFirst, 0, alone.reth(8192, 600)), &FULL)?;
            alone.handle(packet(O::WriteLast, 1), &[1; 8])
        }),
        ("another transport", DropReason::Transport, |alone| {
            let bth = Bth::new(Opcode::rc(O::SendOnly), OWN, RQ);
            alone.handle(Headers::new(bth), &[1; 8])
        }),
    ];
    for (what, reason, play) in cases {
        let mut alone = Alone::new(&options());
        alone.receive(1, 0, 300);
        assert_eq!(play(&mut alone), Err(*reason), "{what}");
        let kept = (alone.qp.state(), alone.qp.recv_outstanding(), alone.done.len(), alone.events.len());
        assert_eq!(kept, (State::ReadyToSend, 1, 0, 0), "{what}");
        assert_eq!(alone.handle(packet(O::SendOnly, 9), &[6; 8]), Ok(()), "{what}");
        assert_eq!(alone.outcome(), [(1, Status::Success)], "{what}");
    }
}

#[test]
fn without_a_receive_request_or_the_right_to_write_messages_are_dropped() {
    let mut alone = Alone::new(&Options { rights: PeerRights::default(), ..options() });
    assert_eq!(alone.handle(packet(O::SendOnly, 0), &[1; 8]), Err(DropReason::ReceiverNotReady));
    let reth = alone.reth(0, 4);
    assert_eq!(alone.handle(with_reth(O::WriteOnly, 1, reth), &[1; 4]), Err(DropReason::InvalidRequest));
    let mut alone = Alone::new(&options());
    assert_eq!(alone.handle(with_reth(O::WriteOnlyImm, 1, reth), &[1; 4]), Err(DropReason::ReceiverNotReady));
    assert_eq!(alone.ram.tally().written, 0);
    alone.receive(5, 4096, 0);
    assert_eq!(alone.handle(with_reth(O::WriteOnlyImm, 2, reth), &[1; 4]), Ok(()));
    let done = alone.done.pop().expect("a completion");
    assert_eq!((done.id, done.kind, done.len), (5, CompletionKind::RecvWriteImmediate, 4));
}

#[test]
fn a_request_that_fails_here_stops_the_send_queue_alone_until_the_program_goes_on() {
    let mut alone = Alone::new(&options());
    alone.receive(7, 0, 64);
    let gone = alone.ram.register(&mut Rng::new(2), 0, vec![0; 64], Rights::LOCAL);
    alone.send(0, SendOperation::Send, 4).expect("there is room");
    let request = SendRequest {
        id: 1,
        operation: SendOperation::Send,
        buffers: vec![Slice { region: gone, offset: 0, len: 64 }],
        len: 64,
        signaled: false,
        solicited: false,
        fence: false,
        destination: None,
    };
    alone.qp.post_send(request).expect("there is room");
    alone.send(2, SendOperation::Send, 4).expect("there is room");
    alone.ram.revoke(gone);
    assert_eq!(alone.sent().len(), 1);
    let expected = [(0, Status::Success), (1, Status::LocalProtection), (2, Status::Flushed)];
    assert_eq!(alone.outcome(), expected);
    assert_eq!(alone.qp.state(), State::SendQueueError);
    alone.send(3, SendOperation::Send, 4).expect("it is taken");
    assert_eq!(alone.outcome(), [(3, Status::Flushed)]);
    assert_eq!(alone.handle(packet(O::SendOnly, 0), &[1; 8]), Ok(()), "it still receives");
    assert_eq!(alone.outcome(), [(7, Status::Success)]);
    let resume = Attributes { state: Some(State::ReadyToSend), ..Attributes::default() };
    alone.qp.set(resume).expect("SQE to RTS");
    alone.send(4, SendOperation::Send, 4).expect("there is room");
    let sent = alone.sent();
    assert_eq!((sent.len(), sent[0].0.bth.psn), (1, SQ.plus(1)), "numbers go on without a gap");
}

#[test]
fn a_receive_buffer_that_is_gone_ends_the_queue_pair() {
    let mut alone = Alone::new(&options());
    let gone = alone.ram.register(&mut Rng::new(2), 0, vec![0; 64], Rights::LOCAL);
    let buffers = vec![Slice { region: gone, offset: 0, len: 64 }];
    alone.qp.post_recv(RecvRequest { id: 1, buffers, len: 64 }).expect("there is room");
    alone.receive(2, 0, 64);
    alone.ram.revoke(gone);
    assert_eq!(alone.handle(packet(O::SendOnly, 0), &[1; 8]), Err(DropReason::RemoteOperation));
    assert_eq!(alone.outcome(), [(1, Status::LocalProtection), (2, Status::Flushed)]);
    assert_eq!((alone.qp.state(), &alone.events[..]), (State::Error, &[AsyncEvent::Fatal][..]));
    assert_eq!(
        (alone.qp.recv_outstanding(), alone.handle(packet(O::SendOnly, 1), &[])),
        (0, Err(DropReason::State))
    );
}

#[test]
fn draining_finishes_what_has_begun_and_begins_nothing() {
    let mut alone = Alone::new(&options());
    alone.send(0, SendOperation::Send, 600).expect("there is room");
    alone.send(1, SendOperation::Send, 4).expect("there is room");
    let mut bytes = [0; 400];
    assert!(alone.qp.poll_transmit(Time::ZERO, &alone.ram, &mut bytes).is_some());
    let drain = Attributes { state: Some(State::SendQueueDrain), ..Attributes::default() };
    alone.qp.set(drain).expect("RTS to SQD");
    alone.collect();
    assert_eq!(alone.events, [], "not yet");
    assert_eq!(alone.sent().len(), 2);
    assert_eq!(
        (alone.outcome(), &alone.events[..]),
        (vec![(0, Status::Success)], &[AsyncEvent::SendQueueDrained][..])
    );
    let resume = Attributes { state: Some(State::ReadyToSend), ..Attributes::default() };
    alone.qp.set(resume).expect("SQD to RTS");
    assert_eq!((alone.sent().len(), alone.outcome()), (1, vec![(1, Status::Success)]));
}

#[test]
fn error_and_reset_end_what_was_arriving() {
    let mut alone = Alone::new(&options());
    alone.receive(1, 0, 1024);
    alone.receive(2, 1024, 64);
    assert_eq!(alone.handle(packet(O::SendFirst, 0), &FULL), Ok(()));
    alone.qp.set(Attributes { state: Some(State::Error), ..Attributes::default() }).expect("to ERR");
    alone.collect();
    assert_eq!(alone.outcome(), [(1, Status::Flushed), (2, Status::Flushed)]);
    alone.receive(3, 0, 64);
    assert_eq!(alone.outcome(), [(3, Status::Flushed)]);
    let mut alone = Alone::new(&options());
    alone.receive(1, 0, 1024);
    assert_eq!(alone.handle(packet(O::SendFirst, 0), &FULL), Ok(()));
    alone.qp.set(Attributes { state: Some(State::Reset), ..Attributes::default() }).expect("to RESET");
    alone.collect();
    assert_eq!((alone.outcome(), alone.qp.recv_outstanding()), (vec![], 0));
}

/// Everything but the loss of whole messages is excluded, on any link.
#[test]
fn over_any_link_messages_arrive_whole_or_not_at_all() {
    let mut dropped = 0;
    for seed in seeds(200) {
        let outcome = std::panic::catch_unwind(|| messages_over_a_link(seed));
        match outcome {
            Ok(missing) => dropped += missing,
            Err(panic) => {
                eprintln!("failed: RC_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(dropped > 100 || std::env::var_os("RC_SEED").is_some(), "the links are bad enough: {dropped}");
}

/// Sends random messages over a random link, and returns how many didn't arrive.
fn messages_over_a_link(seed: u64) -> usize {
    const COUNT: usize = 60;
    let mut rng = Rng::new(seed);
    let mut share = || f64::from(rng.below(150)) / 1000.0;
    let link = LinkConfig {
        latency_ns: 10_000,
        bandwidth_bits_per_s: Some(1_000_000_000),
        loss: Loss::Bernoulli(share()),
        duplicate: share(),
        corrupt: Corrupt { probability: share(), max_bits: 3 },
        reorder: Reorder { probability: share(), extra_delay_ns: 30_000 },
        ..LinkConfig::default()
    };
    let perfect = rng.percent(10);
    let link = if perfect { LinkConfig { latency_ns: 10_000, ..LinkConfig::default() } } else { link };
    let once = link.duplicate == 0.0;
    let mut world = World::new(link, Receiving::Single, seed);
    let limits = Limits { max_send_requests: COUNT, window: 0 };
    let mtu = rng.pick(&[Mtu::B256, Mtu::B1024, Mtu::B4096]);
    let options = Options { mtu, limits, max_recv_requests: 3 * COUNT, ..options() };
    let pair = world.connect(&options);
    let longest = 4 * mtu.bytes() as usize;
    let source =
        world.hosts[0].ram.register(&mut rng, 0, Rng::new(seed + 1).bytes(COUNT * longest), Rights::LOCAL);
    let inbox = world.hosts[1].ram.register(&mut rng, 0, vec![0; 3 * COUNT * longest], Rights::LOCAL);
    let target = world.hosts[1].ram.register(&mut rng, VA, vec![0; COUNT * longest], Rights::ALL);
    let rkey = world.hosts[1].ram.rkey(target);
    for at in 0..3 * COUNT {
        let buffers = vec![Slice { region: inbox, offset: at * longest, len: longest }];
        let request = RecvRequest { id: at as u64, buffers, len: longest as u64 };
        world.hosts[1].ends[pair].qp.post_recv(request).expect("there is room");
    }
    let mut lens = Vec::new();
    for at in 0..COUNT {
        // The immediate tells which message it was.
        let number = u32::try_from(at).expect("few messages");
        let remote = RemoteAddress { va: VA + (at * longest) as u64, rkey };
        let operation = rng.pick(&[
            SendOperation::SendImmediate(number),
            SendOperation::SendImmediate(number),
            SendOperation::WriteImmediate(remote, number),
        ]);
        let len = rng.index(longest + 1);
        lens.push(len);
        let request = SendRequest {
            id: at as u64,
            operation,
            buffers: vec![Slice { region: source, offset: at * longest, len }],
            len: u32::try_from(len).expect("short"),
            signaled: true,
            solicited: rng.percent(50),
            fence: false,
            destination: None,
        };
        world.hosts[0].ends[pair].qp.post_send(request).expect("there is room");
    }
    world.pump(0, pair);
    world.run(Duration::from_secs(10));
    let sent = world.take_done(0, pair, |_| true);
    let expected: Vec<_> = (0..COUNT as u64).map(|id| (id, Status::Success)).collect();
    assert_eq!(sent.iter().map(|done| (done.id, done.status)).collect::<Vec<_>>(), expected);
    let received = world.take_done(1, pair, |_| true);
    let mut seen = [false; COUNT];
    for (order, done) in received.iter().enumerate() {
        assert_eq!((done.id, done.status), (order as u64, Status::Success), "requests complete in order");
        let at = done.immediate.expect("each message has one") as usize;
        assert!(!once || !seen[at], "message {at} came twice");
        seen[at] = true;
        let len = done.len as usize;
        assert_eq!(len, lens[at]);
        let written = done.kind == CompletionKind::RecvWriteImmediate;
        let slice = if written {
            Slice { region: target, offset: at * longest, len }
        } else {
            Slice { region: inbox, offset: order * longest, len }
        };
        let original = world.hosts[0].ram.bytes(Slice { region: source, offset: at * longest, len });
        assert!(world.hosts[1].ram.bytes(slice) == original, "message {at} is whole");
    }
    let missing = seen.iter().filter(|seen| !**seen).count();
    assert!(!perfect || missing == 0, "a perfect link loses nothing");
    assert_eq!((world.state(0, pair), world.state(1, pair)), (State::ReadyToSend, State::ReadyToSend));
    missing
}

#[test]
fn any_packet_neither_panics_nor_is_answered_nor_reaches_beyond_what_it_may() {
    let mut taken = 0;
    for seed in seeds(100) {
        let mut rng = Rng::new(seed);
        let mut alone = Alone::new(&options());
        let secret = alone.ram.register(&mut rng, VA, vec![9; 512], Rights { write: false, ..Rights::ALL });
        let mut next = 0;
        for step in 0..300 {
            if rng.percent(20) && alone.qp.recv_outstanding() < 8 {
                let len = rng.index(900);
                alone.receive(step, 8192, len);
            }
            let operation = rng.pick(&O::ALL);
            let transport =
                rng.pick(&[Transport::Uc, Transport::Uc, Transport::Uc, Transport::Rc, Transport::Ud]);
            let opcode = Opcode::Known { transport, operation };
            let number = if rng.percent(70) { next } else { rng.word() };
            let bth = Bth::new(opcode, OWN, RQ.plus(number));
            let mut zeros = [0; Headers::MAX_LEN];
            zeros[0] = opcode.to_byte();
            let Ok(has) = Packet::parse(&zeros[..Headers::len_for(opcode)]) else { continue };
            let any = rng.word();
            let rkey = rng.pick(&[alone.ram.rkey(alone.region), alone.ram.rkey(secret), any]);
            let len = rng.pick(&[0, 256, 600, 1, any]);
            let reth = Reth { va: VA + u64::from(rng.below(1000)), rkey, len };
            let headers = Headers { bth, reth: has.headers.reth.map(|_| reth), ..has.headers };
            let payload = rng.pick(&[256, 256, 0, 88, 257]);
            let payload = if opcode.carries_payload() { payload } else { 0 };
            let packet = Packet { headers, payload: &[0x55; 300][..payload] };
            let result = alone.qp.handle_packet(Time::ZERO, &packet, &alone.ram);
            alone.collect();
            assert_eq!(alone.sent(), [], "RC_SEED={seed}");
            if result.is_ok() {
                taken += 1;
                next = number.wrapping_add(1);
            }
            assert!(alone.qp.recv_outstanding() <= 8);
        }
        let untouched = alone.ram.bytes(Slice { region: secret, offset: 0, len: 512 });
        assert!(untouched.iter().all(|byte| *byte == 9), "RC_SEED={seed}");
        assert_eq!((alone.qp.state(), alone.qp.poll_timeout()), (State::ReadyToSend, None));
        assert!(alone.done.iter().all(|done| done.status == Status::Success));
    }
    assert!(taken > 100, "some are taken: {taken}");
}
