use core::num::NonZeroU8;
use core::ops::Range;
use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use socket2::{Domain, Protocol, Type};

use super::super::bind::BUFFER;
use super::super::testing::{fresh_loopback, in_namespace, loopbacks, receive, socket_at};
use super::super::tx::put_icrc;
use super::*;

#[test]
fn a_port_in_use_is_named_with_what_may_have_it() {
    for address in loopbacks() {
        let first = socket_at(address);
        let error = Socket::bind(first.local_addr()).unwrap_err();
        assert!(matches!(error, BindError::InUse(taken) if taken == first.local_addr()), "{error}");
        let text = error.to_string();
        assert!(text.contains(&first.local_addr().to_string()) && text.contains("rdma_rxe"), "{text}");
        let wildcard =
            UdpSocket::bind((if address.is_ipv4() { "0.0.0.0" } else { "::" }, first.local_addr().port()));
        assert!(wildcard.is_err(), "nobody may take the port behind our back");
    }
}

#[test]
fn the_first_process_of_an_address_gets_4791_and_the_next_another_port() {
    let address = fresh_loopback();
    let first = Socket::bind_preferred(address).unwrap();
    assert_eq!(first.local_addr(), SocketAddr::new(address, 4791));
    let second = Socket::bind_preferred(address).unwrap();
    assert_eq!(second.local_addr().ip(), address);
    assert!(![0, 4791].contains(&second.local_addr().port()));
    drop(first);
    assert_eq!(Socket::bind_preferred(address).unwrap().local_addr().port(), 4791);
}

#[test]
fn only_an_address_of_this_host_can_be_bound() {
    for any in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
        let error = Socket::bind_preferred(any.parse().unwrap()).unwrap_err();
        assert!(matches!(error, BindError::NotUnicast(_)), "{error}");
    }
    for foreign in ["203.0.113.77", "2001:db8::77"] {
        let error = Socket::bind_preferred(foreign.parse().unwrap()).unwrap_err();
        assert!(matches!(error, BindError::NotLocal(_)), "{error}");
    }
}

#[test]
fn buffers_are_as_large_as_the_system_lets() {
    let plain = UdpSocket::bind((fresh_loopback(), 0)).unwrap();
    sockopt::set_socket_send_buffer_size(&plain, BUFFER).unwrap();
    sockopt::set_socket_recv_buffer_size(&plain, BUFFER).unwrap();
    let (send, receive) = socket_at(fresh_loopback()).buffer_sizes().unwrap();
    assert!(send >= sockopt::socket_send_buffer_size(&plain).unwrap());
    assert!(receive >= sockopt::socket_recv_buffer_size(&plain).unwrap());
}

/// rxe sends no UDP checksums over IPv6.
#[test]
fn ipv6_datagrams_without_checksum_are_received() {
    let address = "::1".parse().unwrap();
    let (ours, plain) = (socket_at(address), UdpSocket::bind((address, 0)).unwrap());
    let sender = UdpSocket::bind((address, 0)).unwrap();
    SocketOption::NO_CHECK6_TX.set(&sender, true).unwrap();
    sender.send_to(b"no checksum", ours.local_addr()).unwrap();
    assert_eq!(receive(&ours, 1), [(0, b"no checksum".to_vec())]);

    sender.send_to(b"no checksum", plain.local_addr().unwrap()).unwrap();
    plain.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(plain.recv(&mut [0; 16]).is_err(), "an ordinary socket drops it: so it really had none");
}

/// The two have different pseudo headers in the ICRC: a socket must be one or the other.
#[test]
fn ipv4_and_ipv6_do_not_mix() {
    let v6 = Socket::bind("[::1]:0".parse().unwrap()).unwrap();
    assert!(sockopt::ipv6_v6only(&v6).unwrap());
    let mapped = Socket::bind("[::ffff:127.0.0.1]:0".parse().unwrap()).unwrap();
    assert_eq!(mapped.local_addr().ip(), IpAddr::from([127, 0, 0, 1]));
}

/// The IPv4 header fields that the ICRC covers and a UDP socket doesn't choose, as they are on the wire.
#[derive(Debug, PartialEq, Eq)]
struct OnTheWire {
    id: u16,
    dont_fragment: bool,
    fragment: bool,
}

