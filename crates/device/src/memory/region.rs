//! Memory regions: a part of a mapping, with rights and a time at which they end.

use core::fmt;
use core::mem;
use core::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::keys::Key;
use super::{Access, Fault, Mapping, OutOfBounds};

/// On whose behalf a region is accessed: it decides which right is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A work request of this process: gather needs no right, scatter needs [`Access::LOCAL_WRITE`].
    Local,
    /// A peer's request: [`Access::REMOTE_READ`] or [`Access::REMOTE_WRITE`].
    Remote,
}

/// A registered memory region.
///
/// Addresses (`va`) are those that peers and work requests name: real ones, or counted from 0 where the
/// region is [`Access::ZERO_BASED`]. Every access checks revocation, rights and bounds; an access that is
/// refused has touched no byte.
pub struct Region {
    mapping: Arc<Mapping>,
    /// Where the region begins in the mapping.
    offset: usize,
    len: usize,
    /// The address of the first byte, as peers name it.
    addr: u64,
    access: Access,
    invalidatable: bool,
    lkey: Key,
    rkey: Key,
    /// Read-locked by each access for as long as it lasts, so that `revoke` can wait for those under way:
    /// what follows may free or reuse the memory.
    revoked: RwLock<bool>,
}

/// What [`KeyTable::register`](super::KeyTable::register) makes a region from; bounds and rights are checked there.
pub(super) struct Parts {
    pub(super) mapping: Arc<Mapping>,
    pub(super) offset: usize,
    pub(super) len: usize,
    pub(super) access: Access,
    pub(super) invalidatable: bool,
    pub(super) lkey: Key,
    pub(super) rkey: Key,
}

impl Region {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { mapping, offset, len, access, invalidatable, lkey, rkey } = parts;
        let addr = if access.contains(Access::ZERO_BASED) { 0 } else { mapping.address() + offset as u64 };
        Self { mapping, offset, len, addr, access, invalidatable, lkey, rkey, revoked: RwLock::new(false) }
    }

    /// The address of the first byte: 0 for a zero-based region.
    #[must_use]
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// The number of bytes, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no region is empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The rights it was registered with.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// The key that work requests of this process name it by. It never travels.
    #[must_use]
    pub fn lkey(&self) -> u32 {
        self.lkey.get()
    }

    /// The key that peers name it by. Whoever has it, an address and a connection has the region: don't log it.
    #[must_use]
    pub fn rkey(&self) -> u32 {
        self.rkey.get()
    }

    /// The memory it is a part of.
    #[must_use]
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Whether a peer may end it by SEND with invalidate.
    #[must_use]
    pub fn is_invalidatable(&self) -> bool {
        self.invalidatable
    }

    /// Whether it has been deregistered or invalidated.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        *self.revoked.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `len` bytes at `va` may be accessed with the rights `needed`.
    ///
    /// # Errors
    /// The [`Fault`], looked for in the order revoked, rights, range.
    pub fn check(&self, va: u64, len: u64, needed: Access) -> Result<(), Fault> {
        let _entered = self.enter()?;
        let len = usize::try_from(len).map_err(|_| Fault::OutOfRange)?;
        self.locate(va, len, needed).map(|_| ())
    }

    /// Fills `out` with the bytes at `va`.
    ///
    /// # Errors
    /// A [`Fault`]; then `out` is as it was.
    pub fn read(&self, va: u64, out: &mut [u8], origin: Origin) -> Result<(), Fault> {
        let needed = match origin {
            Origin::Local => Access::empty(),
            Origin::Remote => Access::REMOTE_READ,
        };
        let _entered = self.enter()?;
        let offset = self.locate(va, out.len(), needed)?;
        Ok(self.mapping.read(offset, out)?)
    }

    /// Copies `bytes` to `va`, the last byte last and with release ordering.
    ///
    /// # Errors
    /// A [`Fault`]; then nothing was written.
    pub fn write(&self, va: u64, bytes: &[u8], origin: Origin) -> Result<(), Fault> {
        let needed = match origin {
            Origin::Local => Access::LOCAL_WRITE,
            Origin::Remote => Access::REMOTE_WRITE,
        };
        let _entered = self.enter()?;
        let offset = self.locate(va, bytes.len(), needed)?;
        Ok(self.mapping.write(offset, bytes)?)
    }

    /// A peer's COMPARE_SWAP of the eight bytes at `va`, as a number in the host's byte order: stores `swap`
    /// where it finds `compare`, and returns what it found. It is atomic to this process too, not only among
    /// peers.
    ///
    /// # Errors
    /// A [`Fault`]; then nothing was written.
    pub fn compare_swap(&self, va: u64, compare: u64, swap: u64) -> Result<u64, Fault> {
        let _entered = self.enter()?;
        let offset = self.locate_atomic(va)?;
        let found = self.mapping.atomic_u64(offset)?.compare_exchange(
            compare,
            swap,
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
        Ok(found.unwrap_or_else(|other| other))
    }

    /// A peer's FETCH_ADD on the eight bytes at `va`, as a number in the host's byte order: adds `add`,
    /// around 2^64, and returns what was there before. It is atomic to this process too, not only among
    /// peers.
    ///
    /// # Errors
    /// A [`Fault`]; then nothing was written.
    pub fn fetch_add(&self, va: u64, add: u64) -> Result<u64, Fault> {
        let _entered = self.enter()?;
        let offset = self.locate_atomic(va)?;
        Ok(self.mapping.atomic_u64(offset)?.fetch_add(add, Ordering::SeqCst))
    }

    /// Ends every right at once; false if that had been done before. When this returns, no access is under
    /// way any more.
    pub(super) fn revoke(&self) -> bool {
        !mem::replace(&mut *self.revoked.write().unwrap_or_else(PoisonError::into_inner), true)
    }

    /// Keeps the region from being revoked while the guard lives.
    fn enter(&self) -> Result<RwLockReadGuard<'_, bool>, Fault> {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        if *revoked { Err(Fault::Revoked) } else { Ok(revoked) }
    }

    /// The offset in the mapping of `len` bytes at `va`, if they may be accessed so.
    fn locate(&self, va: u64, len: usize, needed: Access) -> Result<usize, Fault> {
        let missing = needed.difference(self.access);
        if !missing.is_empty() {
            return Err(Fault::NotPermitted(missing));
        }
        // Only subtractions that are known to fit: `va + len` may wrap, and a peer chooses both.
        let start = va
            .checked_sub(self.addr)
            .and_then(|start| usize::try_from(start).ok())
            .ok_or(Fault::OutOfRange)?;
        match self.len.checked_sub(start) {
            Some(room) if len <= room => Ok(self.offset + start),
            _ => Err(Fault::OutOfRange),
        }
    }

    fn locate_atomic(&self, va: u64) -> Result<usize, Fault> {
        let offset = self.locate(va, size_of::<u64>(), Access::REMOTE_ATOMIC)?;
        // The address a peer names must be aligned (IBA 9.4.5); that the memory is aligned too, `Mapping` checks.
        if va.is_multiple_of(size_of::<u64>() as u64) { Ok(offset) } else { Err(Fault::Misaligned) }
    }
}

impl From<OutOfBounds> for Fault {
    fn from(error: OutOfBounds) -> Self {
        match error {
            OutOfBounds::Range { .. } => Self::OutOfRange,
            OutOfBounds::Misaligned { .. } => Self::Misaligned,
        }
    }
}

impl fmt::Debug for Region {
    /// Without its keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("len", &self.len)
            .field("access", &self.access)
            .field("invalidatable", &self.invalidatable)
            .field("revoked", &self.is_revoked())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
