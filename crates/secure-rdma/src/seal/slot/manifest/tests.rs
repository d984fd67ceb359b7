//! Manifests: what is told of what was written, and what of it is taken.

use super::super::layout::{Format, Writers};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const SLOTS: u32 = 12;

fn layout() -> Layout {
    let format = Format { payload: 64, epoch_bits: 2, writers: Writers::Both };
    Layout::for_capacity(64 * u64::from(SLOTS), format).unwrap()
}

fn entry(first: u32, count: u32, stamp: u64) -> [u8; MANIFEST_ENTRY] {
    let mut entry = [0; MANIFEST_ENTRY];
    entry[..4].copy_from_slice(&first.to_be_bytes());
    entry[4..8].copy_from_slice(&count.to_be_bytes());
    entry[8..].copy_from_slice(&stamp.to_be_bytes());
    entry
}

fn all(pending: &mut PendingWrites) -> Vec<u8> {
    let mut manifest = vec![0; 1000 * MANIFEST_ENTRY];
    let len = pending.announce(Role::Client, &mut manifest);
    manifest.truncate(len);
    manifest
}

/// What is told after these slots were written, one after the other.
fn told(slots: impl IntoIterator<Item = u32>) -> Vec<u8> {
    let mut pending = PendingWrites::default();
    slots.into_iter().zip(1..).for_each(|(slot, number)| pending.add(one(slot, number)));
    all(&mut pending)
}

/// A slot that was written by itself.
const fn one(slot: u32, number: u64) -> Run {
    Run { first: slot, count: 1, number }
}

#[test]
fn slots_that_were_written_one_after_the_other_are_one_entry() {
    assert!(told([]).is_empty());
    assert_eq!(told([5]), entry(5, 1, 1));
    assert_eq!(told(2..10), entry(2, 8, 1));
    assert_eq!(told([3, 2]), [entry(3, 1, 1), entry(2, 1, 2)].concat());
    assert_eq!(told([5, 6, 9, 10]), [entry(5, 2, 1), entry(9, 2, 3)].concat());
}

#[test]
fn a_slot_that_was_written_anew_is_told_of_once() {
    assert_eq!(told([5; 1000]), entry(5, 1, 1000));
    assert_eq!(told([5, 6, 7, 5, 6, 7]), entry(5, 3, 4));
    assert_eq!(told([5, 6, 7, 6]), [entry(5, 1, 1), entry(7, 1, 3), entry(6, 1, 4)].concat());
    assert_eq!(told([6, 4, 5, 6, 7]), entry(4, 4, 2));
}

#[test]
fn what_was_told_is_told_once() {
    let mut pending = PendingWrites::default();
    assert!(pending.is_empty());
    pending.add(one(1, 1));
    assert!(!pending.is_empty());
    assert_eq!(all(&mut pending), entry(1, 1, 1));
    assert!(pending.is_empty());
    assert!(all(&mut pending).is_empty());
    pending.add(one(2, 2));
    assert_eq!(all(&mut pending), entry(2, 1, 2), "told anew, though it goes on with the one before");
}

#[test]
fn what_has_no_room_is_told_next_and_what_is_written_meanwhile_after_it() {
    let mut pending = PendingWrites::default();
    [1, 3, 5, 7].into_iter().zip(1..).for_each(|(slot, number)| pending.add(one(slot, number)));
    let mut manifest = [0; 2 * MANIFEST_ENTRY + 15];
    assert_eq!(pending.announce(Role::Client, &mut manifest), 2 * MANIFEST_ENTRY);
    assert_eq!(manifest[..2 * MANIFEST_ENTRY], [entry(1, 1, 1), entry(3, 1, 2)].concat());
    pending.add(one(1, 5));
    pending.add(one(7, 6));
    assert!(!pending.is_empty());
    let rest = all(&mut pending);
    assert_eq!(rest, [entry(5, 1, 3), entry(7, 1, 4), entry(1, 1, 5), entry(7, 1, 6)].concat());
    let mut reader = ReceivedWrites::default();
    reader.take(Role::Client, &layout(), &manifest[..2 * MANIFEST_ENTRY]).unwrap();
    reader.take(Role::Client, &layout(), &rest).unwrap();
    assert_eq!([1, 3, 5, 7].map(|slot| reader.get(slot)), [Some(5), Some(2), Some(3), Some(6)]);
    assert_eq!(pending.announce(Role::Client, &mut [0; MANIFEST_ENTRY - 1]), 0);
}

#[test]
fn a_servers_entries_have_its_stamps() {
    let mut pending = PendingWrites::default();
    pending.add(one(3, 7));
    let mut manifest = [0; MANIFEST_ENTRY];
    assert_eq!(pending.announce(Role::Server, &mut manifest), MANIFEST_ENTRY);
    assert_eq!(manifest, entry(3, 1, 7 | 1 << 63));
    let mut reader = ReceivedWrites::default();
    reader.take(Role::Server, &layout(), &manifest).unwrap();
    assert_eq!((reader.get(3), reader.highest()), (Some(7), 7));
}

