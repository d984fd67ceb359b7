//! Hostile packets: no panic, no growth, nothing done beyond the peer's rights, and nothing at all for who
//! doesn't know the PSN.

use super::lone::{ACK, Lone, OWN, RQ, SQ, VA, small};
use super::memory::{Rights, Slice};
use super::rng::{Rng, seeds};
use super::workload::{Flow, Kind, Op};
use super::world::{Options, Receiving, World};
use netem::LinkConfig;
use rocev2::transport::{DropReason, Limits};
use rocev2::wire::{Aeth, AtomicEth, Bth, Headers, NakCode, Opcode, Operation as O, Reth, Syndrome};
use rocev2::work::{PeerRights, SendOperation, SendRequest, State, Status};
use rocev2::{Mtu, Psn};
use std::time::Duration;

const STATES: [State; 6] = [
    State::Reset,
    State::Init,
    State::ReadyToReceive,
    State::ReadyToSend,
    State::SendQueueDrain,
    State::Error,
];

const LENGTHS: [u32; 12] = [0, 1, 3, 8, 255, 256, 257, 600, 4096, 1 << 31, (1 << 31) + 1, u32::MAX];

/// A packet that is almost right, or wrong in any way; its PSN is near one of `numbers` (the next request's,
/// and the oldest awaited answer's), or anywhere.
fn any_packet(rng: &mut Rng, lone: &Lone, numbers: [i32; 2]) -> (Headers, Vec<u8>) {
    let operation = rng.pick(&O::ALL);
    let (origin, number) = if operation.is_request() { (RQ, numbers[0]) } else { (SQ, numbers[1]) };
    let near = number.wrapping_add(i32::from(rng.pick(&[0_i8, 0, 0, 0, 1, -1, 2, -2, 5, -7])));
    let psn = origin.get().wrapping_add(near.cast_unsigned());
    let psn = Psn::truncate(if rng.percent(95) { psn } else { rng.word() });
    let mut headers = Headers::new(Bth::new(Opcode::rc(operation), OWN, psn));
    headers.bth.ack_req = rng.percent(50);
    headers.bth.solicited = rng.percent(50);
    let rkey = if rng.percent(90) { lone.rkey() } else { rng.word() };
    let anywhere = u64::from(rng.word()) << 32 | u64::from(rng.word());
    let inside = VA + u64::from(rng.below(1024));
    let va = rng.pick(&[VA, VA, inside, VA - 1, VA + (1 << 20) - 8, 0, u64::MAX, u64::MAX - 255, anywhere]);
    let len = rng.pick(&LENGTHS);
    let total = rng.pick(&[len, 600, 256]);
    match operation {
        O::WriteFirst | O::WriteOnly | O::WriteOnlyImm | O::ReadRequest => {
            headers.reth = Some(Reth { va, rkey, len: total });
        }
        O::CompareSwap | O::FetchAdd => {
            headers.atomic = Some(AtomicEth { va: va & !7, rkey, swap_or_add: anywhere, compare: anywhere });
        }
        _ => {}
    }
    let carries_aeth = operation.is_response() && operation != O::ReadResponseMiddle;
    let byte = rng.pick(&[0x1f, 0x1f, 0x1f, 0x60, 0x21, 0x61, 0x62, 0x00, 0xff]);
    headers.aeth = carries_aeth.then_some(Aeth { syndrome: Syndrome::from_byte(byte), msn: rng.word() });
    headers.atomic_ack = (operation == O::AtomicAcknowledge).then_some(anywhere);
    headers.immediate =
        matches!(operation, O::SendLastImm | O::SendOnlyImm | O::WriteLastImm | O::WriteOnlyImm)
            .then_some(len);
    headers.invalidate = matches!(operation, O::SendLastInvalidate | O::SendOnlyInvalidate).then_some(rkey);
    let room = if operation.carries_payload() {
        rng.pick(&[0, 1, 256, 256, 256, total.min(256) as usize, 255, 257, 4096])
    } else {
        0
    };
    (headers, rng.bytes(room))
}

