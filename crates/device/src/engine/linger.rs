//! How long the progress thread looks for further packets before it sleeps.

use core::time::Duration;
use rocev2::Time;

/// How long after the last packet. A stream of them comes at shorter intervals, and waking a thread costs its sender
/// more than the packet.
pub(super) const LINGER: Duration = Duration::from_micros(50);

/// If the thread hasn't had its turn for so long, and nobody has polled, another one needs the core that neither sleeps
/// nor polls: it looks at its memory until its time slice is over. One that is at work on what it has polled may take
/// whole time slices, too, but comes back to poll: waking this thread for each packet would only interrupt it.
const CROWDED: Duration = Duration::from_millis(1);

/// For how long then not to look for further packets, the first time and at most: it doubles each time on end.
const MODEST: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// Whether to look for further packets.
#[derive(Debug, Default)]
pub(super) struct Linger {
    /// When packets came last.
    arrived: Option<Time>,
    /// When the thread let others go first, to look again.
    yielded: Option<Time>,
    /// Until when not to look, and for how long that was.
    modest: (Time, Duration),
}

impl Linger {
    /// Packets have come.
    pub(super) fn arrived(&mut self, now: Time) {
        self.arrived = Some(now);
    }

    /// The thread has its turn again. `last_poll` is when another one polled last.
    pub(super) fn resume(&mut self, now: Time, last_poll: Option<Time>) {
        if let Some(yielded) = self.yielded.take() {
            let crowded = now.since(last_poll.map_or(yielded, |poll| poll.max(yielded))) > CROWDED;
            let span = if crowded { (self.modest.1 * 2).clamp(MODEST[0], MODEST[1]) } else { Duration::ZERO };
            self.modest = (now + span, span);
        }
    }

    /// Whether to let others go first and then look again.
    pub(super) fn look_again(&mut self, now: Time) -> bool {
        let again = self.arrived.is_some_and(|arrived| now.since(arrived) < LINGER) && now >= self.modest.0;
        if again {
            self.yielded = Some(now);
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Time {
        Time::ZERO + Duration::from_micros(micros)
    }

    /// After packets at `begun`, the thread has its turn again after a time slice of 4 ms; returns whether it looks
    /// again at the next packets.
    fn lingers_after_a_slice(begun: u64, last_poll: Option<Time>) -> bool {
        let mut linger = Linger::default();
        linger.arrived(at(begun));
        assert!(linger.look_again(at(begun)));
        linger.resume(at(begun + 4000), last_poll);
        linger.arrived(at(begun + 4000));
        linger.look_again(at(begun + 4000))
    }

    #[test]
    fn packets_are_looked_for_until_none_has_come_for_a_while() {
        let mut linger = Linger::default();
        assert!(!linger.look_again(at(100)), "none has come yet");
        linger.arrived(at(100));
        assert!(linger.look_again(at(149)));
        linger.resume(at(149), None);
        assert!(!linger.look_again(at(150)));
    }

    #[test]
    fn a_thread_that_keeps_the_core_and_never_polls_gets_it() {
        assert!(!lingers_after_a_slice(1000, None));
        // As ib_write_lat does: it has polled for its own completion, and then looks at its memory.
        assert!(!lingers_after_a_slice(1000, Some(at(1100))));
    }

    #[test]
    fn a_thread_that_keeps_the_core_for_what_it_polls_is_not_woken_beside() {
        assert!(lingers_after_a_slice(1000, Some(at(4500))));
    }

    #[test]
    fn the_core_is_left_alone_for_twice_as_long_each_time_on_end() {
        let mut linger = Linger::default();
        let mut now = at(1000);
        for span in [20, 40, 80, 160, 320, 640, 1000, 1000] {
            linger.arrived(now);
            assert!(linger.look_again(now));
            now = now + Duration::from_millis(4);
            linger.resume(now, None);
            let over = now + Duration::from_millis(span);
            for (time, looks) in [(over.as_nanos() - 1, false), (over.as_nanos(), true)] {
                linger.arrived(Time::from_nanos(time));
                assert_eq!(linger.look_again(Time::from_nanos(time)), looks, "{span} ms");
            }
            now = over;
        }
    }
}
