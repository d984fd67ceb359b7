//! Whole devices, stepped on one thread in virtual time, over links that have as much room as a test gives them.
#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

mod dissect;
mod polled;
mod rekeyed;
mod sealed;
mod world;

use rocev2::work::{SendOperation, Transition};
use rocev2_device::{Config, Device, DeviceError};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use world::World;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const C: [u8; 4] = [10, 0, 0, 3];
const D: [u8; 4] = [10, 0, 0, 4];

/// A message that takes many packets.
const LONG: u32 = 1 << 20;

#[test]
fn a_message_arrives_without_a_thread_or_a_clock() {
    let world = World::new(&[A, B]);
    let [a, b] = world.pair(A, B, 4096);
    b.post_recv(4096);
    a.post(SendOperation::Send, 4096);
    world.run(|| a.done() == 1 && b.done() == 1);
    assert!(world.now() < Duration::from_millis(1), "{:?}", world.now());
}

#[test]
fn what_is_lost_is_sent_again_when_the_alarm_rings() {
    let world = World::new(&[A, B]);
    let [a, b] = world.pair(A, B, 4096);
    b.post_recv(64);
    world.lose_next(A);
    a.post(SendOperation::Send, 64);
    world.run(|| a.done() == 1 && b.done() == 1);
    assert_eq!(a.retransmitted(), 1);
    assert!(world.now() > Duration::from_millis(1), "nobody waited: {:?}", world.now());
}

#[test]
fn what_was_acknowledged_in_time_has_succeeded_though_the_queue_pair_fails_before_anybody_looked() {
    let world = World::new(&[A, B]);
    let [a, b] = world.pair(A, B, 4096);
    b.post_recv(64);
    a.post(SendOperation::Send, 64);
    // The peer's program takes it, and its second look has it acknowledged. This side makes no step.
    for _ in 0..2 {
        world.advance(Duration::from_micros(10));
        assert_eq!(b.done(), 1);
    }
    a.queue_pair.modify(Transition::Error).unwrap();
    assert_eq!(a.done(), 1);
}

#[test]
fn a_full_link_holds_up_its_own_queue_pairs_only_and_loses_nothing() {
    let world = World::new(&[A, B, C, D]);
    let device = world.device();
    let [held, held_peer] = world.pair_on(&device, A, B, LONG);
    let [free, free_peer] = world.pair_on(&device, C, D, LONG);
    world.set_room(A, Some(10_000));
    held.post(SendOperation::Write(held_peer.memory()), LONG);
    free.post(SendOperation::Write(free_peer.memory()), LONG);
    world.run(|| free.done() == 1);
    assert_eq!(held.done(), 0);
    // So far that the device has packets that it can't send, and waits for room.
    assert!(world.is_waited_for(A));
    world.set_room(A, None);
    world.run(|| held.done() == 1);
    assert_eq!((held.retransmitted(), free.retransmitted()), (0, 0), "what had no room was kept");
    assert!(!world.is_waited_for(A));
}

#[test]
fn a_link_that_stays_full_ends_the_connection_as_one_that_loses_everything() {
    let world = World::new(&[A, B]);
    let [a, b] = world.pair(A, B, LONG);
    world.set_room(A, Some(0));
    a.post(SendOperation::Write(b.memory()), LONG);
    world.run(|| a.failed() == 1);
    assert!(world.now() < Duration::from_secs(60), "{:?}", world.now());
}

#[test]
fn queue_pairs_of_a_port_take_turns_by_bytes() {
    const MESSAGES: u64 = 16;
    let world = World::new(&[A, B, C]);
    let device = world.device();
    let [few, few_peer] = world.pair_on(&device, A, B, LONG);
    let [many, many_peer] = world.pair_on(&device, A, C, LONG);
    // Both windows open first.
    for (end, peer) in [(&few, &few_peer), (&many, &many_peer)] {
        (0..8).for_each(|_| end.post(SendOperation::Write(peer.memory()), LONG));
        world.run(|| end.done() == 8);
    }
    // What the link takes in each step is less than either of them could send.
    world.set_rate(A, Some(64 << 10));
    (0..MESSAGES).for_each(|_| many.post(SendOperation::Write(many_peer.memory()), LONG));
    (0..MESSAGES / 4).for_each(|_| few.post(SendOperation::Write(few_peer.memory()), LONG));
    world.run(|| few.done() == 8 + MESSAGES / 4);
    let others = many.done() - 8;
    assert!((MESSAGES / 8..=MESSAGES / 2).contains(&others), "{others} of the other's messages meanwhile");
    world.set_rate(A, None);
    world.run(|| many.done() == 8 + MESSAGES);
}

