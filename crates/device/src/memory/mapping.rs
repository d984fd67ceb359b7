//! Pages that others write at any moment.
#![allow(unsafe_code)]

use core::fmt;
use core::num::NonZero;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::io;

use super::copy;

/// Where a mapping without bytes lies: as aligned as any.
const NOWHERE: NonZero<usize> = NonZero::new(4096).unwrap();

/// A range of memory that peers, other threads and the application may read and write at the same time.
///
/// Its memory is its own. Bytes are copied in and out, and atomics work on them in place; no Rust reference to a
/// byte that somebody else may write is ever made. Bytes that nobody else can reach for a while may be
/// [lent](Self::lend_mut) as a slice. A mapping is held by an [`Arc`](std::sync::Arc), one for each region over
/// it, and is freed with the last.
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

/// The system refused memory.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot map {len} bytes of memory: {source}; ask for less, or raise the limit (ulimit -v, cgroup memory.max)"
)]
pub struct MappingError {
    /// Bytes asked for.
    pub len: usize,
    /// What `mmap` said.
    pub source: io::Error,
}

/// An offset and length that reach outside a mapping, or an offset that is not aligned for an atomic access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfBounds {
    /// Part of the bytes isn't there.
    #[error("{len} bytes at offset {offset} reach outside a mapping of {size} bytes")]
    Range {
        /// First byte of the access.
        offset: usize,
        /// Bytes of the access.
        len: usize,
        /// Bytes of the mapping.
        size: usize,
    },
    /// An 8-byte atomic access to an address that isn't a multiple of 8.
    #[error("offset {offset} is not at a multiple of 8 bytes in memory")]
    Misaligned {
        /// First byte of the access.
        offset: usize,
    },
}