/// A packet that is right.
fn right_packet(rng: &mut Rng, lone: &Lone, numbers: [i32; 2]) -> (Headers, Vec<u8>) {
    let number = numbers[0];
    let len = rng.below(257);
    let offset = u64::from(rng.below(1000)) * 8;
    let bytes = rng.bytes(len as usize);
    match rng.below(6) {
        0 => (Lone::request_with(O::WriteOnly, number, lone.reth(offset, len)), bytes),
        1 => (Lone::request_with(O::ReadRequest, number, lone.reth(offset, 5 * len)), Vec::new()),
        2 => {
            let mut add = Lone::request(O::FetchAdd, number);
            add.atomic = Some(lone.atomic(offset));
            (add, Vec::new())
        }
        3 => (Lone::request(O::SendOnly, number), bytes),
        _ => (Lone::response(O::Acknowledge, numbers[1], ACK), Vec::new()),
    }
}

#[test]
fn any_packet_in_any_state_neither_panics_nor_makes_queues_grow() {
    let depth = 4;
    let limits = Limits { max_send_requests: 8, window: 20_000 };
    let options = Options { rd_atomic: depth, limits, max_recv_requests: 8, ..small() };
    let mut accepted = 0;
    for seed in seeds(60) {
        let mut rng = Rng::new(seed);
        let mut lone = Lone::in_state(rng.pick(&STATES), &options);
        let mut numbers = [0, 0];
        for step in 0..3000 {
            let ends = if lone.qp.state().receives() { 0 } else { 5 };
            if rng.percent(ends) {
                lone.restart(rng.pick(&STATES), &options);
                numbers = [0, 0];
            }
            let (headers, payload) = if rng.percent(70) {
                right_packet(&mut rng, &lone, numbers)
            } else {
                any_packet(&mut rng, &lone, numbers)
            };
            let is_request =
                matches!(headers.bth.opcode, Opcode::Known { operation, .. } if operation.is_request());
            if lone.handle(&headers, &payload).is_ok() {
                accepted += 1;
                let used = headers.reth.filter(|_| payload.is_empty() && is_request);
                let used = used.map_or(1, |reth| Mtu::B256.packets(reth.len));
                numbers[usize::from(!is_request)] += i32::try_from(used).expect("fits the circle");
            }
            match rng.below(8) {
                0 => drop(lone.sent()),
                1 => drop(lone.next_sent()),
                2 => drop(lone.time_out()),
                3 => {
                    let operation = rng.pick(&[
                        SendOperation::Send,
                        SendOperation::Write(Lone::REMOTE),
                        SendOperation::Read(Lone::REMOTE),
                        Lone::fetch_add(),
                    ]);
                    let len =
                        if matches!(operation, SendOperation::Atomic(..)) { 8 } else { rng.below(1500) };
                    let _ = lone.try_post(step, operation, len, true);
                }
                4 if lone.qp.state() != State::Reset && lone.qp.recv_outstanding() < 8 => {
                    lone.post_recv(step, 1024);
                }
                _ => {}
            }
            let snapshot = lone.qp.snapshot();
            let (waiting, most) = (snapshot.answers_waiting, 4 * usize::from(depth) + 2);
            assert!(waiting <= most, "RC_SEED={seed}, step {step}: {waiting} answers wait");
            assert!(snapshot.send_outstanding <= 8 && lone.qp.recv_outstanding() <= 8, "RC_SEED={seed}");
            assert!(lone.done.len() <= 20 && lone.events.len() <= 2, "RC_SEED={seed}: {:?}", lone.events);
            lone.done.clear();
            if lone.qp.state() != State::Error {
                lone.events.clear();
            }
        }
    }
    assert!(accepted > 1000, "{accepted}: the packets are too wild to prove anything");
}

