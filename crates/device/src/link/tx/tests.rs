use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::super::testing::{Received, in_namespace, loopbacks, receive, socket_at};
use super::super::{SendFailure, Sent, Socket};
use super::*;

/// Stands in for the ICRC: says which identification the packet was sealed for.
fn id_alone(_: &[u8], id: u16) -> u32 {
    id.into()
}

/// The same where it is sealed once more.
fn id_as_icrc(datagram: &mut [u8], _: SocketAddr, id: u16) {
    put_icrc(datagram, |packet| id_alone(packet, id));
}

fn commit(batch: &mut TxBatch, to: SocketAddr, len: usize, fill: u8) {
    batch.reserve()[..len].fill(fill);
    batch.commit(len, to, id_alone);
}

/// What arrives of packets of these lengths, filled with 0, 1, 2, …, together with the sealed identification.
fn expected(packets: &[(usize, u16)]) -> Vec<Received> {
    let datagram = |(&(len, id), fill): (&(usize, u16), u8)| {
        let mut bytes = vec![fill; len];
        bytes.extend(u32::from(id).to_le_bytes());
        (id, bytes)
    };
    packets.iter().zip(0..).map(datagram).collect()
}

fn count(socket: &Socket, name: &str) -> u64 {
    socket.counters().rows().into_iter().find(|row| row.0 == name).unwrap().1
}

fn pair(address: IpAddr) -> (Socket, Socket) {
    (socket_at(address), socket_at(address))
}

/// Sends packets of these lengths in one flush and says what arrived.
fn send(from: &Socket, to: &Socket, lengths: impl IntoIterator<Item = usize>) -> Vec<Received> {
    let mut batch = TxBatch::new();
    let mut packets = 0;
    for (len, fill) in lengths.into_iter().zip(0..) {
        commit(&mut batch, to.local_addr(), len, fill);
        packets += 1;
    }
    from.send(&mut batch, &mut id_as_icrc);
    assert!(batch.is_empty());
    receive(to, packets)
}

#[test]
fn sixty_four_equal_packets_are_one_call_and_each_is_sealed_for_its_place() {
    for address in loopbacks() {
        let (a, b) = pair(address);
        let all: Vec<_> = (0..64).map(|id| (1000, id)).collect();
        assert_eq!(send(&a, &b, [1000; 64]), expected(&all));
        assert_eq!((count(&a, "send_calls"), count(&a, "gso_runs")), (1, 1), "{address}");
        assert_eq!(count(&a, "datagrams_sent"), 64);
        assert_eq!(count(&a, "bytes_sent"), 64 * 1004);
    }
}

#[test]
fn the_sixty_fifth_begins_a_new_run() {
    let (a, b) = pair(loopbacks()[0]);
    let all: Vec<_> = (0..64).chain(0..36).map(|id| (16, id)).collect();
    assert_eq!(send(&a, &b, [16; 100]), expected(&all));
    assert_eq!(count(&a, "send_calls"), 2);
}

#[test]
fn a_run_ends_before_it_outgrows_an_ip_packet() {
    for address in loopbacks() {
        let (a, b) = pair(address);
        let len = TxBatch::MAX_PACKET;
        let fit = u16::try_from(MAX_RUN / (len + ICRC)).unwrap();
        let all: Vec<_> = (0..fit).chain(0..20 - fit).map(|id| (len, id)).collect();
        assert_eq!(send(&a, &b, [len; 20]), expected(&all));
        assert_eq!(count(&a, "send_calls"), 2);
    }
}

/// The packets of a 64 KiB WRITE at path MTU 4096: the first has a RETH, the last is as long as the middle ones.
#[test]
fn a_shorter_packet_ends_its_run_and_a_longer_one_begins_another() {
    for address in loopbacks() {
        let (a, b) = pair(address);
        let lengths = [4124, 4108, 4108, 4108, 60, 4108, 12, 12, 13];
        let ids = [0, 1, 0, 1, 2, 0, 1, 0, 0];
        let all: Vec<_> = lengths.into_iter().zip(ids).collect();
        assert_eq!(send(&a, &b, lengths), expected(&all));
        assert_eq!((count(&a, "send_calls"), count(&a, "gso_runs")), (5, 3), "{address}");
    }
}

