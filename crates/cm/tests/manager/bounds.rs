//! The tables' bounds.

use rocev2::Time;
use rocev2_cm::manager::{Dropped, Error, Refusal};
use rocev2_cm::wire::{Mad, Message, RejectReason};
use rocev2_cm::{Config, Path, Transmit};

use crate::world::{PORT, Pair, connect, gid, manager, queue_pair};

/// The REQ of a connection from that end, with a queue pair of that number.
fn req(from: u8, number: u32) -> Transmit {
    let mut sender = manager(Config::default(), u64::from(from) << 32 | u64::from(number));
    let mut connect = connect(number);
    connect.path.local = gid(from);
    sender.connect(Time::ZERO, &connect).unwrap();
    sender.poll_transmit().unwrap()
}

fn give(pair: &mut Pair, transmit: &Transmit) -> Result<(), Dropped> {
    let path = Path { local: transmit.path.remote, remote: transmit.path.local };
    pair.ends[1].handle(pair.now, path, &transmit.mad)
}

#[track_caller]
fn reason(pair: &mut Pair) -> RejectReason {
    match pair.ends[1].poll_transmit().map(|transmit| Mad::parse(&transmit.mad).unwrap().message) {
        Some(Message::Rej(rej)) => rej.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn as_many_requests_wait_as_the_backlog_has_room_for() {
    let mut pair = Pair::new();
    for number in 0..8 {
        assert_eq!(give(&mut pair, &req(0, number)), Ok(()));
    }
    assert_eq!(give(&mut pair, &req(0, 8)), Err(Dropped::Refused(Refusal::Backlog)));
    assert_eq!(reason(&mut pair), RejectReason::NoResources);
    // A place is free again as soon as one is answered.
    let rocev2_cm::Event::ConnectRequest { id, .. } = pair.ends[1].poll_event().unwrap() else { panic!() };
    pair.accept(id, 0x2000);
    pair.ends[1].poll_transmit();
    assert_eq!(give(&mut pair, &req(0, 8)), Ok(()));
    assert_eq!(give(&mut pair, &req(0, 9)), Err(Dropped::Refused(Refusal::Backlog)));
}

#[test]
fn one_source_cant_take_all_the_places() {
    let config = Config { max_half_open: 6, max_half_open_per_source: 4, ..Config::default() };
    let mut pair = Pair::with(Config::default(), config);
    for number in 0..4 {
        assert_eq!(give(&mut pair, &req(0, number)), Ok(()));
    }
    assert_eq!(give(&mut pair, &req(0, 5)), Err(Dropped::Refused(Refusal::NoRoom)));
    assert_eq!(reason(&mut pair), RejectReason::NoResources);
    assert_eq!(give(&mut pair, &req(3, 6)), Ok(()), "another source");
    assert_eq!(give(&mut pair, &req(4, 7)), Ok(()));
    assert_eq!(give(&mut pair, &req(5, 8)), Err(Dropped::Refused(Refusal::NoRoom)), "all of them");
    assert_eq!(pair.ends[1].half_open(), 6);
    pair.let_everything_expire();
    assert_eq!(pair.ends[1].half_open(), 0);
    assert_eq!(give(&mut pair, &req(0, 9)), Ok(()));
}

#[test]
fn a_full_table_refuses_peers_and_the_caller() {
    let config = Config { max_connections: 3, ..Config::default() };
    let mut pair = Pair::with(config.clone(), config);
    for number in 0..3 {
        assert_eq!(give(&mut pair, &req(0, number)), Ok(()));
        pair.ends[0].connect(pair.now, &connect(number)).unwrap();
    }
    assert_eq!(give(&mut pair, &req(0, 3)), Err(Dropped::Refused(Refusal::NoRoom)));
    assert_eq!(pair.ends[0].connect(pair.now, &connect(3)), Err(Error::Full));
    assert_eq!(pair.ends[1].connections(), 3);
}

#[test]
fn datagrams_that_nobody_sends_dont_pile_up() {
    let config = Config { max_transmits: 5, ..Config::default() };
    let mut pair = Pair::with(Config::default(), config);
    pair.ends[1].close_listener(PORT.id(), None).unwrap();
    for number in 0..100 {
        assert_eq!(give(&mut pair, &req(0, number)), Err(Dropped::Refused(Refusal::NoListener)));
    }
    assert_eq!(std::iter::from_fn(|| pair.ends[1].poll_transmit()).count(), 5);
}

#[test]
fn events_that_nobody_takes_dont_pile_up() {
    let config = Config { max_connections: 4, ..Config::default() };
    let mut pair = Pair::with(Config::default(), config);
    for number in 0..1000 {
        let _ = give(&mut pair, &req(0, number));
        pair.let_everything_expire();
    }
    assert!(pair.events(1).len() <= 4 * 4 + 1);
    assert_eq!(give(&mut pair, &req(0, 1)), Ok(()));
}

#[test]
fn a_peer_cant_stretch_the_waiting_beyond_the_limits() {
    let mut pair = Pair::new();
    let mut patient = connect(1);
    patient.patience.response_timeout = rocev2_cm::Exponent::new(31).unwrap();
    patient.route.ack_timeout = rocev2_cm::Exponent::new(31).unwrap();
    patient.patience.max_retries = 15;
    pair.ends[0].connect(pair.now, &patient).unwrap();
    pair.deliver();
    let (second, request) = pair.request();
    assert_eq!(request.qpn, queue_pair(1).qpn);
    pair.accept(second, 2);
    let begin = pair.now;
    pair.lose();
    // The first end is gone.
    pair.ends[0] = manager(Config::default(), 9);
    while pair.ends[1].connections() > 0 {
        pair.step();
        pair.lose();
    }
    let config = Config::default();
    let most = config.max_response_timeout * 16 + config.max_time_wait;
    assert!(pair.now.since(begin) <= most, "{:?}", pair.now.since(begin));
}
