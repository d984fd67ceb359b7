//! Datagrams: address handles, queue keys, and the header before each.

use super::end::{End, GRH, QKEY, device, fresh};
use super::pairs;
use rocev2::wire::Transport;
use rocev2::work::{CompletionKind, Datagram, PostError, Recipient, SendOperation, State};
use rocev2::{Mtu, Qpn};
#[cfg(target_os = "linux")]
use rocev2_device::host::group::{Share, bind_group};
use rocev2_device::link::Marking;
use rocev2_device::{Config, Device, DeviceError, Gid, PathAttributes};
use std::net::IpAddr;
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Room for a short datagram.
const SLOT: usize = 128;

#[test]
fn a_datagram_brings_its_sender_and_the_header_that_it_came_with() {
    for [a, b] in pairs(Transport::Ud) {
        let handle = a.handle(&b);
        b.post_recv(GRH + 100);
        a.post(SendOperation::SendImmediate(5), b"datagram", b.to(&handle, QKEY)).unwrap();
        assert_eq!(a.done().kind, CompletionKind::Send);
        let got = b.done();
        assert_eq!((got.len, got.immediate, got.grh), (48, Some(5), true));
        assert_eq!(got.source_qp, Some(a.queue_pair.qpn()));
        let bytes = b.received(48);
        assert_eq!(&bytes[GRH..], b"datagram");
        let addresses = [&a, &b].map(|end| end.device.gids()[end.gid_index].address);
        match addresses {
            [IpAddr::V4(from), IpAddr::V4(to)] => {
                assert_eq!(bytes[20], 0x45);
                assert_eq!((&bytes[32..36], &bytes[36..40]), (&from.octets()[..], &to.octets()[..]));
            }
            [IpAddr::V6(from), IpAddr::V6(to)] => {
                assert_eq!(bytes[0] >> 4, 6);
                assert_eq!((&bytes[8..24], &bytes[24..40]), (&from.octets()[..], &to.octets()[..]));
            }
            mixed => panic!("{mixed:?}"),
        }
    }
}

#[test]
fn a_device_sends_datagrams_to_itself() {
    let address = fresh();
    let device = device(address);
    let [a, b] = [(); 2].map(|()| End::with(Transport::Ud, &device, address, None));
    a.connect(&b);
    b.connect(&a);
    let handle = a.handle(&b);
    for to in [&a, &b] {
        to.post_recv(GRH + 3);
        a.post(SendOperation::Send, b"own", to.to(&handle, QKEY)).unwrap();
        a.done();
        assert_eq!(to.done().len, 43);
    }
}

#[test]
fn another_queue_key_is_dropped_and_counted() {
    let [[a, b], _] = pairs(Transport::Ud);
    let handle = a.handle(&b);
    b.post_recv(GRH + 100);
    for qkey in [QKEY ^ 1, QKEY, 0x8000_0000 | 77] {
        a.post(SendOperation::Send, b"key", b.to(&handle, qkey)).unwrap();
        a.done();
    }
    b.wait_for("queue_key", 1);
    assert_eq!(b.done().len, 43);
    // The controlled key stood for the sender's own, which is right here: there was no request for that one.
    b.wait_for("receiver_not_ready", 1);
    assert_eq!(b.count("queue_key"), 1);
}

#[test]
fn a_datagram_is_a_send_of_one_packet_by_a_handle_of_its_own_domain() {
    let [[a, b], _] = pairs(Transport::Ud);
    let handle = a.handle(&b);
    let to = b.to(&handle, QKEY);
    let mtu = Mtu::B4096.bytes();
    let long = a.queue_pair.post_send(a.request(SendOperation::Send, mtu + 1, to));
    assert_eq!(long, Err(PostError::Datagram { len: mtu + 1, mtu }));
    assert_eq!(a.post(SendOperation::Send, b"", None), Err(PostError::Destination));
    assert_eq!(a.post(SendOperation::Write(b.target(0)), b"", to), Err(PostError::Operation));
    let foreign = b.handle(&a);
    let other = a.device.protection_domain().address_handle(a.path(&b)).unwrap();
    for foreign in [foreign, other] {
        assert_eq!(a.post(SendOperation::Send, b"", b.to(&foreign, QKEY)), Err(PostError::Destination));
    }
    let [[connected, _], _] = pairs(Transport::Rc);
    let handle = connected.handle(&connected);
    let to = b.to(&handle, QKEY);
    assert_eq!(connected.post(SendOperation::Send, b"", to), Err(PostError::Destination));
}

#[test]
fn a_handle_that_is_gone_is_no_destination() {
    let [[a, b], _] = pairs(Transport::Ud);
    let handle = a.handle(&b);
    let to = b.to(&handle, QKEY);
    drop(handle);
    assert_eq!(a.post(SendOperation::Send, b"", to), Err(PostError::Destination));
    assert_eq!(a.queue_pair.query().state, State::ReadyToSend);
}

