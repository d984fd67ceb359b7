//! What one round of a figure gives, and what is made of all rounds.

use serde::Serialize;
use std::time::Duration;

/// One round's result; what a figure doesn't measure is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// Bandwidth of the payload, 10^9 bits a second.
    pub(crate) gbps: Option<f64>,
    /// Messages, 10^6 a second.
    pub(crate) mops: Option<f64>,
    /// Round trips.
    pub(crate) latency: Option<Latency>,
    /// Connections set up, a second.
    pub(crate) connections: Option<f64>,
    /// Memory, in bytes.
    pub(crate) memory: Option<f64>,
}

/// How long round trips took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Sample {
    /// So many bytes, in messages of `size`, arrived in `time`.
    #[expect(clippy::cast_precision_loss, reason = "for reading")]
    pub(crate) fn rate(bytes: u64, size: usize, time: Duration) -> Self {
        let bytes = bytes as f64 / time.as_secs_f64();
        Self { gbps: Some(bytes * 8e-9), mops: Some(bytes / size as f64 * 1e-6), ..Self::default() }
    }

    pub(crate) fn latency(latency: Latency) -> Self {
        Self { latency: Some(latency), ..Self::default() }
    }

    pub(crate) fn connections(per_second: f64) -> Self {
        Self { connections: Some(per_second), ..Self::default() }
    }

    pub(crate) fn memory(bytes: f64) -> Self {
        Self { memory: Some(bytes), ..Self::default() }
    }
}

impl Latency {
    /// The percentiles of these times; `None` where there are none.
    pub(crate) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "for reading")]
        let at = |per_mille| Some(percentile(&times, per_mille)?.as_nanos() as f64 / 1e3);
        Some(Self { p50: at(500)?, p99: at(990)?, p999: at(999)? })
    }
}

/// The smallest of `sorted` that `per_mille` of a thousand of them don't exceed (the nearest rank).
fn percentile(sorted: &[Duration], per_mille: usize) -> Option<Duration> {
    let rank = (sorted.len() * per_mille).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// All rounds of one figure: the median, with the least and the most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` of no rounds at all.
    pub(crate) fn of(rounds: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut rounds: Vec<f64> = rounds.into_iter().collect();
        rounds.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*rounds.first()?, *rounds.last()?);
        // Of an even number, half-way between the two in the middle.
        let (low, high) = (rounds[(rounds.len() - 1) / 2], rounds[rounds.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_half_way_between_two() {
        let spread = |rounds: &[f64]| Spread::of(rounds.iter().copied());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.]), Some(Spread { median: 3., least: 3., most: 3. }));
        assert_eq!(spread(&[9., 1., 4.]), Some(Spread { median: 4., least: 1., most: 9. }));
        assert_eq!(spread(&[9., 1., 4., 6.]), Some(Spread { median: 5., least: 1., most: 9. }));
    }

    #[test]
    fn percentiles_are_the_nearest_ranks() {
        let times = |count: u64| (1..=count).rev().map(Duration::from_micros).collect();
        assert_eq!(Latency::of(times(1000)), Some(Latency { p50: 500., p99: 990., p999: 999. }));
        assert_eq!(Latency::of(times(10)), Some(Latency { p50: 5., p99: 10., p999: 10. }));
        assert_eq!(Latency::of(times(1)), Some(Latency { p50: 1., p99: 1., p999: 1. }));
        assert_eq!(Latency::of(Vec::new()), None);
    }

    #[test]
    fn a_rate_is_of_payload_bits() {
        let sample = Sample::rate(125_000_000, 250, Duration::from_millis(500));
        assert_eq!((sample.gbps, sample.mops), (Some(2.), Some(1.)));
    }
}
