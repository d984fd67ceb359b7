//! A communication manager between peers that send anything and a caller that does anything: its limits hold, no
//! datagram is answered with more than one, and when all is given up nothing is left. Ids are small numbers here, so
//! that an input can name them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rocev2::{Mtu, Psn, Qpn, Time};
use rocev2_cm::manager::{Answer, Connect, LocalQueuePair, Patience, Resolve, Route, Transport};
use rocev2_cm::wire::{MAD_LEN, Mad, PrivateData, RejectReason, SidrStatus};
use rocev2_cm::{CommId, Config, Exponent, Gid, Manager, Path};

use crate::input::Input;

/// What is listened on.
const SERVICE: u64 = 5;
/// Ids, transactions and queue pairs that an input names.
const NAMES: u8 = 32;
/// This side's address; the peers' begin with other bytes.
const LOCAL: Gid = Gid([0xff; 16]);

const LIMITS: Config = Config {
    ca_guid: 7,
    max_connections: 8,
    max_half_open: 5,
    max_half_open_per_source: 3,
    max_transmits: 8,
    max_response_timeout: Duration::from_secs(20),
    answer_within: Duration::from_secs(60),
    service_timeout: Exponent::RESPONSE,
    max_time_wait: Duration::from_secs(10),
};

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let drawn = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&drawn);
    let mut manager = Manager::new(LIMITS, Box::new(move || counter.fetch_add(1, Ordering::Relaxed).into()));
    manager.listen(SERVICE, None, 4).expect("nobody listens yet");
    let mut now = Time::from_nanos(1);
    while !input.is_empty() {
        if input.flag() {
            assert!(drain(&mut manager) <= LIMITS.max_transmits);
            let (path, mad) = datagram(&mut input);
            let _ = manager.handle(now, path, &mad);
            assert!(drain(&mut manager) <= 1, "an answer for each datagram, and no more");
        } else {
            call(&mut manager, &mut input, &mut now);
        }
        assert!(manager.connections() <= LIMITS.max_connections);
        assert!(manager.half_open() <= LIMITS.max_half_open);
        if input.flag() {
            while manager.poll_event().is_some() {}
        }
    }
    for id in 0..drawn.load(Ordering::Relaxed) {
        manager.abandon(now, CommId::new(id));
    }
    while let Some(next) = manager.poll_timeout() {
        now = now.max(next);
        manager.handle_timeout(now);
        drain(&mut manager);
    }
    drain(&mut manager);
    while manager.poll_event().is_some() {}
    assert!(manager.is_idle(), "{manager:?}");
}

/// Takes what is to be sent, all of it messages, and says how much there was.
fn drain(manager: &mut Manager) -> usize {
    let sent = std::iter::from_fn(|| manager.poll_transmit());
    sent.map(|transmit| assert!(Mad::parse(&transmit.mad).is_ok())).count()
}

fn gid(input: &mut Input<'_>) -> Gid {
    Gid([input.u8() % 3; 16])
}

/// A datagram that has a chance of being understood, with some bytes of the input's own.
fn datagram(input: &mut Input<'_>) -> (Path, [u8; MAD_LEN]) {
    let path = Path { local: LOCAL, remote: gid(input) };
    let mut mad = [0; MAD_LEN];
    mad[..4].copy_from_slice(&[1, 7, 2, 3]);
    mad[15] = input.u8() % NAMES;
    mad[17] = 0x10 + input.u8() % 12;
    let data = &mut mad[24..];
    data[3] = input.u8() % NAMES;
    if mad[17] == 0x10 {
        let data = &mut mad[24..];
        data[15] = 5;
        data[34] = input.u8() % NAMES;
        data[50] = 3 << 4;
        data[56..72].copy_from_slice(&path.remote.0);
        data[72..88].copy_from_slice(&path.local.0);
    } else if mad[17] == 0x17 {
        mad[24 + 15] = 5;
    } else {
        let data = &mut mad[24..];
        data[7] = input.u8() % NAMES;
        // A REP's queue pair, a DREQ's.
        let at = if mad[17] == 0x13 { 14 } else { 10 };
        mad[24 + at] = input.u8() % NAMES;
    }
    let at = usize::from(input.u8());
    for (place, byte) in mad[at..].iter_mut().zip(input.piece()) {
        *place = *byte;
    }
    (path, mad)
}

fn queue_pair(input: &mut Input<'_>) -> LocalQueuePair {
    LocalQueuePair {
        qpn: Qpn::truncate((input.u8() % NAMES).into()),
        starting_psn: Psn::truncate(input.u8().into()),
        responder_resources: 1,
        initiator_depth: 1,
        rnr_retry_count: 7,
        srq: false,
    }
}

fn call(manager: &mut Manager, input: &mut Input<'_>, now: &mut Time) {
    let max_retries = input.u8();
    let patience = Patience {
        max_retries: max_retries % 16,
        listener_within: Duration::from_millis(u64::from(max_retries / 16) * 20),
        ..Patience::default()
    };
    let path = Path { local: LOCAL, remote: gid(input) };
    let id = CommId::new((input.u8() % NAMES).into());
    // Refusals are as good as anything here.
    match input.u8() % 11 {
        0 => {
            let connect = Connect {
                path,
                service_id: SERVICE,
                transport: Transport::Rc,
                queue_pair: queue_pair(input),
                route: Route::new(Mtu::B1024),
                patience,
                private_data: PrivateData::default(),
            };
            let _ = manager.connect(*now, &connect);
        }
        1 => {
            let private_data = PrivateData::default();
            let resolve =
                Resolve { path, service_id: SERVICE, partition_key: 0xffff, patience, private_data };
            let _ = manager.resolve(*now, &resolve);
        }
        2 | 3 => {
            let queue_pair = queue_pair(input);
            let accepted = manager.accept(*now, id, queue_pair, Exponent::default(), PrivateData::default());
            assert!(accepted.is_err() || manager.attributes(id).is_some());
        }
        4 => {
            let reason = RejectReason::from_code(input.u16());
            let _ = manager.reject(*now, id, reason, input.piece(), PrivateData::default());
        }
        5 => {
            let _ = manager.establish(id, PrivateData::default());
        }
        6 => manager.communication_established(id),
        7 => {
            let _ = manager.disconnect(*now, id, PrivateData::default());
        }
        8 => manager.abandon(*now, id),
        9 => {
            let qpn = Qpn::truncate(77);
            let status = SidrStatus::from_code(input.u8());
            let _ = manager.answer(
                *now,
                id,
                &Answer { status, qpn, qkey: 1, private_data: PrivateData::default() },
            );
        }
        _ => {
            *now = *now + Duration::from_millis(u64::from(input.u16()));
            manager.handle_timeout(*now);
            assert!(manager.poll_timeout().is_none_or(|next| next > *now), "what was due is done");
        }
    }
}