#[test]
fn a_peer_reaches_no_byte_beyond_its_rights() {
    let none = PeerRights::default();
    for seed in seeds(20) {
        let mut rng = Rng::new(seed);
        for rights in [
            none,
            PeerRights { read: true, ..none },
            PeerRights { write: true, ..none },
            PeerRights { atomic: true, ..none },
        ] {
            let mut lone = Lone::new(&Options { rights, ..small() });
            // What the peer's key may do is everything, to its own region; beside it lies another's.
            let secret = lone.ram.register(&mut rng, VA + (1 << 20), vec![0x77; 4096], Rights::NONE);
            let mut number = 0;
            for _ in 0..500 {
                let (headers, payload) = if rng.percent(50) {
                    right_packet(&mut rng, &lone, [number, 0])
                } else {
                    any_packet(&mut rng, &lone, [number, 0])
                };
                if lone.handle(&headers, &payload).is_ok() {
                    let Opcode::Known { operation, .. } = headers.bth.opcode else { continue };
                    // Nothing is ever read into the number by this peer but what it may.
                    number += match headers.reth {
                        Some(reth) if operation == O::ReadRequest => {
                            i32::try_from(Mtu::B256.packets(reth.len)).expect("fits the circle")
                        }
                        _ => i32::from(operation.is_request()),
                    };
                }
                let _ = lone.sent();
                let tally = lone.ram.tally();
                assert!(rights.read || tally.read == 0, "RC_SEED={seed}");
                assert!(rights.write || tally.written == 0, "RC_SEED={seed}");
                assert!(rights.atomic || tally.atomics == 0, "RC_SEED={seed}");
                assert_eq!(lone.ram.bytes(Slice { region: secret, offset: 0, len: 4096 }), [0x77; 4096]);
                if lone.qp.state() == State::Error {
                    break;
                }
            }
        }
    }
}

#[test]
fn an_injector_who_does_not_know_the_psn_changes_nothing() {
    let mut lone = Lone::new(&small());
    lone.post_recv(0, 256);
    for id in 0..3 {
        lone.post(id, SendOperation::Send, 300);
    }
    lone.post(3, SendOperation::Read(Lone::REMOTE), 600);
    assert_eq!(lone.sent().len(), 7);
    // Something of the past, to be repeated: a READ, an atomic and a WRITE.
    let read = Lone::request_with(O::ReadRequest, 0, lone.reth(0, 600));
    let mut add = Lone::request(O::FetchAdd, 3);
    add.atomic = Some(lone.atomic(0));
    let write = Lone::request_with(O::WriteOnly, 4, lone.reth(0, 4));
    assert_eq!(lone.handle(&read, &[]), Ok(()));
    assert_eq!(lone.handle(&add, &[]), Ok(()));
    assert_eq!(lone.handle(&write, &[1; 4]), Ok(()));
    let _ = lone.sent();

    let before = (lone.ram.contents(), lone.ram.tally().written, lone.qp.snapshot().send_outstanding);
    let mut rng = Rng::new(7);
    let mut guesses = 0;
    for round in 0_u32..60_000 {
        // Everything else the injector knows: addresses, QPN, rkey, lengths.
        let (mut headers, payload) = any_packet(&mut rng, &lone, [5, 0]);
        let Opcode::Known { operation, .. } = headers.bth.opcode else { continue };
        let guess = Psn::truncate(if round % 2 == 0 { rng.word() } else { RQ.get().wrapping_add(round) });
        // The next request's number, or one of the nine awaited answers': this one would have been lucky.
        let lucky = if operation.is_request() {
            guess == RQ.plus(5)
        } else {
            (0..9).contains(&guess.distance_from(SQ))
        };
        if lucky {
            continue;
        }
        guesses += 1;
        headers.bth.psn = guess;
        assert!(lone.handle(&headers, &payload).is_err(), "{headers:?}");
        let _ = lone.sent();
    }
    assert!(guesses > 50_000);
    assert_eq!((lone.qp.state(), lone.outcome(), &lone.events[..]), (State::ReadyToSend, vec![], &[][..]));
    let after = (lone.ram.contents(), lone.ram.tally().written, lone.qp.snapshot().send_outstanding);
    assert!(before == after, "a guess changed memory or acknowledged something");
    // And the connection goes on as if nothing had been.
    assert_eq!(lone.handle(&Lone::request(O::SendOnly, 5), &[1; 8]), Ok(()));
    assert_eq!(lone.ack(5), Ok(()));
    let successes = [0, 0, 1, 2].map(|id| (id, Status::Success));
    assert_eq!(lone.outcome(), successes);
}

