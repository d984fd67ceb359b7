//! Memory windows and local invalidations: executed once, in their turn, though nothing of them is sent.

use super::lone::{ACK, Lone, SEQUENCE_ERROR, small};
use super::memory::Slice;
use super::rng::{Rng, seeds};
use super::world::{Options, Receiving, World};
use netem::{LinkConfig, Loss, Reorder};
use rocev2::transport::DropReason;
use rocev2::wire::{Operation as O, Reth};
use rocev2::work::{
    CompletionKind, Datagram, PostError, QueuePairType, Recipient, RecvRequest, RemoteAddress, SendOperation,
    SendRequest, State, Status, Transition,
};
use rocev2::{Mtu, Qpn};
use std::time::Duration;

const VA: u64 = 0x9000;

fn request(id: u64, operation: SendOperation, buffers: Vec<Slice>, len: u32) -> SendRequest<Vec<Slice>> {
    SendRequest {
        id,
        operation,
        buffers,
        len,
        signaled: true,
        solicited: false,
        fence: false,
        destination: None,
    }
}

/// The bind of a new window, and its key.
fn bind(lone: &Lone, id: u64) -> (SendRequest<Vec<Slice>>, u32) {
    let window = lone.ram.window(&mut Rng::new(id + 70), VA, vec![0; 64]);
    let place = Slice { region: window, offset: 0, len: 0 };
    (request(id, SendOperation::BindWindow, vec![place], 0), lone.ram.rkey(window))
}

#[test]
fn a_bind_takes_effect_before_what_is_posted_behind_it_leaves_and_completes_in_its_turn() {
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Send, 4);
    let (bind, rkey) = bind(&lone, 1);
    let write = Lone::request_with(O::WriteOnly, 0, Reth { va: VA, rkey, len: 4 });
    lone.qp.post_send(bind).expect("there is room");
    lone.post(2, SendOperation::Send, 4);
    assert_eq!(lone.ram.tally().bound, 0);
    assert_eq!(lone.sent_brief(), [(O::SendOnly, 0), (O::SendOnly, 1)], "it has no packet of its own");
    assert_eq!((lone.ram.tally().bound, lone.outcome()), (1, vec![]), "not before the first");
    assert_eq!(lone.handle(&write, &[1; 4]), Ok(()), "the peer may use it");
    assert_eq!(lone.ack(0), Ok(()));
    let done: Vec<_> = lone.done.drain(..).map(|done| (done.id, done.kind, done.status)).collect();
    let expected =
        [(0, CompletionKind::Send, Status::Success), (1, CompletionKind::BindWindow, Status::Success)];
    assert_eq!(done, expected);
    assert_eq!((lone.ack(1), lone.outcome()), (Ok(()), vec![(2, Status::Success)]));
}

#[test]
fn a_bind_alone_completes_at_once() {
    let mut lone = Lone::new(&small());
    let (bind, _) = bind(&lone, 1);
    lone.qp.post_send(bind).expect("there is room");
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 0); 0]);
    assert_eq!((lone.outcome(), lone.qp.poll_timeout()), (vec![(1, Status::Success)], None));
}

#[test]
fn going_back_executes_nothing_twice() {
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Send, 4);
    let (bind, _) = bind(&lone, 1);
    lone.qp.post_send(bind).expect("there is room");
    lone.post(2, SendOperation::Send, 4);
    assert_eq!(lone.sent().len(), 2);
    assert_eq!(lone.nak(0, SEQUENCE_ERROR), Ok(()));
    assert_eq!(lone.sent_brief(), [(O::SendOnly, 0), (O::SendOnly, 1)]);
    assert!(lone.time_out());
    lone.sent();
    assert_eq!(lone.ack(1), Ok(()));
    assert_eq!(lone.outcome(), [(0, Status::Success), (1, Status::Success), (2, Status::Success)]);
    assert_eq!(lone.ram.tally().bound, 1);
}

