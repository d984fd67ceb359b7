//! Sealed datagrams: an association for each peer, and nothing in clear.

use super::end::{End, GRH, QKEY, fresh};
use rocev2::wire::Transport;
use rocev2::work::SendOperation;
use rocev2_device::esp::replay::DEFAULT_WINDOW;
use rocev2_device::esp::{Algorithm, Inbound, Inner, Key, Outbound};
use rocev2_device::{DeviceError, Peer, Receiver, SecurityAssociation};
use std::num::NonZeroU16;

fn end() -> End {
    let end = End::new(Transport::Ud, fresh());
    end.queue_pair.seal_datagrams().unwrap();
    end.connect(&end);
    end
}

/// Whom the end is to others.
fn peer(end: &End) -> Peer {
    Peer::of(end.device.gids()[end.gid_index].address, end.queue_pair.qpn())
}

/// Keys for both directions between two ends, each one's for the peer that is named.
fn keys([a, b]: [&End; 2], [of_a, of_b]: [Peer; 2]) -> [SecurityAssociation; 2] {
    let associations = [a, b].map(|end| end.device.security_association());
    for (out, into) in [(0, 1), (1, 0)] {
        let key = || Key::new(Algorithm::Aes256Gcm, &[u8::from(out == 0); 36]).unwrap();
        let spi = associations[into].allocate_spi().unwrap();
        associations[into].install_inbound(Inbound::new(spi, key(), DEFAULT_WINDOW)).unwrap();
        let outbound = Outbound::new(spi, key(), Inner { source_port: 4791, checksum: None });
        associations[out].install_outbound(outbound, Receiver::Embedded);
    }
    associations[0].for_datagrams(of_b);
    associations[1].for_datagrams(of_a);
    associations
}

#[test]
fn a_queue_pair_has_an_association_for_each_of_its_peers() {
    let [a, b, c] = [end(), end(), end()];
    let _keys = [&b, &c].map(|other| keys([&a, other], [peer(&a), peer(other)]));
    let others = [&b, &c].map(|other| (other, a.handle(other), other.handle(&a)));
    for round in 0..40_u8 {
        for (other, there, back) in &others {
            other.post_recv(GRH + 2000);
            a.post(SendOperation::Send, &[round; 2000], other.to(there, QKEY)).unwrap();
            a.done();
            assert_eq!(other.done().len, 2040);
            assert_eq!(other.received(2040)[GRH..], [round; 2000]);
            a.post_recv(GRH + 3);
            other.post(SendOperation::Send, &[round; 3], a.to(back, QKEY)).unwrap();
            other.done();
            let got = a.done();
            assert_eq!((got.len, got.source_qp), (43, Some(other.queue_pair.qpn())));
        }
    }
    // Several in a batch, to both in turn: what one association has sealed leaves with what another has.
    let requests = (0..32).map(|at| {
        let (other, there, _) = &others[at % 2];
        a.request(SendOperation::Send, 100, other.to(there, QKEY))
    });
    others.iter().for_each(|(other, ..)| (0..16).for_each(|_| other.post_recv(GRH + 100)));
    a.queue_pair.post_send_list(requests).unwrap();
    a.all_done(32);
    others.iter().for_each(|(other, ..)| other.all_done(16));
    for end in [&a, &b, &c] {
        let refused: Vec<_> =
            end.counters().into_iter().filter(|(name, _)| name.starts_with("esp_")).collect();
        assert_eq!(refused, []);
    }
}

#[test]
fn what_has_no_keys_is_not_sent_and_what_comes_in_clear_is_not_taken() {
    let (a, b) = (end(), end());
    let clear = End::new(Transport::Ud, fresh());
    clear.connect(&clear);
    b.post_recv(GRH + 100);
    let (to_b, from_clear) = (a.handle(&b), clear.handle(&b));
    a.post(SendOperation::Send, b"nothing", b.to(&to_b, QKEY)).unwrap();
    // Datagrams that are lost have been sent.
    a.done();
    assert_eq!(a.count("esp_not_sent"), 1);
    clear.post(SendOperation::Send, b"in clear", b.to(&from_clear, QKEY)).unwrap();
    b.wait_for("esp_clear", 1);
    // Keys come, and go.
    let keys = keys([&a, &b], [peer(&a), peer(&b)]);
    a.post(SendOperation::Send, b"sealed", b.to(&to_b, QKEY)).unwrap();
    assert_eq!(b.done().len, 46);
    a.done();
    keys[0].close();
    b.post_recv(GRH + 100);
    a.post(SendOperation::Send, b"nothing", b.to(&to_b, QKEY)).unwrap();
    a.done();
    assert_eq!(a.count("esp_not_sent"), 2);
    assert!(b.poll().is_none());
}

#[test]
fn nobody_sends_datagrams_in_anothers_name() {
    let (a, b) = (end(), end());
    // The association is another device's at the same address, as far as `b` knows.
    let own = peer(&a);
    let other = Peer { slot: own.slot ^ 1, ..own };
    let _keys = keys([&a, &b], [other, peer(&b)]);
    b.post_recv(GRH + 100);
    let to_b = a.handle(&b);
    a.post(SendOperation::Send, b"forged", b.to(&to_b, QKEY)).unwrap();
    b.wait_for("esp_other_association", 1);
    assert!(b.poll().is_none());
}

#[test]
fn a_kernels_association_is_for_all_devices_at_its_address() {
    let (a, b) = (end(), end());
    // Of each the other knows another device at its address.
    let others = [&a, &b].map(peer).map(|own| Peer { slot: own.slot ^ 1, ..own });
    let keys = keys([&a, &b], others);
    let port = NonZeroU16::new(rocev2::UDP_PORT).unwrap();
    keys.iter().for_each(|association| association.for_kernel(port));
    let (to_b, to_a) = (a.handle(&b), b.handle(&a));
    for (from, to, handle) in [(&a, &b, &to_b), (&b, &a, &to_a)] {
        to.post_recv(GRH + 100);
        from.post(SendOperation::Send, b"sealed", to.to(handle, QKEY)).unwrap();
        from.done();
        assert_eq!(to.done().len, 46);
    }
    // Its end is one for all of them.
    keys[0].close();
    a.post(SendOperation::Send, b"nothing", b.to(&to_b, QKEY)).unwrap();
    a.done();
    assert_eq!(a.count("esp_not_sent"), 1);
}

#[test]
fn a_device_that_seals_only_lets_no_queue_pair_get_ready_in_clear() {
    use rocev2::work::{Attributes, State};
    let a = End::new(Transport::Ud, fresh());
    a.device.seal_only();
    let init = Attributes {
        state: Some(State::Init),
        pkey_index: Some(0),
        port: Some(1),
        qkey: Some(QKEY),
        ..Attributes::default()
    };
    a.set(init, None);
    let ready = Attributes { state: Some(State::ReadyToReceive), ..Attributes::default() };
    let refused = a.queue_pair.set_attributes(ready, None);
    assert!(matches!(refused, Err(DeviceError::NotSealed)), "{refused:?}");
    a.queue_pair.seal_datagrams().unwrap();
    a.queue_pair.set_attributes(ready, None).unwrap();
    assert!(matches!(a.queue_pair.seal_datagrams(), Err(DeviceError::SealedLate(_))));
}
