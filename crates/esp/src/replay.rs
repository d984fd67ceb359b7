//! The replay window over extended sequence numbers (RFC 4303, section 3.4.3 and appendix A2).

/// Numbers that a window covers if nobody says otherwise. Several threads seal at a time, each with a block of
/// numbers of its own, and segmentation offload sends dozens of packets at once.
pub const DEFAULT_WINDOW: u32 = 16_384;

const WORD: u64 = u64::BITS as u64;

/// Why a number isn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// The number was taken before.
    Replayed,
    /// The number lies before the window (or is 0): whether it was taken before isn't known any more.
    BelowWindow,
}

/// Which numbers have been taken: the largest one, and a bit for each of those before it in the window.
#[derive(Debug)]
pub struct ReplayWindow {
    /// The largest number taken; 0 before the first.
    top: u64,
    /// A ring of bits: number n has bit n modulo the window's size.
    seen: Box<[u64]>,
}

impl ReplayWindow {
    /// A window of `size` numbers, rounded up to a power of two from 64 to 2^20.
    #[must_use]
    pub fn new(size: u32) -> Self {
        let words = size.clamp(64, 1 << 20).next_power_of_two() / u64::BITS;
        // One more: a word is cleared as a whole when the window enters it, and what it held must be out by then.
        Self { top: 0, seen: vec![0; words as usize + 1].into_boxed_slice() }
    }

    /// A window that ends with `number`, as if everything up to there had been before its time: for an SA whose peer
    /// doesn't begin with 1.
    #[must_use]
    pub fn after(size: u32, number: u64) -> Self {
        let mut window = Self::new(size);
        window.seen.fill(u64::MAX);
        window.top = number;
        // What the window enters next is cleared word by word; the rest of the present word, here.
        let (word, bit) = window.place(number);
        if let Some(seen) = window.seen.get_mut(word) {
            *seen = bit | (bit - 1);
        }
        window
    }

    /// Numbers that the window covers.
    #[must_use]
    pub fn size(&self) -> u64 {
        (self.seen.len() as u64 - 1) * WORD
    }

    /// The 64-bit number of a packet that carries only the low half `low`: the one nearest to the window (RFC 4303,
    /// appendix A2.2). The tag tells whether that is right.
    #[must_use]
    pub fn extend(&self, low: u32) -> Option<u64> {
        let (high, top_low) = (self.top >> 32, self.top & u64::from(u32::MAX));
        let low = u64::from(low);
        let high = if top_low >= self.size() - 1 {
            // The window lies within one cycle of the low half: what is before it belongs to the next.
            if low + self.size() > top_low {
                high
            } else {
                high.checked_add(1).filter(|high| *high <= u32::MAX.into())?
            }
        } else {
            // The window reaches into the cycle before.
            let bottom = (top_low + (1 << 32)) - (self.size() - 1);
            if low >= bottom { high.checked_sub(1)? } else { high }
        };
        Some(high << 32 | low)
    }

    /// Whether `number` may still be taken.
    ///
    /// # Errors
    /// It was taken before, or is so old that nobody knows.
    pub fn check(&self, number: u64) -> Result<(), Stale> {
        if number > self.top {
            return Ok(());
        }
        if number == 0 || self.top - number >= self.size() {
            return Err(Stale::BelowWindow);
        }
        let (word, bit) = self.place(number);
        if self.seen.get(word).is_none_or(|seen| seen & bit != 0) { Err(Stale::Replayed) } else { Ok(()) }
    }

    /// Takes `number`, once its packet has turned out to be authentic.
    ///
    /// # Errors
    /// As [`Self::check`]; nothing has changed then.
    pub fn take(&mut self, number: u64) -> Result<(), Stale> {
        self.check(number)?;
        self.advance(number);
        let (word, bit) = self.place(number);
        if let Some(seen) = self.seen.get_mut(word) {
            *seen |= bit;
        }
        Ok(())
    }

    /// Moves the window on so that it ends with `number`, if it doesn't reach there yet.
    fn advance(&mut self, number: u64) {
        let Some(by) = number.checked_sub(self.top) else { return };
        if by >= self.size() {
            self.seen.fill(0);
        } else {
            // The words that the window enters; the one of the present top is half in use.
            let (from, to) = (self.top / WORD, number / WORD);
            for word in from + 1..=to {
                let index = self.index(word);
                if let Some(seen) = self.seen.get_mut(index) {
                    *seen = 0;
                }
            }
        }
        self.top = number;
    }

