//! Manifests: what a writer tells its peer of the slots that it has written.
//!
//! ```text
//! manifest  = entry, entry, …
//! entry = first slot (4 bytes) how many slots (4) stamp of the first one (8), big-endian
//! ```
//!
//! The slots of an entry have stamps that follow each other. A writer tells of each number once at most,
//! lower ones first; so what is told later is newer. A slot that was written anew meanwhile is told of once.

use super::runs::{Run, Runs};
use super::{Layout, STAMP, Stamp};
use crate::control::Role;

/// Bytes of an entry of a manifest.
pub const MANIFEST_ENTRY: usize = 16;

/// Why a manifest can't be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It isn't made of entries.
    #[error("has {0} bytes, and entries have 16 each")]
    Length(usize),
    /// An entry is about no slot.
    #[error("has an entry of no slots, at slot {first}")]
    Empty {
        /// Where the slots would be.
        first: u32,
    },
    /// An entry is about slots that aren't there.
    #[error("has an entry of {count} slots from slot {first} on: the region has {slots}")]
    OutOfRegion {
        /// The first slot.
        first: u32,
        /// How many.
        count: u32,
        /// How many there are.
        slots: u32,
    },
    /// The peer can't have written a slot with that stamp.
    #[error("gives slot {first} the stamp {stamp:#x}, which isn't one of the peer's")]
    Stamp {
        /// Which slot.
        first: u32,
        /// What it says.
        stamp: u64,
    },
    /// A number that was told before, or one below it.
    #[error("goes back to number {number} at slot {first}, after it told of {told}")]
    Backwards {
        /// Which slot.
        first: u32,
        /// What it says.
        number: u64,
        /// The highest number that was told before.
        told: u64,
    },
    /// The peer doesn't write this region.
    #[error("is about a region that the peer may not write")]
    NotWriter,
    /// There are no slots at all.
    #[error("is about slots of a region, and this session has none")]
    NoRegion,
}

/// What a writer has to tell.
#[derive(Default)]
pub(super) struct PendingWrites {
    /// The run that was written last.
    newest: Option<Run>,
    /// Those before it, unless they were written anew.
    older: Runs,
    /// Those that are being told, highest number first. All are older than the others.
    telling: Vec<Run>,
}

/// Runs for which room is kept when all are told.
const KEPT: usize = 16;

impl PendingWrites {
    /// That the slots of `run` were written, with numbers higher than any before.
    pub(super) fn add(&mut self, run: Run) {
        match &mut self.newest {
            Some(newest) if newest.goes_on(run.first, run.number) => newest.count += run.count,
            // The same slots over and over.
            Some(newest) if run.covers(*newest) => *newest = run,
            _ => {
                if let Some(before) = self.newest.replace(run) {
                    self.older.put(before);
                }
            }
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        // There are older ones only behind a newest one.
        self.newest.is_none() && self.telling.is_empty()
    }

    /// Puts as many entries into `manifest` as it has room for; how many bytes they take.
    pub(super) fn announce(&mut self, author: Role, manifest: &mut [u8]) -> usize {
        let mut told = 0;
        for place in manifest.as_chunks_mut::<MANIFEST_ENTRY>().0 {
            if self.telling.is_empty() {
                self.gather();
            }
            let Some(run) = self.telling.pop() else { break };
            // Numbers come from stamps.
            let Some(stamp) = Stamp::new(author, run.number) else { break };
            place[..4].copy_from_slice(&run.first.to_be_bytes());
            place[4..8].copy_from_slice(&run.count.to_be_bytes());
            place[8..].copy_from_slice(&stamp.bytes());
            told += MANIFEST_ENTRY;
        }
        if self.telling.is_empty() {
            self.telling.shrink_to(KEPT);
        }
        told
    }

    /// Has everything told next.
    fn gather(&mut self) {
        let Some(newest) = self.newest.take() else { return };
        if self.older.is_empty() {
            self.telling.push(newest);
            return;
        }
        self.older.put(newest);
        self.telling.extend(self.older.take());
        self.telling.sort_unstable_by_key(|run| core::cmp::Reverse(run.number));
    }
}

/// What a reader was told.
#[derive(Default)]
pub(super) struct ReceivedWrites {
    runs: Runs,
    /// The highest number.
    highest: u64,
}

impl ReceivedWrites {
    /// The number of `slot` by what was told.
    pub(super) fn get(&self, slot: u32) -> Option<u64> {
        self.runs.get(slot)
    }

    /// The highest number that was told.
    pub(super) const fn highest(&self) -> u64 {
        self.highest
    }

    /// Takes a manifest of `author`'s about slots of `layout`. On an error, some of it may have been taken.
    pub(super) fn take(
        &mut self,
        author: Role,
        layout: &Layout,
        manifest: &[u8],
    ) -> Result<(), ManifestError> {
        let (entries, []) = manifest.as_chunks::<MANIFEST_ENTRY>() else {
            return Err(ManifestError::Length(manifest.len()));
        };
        if entries.is_empty() {
            return Err(ManifestError::Length(0));
        }
        for entry in entries {
            let run = self.check(author, layout, entry)?;
            self.highest = run.last_number();
            self.runs.put(run);
        }
        Ok(())
    }

    fn check(
        &self,
        author: Role,
        layout: &Layout,
        entry: &[u8; MANIFEST_ENTRY],
    ) -> Result<Run, ManifestError> {
        let [a, b, c, d, e, f, g, h, stamp @ ..] = *entry;
        let (first, count) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        let slots = layout.slots();
        if count == 0 {
            return Err(ManifestError::Empty { first });
        }
        if first.checked_add(count).is_none_or(|end| end > slots) {
            return Err(ManifestError::OutOfRegion { first, count, slots });
        }
        let stamp: [u8; STAMP] = stamp;
        let wrong = ManifestError::Stamp { first, stamp: u64::from_be_bytes(stamp) };
        let stamp = Stamp::from_bytes(stamp).filter(|stamp| stamp.author() == author).ok_or(wrong)?;
        let number = stamp.number();
        // The last one's has to be a number too.
        Stamp::new(author, number + u64::from(count - 1)).ok_or(wrong)?;
        let told = self.highest;
        if number <= told {
            return Err(ManifestError::Backwards { first, number, told });
        }
        Ok(Run { first, count, number })
    }
}

#[cfg(test)]
mod tests;
