//! Programs that poll keep the time for the engine, and leave none of its deadlines behind.

use super::world::{End, World};
use super::{A, B};
use rocev2::work::SendOperation;
use std::time::Duration;

/// How long those who poll may stay away at first, and at most.
const LOOK_IN_EARLIEST: Duration = Duration::from_millis(1);
const LOOK_IN_LATEST: Duration = Duration::from_millis(8);

/// How long from one look to the next.
const PACE: Duration = Duration::from_micros(5);

/// One message there and one back; both programs poll, and take what the engines are woken for.
fn round_trip(world: &World, [a, b]: [&End; 2], count: u64, len: u32) {
    for [from, to] in [[a, b], [b, a]] {
        to.post_recv(len);
        from.post(SendOperation::Send, len);
        // Whoever receives looks until the message is there, and not once more.
        let expected = 2 * count - u64::from(std::ptr::eq(to, b));
        let mut came = false;
        world.overtake(|| came = to.done() >= expected);
        world.advance(PACE);
        if !came {
            world.run_polled(PACE, || to.done() >= expected);
        }
    }
}

/// Two ends whose programs have polled for so long.
fn polled(world: &World, span: Duration) -> [End; 2] {
    let [a, b] = world.pair(A, B, 2 * 4096);
    let mut count = 0;
    while world.now() < span {
        count += 1;
        round_trip(world, [&a, &b], count, 64);
    }
    // Until the last message is acknowledged, too.
    world.run_polled(PACE, || a.done() == b.done());
    [a, b]
}

#[test]
fn who_polls_hardly_sets_a_timer() {
    let world = World::new(&[A, B]);
    let ends = polled(&world, Duration::from_millis(20));
    let before = (world.now(), world.alarms_set());
    let mut done = ends[0].done() / 2;
    while world.now() < before.0 + Duration::from_millis(200) {
        done += 1;
        round_trip(&world, [&ends[0], &ends[1]], done, 64);
    }
    // Each device once in half of the time for which those who poll may stay away.
    let most = 2 * (200 / 4 + 1);
    let set = world.alarms_set() - before.1;
    assert!(set <= most, "{set} times in 200 ms, {most} allowed");
}

#[test]
fn what_is_lost_is_sent_again_while_both_poll() {
    let world = World::new(&[A, B]);
    let [a, b] = polled(&world, Duration::from_millis(20));
    let (done, before) = (a.done(), world.now());
    b.post_recv(64);
    world.lose_next(A);
    a.post(SendOperation::Send, 64);
    world.run_polled(PACE, || {
        b.done();
        a.done() > done
    });
    assert_eq!(a.retransmitted(), 1);
    assert!(world.now() - before < LOOK_IN_LATEST, "after {:?}", world.now() - before);
}

#[test]
fn what_is_lost_is_sent_again_when_nobody_polls_any_more() {
    let world = World::new(&[A, B]);
    let [a, b] = polled(&world, Duration::from_millis(20));
    let before = (b.done(), world.now());
    b.post_recv(64);
    world.lose_next(A);
    a.post(SendOperation::Send, 64);
    // Neither program looks; the engines take over.
    world.run(|| world.now() > before.1 + 3 * LOOK_IN_LATEST);
    assert_eq!((a.retransmitted(), b.done()), (1, before.0 + 1));
}

#[test]
fn the_last_message_of_a_short_dialogue_is_acknowledged_at_once() {
    const ROUND_TRIPS: u64 = 6;
    let world = World::new(&[A, B]);
    // Their ports are left to the programs, which poll.
    let others = polled(&world, Duration::from_millis(20));
    let [a, b] = World::pair_beside(&others, 64);
    (1..=ROUND_TRIPS).for_each(|count| round_trip(&world, [&a, &b], count, 64));
    let before = world.now();
    // This program has what it wanted, and goes on to something else; the other one waits to hear of it.
    world.run_polled(PACE, || b.done() == 2 * ROUND_TRIPS);
    assert!(world.now() - before < LOOK_IN_EARLIEST, "after {:?}", world.now() - before);
}

#[test]
fn an_ack_leaves_with_the_answer() {
    const ROUND_TRIPS: u64 = 16;
    let world = World::new(&[A, B]);
    let [a, b] = polled(&world, Duration::from_millis(20));
    let mut done = a.done() / 2;
    let mut round_trips = |count| {
        (0..count).for_each(|_| {
            done += 1;
            round_trip(&world, [&a, &b], done, 2 * 4096);
        });
        world.sent()
    };
    // Both programs have answered many messages when it begins.
    let before = round_trips(20);
    let after = round_trips(ROUND_TRIPS);
    let [runs, datagrams] = [0, 1].map(|at| after[at] - before[at]);
    // Each message of two packets, and the ACK of the one that it answers, in one system call.
    assert_eq!([runs, datagrams], [2 * ROUND_TRIPS, 6 * ROUND_TRIPS]);
}