#[test]
fn a_local_invalidation_waits_for_everything_before_it() {
    let mut lone = Lone::new(&small());
    let (bind, rkey) = bind(&lone, 0);
    lone.qp.post_send(bind).expect("there is room");
    // Nobody has asked for an answer to this one.
    lone.try_post(1, SendOperation::Send, 4, false).expect("there is room");
    lone.qp.post_send(request(2, SendOperation::LocalInvalidate(rkey), vec![], 0)).expect("there is room");
    lone.post(3, SendOperation::Send, 4);
    let sent = lone.sent();
    let brief: Vec<_> = sent.iter().map(|out| (out.number, out.headers.bth.ack_req)).collect();
    assert_eq!(brief, [(0, false), (0, true)], "now it asks, since something waits for the answer");
    let write = |number| Lone::request_with(O::WriteOnly, number, Reth { va: VA, rkey, len: 4 });
    assert_eq!(lone.handle(&write(0), &[1; 4]), Ok(()), "the key is good until then");
    lone.sent();
    assert_eq!(lone.ack(0), Ok(()));
    assert_eq!((lone.ram.tally().taken_back, lone.sent_brief()), (0, vec![(O::SendOnly, 1)]));
    assert_eq!(lone.ram.tally().taken_back, 1);
    assert_eq!(lone.outcome(), [(0, Status::Success), (2, Status::Success)]);
    assert_eq!(lone.handle(&write(1), &[1; 4]), Err(DropReason::RemoteAccess));
}

#[test]
fn what_fails_ends_the_connection_when_everything_before_it_has_its_end() {
    let cases = [
        (SendOperation::BindWindow, Status::WindowBind),
        (SendOperation::LocalInvalidate(9), Status::LocalQueuePairOperation),
    ];
    for (operation, status) in cases {
        let mut lone = Lone::new(&small());
        lone.post(0, SendOperation::Send, 4);
        // The region is no window, the key is unknown.
        let buffers = vec![lone.slice(0, 4)];
        lone.qp.post_send(request(1, operation, buffers, 0)).expect("there is room");
        lone.post(2, SendOperation::Send, 4);
        assert_eq!(lone.sent_brief(), [(O::SendOnly, 0)]);
        assert_eq!((lone.outcome(), lone.qp.state()), (vec![], State::ReadyToSend));
        assert_eq!(lone.ack(0), Ok(()));
        assert_eq!(lone.sent(), []);
        assert_eq!(lone.outcome(), [(0, Status::Success), (1, status), (2, Status::Flushed)]);
        assert_eq!(lone.qp.state(), State::Error);
    }
}

#[test]
fn a_fenced_bind_waits_for_reads() {
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Read(Lone::REMOTE), 4);
    let (bind, _) = bind(&lone, 1);
    lone.qp.post_send(SendRequest { fence: true, ..bind }).expect("there is room");
    lone.post(2, SendOperation::Send, 4);
    assert_eq!((lone.sent_brief(), lone.ram.tally().bound), (vec![(O::ReadRequest, 0)], 0));
    assert_eq!(lone.handle(&Lone::response(O::ReadResponseOnly, 0, ACK), &[1; 4]), Ok(()));
    assert_eq!((lone.sent_brief(), lone.ram.tally().bound), (vec![(O::SendOnly, 1)], 1));
}

#[test]
fn a_queue_that_drains_begins_no_local_operation() {
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Send, 4);
    lone.sent();
    let (bind, _) = bind(&lone, 1);
    lone.qp.modify(Transition::Drain).expect("RTS to SQD");
    lone.qp.post_send(bind).expect("there is room");
    assert_eq!((lone.sent(), lone.ram.tally().bound), (vec![], 0));
    assert_eq!((lone.ack(0), lone.sent(), lone.ram.tally().bound), (Ok(()), vec![], 0));
    assert_eq!(lone.events, [rocev2::work::AsyncEvent::SendQueueDrained]);
    lone.qp.modify(Transition::Resume).expect("SQD to RTS");
    assert_eq!((lone.sent(), lone.ram.tally().bound), (vec![], 1));
    assert_eq!(lone.outcome(), [(0, Status::Success), (1, Status::Success)]);
}

#[test]
fn datagrams_have_no_windows() {
    let mut world = World::quiet(Duration::ZERO);
    let pair = world.connect(&Options { of: QueuePairType::Ud, ..Options::default() });
    let destination =
        Datagram { address: super::world::ADDRESS, remote_qpn: Qpn::truncate(7), remote_qkey: 0 };
    for operation in [SendOperation::BindWindow, SendOperation::LocalInvalidate(1)] {
        let request = SendRequest {
            destination: Some(Recipient::Datagram(destination)),
            ..request(0, operation, vec![], 0)
        };
        assert_eq!(world.hosts[0].ends[pair].qp.post_send(request), Err(PostError::Operation));
    }
}

