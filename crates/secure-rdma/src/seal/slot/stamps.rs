//! The newest stamp that this side knows of each slot.

use super::Stamp;
use super::runs::Run;
use crate::control::Role;
use std::collections::BTreeMap;

/// In the place of a stamp, of a slot that was read as never written. No stamp has the number 0.
const EMPTY: u64 = 1 << 63;

/// Slots in a page.
const PAGE: u32 = 512;

/// Eight bytes a slot, in pages that come to be when one of their slots is first used: memory grows with what
/// this side touches, not with what the peer says of its region's size.
#[derive(Default)]
pub(super) struct Stamps(BTreeMap<u32, Box<[u64; PAGE as usize]>>);

impl Stamps {
    pub(super) fn get(&self, slot: u32) -> Option<Stamp> {
        Stamp::from_word(self.0.get(&(slot / PAGE))?[(slot % PAGE) as usize])
    }

    pub(super) fn set(&mut self, slot: u32, stamp: Stamp) {
        *self.place(slot) = stamp.word();
    }

    /// Sets those of the slots of `run`, which `author` wrote: their numbers follow each other. A page is
    /// looked for once.
    pub(super) fn set_run(&mut self, author: Role, run: Run) {
        let (mut slot, mut numbers) = (run.first, run.number..);
        while slot < run.end() {
            let here = (PAGE - slot % PAGE).min(run.end() - slot);
            let at = (slot % PAGE) as usize;
            let words = &mut self.page(slot / PAGE)[at..at + here as usize];
            for (word, number) in words.iter_mut().zip(&mut numbers) {
                *word = Stamp::new(author, number).map_or(EMPTY, Stamp::word);
            }
            slot += here;
        }
    }

    /// That `slot` was read, and never written before.
    pub(super) fn set_empty(&mut self, slot: u32) {
        *self.place(slot) = EMPTY;
    }

    fn place(&mut self, slot: u32) -> &mut u64 {
        &mut self.page(slot / PAGE)[(slot % PAGE) as usize]
    }

    fn page(&mut self, page: u32) -> &mut [u64; PAGE as usize] {
        self.0.entry(page).or_insert_with(|| Box::new([0; PAGE as usize]))
    }

    /// The slots from `first` on that were read or written.
    pub(super) fn used(&self, first: u32) -> impl Iterator<Item = u32> {
        self.0.range(first / PAGE..).flat_map(move |(page, words)| {
            let slots = (0..PAGE).map(move |at| page * PAGE + at).zip(words.iter());
            slots.filter(move |(slot, word)| *slot >= first && **word != 0).map(|(slot, _)| slot)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_sets_each_of_its_slots_stamps_and_no_others() {
        for (first, count) in [(0, 1), (PAGE - 2, 5), (PAGE, PAGE), (3, 3 * PAGE), (u32::MAX - 2, 2)] {
            let (mut runs, mut singly) = (Stamps::default(), Stamps::default());
            runs.set_run(Role::Client, Run { first, count, number: 9 });
            for at in 0..count {
                singly.set(first + at, Stamp::new(Role::Client, 9 + u64::from(at)).unwrap());
            }
            assert_eq!(runs.0, singly.0, "{count} slots from {first} on");
        }
    }

    #[test]
    fn each_slot_has_a_stamp_of_its_own() {
        let mut stamps = Stamps::default();
        let slots = [0, 1, PAGE - 1, PAGE, u32::MAX];
        for (slot, number) in slots.into_iter().zip(1..) {
            assert_eq!(stamps.get(slot), None);
            stamps.set(slot, Stamp::new(Role::Server, number).unwrap());
        }
        for (slot, number) in slots.into_iter().zip(1..) {
            assert_eq!(stamps.get(slot), Stamp::new(Role::Server, number));
        }
        stamps.set_empty(2);
        assert_eq!(stamps.get(2), None);
        assert_eq!(stamps.used(0).collect::<Vec<_>>(), [0, 1, 2, PAGE - 1, PAGE, u32::MAX]);
        assert_eq!(stamps.used(2).collect::<Vec<_>>(), [2, PAGE - 1, PAGE, u32::MAX]);
        assert_eq!(stamps.used(PAGE + 1).collect::<Vec<_>>(), [u32::MAX]);
        assert_eq!(stamps.0.len(), 3, "a page for each part of the region that was touched");
    }
}
