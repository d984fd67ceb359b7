//! Sealed fragments of messages.
//!
//! ```text
//! fragment = header ciphertext tag
//! header   = last (1 bit) manifest (1 bit) epoch (30 bits), big-endian
//! ```
//!
//! The fragments of one direction are numbered from 0 on, over all epochs. The number isn't sent: both sides
//! count. It is in the nonce, so that a fragment opens at its place alone. A manifest is a fragment of no
//! message: it says what its sender has written into slots.

mod limits;

pub use limits::Limits;

use core::fmt;

use super::SealError;
use super::key::{AAD, Key, TAG, Use};
use super::schedule::Chain;
use crate::control::Role;

/// Bytes of the header.
const HEADER: usize = 4;

/// How many bytes longer a sealed fragment is than its plaintext.
pub const OVERHEAD: usize = HEADER + TAG;

/// In the header: this fragment is its message's last.
const LAST: u32 = 1 << 31;

/// In the header: this fragment is a manifest, and no message's.
const MANIFEST: u32 = 1 << 30;

/// In the header: the epoch.
const EPOCH: u32 = MANIFEST - 1;

/// What seals the messages that this side sends.
pub struct MessageSealer {
    chain: Chain,
    sender: Role,
    /// The number of the next fragment.
    counter: u64,
    limits: Limits,
    /// Fragments and bytes that this epoch's key has sealed.
    used: Limits,
}

/// What opens the messages that the peer sends. After its first error it gives nothing but that error: the
/// session has to end.
pub struct MessageOpener {
    chain: Chain,
    sender: Role,
    /// The number of the next fragment.
    counter: u64,
    /// Fragments and bytes that this epoch's key has opened.
    used: Limits,
    failed: Option<SealError>,
}

/// A fragment that is authentic.
#[derive(Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Whether its message ends with it.
    pub last: bool,
    /// Whether it is a manifest and belongs to no message.
    pub manifest: bool,
    /// Its plaintext.
    pub bytes: &'a mut [u8],
}

impl MessageSealer {
    pub(super) const fn new(chain: Chain, sender: Role, limits: Limits) -> Self {
        Self { chain, sender, counter: 0, limits, used: Limits::NONE }
    }

    /// How many fragments were sealed. The peer has to have opened as many when the session ends, or
    /// something was cut off.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.counter
    }

    /// The number of the key in use.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.chain.epoch()
    }

    /// Seals `plaintext` into `record`, which is [`OVERHEAD`] bytes longer, in one pass.
    ///
    /// # Errors
    /// [`SealError::Size`], [`SealError::Exhausted`] or [`SealError::Library`]; nothing may then be sent.
    pub fn seal(&mut self, last: bool, plaintext: &[u8], record: &mut [u8]) -> Result<(), SealError> {
        let expected = plaintext.len().saturating_add(OVERHEAD);
        if record.len() != expected {
            return Err(SealError::Size { expected, found: record.len() });
        }
        self.advance(mark(last), record, |key, number, aad, text, tag| {
            key.seal(number, aad, plaintext, text, tag)
        })
    }

    /// Seals `record` where it stands: the plaintext is what lies between its first 4 and its last 16 bytes.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn seal_in_place(&mut self, last: bool, record: &mut [u8]) -> Result<(), SealError> {
        self.advance(mark(last), record, Key::seal_in_place)
    }

    /// Seals `record` where it stands, as a manifest.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn seal_manifest(&mut self, record: &mut [u8]) -> Result<(), SealError> {
        self.advance(MANIFEST, record, Key::seal_in_place)
    }

    /// Takes the next number, and the next key if it is time, and has them used.
    fn advance(
        &mut self,
        mark: u32,
        record: &mut [u8],
        seal: impl FnOnce(&Key, u64, [u8; AAD], &mut [u8], &mut [u8]) -> Result<(), SealError>,
    ) -> Result<(), SealError> {
        let (header, text, tag) = split(record)?;
        let number = self.counter;
        let counter = number.checked_add(1).ok_or(SealError::Exhausted)?;
        let bytes = text.len() as u64;
        if self.limits.are_passed(self.used, bytes) {
            self.chain = self.chain.next()?;
            self.used = Limits::NONE;
        }
        // Before sealing: whatever becomes of it, this number is never used again.
        self.counter = counter;
        self.used = self.used.and(bytes);
        *header = (mark | self.chain.epoch()).to_be_bytes();
        seal(self.chain.key()?, number, associated(self.sender, *header, number), text, tag)
    }

    #[cfg(test)]
    pub(super) const fn used(&mut self) -> &mut Limits {
        &mut self.used
    }

    #[cfg(test)]
    pub(super) const fn parts(&mut self) -> (&mut Chain, &mut u64) {
        (&mut self.chain, &mut self.counter)
    }
}

impl MessageOpener {
    /// Where the text of a fragment begins.
    pub const TEXT_AT: usize = HEADER;

    pub(super) const fn new(chain: Chain, sender: Role) -> Self {
        Self { chain, sender, counter: 0, used: Limits::NONE, failed: None }
    }

