//! Single messages are lost, repeated or late.

use rocev2::Time;
use rocev2_cm::manager::{Dropped, Patience};
use rocev2_cm::wire::{Mad, Message, PrivateData, RejectReason};
use rocev2_cm::{CommId, Config, Event, State};

use crate::world::{Pair, connect, queue_pair};

/// A pair whose second end has accepted, with the REP under way.
fn accepted() -> (Pair, [CommId; 2]) {
    let mut pair = Pair::new();
    let first = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    pair.deliver();
    let (second, _) = pair.request();
    pair.accept(second, 2);
    pair.send();
    (pair, [first, second])
}

#[test]
fn a_req_that_is_never_answered_is_sent_as_often_as_was_said_and_then_given_up() {
    let mut pair = Pair::new();
    let id = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    let mut sent = Vec::new();
    loop {
        sent.extend(pair.messages().into_iter().map(|mad| mad.message));
        pair.lose();
        if !pair.step() {
            break;
        }
    }
    let reqs = sent.iter().filter(|message| matches!(message, Message::Req(_))).count();
    assert_eq!(reqs, 11, "one and ten retries");
    let Some(Message::Rej(rej)) = sent.last() else { panic!("{:?}", sent.last()) };
    assert_eq!((rej.local_comm_id, rej.reason), (id, RejectReason::Timeout));
    assert_eq!(pair.event(0), Event::Unreachable { id });
    // Each time as long as the peer may take to answer, and the way there and back.
    let each = connect(1).patience.response_timeout.duration() + connect(1).route.ack_timeout.duration();
    assert_eq!(pair.now.since(Time::from_nanos(1)), each * 11);
    pair.assert_idle();
}

#[test]
fn who_gives_up_tells_a_peer_whose_caller_hasnt_answered() {
    let mut pair = Pair::new();
    let first = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    pair.deliver();
    let (second, _) = pair.request();
    // Nothing more comes from the second end, and then the last message of the first one arrives.
    while pair.ends[0].state(first).is_some() {
        assert!(pair.step());
        pair.send();
        pair.wire.retain(|(from, transmit)| {
            *from == 0 && matches!(Mad::parse(&transmit.mad).unwrap().message, Message::Rej(_))
        });
    }
    pair.deliver();
    assert!(
        matches!(pair.event(1), Event::Rejected { id, reason: RejectReason::Timeout, .. } if id == second)
    );
    pair.assert_idle();
}

#[test]
fn a_lost_req_is_repeated_and_the_connection_made() {
    let mut pair = Pair::new();
    pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    pair.lose();
    pair.step();
    pair.deliver();
    pair.request();
}

#[test]
fn a_repeated_req_is_answered_with_an_mra_and_told_once() {
    let mut pair = Pair::new();
    let first = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    pair.deliver();
    let (second, _) = pair.request();
    let before = pair.ends[0].poll_timeout().unwrap();
    pair.step();
    assert_eq!(pair.now, before);
    pair.deliver();
    assert_eq!(pair.events(1), []);
    // The MRA's 69 s are more than the limit, 20 s.
    assert_eq!(pair.ends[0].poll_timeout(), Some(pair.now + Config::default().max_response_timeout));
    // The one that answers the next repetition extends nothing.
    pair.step();
    pair.deliver();
    let each = connect(1).patience.response_timeout.duration() + connect(1).route.ack_timeout.duration();
    assert_eq!(pair.ends[0].poll_timeout(), Some(pair.now + each));
    assert_eq!(pair.events(1), []);
    pair.accept(second, 2);
    pair.deliver();
    assert!(matches!(pair.event(0), Event::ConnectResponse { id, .. } if id == first));
}

#[test]
fn a_lost_rep_is_repeated() {
    let (mut pair, ids) = accepted();
    pair.lose();
    pair.step();
    pair.deliver();
    assert!(matches!(pair.event(0), Event::ConnectResponse { .. }));
    pair.assert_states(ids, [State::RepRcvd, State::RepSent]);
}

#[test]
fn a_repeated_req_fetches_a_lost_rep() {
    let mut pair = Pair::new();
    pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    pair.send();
    let req = pair.wire[0];
    pair.deliver();
    let (second, _) = pair.request();
    pair.accept(second, 2);
    pair.lose();
    assert_eq!(pair.give(req.0, &req.1), Err(Dropped::State(State::RepSent)));
    pair.deliver();
    assert!(matches!(pair.event(0), Event::ConnectResponse { .. }));
}

#[test]
fn a_rep_that_comes_twice_is_told_once() {
    let (mut pair, ids) = accepted();
    let rep = pair.wire[0];
    pair.deliver();
    assert!(matches!(pair.event(0), Event::ConnectResponse { .. }));
    assert_eq!(pair.give(rep.0, &rep.1), Err(Dropped::State(State::RepRcvd)));
    assert_eq!(pair.events(0), []);
    let messages = pair.messages();
    assert!(matches!(messages[..], [Mad { message: Message::Mra(_), .. }]), "{messages:?}");
    pair.deliver();
    pair.assert_states(ids, [State::RepRcvd, State::RepSent]);
}

