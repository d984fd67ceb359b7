//! Nothing is lost: connecting, refusing, disconnecting.

use rocev2::Mtu;
use rocev2_cm::manager::Error;
use rocev2_cm::wire::{Message, PrivateData, RejectReason};
use rocev2_cm::{CommId, Event, Exponent, State};

use crate::world::{PORT, Pair, agree, connect, gid, private_data, queue_pair};

#[test]
fn both_sides_get_the_others_queue_pair_and_private_data() {
    let mut pair = Pair::new();
    let first = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    assert_eq!(pair.ends[0].attributes(first), None, "the peer isn't known yet");
    pair.deliver();
    let (second, request) = pair.request();
    assert_eq!(request.qpn, queue_pair(1).qpn);
    assert_eq!(request.mtu, Mtu::B1024);
    assert_eq!(request.private_data, private_data(1));
    let addressing = request.addressing.unwrap();
    assert_eq!(addressing.source, "192.0.2.1:40001".parse().unwrap());
    assert_eq!(addressing.destination, "192.0.2.2".parse::<std::net::IpAddr>().unwrap());
    pair.assert_states([first, second], [State::ReqSent, State::ReqRcvd]);

    pair.ends[1].prepare(second, queue_pair(2)).unwrap();
    assert!(pair.ends[1].attributes(second).is_some(), "RTR comes before the REP");
    pair.accept(second, 2);
    pair.deliver();
    let Event::ConnectResponse { id, response } = pair.event(0) else { panic!("a response") };
    assert_eq!((id, response.qpn), (first, queue_pair(2).qpn));
    assert_eq!(response.private_data, PrivateData::new(&2_u32.to_be_bytes()).unwrap());
    pair.assert_states([first, second], [State::RepRcvd, State::RepSent]);

    let private = PrivateData::new(b"ready").unwrap();
    pair.ends[0].establish(first, private).unwrap();
    pair.deliver();
    assert_eq!(pair.event(1), Event::Established { id: second, private_data: Some(private) });
    pair.assert_states([first, second], [State::Established; 2]);
    let [a, b] = [0, 1].map(|end| pair.ends[end].attributes([first, second][end]).unwrap());
    assert!(agree(&a, &b, [queue_pair(1).qpn, queue_pair(2).qpn]), "{a:?} {b:?}");
    assert_eq!([a.rnr_retry, a.max_rd_atomic, a.max_dest_rd_atomic], [6, 3, 3]);
    assert_eq!(pair.ends[1].half_open(), 0);
    assert_eq!(pair.ends[0].poll_timeout(), None, "an established connection has no timer");
}

#[test]
fn a_disconnection_is_told_once_on_both_sides_and_then_nothing_is_left() {
    let mut pair = Pair::new();
    let ids = pair.connected(1);
    pair.ends[0].disconnect(pair.now, ids[0], PrivateData::default()).unwrap();
    pair.deliver();
    assert_eq!(pair.event(1), Event::Disconnected { id: ids[1] });
    pair.assert_states(ids, [State::DreqSent, State::DreqRcvd]);
    assert_eq!(pair.events(0), [], "the peer hasn't answered");

    pair.ends[1].disconnect(pair.now, ids[1], PrivateData::default()).unwrap();
    pair.deliver();
    assert_eq!(pair.event(0), Event::Disconnected { id: ids[0] });
    pair.assert_states(ids, [State::TimeWait; 2]);
    pair.ends[0].disconnect(pair.now, ids[0], PrivateData::default()).unwrap();
    pair.run();
    for end in [0, 1] {
        assert_eq!(pair.event(end), Event::TimeWaitExit { id: ids[end] });
    }
    pair.assert_idle();
}

#[test]
fn a_peer_isnt_kept_waiting_by_a_program_that_doesnt_follow_a_disconnection() {
    let mut pair = Pair::new();
    let ids = pair.connected(1);
    pair.ends[0].disconnect(pair.now, ids[0], PrivateData::default()).unwrap();
    pair.run();
    assert_eq!(pair.events(0), [Event::Disconnected { id: ids[0] }, Event::TimeWaitExit { id: ids[0] }]);
    assert_eq!(pair.events(1), [Event::Disconnected { id: ids[1] }, Event::TimeWaitExit { id: ids[1] }]);
    pair.assert_idle();
}

