//! Extended reliable connections: one target for all protection domains that have a queue in its domain.

use super::end::{End, PATIENCE, device, fresh};
use rocev2::wire::Transport;
use rocev2::work::{
    AsyncEvent, AtomicOperation, CompletionKind, PostError, QueuePairType, Recipient, RecvRequest,
    SendOperation, Status,
};
use rocev2::{Qpn, Srqn};
use rocev2_device::{Arm, DeviceError, DeviceEvent, QueuePairOptions, SharedReceiveQueue, XrcDomain};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

/// An initiator, and a target with two queues, each of a protection domain of its own.
struct Stage {
    initiator: End,
    target: End,
    domain: XrcDomain,
    queues: [SharedReceiveQueue; 2],
    /// What the other protection domain has; its own queue pair does nothing.
    other: End,
}

fn stage(addresses: [IpAddr; 2]) -> Stage {
    let initiator = End::new(Transport::Xrc, addresses[0]);
    let there = device(addresses[1]);
    let domain = there.xrc_domain();
    let target = End::made(&there, addresses[1], |_, _| domain.target().unwrap());
    let other = End::with(Transport::Rc, &there, addresses[1], None);
    let queues =
        [&target, &other].map(|end| domain.shared_receive_queue(&end.domain, &end.queue, 16).unwrap());
    initiator.connect(&target);
    target.connect(&initiator);
    Stage { initiator, target, domain, queues, other }
}

fn named(queue: &SharedReceiveQueue) -> Option<Recipient> {
    queue.srqn().map(Recipient::SharedReceiveQueue)
}

fn event(end: &End) -> DeviceEvent {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(event) = end.device.try_event() {
            return event;
        }
        assert!(Instant::now() < deadline, "no event");
    }
}

#[test]
fn messages_go_to_the_queue_that_they_name_and_complete_there() {
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    for addresses in [[fresh(), fresh()], [v6, v6]] {
        let Stage { initiator, target, queues, other, .. } = stage(addresses);
        assert_eq!(target.queue_pair.queue_pair_type(), QueuePairType::XrcTarget);
        for (id, (queue, end)) in queues.iter().zip([&target, &other]).enumerate() {
            queue.post_recv(end.receive_request(id as u64, 5000)).unwrap();
        }
        let long: Vec<u8> = (0..4500).map(|at| (at % 251) as u8).collect();
        initiator.post(SendOperation::SendImmediate(7), &long, named(&queues[1])).unwrap();
        initiator.done();
        let got = other.done();
        assert_eq!((got.id, got.kind, got.len, got.immediate), (1, CompletionKind::Recv, 4500, Some(7)));
        assert_eq!(other.received(4500), long);
        let write = SendOperation::WriteImmediate(target.target(64), 9);
        initiator.post(write, &long, named(&queues[0])).unwrap();
        initiator.done();
        let got = target.done();
        assert_eq!((got.id, got.kind, got.immediate), (0, CompletionKind::RecvWriteImmediate, Some(9)));
        assert_eq!(target.bytes(64, 4500), long);
        assert!(other.poll().is_none(), "each message completes once");
    }
}

#[test]
fn memory_is_that_of_the_protection_domain_whose_queue_is_named() {
    for (at, allowed) in [(0, true), (1, false)] {
        let Stage { initiator, target, queues, .. } = stage([fresh(), fresh()]);
        let queue = named(&queues[at]);
        initiator.post(SendOperation::Write(target.target(0)), b"written", queue).unwrap();
        let done = initiator.next();
        if !allowed {
            assert_eq!(done.status, Status::RemoteAccess, "the key is another domain's");
            assert_eq!(target.bytes(0, 7), [0; 7]);
            continue;
        }
        assert_eq!((done.status, target.bytes(0, 7)), (Status::Success, b"written".to_vec()));
        let add = SendOperation::Atomic(target.target(8), AtomicOperation::FetchAdd { add: 5 });
        initiator.post(add, &[0; 8], queue).unwrap();
        initiator.done();
        assert_eq!(target.bytes(8, 8), 5_u64.to_ne_bytes());
        let read = initiator.request(SendOperation::Read(target.target(0)), 7, queue);
        initiator.queue_pair.post_send(read).unwrap();
        initiator.done();
        assert_eq!(initiator.bytes(0, 7), b"written");
    }
}

