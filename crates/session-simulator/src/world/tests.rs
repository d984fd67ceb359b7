//! Plans that show one thing each: what seeds have found.

use super::World;
use crate::liar::Lie;
use crate::plan::{ClientPlan, Disturbance, Ending, MS, Operation, Plan, ServerPlan, SessionPlan};
use netem::LinkConfig;
use secure_rdma::SessionErrorKind;
use secure_rdma::control::SealPolicy;
use simulator::{Rng, Timing};

const TIMING: Timing = Timing { step_ns: 1_000, yield_ns: 20_000, wake_ns: 2_000 };

/// One session, sealed by messages or packets.
fn plan(packets: bool, operations: Vec<Operation>, end: Ending) -> Plan {
    let session = SessionPlan {
        server: 0,
        begins_ms: 1,
        seal: SealPolicy::Required,
        packets,
        heartbeat_ms: 100,
        key_records: 1 << 20,
        operations,
        end,
        server_leaves: None,
        lies: None,
    };
    let client = ClientPlan { timing: TIMING, identity: 0, sessions: vec![session] };
    let server = ServerPlan { timing: TIMING, seal: SealPolicy::Required, lies: None, pace_ms: 0, nap_ms: 0 };
    let link = LinkConfig { latency_ns: 100_000, ..LinkConfig::default() };
    Plan { servers: vec![server], clients: vec![client], link, disturbances: Vec::new() }
}

/// Its server sleeps when the client goes, and has taken some of what came before, all of it, or nothing.
#[test]
fn messages_around_a_manifest_are_received_though_their_sender_has_gone() {
    for ms in (360..500).step_by(4) {
        let operations = vec![
            Operation::Send { count: 1, len: 10 },
            Operation::Pause { ms },
            Operation::Send { count: 1, len: 10 },
            Operation::Write { at: 0, len: 10 },
            Operation::Send { count: 1, len: 20_000 },
        ];
        let mut plan = plan(false, operations, Ending::Drop);
        plan.servers[0].pace_ms = 500;
        plan.link.bandwidth_bits_per_s = Some(2_000_000);
        let world = World::of(plan, Rng::new(1), false);
        let ledger = world.ledger.clone();
        world.run().unwrap();
        assert_eq!(ledger.lock().entries[0].received, 3, "after {ms} ms");
    }
}

#[test]
fn a_server_whose_region_has_no_whole_slots_breaks_the_protocol() {
    let mut plan = plan(false, Vec::new(), Ending::Close);
    plan.servers[0].lies = Some(Lie::Region);
    let world = World::of(plan, Rng::new(1), false);
    let ledger = world.ledger.clone();
    world.run().unwrap();
    let end = ledger.lock().entries[0].client_end.clone();
    assert!(matches!(end, Some(super::Ended::Failed(SessionErrorKind::Protocol, _))), "{end:?}");
}

/// Its server's program sleeps, and doesn't end the session itself; and nothing is heard of the server meanwhile.
#[test]
fn who_is_taken_from_the_list_reaches_nothing_more_though_it_has_not_heard_of_it() {
    for packets in [false, true] {
        let mut operations = vec![Operation::Send { count: 1, len: 10 }];
        operations
            .extend((0..200).flat_map(|_| [Operation::Write { at: 0, len: 10 }, Operation::Pause { ms: 5 }]));
        let mut plan = plan(packets, operations, Ending::Close);
        plan.servers[0].nap_ms = 2_000;
        let part = |cut| Disturbance::Part { from: 0, to: 1, packets: false, streams: true, cut };
        plan.disturbances = vec![
            (290 * MS, part(true)),
            (300 * MS, Disturbance::Rules { server: 0, absent: vec![0] }),
            (2_500 * MS, part(false)),
        ];
        let world = World::of(plan, Rng::new(1), false);
        let ledger = world.ledger.clone();
        world.run().unwrap();
        let book = ledger.lock();
        let Some(super::Ended::Failed(kind, _)) = &book.entries[0].server_end else { panic!("{book:?}") };
        assert_eq!(*kind, SessionErrorKind::Refused);
        assert!(book.operations > 10, "{book:?}");
    }
}
