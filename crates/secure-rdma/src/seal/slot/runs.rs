//! Slots that were written one after the other.

use std::collections::BTreeMap;

/// `count` slots from `first` on, 1 or more, which have the numbers from `number` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) number: u64,
}

impl Run {
    /// The slot behind it. A region's last slot is 2^32 - 2.
    pub(super) const fn end(self) -> u32 {
        self.first + self.count
    }

    /// The number of its last slot.
    pub(super) const fn last_number(self) -> u64 {
        self.number + (self.count - 1) as u64
    }

    /// Whether all slots of `other` are among its own.
    pub(super) const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.end() <= self.end()
    }

    /// Whether it goes on with `slot`, of that number.
    pub(super) fn goes_on(self, slot: u32, number: u64) -> bool {
        slot == self.end() && number == self.number + u64::from(self.count)
    }
}

/// Runs that share no slot: of each slot its latest. As many at most as there are slots, and no more than two
/// for each that was put in.
#[derive(Default)]
pub(super) struct Runs(BTreeMap<u32, Run>);

impl Runs {
    /// The number of `slot`.
    pub(super) fn get(&self, slot: u32) -> Option<u64> {
        let (_, run) = self.0.range(..=slot).next_back()?;
        (slot < run.end()).then(|| run.number + u64::from(slot - run.first))
    }

    /// Puts `run` in the place of whatever is said of its slots.
    pub(super) fn put(&mut self, run: Run) {
        while let Some((&first, &old)) = self.0.range(..run.end()).next_back() {
            if old.end() <= run.first {
                break;
            }
            self.0.remove(&first);
            if old.end() > run.end() {
                let skipped = run.end() - old.first;
                let number = old.number + u64::from(skipped);
                self.insert(Run { first: run.end(), count: old.count - skipped, number });
            }
            if old.first < run.first {
                self.insert(Run { count: run.first - old.first, ..old });
            }
        }
        self.insert(run);
    }

    fn insert(&mut self, run: Run) {
        self.0.insert(run.first, run);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them; none is left.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Run> + use<> {
        core::mem::take(&mut self.0).into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const SLOTS: u32 = 24;

    #[test]
    fn a_run_goes_on_with_the_next_slot_and_number_alone() {
        let run = Run { first: 5, count: 3, number: 10 };
        assert!(run.goes_on(8, 13));
        for (slot, number) in [(8, 12), (8, 14), (7, 13), (9, 13), (4, 9)] {
            assert!(!run.goes_on(slot, number), "slot {slot}, number {number}");
        }
        assert_eq!(run.last_number(), 12);
    }

    #[test]
    fn a_run_covers_what_has_no_slots_beside_it() {
        let run = |first, count| Run { first, count, number: 1 };
        assert!(
            [(5, 3), (5, 1), (7, 1), (6, 2)]
                .iter()
                .all(|&(first, count)| run(5, 3).covers(run(first, count)))
        );
        assert!(
            ![(4, 2), (7, 2), (4, 5), (9, 1)]
                .iter()
                .any(|&(first, count)| run(5, 3).covers(run(first, count)))
        );
    }

    #[test]
    fn the_last_slot_that_a_region_can_have_has_its_place() {
        let mut runs = Runs::default();
        runs.put(Run { first: u32::MAX - 3, count: 3, number: 1 });
        runs.put(Run { first: u32::MAX - 1, count: 1, number: 9 });
        assert_eq!(
            [4, 3, 2, 1, 0].map(|back| runs.get(u32::MAX - back)),
            [None, Some(1), Some(2), Some(9), None]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn of_each_slot_the_latest_counts(
            puts in vec((0..SLOTS, 1..SLOTS, any::<u32>()), 0..30),
        ) {
            let (mut runs, mut model) = (Runs::default(), [None; SLOTS as usize]);
            for (at, (first, count, number)) in puts.into_iter().enumerate() {
                let run = Run { first, count: count.min(SLOTS - first), number: number.into() };
                runs.put(run);
                for (slot, number) in (run.first..run.end()).zip(run.number..) {
                    model[slot as usize] = Some(number);
                }
                for slot in 0..SLOTS {
                    prop_assert_eq!(runs.get(slot), model[slot as usize]);
                }
                prop_assert!(runs.0.len() <= 2 * (at + 1));
                prop_assert!(runs.0.values().all(|run| run.count > 0));
            }
            let written = model.iter().flatten().count();
            let all: Vec<Run> = runs.take().collect();
            prop_assert_eq!(all.iter().map(|run| run.count as usize).sum::<usize>(), written);
            prop_assert!(runs.is_empty());
        }
    }
}