/// Captures IPv4 UDP packets to `port` until all of `numbers` were seen, which are their first two payload bytes.
fn capture(packets: &mut socket2::Socket, port: u16, numbers: Range<u16>) -> BTreeMap<u16, OnTheWire> {
    const ETHERNET: usize = 14;
    let mut seen = BTreeMap::new();
    let mut frame = vec![0; 1 << 17];
    while seen.len() < numbers.len() {
        let len = packets.read(&mut frame).expect("all packets within the timeout");
        let ip = &frame[ETHERNET..len];
        let word = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
        if ip[0] != 0x45 || ip[9] != 17 || word(22) != port || !numbers.contains(&word(28)) {
            continue;
        }
        assert_eq!(usize::from(word(2)), ip.len(), "the capture sees single datagrams, not runs");
        let fields =
            OnTheWire { id: word(4), dont_fragment: word(6) & 0x4000 != 0, fragment: word(6) & 0x3fff != 0 };
        // Loopback shows each packet twice, leaving and arriving.
        if let Some(before) = seen.get(&word(28)) {
            assert_eq!(*before, fields);
        }
        seen.insert(word(28), fields);
    }
    seen
}

/// What every ICRC over IPv4 depends on.
#[test]
fn on_the_wire_df_is_set_and_the_identification_is_the_place_in_the_system_call() {
    // lo hands runs over whole; with one segment at most the kernel segments them itself, as it does before a
    // network card that can't.
    if !in_namespace(
        concat!(
            module_path!(),
            "::on_the_wire_df_is_set_and_the_identification_is_the_place_in_the_system_call"
        ),
        &["ip"],
        "ip link set lo gso_max_segs 1",
    ) {
        return;
    }
    let all = i32::from(u16::try_from(libc::ETH_P_ALL).unwrap().to_be());
    let mut packets = socket2::Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(all))).unwrap();
    packets.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (a, b) = (socket_at("127.0.0.1".parse().unwrap()), socket_at("127.0.0.1".parse().unwrap()));
    let to = b.local_addr();
    let mut batch = TxBatch::new();

    let mut next = 0_u16;
    let mut send = |lengths: &[usize]| {
        let first = next;
        let mut sealed_for = BTreeMap::new();
        let mut seal = |packet: &[u8], id| {
            sealed_for.insert([packet[0], packet[1]], id);
            0
        };
        for (&len, number) in lengths.iter().zip(first..) {
            next = number + 1;
            batch.reserve()[..2].copy_from_slice(&number.to_be_bytes());
            batch.commit(len, to, &mut seal);
        }
        a.send(&mut batch, &mut |datagram, _, id| put_icrc(datagram, |packet| seal(packet, id)));
        let sealed_for: Vec<_> = sealed_for.into_values().collect();
        let wire = capture(&mut packets, to.port(), first..next);
        assert!(wire.values().all(|fields| fields.dont_fragment && !fields.fragment), "{wire:?}");
        let ids: Vec<_> = wire.values().map(|fields| fields.id).collect();
        assert_eq!(ids, sealed_for, "what the ICRC was computed for is what was sent");
        ids
    };

    for _ in 0..3 {
        assert_eq!(send(&[100]), [0], "a single datagram");
    }
    for _ in 0..3 {
        assert_eq!(send(&[1000; 64]), (0..64).collect::<Vec<_>>(), "each system call begins at 0");
    }
    assert_eq!(send(&[4124, 4108, 4108, 4108, 60]), [0, 1, 0, 1, 2]);
    a.set_gso(false);
    for _ in 0..2 {
        assert_eq!(send(&[1000; 20]), [0; 20]);
    }
}

#[test]
fn what_the_ip_header_says_is_chosen_with_each_run() {
    for address in loopbacks() {
        let (ours, receiver) = (socket_at(address), UdpSocket::bind((address, 0)).unwrap());
        let options = match address {
            IpAddr::V4(_) => [SocketOption::RECV_TOS, SocketOption::RECV_TTL],
            IpAddr::V6(_) => [SocketOption::RECV_TCLASS6, SocketOption::RECV_HOP_LIMIT6],
        };
        options.iter().for_each(|option| option.set(&receiver, true).unwrap());
        receiver.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut batch = TxBatch::new();
        let hop_limit = NonZeroU8::new(9);
        for marking in [Marking::default(), Marking { traffic_class: 0xb8, hop_limit }] {
            batch.mark(marking);
            // A run of two, and one that is alone.
            for len in [8, 8, 20] {
                batch.commit(len, receiver.local_addr().unwrap(), |_, _| 0);
            }
        }
        ours.send(&mut batch, &mut |_, _, _| ());
        let mut seen: Vec<_> = (0..6).map(|_| sys::receive_marks(&receiver).unwrap()).collect();
        seen.iter_mut().for_each(|marks| marks.sort_unstable());
        assert_eq!(seen[..3], [[0, 64], [0, 64], [0, 64]], "{address}");
        assert_eq!(seen[3..], [[9, 0xb8], [9, 0xb8], [9, 0xb8]], "{address}");
    }
}
