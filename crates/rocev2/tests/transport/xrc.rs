//! The extended reliable connection: requests of one side, each for a shared receive queue that it names.

use super::driven::{Driven, Shared, XrcDomain};
use super::lone::ACK;
use super::memory::{Ram, RegionId, Rights, Slice};
use super::operations::LINKS;
use super::rng::{Rng, seeds};
use super::workload::{Flow, Kind, Op, Receives, run};
use super::workloads::{random_link, random_ops, random_options};
use super::world::{Options, Receiving, World, changes, protocol};
use rocev2::transport::DropReason;
use rocev2::wire::{
    Aeth, AtomicEth, Bth, Headers, NakCode, Opcode, Operation as O, Packet, Reth, Syndrome, Transport,
};
use rocev2::work::{
    AsyncEvent, Completion, Event, PostError, QueuePairType, ReceiveQueue, Recipient, RecvRequest,
    RemoteAddress, SendOperation, SendRequest, State, Status, Transition,
};
use rocev2::{Mtu, Psn, Qpn, Srqn, Time};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

const OWN: Qpn = Qpn::truncate(0x1234);
const PEER: Qpn = Qpn::truncate(0xabcd);
/// Both meet the end of the circle soon.
const SQ: Psn = Psn::truncate(0xff_fffe);
const RQ: Psn = Psn::truncate(0xff_fffd);
const VA: u64 = 0x10_0000;
const REGION: usize = 1 << 14;
const FULL: [u8; 256] = [7; 256];
/// Two queues of the target's domain, and a number that none has.
const FIRST: Srqn = Srqn::truncate(0x71);
const SECOND: Srqn = Srqn::truncate(0x72);
const NONE: Srqn = Srqn::truncate(0x73);

fn options(of: QueuePairType) -> Options {
    Options { of, mtu: Mtu::B256, ..Options::default() }
}

/// A target whose initiator's packets are written by hand.
struct Target {
    qp: Driven<Ram>,
    queues: [Shared<Vec<Slice>>; 2],
    ram: Ram,
    region: RegionId,
    now: Time,
    done: Vec<Completion>,
    events: Vec<AsyncEvent>,
}

impl Target {
    fn new() -> Self {
        let ram = Ram::default();
        let region = ram.register(&mut Rng::new(1), VA, vec![0; REGION], Rights::ALL);
        let queues = [(); 2].map(|()| Rc::new(RefCell::new(ReceiveQueue::shared(8))));
        let domain = XrcDomain::default();
        for (number, queue) in [FIRST, SECOND].into_iter().zip(&queues) {
            domain.borrow_mut().insert(number, Rc::clone(queue));
        }
        let mut qp = Driven::xrc_target(domain);
        for change in changes(&options(QueuePairType::XrcTarget), PEER, SQ, RQ) {
            qp.set(change).expect("the usual transitions");
        }
        Self { qp, queues, ram, region, now: Time::ZERO, done: Vec::new(), events: Vec::new() }
    }

    fn post(&mut self, queue: usize, id: u64, len: usize) {
        let buffers = vec![Slice { region: self.region, offset: 8192, len }];
        let request = RecvRequest { id, buffers, len: len as u64 };
        self.queues[queue].borrow_mut().post(request).expect("there is room");
    }

    fn handle(&mut self, headers: Headers, payload: &[u8]) -> Result<(), DropReason> {
        let packet = Packet { headers, payload };
        let result = self.qp.handle_packet(self.now, &packet, &self.ram);
        self.collect();
        result
    }

    fn collect(&mut self) {
        while let Some(event) = self.qp.poll() {
            match event {
                Event::Completion(completion) => self.done.push(completion),
                Event::Async(event) => self.events.push(event),
            }
        }
    }

    fn sent(&mut self) -> Vec<Headers> {
        let mut bytes = vec![0; Headers::MAX_LEN + 4096 + 3];
        let mut sent = Vec::new();
        while let Some(transmit) = self.qp.poll_transmit(self.now, &self.ram, &mut bytes) {
            sent.push(Packet::parse(&bytes[..transmit.len]).expect("what is sent can be read").headers);
            assert!(sent.len() < 10_000, "it sends without end");
        }
        self.collect();
        sent
    }

