//! What could stall, spin, or send in storms, and doesn't.

use super::lone::{Lone, Out, SEQUENCE_ERROR, small};
use super::rng::Rng;
use super::workload::{Flow, Kind, Op, Receives, run};
use super::world::{Options, Receiving, World};
use netem::LinkConfig;
use rocev2::Time;
use rocev2::transport::{
    DropReason, Limits,
    rc::{ack_timeout, rnr_delay},
};
use rocev2::wire::{Operation as O, Syndrome};
use rocev2::work::{SendOperation, State, Status, Transition};
use std::time::Duration;

/// How long a requester of `options` waits for a silent peer.
fn patience(options: &Options) -> Duration {
    ack_timeout(options.timeout).expect("a timeout is set") * (u32::from(options.retry_count) + 1)
}

#[test]
fn a_repeated_nak_makes_nothing_be_sent_again_twice() {
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Send, 256 * 8);
    assert_eq!(lone.sent().len(), 8);
    assert_eq!(lone.nak(3, SEQUENCE_ERROR), Ok(()));
    assert_eq!(lone.sent_brief().first(), Some(&(O::SendMiddle, 3)));
    for _ in 0..100 {
        assert_eq!(lone.nak(3, SEQUENCE_ERROR), Err(DropReason::StaleResponse));
        assert_eq!(lone.sent(), [], "each copy of a NAK would be worth a window of packets");
    }
    assert_eq!(lone.nak(5, SEQUENCE_ERROR), Ok(()), "a later one tells of another loss");
    assert_eq!(lone.sent().len(), 3);
}

#[test]
fn naks_without_end_keep_no_connection_alive() {
    let options = Options { timeout: 10, ..small() };
    let mut lone = Lone::new(&options);
    lone.post(0, SendOperation::Send, 256);
    while lone.qp.state() == State::ReadyToSend {
        lone.sent();
        let _ = lone.nak(0, SEQUENCE_ERROR);
        lone.wait(Duration::from_micros(100));
        if lone.qp.poll_timeout().is_some_and(|at| at <= lone.now) {
            lone.time_out();
        }
        assert!(lone.now < Time::ZERO + patience(&options) * 2, "it goes on for ever");
    }
    assert_eq!(lone.outcome(), [(0, Status::RetryExceeded)]);
}

#[test]
fn a_silent_peer_counts_as_gone_after_exactly_the_specified_time() {
    for (timeout, retry_count) in [(1, 0), (8, 3), (14, 0), (14, 7), (14, 1), (18, 7)] {
        let options = Options { timeout, retry_count, ..small() };
        let mut lone = Lone::new(&options);
        lone.wait(Duration::from_secs(5));
        let begin = lone.now;
        lone.post(0, SendOperation::Send, 600);
        let mut packets = lone.sent().len();
        while lone.time_out() {
            packets += lone.sent().len();
        }
        assert_eq!(lone.outcome(), [(0, Status::RetryExceeded)]);
        assert_eq!(lone.now - begin, patience(&options), "timeout {timeout}, retry_count {retry_count}");
        assert!(packets > 2 + usize::from(retry_count), "it was asked as often as specified, or more");
        assert!(packets < 200, "{packets} packets are a storm");
    }
}

#[test]
fn timeout_0_waits_for_ever_and_asks_once_a_second_at_most() {
    let mut lone = Lone::new(&Options { timeout: 0, ..small() });
    lone.post(0, SendOperation::Send, 1);
    let mut packets = lone.sent().len();
    while lone.now < Time::ZERO + Duration::from_secs(3600) {
        assert!(lone.time_out());
        packets += lone.sent().len();
    }
    assert_eq!(lone.outcome(), []);
    assert!((3600..30_000).contains(&packets), "{packets} packets in an hour");
    assert_eq!(lone.ack(0), Ok(()));
    assert_eq!(lone.outcome(), [(0, Status::Success)]);
}

#[test]
fn a_host_that_slept_does_not_take_its_peer_for_gone() {
    let options = small();
    let mut lone = Lone::new(&options);
    lone.post(0, SendOperation::Send, 1);
    assert_eq!(lone.sent().len(), 1);
    lone.wait(Duration::from_secs(3600));
    assert!(lone.time_out());
    assert_eq!(lone.qp.state(), State::ReadyToSend, "the answer may be waiting in the socket");
    assert_eq!(lone.sent_brief(), [(O::SendOnly, 0)]);
    assert_eq!(lone.ack(0), Ok(()));
    assert_eq!(lone.outcome(), [(0, Status::Success)]);
}

