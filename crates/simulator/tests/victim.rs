//! A client beside greedy ones.

/// The 99th percentile of sorted times.
fn p99(times: &[u64]) -> u64 {
    times[times.len() * 99 / 100]
}

#[test]
fn a_client_waits_at_most_three_times_as_long_while_others_on_slow_links_read_all_they_can() {
    for seed in 0..2 {
        let alone = p99(&simulator::read_beside(seed, 0, 1000).took);
        for greedy in [1, 4] {
            let reading = simulator::read_beside(seed, greedy, 5000);
            let beside = p99(&reading.took);
            assert!(beside <= 3 * alone, "seed {seed}: {beside} ns beside {greedy}, {alone} ns alone");
            let percent = reading.greedy_percent;
            assert!(percent >= 40, "seed {seed}: one of {greedy} got {percent} % of its link");
        }
    }
}