#[test]
fn who_guesses_the_psn_but_not_the_key_ends_the_connection_and_changes_nothing() {
    let mut lone = Lone::new(&small());
    let contents = lone.ram.contents();
    let mut reth = lone.reth(0, 4);
    reth.rkey ^= 1;
    assert_eq!(
        lone.handle(&Lone::request_with(O::WriteOnly, 0, reth), &[9; 4]),
        Err(DropReason::RemoteAccess)
    );
    assert_eq!(lone.qp.state(), State::Error, "one guess a connection");
    assert!(lone.ram.contents() == contents);
}

/// An attacker on the path changes, repeats fields of, and cuts packets, with a right ICRC. Nobody promises
/// that the work gets done then: only that both sides come to an end, without a panic, and that memory no
/// request names stays as it is.
#[test]
fn mutated_packets_of_real_work_end_in_success_or_error_but_never_in_a_panic_or_for_ever() {
    let (mut done, mut failed) = (0, 0);
    for seed in seeds(60) {
        let link = LinkConfig { latency_ns: 10_000, ..LinkConfig::default() };
        let mut world = World::new(link, Receiving::Batch(Duration::from_micros(20)), seed);
        let mut rng = Rng::new(seed);
        let mut attack = Rng::new(seed ^ 0xffff);
        world.attacker = Some(Box::new(move |packet: &mut Vec<u8>| {
            if !attack.percent(3) {
                return;
            }
            match attack.below(4) {
                // Any bit of the headers, or of the packet.
                0 => {
                    let at = attack.index(packet.len().min(44));
                    packet[at] ^= 1 << attack.below(8);
                }
                1 => {
                    let at = attack.index(packet.len());
                    packet[at] = packet[at].wrapping_add(1);
                }
                // Another opcode, with the other's headers where they are.
                2 => packet[0] = u8::try_from(attack.below(0x18)).expect("a byte"),
                // Shorter or longer, by words.
                _ => {
                    let len = (packet.len() / 4 * attack.index(9)).max(12) & !3;
                    packet.resize(len.min(4096), 0xee);
                }
            }
        }));
        let options = Options { timeout: 8, mtu: rng.pick(&[Mtu::B256, Mtu::B1024]), ..Options::default() };
        let bystanders = [0, 1].map(|host: usize| {
            world.hosts[host].ram.register(&mut rng, 0x5000, vec![0x33; 4096], Rights::NONE)
        });
        for _ in 0..4 {
            let pair = world.connect(&options);
            for from in 0..2 {
                let ops: Vec<Op> = (0..20)
                    .map(|_| Op { kind: rng.pick(&Kind::ALL), len: rng.below(3000), signaled: true })
                    .collect();
                Flow::new(&mut world, from, pair, &ops).post_all(&mut world);
            }
        }
        world.run(Duration::from_secs(600));
        for (host, bystander) in world.hosts.iter().zip(bystanders) {
            let bytes = host.ram.bytes(Slice { region: bystander, offset: 0, len: 4096 });
            assert_eq!(bytes, [0x33; 4096], "RC_SEED={seed}");
            for end in &host.ends {
                let snapshot = end.qp.snapshot();
                assert!(snapshot.answers_waiting == 0 && end.qp.poll_timeout().is_none(), "RC_SEED={seed}");
                let sends = end.done.iter().filter(|done| !done.kind.is_recv());
                let ids: Vec<u64> = sends.clone().map(|done| done.id).collect();
                assert!(ids.iter().copied().eq(0..20), "RC_SEED={seed}: each request ends once, in order");
                let first_failure = sends.clone().position(|one| one.status != Status::Success).unwrap_or(20);
                let rest = sends.clone().skip(first_failure + 1);
                assert!(rest.clone().all(|one| one.status == Status::Flushed), "RC_SEED={seed}");
                assert!(first_failure == 20 || snapshot.state == State::Error, "RC_SEED={seed}");
                done += first_failure;
                failed += usize::from(first_failure < 20);
            }
        }
    }
    assert!(done > 500 && failed > 20, "{done} requests succeeded, {failed} connections failed: prove both");
}

