//! Timer codes of the wire and the table of timers.

use crate::Time;
use core::time::Duration;

/// What a 5-bit RNR timer code means (`enum ib_rnr_timeout`, and `rnrnak_usec` in rxe).
const RNR_TIMER_US: [u32; 32] = [
    655_360, 10, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960, 1_280, 1_920, 2_560, 3_840, 5_120,
    7_680, 10_240, 15_360, 20_480, 30_720, 40_960, 61_440, 81_920, 122_880, 163_840, 245_760, 327_680,
    491_520,
];

/// How long an RNR NAK with this 5-bit timer code asks to wait; higher bits are ignored.
#[must_use]
pub fn rnr_delay(code: u8) -> Duration {
    Duration::from_micros(u64::from(RNR_TIMER_US[usize::from(code & 31)]))
}

/// The local ACK timeout of a 5-bit code, 4.096 µs · 2^code; `None` for 0, which means to wait for ever
/// (`ibv_modify_qp(3)`).
#[must_use]
pub fn ack_timeout(code: u8) -> Option<Duration> {
    match code & 31 {
        0 => None,
        code => Some(Duration::from_nanos(4096 << code)),
    }
}

/// The timers of a queue pair.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    /// Nothing was heard since the oldest unacknowledged packet was sent.
    Retransmit,
    /// The peer asked for time with an RNR NAK.
    RnrWait,
}

/// When each timer rings, if it is set.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers([Option<Time>; 2]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Time) {
        self.0[timer as usize] = Some(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// Whether `timer` has rung; it is stopped then.
    pub(super) fn take_expired(&mut self, timer: Timer, now: Time) -> bool {
        let expired = self.0[timer as usize].is_some_and(|at| at <= now);
        if expired {
            self.stop(timer);
        }
        expired
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.0.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timer_codes_mean_what_the_specification_says() {
        assert_eq!(rnr_delay(0), Duration::from_micros(655_360));
        assert_eq!(rnr_delay(1), Duration::from_micros(10));
        assert_eq!(rnr_delay(12), Duration::from_micros(640));
        assert_eq!(rnr_delay(14), Duration::from_micros(1280));
        assert_eq!(rnr_delay(31), Duration::from_micros(491_520));
        assert_eq!(ack_timeout(0), None);
        assert_eq!(ack_timeout(14), Some(Duration::from_nanos(67_108_864)));
        assert_eq!(ack_timeout(31), Some(Duration::from_nanos(4096 << 31)));
    }
}
