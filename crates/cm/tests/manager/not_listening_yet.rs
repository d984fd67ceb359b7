//! The peer's program listens only after it was asked.

use core::time::Duration;

use rocev2::Time;
use rocev2_cm::manager::{Connect, Dropped, Patience, Resolve};
use rocev2_cm::wire::{Message, PrivateData, RejectReason, SidrStatus};
use rocev2_cm::{CommId, Event, State, Transmit};

use crate::datagrams;
use crate::world::{PORT, Pair, connect};

const WITHIN: Duration = Duration::from_millis(200);

fn patient() -> Connect {
    let connect = connect(1);
    Connect { patience: Patience { listener_within: WITHIN, ..connect.patience }, ..connect }
}

/// A pair at whose second end nobody listens, and the first one's connection, refused once; with its REQ and the REJ.
fn refused() -> (Pair, CommId, Transmit, Transmit) {
    let mut pair = Pair::new();
    pair.ends[1].close_listener(PORT.id(), None).unwrap();
    let id = pair.ends[0].connect(pair.now, &patient()).unwrap();
    pair.send();
    let (_, req) = pair.wire.pop_front().unwrap();
    pair.give(0, &req).unwrap_err();
    pair.send();
    let (_, rej) = pair.wire.pop_front().unwrap();
    pair.give(1, &rej).unwrap();
    assert_eq!(pair.events(0), []);
    assert_eq!(pair.ends[0].state(id), Some(State::ReqSent));
    (pair, id, req, rej)
}

fn listen(pair: &mut Pair) {
    pair.ends[1].listen(PORT.id(), None, 8).unwrap();
}

/// The second end's program accepts what it is asked, and the connection gets established.
#[track_caller]
fn establish(pair: &mut Pair, first: CommId) -> CommId {
    let (second, _) = pair.request();
    pair.accept(second, 2);
    pair.deliver();
    assert!(matches!(pair.event(0), Event::ConnectResponse { id, .. } if id == first));
    pair.ends[0].establish(first, PrivateData::default()).unwrap();
    pair.deliver();
    assert!(matches!(pair.event(1), Event::Established { .. }));
    pair.assert_states([first, second], [State::Established; 2]);
    second
}

/// Both have forgotten it in the end.
fn end(mut pair: Pair, [first, second]: [CommId; 2]) {
    pair.ends[0].disconnect(pair.now, first, PrivateData::default()).unwrap();
    pair.deliver();
    pair.ends[1].disconnect(pair.now, second, PrivateData::default()).unwrap();
    pair.run();
    pair.assert_idle();
}

#[test]
fn who_listens_a_little_later_is_asked_again() {
    let (mut pair, first, ..) = refused();
    assert!(pair.step());
    pair.deliver();
    assert_eq!(pair.events(0), []);
    listen(&mut pair);
    assert!(pair.step());
    pair.deliver();
    // Two pauses, of 5 and 10 ms.
    assert_eq!(pair.now.since(Time::from_nanos(1)), Duration::from_millis(15));
    let second = establish(&mut pair, first);
    end(pair, [first, second]);
}

#[test]
fn that_nobody_listens_is_told_once_that_long_has_passed() {
    let (mut pair, id, ..) = refused();
    let mut asked = Vec::new();
    while pair.ends[0].state(id).is_some() {
        assert_eq!(pair.events(0), []);
        assert!(pair.step());
        let reqs = pair.messages().iter().filter(|mad| matches!(mad.message, Message::Req(_))).count();
        asked.push((pair.now.since(Time::from_nanos(1)).as_millis(), reqs));
        pair.deliver();
    }
    assert_eq!(asked, [5, 15, 35, 75, 155, 200].map(|at| (at, 1)));
    let event = pair.event(0);
    assert!(
        matches!(event, Event::Rejected { id: of, reason: RejectReason::InvalidServiceId, .. } if of == id),
        "{event:?}"
    );
    pair.assert_idle();
}

#[test]
fn another_refusal_is_told_at_once() {
    let mut pair = Pair::new();
    pair.ends[1].close_listener(PORT.id(), None).unwrap();
    pair.ends[1].listen(PORT.id(), None, 0).unwrap();
    let id = pair.ends[0].connect(pair.now, &patient()).unwrap();
    pair.deliver();
    let event = pair.event(0);
    assert!(
        matches!(event, Event::Rejected { id: of, reason: RejectReason::NoResources, .. } if of == id),
        "{event:?}"
    );
    pair.assert_idle();
}

#[test]
fn a_refusal_that_comes_twice_shortens_no_pause() {
    let (mut pair, _, _, rej) = refused();
    let next = pair.ends[0].poll_timeout();
    for _ in 0..20 {
        assert_eq!(pair.give(1, &rej), Err(Dropped::State(State::ReqSent)));
    }
    assert_eq!(pair.ends[0].poll_timeout(), next);
    assert_eq!(pair.messages(), []);
    assert_eq!(pair.events(0), []);
}

