//! How much a requester keeps in flight, and how long it waits for an answer.
//!
//! RC has no byte credits: a RoCE NIC relies on a lossless fabric. Over UDP sockets the receiver's socket
//! buffer is the bottleneck (212,992 bytes by default, bookkeeping included), and a burst beyond it is lost.
//! So the window grows like TCP's (RFC 5681): by what is acknowledged until the first loss, then by one
//! packet a round trip; a loss halves it.

use super::congestion::Congestion;
use crate::Time;
use core::time::Duration;

/// What the bookkeeping of one packet costs a socket buffer beside its payload (Linux charges a small
/// packet's buffer at 768 bytes).
pub(super) const PACKET_COST: u64 = 768;

/// The window at the start: a third of a default socket buffer, so that a few queue pairs may begin at once.
const INITIAL: u64 = 72 << 10;

/// The most that any limit allows: with [`PACKET_COST`] for each, its packets stay within the half circle of
/// PSNs that tells new from old.
const MOST: u64 = 1 << 31;

/// The bytes that may be in flight, payload and [`PACKET_COST`] counted.
#[derive(Clone, Debug)]
pub(super) struct Window {
    size: u64,
    /// Below this the window grows by what is acknowledged, above by a packet a round trip.
    threshold: u64,
    limit: u64,
    floor: u64,
    /// Whether the requester was held up by the window since the last growth: an unused window says nothing
    /// about the path.
    limited: bool,
    /// The fabric has asked for less, and what was under way then hasn't all been acknowledged.
    congested: bool,
}

impl Window {
    /// A window that never grows over `limit` bytes and never shrinks under two packets of `mtu` bytes.
    pub(super) fn new(mtu: u32, limit: u64) -> Self {
        let floor = 2 * (u64::from(mtu) + PACKET_COST);
        let limit = limit.clamp(floor, MOST);
        Self {
            size: INITIAL.clamp(floor, limit),
            threshold: limit,
            limit,
            floor,
            limited: false,
            congested: false,
        }
    }
}

impl Congestion for Window {
    fn window(&self) -> u64 {
        self.size
    }

    fn limited(&mut self) {
        self.limited = true;
    }

    fn acknowledged(&mut self, bytes: u64) {
        if !self.limited || self.congested {
            return;
        }
        let growth =
            if self.size < self.threshold { bytes } else { (bytes * (self.floor / 2) / self.size).max(1) };
        self.size = (self.size + growth).min(self.limit);
        self.limited = false;
    }

    /// The fabric asks for less: half, for a round trip at least, and then back as fast as a window grows at first,
    /// unless the fabric goes on asking. A loss is certain; a notification may be anybody's, and a few thousand a
    /// second must not be enough to starve a connection (DCQCN recovers fast as well).
    fn congested(&mut self) {
        self.threshold = self.size;
        self.size = (self.size / 2).max(self.floor);
        self.congested = true;
    }

    /// What was under way at the last cut is acknowledged.
    fn cut_took_effect(&mut self) {
        self.congested = false;
    }

    fn lost(&mut self) {
        self.size = (self.size / 2).max(self.floor);
        self.threshold = self.size;
    }
}

/// Smoothed round-trip time (RFC 6298), to notice a lost last packet long before the local ACK timeout.
#[derive(Clone, Debug, Default)]
pub(super) struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
    /// A packet under measurement: its sequence number and when it was sent.
    sample: Option<(u64, Time)>,
    /// A measurement that timeouts spoiled: when its packet was sent first, and when last.
    spoiled: Option<(Time, Time)>,
    /// How long to wait the next time, whatever was measured before.
    hold: Option<Duration>,
}

impl RoundTrip {
    /// Before anything is known.
    const INITIAL: Duration = Duration::from_millis(2);
    /// Room for a peer that isn't running just now.
    const MARGIN: Duration = Duration::from_millis(1);
    /// A round trip isn't taken to be longer than so many waits at once.
    const MOST_HELD: u32 = 16;

    /// Begins a measurement unless one is under way.
    pub(super) fn sent(&mut self, sequence: u64, now: Time) {
        self.sample.get_or_insert((sequence, now));
    }

    /// Forgets the measurement: after a retransmission nobody knows which packet was answered (Karn's rule).
    pub(super) fn retransmitted(&mut self) {
        self.sample = None;
    }

    /// The wait was too short, or the packet was lost.
    pub(super) fn timed_out(&mut self, now: Time) {
        let sample = self.sample.take();
        if self.hold.take().is_some() {
            // The wait was long enough for the last answer: the packet was lost.
            return;
        }
        let first = sample.map(|(_, sent)| sent).or(self.spoiled.map(|(first, _)| first));
        self.spoiled = first.map(|first| (first, now));
    }

    /// Everything before `sequence` was acknowledged.
    pub(super) fn acknowledged(&mut self, sequence: u64, now: Time) {
        if let Some((_, sent)) = self.sample.filter(|&(sampled, _)| sampled < sequence) {
            (self.sample, self.spoiled, self.hold) = (None, None, None);
            self.measured(now.since(sent));
        } else if let Some((first, last)) = self.spoiled.take() {
            // The round trip is between the two.
            if self.smoothed.is_none() {
                self.measured(now.since(last));
            }
            // The first wait that follows is long enough for the longer: were it always shorter than the
            // round trip, none would ever be measured, and everything would be sent twice for ever.
            let hold = now.since(first) + Self::MARGIN;
            self.hold = Some(hold.min(self.base() * Self::MOST_HELD));
        }
    }

