//! The newest stamp that this side knows of each slot.

use super::Stamp;
use std::collections::BTreeMap;

/// Slots in a page.
const PAGE: u32 = 512;

/// Eight bytes a slot, in pages that come to be when one of their slots is first used: memory grows with what this side touches, not
/// with what the peer says of its region's size.
#[derive(Default)]
pub(super) struct Stamps(BTreeMap<u32, Box<[u64; PAGE as usize]>>);

impl Stamps {
    pub(super) fn get(&self, slot: u32) -> Option<Stamp> {
        Stamp::from_word(self.0.get(&(slot / PAGE))?[(slot % PAGE) as usize])
    }

    pub(super) fn set(&mut self, slot: u32, stamp: Stamp) {
        let page = self.0.entry(slot / PAGE).or_insert_with(|| Box::new([0; PAGE as usize]));
        page[(slot % PAGE) as usize] = stamp.word();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Role;

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
        assert_eq!(stamps.0.len(), 3, "a page for each part of the region that was touched");
    }
}