#[test]
fn a_peer_that_is_ready_before_its_rnr_delay_is_over_ends_the_wait() {
    // The delay is far longer than the patience.
    let options = Options { timeout: 1, retry_count: 0, ..small() };
    let mut lone = Lone::new(&options);
    for id in 0..2 {
        lone.post(id, SendOperation::Send, 1);
    }
    assert_eq!(lone.sent().len(), 2);
    assert_eq!(lone.nak(0, Syndrome::RnrNak { timer: 0 }), Ok(()));
    assert_eq!(lone.sent(), []);
    // A copy of the packet came when there was a receive request.
    assert_eq!(lone.ack(0), Ok(()));
    assert_eq!(lone.sent_brief(), [(O::SendOnly, 1)], "it waits for nothing, and silence counts from here");
    assert_eq!(lone.ack(1), Ok(()));
    assert_eq!(lone.outcome(), [(0, Status::Success), (1, Status::Success)]);
    assert_eq!(lone.qp.poll_timeout(), None);
}

#[test]
fn an_rnr_delay_outlasts_what_else_the_peer_tells() {
    let options = Options { timeout: 1, retry_count: 0, ..small() };
    let mut lone = Lone::new(&options);
    for id in 0..100 {
        let _ = lone.try_post(id, SendOperation::Send, 1024, true);
    }
    let at_once = lone.sent().len();
    assert_eq!(lone.nak(0, Syndrome::RnrNak { timer: 0 }), Ok(()));
    // rxe tells of what it dropped behind the missing receive request, too.
    assert_eq!(lone.nak(0, SEQUENCE_ERROR), Err(DropReason::StaleResponse));
    assert_eq!(lone.sent(), []);
    assert_eq!(lone.qp.poll_timeout(), Some(lone.now + rnr_delay(0)), "no timer ends the connection before");
    assert!(lone.time_out());
    assert_eq!(lone.sent().len(), at_once, "nor was anything lost on the path");
}

#[test]
fn a_read_that_is_repeated_before_it_is_answered_keeps_its_place() {
    let mut lone = Lone::new(&Options { rd_atomic: 4, ..small() });
    let reth = lone.reth(0, 256);
    let read = |number| Lone::request_with(O::ReadRequest, number, reth);
    for number in 0..4 {
        assert_eq!(lone.handle(&read(number), &[]), Ok(()));
        assert_eq!(lone.handle(&read(number), &[]), Err(DropReason::Duplicate));
    }
    assert_eq!(
        lone.handle(&read(4), &[]),
        Err(DropReason::InvalidRequest),
        "else answers pile up without end"
    );
}

#[test]
fn a_round_trip_longer_than_the_first_wait_is_learnt() {
    let latency = 60_000_000;
    let link = LinkConfig { latency_ns: latency, ..LinkConfig::default() };
    let mut world = World::new(link, Receiving::Single, 0);
    let pair = world.connect(&Options { timeout: 19, ..Options::default() });
    let ops = [Op { kind: Kind::Write, len: 100_000, signaled: true }; 50];
    let flow = Flow::new(&mut world, 0, pair, &ops);
    run(&mut world, vec![flow], Receives::Early);
    let counters = world.hosts[0].ends[pair].qp.snapshot().requester;
    assert!(counters.timeouts < 6, "{counters:?}: the wait never becomes longer than the round trip");
    assert!(counters.retransmitted < 100, "{counters:?}: everything is sent twice");
}

#[test]
fn a_round_trip_that_becomes_longer_is_learnt() {
    let link = |latency_ns| LinkConfig { latency_ns, ..LinkConfig::default() };
    let mut world = World::new(link(100_000), Receiving::Single, 0);
    let pair = world.connect(&Options::default());
    let ops = [Op { kind: Kind::Write, len: 100_000, signaled: true }; 50];
    let near = Flow::new(&mut world, 0, pair, &ops);
    near.post_all(&mut world);
    world.run(Duration::from_secs(1));
    let before = world.hosts[0].ends[pair].qp.snapshot().requester;
    for direction in &mut world.links {
        direction.set_config(link(6_000_000));
    }
    let far = Flow::new(&mut world, 0, pair, &ops);
    far.post_all(&mut world);
    world.run(Duration::from_secs(10));
    let after = world.hosts[0].ends[pair].qp.snapshot().requester;
    assert_eq!(world.hosts[0].ends[pair].done.len(), 100);
    let (timeouts, again) = (after.timeouts - before.timeouts, after.retransmitted - before.retransmitted);
    assert!(timeouts < 20 && again < 200, "{timeouts} timeouts, {again} packets sent again");
}