/// Each of many windows is bound, told of, written once, and taken back by either side; its order with what is sent
/// is all that makes this possible.
#[test]
fn over_any_link_windows_are_there_when_they_are_told_of_and_gone_when_they_are_taken_back() {
    for seed in seeds(60) {
        let outcome = std::panic::catch_unwind(|| windows_over_a_link(seed));
        if let Err(panic) = outcome {
            eprintln!("failed: RC_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn windows_over_a_link(seed: u64) {
    const COUNT: usize = 20;
    let mut rng = Rng::new(seed);
    let link = LinkConfig {
        latency_ns: 20_000,
        loss: Loss::Bernoulli(f64::from(rng.below(100)) / 1000.0),
        duplicate: f64::from(rng.below(50)) / 1000.0,
        reorder: Reorder { probability: f64::from(rng.below(50)) / 1000.0, extra_delay_ns: 50_000 },
        ..LinkConfig::default()
    };
    let mut world = World::new(link, Receiving::Single, seed);
    let pair = world.connect(&Options { mtu: Mtu::B256, timeout: 17, ..Options::default() });
    let mut windows = Vec::new();
    for (at, number) in (0..).zip(0..COUNT as u64) {
        let ram = &world.hosts[0].ram;
        let va = VA * (number + 1);
        let window = ram.window(&mut rng, va, vec![0; 600]);
        let rkey = ram.rkey(window);
        let by_peer = rng.percent(50);
        windows.push((window, va, rkey, by_peer));
        let place = Slice { region: window, offset: 0, len: 0 };
        let end = &mut world.hosts[0].ends[pair];
        let receive = RecvRequest { id: number, buffers: vec![], len: 0 };
        end.qp.post_recv(receive).expect("there is room");
        let mut told = request(2 * number + 1, SendOperation::SendImmediate(at), vec![], 0);
        told.signaled = rng.percent(50);
        let bind = request(2 * number, SendOperation::BindWindow, vec![place], 0);
        end.qp.post_send(bind).expect("there is room");
        end.qp.post_send(told).expect("there is room");
        let receive = RecvRequest { id: number, buffers: vec![], len: 0 };
        world.hosts[1].ends[pair].qp.post_recv(receive).expect("there is room");
    }
    let outgoing =
        world.hosts[1].ram.register(&mut rng, 0, Rng::new(seed + 1).bytes(600), super::memory::Rights::LOCAL);
    world.pump(0, pair);
    let (mut used, mut taken_back) = (0, 0);
    for _ in 0..1_000_000 {
        for done in world.take_done(1, pair, |done| done.kind == CompletionKind::Recv) {
            let at = done.immediate.expect("it tells of a window") as usize;
            let (_, va, rkey, by_peer) = windows[at];
            let write = SendOperation::Write(RemoteAddress { va, rkey });
            let buffers = vec![Slice { region: outgoing, offset: 0, len: 600 }];
            let ends = if by_peer {
                SendOperation::SendInvalidate(rkey)
            } else {
                SendOperation::SendImmediate(done.immediate.unwrap_or(0))
            };
            let end = &mut world.hosts[1].ends[pair];
            end.qp.post_send(request(2 * at as u64, write, buffers, 600)).expect("there is room");
            end.qp.post_send(request(2 * at as u64 + 1, ends, vec![], 0)).expect("there is room");
            world.pump(1, pair);
        }
        for done in world.take_done(0, pair, |done| done.kind == CompletionKind::Recv) {
            assert_eq!(done.status, Status::Success);
            used += 1;
            if let Some(at) = done.immediate {
                taken_back += 1;
                let (_, _, rkey, _) = windows[at as usize];
                let invalidate =
                    request(1000 + u64::from(at), SendOperation::LocalInvalidate(rkey), vec![], 0);
                world.hosts[0].ends[pair].qp.post_send(invalidate).expect("there is room");
                world.pump(0, pair);
            }
        }
        if !world.step() {
            break;
        }
    }
    assert_eq!(used, COUNT, "{}", world.describe(pair));
    for done in [0, 1].map(|host| world.take_done(host, pair, |_| true)).concat() {
        assert_eq!(done.status, Status::Success, "{done:?}");
    }
    let tally = world.hosts[0].ram.tally();
    let counts = [tally.bound, tally.invalidated, tally.taken_back, tally.written];
    let count = COUNT as u64;
    assert_eq!(counts, [count, count - taken_back, taken_back, 600 * count]);
    assert!(windows.iter().all(|(window, ..)| world.hosts[0].ram.is_revoked(*window)));
    assert_eq!((world.state(0, pair), world.state(1, pair)), (State::ReadyToSend, State::ReadyToSend));
}
