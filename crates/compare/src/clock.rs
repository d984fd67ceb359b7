//! The time of one measurement, which both ends keep to, and the meters that are read by it.
//!
//! ```text
//!   start            from                              until
//!     ├── warm-up ────┼────────────── counted ───────────┤
//! ```
//!
//! What is counted is what has arrived within the counted time: not what was sent, which may still lie in a
//! socket's buffer, or be lost. So a meter of bytes is with the receiver; where the receiver takes no part
//! (RDMA WRITE and READ) it is with the one whose completions say that the bytes are there.

use crate::failure::Failure;
use crate::sample::{Latency, Sample};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Of a measurement's time, the part that isn't counted: caches fill, windows open.
const WARM_UP: u32 = 5;

/// How long one measurement takes, and when.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    span: Duration,
    begun: Arc<OnceLock<Instant>>,
}

impl Clock {
    /// A clock that isn't running yet; warm-up and counted time together take `span`.
    pub(crate) fn new(span: Duration) -> Self {
        Self { span, begun: Arc::default() }
    }

    /// Starts it: both ends are ready. The second time it does nothing.
    pub(crate) fn start(&self) {
        self.begun.get_or_init(Instant::now);
    }

    /// Whether `now` belongs to the counted time.
    fn counts(&self, now: Instant) -> bool {
        self.begun.get().is_some_and(|begun| {
            let since = now.saturating_duration_since(*begun);
            (self.span / WARM_UP..self.span).contains(&since)
        })
    }

    /// Whether time is up at `now`.
    fn over_at(&self, now: Instant) -> bool {
        self.begun.get().is_some_and(|begun| now.saturating_duration_since(*begun) >= self.span)
    }

    /// Whether time is up.
    pub(crate) fn over(&self) -> bool {
        self.over_at(Instant::now())
    }

    /// Waits in tokio until time is up.
    pub(crate) async fn out(&self) {
        while !self.over() {
            let left = self.begun.get().map(|begun| self.span.saturating_sub(begun.elapsed()));
            tokio::time::sleep(left.unwrap_or(self.span / 20)).await;
        }
    }
}

/// Counts what arrives.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    clock: &'a Clock,
    size: usize,
    bytes: u64,
    first: Option<Reading>,
    last: Option<Reading>,
}

/// What a meter showed, and when.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    bytes: u64,
}

impl<'a> Meter<'a> {
    /// A meter of messages of `size` bytes.
    pub(crate) fn new(clock: &'a Clock, size: usize) -> Self {
        Self { clock, size, bytes: 0, first: None, last: None }
    }

    /// So much has arrived; false when time is up.
    pub(crate) fn arrived(&mut self, bytes: usize) -> bool {
        self.arrived_at(Instant::now(), bytes)
    }

    fn arrived_at(&mut self, at: Instant, bytes: usize) -> bool {
        self.bytes += bytes as u64;
        if self.clock.counts(at) {
            let reading = Reading { at, bytes: self.bytes };
            self.first.get_or_insert(reading);
            self.last = Some(reading);
            return true;
        }
        !self.clock.over_at(at)
    }

    /// What has arrived between the first reading and the last; an empty sample where that is nothing.
    pub(crate) fn sample(&self) -> Result<Sample, Failure> {
        match (self.first, self.last) {
            (Some(first), Some(last)) if last.at > first.at => {
                Ok(Sample::rate(last.bytes - first.bytes, self.size, last.at.duration_since(first.at)))
            }
            _ => Ok(Sample::default()),
        }
    }
}

impl Meter<'_> {
    /// The same where what arrives are connections.
    pub(crate) fn connections(&self) -> Result<Sample, Failure> {
        let mops = self.sample()?.mops;
        Ok(mops.map_or_else(Sample::default, |mops| Sample::connections(mops * 1e6)))
    }
}

/// Times round trips.
#[derive(Debug)]
pub(crate) struct Stopwatch<'a> {
    clock: &'a Clock,
    times: Vec<Duration>,
}

impl<'a> Stopwatch<'a> {
    pub(crate) fn new(clock: &'a Clock) -> Self {
        Self { clock, times: Vec::with_capacity(1 << 16) }
    }

    /// A round trip that began then is over now; false when time is up.
    pub(crate) fn back(&mut self, begun: Instant) -> bool {
        let now = Instant::now();
        if self.clock.counts(begun) && self.clock.counts(now) {
            self.times.push(now.duration_since(begun));
        }
        !self.clock.over_at(now)
    }

    /// How long they took; an empty sample where there were none.
    pub(crate) fn sample(self) -> Result<Sample, Failure> {
        Ok(Latency::of(self.times).map(Sample::latency).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_arrives_in_the_counted_time_counts() {
        let clock = Clock::new(Duration::from_secs(10));
        let mut meter = Meter::new(&clock, 500_000);
        let begun = Instant::now();
        assert!(meter.arrived_at(begun, 1), "a clock that isn't running isn't over");
        clock.begun.set(begun).unwrap();
        let at = |seconds| begun + Duration::from_secs(seconds);
        for _ in 0..2 {
            assert!(meter.arrived_at(begun, 1_000_000) && meter.arrived_at(at(1), 1_000_000), "the warm-up");
        }
        assert_eq!(meter.sample().unwrap(), Sample::default(), "nothing is known yet");
        for second in 2..10 {
            assert!(meter.arrived_at(at(second), 1_000_000));
        }
        assert!(!meter.arrived_at(at(10), 1_000_000), "time is up");
        let sample = meter.sample().unwrap();
        // 7 of the 8: what arrived with the first reading had been on its way before.
        assert_eq!(sample.gbps, Some(0.008));
        assert_eq!(sample.mops, Some(2e-6));
    }

    #[test]
    fn who_saw_nothing_has_an_empty_sample_and_doesnt_divide_by_zero() {
        let clock = Clock::new(Duration::from_secs(1));
        assert_eq!(Meter::new(&clock, 1).sample().unwrap(), Sample::default());
        assert_eq!(Stopwatch::new(&clock).sample().unwrap(), Sample::default());
    }
}
