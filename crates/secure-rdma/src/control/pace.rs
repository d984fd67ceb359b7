//! How often a peer may be heard: each record costs this side more than the peer, and an answer a record of
//! TLS (as CVE-2019-9512 showed for HTTP/2).

use std::time::Duration;
use tokio::time::Instant;

/// Pings are answered at most this often; one answer is for all that have come since the last.
const ANSWER_EVERY: Duration = Duration::from_millis(10);

/// A peer may send so many records of the heartbeat at once,
const BURST: u32 = 1000;

/// and as many a second in the long run. The shortest heartbeat that can be agreed on takes 20.
const A_SECOND: u32 = 200;

/// Which of a peer's pings are answered, and when there are too many. It has no clock of its own.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Records that the peer may send now.
    credit: u32,
    /// When that was right.
    at: Instant,
    /// Before this no ping is answered.
    next_answer: Instant,
    /// The ping that waits for it.
    owed: Option<u64>,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { credit: BURST, at: now, next_answer: now, owed: None }
    }

    /// A record of the heartbeat has come. False if there are too many.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let every = Duration::from_secs(1) / A_SECOND;
        let more = now.saturating_duration_since(self.at).as_nanos() / every.as_nanos();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.at += every * more;
        self.credit = self.credit.saturating_add(more).min(BURST);
        match self.credit.checked_sub(1) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }

    /// Ping `n` has come: whether it is to be answered now. Otherwise [`due`](Self::due) says when.
    pub(crate) fn ping(&mut self, n: u64, now: Instant) -> Option<u64> {
        self.owed = Some(n);
        self.answer(now)
    }

    /// When the ping that waits is to be answered, if one does.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.owed.map(|_| self.next_answer)
    }

    /// The ping that is to be answered now, if one is.
    pub(crate) fn answer(&mut self, now: Instant) -> Option<u64> {
        if now < self.next_answer {
            return None;
        }
        let n = self.owed.take()?;
        self.next_answer = now + ANSWER_EVERY;
        Some(n)
    }

    /// How many records a second are allowed.
    pub(crate) const fn limit() -> u32 {
        A_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_heartbeat_of_any_rhythm_is_answered_at_once() {
        let begin = Instant::now();
        for every in [100, 5000, 3_600_000] {
            let mut pace = Pace::new(begin);
            for n in 0..10_000 {
                let now = begin + ms(every) * u32::try_from(n).unwrap();
                assert!(pace.allows(now));
                assert_eq!((pace.ping(n, now), pace.due()), (Some(n), None));
            }
        }
    }

    #[test]
    fn pings_that_come_at_once_have_one_answer_which_is_the_lasts() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        assert_eq!(pace.ping(1, begin), Some(1));
        for n in 2..100 {
            assert_eq!(pace.ping(n, begin + ms(1)), None);
        }
        assert_eq!(pace.due(), Some(begin + ANSWER_EVERY));
        assert_eq!(pace.answer(begin + ms(9)), None);
        assert_eq!(pace.answer(begin + ms(10)), Some(99));
        assert_eq!((pace.due(), pace.answer(begin + ms(30))), (None, None));
    }

    #[test]
    fn a_flood_has_an_end_and_a_burst_is_forgiven() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let allowed = (0..1_000_000).take_while(|_| pace.allows(begin)).count();
        assert_eq!(allowed, BURST as usize);
        // A second later there is credit for a second, and never for more than a burst.
        let mut allowed = |now| (0..1_000_000).take_while(|_| pace.allows(now)).count();
        assert_eq!(allowed(begin + ms(1000)), A_SECOND as usize);
        assert_eq!(allowed(begin + ms(1_000_000_000)), BURST as usize);
    }
}