/// A peer that is only slow for a while, as one that shares its processor is: whatever seemed lost is on its way.
#[test]
fn answers_that_are_only_late_do_not_make_the_whole_flight_be_sent_again() {
    let link = |latency_ns| LinkConfig { latency_ns, ..LinkConfig::default() };
    let mut world = World::new(link(100_000), Receiving::Single, 0);
    let pair = world.connect(&Options::default());
    let mut posted = 0;
    for round in 0..20 {
        for latency in [100_000, 20_000_000] {
            for direction in &mut world.links {
                direction.set_config(link(latency));
            }
            let ops = vec![Op { kind: Kind::Write, len: 100_000, signaled: true }; 2];
            posted += ops.len();
            Flow::new(&mut world, 0, pair, &ops).post_all(&mut world);
            world.run(Duration::from_secs(round + 1));
        }
    }
    assert_eq!(world.hosts[0].ends[pair].done.len(), posted);
    let counters = world.hosts[0].ends[pair].qp.snapshot().requester;
    assert!(counters.timeouts > 0, "{counters:?}: the test proves nothing");
    assert!(counters.retransmitted < 2 * counters.timeouts, "{counters:?}");
}

#[test]
fn after_a_silence_packets_go_one_by_one_until_one_turns_out_to_be_lost() {
    let silent = || {
        let mut lone = Lone::new(&small());
        lone.post(0, SendOperation::Send, 256 * 8);
        assert_eq!(lone.sent().len(), 8);
        assert!(lone.time_out());
        assert_eq!(lone.sent_brief(), [(O::SendFirst, 0)]);
        // The peer has more than the probe: was the rest lost, or is it late?
        assert_eq!(lone.ack(3), Ok(()));
        assert_eq!(lone.sent_brief(), [(O::SendMiddle, 4)]);
        lone
    };
    let rest = [5, 6, 7].map(|number| if number < 7 { (O::SendMiddle, number) } else { (O::SendLast, 7) });
    let mut late = silent();
    assert_eq!(late.ack(7), Ok(()));
    assert_eq!(late.sent_brief(), []);
    assert_eq!(late.outcome(), [(0, Status::Success)]);
    let mut lost = silent();
    assert_eq!(lost.ack(4), Ok(()));
    assert_eq!(lost.sent_brief(), rest, "only the repetition arrived");
    let mut told = silent();
    assert_eq!(told.nak(5, SEQUENCE_ERROR), Ok(()));
    assert_eq!(told.sent_brief(), rest);
}

#[test]
fn a_reader_without_end_does_not_keep_this_sides_requests_from_leaving() {
    let mut lone = Lone::new(&small());
    let reth = lone.reth(0, 1 << 20);
    assert_eq!(lone.handle(&Lone::request_with(O::ReadRequest, 0, reth), &[]), Ok(()));
    lone.post(0, SendOperation::Send, 256 * 64);
    let sent: Vec<Out> = (0..64).map_while(|_| lone.next_sent()).collect();
    let requests = sent.iter().filter(|out| out.operation.is_request()).count();
    assert_eq!((sent.len(), requests), (64, 32), "both directions get their share");
    assert!(sent[0].operation.is_response(), "an answer goes first");
}

#[test]
fn forged_congestion_notifications_do_not_shrink_an_idle_window() {
    let cnp = || {
        use rocev2::wire::{Bth, Headers, Opcode};
        Headers::new(Bth::new(Opcode::Cnp, super::lone::OWN, rocev2::Psn::default()))
    };
    let sent_at_once = |lone: &mut Lone| {
        lone.post(0, SendOperation::Send, 1 << 20);
        lone.sent().len()
    };
    let usual = sent_at_once(&mut Lone::new(&small()));
    let mut lone = Lone::new(&small());
    for _ in 0..100 {
        assert_eq!(lone.handle(&cnp(), &[]), Ok(()));
    }
    assert_eq!(sent_at_once(&mut lone), usual);
    for _ in 0..100 {
        assert_eq!(lone.handle(&cnp(), &[]), Ok(()));
    }
    assert_eq!(lone.qp.snapshot().requester.congestion_notifications, 200);
}