#[test]
fn packets_for_two_destinations_reach_each_its_own_in_order() {
    let [address, _] = loopbacks();
    let (a, b) = pair(address);
    let c = socket_at(address);
    let mut batch = TxBatch::new();
    let (to_b, to_c) = (b.local_addr(), c.local_addr());
    for (to, fill) in [(to_b, 0), (to_b, 1), (to_c, 0), (to_b, 2), (to_c, 1), (to_c, 2)] {
        let offset = if to == to_b { 0 } else { 0x100 };
        batch.reserve()[..100].fill(fill);
        batch.commit(100, to, |_, id| u32::from(id) + offset);
    }
    a.send(&mut batch, &mut |_, to, _| unreachable!("what goes to {to} is segmented"));
    assert_eq!(receive(&b, 3), expected(&[(100, 0), (100, 1), (100, 0)]));
    let trailers: Vec<_> = receive(&c, 3).into_iter().map(|(_, bytes)| bytes[100..].to_vec()).collect();
    assert_eq!(trailers, [[0, 1, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]]);
    assert_eq!(count(&a, "send_calls"), 4);
}

#[test]
fn without_segmentation_each_packet_is_a_call_and_sealed_for_identification_zero() {
    for address in loopbacks() {
        let (a, b) = pair(address);
        a.set_gso(false);
        assert_eq!(send(&a, &b, [500; 10]), expected(&[(500, 0); 10]));
        assert_eq!((count(&a, "send_calls"), count(&a, "gso_runs")), (10, 0));
        a.set_gso(true);
        let all: Vec<_> = (0..10).map(|id| (500, id)).collect();
        assert_eq!(send(&a, &b, [500; 10]), expected(&all));
    }
}

#[test]
fn where_the_system_refuses_to_segment_packets_go_one_by_one_and_are_sealed_anew() {
    let (a, b) = pair(loopbacks()[0]);
    // The kernel segments only what it may checksum.
    a.send_without_checksum();
    assert!(a.gso());
    assert_eq!(send(&a, &b, [700; 5]), expected(&[(700, 0); 5]));
    assert!(!a.gso(), "it is not tried again");
    assert_eq!((count(&a, "gso_refused"), count(&a, "send_calls")), (1, 5));
    assert_eq!(send(&a, &b, [700; 5]), expected(&[(700, 0); 5]));
    assert_eq!(count(&a, "gso_refused"), 1);
}

#[test]
fn a_full_batch_says_so_takes_more_and_keeps_its_memory() {
    let (a, b) = pair(loopbacks()[0]);
    let mut batch = TxBatch::new();
    let before = (batch.bytes.as_ptr(), batch.runs.as_ptr());
    for _ in 0..10 {
        let mut packets = 0;
        while !batch.is_full() {
            commit(&mut batch, b.local_addr(), 4108, 1);
            packets += 1;
        }
        a.send(&mut batch, &mut id_as_icrc);
        assert!(batch.is_empty() && !batch.is_full());
        assert_eq!(receive(&b, packets).len(), packets);
    }
    assert_eq!((batch.bytes.as_ptr(), batch.runs.as_ptr()), before, "flushed when full, it never allocates");

    for _ in 0..2 * FULL / SLOT {
        commit(&mut batch, b.local_addr(), TxBatch::MAX_PACKET, 1);
    }
    a.send(&mut batch, &mut id_as_icrc);
    assert_eq!(receive(&b, 2 * FULL / SLOT).len(), 2 * FULL / SLOT);
}

#[test]
fn a_batch_is_full_behind_whole_runs() {
    let (a, b) = pair(loopbacks()[0]);
    let mut batch = TxBatch::new();
    let mut packets = 0;
    while !batch.is_full() {
        commit(&mut batch, b.local_addr(), 4108, 1);
        packets += 1;
    }
    a.send(&mut batch, &mut id_as_icrc);
    assert_eq!((packets, count(&a, "send_calls")), (30, 2));
}