    fn measured(&mut self, sample: Duration) {
        match self.smoothed {
            None => {
                self.smoothed = Some(sample);
                self.variation = sample / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(sample)) / 4;
                self.smoothed = Some((smoothed * 7 + sample) / 8);
            }
        }
    }

    /// How long to wait for an answer before asking again, for the time numbered `asked`, which begins with
    /// 0. Who asks once more waits twice as long each time, up to `slowest`, but never less than a round
    /// trip.
    pub(super) fn wait(&self, asked: u32, slowest: Duration) -> Duration {
        let base = self.base();
        match (asked, self.hold) {
            (0, None) => base,
            (0, Some(hold)) => hold.max(base),
            _ => base.saturating_mul(1 << asked.min(20)).min(slowest).max(self.smoothed.unwrap_or_default()),
        }
    }

    fn base(&self) -> Duration {
        match self.smoothed {
            None => Self::INITIAL,
            Some(smoothed) => smoothed + (self.variation * 4).max(Self::MARGIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_grows_only_while_it_holds_the_sender_up_and_a_loss_halves_it() {
        let mut window = Window::new(4096, 1 << 20);
        let start = window.window();
        window.acknowledged(4096);
        assert_eq!(window.window(), start);
        window.limited();
        window.acknowledged(4096);
        assert_eq!(window.window(), start + 4096);
        window.lost();
        assert_eq!(window.window(), (start + 4096) / 2);
        let halved = window.window();
        window.limited();
        window.acknowledged(4096);
        assert!(window.window() < halved + 4096, "after a loss it grows slowly");
    }

    #[test]
    fn a_window_stays_between_two_packets_and_its_limit() {
        let mut window = Window::new(1024, 100_000);
        for _ in 0..100 {
            window.limited();
            window.acknowledged(50_000);
        }
        assert_eq!(window.window(), 100_000);
        for _ in 0..100 {
            window.lost();
        }
        assert_eq!(window.window(), 2 * (1024 + PACKET_COST));
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    /// In milliseconds.
    fn wait(round_trip: &RoundTrip, asked: u32) -> u128 {
        round_trip.wait(asked, Duration::from_millis(10)).as_millis()
    }

    #[test]
    fn a_retransmitted_packet_is_not_measured() {
        let mut round_trip = RoundTrip::default();
        round_trip.sent(5, at(0));
        round_trip.retransmitted();
        round_trip.acknowledged(6, at(900));
        assert_eq!(wait(&round_trip, 0), RoundTrip::INITIAL.as_millis());
        round_trip.sent(7, at(1000));
        round_trip.acknowledged(8, at(1010));
        assert_eq!(wait(&round_trip, 0), 10 + 20);
    }

    #[test]
    fn an_answer_later_than_the_wait_makes_the_next_wait_long_enough_to_measure() {
        let mut round_trip = RoundTrip::default();
        round_trip.sent(1, at(0));
        round_trip.timed_out(at(2));
        round_trip.timed_out(at(90));
        round_trip.acknowledged(2, at(100));
        assert_eq!(wait(&round_trip, 0), 101);
        assert_eq!(
            round_trip.base(),
            Duration::from_millis(10 + 4 * 5),
            "the shorter time it may have taken"
        );
        round_trip.sent(2, at(100));
        round_trip.acknowledged(3, at(200));
        assert!(round_trip.base().as_millis() > 100, "measured");
    }

    #[test]
    fn a_loss_after_a_wait_long_enough_lets_the_waits_grow_no_further() {
        let mut round_trip = RoundTrip::default();
        let mut longest = 0;
        for flight in 0..100 {
            round_trip.sent(flight, at(1000 * flight));
            let waited = round_trip.wait(0, Duration::ZERO);
            longest = longest.max(waited.as_millis());
            let lost = at(1000 * flight) + waited;
            round_trip.timed_out(lost);
            round_trip.acknowledged(flight + 1, lost + Duration::from_millis(1));
        }
        assert!(longest < 10, "{longest} ms");
    }

    #[test]
    fn the_wait_doubles_up_to_its_limit_and_is_never_shorter_than_a_round_trip() {
        let mut round_trip = RoundTrip::default();
        let waits = |round_trip: &RoundTrip| [0, 1, 2, 3, 30, u32::MAX].map(|asked| wait(round_trip, asked));
        assert_eq!(waits(&round_trip), [2, 4, 8, 10, 10, 10]);
        round_trip.sent(1, at(0));
        round_trip.acknowledged(2, at(20));
        assert_eq!(waits(&round_trip), [60, 20, 20, 20, 20, 20]);
    }

    #[test]
    fn no_limit_lets_a_window_hold_more_packets_than_the_half_circle_of_psns() {
        let mut window = Window::new(256, u64::MAX);
        for _ in 0..100 {
            window.limited();
            window.acknowledged(window.window());
        }
        assert_eq!(window.window(), MOST);
        assert!(window.window() / PACKET_COST < 1 << 23);
    }
}