    /// What the answers that wait say.
    fn answers(&mut self) -> Vec<(O, Option<Syndrome>)> {
        let sent = self.sent();
        let mut answers = Vec::new();
        for headers in sent {
            let Opcode::Known { transport: Transport::Xrc, operation } = headers.bth.opcode else {
                panic!("{:?}", headers.bth.opcode)
            };
            assert_eq!(headers.xrc_srq, None, "answers name no queue");
            answers.push((operation, headers.aeth.map(|aeth| aeth.syndrome)));
        }
        answers
    }

    fn outcome(&mut self) -> Vec<(u64, Status)> {
        self.done.drain(..).map(|completion| (completion.id, completion.status)).collect()
    }

    fn outstanding(&self) -> [usize; 2] {
        [0, 1].map(|queue| self.queues[queue].borrow().outstanding())
    }
}

/// The initiator's packet with that number, from 0, for that queue.
fn packet(operation: O, number: u32, queue: Srqn) -> Headers {
    let opcode = Opcode::Known { transport: Transport::Xrc, operation };
    let bth = Bth { ack_req: true, ..Bth::new(opcode, OWN, RQ.plus(number)) };
    let mut headers = Headers { xrc_srq: Some(queue), ..Headers::new(bth) };
    if matches!(operation, O::SendOnlyImm | O::SendLastImm | O::WriteLastImm | O::WriteOnlyImm) {
        headers.immediate = Some(99);
    }
    headers
}

fn with_reth(target: &Target, operation: O, number: u32, queue: Srqn, len: u32) -> Headers {
    let reth = Reth { va: VA, rkey: target.ram.rkey(target.region), len };
    Headers { reth: Some(reth), ..packet(operation, number, queue) }
}

const REFUSED: (O, Option<Syndrome>) = (O::Acknowledge, Some(Syndrome::Nak(NakCode::RemoteAccess)));
const DONE: (O, Option<Syndrome>) = (O::Acknowledge, Some(ACK));

#[test]
fn a_message_takes_its_receive_request_from_the_queue_that_it_names() {
    let mut target = Target::new();
    target.post(0, 1, 600);
    target.post(1, 2, 600);
    assert_eq!(target.handle(packet(O::SendOnlyImm, 0, SECOND), &[1; 5]), Ok(()));
    assert_eq!((target.outcome(), target.outstanding()), (vec![(2, Status::Success)], [1, 0]));
    assert_eq!(target.handle(packet(O::SendFirst, 1, FIRST), &FULL), Ok(()));
    assert_eq!(target.handle(packet(O::SendMiddle, 2, FIRST), &FULL), Ok(()));
    assert_eq!(target.outstanding(), [1, 0], "what is being filled counts");
    assert_eq!(target.handle(packet(O::SendLast, 3, FIRST), &[1]), Ok(()));
    assert_eq!((target.outcome(), target.outstanding()), (vec![(1, Status::Success)], [0, 0]));
    assert_eq!(target.answers(), [DONE]);
    assert_eq!(target.events, []);
}

#[test]
fn an_empty_queue_asks_for_patience_though_another_has_requests() {
    let mut target = Target::new();
    target.post(0, 1, 600);
    let send = packet(O::SendOnly, 0, SECOND);
    assert_eq!(target.handle(send, &[]), Err(DropReason::ReceiverNotReady));
    assert_eq!(target.answers(), [(O::Acknowledge, Some(Syndrome::RnrNak { timer: 1 }))]);
    target.post(1, 2, 600);
    assert_eq!(target.handle(send, &[]), Ok(()));
    assert_eq!((target.outcome(), target.outstanding()), (vec![(2, Status::Success)], [1, 0]));
    let immediate = with_reth(&target, O::WriteOnlyImm, 1, SECOND, 8);
    assert_eq!(target.handle(immediate, &[9; 8]), Err(DropReason::ReceiverNotReady));
}

