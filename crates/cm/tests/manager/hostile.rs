//! Peers that forge, and peers that are wrong.

use rocev2::{Psn, Qpn};
use rocev2_cm::manager::{Dropped, Refusal};
use rocev2_cm::wire::{
    Drep, Dreq, Mad, Message, MessageRejected, Mra, PrivateData, Rej, RejectReason, Req, Rtu,
    TransportServiceType,
};
use rocev2_cm::{CommId, Event, Exponent, Gid, Path, State};

use crate::world::{PORT, Pair, connect, gid, queue_pair};

const TO_SECOND: fn() -> Path = || Path { local: gid(1), remote: gid(0) };

fn rej(local: CommId, remote: CommId, reason: RejectReason) -> Message {
    Rej {
        local_comm_id: local,
        remote_comm_id: remote,
        message_rejected: MessageRejected::None,
        reject_info_length: 0,
        reason,
        ari: [0; 72],
        private_data: PrivateData::default(),
    }
    .into()
}

fn dreq(local: CommId, remote: CommId, remote_qpn: Qpn) -> Message {
    Dreq { local_comm_id: local, remote_comm_id: remote, remote_qpn, private_data: PrivateData::default() }
        .into()
}

fn other(id: CommId) -> CommId {
    CommId::new(id.get() ^ 1)
}

/// Gives a forged message to the second end, as if from the first.
fn forge(pair: &mut Pair, transaction_id: u64, message: Message) -> Result<(), Dropped> {
    pair.ends[1].handle(pair.now, TO_SECOND(), &Mad { transaction_id, message }.encode())
}

#[test]
fn what_ends_a_connection_must_name_both_ids_and_a_dreq_the_queue_pair() {
    let mut pair = Pair::new();
    let ids = pair.connected(1);
    let qpn = queue_pair(0x1001).qpn;
    for message in [
        rej(ids[0], other(ids[1]), RejectReason::Timeout),
        rej(other(ids[0]), ids[1], RejectReason::Timeout),
        rej(ids[0], CommId::NONE, RejectReason::Timeout),
        rej(CommId::NONE, ids[1], RejectReason::Timeout),
        dreq(ids[0], other(ids[1]), qpn),
        dreq(other(ids[0]), ids[1], qpn),
        dreq(CommId::NONE, ids[1], qpn),
        dreq(ids[0], ids[1], Qpn::truncate(qpn.get() ^ 1)),
        Drep { local_comm_id: ids[0], remote_comm_id: ids[1], private_data: PrivateData::default() }.into(),
        Rtu { local_comm_id: ids[0], remote_comm_id: ids[1], private_data: PrivateData::default() }.into(),
    ] {
        assert!(forge(&mut pair, 7, message).is_err(), "{message:?}");
        pair.lose();
        pair.assert_states(ids, [State::Established; 2]);
        assert_eq!(pair.events(1), [], "{message:?}");
    }
    // All of it right, but from somewhere else.
    let genuine = Mad { transaction_id: 7, message: dreq(ids[0], ids[1], qpn) }.encode();
    for path in [Path { local: gid(1), remote: gid(5) }, Path { local: gid(5), remote: gid(0) }] {
        assert_eq!(pair.ends[1].handle(pair.now, path, &genuine), Err(Dropped::WrongInstance));
    }
    pair.assert_states(ids, [State::Established; 2]);
    pair.ends[1].handle(pair.now, TO_SECOND(), &genuine).unwrap();
    assert_eq!(pair.event(1), Event::Disconnected { id: ids[1] });
}

#[test]
fn before_the_ids_are_known_a_forger_has_to_name_the_transaction() {
    let mut pair = Pair::new();
    let first = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    let transaction_id = pair.messages()[0].transaction_id;
    let to_first = Path { local: gid(0), remote: gid(1) };
    let mra = Mra {
        local_comm_id: CommId::new(9),
        remote_comm_id: first,
        message_mraed: rocev2_cm::wire::MessageMraed::Req,
        service_timeout: Exponent::new(31).unwrap(),
        private_data: PrivateData::default(),
    };
    for message in [rej(CommId::NONE, first, RejectReason::InvalidServiceId), mra.into()] {
        let forged = Mad { transaction_id: transaction_id ^ 1, message }.encode();
        let before = pair.ends[0].poll_timeout();
        assert_eq!(pair.ends[0].handle(pair.now, to_first, &forged), Err(Dropped::Transaction));
        assert_eq!(pair.ends[0].poll_timeout(), before);
    }
    pair.deliver();
    let (second, _) = pair.request();
    assert_eq!(
        forge(&mut pair, transaction_id ^ 1, rej(first, CommId::NONE, RejectReason::Timeout)),
        Err(Dropped::Transaction)
    );
    pair.assert_states([first, second], [State::ReqSent, State::ReqRcvd]);
    pair.accept(second, 2);
    let rep = pair.messages();
    let Message::Rep(rep) = rep[0].message else { panic!("{rep:?}") };
    let forged = Mad { transaction_id: transaction_id ^ 1, message: rep.into() }.encode();
    assert_eq!(pair.ends[0].handle(pair.now, to_first, &forged), Err(Dropped::Transaction));
    pair.deliver();
    assert!(matches!(pair.event(0), Event::ConnectResponse { .. }));
}

