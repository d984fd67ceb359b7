//! Sealed memory for one-sided access.
//!
//! ```text
//! area = slot 0, slot 1, …                 in the region, one behind the other
//! slot = ciphertext tag stamp
//! stamp = author (1 bit) number (63 bits), big-endian
//! ```
//!
//! A slot is written as a whole, by RDMA WRITE or locally, and sealed anew each time. Its author is the side
//! that sealed it. An author never uses a number twice, on no slot, and gives a slot a higher number than any
//! that it knows of: the number is nonce, version and choice of the key (its high bits are the epoch) in one.
//! A slot of zeros was never written and reads as zeros.
//!
//! | file | what it holds |
//! |---|---|
//! | `layout` | which slots hold which bytes, and where they are |
//! | `stamp` | the stamp |
//! | `stamps` | the newest stamp that this side knows of each slot |
//! | `epochs` | the keys of one author's epochs |
//! | `manifest` | what a writer tells its peer of what it has written |
//! | `runs` | slots that were written one after the other |

mod epochs;
mod layout;
mod manifest;
mod runs;
mod stamp;
mod stamps;

pub use layout::{Format, Layout, Piece, Writers};
pub use manifest::{MANIFEST_ENTRY, ManifestError};

use core::fmt;

use super::SealError;
use super::key::{AAD, Key, TAG, Use};
use super::schedule::peer_of;
use super::secret::Secret;
use crate::control::Role;
use epochs::Epochs;
use manifest::{PendingWrites, ReceivedWrites};
use runs::Run;
use stamp::Stamp;
use stamps::Stamps;

/// Bytes of the stamp.
const STAMP: usize = 8;

/// How many bytes longer a slot is than its plaintext.
pub const SLOT_OVERHEAD: usize = TAG + STAMP;

/// Slots that turn out to be torn or forged, over a session: more end it, even if each one was right when it
/// was read again. Each may be a try at forging, and their number has to have a limit; `docs/sealing.md` has
/// the arithmetic.
const DAMAGE_LIMIT: u64 = 1 << 32;

/// Seals and opens the slots of one region, at one side.
///
/// After [`SealError::Slot`], [`SealError::RolledBack`], [`SealError::Withheld`], [`SealError::Manifest`] and
/// [`SealError::Exhausted`] it gives nothing but that error: the session has to end.
pub struct Slots {
    layout: Layout,
    own: Role,
    /// The client's and the server's.
    authors: [Epochs; 2],
    stamps: Stamps,
    /// What this side has written and not told the peer of.
    pending: PendingWrites,
    /// What the peer has told.
    told: ReceivedWrites,
    /// The highest number used or seen.
    clock: u64,
    /// Slots that weren't authentic.
    damage: u64,
    failed: Option<SealError>,
}

/// How often one slot may still be read again because it was torn.
#[derive(Debug)]
pub struct Attempts(u32);

impl Attempts {
    /// It is read once: for slots that nobody can be writing.
    #[must_use]
    pub const fn once() -> Self {
        Self(0)
    }

    /// It may be read `count` times more.
    #[must_use]
    pub const fn again(count: u32) -> Self {
        Self(count)
    }
}

impl Slots {
    /// `secrets` are those of the client's and the server's slots.
    pub(super) fn new(secrets: [Secret; 2], own: Role, layout: Layout) -> Self {
        let authors = secrets.map(|secret| Epochs::new(secret, layout.format().epoch_bits));
        let (stamps, pending, told) =
            (Stamps::default(), PendingWrites::default(), ReceivedWrites::default());
        Self { layout, own, authors, stamps, pending, told, clock: 0, damage: 0, failed: None }
    }

    /// How the region is divided.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Seals `plaintext`, a whole slot's, into `sealed`, to be put in the place of `slot`, in one pass.
    ///
    /// # Errors
    /// [`SealError::Size`], [`SealError::NoSuchSlot`] or [`SealError::NotWriter`] if the caller is wrong; a
    /// final error.
    pub fn seal(&mut self, slot: u32, plaintext: &[u8], sealed: &mut [u8]) -> Result<(), SealError> {
        self.check(slot, plaintext.len(), sealed.len())?;
        self.seal_run(slot, plaintext, sealed)
    }

