//! Plans that show one thing each: what seeds have found.

use super::World;
use crate::ledger::Refusal;
use crate::liar::Lie;
use crate::plan::{
    ClientPlan, Disturbance, Ending, MS, Operation, Plan, Room, ServerPlan, SessionPlan, Window, Windows,
};
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
        tries: 1,
        insists: false,
    };
    let client = ClientPlan { timing: TIMING, identity: 0, sessions: vec![session] };
    let server = ServerPlan {
        timing: TIMING,
        seal: SealPolicy::Required,
        lies: None,
        pace_ms: 0,
        nap_ms: 0,
        room: Room::AMPLE,
        open: false,
        list_lasts: None,
    };
    let link = LinkConfig { latency_ns: 100_000, ..LinkConfig::default() };
    Plan {
        servers: vec![server],
        clients: vec![client],
        link,
        windows: Windows::long(),
        clocks: vec![0, 0],
        disturbances: Vec::new(),
    }
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

/// Each allocation of a session's is refused once, by the client's system or the server's: its buffers, the region, and
/// the counters, which there are where packets are sealed.
#[test]
fn who_gets_no_memory_for_a_session_leaves_nothing_behind_and_has_it_when_there_is_some() {
    for (packets, [at_server, at_client]) in [(true, [3, 1]), (false, [2, 1])] {
        for (machine, allocations) in [(0, at_server), (1, at_client)] {
            for refused in 0..=allocations {
                let mut plan = plan(packets, writing(100), Ending::Close);
                plan.clients[0].sessions[0].tries = 20;
                plan.disturbances = vec![(0, Disturbance::Memory { machine, refused: 1 << refused })];
                let world = World::of(plan, Rng::new(1), false);
                let (ledger, network) = (world.ledger.clone(), world.network.clone());
                world.run().unwrap();
                let what = format!("allocation {refused} of machine {machine}, packets: {packets}");
                let book = ledger.lock();
                let entry = &book.entries[0];
                assert_eq!(entry.client_end, Some(super::Ended::Well), "{what}");
                // Behind the last of them there is none to refuse.
                let is_one = refused < allocations;
                assert_eq!(network.has_memory(machine), is_one, "{what}");
                assert_eq!(entry.attempts.len(), 1 + usize::from(is_one), "{what}: {entry:?}");
                if is_one {
                    let (kind, text) = entry.attempts[0].failed.clone().unwrap();
                    let own = machine == 1;
                    let expected = if own { SessionErrorKind::System } else { SessionErrorKind::Closed };
                    assert_eq!(kind, expected, "{what}: {text}");
                    // The server's client is told why.
                    assert!(text.contains("bytes of memory"), "{what}: {text}");
                }
            }
        }
    }
}

/// Packets get lost for so long that a write fails; the control connection lives.
#[test]
fn after_an_operation_whose_outcome_is_not_known_there_is_no_orderly_end_at_either_side() {
    for packets in [false, true] {
        let mut plan = plan(packets, writing(2_000), Ending::Close);
        plan.clients[0].sessions[0].insists = true;
        let part = |cut| Disturbance::Part { from: 1, to: 0, packets: true, streams: false, cut };
        plan.disturbances = vec![(1_000 * MS, part(true)), (60_000 * MS, part(false))];
        let (ends, over) = ends(plan);
        // The operation was given up; the server is told so, by which its session is over.
        assert_eq!(ends, [Some(SessionErrorKind::TimedOut), Some(SessionErrorKind::Closed)], "{packets}");
        assert!((2_000 * MS..30_000 * MS).contains(&over), "{over}");
    }
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
        let Some(super::Ended::Failed(kind, _)) = book.entries[0].server_end() else { panic!("{book:?}") };
        assert_eq!(*kind, SessionErrorKind::Refused);
        assert!(book.operations > 10, "{book:?}");
    }
}

/// Writes for so long, a write every 20 ms.
fn writing(ms: u64) -> Vec<Operation> {
    (0..ms / 20).flat_map(|_| [Operation::Write { at: 0, len: 10 }, Operation::Pause { ms: 20 }]).collect()
}

/// The kinds of the ends that a world's only session has, its client's and its server's, and until when its client's
/// operations succeeded.
fn ends(plan: Plan) -> ([Option<SessionErrorKind>; 2], u64) {
    let world = World::of(plan, Rng::new(1), false);
    let ledger = world.ledger.clone();
    world.run().unwrap();
    let book = ledger.lock();
    let entry = &book.entries[0];
    let kind = |end: Option<&super::Ended>| match end {
        Some(super::Ended::Failed(kind, _)) => Some(*kind),
        _ => None,
    };
    let over = entry.last().unwrap().over.unwrap();
    ([kind(entry.client_end.as_ref()), kind(entry.server_end())], over)
}