#[test]
fn a_lost_rtu_is_sent_again_when_the_rep_is() {
    let (mut pair, ids) = accepted();
    pair.deliver();
    pair.events(0);
    pair.ends[0].establish(ids[0], PrivateData::default()).unwrap();
    pair.lose();
    pair.assert_states(ids, [State::Established, State::RepSent]);
    pair.step();
    pair.deliver();
    assert!(matches!(pair.event(1), Event::Established { private_data: Some(_), .. }));
    assert_eq!(pair.events(0), []);
}

#[test]
fn a_first_message_establishes_where_the_rtu_is_lost() {
    let (mut pair, ids) = accepted();
    pair.deliver();
    pair.events(0);
    pair.ends[0].establish(ids[0], PrivateData::default()).unwrap();
    pair.send();
    let rtu = pair.wire[0];
    pair.wire.clear();
    pair.ends[1].communication_established(ids[1]);
    assert_eq!(pair.event(1), Event::Established { id: ids[1], private_data: None });
    pair.ends[1].communication_established(ids[1]);
    assert_eq!(pair.give(rtu.0, &rtu.1), Err(Dropped::State(State::Established)));
    assert_eq!(pair.events(1), []);
    assert_eq!(pair.ends[1].poll_timeout(), None);
}

#[test]
fn a_rep_that_is_never_answered_ends_in_time_wait_and_both_sides_know() {
    let (mut pair, ids) = accepted();
    pair.deliver();
    pair.events(0);
    pair.ends[0].establish(ids[0], PrivateData::default()).unwrap();
    // No RTU arrives, until the second end gives up.
    while pair.ends[1].state(ids[1]) == Some(State::RepSent) {
        pair.lose();
        pair.step();
    }
    assert_eq!(pair.event(1), Event::Unreachable { id: ids[1] });
    pair.deliver();
    assert!(
        matches!(pair.event(0), Event::Rejected { id, reason: RejectReason::Timeout, .. } if id == ids[0])
    );
    pair.assert_states(ids, [State::TimeWait; 2]);
    pair.run();
    pair.assert_idle();
}

#[test]
fn a_request_that_the_program_never_answers_ends_by_whoever_loses_patience_first() {
    for (retries, peer_first) in [(5, true), (15, false)] {
        let mut pair = Pair::new();
        let mut patience = connect(1);
        patience.patience = Patience { max_retries: retries, ..Patience::default() };
        let first = pair.ends[0].connect(pair.now, &patience).unwrap();
        pair.deliver();
        let (second, _) = pair.request();
        pair.run();
        let (who, whose, other, others) =
            if peer_first { (0, first, 1, second) } else { (1, second, 0, first) };
        assert_eq!(pair.event(who), Event::Unreachable { id: whose });
        let event = pair.event(other);
        assert!(
            matches!(event, Event::Rejected { id, reason: RejectReason::Timeout, .. } if id == others),
            "{event:?}"
        );
        pair.assert_idle();
    }
}

#[test]
fn a_program_that_never_establishes_ends_the_connection_on_both_sides() {
    let (mut pair, ids) = accepted();
    pair.run();
    assert!(
        matches!(pair.events(0)[..], [Event::ConnectResponse { .. }, ref end, Event::TimeWaitExit { .. }]
        if matches!(end, Event::Unreachable { id } | Event::Rejected { id, .. } if *id == ids[0]))
    );
    let events = pair.events(1);
    assert!(
        matches!(
            events[..],
            [Event::Unreachable { .. } | Event::Rejected { .. }, Event::TimeWaitExit { .. }]
        ),
        "{events:?}"
    );
    pair.assert_idle();
}

#[test]
fn a_dreq_that_is_never_answered_ends_the_connection_here() {
    let mut pair = Pair::new();
    let ids = pair.connected(1);
    pair.ends[0].disconnect(pair.now, ids[0], PrivateData::default()).unwrap();
    pair.lose();
    pair.let_everything_expire();
    assert_eq!(pair.events(0), [Event::Disconnected { id: ids[0] }, Event::TimeWaitExit { id: ids[0] }]);
    assert_eq!(pair.ends[1].state(ids[1]), Some(State::Established));
    // The other side is answered even though nothing of it is known here any more.
    pair.ends[1].disconnect(pair.now, ids[1], PrivateData::default()).unwrap();
    pair.deliver();
    assert_eq!(pair.event(1), Event::Disconnected { id: ids[1] });
    pair.run();
    pair.assert_idle();
}