    /// Seals `plaintexts`, of the slots from `first` on, into `sealed`, to be put in their places, as
    /// [`seal`](Self::seal) seals one. What is kept of each slot is kept of all at once.
    ///
    /// # Errors
    /// As `seal`'s.
    pub fn seal_run(&mut self, first: u32, plaintexts: &[u8], sealed: &mut [u8]) -> Result<(), SealError> {
        let (payload, stride) = (self.layout.payload(), self.layout.stride());
        let count = plaintexts.len() / payload;
        self.check_run(first, count)?;
        for (expected, found) in [(count * payload, plaintexts.len()), (count * stride, sealed.len())] {
            if expected != found {
                return Err(SealError::Size { expected, found });
            }
        }
        if !self.may_write(self.own) {
            return Err(SealError::NotWriter);
        }
        let Ok(count) = u32::try_from(count) else { return Err(SealError::Library) };
        if count == 0 {
            return Ok(());
        }
        let run = Run { first, count, number: self.clock + 1 };
        if Stamp::new(self.own, run.last_number()).is_none() {
            return Err(self.fail(SealError::Exhausted));
        }
        // Before sealing: whatever becomes of it, these numbers are never used again.
        self.clock = run.last_number();
        self.stamps.set_run(self.own, run);
        self.pending.add(run);
        let own = self.own;
        let mut slots = (first..)
            .zip(run.number..)
            .zip(plaintexts.chunks_exact(payload).zip(sealed.chunks_exact_mut(stride)));
        let mut next = run.number;
        while next <= run.last_number() {
            let (until, epoch) = (self.authors[own as usize].epoch_end(next), next);
            let here = usize::try_from(until - next).unwrap_or(usize::MAX);
            next = until;
            let mut slots = slots.by_ref().take(here);
            let seal = |key: &Key| {
                slots.try_for_each(|((slot, number), (plaintext, sealed))| {
                    let stamp = Stamp::new(own, number).ok_or(SealError::Exhausted)?;
                    let (text, tag, place) = split_mut(sealed)?;
                    *place = stamp.bytes();
                    key.seal(number, associated(slot, stamp), plaintext, text, tag)
                })?;
                Ok(true)
            };
            self.authors[own as usize].with(epoch, seal)?;
        }
        Ok(())
    }

    /// Opens `sealed`, what was read from the place of `slot`, into `plaintext`, in one pass.
    ///
    /// # Errors
    /// [`SealError::Torn`] if the slot is to be read and opened again, with the same `attempts`; [`SealError::Size`] or
    /// [`SealError::NoSuchSlot`] if the caller is wrong; a final error. `plaintext` then holds nothing of the slot.
    pub fn open(
        &mut self,
        slot: u32,
        sealed: &[u8],
        plaintext: &mut [u8],
        attempts: &mut Attempts,
    ) -> Result<(), SealError> {
        self.check(slot, plaintext.len(), sealed.len())?;
        let (text, tag, bytes) = split(sealed)?;
        let found = match Stamp::from_bytes(*bytes) {
            Some(stamp) if self.may_write(stamp.author()) => {
                let aad = associated(slot, stamp);
                let open = |key: &Key| Ok(key.open(stamp.number(), aad, text, tag, plaintext));
                if !self.authors[stamp.author() as usize].with(stamp.number(), open)? {
                    return Err(self.damaged(slot, attempts));
                }
                Some(stamp)
            }
            None if sealed.iter().all(|byte| *byte == 0) => {
                plaintext.fill(0);
                None
            }
            _ => {
                plaintext.fill(0);
                return Err(self.damaged(slot, attempts));
            }
        };
        if let Some(error) = self.staleness(slot, found) {
            plaintext.fill(0);
            return Err(self.fail(error));
        }
        match found {
            Some(stamp) => self.record(slot, stamp),
            None => self.stamps.set_empty(slot),
        }
        Ok(())
    }

    /// The newest stamp that this side knows of `slot`, because it wrote it, opened it or was told of it;
    /// `None` if it knows of none.
    #[must_use]
    pub fn newest(&self, slot: u32) -> Option<u64> {
        let (seen, told) = (self.stamps.get(slot), self.told_of(slot));
        match (seen, told) {
            (Some(seen), Some(told)) if told.number() > seen.number() => Some(told.word()),
            (seen, told) => seen.or(told).map(Stamp::word),
        }
    }

    /// Whether this side has written what it hasn't told its peer of.
    #[must_use]
    pub const fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Puts what this side has written since it last told into `manifest`, as far as there is room, in entries of
    /// [`MANIFEST_ENTRY`] bytes; how many bytes they take, 0 if there is nothing to tell. It has to reach the
    /// peer, sealed, before anything else that this side says after its writing, and after what it wrote.
    pub fn announce(&mut self, manifest: &mut [u8]) -> usize {
        self.pending.announce(self.own, manifest)
    }

