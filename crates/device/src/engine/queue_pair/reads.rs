//! Pacing of READ responses.
//!
//! Nobody acknowledges them, so no window holds them back: a peer that reads without end would fill the send buffer
//! that all queue pairs of a port share, and where its link is slow, everybody would wait for that link. So they
//! fill a part of it only. The rest stays free for requests, acknowledgements and short answers, which go first:
//! a queue pair's first responses after a pause may fill more than what follows them.

use core::time::Duration;
use rocev2::Time;

/// When to look again at a buffer that was full, at first and at most: it doubles each time on end. Half of Linux'
/// usual buffer leaves at 10 Gb/s in 80 µs.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_micros(50), Duration::from_micros(200)];

/// Bytes of responses after a pause that go first.
const SHORT: u64 = 16 << 10;

/// What may leave where the system doesn't tell how full the buffer is.
const UNKNOWN: u64 = 128 << 10;

/// How many READ responses a queue pair may send.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReadPacing {
    /// Bytes that were allowed since there was nothing to answer.
    allowed: u64,
    /// How long it waits to look again, and until when.
    interval: Duration,
    wake: Option<Time>,
}

impl ReadPacing {
    /// Responses wait, and the send buffer holds so many bytes of those that it has room for. Returns how many bytes
    /// of them may leave.
    pub(super) fn look(&mut self, now: Time, buffer: Option<[usize; 2]>) -> u64 {
        let first = self.allowed < SHORT;
        let room = buffer.map_or(UNKNOWN, |[held, size]| {
            let most = if first { size / 4 * 3 } else { size / 2 };
            // Whoever has waited goes on when there is room for more than a packet or two: each look costs a call.
            let least = if first || self.interval.is_zero() { 1 } else { size / 8 };
            most.checked_sub(held).filter(|room| *room >= least).unwrap_or(0) as u64
        });
        if room == 0 {
            self.interval = (self.interval * 2).clamp(LOOK_AGAIN[0], LOOK_AGAIN[1]);
            self.wake = Some(now + self.interval);
            return 0;
        }
        let room = if first { room.min(SHORT - self.allowed) } else { room };
        *self = Self { allowed: self.allowed + room, ..Self::default() };
        room
    }

    /// Nothing is to be answered. Returns whether what was allowed and not used is to be taken back.
    pub(super) fn pause(&mut self) -> bool {
        core::mem::take(self).allowed > 0
    }

    /// When to look again.
    pub(super) fn wake(&self) -> Option<Time> {
        self.wake
    }

    /// The time has come: whoever sends looks again.
    pub(super) fn woken(&mut self, now: Time) {
        self.wake.take_if(|at| *at <= now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_nanos(1_000_000_000);
    const SIZE: usize = 200_000;

    #[test]
    fn what_follows_a_pause_may_fill_more_of_the_buffer() {
        let mut pacing = ReadPacing::default();
        assert_eq!(pacing.look(NOW, Some([SIZE / 2, SIZE])), SHORT);
        assert_eq!(pacing.look(NOW, Some([SIZE / 2 - 1000, SIZE])), 1000);
        assert_eq!(pacing.look(NOW, Some([SIZE / 2, SIZE])), 0);
        assert_eq!(pacing.look(NOW, Some([SIZE / 2 - 1000, SIZE])), 0, "not worth the while");
        assert_eq!(pacing.look(NOW, Some([SIZE / 4, SIZE])), SIZE as u64 / 4);
        assert!(pacing.pause());
        assert_eq!(pacing.look(NOW, Some([SIZE / 4 * 3 - 1000, SIZE])), 1000);
        assert_eq!(pacing.look(NOW, Some([SIZE / 2, SIZE])), SHORT - 1000);
        assert_eq!(pacing.look(NOW, Some([SIZE / 2, SIZE])), 0);
    }

    #[test]
    fn a_full_buffer_is_looked_at_again_more_and_more_seldom() {
        let mut pacing = ReadPacing::default();
        let full = Some([SIZE, SIZE]);
        assert_eq!((pacing.look(NOW, full), pacing.wake()), (0, Some(NOW + LOOK_AGAIN[0])));
        assert_eq!((pacing.look(NOW, full), pacing.wake()), (0, Some(NOW + LOOK_AGAIN[0] * 2)));
        for _ in 0..10 {
            assert_eq!(pacing.look(NOW, full), 0);
        }
        assert_eq!(pacing.wake(), Some(NOW + LOOK_AGAIN[1]));
        pacing.woken(NOW);
        assert!(pacing.wake().is_some(), "not yet");
        pacing.woken(NOW + LOOK_AGAIN[1]);
        assert_eq!(pacing.wake(), None);
        assert!(pacing.look(NOW, Some([0, SIZE])) > 0 && pacing.wake().is_none());
        assert_eq!(
            (pacing.look(NOW, full), pacing.wake()),
            (0, Some(NOW + LOOK_AGAIN[0])),
            "from the beginning"
        );
    }

    #[test]
    fn where_the_system_does_not_tell_nothing_waits() {
        assert!(ReadPacing::default().look(NOW, None) > 0);
    }
}