#[test]
fn a_lost_drep_is_sent_again() {
    let mut pair = Pair::new();
    let ids = pair.connected(1);
    pair.ends[0].disconnect(pair.now, ids[0], PrivateData::default()).unwrap();
    pair.deliver();
    pair.ends[1].disconnect(pair.now, ids[1], PrivateData::default()).unwrap();
    pair.lose();
    pair.assert_states(ids, [State::DreqSent, State::TimeWait]);
    pair.events(1);
    while pair.ends[0].state(ids[0]) == Some(State::DreqSent) {
        pair.step();
        pair.deliver();
    }
    assert_eq!(pair.event(0), Event::Disconnected { id: ids[0] });
    pair.run();
    pair.assert_idle();
}

#[test]
fn a_dreq_is_answered_in_time_wait_and_when_nothing_is_known_any_more() {
    let mut pair = Pair::new();
    let ids = pair.connected(1);
    pair.ends[0].disconnect(pair.now, ids[0], PrivateData::default()).unwrap();
    pair.send();
    let (from, dreq) = pair.wire[0];
    let transaction_id = pair.messages()[0].transaction_id;
    pair.deliver();
    pair.ends[1].disconnect(pair.now, ids[1], PrivateData::default()).unwrap();
    for dropped in [Dropped::State(State::TimeWait), Dropped::UnknownId] {
        pair.lose();
        assert_eq!(pair.give(from, &dreq), Err(dropped));
        let messages = pair.messages();
        let [Mad { transaction_id: answered, message: Message::Drep(drep) }] = messages.as_slice() else {
            panic!("{messages:?}")
        };
        assert_eq!((*answered, drep.local_comm_id, drep.remote_comm_id), (transaction_id, ids[1], ids[0]));
        while pair.ends[1].state(ids[1]).is_some() {
            pair.step();
            pair.lose();
        }
    }
}

#[test]
fn a_dreq_that_overtakes_the_rtu_ends_the_connection() {
    let (mut pair, ids) = accepted();
    pair.deliver();
    pair.events(0);
    pair.ends[0].establish(ids[0], PrivateData::default()).unwrap();
    pair.ends[0].disconnect(pair.now, ids[0], PrivateData::default()).unwrap();
    pair.send();
    pair.wire.swap(0, 1);
    pair.run();
    assert_eq!(pair.events(1), [Event::Disconnected { id: ids[1] }, Event::TimeWaitExit { id: ids[1] }]);
    assert_eq!(pair.events(0), [Event::Disconnected { id: ids[0] }, Event::TimeWaitExit { id: ids[0] }]);
    pair.assert_idle();
}

#[test]
fn a_late_req_of_a_connection_that_is_over_comes_to_nothing() {
    let mut pair = Pair::new();
    pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    pair.send();
    let req = pair.wire[0];
    pair.deliver();
    let (second, _) = pair.request();
    pair.ends[1].reject(pair.now, second, RejectReason::Consumer, &[], PrivateData::default()).unwrap();
    pair.deliver();
    assert!(matches!(pair.event(0), Event::Rejected { .. }));

    pair.give(req.0, &req.1).unwrap();
    let (again, request) = pair.request();
    assert_eq!(request.qpn, queue_pair(1).qpn);
    pair.accept(again, 2);
    pair.deliver();
    assert_eq!(pair.events(0), [], "it has asked for nothing");
    assert!(
        matches!(pair.event(1), Event::Rejected { id, reason: RejectReason::InvalidCommId, .. } if id == again)
    );
    pair.run();
    pair.assert_idle();
}

#[test]
fn what_is_abandoned_is_over_for_the_peer_and_never_told_again() {
    type Prepare = fn(&mut Pair) -> [CommId; 2];
    let requested: Prepare = |pair| {
        let first = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
        pair.deliver();
        [first, pair.request().0]
    };
    let answered: Prepare = |pair| {
        let first = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
        pair.deliver();
        let (second, _) = pair.request();
        pair.accept(second, 2);
        pair.deliver();
        pair.events(0);
        [first, second]
    };
    let established: Prepare = |pair| pair.connected(1);
    let ended: Prepare = |pair| {
        let ids = pair.connected(1);
        pair.ends[0].disconnect(pair.now, ids[0], PrivateData::default()).unwrap();
        pair.deliver();
        pair.events(1);
        ids
    };
    for prepare in [requested, answered, established, ended] {
        for end in [0, 1] {
            let mut pair = Pair::new();
            let ids = prepare(&mut pair);
            pair.ends[end].abandon(pair.now, ids[end]);
            let before = pair.ends[1 - end].state(ids[1 - end]);
            pair.run();
            assert_eq!(pair.events(end), []);
            let events = pair.events(1 - end);
            assert!(!events.is_empty(), "the peer of end {end}, in {before:?}, is told");
            pair.assert_idle();
        }
    }
}