    /// Takes a manifest that the peer has made with [`announce`](Self::announce) and sent sealed: nothing
    /// older is opened from now on.
    ///
    /// # Errors
    /// [`SealError::Manifest`] if it can't be true; a final error.
    pub fn apply(&mut self, manifest: &[u8]) -> Result<(), SealError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let author = peer_of(self.own);
        let result = if self.may_write(author) {
            self.told.take(author, &self.layout, manifest)
        } else {
            Err(ManifestError::NotWriter)
        };
        self.clock = self.clock.max(self.told.highest());
        result.map_err(|error| self.fail(SealError::Manifest(error)))
    }

    /// The first slot from `first` on of which this side has opened something older than what the peer has
    /// told since. Whoever opens it again finds out whether it was written.
    #[must_use]
    pub fn outdated(&self, first: u32) -> Option<u32> {
        self.stamps.used(first).find(|slot| {
            let (seen, told) = (self.stamps.get(*slot), self.told.get(*slot));
            told.is_some_and(|told| seen.is_none_or(|seen| told > seen.number()))
        })
    }

    fn may_write(&self, author: Role) -> bool {
        author == Role::Client || self.layout.format().writers == Writers::Both
    }

    /// The stamp that `slot` has by what the peer has told.
    fn told_of(&self, slot: u32) -> Option<Stamp> {
        Stamp::new(peer_of(self.own), self.told.get(slot)?)
    }

    /// What is wrong with it if `found` is in `slot`, after what this side has seen there and was told.
    fn staleness(&self, slot: u32, found: Option<Stamp>) -> Option<SealError> {
        let seen = self.stamps.get(slot);
        if found != seen && !found.is_some_and(|stamp| self.is_news(stamp, seen)) {
            return Some(SealError::RolledBack { slot });
        }
        let told = self.told_of(slot)?;
        let is_older = found != Some(told) && !found.is_some_and(|stamp| self.is_news(stamp, Some(told)));
        // What was told before this side saw, or wrote, something newer counts no more.
        (is_older && seen.is_none_or(|seen| told.number() > seen.number()))
            .then_some(SealError::Withheld { slot })
    }

    /// Whether `stamp` comes after `known`. This side knows all that it wrote itself, so only the peer's can.
    fn is_news(&self, stamp: Stamp, known: Option<Stamp>) -> bool {
        stamp.author() == peer_of(self.own) && known.is_none_or(|known| stamp.number() > known.number())
    }

    /// From now on `stamp` is the newest that this side knows of `slot`, and its next number is a higher one.
    fn record(&mut self, slot: u32, stamp: Stamp) {
        self.clock = self.clock.max(stamp.number());
        self.stamps.set(slot, stamp);
    }

    fn check(&self, slot: u32, plaintext: usize, sealed: usize) -> Result<(), SealError> {
        self.check_run(slot, 1)?;
        for (expected, found) in [(self.layout.payload(), plaintext), (self.layout.stride(), sealed)] {
            if expected != found {
                return Err(SealError::Size { expected, found });
            }
        }
        Ok(())
    }

    /// That nothing has failed, and that there are `count` slots from `first` on.
    fn check_run(&self, first: u32, count: usize) -> Result<(), SealError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let slots = self.layout.slots();
        match u64::from(first).checked_add(count as u64) {
            Some(end) if end <= slots.into() => Ok(()),
            _ => Err(SealError::NoSuchSlot { slot: first.max(slots), slots }),
        }
    }

    /// What it means that `slot` isn't authentic.
    fn damaged(&mut self, slot: u32, attempts: &mut Attempts) -> SealError {
        self.damage += 1;
        match attempts.0.checked_sub(1) {
            Some(left) if self.damage <= DAMAGE_LIMIT => {
                attempts.0 = left;
                SealError::Torn { slot }
            }
            _ => self.fail(SealError::Slot { slot }),
        }
    }

    fn fail(&mut self, error: SealError) -> SealError {
        self.failed.insert(error).clone()
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("layout", &self.layout)
            .field("own", &self.own)
            .field("clock", &self.clock)
            .field("damage", &self.damage)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// A slot's text, tag and stamp.
type Parts<'a> = (&'a [u8], &'a [u8; TAG], &'a [u8; STAMP]);
type PartsMut<'a> = (&'a mut [u8], &'a mut [u8; TAG], &'a mut [u8; STAMP]);

fn split(sealed: &[u8]) -> Result<Parts<'_>, SealError> {
    let size = SealError::Size { expected: SLOT_OVERHEAD, found: sealed.len() };
    let (rest, stamp) = sealed.split_last_chunk().ok_or(size.clone())?;
    let (text, tag) = rest.split_last_chunk().ok_or(size)?;
    Ok((text, tag, stamp))
}

fn split_mut(sealed: &mut [u8]) -> Result<PartsMut<'_>, SealError> {
    let size = SealError::Size { expected: SLOT_OVERHEAD, found: sealed.len() };
    let (rest, stamp) = sealed.split_last_chunk_mut().ok_or(size.clone())?;
    let (text, tag) = rest.split_last_chunk_mut().ok_or(size)?;
    Ok((text, tag, stamp))
}

/// The associated data: use, author, two zeros, slot, stamp.
fn associated(slot: u32, stamp: Stamp) -> [u8; AAD] {
    let mut aad = [0; AAD];
    aad[0] = Use::Slot as u8;
    aad[1] = stamp.author() as u8;
    aad[4..8].copy_from_slice(&slot.to_be_bytes());
    aad[8..].copy_from_slice(&stamp.bytes());
    aad
}

#[cfg(test)]
mod tests;
