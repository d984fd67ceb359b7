//! Multicast groups: what is sent there reaches every queue pair that is attached, on whichever device.

use super::end::{End, GRH, QKEY, device, fresh};
use rocev2::Qpn;
use rocev2::wire::Transport;
use rocev2::work::{Datagram, Recipient, SendOperation};
use rocev2_device::{ATTRIBUTES, AddressHandle, DeviceError, Gid, PathAttributes};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const TEXT: &[u8] = b"to whom it may concern";

/// A group that no other test of this process uses, nor another process's. (The loopback interface has no route for
/// IPv6 groups; a unit test uses those, in a network namespace.)
fn group() -> Gid {
    let IpAddr::V4(unique) = fresh() else { panic!("loopback addresses are IPv4") };
    let [_, a, b, c] = unique.octets();
    Gid::from(Ipv4Addr::new(239, a, b, c).to_ipv6_mapped().octets())
}

/// Two ready ends on each of two devices, at these addresses.
fn ends(addresses: [IpAddr; 2]) -> [[End; 2]; 2] {
    addresses.map(|address| {
        let device = device(address);
        let ends = [(); 2].map(|()| End::with(Transport::Ud, &device, address, None));
        ends.iter().for_each(|end| end.connect(end));
        ends
    })
}

fn handle(end: &End, group: Gid) -> AddressHandle {
    end.domain.address_handle(PathAttributes::new(end.gid_index, group)).unwrap()
}

fn to(handle: &AddressHandle, remote_qkey: u32) -> Option<Recipient> {
    Some(Recipient::Datagram(Datagram { address: handle.id(), remote_qpn: Qpn::MULTICAST, remote_qkey }))
}

#[test]
fn every_attached_queue_pair_gets_what_is_sent_with_its_queue_key() {
    let group = group();
    let [[sender, near], [far, other]] = ends([fresh(), fresh()]);
    let attached = [&sender, &near, &far];
    for end in attached {
        end.queue_pair.attach_multicast(end.gid_index, group).unwrap();
        end.post_recv(GRH + 64);
    }
    other.post_recv(GRH + 64);
    let handle = handle(&sender, group);
    sender.post(SendOperation::SendImmediate(5), TEXT, to(&handle, QKEY)).unwrap();
    sender.done();
    for end in attached {
        let got = end.done();
        assert_eq!((got.len as usize, got.immediate), (GRH + TEXT.len(), Some(5)));
        assert_eq!(got.source_qp, Some(sender.queue_pair.qpn()));
        let bytes = end.received(GRH + TEXT.len());
        assert_eq!(&bytes[GRH..], TEXT);
        // The header says to which group it was sent.
        assert_eq!(bytes[36..40], group.to_bytes()[12..]);
        end.post_recv(GRH + 64);
    }
    let refused = far.count("queue_key");
    sender.post(SendOperation::Send, TEXT, to(&handle, QKEY + 1)).unwrap();
    sender.done();
    far.wait_for("queue_key", refused + 1);
    assert!(far.poll().is_none() && other.poll().is_none());
}

#[test]
fn who_is_detached_or_dropped_gets_no_more_and_the_others_go_on() {
    let group = group();
    let [[sender, dropped], [kept, detached]] = ends([fresh(), fresh()]);
    for end in [&dropped, &kept, &detached] {
        end.queue_pair.attach_multicast(end.gid_index, group).unwrap();
        // Once more changes nothing.
        end.queue_pair.attach_multicast(end.gid_index, group).unwrap();
        (0..2).for_each(|_| end.post_recv(GRH + 64));
    }
    detached.queue_pair.detach_multicast(detached.gid_index, group).unwrap();
    let again = detached.queue_pair.detach_multicast(detached.gid_index, group);
    assert!(matches!(again, Err(DeviceError::NotAttached(_))));
    drop(dropped);
    let handle = handle(&sender, group);
    for _ in 0..2 {
        sender.post(SendOperation::Send, TEXT, to(&handle, QKEY)).unwrap();
        sender.done();
        kept.done();
    }
    assert!(detached.poll().is_none());
    // The group is left with its last member, and may be joined again.
    kept.queue_pair.detach_multicast(kept.gid_index, group).unwrap();
    let before = kept.count("datagrams_received");
    sender.post(SendOperation::Send, TEXT, to(&handle, QKEY)).unwrap();
    sender.done();
    kept.queue_pair.attach_multicast(kept.gid_index, group).unwrap();
    kept.post_recv(GRH + 64);
    sender.post(SendOperation::SendImmediate(3), TEXT, to(&handle, QKEY)).unwrap();
    sender.done();
    assert_eq!(kept.done().immediate, Some(3), "what was sent meanwhile was sent to nobody");
    // The counters of the links that were closed went with them.
    assert!(kept.count("datagrams_received") <= before + 1);
}

#[test]
#[cfg_attr(feature = "portable", ignore = "plain sockets can't tell how full a receiver is")]
fn many_datagrams_on_loopback_wait_for_a_receiver_as_others_do() {
    let group = group();
    let [[sender, _], [receiver, _]] = ends([fresh(), fresh()]);
    receiver.queue_pair.attach_multicast(receiver.gid_index, group).unwrap();
    let handle = handle(&sender, group);
    const MANY: usize = 1500;
    (0..MANY).for_each(|_| receiver.post_recv(GRH + 1024));
    let request = || sender.request(SendOperation::Send, 1024, to(&handle, QKEY));
    sender.queue_pair.post_send_list((0..MANY).map(|_| request())).unwrap();
    receiver.all_done(MANY);
}

#[test]
fn what_cannot_be_is_refused() {
    let [[end, _], [connected, _]] = [fresh(), fresh()].map(|address| {
        let device = device(address);
        [Transport::Ud, Transport::Rc].map(|transport| End::with(transport, &device, address, None))
    });
    let attach = |group| end.queue_pair.attach_multicast(end.gid_index, group);
    let v4 = group();
    let host = Gid::from(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets());
    assert!(matches!(attach(host), Err(DeviceError::NoGroup(_))));
    let v6 = Gid::from(Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 9).octets());
    assert!(matches!(attach(v6), Err(DeviceError::Family { .. })));
    let handle = end.domain.address_handle(PathAttributes::new(end.gid_index, v6));
    assert!(matches!(handle, Err(DeviceError::Family { .. })));
    let reliable = End::with(Transport::Rc, &connected.device, fresh_of(&connected), None);
    let refused = reliable.queue_pair.attach_multicast(reliable.gid_index, v4);
    assert!(matches!(refused, Err(DeviceError::MulticastType)));
    for number in 0..ATTRIBUTES.max_mcast_grp {
        let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
        let address = Ipv4Addr::new(239, 255, high, low);
        attach(Gid::from(address.to_ipv6_mapped().octets())).unwrap();
    }
    assert!(matches!(attach(v4), Err(DeviceError::Limit { .. })));
    let device = Arc::downgrade(&end.device);
    drop(end);
    assert!(device.upgrade().is_none());
}

/// The only address of an end's device.
fn fresh_of(end: &End) -> IpAddr {
    end.device.gids()[end.gid_index].address
}