#[test]
fn answers_that_wait_stay_few_while_gaps_open_and_close() {
    // The expected packet again and again, with no receive request for it.
    let mut lone = Lone::new(&small());
    for _ in 0..1000 {
        let _ = lone.handle(&Lone::request(O::SendOnly, 0), &[]);
        assert!(lone.qp.snapshot().answers_waiting <= 1);
    }
    // A gap, the missing packet, the next gap, and so on; duplicates in between.
    let mut lone = Lone::new(&small());
    let nothing = lone.reth(0, 0);
    let write = |number| Lone::request_with(O::WriteOnly, number, nothing);
    for number in 0..1000 {
        assert_eq!(lone.handle(&write(number + 1), &[]), Err(DropReason::OutOfSequence));
        assert_eq!(lone.handle(&write(number), &[]), Ok(()));
        let _ = lone.handle(&write(number / 2), &[]);
        assert!(lone.qp.snapshot().answers_waiting <= 1);
    }
}

#[test]
fn answers_that_wait_stay_few_while_reads_and_atomics_are_repeated() {
    let depth = 4;
    let mut lone = Lone::new(&Options { rd_atomic: depth, ..small() });
    let (reth, atomic) = (lone.reth(0, 1024), lone.atomic(0));
    let mut rng = Rng::new(0);
    // The peer keeps to its depth: it counts those whose last packet never left.
    let (mut next, mut lasts, mut through) = (0, Vec::new(), -1);
    for _ in 0..500 {
        while lasts.iter().filter(|&&last| last > through).count() < usize::from(depth) {
            if rng.percent(50) {
                assert_eq!(lone.handle(&Lone::request_with(O::ReadRequest, next, reth), &[]), Ok(()));
                next += 4;
            } else {
                let mut add = Lone::request(O::FetchAdd, next);
                add.atomic = Some(atomic);
                assert_eq!(lone.handle(&add, &[]), Ok(()));
                next += 1;
            }
            lasts.push(next - 1);
            assert_eq!(lone.handle(&Lone::request_with(O::WriteOnly, next, lone.reth(0, 0)), &[]), Ok(()));
            next += 1;
        }
        for back in 1..=24 {
            let part = lone.reth(256 * u64::from(rng.below(4)), 256);
            let rest = lone.reth(256, 768);
            for reth in [reth, part, rest] {
                let _ = lone.handle(&Lone::request_with(O::ReadRequest, next - back, reth), &[]);
            }
            let mut add = Lone::request(O::FetchAdd, next - back);
            add.atomic = Some(atomic);
            let _ = lone.handle(&add, &[]);
            let _ = lone.handle(&Lone::request(O::SendMiddle, next - back), &[0; 256]);
            let waiting = lone.qp.snapshot().answers_waiting;
            assert!(waiting <= 4 * usize::from(depth) + 1, "{waiting} answers wait");
        }
        for _ in 0..rng.below(8) {
            let out = lone.next_sent().expect("something is always owed");
            if lasts.contains(&out.number) && out.operation != O::Acknowledge {
                through = through.max(out.number);
            }
        }
    }
    assert_eq!(lone.qp.state(), State::ReadyToSend);
}

#[test]
fn a_queue_told_to_drain_does_not_fail_for_what_it_has_not_begun() {
    let mut lone = Lone::in_state(State::SendQueueDrain, &Options { rd_atomic: 0, ..small() });
    lone.events.clear();
    lone.post(0, SendOperation::Read(Lone::REMOTE), 8);
    assert_eq!(lone.sent(), []);
    assert_eq!((lone.outcome(), lone.qp.state()), (vec![], State::SendQueueDrain));
    lone.qp.modify(Transition::Resume).expect("SQD to RTS");
    assert_eq!(lone.sent(), []);
    assert_eq!(lone.outcome(), [(0, Status::LocalQueuePairOperation)]);
}

#[test]
fn reading_one_piece_at_a_time_still_uses_the_whole_window() {
    for rd_atomic in [1, 2, 16] {
        let link = LinkConfig { latency_ns: 500_000, ..LinkConfig::default() };
        let mut world = World::new(link, Receiving::Single, 0);
        let limits = Limits { window: 1 << 20, ..Options::default().limits };
        let pair = world.connect(&Options { rd_atomic, limits, ..Options::default() });
        let flow = Flow::new(&mut world, 0, pair, &[Op { kind: Kind::Read, len: 8 << 20, signaled: true }]);
        world.trace = Some(Vec::new());
        run(&mut world, vec![flow], Receives::Early);
        let trace = world.trace.expect("it was set");
        let end = trace.iter().filter(|sent| sent.from == 1).map(|sent| sent.at).max().expect("responses");
        // A megabyte a round trip of one millisecond, less the overhead of packets and the start.
        let round_trips = end.as_nanos() / 1_000_000;
        assert!(
            (8..=26).contains(&round_trips),
            "{round_trips} round trips with {rd_atomic} reads at a time"
        );
    }
}