    #[expect(clippy::cast_possible_truncation, reason = "less than the ring's length")]
    fn index(&self, word: u64) -> usize {
        (word % self.seen.len() as u64) as usize
    }

    fn place(&self, number: u64) -> (usize, u64) {
        (self.index(number / WORD), 1 << (number % WORD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn each_number_in_the_window_is_taken_once() {
        let mut window = ReplayWindow::new(64);
        assert_eq!(window.take(0), Err(Stale::BelowWindow), "numbers begin with 1");
        assert_eq!(window.take(100), Ok(()));
        assert_eq!(window.take(100), Err(Stale::Replayed));
        assert_eq!(window.take(36), Err(Stale::BelowWindow));
        for number in 37..100 {
            assert_eq!(window.take(number), Ok(()));
            assert_eq!(window.take(number), Err(Stale::Replayed));
        }
        assert_eq!(window.take(101), Ok(()));
        assert_eq!(window.take(37), Err(Stale::BelowWindow));
        assert_eq!(window.take(38), Err(Stale::Replayed));
    }

    #[test]
    fn a_window_that_begins_later_takes_nothing_from_before() {
        for start in [0, 1, 63, 64, 1000, (1 << 32) - 1] {
            let mut window = ReplayWindow::after(128, start);
            for before in start.saturating_sub(300)..=start {
                assert!(window.take(before).is_err(), "{before} before {start}");
            }
            for next in (1..400).rev() {
                let expected = if next > 271 { Ok(()) } else { Err(Stale::BelowWindow) };
                assert_eq!(window.take(start + next), expected, "{start} + {next}");
            }
        }
    }

    #[test]
    fn sizes_are_rounded_up_and_bounded() {
        for (asked, size) in [(0, 64), (64, 64), (65, 128), (16_384, 16_384), (u32::MAX, 1 << 20)] {
            assert_eq!(ReplayWindow::new(asked).size(), size, "{asked}");
        }
    }

    #[test]
    fn the_low_half_is_extended_to_the_number_nearest_to_the_window() {
        let mut window = ReplayWindow::new(64);
        let cycle = 1u64 << 32;
        for (top, low, number) in [
            (0, 1, Some(1)),
            // Nothing is before the first cycle.
            (10, u32::MAX, None),
            (100, 36, Some(cycle + 36)),
            (100, 37, Some(37)),
            (cycle - 1, u32::MAX - 63, Some(cycle - 64)),
            (cycle - 1, u32::MAX - 64, Some(2 * cycle - 65)),
            (cycle - 1, 0, Some(cycle)),
            // The window reaches into the cycle before.
            (cycle + 5, u32::MAX, Some(cycle - 1)),
            (cycle + 5, 0, Some(cycle)),
            (cycle + 5, 6, Some(cycle + 6)),
            (cycle + 63, u32::MAX, Some(2 * cycle - 1)),
            (u64::MAX, 5, None),
        ] {
            window.top = top;
            assert_eq!(window.extend(low), number, "top {top}, low half {low}");
        }
    }

    proptest! {
        /// The window against a set of everything that was taken.
        #[test]
        fn the_window_is_as_a_set_would_be(
            size in 1u32..300,
            start in prop_oneof![Just(1u64), Just((1 << 32) - 100), 1..u64::MAX / 2],
            steps in prop::collection::vec((any::<bool>(), 0u64..400), 1..400),
        ) {
            let mut window = ReplayWindow::new(size);
            let (mut top, mut taken) = (0, HashSet::new());
            for (ahead, by) in steps {
                let number = match top {
                    0 => start,
                    top if ahead => top + by,
                    top => top.saturating_sub(by),
                };
                let expected = if number == 0 || (number <= top && top - number >= window.size()) {
                    Err(Stale::BelowWindow)
                } else if taken.contains(&number) {
                    Err(Stale::Replayed)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.check(number), expected);
                prop_assert_eq!(window.take(number), expected);
                if expected.is_ok() {
                    taken.insert(number);
                    top = top.max(number);
                }
            }
        }
    }
}
