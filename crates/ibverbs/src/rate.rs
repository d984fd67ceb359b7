//! Rates: numbers of `enum ibv_rate`, multiples of 2.5 Gb/s, megabits a second.

use libc::c_int;

/// `enum ibv_rate`, the multiple of 2.5 Gb/s (0 where libibverbs knows none), megabits a second.
const RATES: [(c_int, c_int, c_int); 23] = [
    (2, 1, 2_500),
    (5, 2, 5_000),
    (3, 4, 10_000),
    (6, 8, 20_000),
    (4, 12, 30_000),
    (7, 16, 40_000),
    (8, 24, 60_000),
    (9, 32, 80_000),
    (10, 48, 120_000),
    (11, 0, 14_062),
    (12, 0, 56_250),
    (13, 0, 112_500),
    (14, 0, 168_750),
    (15, 0, 25_781),
    (16, 0, 103_125),
    (17, 0, 206_250),
    (18, 0, 309_375),
    (19, 11, 28_125),
    (20, 20, 53_125),
    (21, 160, 425_000),
    (22, 240, 637_500),
    (23, 320, 850_000),
    (24, 480, 1_275_000),
];

fn find(matches: impl Fn(&(c_int, c_int, c_int)) -> bool) -> Option<(c_int, c_int, c_int)> {
    RATES.into_iter().find(|row| matches(row))
}

export! {
    "IBVERBS_1.0", -1,
    /// ibv_rate_to_mult(3).
    fn ibv_rate_to_mult(rate: c_int) -> c_int {
        find(|row| row.0 == rate && row.1 != 0).map_or(-1, |row| row.1)
    }

    "IBVERBS_1.0", 0,
    /// mult_to_ibv_rate(3).
    fn mult_to_ibv_rate(mult: c_int) -> c_int {
        find(|row| row.1 == mult && mult != 0).map_or(0, |row| row.0)
    }

    "IBVERBS_1.1", -1,
    /// ibv_rate_to_mbps(3).
    fn ibv_rate_to_mbps(rate: c_int) -> c_int {
        find(|row| row.0 == rate).map_or(-1, |row| row.2)
    }

    "IBVERBS_1.1", 0,
    /// mbps_to_ibv_rate(3).
    fn mbps_to_ibv_rate(mbps: c_int) -> c_int {
        find(|row| row.2 == mbps).map_or(0, |row| row.0)
    }
}
