//! SIDR: which queue pair serves datagrams.

use rocev2::Qpn;
use rocev2_cm::ip::{PortSpace, Service};
use rocev2_cm::manager::{Answer, Dropped, Patience, Resolve};
use rocev2_cm::wire::{PrivateData, SidrStatus};
use rocev2_cm::{CommId, Config, Event, Path, State};

use crate::world::{Pair, gid, private_data};

pub(crate) const PORT: Service = Service { space: PortSpace::Udp, port: 7174 };

pub(crate) fn resolve() -> Resolve {
    Resolve {
        path: Path { local: gid(0), remote: gid(1) },
        service_id: PORT.id(),
        partition_key: 0xffff,
        patience: Patience { max_retries: 3, ..Patience::default() },
        private_data: private_data(1),
    }
}

pub(crate) fn answer() -> Answer {
    Answer {
        status: SidrStatus::Valid,
        qpn: Qpn::truncate(77),
        qkey: 0x0123_4567,
        private_data: PrivateData::new(b"here").unwrap(),
    }
}

pub(crate) fn pair() -> Pair {
    let mut pair = Pair::new();
    pair.ends[1].listen(PORT.id(), None, 4).unwrap();
    pair
}

#[track_caller]
pub(crate) fn request(pair: &mut Pair) -> CommId {
    match pair.event(1) {
        Event::SidrRequest { id, service_id, addressing, .. } => {
            assert_eq!(service_id, PORT.id());
            assert!(addressing.is_some());
            id
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_gets_queue_pair_and_key() {
    let mut pair = pair();
    let first = pair.ends[0].resolve(pair.now, &resolve()).unwrap();
    pair.deliver();
    let second = request(&mut pair);
    assert_eq!(pair.ends[1].half_open(), 1);
    pair.ends[1].answer(pair.now, second, &answer()).unwrap();
    pair.deliver();
    let expected = Event::SidrResponse {
        id: first,
        status: SidrStatus::Valid,
        qpn: answer().qpn,
        qkey: answer().qkey,
        private_data: answer().private_data,
    };
    assert_eq!(pair.event(0), expected);
    assert_eq!(pair.ends[1].half_open(), 0);
    pair.run();
    pair.assert_idle();
}

#[test]
fn a_lost_answer_is_sent_again_without_asking_twice() {
    let mut pair = pair();
    pair.ends[0].resolve(pair.now, &resolve()).unwrap();
    pair.deliver();
    let second = request(&mut pair);
    pair.ends[1].answer(pair.now, second, &answer()).unwrap();
    pair.lose();
    pair.step();
    pair.deliver();
    assert!(matches!(pair.event(0), Event::SidrResponse { status: SidrStatus::Valid, .. }));
    assert_eq!(pair.events(1), []);
    pair.run();
    pair.assert_idle();
}

#[test]
fn nobody_listening_and_nobody_answering_are_told() {
    let mut pair = pair();
    let mut elsewhere = resolve();
    elsewhere.service_id += 1;
    pair.ends[0].resolve(pair.now, &elsewhere).unwrap();
    pair.deliver();
    assert!(matches!(pair.event(0), Event::SidrResponse { status: SidrStatus::Unsupported, .. }));

    let first = pair.ends[0].resolve(pair.now, &resolve()).unwrap();
    pair.deliver();
    let second = request(&mut pair);
    pair.run();
    assert_eq!(pair.event(0), Event::Unreachable { id: first });
    assert_eq!(pair.event(1), Event::Unreachable { id: second });
    pair.assert_idle();
}

#[test]
fn a_forged_answer_must_name_the_transaction() {
    let mut pair = pair();
    let first = pair.ends[0].resolve(pair.now, &resolve()).unwrap();
    pair.deliver();
    let second = request(&mut pair);
    pair.ends[1].answer(pair.now, second, &answer()).unwrap();
    pair.send();
    let (from, genuine) = pair.wire.pop_front().unwrap();
    let mut forged = genuine;
    forged.mad[15] ^= 1;
    assert_eq!(pair.give(from, &forged), Err(Dropped::Transaction));
    let path = Path { local: gid(0), remote: gid(9) };
    assert_eq!(pair.ends[0].handle(pair.now, path, &genuine.mad), Err(Dropped::WrongInstance));
    assert_eq!(pair.ends[0].state(first), Some(State::SidrReqSent));
    pair.give(from, &genuine).unwrap();
}

#[test]
fn answers_are_kept_up_to_a_limit() {
    let config = Config { max_half_open: 4, ..Config::default() };
    let mut pair = Pair::with(Config::default(), config);
    pair.ends[1].listen(PORT.id(), None, 4).unwrap();
    for _ in 0..100 {
        pair.ends[0].resolve(pair.now, &resolve()).unwrap();
        pair.deliver();
        let second = request(&mut pair);
        pair.ends[1].answer(pair.now, second, &answer()).unwrap();
        pair.deliver();
        assert!(matches!(pair.event(0), Event::SidrResponse { .. }));
    }
    assert_eq!(pair.ends[1].connections(), 4);
    pair.run();
    pair.assert_idle();
}

#[test]
fn a_request_that_is_abandoned_is_refused() {
    let mut pair = pair();
    pair.ends[0].resolve(pair.now, &resolve()).unwrap();
    pair.deliver();
    let second = request(&mut pair);
    pair.ends[1].abandon(pair.now, second);
    pair.deliver();
    assert!(matches!(pair.event(0), Event::SidrResponse { status: SidrStatus::Rejected, .. }));
    pair.assert_idle();
}
