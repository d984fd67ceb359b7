//! Memory regions: some memory, with rights and a time at which they end.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::key::RegionKeys;
use super::{Access, Backing, Fault};

/// A registered memory region.
///
/// Addresses (`va`) are those that peers and work requests name: they count from the region's
/// [base](super::Base). Every access checks revocation, rights and bounds; an access that is refused has touched
/// no byte, unless memory of the program has [vanished](Fault::Vanished).
pub struct Region {
    backing: Backing,
    bounds: Bounds,
    /// Shared with the region that takes this one's place when its rights change.
    keys: Arc<RegionKeys>,
    /// Windows bound to it. Changes under the write lock of the table that has the region.
    windows: AtomicUsize,
    /// Read-locked by each access for as long as it lasts, so that `revoke` can wait for those under way:
    /// what follows may free or reuse the memory.
    revoked: RwLock<bool>,
}

/// The addresses of a region or window, and what may be done there.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// The address of the first byte, as peers and work requests name it.
    pub(super) base: u64,
    pub(super) len: usize,
    pub(super) access: Access,
}

/// A region that isn't revoked as long as this lives.
pub(super) struct Entered<'a> {
    region: &'a Region,
    _not_revoked: RwLockReadGuard<'a, bool>,
}

impl Region {
    /// A region of all of that memory, which is as long as the bounds are.
    pub(super) fn new(backing: Backing, bounds: Bounds, keys: Arc<RegionKeys>) -> Self {
        Self { backing, bounds, keys, windows: AtomicUsize::new(0), revoked: RwLock::new(false) }
    }

    /// The address of the first byte, as peers and work requests name it.
    #[must_use]
    pub fn addr(&self) -> u64 {
        self.bounds.base
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bounds.len
    }

    /// Whether it has no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rights it was registered with.
    #[must_use]
    pub fn access(&self) -> Access {
        self.bounds.access
    }

    /// The key that work requests of this process name it by. It never travels.
    #[must_use]
    pub fn lkey(&self) -> u32 {
        self.keys.lkey.get()
    }

    /// The key that peers name it by. Whoever has it, an address and a connection has the region: don't log it.
    #[must_use]
    pub fn rkey(&self) -> u32 {
        self.keys.rkey.get()
    }

    /// Its memory.
    #[must_use]
    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    /// Whether it has been deregistered.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        *self.revoked.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `out` with the bytes at `va`, for a work request of this process. That needs no right.
    ///
    /// # Errors
    /// A [`Fault`].
    pub fn read(&self, va: u64, out: &mut [u8]) -> Result<(), Fault> {
        let entered = self.enter()?;
        let offset = self.bounds.locate(va, out.len(), Access::empty())?;
        entered.read(offset, out)
    }

    /// Copies `bytes` to `va`, the last byte last and with release ordering, for a work request of this process.
    /// That needs [`Access::LOCAL_WRITE`].
    ///
    /// # Errors
    /// A [`Fault`].
    pub fn write(&self, va: u64, bytes: &[u8]) -> Result<(), Fault> {
        let entered = self.enter()?;
        let offset = self.bounds.locate(va, bytes.len(), Access::LOCAL_WRITE)?;
        entered.write(offset, bytes)
    }

    /// The same memory by the same names and keys, with other rights.
    pub(super) fn with_access(&self, access: Access) -> Self {
        Self::new(self.backing.clone(), Bounds { access, ..self.bounds }, Arc::clone(&self.keys))
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Windows bound to it.
    pub(super) fn windows(&self) -> &AtomicUsize {
        &self.windows
    }

    /// Ends every right at once. When this returns, no access is under way any more.
    pub(super) fn revoke(&self) {
        *self.revoked.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Keeps the region from being revoked while the guard lives.
    pub(super) fn enter(&self) -> Result<Entered<'_>, Fault> {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        if *revoked { Err(Fault::Revoked) } else { Ok(Entered { region: self, _not_revoked: revoked }) }
    }
}

/// Accesses at an offset from the region's first byte, which the caller has located in its bounds.
impl Entered<'_> {
    pub(super) fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), Fault> {
        self.region.backing.read(offset, out)
    }

    pub(super) fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Fault> {
        self.region.backing.write(offset, bytes)
    }

    pub(super) fn compare_swap(&self, offset: usize, compare: u64, swap: u64) -> Result<u64, Fault> {
        self.region.backing.compare_swap(offset, compare, swap)
    }

    pub(super) fn fetch_add(&self, offset: usize, add: u64) -> Result<u64, Fault> {
        self.region.backing.fetch_add(offset, add)
    }
}

impl Bounds {
    /// The offset of `len` bytes at `va` from the first byte, if they may be accessed so.
    pub(super) fn locate(&self, va: u64, len: usize, needed: Access) -> Result<usize, Fault> {
        let missing = needed.difference(self.access);
        if !missing.is_empty() {
            return Err(Fault::NotPermitted(missing));
        }
        // Only subtractions that are known to fit: `va + len` may wrap, and a peer chooses both.
        let start = va
            .checked_sub(self.base)
            .and_then(|start| usize::try_from(start).ok())
            .ok_or(Fault::OutOfRange)?;
        match self.len.checked_sub(start) {
            Some(room) if len <= room => Ok(start),
            _ => Err(Fault::OutOfRange),
        }
    }
}

impl fmt::Debug for Region {
    /// Without its keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("len", &self.len())
            .field("access", &self.access())
            .field("windows", &self.windows.load(Ordering::Relaxed))
            .field("revoked", &self.is_revoked())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
