//! Shared receive queues.

use super::end::{End, GRH, PATIENCE, QKEY, device, fresh};
use rocev2::wire::Transport;
use rocev2::work::{AsyncEvent, Attributes, CompletionKind, PostError, SendOperation, State};
use rocev2_device::{Device, DeviceError, DeviceEvent, SharedReceiveQueue};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// A queue at `address`, two ends that share it, and a peer for each.
fn stage(transport: Transport) -> (SharedReceiveQueue, [End; 2], [End; 2]) {
    let address = fresh();
    let device = device(address);
    let shared = device.protection_domain().shared_receive_queue(8).unwrap();
    let ends = [(); 2].map(|()| sharing(transport, &device, address, &shared));
    let peers = [(); 2].map(|()| End::new(transport, fresh()));
    for (end, peer) in ends.iter().zip(&peers) {
        end.connect(peer);
        peer.connect(end);
    }
    (shared, ends, peers)
}

fn sharing(transport: Transport, device: &Arc<Device>, address: IpAddr, shared: &SharedReceiveQueue) -> End {
    End::with(transport, device, address, Some(shared))
}

fn send(from: &End, to: &End, bytes: &[u8]) {
    let handle = from.handle(to);
    let datagram = from.queue_pair.transport() == Transport::Ud;
    let destination = if datagram { to.to(&handle, QKEY) } else { None };
    from.post(SendOperation::Send, bytes, destination).unwrap();
    from.done();
}

fn event(device: &Device) -> DeviceEvent {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(event) = device.try_event() {
            return event;
        }
        assert!(Instant::now() < deadline, "no event");
    }
}

#[test]
fn queue_pairs_of_each_transport_take_their_requests_from_it_in_order() {
    for transport in [Transport::Rc, Transport::Uc, Transport::Ud] {
        let (shared, ends, peers) = stage(transport);
        for id in 0..8 {
            shared.post_recv(ends[0].receive_request(id, GRH + 64)).unwrap();
        }
        assert_eq!(shared.post_recv(ends[0].receive_request(8, 64)), Err(PostError::QueueFull(8)));
        for id in 0..8 {
            let at = usize::from(id % 3 == 0);
            send(&peers[at], &ends[at], b"message");
            let got = ends[at].done();
            assert_eq!((got.id, got.kind), (id, CompletionKind::Recv));
        }
        let own = ends[0].queue_pair.post_recv(ends[0].receive_request(9, 64));
        assert_eq!(own, Err(PostError::SharedReceiveQueue));
    }
}

#[test]
fn its_limit_is_told_once_and_may_be_set_again() {
    let (shared, ends, peers) = stage(Transport::Uc);
    let post = || shared.post_recv(ends[0].receive_request(0, 64)).unwrap();
    (0..4).for_each(|_| post());
    assert!(matches!(shared.set_limit(9), Err(DeviceError::Limit { limit: 8, .. })));
    for _ in 0..2 {
        shared.set_limit(3).unwrap();
        assert_eq!(shared.limit(), 3);
        send(&peers[0], &ends[0], b"");
        ends[0].done();
        assert!(!matches!(ends[0].device.try_event(), Some(DeviceEvent::SharedReceiveQueueLimit(_))));
        send(&peers[1], &ends[1], b"");
        ends[1].done();
        let told = std::iter::repeat_with(|| event(&ends[0].device))
            .find(|event| matches!(event, DeviceEvent::SharedReceiveQueueLimit(_)));
        assert_eq!(told, Some(DeviceEvent::SharedReceiveQueueLimit(shared.number())));
        assert_eq!(shared.limit(), 0);
        (0..2).for_each(|_| post());
    }
}

#[test]
fn it_is_resized_but_never_below_what_is_outstanding() {
    let (shared, ends, _) = stage(Transport::Uc);
    (0..4).for_each(|id| shared.post_recv(ends[0].receive_request(id, 64)).unwrap());
    let refused = shared.resize(3);
    assert!(matches!(refused, Err(DeviceError::Holds { capacity: 3, outstanding: 4 })), "{refused:?}");
    shared.resize(4).unwrap();
    assert_eq!(shared.post_recv(ends[0].receive_request(4, 64)), Err(PostError::QueueFull(4)));
    shared.resize(5).unwrap();
    assert_eq!(shared.capacity(), 5);
    shared.post_recv(ends[0].receive_request(4, 64)).unwrap();
}

/// It takes no more requests from the queue, flushes none of them, and says so; the other goes on.
#[test]
fn a_queue_pair_that_fails_leaves_it_to_the_others() {
    for transport in [Transport::Rc, Transport::Uc, Transport::Ud] {
        let (shared, ends, peers) = stage(transport);
        (0..2).for_each(|id| shared.post_recv(ends[0].receive_request(id, GRH + 64)).unwrap());
        ends[0].set(Attributes { state: Some(State::Error), ..Attributes::default() }, None);
        let last = DeviceEvent::QueuePair(ends[0].queue_pair.qpn(), AsyncEvent::LastWorkRequestReached);
        assert!(std::iter::repeat_with(|| event(&ends[0].device)).any(|event| event == last));
        for id in 0..2 {
            send(&peers[1], &ends[1], b"message");
            assert_eq!(ends[1].done().id, id);
        }
        assert!(ends[0].poll().is_none());
    }
}

#[test]
fn a_queue_of_another_device_is_refused() {
    let foreign = device(fresh()).protection_domain().shared_receive_queue(1).unwrap();
    let own = device(fresh());
    let queue = own.completion_queue(1, None).unwrap();
    let options = rocev2_device::QueuePairOptions {
        shared: Some(&foreign),
        ..rocev2_device::QueuePairOptions::new(Transport::Rc, &queue, 1)
    };
    assert!(matches!(own.protection_domain().queue_pair(options), Err(DeviceError::OtherDevice)));
    let most = rocev2_device::ATTRIBUTES.max_srq_wr;
    let refused = own.protection_domain().shared_receive_queue(most + 1);
    assert!(matches!(refused, Err(DeviceError::Limit { .. })));
}
