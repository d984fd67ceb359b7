//! Whether an answer's message sequence number (MSN) can be true.
//!
//! An answer is taken for any PSN under way, some hundreds of them. The MSN tells how many messages the peer has
//! completed: of 2^24 numbers only those between what it has acknowledged and what was sent can be true, so that who
//! forges an answer blindly has another number to guess.
//!
//! Nothing but this needs the MSN, and a peer that fills it otherwise must not lose its connection for that.
//! rxe counts as IBA 9.7.5.1.3 says, from 0, but a READ again that it couldn't answer for want of memory
//! (`execute`, `read_reply` in `rxe_resp.c`). So a peer first has to show that it counts, and there is some
//! slack; and if nothing but untrue numbers comes in the time that a lost answer would take, the check ends
//! for good.

/// True numbers in a row that show that the peer counts.
const SHOWN: u8 = 16;

/// What a peer may be ahead of what it was sent.
const SLACK: u32 = 64;

const MASK: u32 = 0xff_ffff;

/// Messages as the peer counts them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MessageNumbers {
    /// Messages that the peer has acknowledged wholly.
    acknowledged: u32,
    /// Messages that the peer may have completed: whose last packet was sent.
    sent: u32,
    trust: Trust,
    /// Answers were refused since the last one that was taken.
    refusing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// So many true numbers were seen.
    Learning(u8),
    Counts,
    DoesNotCount,
}

impl Default for Trust {
    fn default() -> Self {
        Self::Learning(0)
    }
}

impl MessageNumbers {
    /// A message's last packet leaves for the first time, or its only one.
    pub(super) fn sent(&mut self) {
        self.sent = self.sent.wrapping_add(1) & MASK;
    }

    /// So many messages were acknowledged.
    pub(super) fn acknowledged(&mut self, count: u32) {
        self.acknowledged = self.acknowledged.wrapping_add(count) & MASK;
    }

    /// Whether an answer to something under way, with this number, may be taken.
    pub(super) fn takes(&mut self, msn: u32) -> bool {
        let under_way = self.sent.wrapping_sub(self.acknowledged) & MASK;
        let ahead = msn.wrapping_sub(self.acknowledged) & MASK;
        let plausible = ahead <= under_way + SLACK;
        match (self.trust, plausible) {
            (Trust::DoesNotCount, _) => {}
            (Trust::Learning(_), false) => self.trust = Trust::DoesNotCount,
            (Trust::Counts, false) => {
                self.refusing = true;
                return false;
            }
            // Before the first message is acknowledged, a peer that doesn't count says 0, too.
            (Trust::Learning(seen), true) if self.acknowledged > SLACK => {
                self.trust = if seen + 1 >= SHOWN { Trust::Counts } else { Trust::Learning(seen + 1) };
            }
            (Trust::Learning(_), true) => {}
            (Trust::Counts, true) => self.refusing = false,
        }
        true
    }

    /// Nothing was taken for as long as an answer needs: if answers were refused meanwhile, they may have been the
    /// peer's.
    pub(super) fn timed_out(&mut self) {
        if core::mem::take(&mut self.refusing) {
            self.trust = Trust::DoesNotCount;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After `count` messages that a peer which counts acknowledged one by one.
    fn shown(count: u32) -> MessageNumbers {
        let mut numbers = MessageNumbers::default();
        for number in 1..=count {
            numbers.sent();
            assert!(numbers.takes(number & MASK));
            numbers.acknowledged(1);
        }
        numbers
    }

    #[test]
    fn a_peer_that_counts_is_held_to_it() {
        for count in [SLACK + 17, 1 << 20, MASK, MASK + 3] {
            let mut numbers = shown(count);
            for _ in 0..5 {
                numbers.sent();
            }
            for true_one in [0, 1, 5, 5 + SLACK] {
                assert!(numbers.takes((count + true_one) & MASK));
            }
            for untrue in [count.wrapping_sub(1), count + 6 + SLACK, count + (1 << 23)] {
                assert!(!numbers.takes(untrue & MASK), "{untrue:#x} after {count:#x}");
            }
        }
    }

    #[test]
    fn a_peer_that_does_not_count_is_never_refused() {
        let mut numbers = MessageNumbers::default();
        for _ in 0..1000 {
            numbers.sent();
            assert!(numbers.takes(0));
            numbers.acknowledged(1);
        }
        assert!(numbers.takes(77));
    }

    #[test]
    fn a_peer_that_stops_counting_is_refused_no_longer_than_a_lost_answer_takes() {
        let mut numbers = shown(1000);
        numbers.sent();
        assert!(!numbers.takes(5));
        assert!(numbers.takes(1001), "another's packet in between");
        numbers.timed_out();
        assert!(!numbers.takes(5), "since a true one came");
        numbers.timed_out();
        assert!(numbers.takes(5));
    }
}