#[test]
fn a_note_that_cannot_be_true_is_refused_by_name() {
    const LAST: u64 = (1 << 63) - 1;
    let refusals = [
        (vec![], ManifestError::Length(0)),
        (entry(1, 1, 11)[1..].to_vec(), ManifestError::Length(15)),
        ([&entry(1, 1, 11)[..], &[0]].concat(), ManifestError::Length(17)),
        (entry(3, 0, 11).to_vec(), ManifestError::Empty { first: 3 }),
        (entry(11, 2, 11).to_vec(), ManifestError::OutOfRegion { first: 11, count: 2, slots: 12 }),
        (entry(12, 1, 11).to_vec(), ManifestError::OutOfRegion { first: 12, count: 1, slots: 12 }),
        (
            entry(u32::MAX, u32::MAX, 11).to_vec(),
            ManifestError::OutOfRegion { first: u32::MAX, count: u32::MAX, slots: 12 },
        ),
        (entry(1, 1, 0).to_vec(), ManifestError::Stamp { first: 1, stamp: 0 }),
        (entry(1, 1, 11 | 1 << 63).to_vec(), ManifestError::Stamp { first: 1, stamp: 11 | 1 << 63 }),
        (entry(1, 2, LAST).to_vec(), ManifestError::Stamp { first: 1, stamp: LAST }),
        (entry(1, 1, 10).to_vec(), ManifestError::Backwards { first: 1, number: 10, told: 10 }),
        (entry(1, 1, 1).to_vec(), ManifestError::Backwards { first: 1, number: 1, told: 10 }),
        (
            [entry(1, 3, 11), entry(5, 1, 13)].concat(),
            ManifestError::Backwards { first: 5, number: 13, told: 13 },
        ),
        (
            [entry(1, 1, 12), entry(5, 1, 11)].concat(),
            ManifestError::Backwards { first: 5, number: 11, told: 12 },
        ),
    ];
    for (manifest, refusal) in refusals {
        let mut reader = ReceivedWrites::default();
        reader.take(Role::Client, &layout(), &entry(9, 2, 9)).unwrap();
        assert_eq!(reader.take(Role::Client, &layout(), &manifest), Err(refusal), "{manifest:?}");
    }
    let mut reader = ReceivedWrites::default();
    reader.take(Role::Client, &layout(), &entry(11, 1, LAST)).unwrap();
    assert_eq!(reader.get(11), Some(LAST), "the last number of the last slot");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A number below 0 tells, with room for so many entries; the others write so many slots.
    #[test]
    fn a_reader_knows_what_was_written_as_soon_as_all_is_told(
        steps in vec((0..SLOTS, -3..6_i8), 0..200),
    ) {
        let (mut pending, mut reader) = (PendingWrites::default(), ReceivedWrites::default());
        let (mut written, mut number) = ([None; SLOTS as usize], 0);
        let rest = core::iter::repeat_n((0, -100), 4);
        for (slot, what) in steps.into_iter().chain(rest) {
            if let Ok(count) = u32::try_from(what) {
                for slot in slot..SLOTS.min(slot + count) {
                    number += 1;
                    pending.add(one(slot, number));
                    written[slot as usize] = Some(number);
                }
                continue;
            }
            let room = usize::from(what.unsigned_abs()) * MANIFEST_ENTRY;
            let mut manifest = vec![0; room];
            let len = pending.announce(Role::Client, &mut manifest);
            prop_assert!(len == room || pending.is_empty());
            if len > 0 {
                reader.take(Role::Client, &layout(), &manifest[..len]).unwrap();
            }
            if pending.is_empty() {
                for slot in 0..SLOTS {
                    prop_assert_eq!(reader.get(slot), written[slot as usize]);
                }
            }
        }
        prop_assert!(pending.is_empty());
    }

    #[test]
    fn no_more_is_told_than_there_are_slots(slots in vec(0..SLOTS, 0..300)) {
        prop_assert!(told(slots).len() <= SLOTS as usize * MANIFEST_ENTRY);
    }

    #[test]
    fn any_bytes_are_refused_or_say_what_a_plain_reading_of_them_says(
        entries in vec((0..SLOTS + 2, 0..SLOTS + 2, 0..40_u64), 1..6),
    ) {
        let manifest: Vec<u8> = entries.iter().flat_map(|entry| self::entry(entry.0, entry.1, entry.2)).collect();
        let (mut model, mut highest, mut is_true) = ([None; SLOTS as usize], 0, true);
        for (first, count, number) in entries {
            is_true &= count > 0 && first + count <= SLOTS && number > highest;
            if !is_true {
                break;
            }
            (first..first + count).zip(number..).for_each(|(slot, number)| model[slot as usize] = Some(number));
            highest = number + u64::from(count) - 1;
        }
        let mut reader = ReceivedWrites::default();
        prop_assert_eq!(reader.take(Role::Client, &layout(), &manifest).is_ok(), is_true);
        if is_true {
            for slot in 0..SLOTS {
                prop_assert_eq!(reader.get(slot), model[slot as usize]);
            }
            prop_assert_eq!(reader.highest(), highest);
        }
    }
}