    /// How many fragments were opened.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.counter
    }

    /// The number of the key in use.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.chain.epoch()
    }

    /// Opens `record` into the beginning of `out`, in one pass.
    ///
    /// # Errors
    /// [`SealError::Size`] if `out` is too short: the fragment can be opened yet. Any other error is final,
    /// and nothing of the fragment is in `out`.
    pub fn open<'a>(&mut self, record: &[u8], out: &'a mut [u8]) -> Result<Fragment<'a>, SealError> {
        self.check()?;
        let Some((header, rest)) = record.split_first_chunk::<HEADER>() else { return Err(self.fail()) };
        let Some((text, tag)) = rest.split_last_chunk::<TAG>() else { return Err(self.fail()) };
        let found = out.len();
        let Some(bytes) = out.get_mut(..text.len()) else {
            return Err(SealError::Size { expected: text.len(), found });
        };
        let len = text.len();
        let mark = self.advance(*header, len, |key, number, aad| key.open(number, aad, text, tag, bytes))?;
        Ok(Fragment { last: mark == LAST, manifest: mark == MANIFEST, bytes })
    }

    /// Opens `record` where it stands.
    ///
    /// # Errors
    /// Final, and nothing of the fragment is in `record`.
    pub fn open_in_place<'a>(&mut self, record: &'a mut [u8]) -> Result<Fragment<'a>, SealError> {
        self.check()?;
        let Ok((header, bytes, tag)) = split(record) else { return Err(self.fail()) };
        let len = bytes.len();
        let mark =
            self.advance(*header, len, |key, number, aad| key.open_in_place(number, aad, tag, bytes))?;
        Ok(Fragment { last: mark == LAST, manifest: mark == MANIFEST, bytes })
    }

    /// Whether a fragment that begins with these bytes says that it is a manifest. Opening it proves that.
    #[must_use]
    pub const fn claims_manifest(header: [u8; Self::TEXT_AT]) -> bool {
        u32::from_be_bytes(header) & MANIFEST != 0
    }

    /// Whether a fragment with this header says of itself that it is its message's last. Opening it shows
    /// whether that is true.
    pub(crate) const fn claims_last(header: [u8; HEADER]) -> bool {
        u32::from_be_bytes(header) & LAST != 0
    }

    fn check(&self) -> Result<(), SealError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Has the fragment with `header` and `len` bytes of text opened as the next one, with this epoch's key or
    /// the next one's; returns its mark. A peer that uses a key for more than any side may is refused, as QUIC
    /// refuses it (RFC 9001, section 6.6).
    fn advance(
        &mut self,
        header: [u8; HEADER],
        len: usize,
        open: impl FnOnce(&Key, u64, [u8; AAD]) -> bool,
    ) -> Result<u32, SealError> {
        let word = u32::from_be_bytes(header);
        let (mark, epoch) = (word & !EPOCH, word & EPOCH);
        // Nobody seals a manifest that ends a message.
        if mark == LAST | MANIFEST {
            return Err(self.fail());
        }
        let (number, aad) = (self.counter, associated(self.sender, header, self.counter));
        let mut used = self.used;
        if epoch == self.chain.epoch() {
            if Limits::DEFAULT.are_passed(used, len as u64) {
                return Err(self.fail_with(SealError::Overused { epoch }));
            }
            let opened = self.chain.key().map(|key| open(key, number, aad));
            if !opened.map_err(|error| self.fail_with(error))? {
                return Err(self.fail());
            }
        } else if Some(epoch) == self.chain.epoch().checked_add(1) {
            // The old key goes only when the new one has proved that the peer has changed too.
            let mut next = self.chain.next().map_err(|error| self.fail_with(error))?;
            let opened = next.key().map(|key| open(key, number, aad));
            if !opened.map_err(|error| self.fail_with(error))? {
                return Err(self.fail());
            }
            self.chain = next;
            used = Limits::NONE;
        } else {
            return Err(self.fail());
        }
        self.used = used.and(len as u64);
        self.counter = number.checked_add(1).ok_or_else(|| self.fail_with(SealError::Exhausted))?;
        Ok(mark)
    }

    fn fail(&mut self) -> SealError {
        self.fail_with(SealError::Message { counter: self.counter })
    }

    fn fail_with(&mut self, error: SealError) -> SealError {
        self.failed.insert(error).clone()
    }

    #[cfg(test)]
    pub(super) const fn used(&mut self) -> &mut Limits {
        &mut self.used
    }

    #[cfg(test)]
    pub(super) const fn parts(&mut self) -> (&mut Chain, &mut u64) {
        (&mut self.chain, &mut self.counter)
    }
}

impl fmt::Debug for MessageSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageSealer")
            .field("sender", &self.sender)
            .field("epoch", &self.epoch())
            .field("counter", &self.counter)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MessageOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageOpener")
            .field("sender", &self.sender)
            .field("epoch", &self.epoch())
            .field("counter", &self.counter)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// A fragment's header, text and tag.
type Parts<'a> = (&'a mut [u8; HEADER], &'a mut [u8], &'a mut [u8; TAG]);

fn split(record: &mut [u8]) -> Result<Parts<'_>, SealError> {
    let size = SealError::Size { expected: OVERHEAD, found: record.len() };
    let (header, rest) = record.split_first_chunk_mut().ok_or(size.clone())?;
    let (text, tag) = rest.split_last_chunk_mut().ok_or(size)?;
    Ok((header, text, tag))
}

/// A header without its epoch, of a message's fragment.
const fn mark(last: bool) -> u32 {
    if last { LAST } else { 0 }
}

/// The associated data: use, sender, two zeros, header, number.
fn associated(sender: Role, header: [u8; HEADER], number: u64) -> [u8; AAD] {
    let mut aad = [0; AAD];
    aad[0] = Use::Message as u8;
    aad[1] = sender as u8;
    aad[4..8].copy_from_slice(&header);
    aad[8..].copy_from_slice(&number.to_be_bytes());
    aad
}

#[cfg(test)]
mod tests;
