//! Unreliable connections, and what all transports let change.

use super::end::{End, MEMORY, device, fresh};
use super::pairs;
use rocev2::Psn;
use rocev2::wire::Transport;
use rocev2::work::{
    AttributeMask, Attributes, CompletionKind, ModifyError, PeerRights, PostError, SendOperation, State,
    Status,
};
use rocev2_device::{DeviceError, Gid, PathAttributes};
use std::net::{Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

/// Many packets of 1024 bytes.
fn long() -> Vec<u8> {
    (0..100_000_u32).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect()
}

#[test]
fn an_unreliable_connection_sends_and_writes_and_asks_for_nothing() {
    for [a, b] in pairs(Transport::Uc) {
        let bytes = long();
        b.post_recv(bytes.len());
        a.post(SendOperation::SendImmediate(7), &bytes, None).unwrap();
        let sent = a.done();
        assert_eq!(sent.kind, CompletionKind::Send);
        let got = b.done();
        assert_eq!((got.kind, got.len, got.immediate), (CompletionKind::Recv, 100_000, Some(7)));
        assert!(b.received(bytes.len()) == bytes);

        let target = b.target(4096);
        b.post_recv(0);
        a.post(SendOperation::WriteImmediate(target, 9), &bytes, None).unwrap();
        a.done();
        let got = b.done();
        assert_eq!((got.kind, got.immediate), (CompletionKind::RecvWriteImmediate, Some(9)));
        assert!(b.bytes(4096, bytes.len()) == bytes);
        assert_eq!(b.count("datagrams_sent"), 0, "nothing is acknowledged");

        let read = a.post(SendOperation::Read(target), &bytes, None);
        assert_eq!(read, Err(PostError::Operation));
    }
}

#[test]
fn what_the_receiver_has_no_request_for_is_lost_and_the_next_message_is_whole() {
    let [[a, b], _] = pairs(Transport::Uc);
    a.post(SendOperation::Send, &long(), None).unwrap();
    a.done();
    b.wait_for("receiver_not_ready", 1);
    b.post_recv(MEMORY / 2);
    a.post(SendOperation::Send, b"the next", None).unwrap();
    a.done();
    assert_eq!(b.done().len, 8);
    assert_eq!(b.received(8), b"the next");
}

/// Much more than the socket holds, which isn't read before all of it has been posted, by several queue pairs that have
/// each seen an empty buffer.
#[test]
#[cfg_attr(feature = "portable", ignore = "any system tells nothing of another socket's buffer")]
fn nothing_that_is_sent_to_a_slow_socket_of_this_host_is_lost() {
    const SENDERS: usize = 8;
    const DATAGRAMS: usize = 125;
    const LEN: u32 = 4096;
    /// Attempts until one isn't disturbed by a machine so busy that the receiver counts as stopped.
    const ATTEMPTS: usize = 20;
    /// For how long it may take nothing before it does.
    const PACED: Duration = Duration::from_secs(1);
    for address in [fresh(), Ipv6Addr::LOCALHOST.into()] {
        let device = device(address);
        let senders = [(); SENDERS].map(|()| End::with(Transport::Ud, &device, address, None));
        senders.iter().for_each(|sender| sender.connect(sender));
        let all_arrive = (0..ATTEMPTS).any(|_| {
            let slow = UdpSocket::bind((address, 0)).unwrap();
            slow.set_read_timeout(Some(5 * PACED)).unwrap();
            let handles = senders.each_ref().map(|sender| {
                let peer_port = Some(slow.local_addr().unwrap().port());
                sender.domain.address_handle(PathAttributes { peer_port, ..sender.path(sender) }).unwrap()
            });
            let begin = Instant::now();
            for count in [1, DATAGRAMS - 1] {
                for (sender, handle) in senders.iter().zip(&handles) {
                    let request = || sender.request(SendOperation::Send, LEN, sender.to(handle, 0));
                    sender.queue_pair.post_send_list((0..count).map(|_| request())).unwrap();
                }
            }
            let waits = senders.iter().any(|sender| sender.queue_pair.query().send_outstanding > 0);
            let mut took = begin.elapsed();
            let mut left = SENDERS * DATAGRAMS;
            while left > 0
                && let Ok(len) = slow.recv(&mut [0; 8192])
            {
                assert!(len > LEN as usize);
                left -= 1;
                took = begin.elapsed();
            }
            senders.iter().for_each(|sender| sender.all_done(DATAGRAMS));
            let undisturbed = waits && left == 0;
            assert!(undisturbed || took >= PACED, "{left} are lost, some wait for room: {waits}");
            undisturbed
        });
        assert!(all_arrive, "in none of {ATTEMPTS} attempts");
    }
}

#[test]
fn a_receiver_on_this_host_that_is_stopped_holds_no_sender_up_for_ever() {
    let [a, b] = [(); 2].map(|()| End::new(Transport::Ud, fresh()));
    a.connect(&b);
    let stopped = UdpSocket::bind((fresh(), rocev2::UDP_PORT)).unwrap();
    let peer_gid = Gid::for_endpoint(stopped.local_addr().unwrap());
    let stuck = a.domain.address_handle(PathAttributes::new(a.gid_index, peer_gid)).unwrap();
    let request = || a.request(SendOperation::Send, 4096, b.to(&stuck, 0));
    a.queue_pair.post_send_list((0..100).map(|_| request())).unwrap();
    a.all_done(100);
}

#[test]
fn attributes_are_checked_against_each_transports_table() {
    for transport in [Transport::Rc, Transport::Uc, Transport::Ud] {
        let end = End::new(transport, fresh());
        let init = Attributes { state: Some(State::Init), port: Some(1), ..Attributes::default() };
        let missing =
            if transport == Transport::Ud { AttributeMask::QKEY } else { AttributeMask::ACCESS_FLAGS };
        let refused = end.queue_pair.set_attributes(init, None);
        assert!(
            matches!(refused, Err(DeviceError::Modify(ModifyError::Missing { missing: it, .. }))
                if it == missing | AttributeMask::PKEY_INDEX),
            "{refused:?}"
        );
        let port = Attributes { port: Some(2), ..init };
        assert!(matches!(end.queue_pair.set_attributes(port, None), Err(DeviceError::Port(2))));
        let partition = Attributes { pkey_index: Some(1), ..init };
        let refused = end.queue_pair.set_attributes(partition, None);
        assert!(matches!(refused, Err(DeviceError::PartitionKey(1))));
        assert_eq!(end.queue_pair.query().state, State::Reset);
    }
    let end = End::new(Transport::Ud, fresh());
    end.connect(&end);
    let refused = end.queue_pair.set_attributes(Attributes::default(), Some(end.path(&end)));
    assert!(matches!(refused, Err(DeviceError::Modify(ModifyError::NotAllowed { .. }))), "{refused:?}");
}

#[test]
fn rights_and_the_path_change_while_a_connection_lives() {
    let [[a, b], _] = pairs(Transport::Rc);
    let target = b.target(0);
    let rights = |write| Attributes {
        rights: Some(PeerRights { write, ..PeerRights::default() }),
        ..Attributes::default()
    };
    b.set(rights(true), None);
    a.post(SendOperation::Write(target), b"allowed", None).unwrap();
    a.done();
    let state = |state| Attributes { state: Some(state), ..Attributes::default() };
    a.set(state(State::SendQueueDrain), None);
    a.set(Attributes { timeout: Some(15), ..Attributes::default() }, Some(a.path(&b)));
    assert_eq!(a.queue_pair.query().attributes.timeout, Some(15));
    a.set(state(State::ReadyToSend), None);
    b.set(rights(false), None);
    a.post(SendOperation::Write(target), b"refused", None).unwrap();
    assert_eq!(a.next().status, Status::RemoteInvalidRequest);
    assert_eq!(b.bytes(0, 7), b"allowed");
}

#[test]
fn a_queue_pair_is_used_again_after_reset_as_another_peers() {
    let [[a, b], _] = pairs(Transport::Uc);
    let c = End::new(Transport::Uc, fresh());
    a.set(Attributes { state: Some(State::Reset), ..Attributes::default() }, None);
    a.connect(&c);
    c.connect(&a);
    c.post_recv(64);
    a.post(SendOperation::Send, b"anew", None).unwrap();
    a.done();
    assert_eq!(c.done().len, 4);
    assert_eq!(a.queue_pair.query().attributes.sq_psn, Some(Psn::truncate(0xff_fff0)));
    drop(b);
}

#[test]
fn a_completion_queue_is_resized_but_never_below_what_it_holds() {
    let [[a, _b], _] = pairs(Transport::Uc);
    // They complete as they leave.
    (0..3).for_each(|_| a.post(SendOperation::Send, b"", None).unwrap());
    let refused = a.queue.resize(2);
    assert!(matches!(refused, Err(DeviceError::Holds { capacity: 2, outstanding: 3 })), "{refused:?}");
    a.queue.resize(3).unwrap();
    assert_eq!(a.queue.capacity(), 3);
    a.all_done(3);
    a.queue.resize(1).unwrap();
    assert!(matches!(a.queue.resize(usize::MAX), Err(DeviceError::Limit { .. })));
}
