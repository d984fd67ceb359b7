//! Shared receive queues: each request is taken once, by one queue pair, and nobody else's end takes it along.

use super::driven::Shared;
use super::lone::{Lone, small};
use super::memory::{Rights, Slice};
use super::rng::{Rng, seeds};
use super::world::{Options, Receiving, World};
use netem::{LinkConfig, Loss, Reorder};
use rocev2::Mtu;
use rocev2::transport::DropReason;
use rocev2::wire::Operation as O;
use rocev2::work::{
    AsyncEvent, PostError, QueuePairType, ReceiveQueue, RecvRequest, SendOperation, SendRequest, State,
    Status, Transition,
};
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

fn queue(capacity: usize) -> Shared<Vec<Slice>> {
    Rc::new(RefCell::new(ReceiveQueue::shared(capacity)))
}

/// A request for no bytes.
fn empty(id: u64) -> RecvRequest<Vec<Slice>> {
    RecvRequest { id, buffers: vec![], len: 0 }
}

#[test]
fn the_limit_is_told_of_once_when_a_message_leaves_fewer_and_again_when_it_is_set_again() {
    let shared = queue(10);
    let mut lone = Lone::sharing(Rc::clone(&shared));
    for id in 0..6 {
        shared.borrow_mut().post(empty(id)).expect("there is room");
    }
    let mut number = 0;
    let mut message = |lone: &mut Lone| {
        assert_eq!(lone.handle(&Lone::request(O::SendOnly, number), &[]), Ok(()));
        number += 1;
        lone.sent();
    };
    message(&mut lone);
    assert!(!shared.borrow_mut().poll_limit_reached(), "no limit is set");
    shared.borrow_mut().set_limit(4);
    message(&mut lone);
    assert!(!shared.borrow_mut().poll_limit_reached(), "4 are not fewer than 4");
    assert_eq!(shared.borrow().limit(), 4);
    message(&mut lone);
    assert!(shared.borrow_mut().poll_limit_reached());
    assert_eq!(shared.borrow().limit(), 0, "it is disarmed");
    message(&mut lone);
    assert!(!shared.borrow_mut().poll_limit_reached(), "once");
    shared.borrow_mut().set_limit(9);
    assert!(!shared.borrow_mut().poll_limit_reached(), "setting it tells of nothing");
    message(&mut lone);
    assert!(shared.borrow_mut().poll_limit_reached());
    assert_eq!(lone.outcome(), (0..5).map(|id| (id, Status::Success)).collect::<Vec<_>>());
}

#[test]
fn the_end_of_a_queue_pair_ends_its_own_message_alone_and_is_the_last_that_it_takes() {
    let shared = queue(10);
    let mut lone = Lone::sharing(Rc::clone(&shared));
    let buffers = vec![lone.slice(0, 512)];
    shared.borrow_mut().post(RecvRequest { id: 1, buffers, len: 512 }).expect("there is room");
    shared.borrow_mut().post(empty(2)).expect("there is room");
    assert_eq!(lone.handle(&Lone::request(O::SendFirst, 0), &[7; 256]), Ok(()));
    lone.qp.modify(Transition::Error).expect("any state to ERR");
    lone.collect();
    assert_eq!(lone.outcome(), [(1, Status::Flushed)]);
    assert_eq!(lone.events, [AsyncEvent::LastWorkRequestReached]);
    lone.qp.modify(Transition::Error).expect("ERR to ERR");
    lone.collect();
    assert_eq!(lone.events.len(), 1, "once");
    assert_eq!(shared.borrow().outstanding(), 1, "the other one stays");
    let mut other = Lone::sharing(Rc::clone(&shared));
    assert_eq!(other.handle(&Lone::request(O::SendOnly, 0), &[]), Ok(()));
    assert_eq!(other.outcome(), [(2, Status::Success)]);
    assert_eq!(other.handle(&Lone::request(O::SendOnly, 1), &[]), Err(DropReason::ReceiverNotReady));
}

#[test]
fn a_peers_bad_request_ends_the_queue_pair_and_takes_no_request_of_others_along() {
    let shared = queue(10);
    let mut lone = Lone::sharing(Rc::clone(&shared));
    for id in 0..3 {
        shared.borrow_mut().post(empty(id)).expect("there is room");
    }
    assert_eq!(lone.handle(&Lone::request(O::SendLast, 0), &[1; 4]), Err(DropReason::InvalidRequest));
    assert_eq!((lone.outcome(), shared.borrow().outstanding()), (vec![], 3));
    assert_eq!(lone.events, [AsyncEvent::RequestError, AsyncEvent::LastWorkRequestReached]);
}

#[test]
fn a_reset_gives_the_request_of_an_unfinished_message_back() {
    let shared = queue(2);
    let mut lone = Lone::sharing(Rc::clone(&shared));
    let buffers = vec![lone.slice(0, 512)];
    shared.borrow_mut().post(RecvRequest { id: 1, buffers, len: 512 }).expect("there is room");
    shared.borrow_mut().post(empty(2)).expect("there is room");
    assert_eq!(lone.handle(&Lone::request(O::SendFirst, 0), &[7; 256]), Ok(()));
    assert_eq!(
        shared.borrow_mut().post(empty(3)),
        Err(PostError::QueueFull(2)),
        "what is being filled counts"
    );
    lone.qp.modify(Transition::Reset).expect("any state to RESET");
    assert_eq!(shared.borrow().outstanding(), 2);
    let mut other = Lone::sharing(Rc::clone(&shared));
    assert_eq!(other.handle(&Lone::request(O::SendOnly, 0), &[]), Ok(()));
    assert_eq!(other.outcome(), [(1, Status::Success)], "it is the first again");
}

