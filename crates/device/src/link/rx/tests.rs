use std::net::UdpSocket;

use super::super::testing::{loopbacks, receive, socket_at};
use super::*;

#[test]
fn a_batch_falls_apart_into_its_datagrams() {
    let split = |len: usize, stride| {
        segments(&mut [0; 100][..len], stride).map(|datagram| datagram.len()).collect::<Vec<_>>()
    };
    assert_eq!(split(100, 40), [40, 40, 20]);
    assert_eq!(split(80, 40), [40, 40]);
    assert_eq!(split(30, 30), [30]);
    assert_eq!(split(30, 40), [30]);
    assert_eq!(split(0, 0), [0]);
    assert_eq!(split(2, 0), [1, 1], "a stride that the kernel never gives does no harm");
}

#[test]
fn nothing_waiting_is_no_datagram() {
    let socket = socket_at(loopbacks()[0]);
    let mut buffers = RxBatch::new();
    let received = socket.recv(&mut buffers);
    assert!(received.datagrams == 0 && received.is_all && !received.is_full);
    assert_eq!(buffers.datagrams().count(), 0);
}

#[test]
fn datagrams_of_any_size_arrive_whole_with_their_source() {
    for address in loopbacks() {
        let socket = socket_at(address);
        let sender = UdpSocket::bind((address, 0)).unwrap();
        let mut buffers = RxBatch::new();
        for len in [0, 1, 4128, 9000, 65_000, 65_507] {
            let sent = vec![0xab; len];
            sender.send_to(&sent, socket.local_addr()).unwrap();
            let received = socket.recv(&mut buffers);
            assert!(received.datagrams == 1 && !received.is_full, "{len} bytes to {address}");
            let mut seen = 0;
            for datagram in buffers.datagrams() {
                assert_eq!(datagram.src, sender.local_addr().unwrap());
                assert_eq!(datagram.index, 0);
                assert_eq!(datagram.bytes, sent);
                seen += 1;
            }
            assert_eq!(seen, 1);
        }
        let rows = socket.counters().rows();
        assert!(rows.contains(&("datagrams_received", 6)), "{rows:?}");
        assert!(rows.contains(&("bytes_received", 1 + 4128 + 9000 + 65_000 + 65_507)), "{rows:?}");
    }
}

#[test]
fn more_than_one_call_takes_arrive_in_order() {
    let [address, _] = loopbacks();
    let socket = socket_at(address);
    let senders: Vec<_> = (0..3 * BATCHES).map(|_| UdpSocket::bind((address, 0)).unwrap()).collect();
    for (sender, number) in senders.iter().zip(0_u8..) {
        sender.send_to(&[number; 64], socket.local_addr()).unwrap();
    }
    let received = receive(&socket, senders.len());
    let expected: Vec<_> = (0_u8..).take(senders.len()).map(|number| (0, vec![number; 64])).collect();
    assert_eq!(received, expected);
}

#[test]
fn what_is_wiped_is_gone_also_what_shorter_datagrams_have_covered() {
    let socket = socket_at(loopbacks()[0]);
    let sender = UdpSocket::bind((loopbacks()[0], 0)).unwrap();
    let mut buffers = RxBatch::new();
    for len in [5000, 60] {
        sender.send_to(&vec![0xab; len], socket.local_addr()).unwrap();
        assert_eq!(socket.recv(&mut buffers).datagrams, 1);
    }
    assert!(buffers.bytes.contains(&0xab));
    buffers.wipe();
    assert!(!buffers.bytes.contains(&0xab));
    assert_eq!(buffers.datagrams().count(), 0);
}