#[test]
fn datagrams_wait_for_room_at_a_receiver_of_their_host() {
    const DATAGRAMS: u64 = 2000;
    let world = World::new(&[A, B]);
    let ([a, b], way) = world.datagram_pair([A, B], 8192);
    (0..DATAGRAMS).for_each(|_| b.post_recv(4096 + 40));
    // Twice as many as a link keeps, before the receiver makes its first step.
    (0..DATAGRAMS).for_each(|_| a.send_to(&b, &way, 4096));
    assert!(a.done() < DATAGRAMS);
    world.run(|| a.done() == DATAGRAMS && b.done() == DATAGRAMS);
}

#[test]
fn loopback_addresses_that_peers_choose_are_limited_and_closed_when_idle() {
    let world = World::new(&[[127, 0, 0, 1]]);
    let device = world.device();
    let before = world.links();
    let address = |number: u16| {
        let [high, low] = number.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(127, 1, high, low))
    };
    let bind = |number| device.gid_index(address(number)).and_then(|index| device.bind_gid(index));
    (0..128).for_each(|number| assert!(bind(number).is_ok(), "{number}"));
    assert_eq!(world.links() - before, 128);
    assert!(matches!(bind(128), Err(DeviceError::Limit { limit: 128, .. })));
    assert!(bind(5).is_ok(), "those that are there may be used");
    // One of them has a queue pair, and keeps its port.
    let kept = device.gid_index(address(7)).unwrap();
    let [_a, _b] = world.pair_on(&device, [127, 1, 0, 7], [127, 0, 0, 1], 64);
    world.advance(Duration::from_secs(31));
    assert!(bind(200).is_ok());
    assert_eq!(world.links() - before, 3, "the interface's own, the used one and the new one");
    assert_eq!(device.gid_index(address(7)).unwrap(), kept);
    for number in 1000..3000 {
        world.advance(Duration::from_secs(1));
        assert!(bind(number).is_ok(), "{number}");
        assert!(device.gids().len() <= 130 && world.links() - before <= 130);
    }
}

#[test]
fn numbers_keys_and_addresses_come_from_the_platform_alone() {
    let draw = || {
        let world = World::new(&[A, B]);
        world.pair(A, B, 64).map(|end| (end.qpn(), end.memory()))
    };
    assert_eq!(draw(), draw());
}

#[test]
fn a_peer_that_is_never_ready_leaves_no_deadlines_behind() {
    let world = World::new(&[A, B]);
    let device = world.device();
    let [a, _b] = world.pair_on(&device, A, B, 64);
    a.post(SendOperation::Send, 64);
    let mut most = 0;
    world.run(|| {
        most = most.max(device.usage().deadlines);
        world.now() > Duration::from_millis(50)
    });
    assert!((1..=4).contains(&most), "{most} deadlines of one queue pair");
}

#[test]
fn a_link_that_is_full_and_cannot_be_watched_is_like_one_that_loses_packets() {
    let world = World::new(&[A, B]);
    let device = world.device();
    let [a, b] = world.pair_on(&device, A, B, LONG);
    world.set_room(A, Some(0));
    world.refuse_to_watch(true);
    (0..8).for_each(|_| a.post(SendOperation::Write(b.memory()), 64));
    assert!(device.usage().turns <= 1, "{:?}", device.usage());
    world.refuse_to_watch(false);
    world.set_room(A, None);
    world.run(|| a.done() == 8);
    assert_eq!(device.usage().turns, 0);
}

#[test]
fn datagrams_behind_those_that_a_full_link_has_lost_leave_when_there_is_room() {
    const DATAGRAMS: u64 = 100;
    let world = World::new(&[A, B]);
    let ([a, b], way) = world.datagram_pair([A, B], 8192);
    // There is room for the first ones, and then nobody says when there is more.
    world.refuse_to_watch(true);
    world.set_room(A, Some(10_000));
    a.send_list_to(&b, &way, 4096, DATAGRAMS);
    assert!(a.done() < DATAGRAMS);
    world.set_room(A, None);
    world.run(|| a.done() == DATAGRAMS);
}

#[test]
fn a_device_without_addresses_cannot_be_opened() {
    let world = World::new(&[]);
    let opened = Device::stepped(Config::default(), world.platform());
    assert!(matches!(opened, Err(DeviceError::NoAddress)), "{opened:?}");
}