#[test]
fn both_may_disconnect_at_once() {
    let mut pair = Pair::new();
    let ids = pair.connected(1);
    for end in [0, 1] {
        pair.ends[end].disconnect(pair.now, ids[end], PrivateData::default()).unwrap();
    }
    pair.run();
    for end in [0, 1] {
        assert_eq!(
            pair.events(end),
            [Event::Disconnected { id: ids[end] }, Event::TimeWaitExit { id: ids[end] }]
        );
    }
    pair.assert_idle();
}

#[test]
fn a_refusal_carries_reason_and_private_data() {
    let mut pair = Pair::new();
    let first = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    pair.deliver();
    let (second, _) = pair.request();
    let private = PrivateData::new(b"no").unwrap();
    pair.ends[1].reject(pair.now, second, RejectReason::Consumer, b"why", private).unwrap();
    assert_eq!(pair.ends[1].state(second), None);
    pair.deliver();
    let Event::Rejected { id, reason, ari_len, ari, private_data } = pair.event(0) else {
        panic!("rejected")
    };
    assert_eq!(
        (id, reason, &ari[..ari_len], private_data),
        (first, RejectReason::Consumer, b"why".as_slice(), private)
    );
    pair.assert_idle();
}

#[test]
fn an_answer_may_be_refused_too() {
    let mut pair = Pair::new();
    let first = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    pair.deliver();
    let (second, _) = pair.request();
    pair.accept(second, 2);
    pair.deliver();
    pair.events(0);
    pair.ends[0].reject(pair.now, first, RejectReason::Consumer, &[], PrivateData::default()).unwrap();
    pair.deliver();
    assert!(
        matches!(pair.event(1), Event::Rejected { id, reason: RejectReason::Consumer, .. } if id == second)
    );
    pair.assert_states([first, second], [State::TimeWait; 2]);
    pair.run();
    pair.assert_idle();
}

#[test]
fn nobody_listening_is_a_refusal_with_reason_8() {
    let mut pair = Pair::new();
    pair.ends[1].close_listener(PORT.id(), None).unwrap();
    let id = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    pair.deliver();
    let event = pair.event(0);
    let Event::Rejected { id: rejected, reason, .. } = event else { panic!("{event:?}") };
    assert_eq!((rejected, reason), (id, RejectReason::InvalidServiceId));
    assert_eq!(RejectReason::InvalidServiceId.code(), 8);
    pair.assert_idle();
}

#[test]
fn a_listener_at_one_address_gets_what_is_for_that_address_alone() {
    let mut pair = Pair::new();
    pair.ends[1].close_listener(PORT.id(), None).unwrap();
    pair.ends[1].listen(PORT.id(), Some(gid(7)), 8).unwrap();
    assert_eq!(pair.ends[1].listen(PORT.id(), Some(gid(7)), 8), Err(Error::InUse));
    pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    pair.deliver();
    assert!(matches!(pair.event(0), Event::Rejected { reason: RejectReason::InvalidServiceId, .. }));
    pair.ends[1].listen(PORT.id(), Some(gid(1)), 8).unwrap();
    pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    pair.deliver();
    pair.request();
}

#[test]
fn calls_that_the_state_doesnt_allow_are_refused() {
    let mut pair = Pair::new();
    let id = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    let refused = Err(Error::State(State::ReqSent));
    assert_eq!(pair.ends[0].establish(id, PrivateData::default()), refused);
    assert_eq!(pair.ends[0].disconnect(pair.now, id, PrivateData::default()), refused);
    assert_eq!(
        pair.ends[0].accept(pair.now, id, queue_pair(1), Exponent::default(), PrivateData::default()),
        refused
    );
    let unknown = CommId::new(id.get() ^ 1);
    assert_eq!(pair.ends[0].establish(unknown, PrivateData::default()), Err(Error::UnknownId));
    let mut management = connect(1);
    management.queue_pair.qpn = rocev2::Qpn::truncate(1);
    assert_eq!(pair.ends[0].connect(pair.now, &management), Err(Error::QueuePairNumber));
}

#[test]
fn a_queue_pair_that_is_connected_is_stale_for_another_request() {
    let mut pair = Pair::new();
    let ids = pair.connected(1);
    // The peer has restarted: it knows nothing of the connection, and uses the queue pair's number again.
    for told in [true, false] {
        let id = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
        pair.deliver();
        assert_eq!(pair.events(1), if told { vec![Event::Stale { id: ids[1] }] } else { vec![] });
        let event = pair.event(0);
        let Event::Rejected { id: rejected, reason, .. } = event else { panic!("{event:?}") };
        assert_eq!((rejected, reason), (id, RejectReason::StaleConnection));
        pair.assert_states(ids, [State::Established; 2]);
    }
    // Once the old connection is over, it connects.
    pair.ends[1].disconnect(pair.now, ids[1], PrivateData::default()).unwrap();
    pair.run();
    pair.events(0);
    pair.events(1);
    pair.connected(1);
}

