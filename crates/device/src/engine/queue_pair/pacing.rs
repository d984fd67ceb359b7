//! Pacing of what nobody acknowledges.
//!
//! Between two sockets of one host nothing holds a sender up: the system drops what the receiver's buffer has no
//! room for. Programs that use unreliable transports on a lossless network don't expect that. So before a queue pair
//! sends much to this host, it looks at how full the receiver's buffer is, and waits for a moment where it is half
//! full. To other hosts nothing is known; there the local buffer alone holds senders up.
//!
//! The same alarm wakes a queue pair whose link is full and can't say when it has room again.

use core::time::Duration;
use rocev2::Time;

/// When to look again at a buffer that had no room.
const LOOK_AGAIN: Duration = Duration::from_micros(50);

/// The part of a buffer's room that one queue pair takes at a time: others may take theirs at the same moment.
const SHARE: usize = 8;

/// For how long it may count on that.
const FRESH: Duration = Duration::from_micros(100);

/// A receiver that takes nothing for so long is stopped or gone: what is sent to it may be lost, until it has room
/// again. On a busy machine whoever takes from a socket may not run for a tenth of that.
const PATIENCE: Duration = Duration::from_secs(1);

/// What may be sent then at a time.
const REGARDLESS: usize = 64 << 10;

/// What the system takes of a receive buffer for a datagram, beside twice its bytes.
const BOOKKEEPING: usize = 1024;

/// How much a queue pair may send to this host.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pacing {
    /// Bytes of the receiver's buffer that may be filled before it is looked at again.
    allowance: usize,
    /// When it was looked at last.
    looked: Time,
    /// Since when the receiver has had no room.
    full: Option<Time>,
    /// When to look again.
    wake: Option<Time>,
}

impl Pacing {
    /// Whether a datagram may leave without another look at the receiver's buffer.
    pub(super) fn has_allowance(&self, now: Time) -> bool {
        self.allowance > 0 && now.since(self.looked) < FRESH
    }

    /// The receiver's buffer has so much room, `None` if nobody knows. Returns whether a datagram may leave.
    pub(super) fn look(&mut self, now: Time, room: Option<usize>) -> bool {
        let has_room = room != Some(0);
        let full = if has_room { None } else { Some(*self.full.get_or_insert(now)) };
        let stopped = full.is_some_and(|since| now.since(since) >= PATIENCE);
        if !has_room && !stopped {
            self.wake = Some(now + LOOK_AGAIN);
            return false;
        }
        let share = room.filter(|_| has_room).map(|room| room.div_ceil(SHARE));
        *self = Self { allowance: share.unwrap_or(REGARDLESS), looked: now, full, wake: None };
        true
    }

    /// What follows is another attempt to send: nothing has to wake it for the last one.
    pub(super) fn begin(&mut self) {
        self.wake = None;
    }

    /// The link has no room, and can't tell when it has again.
    pub(super) fn blocked(&mut self, now: Time) {
        self.wake = Some(now + LOOK_AGAIN);
    }

    /// A datagram of so many bytes leaves.
    pub(super) fn sent(&mut self, len: usize) {
        self.allowance = self.allowance.saturating_sub(2 * len + BOOKKEEPING);
    }

    /// Another receiver comes next.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// When to go on.
    pub(super) fn wake(&self) -> Option<Time> {
        self.wake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_nanos(1_000_000_000);

    #[test]
    fn a_receiver_is_looked_at_once_for_a_part_of_its_room_and_not_for_long() {
        let mut pacing = Pacing::default();
        assert!(!pacing.has_allowance(NOW));
        assert!(pacing.look(NOW, Some(SHARE * 6000)));
        pacing.sent(1000);
        assert!(pacing.has_allowance(NOW));
        assert!(!pacing.has_allowance(NOW + FRESH), "others have sent since");
        pacing.sent(1000);
        assert!(!pacing.has_allowance(NOW));
        assert!(!pacing.look(NOW, Some(0)));
        assert_eq!(pacing.wake(), Some(NOW + LOOK_AGAIN));
        assert!(pacing.look(NOW + LOOK_AGAIN, Some(1)));
        assert_eq!(pacing.wake(), None);
    }

    #[test]
    fn a_receiver_that_takes_nothing_does_not_hold_a_sender_up_for_ever() {
        let mut pacing = Pacing::default();
        assert!(!pacing.look(NOW, Some(0)));
        assert!(!pacing.look(NOW + PATIENCE / 2, Some(0)));
        assert!(pacing.look(NOW + PATIENCE, Some(0)));
        pacing.sent(REGARDLESS);
        assert!(pacing.look(NOW + PATIENCE, Some(0)), "nor does it each time");
        assert!(pacing.look(NOW + PATIENCE, Some(1)));
        assert!(!pacing.look(NOW + PATIENCE, Some(0)), "one that has had room is waited for");
    }

    #[test]
    fn another_receiver_is_looked_at_and_waited_for_anew() {
        let mut pacing = Pacing::default();
        assert!(pacing.look(NOW, Some(SHARE * 6000)));
        assert!(!pacing.look(NOW, Some(0)));
        pacing.forget();
        assert!(!pacing.has_allowance(NOW), "that was the other's room");
        assert_eq!(pacing.wake(), None);
        assert!(!pacing.look(NOW + PATIENCE, Some(0)), "this one has had no time yet");
    }
}