#[test]
fn a_handle_needs_a_path() {
    let [[a, _b], [c, _d]] = pairs(Transport::Ud);
    let handle = |path| a.domain.address_handle(path);
    let other_family = PathAttributes { gid_index: a.gid_index, ..c.path(&c) };
    assert!(matches!(handle(other_family), Err(DeviceError::Family { .. })));
    let nowhere = PathAttributes::new(a.gid_index, Gid::from([0; 16]));
    assert!(matches!(handle(nowhere), Err(DeviceError::Gid(_))));
    let no_entry = PathAttributes { gid_index: 99, ..a.path(&a) };
    assert!(matches!(handle(no_entry), Err(DeviceError::GidIndex { index: 99, .. })));
}

/// One queue pair sends from each of its device's addresses, and to each peer, in the order of its requests.
#[test]
fn a_datagram_leaves_from_the_address_that_its_handle_names() {
    let own = Arc::new(Device::open(Config::default()).unwrap());
    let [first, second] = [fresh(), fresh()];
    let sender = End::with(Transport::Ud, &own, first, None);
    let own_addresses = [first, second].map(|address| own.gid_index(address).unwrap());
    let receivers = [(); 2].map(|()| End::new(Transport::Ud, fresh()));
    sender.connect(&sender);
    for receiver in &receivers {
        receiver.connect(&sender);
        (0..100).for_each(|id| receiver.post_recv_at(id as u64, id * SLOT, GRH + 64));
    }
    let handles = own_addresses.map(|gid_index| {
        let path = |to| PathAttributes { gid_index, ..sender.path(to) };
        receivers.each_ref().map(|to| sender.domain.address_handle(path(to)).unwrap())
    });
    let ways = || (0..2).flat_map(|from| (0..2).map(move |to| (from, to)));
    let requests = (0..25).flat_map(|_| ways()).map(|(from, to)| {
        sender.request(SendOperation::Send, 64, receivers[to].to(&handles[from][to], QKEY))
    });
    sender.queue_pair.post_send_list(requests).unwrap();
    sender.all_done(100);
    for receiver in &receivers {
        let mut from = [0; 2];
        for _ in 0..50 {
            let id = usize::try_from(receiver.done().id).unwrap();
            let source = receiver.received_at(id * SLOT, GRH)[32..36].to_vec();
            let [first, second] = [first, second].map(octets);
            assert!([&first, &second].contains(&&source), "{source:?}");
            from[usize::from(source == second)] += 1;
        }
        assert_eq!(from, [25, 25]);
        assert!(receiver.poll().is_none());
    }
}

/// Of a run of datagrams the system looks at the first alone when it chooses a socket.
#[test]
#[cfg(target_os = "linux")]
fn datagrams_for_processes_that_share_a_port_reach_each_its_own() {
    const EACH: usize = 50;
    let address = fresh();
    let group = bind_group(address).unwrap();
    let all: Arc<[OwnedFd]> = group.iter().map(|socket| socket.try_clone().unwrap().into()).collect();
    let [sender, first, second] = [1_u8, 2, 3].map(|slot| {
        let socket = group[usize::from(slot)].try_clone().unwrap();
        let share = Share { socket, slot, group: Arc::clone(&all) };
        let config = Config { address: Some(address), ..Config::default() };
        End::with(Transport::Ud, &Arc::new(Device::open_shared(config, share).unwrap()), address, None)
    });
    let receivers = [first, second];
    sender.connect(&receivers[0]);
    receivers.iter().for_each(|receiver| receiver.connect(&sender));
    for receiver in &receivers {
        (0..EACH).for_each(|_| receiver.post_recv(GRH + 64));
    }
    // The way to both is the same: they have one address.
    let handle = sender.handle(&receivers[0]);
    let requests =
        (0..2 * EACH).map(|at| sender.request(SendOperation::Send, 64, receivers[at % 2].to(&handle, QKEY)));
    sender.queue_pair.post_send_list(requests).unwrap();
    sender.all_done(2 * EACH);
    receivers.iter().for_each(|receiver| receiver.all_done(EACH));
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().into(),
        IpAddr::V6(v6) => v6.octets().into(),
    }
}

#[test]
fn a_datagram_to_an_unknown_queue_pair_is_counted() {
    let [[a, b], _] = pairs(Transport::Ud);
    let handle = a.handle(&b);
    let remote_qpn = Qpn::truncate(b.queue_pair.qpn().get() ^ 1);
    let to = Some(Recipient::Datagram(Datagram { address: handle.id(), remote_qpn, remote_qkey: QKEY }));
    a.post(SendOperation::Send, b"", to).unwrap();
    a.done();
    b.wait_for("unknown_queue_pair", 1);
}

#[test]
#[cfg_attr(feature = "portable", ignore = "plain sockets don't mark what they send")]
fn marked_datagrams_arrive() {
    for [a, b] in pairs(Transport::Ud) {
        let marking = Marking { traffic_class: 0xb8, hop_limit: std::num::NonZeroU8::new(7) };
        let handle = a.domain.address_handle(PathAttributes { marking, ..a.path(&b) }).unwrap();
        (0..32).for_each(|_| b.post_recv(GRH + 1000));
        let request = || a.request(SendOperation::Send, 1000, b.to(&handle, QKEY));
        a.queue_pair.post_send_list((0..32).map(|_| request())).unwrap();
        b.all_done(32);
        assert!(a.count("gso_runs") > 0, "{:?}", a.counters());
    }
}