#[test]
fn a_queue_that_is_not_the_domains_or_no_more_is_an_access_violation() {
    for destroyed in [false, true] {
        let Stage { initiator, target, queues, .. } = stage([fresh(), fresh()]);
        let [kept, gone] = queues;
        let elsewhere = target.device.xrc_domain();
        let foreign = elsewhere.shared_receive_queue(&target.domain, &target.queue, 1).unwrap();
        let name = if destroyed { named(&gone) } else { named(&foreign) };
        drop(gone);
        kept.post_recv(target.receive_request(1, 64)).unwrap();
        initiator.post(SendOperation::Send, b"", named(&kept)).unwrap();
        initiator.done();
        target.done();
        initiator.post(SendOperation::Send, b"message", name).unwrap();
        assert_eq!(initiator.next().status, Status::RemoteAccess);
        let qpn = target.queue_pair.qpn();
        let violation = DeviceEvent::QueuePair(qpn, AsyncEvent::AccessError);
        assert!(std::iter::repeat_with(|| event(&target)).any(|event| event == violation));
    }
}

#[test]
fn a_target_lives_until_its_last_user_drops_it_and_is_its_domains() {
    let Stage { initiator, target, domain, queues, .. } = stage([fresh(), fresh()]);
    let End { queue_pair, device, domain: protection, queue, memory, .. } = target;
    let qpn = queue_pair.qpn();
    let opened = domain.open_target(qpn).unwrap();
    assert_eq!(opened.query(), queue_pair.query());
    assert!(
        matches!(device.xrc_domain().open_target(qpn), Err(DeviceError::NoSuchTarget(other)) if other == qpn)
    );
    drop(queue_pair);
    let element = protection.element(memory.region().lkey(), memory.region().addr(), 64);
    let buffers = rocev2_device::Buffers::List([element].into_iter().collect());
    queues[0].post_recv(RecvRequest { id: 5, buffers, len: 64 }).unwrap();
    initiator.post(SendOperation::Send, b"still there", named(&queues[0])).unwrap();
    initiator.done();
    let mut out = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while queue.poll(&mut out, 1).unwrap() == 0 {
        assert!(Instant::now() < deadline, "no completion");
    }
    assert_eq!((out[0].qpn, out[0].completion.id), (qpn, 5));
    let before = device.queue_pairs();
    drop(opened);
    assert_eq!(device.queue_pairs(), before - 1);
    assert!(matches!(domain.open_target(qpn), Err(DeviceError::NoSuchTarget(_))));
}

/// The channel of a queue's completions rings though no queue pair completes there.
#[test]
fn who_waits_for_a_queues_completions_is_woken() {
    let Stage { initiator, target, domain, .. } = stage([fresh(), fresh()]);
    let channel = target.device.completion_channel().unwrap();
    let completions = target.device.completion_queue(16, Some(Arc::clone(&channel))).unwrap();
    let queue = domain.shared_receive_queue(&target.domain, &completions, 4).unwrap();
    queue.post_recv(target.receive_request(3, 64)).unwrap();
    completions.arm(Arm::Any);
    initiator.post(SendOperation::Send, b"wake", named(&queue)).unwrap();
    initiator.done();
    let deadline = Instant::now() + PATIENCE;
    while channel.try_event().is_none() {
        assert!(Instant::now() < deadline, "nobody was woken");
        std::thread::yield_now();
    }
    let mut out = Vec::new();
    completions.poll(&mut out, 4).unwrap();
    assert_eq!(out.iter().map(|done| done.completion.id).collect::<Vec<_>>(), [3]);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let Stage { initiator, target, domain, queues, .. } = stage([fresh(), fresh()]);
    let options = QueuePairOptions {
        shared: Some(&queues[0]),
        ..QueuePairOptions::new(Transport::Rc, &target.queue, 1)
    };
    assert!(matches!(target.domain.queue_pair(options), Err(DeviceError::XrcQueue)));
    let foreign = domain.shared_receive_queue(&initiator.domain, &target.queue, 1);
    assert!(matches!(foreign, Err(DeviceError::OtherDevice)));
    assert!(matches!(domain.open_target(Qpn::truncate(2)), Err(DeviceError::NoSuchTarget(_))));
    let plain = target.domain.shared_receive_queue(1).unwrap();
    assert_eq!(plain.srqn(), None);
    assert_eq!(initiator.post(SendOperation::Send, b"", None), Err(PostError::Destination));
    let send = target.request(SendOperation::Send, 0, Some(Recipient::SharedReceiveQueue(Srqn::truncate(1))));
    assert_eq!(target.queue_pair.post_send(send), Err(PostError::Operation));
}