#[test]
fn a_second_answer_to_a_req_changes_nothing() {
    let mut pair = Pair::new();
    let first = pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    pair.deliver();
    let (second, _) = pair.request();
    pair.accept(second, 2);
    let messages = pair.messages();
    let Mad { transaction_id, message: Message::Rep(genuine) } = messages[0] else { panic!("{messages:?}") };
    pair.deliver();
    pair.events(0);
    let mut late = genuine;
    late.local_comm_id = other(genuine.local_comm_id);
    late.local_qpn = Qpn::truncate(0xbad);
    late.starting_psn = Psn::truncate(0xbad);
    let before = pair.ends[0].attributes(first);
    let path = Path { local: gid(0), remote: gid(1) };
    let mad = Mad { transaction_id, message: late.into() }.encode();
    assert_eq!(pair.ends[0].handle(pair.now, path, &mad), Err(Dropped::WrongInstance));
    assert_eq!(pair.ends[0].attributes(first), before);
    // Its sender is told, by both ids.
    let messages = pair.messages();
    let Message::Rej(rej) = messages[0].message else { panic!("{messages:?}") };
    assert_eq!((rej.local_comm_id, rej.remote_comm_id), (first, late.local_comm_id));
    assert_eq!(rej.reason, RejectReason::InvalidCommInstance);
}

/// A REQ as it would come from the first end.
fn req() -> Req {
    let mut pair = Pair::new();
    pair.ends[0].connect(pair.now, &connect(1)).unwrap();
    match pair.messages()[0].message {
        Message::Req(req) => req,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_req_that_cant_be_is_refused_with_the_reason_for_it() {
    type Change = fn(&mut Req);
    let cases: [(Change, Refusal, RejectReason); 8] = [
        (|req| req.service_id += 1, Refusal::NoListener, RejectReason::InvalidServiceId),
        (
            |req| req.transport_service_type = TransportServiceType::Rd,
            Refusal::Transport,
            RejectReason::InvalidTransportServiceType,
        ),
        (
            |req| req.transport_service_type = TransportServiceType::Extended,
            Refusal::Transport,
            RejectReason::InvalidTransportServiceType,
        ),
        (|req| req.path_packet_payload_mtu = 0, Refusal::PathMtu, RejectReason::InvalidPathMtu),
        (|req| req.path_packet_payload_mtu = 6, Refusal::PathMtu, RejectReason::InvalidPathMtu),
        (
            |req| req.primary_local_port_gid = Gid([9; 16]),
            Refusal::Addresses,
            RejectReason::PrimaryRemotePortGid,
        ),
        (|req| req.local_qpn = Qpn::truncate(1), Refusal::QueuePairNumber, RejectReason::InvalidCommInstance),
        (
            |req| req.private_data = PrivateData::default(),
            Refusal::IpAddressing(rocev2_cm::ip::IpError::IpVersion(0)),
            RejectReason::Consumer,
        ),
    ];
    for (change, refusal, reason) in cases {
        let mut pair = Pair::new();
        let mut req = req();
        change(&mut req);
        assert_eq!(forge(&mut pair, 7, req.into()), Err(Dropped::Refused(refusal)));
        let messages = pair.messages();
        let [Mad { transaction_id: 7, message: Message::Rej(rej) }] = messages.as_slice() else {
            panic!("{messages:?}")
        };
        assert_eq!((rej.reason, rej.message_rejected), (reason, MessageRejected::Req));
        assert_eq!((rej.local_comm_id, rej.remote_comm_id), (CommId::NONE, req.local_comm_id));
        pair.assert_idle();
    }
}

#[test]
fn an_id_that_is_used_twice_is_refused_and_the_first_connection_stays() {
    let mut pair = Pair::new();
    let genuine = req();
    forge(&mut pair, 7, genuine.into()).unwrap();
    let (id, request) = pair.request();
    for again in [
        Req { local_qpn: Qpn::truncate(0xbad), ..genuine },
        Req { starting_psn: Psn::truncate(0xbad), ..genuine },
    ] {
        assert_eq!(forge(&mut pair, 7, again.into()), Err(Dropped::WrongInstance));
        let messages = pair.messages();
        assert!(
            matches!(messages[0].message, Message::Rej(rej) if rej.reason == RejectReason::DuplicateLocalCommId)
        );
        pair.wire.clear();
    }
    pair.ends[1].prepare(id, queue_pair(2)).unwrap();
    let attributes = pair.ends[1].attributes(id).unwrap();
    assert_eq!((attributes.dest_qp_num, attributes.sq_psn), (request.qpn, request.starting_psn));
    assert_eq!(pair.events(1), []);
}

#[test]
fn a_refusal_is_never_answered() {
    let mut pair = Pair::new();
    let _ = forge(&mut pair, 7, rej(CommId::new(1), CommId::new(2), RejectReason::InvalidCommId));
    let drep = Drep {
        local_comm_id: CommId::new(1),
        remote_comm_id: CommId::new(2),
        private_data: PrivateData::default(),
    };
    let _ = forge(&mut pair, 7, drep.into());
    assert!(pair.messages().is_empty(), "two managers could go on for ever");
}

#[test]
fn no_message_is_answered_with_more_than_one() {
    let mut pair = Pair::new();
    let ids = pair.connected(1);
    let mut req = req();
    for service in [PORT.id(), PORT.id() + 1] {
        req.service_id = service;
        req.local_comm_id = CommId::new(77);
        for message in [
            req.into(),
            dreq(ids[0], other(ids[1]), Qpn::truncate(5)),
            rej(ids[0], ids[1], RejectReason::Consumer),
        ] {
            let _ = forge(&mut pair, 7, message);
            assert!(pair.messages().len() <= 1);
            pair.wire.clear();
        }
    }
}