#[test]
fn a_queue_that_the_domain_does_not_have_is_an_access_violation_for_every_request() {
    type Request = fn(&Target) -> (Headers, &'static [u8]);
    let requests: [Request; 5] = [
        |_| (packet(O::SendOnly, 0, NONE), &[1; 4]),
        |_| (packet(O::SendFirst, 0, NONE), &FULL),
        |target| (with_reth(target, O::WriteOnly, 0, NONE, 4), &[1; 4]),
        |target| (with_reth(target, O::ReadRequest, 0, NONE, 4), &[]),
        |target| {
            let atomic =
                AtomicEth { va: VA, rkey: target.ram.rkey(target.region), swap_or_add: 1, compare: 0 };
            (Headers { atomic: Some(atomic), ..packet(O::FetchAdd, 0, NONE) }, &[])
        },
    ];
    for request in requests {
        let mut target = Target::new();
        target.post(0, 1, 600);
        let (headers, payload) = request(&target);
        assert_eq!(target.handle(headers, payload), Err(DropReason::RemoteAccess), "{headers:?}");
        assert_eq!(target.answers(), [REFUSED]);
        assert_eq!(target.events, [AsyncEvent::AccessError]);
        assert_eq!(target.qp.state(), State::Error);
        assert_eq!((target.outcome(), target.outstanding()), (vec![], [1, 0]), "nobody's request is touched");
        let bytes = target.ram.bytes(Slice { region: target.region, offset: 0, len: REGION });
        assert!(bytes.iter().all(|byte| *byte == 0), "nothing was written");
    }
}

#[test]
fn what_is_not_next_says_nothing_of_queues() {
    let mut target = Target::new();
    target.post(0, 1, 600);
    assert_eq!(target.handle(packet(O::SendOnly, 1, NONE), &[]), Err(DropReason::OutOfSequence));
    assert_eq!(target.answers(), [(O::Acknowledge, Some(Syndrome::Nak(NakCode::PsnSequenceError)))]);
    assert_eq!(target.handle(packet(O::SendOnly, 0, FIRST), &[]), Ok(()));
    assert_eq!(target.handle(packet(O::SendOnly, 0, NONE), &[]), Err(DropReason::Duplicate));
    assert_eq!(target.answers(), [DONE]);
    assert_eq!(target.qp.state(), State::ReadyToSend);
}

#[test]
fn a_message_that_changes_its_queue_is_refused_and_ends_in_its_own() {
    for (first, last) in [(O::SendFirst, O::SendLast), (O::WriteFirst, O::WriteLastImm)] {
        let mut target = Target::new();
        target.post(0, 1, 600);
        target.post(1, 2, 600);
        let first = if first == O::WriteFirst {
            with_reth(&target, first, 0, FIRST, 257)
        } else {
            packet(first, 0, FIRST)
        };
        assert_eq!(target.handle(first, &FULL), Ok(()));
        assert_eq!(target.handle(packet(last, 1, SECOND), &[1]), Err(DropReason::RemoteAccess));
        assert_eq!(target.answers(), [DONE, REFUSED]);
        let (flushed, left) =
            if last == O::SendLast { (vec![(1, Status::Flushed)], [0, 1]) } else { (vec![], [1, 1]) };
        assert_eq!((target.outcome(), target.outstanding()), (flushed, left));
    }
}

#[test]
fn the_end_of_a_target_ends_its_own_message_alone() {
    for (transition, outcome, left) in
        [(Transition::Error, vec![(1, Status::Flushed)], 1), (Transition::Reset, vec![], 2)]
    {
        let mut target = Target::new();
        target.post(0, 1, 600);
        target.post(0, 2, 600);
        assert_eq!(target.handle(packet(O::SendFirst, 0, FIRST), &FULL), Ok(()));
        target.qp.modify(transition).expect("any state to ERR or RESET");
        target.collect();
        assert_eq!((target.outcome(), target.outstanding()), (outcome, [left, 0]));
        assert_eq!(target.events, [], "it has no queue that it could have emptied");
    }
}

#[test]
fn each_side_takes_what_is_for_it_and_nothing_else() {
    let mut target = Target::new();
    let mut answer = packet(O::Acknowledge, 0, FIRST);
    (answer.xrc_srq, answer.aeth) = (None, Some(Aeth { syndrome: ACK, msn: 0 }));
    assert_eq!(target.handle(answer, &[]), Err(DropReason::Transport));
    let connected = Headers::new(Bth::new(Opcode::rc(O::SendOnly), OWN, RQ));
    assert_eq!(target.handle(connected, &[]), Err(DropReason::Transport));
    let receive = RecvRequest { id: 1, buffers: vec![], len: 0 };
    assert_eq!(target.qp.post_recv(receive.clone()), Err(PostError::SharedReceiveQueue));
    let send = |destination| SendRequest {
        id: 0,
        operation: SendOperation::Send,
        buffers: vec![],
        len: 0,
        signaled: true,
        solicited: false,
        fence: false,
        destination,
    };
    let named = Some(Recipient::SharedReceiveQueue(FIRST));
    assert_eq!(target.qp.post_send(send(named)), Err(PostError::Operation));
    assert_eq!((target.answers(), target.events.as_slice()), (vec![], &[][..]));

    let mut initiator = initiator();
    assert_eq!(initiator.post_recv(receive), Err(PostError::Operation));
    assert_eq!(initiator.post_send(send(None)), Err(PostError::Destination));
    let request = Packet { headers: packet(O::SendOnly, 0, FIRST), payload: &[] };
    let ram = Ram::default();
    assert_eq!(initiator.handle_packet(Time::ZERO, &request, &ram), Err(DropReason::Transport));
    assert_eq!(initiator.post_send(send(named)), Ok(()));
    assert_eq!(initiator.snapshot().send_outstanding, 1);
}

fn initiator() -> Driven<Ram> {
    let options = options(QueuePairType::XrcInitiator);
    let mut qp = Driven::with(protocol(&options, OWN), 0);
    for change in changes(&options, PEER, SQ, RQ) {
        qp.set(change).expect("the usual transitions");
    }
    qp
}

#[test]
fn every_request_packet_names_its_queue_and_is_as_long_as_the_path_allows() {
    let ram = Ram::default();
    let region = ram.register(&mut Rng::new(1), VA, vec![3; REGION], Rights::ALL);
    let mut qp = initiator();
    let remote = RemoteAddress { va: 0x7000, rkey: 0x5555 };
    for (id, operation) in
        [SendOperation::Send, SendOperation::WriteImmediate(remote, 5)].into_iter().enumerate()
    {
        let request = SendRequest {
            id: id as u64,
            operation,
            buffers: vec![Slice { region, offset: 0, len: 600 }],
            len: 600,
            signaled: true,
            solicited: false,
            fence: false,
            destination: Some(Recipient::SharedReceiveQueue([FIRST, SECOND][id])),
        };
        qp.post_send(request).expect("there is room");
    }
    let mut bytes = vec![0; Headers::MAX_LEN + 4096 + 3];
    let mut sent = Vec::new();
    while let Some(transmit) = qp.poll_transmit(Time::ZERO, &ram, &mut bytes) {
        let packet = Packet::parse(&bytes[..transmit.len]).expect("what is sent can be read");
        sent.push((packet.headers.bth.opcode.to_byte(), packet.headers.xrc_srq, packet.payload.len()));
    }
    let [first, second] = [FIRST, SECOND].map(Some);
    assert_eq!(
        sent,
        [
            (0xa0, first, 256),
            (0xa1, first, 256),
            (0xa2, first, 88),
            (0xa6, second, 256),
            (0xa7, second, 256),
            (0xa9, second, 88)
        ]
    );
}

/// As the proof of each operation on a reliable connection, from the only side that there is.
#[test]
fn every_operation_over_every_bad_link_is_done_once_in_order_and_whole() {
    let mut seed = 0;
    for kind in Kind::ALL {
        for link in LINKS {
            for len in [0, 1, 1023, 1024, 5000] {
                let outcome = std::panic::catch_unwind(|| {
                    let receiving = Receiving::Batch(Duration::from_micros(50));
                    let mut world = World::new(link.1, receiving, seed);
                    let near_the_end = Some([0xff_fff0, 0xff_fffe].map(Psn::truncate));
                    let of = QueuePairType::XrcInitiator;
                    let flows = [None, near_the_end].map(|psn| {
                        let pair = world.connect(&Options { of, psn, ..Options::default() });
                        let ops: Vec<Op> =
                            (0..3).map(|index| Op { kind, len, signaled: index != 1 }).collect();
                        Flow::new(&mut world, 0, pair, &ops)
                    });
                    run(&mut world, flows.into(), Receives::Early);
                });
                if let Err(panic) = outcome {
                    eprintln!("failed: {kind:?} of {len} bytes, {}, seed {seed}", link.0);
                    std::panic::resume_unwind(panic);
                }
                seed += 1;
            }
        }
    }
}

#[test]
fn random_work_beside_that_of_reliable_connections_is_done_once_in_order_and_whole() {
    for seed in seeds(150) {
        let outcome = std::panic::catch_unwind(|| {
            let mut rng = Rng::new(seed);
            let receiving = rng.pick(&[Receiving::Single, Receiving::Batch(Duration::from_micros(30))]);
            let mut world = World::new(random_link(&mut rng), receiving, seed);
            let mut flows = Vec::new();
            for at in 0..1 + rng.below(4) {
                let of = if at == 0 { QueuePairType::XrcInitiator } else { rng.pick(&RELIABLE) };
                let options = Options { of, ..random_options(&mut rng) };
                let pair = world.connect(&options);
                let ends = if of == QueuePairType::Rc { 2 } else { 1 };
                for from in 0..ends {
                    let count = 1 + rng.index(40);
                    let ops = random_ops(&mut rng, options.mtu, count);
                    flows.push(Flow::new(&mut world, from, pair, &ops));
                }
            }
            let late = Receives::Late(Duration::from_micros(rng.pick(&[20, 1_000, 50_000])));
            run(&mut world, flows, rng.pick(&[Receives::Early, late]));
        });
        if let Err(panic) = outcome {
            eprintln!("failed: RC_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

const RELIABLE: [QueuePairType; 2] = [QueuePairType::Rc, QueuePairType::XrcInitiator];

#[test]
fn any_packet_neither_panics_nor_makes_queues_grow_nor_takes_from_a_queue_that_it_does_not_name() {
    let mut taken = 0;
    for seed in seeds(100) {
        let mut rng = Rng::new(seed);
        let mut target = Target::new();
        let mut next = 0;
        for step in 0..300 {
            for queue in [0, 1] {
                if rng.percent(20) && target.outstanding()[queue] < 8 {
                    let len = rng.index(900);
                    target.post(queue, step, len);
                }
            }
            let operation = rng.pick(&O::ALL);
            let transport = rng.pick(&[Transport::Xrc, Transport::Xrc, Transport::Xrc, Transport::Rc]);
            let opcode = Opcode::Known { transport, operation };
            let number = if rng.percent(80) { next } else { rng.word() };
            let bth = Bth { ack_req: rng.percent(50), ..Bth::new(opcode, OWN, RQ.plus(number)) };
            let mut zeros = [0; Headers::MAX_LEN];
            zeros[0] = opcode.to_byte();
            let has = Packet::parse(&zeros[..Headers::len_for(opcode)]).expect("a packet of zeros").headers;
            let named = if rng.percent(97) { rng.pick(&[FIRST, SECOND]) } else { NONE };
            let any = rng.word();
            let rkey = if rng.percent(95) { target.ram.rkey(target.region) } else { any };
            let len = rng.pick(&[0, 256, 257, 600, 88, any]);
            let reth = Reth { va: VA + u64::from(rng.below(1000)), rkey, len };
            let atomic = AtomicEth { va: VA, rkey, swap_or_add: 1, compare: 0 };
            let headers = Headers {
                bth,
                xrc_srq: has.xrc_srq.map(|_| named),
                reth: has.reth.map(|_| reth),
                atomic: has.atomic.map(|_| atomic),
                ..has
            };
            let payload = rng.pick(&[256, 256, 0, 88, 257]);
            let payload = if opcode.carries_payload() { payload } else { 0 };
            let before = target.outstanding();
            let result = target.handle(headers, &[0x55; 300][..payload]);
            let after = target.outstanding();
            let other = usize::from(named == FIRST);
            if result.is_ok() {
                taken += 1;
                let packets = headers.reth.filter(|_| operation == O::ReadRequest);
                next = number.wrapping_add(packets.map_or(1, |reth| Mtu::B256.packets(reth.len)));
                assert!(named == NONE || before[other] == after[other], "RC_SEED={seed}, step {step}");
            }
            let waiting = target.qp.snapshot().answers_waiting;
            assert!(waiting <= 4 * 16 + 2, "RC_SEED={seed}, step {step}: {waiting} answers wait");
            if rng.percent(30) {
                target.sent();
            }
            if target.qp.state() == State::Error {
                target = Target::new();
                next = 0;
            }
        }
    }
    assert!(taken > 1000, "some are taken: {taken}");
}