#[test]
fn it_is_posted_to_and_resized_by_itself() {
    let shared = queue(2);
    let mut lone = Lone::sharing(Rc::clone(&shared));
    assert_eq!(lone.qp.post_recv(empty(1)), Err(PostError::SharedReceiveQueue));
    assert_eq!(shared.borrow_mut().post(empty(1)), Ok(()));
    assert_eq!(shared.borrow_mut().post(empty(2)), Ok(()));
    assert_eq!(shared.borrow_mut().resize(1), Err(PostError::QueueFull(1)));
    assert_eq!(shared.borrow_mut().resize(3), Ok(()));
    assert_eq!(shared.borrow().capacity(), 3);
    assert_eq!(shared.borrow_mut().post(empty(3)), Ok(()));
    assert_eq!(shared.borrow_mut().post(empty(4)), Err(PostError::QueueFull(3)));
    let mut own = ReceiveQueue::<()>::new(1);
    own.set_limit(1);
    assert_eq!((own.limit(), own.poll_limit_reached(), own.is_shared()), (0, false, false));
    assert_eq!(Lone::new(&small()).qp.recv_outstanding(), 0);
}

#[test]
fn over_any_link_messages_of_many_senders_take_a_request_each_and_are_whole() {
    for seed in seeds(60) {
        let outcome = std::panic::catch_unwind(|| many_to_one(seed));
        if let Err(panic) = outcome {
            eprintln!("failed: RC_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn many_to_one(seed: u64) {
    const PAIRS: usize = 4;
    const EACH: usize = 25;
    const LONGEST: usize = 900;
    const REFILL: usize = 8;
    let mut rng = Rng::new(seed);
    let link = LinkConfig {
        latency_ns: 20_000,
        loss: Loss::Bernoulli(f64::from(rng.below(80)) / 1000.0),
        duplicate: f64::from(rng.below(50)) / 1000.0,
        reorder: Reorder { probability: f64::from(rng.below(50)) / 1000.0, extra_delay_ns: 50_000 },
        ..LinkConfig::default()
    };
    let mut world = World::new(link, Receiving::Batch(Duration::from_micros(20)), seed);
    let shared = queue(2 * REFILL);
    world.hosts[1].shared = Some(Rc::clone(&shared));
    // The last one is unreliable: what it loses, it loses alone.
    let pairs: Vec<usize> = (0..=PAIRS)
        .map(|at| {
            let of = if at == PAIRS { QueuePairType::Uc } else { QueuePairType::Rc };
            world.connect(&Options { of, mtu: Mtu::B256, timeout: 17, ..Options::default() })
        })
        .collect();
    let inbox = world.hosts[1].ram.register(&mut rng, 0, vec![0; 1000 * LONGEST], Rights::LOCAL);
    let mut posted = 0;
    let mut refill = |shared: &Shared<Vec<Slice>>| {
        for _ in 0..REFILL {
            let buffers = vec![Slice { region: inbox, offset: posted * LONGEST, len: LONGEST }];
            let request = RecvRequest { id: posted as u64, buffers, len: LONGEST as u64 };
            shared.borrow_mut().post(request).expect("there is room");
            posted += 1;
        }
        shared.borrow_mut().set_limit(REFILL / 2);
    };
    let mut sent = Vec::new();
    for (at, pair) in pairs.iter().enumerate() {
        let mut messages = Vec::new();
        for number in 0..EACH {
            let len = rng.index(LONGEST + 1);
            let bytes = rng.bytes(len);
            let region = world.hosts[0].ram.register(&mut rng, 0, bytes.clone(), Rights::LOCAL);
            messages.push(bytes);
            let request = SendRequest {
                id: number as u64,
                operation: SendOperation::SendImmediate(short(number)),
                buffers: vec![Slice { region, offset: 0, len }],
                len: short(len),
                signaled: rng.percent(50),
                solicited: false,
                fence: false,
                destination: None,
            };
            world.hosts[0].ends[*pair].qp.post_send(request).expect("there is room");
        }
        sent.push(messages);
        if at < PAIRS {
            world.pump(0, *pair);
        }
    }
    refill(&shared);
    world.pump(0, pairs[PAIRS]);
    let mut steps = 0;
    while world.step() {
        if shared.borrow_mut().poll_limit_reached() {
            refill(&shared);
        }
        steps += 1;
        assert!(steps < 1_000_000, "{}", world.describe_all());
    }
    let mut ids = HashSet::new();
    for (at, pair) in pairs.iter().enumerate() {
        let received = world.take_done(1, *pair, |_| true);
        for (order, done) in received.iter().enumerate() {
            assert_eq!(done.status, Status::Success);
            assert!(ids.insert(done.id), "request {} completes twice", done.id);
            let number = done.immediate.expect("each message has one") as usize;
            assert!(at == PAIRS || number == order, "in order, and each once");
            let place = Slice {
                region: inbox,
                offset: usize::try_from(done.id).expect("few requests") * LONGEST,
                len: done.len as usize,
            };
            assert!(world.hosts[1].ram.bytes(place) == sent[at][number], "message {number} of {at} is whole");
        }
        assert!(at == PAIRS || received.len() == EACH, "{}", world.describe(*pair));
        assert_eq!(world.state(1, *pair), State::ReadyToSend);
    }
    assert_eq!(shared.borrow().outstanding(), posted - ids.len());
}

fn short(number: usize) -> u32 {
    u32::try_from(number).expect("small numbers")
}
