//! A client beside a flood of packets that its server refuses.

use simulator::{Flood, Flooded, read_beside_flood};

/// Of half a million packets a second that the server's machine takes: what it can bear, and twice as many.
const BEARABLE: u64 = 300_000;
const TOO_MANY: u64 = 1_000_000;

const FLOODS: [Flood; 3] = [Flood::Nobody, Flood::Ahead, Flood::Broken];

/// The 99th percentile of sorted times.
fn p99(flooded: &Flooded) -> u64 {
    flooded.took[flooded.took.len() * 99 / 100]
}

#[test]
fn a_client_keeps_half_its_throughput_beside_a_flood_that_its_server_can_bear() {
    for seed in 0..2 {
        let alone = read_beside_flood(seed, None, 1000);
        for flood in FLOODS {
            let beside = read_beside_flood(seed, Some((flood, BEARABLE)), 1000);
            assert!(p99(&beside) <= 3 * p99(&alone), "{flood:?}, seed {seed}");
            assert!(beside.span <= 2 * alone.span, "{flood:?}, seed {seed}");
            assert!(beside.sent > 10_000 && beside.lost == 0, "{flood:?}, seed {seed}: {}", beside.sent);
            assert_eq!(beside.refused, beside.sent, "{flood:?}, seed {seed}");
        }
    }
}

/// There is no room for the client's packets then, but for some: they are sent again.
#[test]
fn beside_a_flood_that_its_server_cant_bear_all_of_a_clients_reads_are_answered() {
    for flood in FLOODS {
        let beside = read_beside_flood(0, Some((flood, TOO_MANY)), 100);
        assert_eq!(beside.took.len(), 100, "{flood:?}");
        assert!(beside.lost > 0, "{flood:?}");
        // Of what was lost some was the client's.
        let lost = beside.sent - beside.refused;
        assert!((1..=beside.lost).contains(&lost), "{flood:?}: {lost} of {}", beside.lost);
    }
}