#[test]
fn a_read_response_of_any_length_never_writes_beyond_its_buffer() {
    for len in [0, 1, 255, 256, 257, 4096] {
        for wanted in [0, 1, 100, 256, 300] {
            let mut lone = Lone::new(&small());
            let place = lone.ram.register(&mut Rng::new(1), 0, vec![0x44; 1024], Rights::LOCAL);
            let request = SendRequest {
                id: 0,
                operation: SendOperation::Read(Lone::REMOTE),
                buffers: vec![Slice { region: place, offset: 256, len: wanted as usize }],
                len: wanted,
                signaled: true,
                solicited: false,
                fence: false,
                destination: None,
            };
            lone.qp.post_send(request).expect("there is room");
            let _ = lone.sent();
            for operation in
                [O::ReadResponseFirst, O::ReadResponseMiddle, O::ReadResponseOnly, O::ReadResponseLast]
            {
                let _ = lone.handle(&Lone::response(operation, 0, ACK), &vec![0x55; len]);
            }
            let bytes = lone.ram.bytes(Slice { region: place, offset: 0, len: 1024 });
            let end = 256 + wanted as usize;
            assert!(bytes[..256].iter().chain(&bytes[end..]).all(|&byte| byte == 0x44));
        }
    }
}

/// A forger knows the queue pair and hits a PSN that is under way, but not how many messages there were.
#[test]
fn an_answer_with_a_number_of_messages_that_cannot_be_is_dropped_once_the_peer_has_shown_that_it_counts() {
    let answer = |number: i32, syndrome, msn: u32| {
        let mut headers = Lone::response(O::Acknowledge, number, syndrome);
        headers.aeth = Some(Aeth { syndrome, msn });
        headers
    };
    let refused = Syndrome::Nak(NakCode::RemoteAccess);
    for counts in [true, false] {
        let mut lone = Lone::new(&small());
        let mut number = 0;
        for message in 1..=200 {
            // One packet or two, or a READ.
            let packets = if message % 3 == 0 {
                lone.post(0, SendOperation::Read(Lone::REMOTE), 4);
                assert_eq!(lone.sent().len(), 1);
                let mut headers = Lone::response(O::ReadResponseOnly, number, ACK);
                headers.aeth = Some(Aeth { syndrome: ACK, msn: if counts { message } else { 0 } });
                assert_eq!(lone.handle(&headers, &[1; 4]), Ok(()));
                1
            } else {
                let packets = 1 + i32::from(message % 2 == 0);
                lone.post(0, SendOperation::Send, if packets == 2 { 300 } else { 4 });
                assert_eq!(lone.sent().len(), packets as usize);
                let msn = if counts { message } else { 0 };
                assert_eq!(lone.handle(&answer(number + packets - 1, ACK, msn), &[]), Ok(()));
                packets
            };
            number += packets;
        }
        lone.outcome();
        lone.post(7, SendOperation::Send, 4);
        lone.sent();
        for msn in [0, 1, 199, 400, 1 << 23] {
            if counts {
                assert_eq!(lone.handle(&answer(number, refused, msn), &[]), Err(DropReason::MessageNumber));
                assert_eq!(lone.handle(&answer(number, ACK, msn), &[]), Err(DropReason::MessageNumber));
            }
        }
        assert_eq!((lone.outcome(), lone.qp.state()), (vec![], State::ReadyToSend));
        assert_eq!(lone.handle(&answer(number, ACK, if counts { 201 } else { 0 }), &[]), Ok(()));
        assert_eq!(lone.outcome(), [(7, Status::Success)]);
    }
}

/// If the peer itself stops counting, the connection goes on as soon as silence would have been noticed.
#[test]
fn a_peer_that_stops_counting_messages_loses_no_connection() {
    let mut lone = Lone::new(&small());
    for message in 1..=100 {
        lone.post(0, SendOperation::Send, 4);
        lone.sent();
        let mut ack = Lone::response(O::Acknowledge, message - 1, ACK);
        ack.aeth = Some(Aeth { syndrome: ACK, msn: message.unsigned_abs() });
        assert_eq!(lone.handle(&ack, &[]), Ok(()));
    }
    lone.post(1, SendOperation::Send, 4);
    lone.sent();
    lone.outcome();
    assert_eq!(lone.ack(100), Err(DropReason::MessageNumber));
    assert!(lone.time_out());
    lone.sent();
    assert_eq!(lone.ack(100), Ok(()));
    assert_eq!(lone.outcome(), [(1, Status::Success)]);
}