const REFUSED: [Option<SessionErrorKind>; 2] = [Some(SessionErrorKind::Refused); 2];

#[test]
fn a_session_ends_with_its_clients_certificate_by_the_servers_clock() {
    for ahead in [-4_000, 0, 1_500] {
        let mut plan = plan(false, writing(12_000), Ending::Close);
        plan.windows.clients[0][0] = Window { until: 3, ..Window::LONG };
        plan.clocks = vec![ahead, 0];
        let (ends, over) = ends(plan);
        assert_eq!(ends, REFUSED);
        let ended = (4_000 - ahead).cast_unsigned() * MS;
        assert!((ended..ended + 1_200 * MS).contains(&over), "{ahead} ms ahead: {over}");
    }
}

#[test]
fn a_session_ends_when_its_servers_clock_is_set_beyond_the_end_of_its_clients_certificate() {
    let mut plan = plan(false, writing(6_000), Ending::Close);
    plan.windows.clients[0][0] = Window { until: 1_000, ..Window::LONG };
    plan.disturbances = vec![(2_000 * MS, Disturbance::Clock { machine: 0, ahead_ms: 1_000_000 })];
    let (ends, over) = ends(plan);
    assert_eq!(ends, REFUSED);
    assert!((2_000 * MS..3_200 * MS).contains(&over), "{over}");
}

#[test]
fn a_session_ends_when_its_clients_certificate_is_revoked_and_by_a_new_one_it_comes_again() {
    let mut plan = plan(false, writing(3_000), Ending::Close);
    let again =
        SessionPlan { begins_ms: 1_500, operations: writing(100), ..plan.clients[0].sessions[0].clone() };
    plan.clients[0].sessions.push(again);
    plan.disturbances = vec![
        (1_000 * MS, Disturbance::Revoke { server: 0, certificate: (0, 0), lasts: 600 }),
        (1_200 * MS, Disturbance::Reissue { identity: 0 }),
    ];
    let world = World::of(plan, Rng::new(1), false);
    let ledger = world.ledger.clone();
    world.run().unwrap();
    let book = ledger.lock();
    let ends: Vec<_> = book.entries.iter().map(|entry| entry.client_end.clone().unwrap()).collect();
    assert!(matches!(ends[0], super::Ended::Failed(SessionErrorKind::Refused, _)), "{ends:?}");
    assert_eq!(ends[1], super::Ended::Well);
}

#[test]
fn sessions_end_with_the_revocation_list_that_speaks_for_their_client() {
    let mut plan = plan(false, writing(6_000), Ending::Close);
    plan.servers[0].list_lasts = Some(2);
    let (ends, over) = ends(plan);
    assert_eq!(ends, REFUSED);
    assert!((3_000 * MS..4_200 * MS).contains(&over), "{over}");
}

#[test]
fn a_client_takes_no_server_whose_certificate_has_ended_by_its_own_clock() {
    let mut plan = plan(false, writing(100), Ending::Close);
    plan.windows.servers[0][0] = Window { until: 5, ..Window::LONG };
    plan.clocks = vec![0, 6_000];
    assert_eq!(ends(plan).0, [Some(SessionErrorKind::Refused), None]);
}

/// One at a time: by the server's room, by the client's quota, and by that of its address.
#[test]
fn who_finds_no_room_is_told_so_and_gets_in_when_there_is_some() {
    let few = [
        (Room { sessions: 1, ..Room::AMPLE }, false, Refusal::Full(1)),
        (Room { quota: 1, ..Room::AMPLE }, false, Refusal::Quota(1)),
        (Room { quota: 1, ..Room::AMPLE }, true, Refusal::Quota(1)),
    ];
    for (room, open, refusal) in few {
        let mut plan = plan(false, writing(1_000), Ending::Close);
        (plan.servers[0].room, plan.servers[0].open) = (room, open);
        let second = SessionPlan { begins_ms: 300, tries: 20, ..plan.clients[0].sessions[0].clone() };
        plan.clients[0].sessions.push(second);
        let world = World::of(plan, Rng::new(1), false);
        let ledger = world.ledger.clone();
        world.run().unwrap();
        let book = ledger.lock();
        let attempts = &book.entries[1].attempts;
        assert!(attempts.len() > 1 && attempts[0].refusal == Some(refusal), "{attempts:?}");
        let told = attempts[0].failed.clone();
        assert!(matches!(told, Some((SessionErrorKind::Refused, _))), "{told:?}");
        assert_eq!(book.entries[1].client_end, Some(super::Ended::Well));
    }
}