// SAFETY: the memory isn't tied to a thread; every access goes through `copy` or atomics, which may race.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `len` zeroed bytes of anonymous memory, page-aligned. A mapping may have none.
    ///
    /// # Errors
    /// [`MappingError`] if the system has no such memory.
    pub fn new(len: usize) -> Result<Self, MappingError> {
        if len == 0 {
            return Ok(Self { start: NonNull::without_provenance(NOWHERE), len });
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping at an address of the system's choice touches no memory that is in use.
        let start = unsafe { libc::mmap(core::ptr::null_mut(), len, protection, kind, -1, 0) };
        let failed = || MappingError { len, source: io::Error::last_os_error() };
        if start == libc::MAP_FAILED {
            return Err(failed());
        }
        let start = NonNull::new(start.cast()).ok_or_else(failed)?;
        Ok(Self { start, len })
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address of the first byte.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.start.addr().get() as u64
    }

    /// A pointer to the first byte, for handing to foreign code. It is valid as long as the mapping.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Copies `bytes` to `offset`. The last byte is stored last, with release ordering.
    ///
    /// # Errors
    /// [`OutOfBounds::Range`]; then nothing was written.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let at = self.locate(offset, bytes.len())?;
        // SAFETY: `locate` found the range inside the mapping, which `&self` keeps alive.
        unsafe { copy::store(at, bytes) };
        Ok(())
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`OutOfBounds::Range`]; then `out` is as it was.
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), OutOfBounds> {
        let at = self.locate(offset, out.len())?;
        // SAFETY: as in `write`; `out` is private, so it can't overlap the mapping.
        unsafe { copy::load(out, at) };
        Ok(())
    }

    /// Copies `len` bytes from `offset` on to the end of `out`, which grows by them; what is there already
    /// isn't written first.
    ///
    /// # Errors
    /// [`OutOfBounds::Range`]; then `out` is as it was.
    pub fn append_to(&self, offset: usize, len: usize, out: &mut Vec<u8>) -> Result<(), OutOfBounds> {
        let at = self.locate(offset, len)?;
        out.reserve(len);
        // SAFETY: as in `read`; the bytes are `out`'s own.
        unsafe { copy::load_new(&mut out.spare_capacity_mut()[..len], at) };
        let grown = out.len() + len;
        // SAFETY: there is capacity for `len` bytes more, and all of them have just been initialised.
        unsafe { out.set_len(grown) };
        Ok(())
    }

    /// One byte, with acquire ordering: what was written before it by a [`write`](Self::write) that it ended
    /// is visible afterwards.
    ///
    /// # Errors
    /// [`OutOfBounds::Range`].
    pub fn load_u8(&self, offset: usize) -> Result<u8, OutOfBounds> {
        let at = self.locate(offset, 1)?;
        // SAFETY: `locate` found the byte inside the mapping, which `&self` keeps alive; accesses there may race.
        Ok(unsafe { AtomicU8::from_ptr(at) }.load(Ordering::Acquire))
    }

    /// Eight bytes as a number in the host's byte order, with acquire ordering.
    ///
    /// # Errors
    /// [`OutOfBounds`] if they aren't there or aren't aligned.
    pub fn load_u64(&self, offset: usize) -> Result<u64, OutOfBounds> {
        Ok(self.atomic_u64(offset)?.load(Ordering::Acquire))
    }

    /// The aligned eight bytes at `offset` as an atomic number in the host's byte order.
    ///
    /// # Errors
    /// [`OutOfBounds`] if they aren't there or aren't aligned.
    pub fn atomic_u64(&self, offset: usize) -> Result<&AtomicU64, OutOfBounds> {
        let at = self.locate(offset, size_of::<u64>())?.cast::<u64>();
        if !at.is_aligned() {
            return Err(OutOfBounds::Misaligned { offset });
        }
        // SAFETY: aligned, inside the mapping, and borrowed from `&self`; accesses there may race.
        Ok(unsafe { AtomicU64::from_ptr(at) })
    }

    /// Lends `len` bytes from `offset` as a slice, without copying them.
    ///
    /// # Safety
    /// Nobody may write these bytes while the slice lives, neither through this mapping, nor a peer, nor the
    /// device for a work request, nor code outside of Rust. That holds if
    ///
    /// - no region over them gives [a peer a right](super::Access::is_local), and none is re-registered with
    ///   one meanwhile: a window can't be bound to such a region either;
    /// - no work request that may write them (a receive, a READ, an atomic) is outstanding: a device lets go of a
    ///   request's memory when it completes, or when its queue pair has been destroyed;
    /// - the holder of the slice is the only one who may post, write or lend them mutably.
    ///
    /// # Errors
    /// [`OutOfBounds::Range`].
    pub unsafe fn lend(&self, offset: usize, len: usize) -> Result<&[u8], OutOfBounds> {
        let at = self.locate(offset, len)?;
        // SAFETY: `locate` found the range inside the mapping, which `&self` keeps alive; its bytes are
        // initialised, since the system zeroes them; nobody writes them, by the caller's promise.
        Ok(unsafe { core::slice::from_raw_parts(at, len) })
    }

    /// Lends `len` bytes from `offset` as a mutable slice, to be filled or changed in place.
    ///
    /// # Safety
    /// As for [`lend`](Self::lend), and nobody may read these bytes either while the slice lives: no work
    /// request that names them may be outstanding, and the holder must be the only one who may read or lend them.
    ///
    /// # Errors
    /// [`OutOfBounds::Range`].
    #[expect(clippy::mut_from_ref, reason = "the caller promises that these bytes are borrowed once")]
    pub unsafe fn lend_mut(&self, offset: usize, len: usize) -> Result<&mut [u8], OutOfBounds> {
        let at = self.locate(offset, len)?;
        // SAFETY: as in `lend`; and nobody else reads or writes them, by the caller's promise.
        Ok(unsafe { core::slice::from_raw_parts_mut(at, len) })
    }

    /// A pointer to `offset`, if `len` bytes from there are all inside.
    fn locate(&self, offset: usize, len: usize) -> Result<*mut u8, OutOfBounds> {
        match self.len.checked_sub(offset) {
            Some(room) if len <= room => Ok(self.start.as_ptr().wrapping_add(offset)),
            _ => Err(OutOfBounds::Range { offset, len, size: self.len }),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        // SAFETY: `new` mapped exactly this range, and nothing borrows it any more.
        let result = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(result, 0, "munmap: {}", io::Error::last_os_error());
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
