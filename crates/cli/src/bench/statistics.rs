//! From completions and round trips to numbers.

use super::task::Rate;
use crate::failure::Failure;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::{Duration, Instant};

/// The longest time that a histogram tells apart; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(600);

/// Digits that a time keeps.
const DIGITS: u8 = 4;

/// A peak is the best bandwidth of at least so many messages in a row.
const WINDOW: u64 = 128;

/// Counts what has completed.
#[derive(Debug)]
pub(crate) struct Meter {
    begun: Instant,
    window: u64,
    messages: u64,
    /// When the window began, and what had completed then.
    since: (Instant, u64),
    peak: f64,
    last: Instant,
}

impl Meter {
    /// Messages of which so many are under way at a time.
    pub(crate) fn new(under_way: u64) -> Self {
        Self::begun_at(Instant::now(), under_way)
    }

    fn begun_at(begun: Instant, under_way: u64) -> Self {
        // What completes at once hasn't been fast: it has been waited for.
        let window = WINDOW.max(under_way.saturating_mul(2));
        Self { begun, window, messages: 0, since: (begun, 0), peak: 0., last: begun }
    }

    /// So many messages have completed.
    pub(crate) fn completed(&mut self, messages: u64) {
        self.completed_at(Instant::now(), messages);
    }

    fn completed_at(&mut self, now: Instant, messages: u64) {
        self.messages += messages;
        self.last = now;
        let (since, before) = self.since;
        if self.messages - before >= self.window {
            self.peak = self.peak.max(per_second(self.messages - before, now - since));
            self.since = (now, self.messages);
        }
    }

    /// How long it has been going on.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// From the beginning to the last completion.
    pub(crate) fn rate(&self) -> Rate {
        let average = per_second(self.messages, self.last - self.begun);
        Rate { messages: self.messages, peak: self.peak.max(average), average }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for reading")]
fn per_second(messages: u64, time: Duration) -> f64 {
    if time.is_zero() { 0. } else { messages as f64 / time.as_secs_f64() }
}

impl Rate {
    /// Both sides' together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            peak: self.peak + other.peak,
            average: self.average + other.average,
        }
    }
}

/// Times, kept in a histogram: however many there are, they take the same memory.
#[derive(Debug)]
pub(crate) struct Times {
    histogram: Histogram<u64>,
    /// What part of a time is shown: half of a round trip, or all of it.
    part: f64,
}

/// perftest's columns, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    #[serde(rename = "t_min_us")]
    pub(crate) min: f64,
    #[serde(rename = "t_max_us")]
    pub(crate) max: f64,
    /// The median.
    #[serde(rename = "t_typical_us")]
    pub(crate) typical: f64,
    #[serde(rename = "t_avg_us")]
    pub(crate) average: f64,
    #[serde(rename = "t_stdev_us")]
    pub(crate) deviation: f64,
    #[serde(rename = "p99_us")]
    pub(crate) p99: f64,
    #[serde(rename = "p999_us")]
    pub(crate) p999: f64,
}

impl Times {
    /// With the part of each that is shown.
    pub(crate) fn new(part: f64) -> Result<Self, Failure> {
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        let histogram = Histogram::new_with_bounds(1, longest, DIGITS)
            .map_err(|error| Failure::Other(format!("keeping times: {error}")))?;
        Ok(Self { histogram, part })
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1));
    }

    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// `None` where there are none.
    #[expect(clippy::cast_precision_loss, reason = "for reading")]
    pub(crate) fn latency(&self) -> Option<Latency> {
        let Self { histogram, part } = self;
        let micros = |nanos: f64| nanos * part * 1e-3;
        let at = |quantile| micros(histogram.value_at_quantile(quantile) as f64);
        (!histogram.is_empty()).then(|| Latency {
            min: micros(histogram.min() as f64),
            max: micros(histogram.max() as f64),
            typical: at(0.5),
            average: micros(histogram.mean()),
            deviation: micros(histogram.stdev()),
            p99: at(0.99),
            p999: at(0.999),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_is_of_all_messages_and_the_peak_of_the_best_window() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut meter = Meter::begun_at(begun, 1);
        // 1280 in 1 s, then 1280 in 0.5 s, then a few more that take long.
        for step in 1..=10 {
            meter.completed_at(at(step * 100), 128);
        }
        for step in 1..=10 {
            meter.completed_at(at(1000 + step * 50), 128);
        }
        meter.completed_at(at(2500), 40);
        let rate = meter.rate();
        assert_eq!(rate.messages, 2600);
        assert!((rate.average - 1040.).abs() < 1e-6, "{rate:?}");
        assert!((rate.peak - 2560.).abs() < 1e-6, "{rate:?}");
    }

    #[test]
    fn a_short_run_has_its_average_for_a_peak() {
        let begun = Instant::now();
        let mut meter = Meter::begun_at(begun, 128);
        meter.completed_at(begun + Duration::from_secs(1), 200);
        assert_eq!(meter.rate(), Rate { messages: 200, peak: 200., average: 200. });
        let nothing = Meter::begun_at(begun, 1).rate();
        assert_eq!(nothing, Rate { messages: 0, peak: 0., average: 0. });
    }

    #[test]
    fn times_have_perftests_statistics() {
        assert_eq!(Times::new(1.).unwrap().latency(), None);
        // 1 to 1000 us, in an order that isn't theirs.
        let mut times = Times::new(0.5).unwrap();
        for at in 0..1000 {
            times.add(Duration::from_micros(at * 7 % 1000 + 1));
        }
        let Latency { min, max, typical, average, deviation, p99, p999 } = times.latency().unwrap();
        // Half of each: for an N of 1000, the deviation of 1..=N is sqrt((N^2 - 1) / 12).
        for (found, expected) in [
            (min, 0.5),
            (max, 500.),
            (typical, 250.),
            (average, 250.25),
            (deviation, 144.337),
            (p99, 495.),
            (p999, 499.5),
        ] {
            assert!((found / expected - 1.).abs() < 1e-3, "{found}, not {expected}");
        }
        assert_eq!(times.count(), 1000);
    }
}