#[test]
fn a_destination_that_cannot_be_reached_is_counted_and_harms_no_other() {
    for address in loopbacks() {
        let (a, b) = pair(address);
        let other_family = loopbacks()[usize::from(address.is_ipv4())];
        let mut batch = TxBatch::new();
        // Port 0 is EINVAL, which a system without segmentation offload says too.
        for to in [SocketAddr::new(address, 0), SocketAddr::new(other_family, 4791)] {
            commit(&mut batch, to, 100, 9);
            commit(&mut batch, to, 100, 9);
        }
        commit(&mut batch, b.local_addr(), 100, 0);
        commit(&mut batch, b.local_addr(), 100, 1);
        a.send(&mut batch, &mut id_as_icrc);
        assert_eq!(receive(&b, 2), expected(&[(100, 0), (100, 1)]));
        let unsent: u64 = SendFailure::ALL.iter().map(|reason| a.counters().failures(*reason)).sum();
        assert_eq!(unsent, 4, "{:?}", a.counters());
        assert!(a.gso());
    }
}

#[test]
fn nobody_listening_is_no_error() {
    for address in loopbacks() {
        let (a, b) = pair(address);
        let gone = b.local_addr();
        drop(b);
        let mut batch = TxBatch::new();
        for _ in 0..3 {
            commit(&mut batch, gone, 100, 0);
            a.send(&mut batch, &mut id_as_icrc);
        }
        let b = socket_at(address);
        assert_eq!(send(&a, &b, [100; 2]), expected(&[(100, 0), (100, 1)]));
    }
}

#[test]
fn packets_too_big_for_the_path_are_counted_and_leave_segmentation_on_for_others() {
    if !in_namespace(
        concat!(
            module_path!(),
            "::packets_too_big_for_the_path_are_counted_and_leave_segmentation_on_for_others"
        ),
        &["ip"],
        "ip link set lo mtu 1500",
    ) {
        return;
    }
    for address in ["127.0.0.1", "::1"] {
        let (a, b) = pair(address.parse().unwrap());
        let mut batch = TxBatch::new();
        for _ in 0..3 {
            commit(&mut batch, b.local_addr(), 4108, 0);
        }
        // The shorter end of the run fits, and may arrive.
        commit(&mut batch, b.local_addr(), 60, 0);
        a.send(&mut batch, &mut id_as_icrc);
        assert_eq!(a.counters().failures(SendFailure::TooBig), 3, "{:?}", a.counters());
        assert_eq!(receive(&b, 1).len(), 1);
        assert!(a.gso());
        let all: Vec<_> = (0..20).map(|id| (1040, id)).collect();
        assert_eq!(send(&a, &b, [1040; 20]), expected(&all));
        assert_eq!(count(&a, "gso_runs"), 1);
    }
}

#[test]
fn what_a_full_send_buffer_has_no_room_for_stays_and_leaves_later_in_order() {
    if !in_namespace(
        concat!(module_path!(), "::what_a_full_send_buffer_has_no_room_for_stays_and_leaves_later_in_order"),
        &["tc"],
        "tc qdisc add dev lo root tbf rate 20mbit burst 70kb limit 100mb",
    ) {
        return;
    }
    for gso in [true, false] {
        let (a, b) = pair("127.0.0.1".parse().unwrap());
        rustix::net::sockopt::set_socket_send_buffer_size(&a, 8 << 10).unwrap();
        a.set_gso(gso);
        let mut batch = TxBatch::new();
        for fill in 0..200 {
            commit(&mut batch, b.local_addr(), 1000, fill);
        }
        // Each of them is sealed for the place that it has in the call with which it leaves at last.
        let mut unsent = None;
        let mut blocked = 0;
        let deadline = Instant::now() + Duration::from_secs(60);
        while {
            unsent.take().into_iter().for_each(|unsent| batch.restore(unsent));
            a.send(&mut batch, &mut id_as_icrc) == Sent::Blocked
        } {
            blocked += 1;
            // Between two attempts others use the batch.
            unsent = batch.take_unsent();
            assert!(batch.is_empty() && unsent.is_some());
            assert!(Instant::now() < deadline, "{:?}", a.counters());
            std::thread::yield_now();
        }
        assert!(batch.is_empty() && blocked > 0 && count(&a, "send_blocked") == blocked);
        assert_eq!(count(&a, "datagrams_sent"), 200);
        let received = receive(&b, 200);
        let fills: Vec<_> = received.iter().map(|(_, bytes)| bytes[0]).collect();
        assert_eq!(fills, (0..200).collect::<Vec<_>>());
        for (id, bytes) in received {
            assert_eq!(bytes[1000..], u32::from(id).to_le_bytes(), "{gso}");
        }
    }
}