#[test]
fn an_answer_with_a_queue_pair_that_is_connected_already_is_stale_too() {
    let mut pair = Pair::new();
    let ids = pair.connected(1);
    let before = pair.ends[0].attributes(ids[0]);
    // The second end accepts with a queue pair that the first one knows as connected.
    let id = pair.ends[0].connect(pair.now, &connect(2)).unwrap();
    pair.deliver();
    let (second, _) = pair.request();
    pair.accept(second, 0x1001);
    pair.deliver();
    let events = pair.events(0);
    let [Event::Stale { id: old }, Event::Rejected { id: rejected, reason, .. }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((*old, *rejected, *reason), (ids[0], id, RejectReason::StaleConnection));
    let event = pair.event(1);
    let Event::Rejected { id: rejected, reason, .. } = event else { panic!("{event:?}") };
    assert_eq!((rejected, reason), (second, RejectReason::StaleConnection));
    assert_eq!((pair.ends[0].state(id), pair.ends[0].attributes(ids[0])), (None, before));
    pair.assert_states(ids, [State::Established; 2]);
}

#[test]
fn a_request_to_oneself_connects_two_queue_pairs_of_one_manager() {
    let mut pair = Pair::new();
    let manager = &mut pair.ends[1];
    let mut to_itself = connect(1);
    to_itself.path.local = gid(1);
    let first = manager.connect(pair.now, &to_itself).unwrap();
    let mut second = None;
    while let Some(transmit) = manager.poll_transmit() {
        manager.handle(pair.now, transmit.path, &transmit.mad).unwrap();
        match manager.poll_event() {
            Some(Event::ConnectRequest { id, .. }) => {
                second = Some(id);
                manager
                    .accept(pair.now, id, queue_pair(2), Exponent::default(), PrivateData::default())
                    .unwrap();
            }
            Some(Event::ConnectResponse { id, .. }) => manager.establish(id, PrivateData::default()).unwrap(),
            _ => {}
        }
    }
    let second = second.unwrap();
    assert_eq!([first, second].map(|id| manager.state(id)), [Some(State::Established); 2]);
    let [a, b] = [first, second].map(|id| manager.attributes(id).unwrap());
    assert!(agree(&a, &b, [queue_pair(1).qpn, queue_pair(2).qpn]));
}

#[test]
fn an_alternate_path_is_refused_as_unsupported() {
    use rocev2_cm::wire::{ApStatus, Lap, Mad};
    let mut pair = Pair::new();
    let ids = pair.connected(1);
    let lap = |remote_comm_id, qpn| Lap {
        local_comm_id: ids[0],
        remote_comm_id,
        remote_qpn: qpn,
        remote_cm_response_timeout: Exponent::RESPONSE,
        alternate_local_port_lid: 0,
        alternate_remote_port_lid: 0,
        alternate_local_port_gid: gid(3),
        alternate_remote_port_gid: gid(4),
        alternate_flow_label: 0,
        alternate_traffic_class: 0,
        alternate_hop_limit: 0,
        alternate_packet_rate: 0,
        alternate_sl: 0,
        alternate_subnet_local: false,
        alternate_local_ack_timeout: Exponent::default(),
        private_data: PrivateData::default(),
    };
    let own = queue_pair(0x1001).qpn;
    for (id, qpn, expected) in [
        (ids[1], own, ApStatus::Unsupported),
        (ids[1], queue_pair(1).qpn, ApStatus::InvalidQpn),
        (CommId::new(5), own, ApStatus::InvalidCommId),
    ] {
        let mad = Mad { transaction_id: 5, message: lap(id, qpn).into() }.encode();
        let path = rocev2_cm::Path { local: gid(1), remote: gid(0) };
        assert!(pair.ends[1].handle(pair.now, path, &mad).is_err());
        let messages = pair.messages();
        let [Mad { transaction_id: 5, message: Message::Apr(apr) }] = messages.as_slice() else {
            panic!("{messages:?}")
        };
        assert_eq!((apr.ap_status, apr.remote_comm_id), (expected, ids[0]));
        pair.deliver();
    }
    pair.assert_states(ids, [State::Established; 2]);
}
