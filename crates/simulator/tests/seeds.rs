//! Seeds, on all cores.

use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds that are run: 10,000, unless `SIMULATOR_SEEDS` says otherwise.
fn seeds() -> u64 {
    std::env::var("SIMULATOR_SEEDS").map_or(10_000, |count| count.parse().expect("a number of seeds"))
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
fn whatever_a_seed_brings_everything_ends_once_in_order_and_touches_nothing_else() {
    for_each_seed(seeds(), |seed| {
        if let Err(what) = simulator::run(seed) {
            panic!("seed {seed}: {what}\nto see it again: {}", simulator::replay_command(seed));
        }
    });
}

#[test]
fn two_runs_of_a_seed_are_the_same_to_the_last_bit() {
    for_each_seed(seeds().min(200), |seed| {
        let [first, second] = [(); 2].map(|()| simulator::run(seed));
        assert_eq!(first, second, "seed {seed}");
    });
    assert_ne!(simulator::run(1), simulator::run(2));
}