#[test]
fn asking_again_takes_none_of_the_repetitions() {
    let (mut pair, ..) = refused();
    let mut reqs = 0;
    while pair.step() {
        reqs += pair.messages().iter().filter(|mad| matches!(mad.message, Message::Req(_))).count();
        pair.lose();
    }
    assert_eq!(reqs, 1 + usize::from(patient().patience.max_retries));
}

#[test]
fn a_late_copy_of_the_refused_request_makes_the_connection() {
    let (mut pair, first, req, _) = refused();
    listen(&mut pair);
    pair.give(0, &req).unwrap();
    let second = establish(&mut pair, first);
    // There is nothing more to ask for, and another copy is nothing new.
    assert_eq!(pair.ends[0].poll_timeout(), None);
    pair.give(0, &req).unwrap_err();
    assert_eq!(pair.messages(), []);
    end(pair, [first, second]);
}

#[test]
fn a_late_copy_and_the_repeated_request_are_one_and_the_same() {
    let (mut pair, first, req, _) = refused();
    listen(&mut pair);
    pair.give(0, &req).unwrap();
    // The program takes its time, so that it is asked once more.
    assert!(pair.step());
    pair.deliver();
    let second = establish(&mut pair, first);
    end(pair, [first, second]);
}

#[test]
fn a_copy_that_comes_when_all_is_over_comes_to_nothing() {
    let (mut pair, id, req, _) = refused();
    pair.run();
    assert!(matches!(pair.event(0), Event::Rejected { .. }));
    assert_eq!(pair.ends[0].state(id), None);
    listen(&mut pair);
    pair.give(0, &req).unwrap();
    let (second, _) = pair.request();
    pair.accept(second, 2);
    pair.deliver();
    // The answer was refused, and who has accepted is told.
    let event = pair.event(1);
    assert!(
        matches!(event, Event::Rejected { id: of, reason: RejectReason::InvalidCommId, .. } if of == second),
        "{event:?}"
    );
    assert_eq!(pair.events(0), []);
    pair.run();
    pair.assert_idle();
}

#[test]
fn a_late_copy_of_a_refusal_ends_it_on_both_sides_at_worst() {
    let (mut pair, first, _, rej) = refused();
    // Refused as often as is allowed, but for the last time: then somebody listens.
    while pair.now.since(Time::from_nanos(1)) < WITHIN {
        pair.deliver();
        assert!(pair.step());
    }
    listen(&mut pair);
    pair.deliver();
    let (second, _) = pair.request();
    pair.give(1, &rej).unwrap();
    let event = pair.event(0);
    assert!(matches!(event, Event::Rejected { id, .. } if id == first), "{event:?}");
    pair.accept(second, 2);
    pair.deliver();
    assert!(matches!(pair.event(1), Event::Rejected { reason: RejectReason::InvalidCommId, .. }));
    pair.run();
    pair.assert_idle();
}

#[test]
fn who_is_given_up_isnt_asked_again() {
    let (mut pair, id, ..) = refused();
    pair.ends[0].abandon(pair.now, id);
    pair.run();
    assert_eq!(pair.events(0), []);
    pair.assert_idle();
}

#[test]
fn who_serves_datagrams_a_little_later_is_asked_again_too() {
    let mut pair = datagrams::pair();
    pair.ends[1].close_listener(datagrams::PORT.id(), None).unwrap();
    let resolve = datagrams::resolve();
    let patient = Patience { listener_within: WITHIN, ..resolve.patience };
    let first = pair.ends[0].resolve(pair.now, &Resolve { patience: patient, ..resolve }).unwrap();
    pair.deliver();
    assert_eq!(pair.events(0), []);
    pair.ends[1].listen(datagrams::PORT.id(), None, 8).unwrap();
    assert!(pair.step());
    pair.deliver();
    let second = datagrams::request(&mut pair);
    pair.ends[1].answer(pair.now, second, &datagrams::answer()).unwrap();
    pair.deliver();
    assert!(
        matches!(pair.event(0), Event::SidrResponse { id, status: SidrStatus::Valid, .. } if id == first)
    );

    pair.ends[1].close_listener(datagrams::PORT.id(), None).unwrap();
    let begun = pair.now;
    let first = pair.ends[0].resolve(pair.now, &Resolve { patience: patient, ..resolve }).unwrap();
    while pair.ends[0].state(first).is_some() {
        assert_eq!(pair.events(0), []);
        pair.deliver();
        assert!(pair.ends[0].state(first).is_none() || pair.step());
    }
    assert!(matches!(pair.event(0), Event::SidrResponse { status: SidrStatus::Unsupported, .. }));
    assert_eq!(pair.now.since(begun), WITHIN);
    pair.run();
    pair.assert_idle();
}
