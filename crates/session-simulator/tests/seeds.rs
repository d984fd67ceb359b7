//! Seeds, on all cores.

use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds that are run: 200, unless `SESSION_SIMULATOR_SEEDS` says otherwise.
fn seeds() -> u64 {
    std::env::var("SESSION_SIMULATOR_SEEDS").map_or(200, |count| count.parse().expect("a number of seeds"))
}

/// Runs `check` for each seed below `count`, on all cores.
fn for_each_seed(count: u64, check: impl Fn(u64) + Sync) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        return;
                    }
                    check(seed);
                }
            });
        }
    });
}

#[test]
fn every_session_ends_in_a_known_state_frees_what_it_held_and_loses_doubles_and_changes_nothing() {
    for_each_seed(seeds(), |seed| {
        if let Err(what) = session_simulator::run(seed) {
            panic!("seed {seed}: {what}\nto see it again: {}", session_simulator::replay_command(seed));
        }
    });
}

#[test]
fn two_runs_of_a_seed_are_the_same() {
    for_each_seed(seeds().min(20), |seed| {
        let [first, second] = [(); 2].map(|()| session_simulator::run(seed));
        assert_eq!(first, second, "seed {seed}");
    });
    assert_ne!(session_simulator::run(1), session_simulator::run(2));
}
