//! Memory that the program owns, and may take away at any moment.
//!
//! A network card pins what is registered; a copy by a processor dies of SIGSEGV or SIGBUS when the program has
//! unmapped the pages or truncated the file behind them. Every access here ends with
//! [`Fault::Vanished`] instead:
//!
//! - Accesses are made by the few instructions of `instructions`. A handler for both signals (`guard`) knows them
//!   and lets such an access return with an error. While nothing faults that costs less than 10 ns an access.
//! - Where that handler can't help, because the program has put another in its place, the kernel makes the access
//!   (`kernel`): a system call each, 1.3 µs. (Both measured by the test `foreign_speed`, on a virtual machine of an
//!   AMD EPYC.)
//!
//! The handler is installed with the first registration of such memory and stays: programs that register none
//! keep their signals to themselves.
#![allow(unsafe_code)]

mod guard;
#[cfg(target_arch = "x86_64")]
mod instructions;
mod kernel;

use core::fmt;
use std::io;

use super::{Fault, OutOfBounds, copy};
use guard::Way;

/// A range of the program's memory that is registered and that peers may read and write.
///
/// It may have no byte, and its bytes may go at any moment.
pub struct Foreign {
    start: *mut u8,
    len: usize,
}

/// The access couldn't be made, or not to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Vanished;

/// Memory that can't be registered.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The range goes around the end of the address space.
    #[error("{len} bytes from there go beyond the last address")]
    Range {
        /// Bytes asked for.
        len: usize,
    },
    /// Nothing is mapped at some address of the range.
    #[error("the {len} bytes aren't all mapped memory: map them first, and register them afterwards")]
    NotMapped {
        /// Bytes asked for.
        len: usize,
    },
    /// The system doesn't let this process handle the faults of its accesses.
    #[error("cannot prepare for memory that vanishes: {0}")]
    System(io::Error),
}

// SAFETY: the memory isn't tied to a thread; every access goes through functions that may race.
unsafe impl Send for Foreign {}
// SAFETY: as above.
unsafe impl Sync for Foreign {}

impl Foreign {
    /// The `len` bytes from `start`, all of which must be mapped now.
    ///
    /// # Safety
    /// Until this value is dropped (that is: until no region over it is left and no request that names one is
    /// outstanding), no Rust reference to these bytes may exist; if they are unmapped or freed meanwhile, to what
    /// comes to lie at these addresses neither. Code that isn't Rust may read and write them as it likes; Rust
    /// code only by accesses that may race.
    ///
    /// # Errors
    /// [`ForeignError`].
    pub unsafe fn new(start: *mut u8, len: usize) -> Result<Self, ForeignError> {
        if start.addr().checked_add(len).is_none() {
            return Err(ForeignError::Range { len });
        }
        guard::install().map_err(ForeignError::System)?;
        if kernel::is_mapped(start, len) {
            Ok(Self { start, len })
        } else {
            Err(ForeignError::NotMapped { len })
        }
    }

    /// How many bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The address of the first byte.
    pub(super) fn address(&self) -> u64 {
        self.start.addr() as u64
    }

    /// Copies `bytes` to `offset`, the last byte last.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Fault> {
        let to = self.locate(offset, bytes.len())?;
        // The last word in a move of its own: who sees it sees what comes before it.
        let last =
            if bytes.is_empty() { 0 } else { copy::last_word(to.wrapping_add(bytes.len()), bytes.len()) };
        let (body, word) = bytes.split_at(bytes.len() - last);
        Ok(guard::access(|way| {
            // SAFETY: `new`'s caller lets these addresses be written, and `bytes` are readable.
            unsafe { copy_by(way, to, body.as_ptr(), body.len(), Shared::To) }?;
            // SAFETY: as above.
            unsafe { copy_by(way, to.wrapping_add(body.len()), word.as_ptr(), word.len(), Shared::To) }
        })?)
    }

    /// Fills `out` with the bytes from `offset` on.
    pub(super) fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), Fault> {
        let from = self.locate(offset, out.len())?;
        Ok(guard::access(|way| {
            // SAFETY: `new`'s caller lets these addresses be read, and `out` is private: it is no part of them.
            unsafe { copy_by(way, out.as_mut_ptr(), from, out.len(), Shared::From) }
        })?)
    }

    /// Stores `swap` in the aligned 8 bytes at `offset` if they hold `compare`; what they held.
    pub(super) fn compare_swap(&self, offset: usize, compare: u64, swap: u64) -> Result<u64, Fault> {
        let at = self.word(offset)?;
        Ok(guard::access(|way| match way {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: aligned, and `new`'s caller lets these addresses be read and written.
            Way::Instructions => unsafe { instructions::compare_swap(at, compare, swap) },
            // SAFETY: as above.
            Way::Kernel => unsafe { kernel::update(at, |found| if found == compare { swap } else { found }) },
        })?)
    }

    /// Adds `add`, around 2^64, to the aligned 8 bytes at `offset`; what they held.
    pub(super) fn fetch_add(&self, offset: usize, add: u64) -> Result<u64, Fault> {
        let at = self.word(offset)?;
        Ok(guard::access(|way| match way {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: aligned, and `new`'s caller lets these addresses be read and written.
            Way::Instructions => unsafe { instructions::fetch_add(at, add) },
            // SAFETY: as above.
            Way::Kernel => unsafe { kernel::update(at, |found| found.wrapping_add(add)) },
        })?)
    }

    /// The aligned 8 bytes at `offset`.
    fn word(&self, offset: usize) -> Result<*mut u64, OutOfBounds> {
        let at = self.locate(offset, size_of::<u64>())?.cast::<u64>();
        if at.is_aligned() { Ok(at) } else { Err(OutOfBounds::Misaligned { offset }) }
    }

    /// A pointer to `offset`, if `len` bytes from there are all inside.
    fn locate(&self, offset: usize, len: usize) -> Result<*mut u8, OutOfBounds> {
        match self.len.checked_sub(offset) {
            Some(room) if len <= room => Ok(self.start.wrapping_add(offset)),
            _ => Err(OutOfBounds::Range { offset, len, size: self.len }),
        }
    }
}

impl From<Vanished> for Fault {
    fn from(_: Vanished) -> Self {
        Self::Vanished
    }
}

/// Which side of a copy is the program's memory.
#[derive(Clone, Copy)]
enum Shared {
    From,
    To,
}

/// Copies `len` bytes, in any order.
///
/// # Safety
/// The private side must be valid for `len` bytes, and the shared side may be accessed by Foreign's rules.
unsafe fn copy_by(
    way: Way,
    to: *mut u8,
    from: *const u8,
    len: usize,
    shared: Shared,
) -> Result<(), Vanished> {
    match (way, shared) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        (Way::Instructions, _) => unsafe { instructions::copy(to, from, len) },
        // SAFETY: the caller's promise.
        (Way::Kernel, Shared::To) => unsafe { kernel::write(to, from, len) },
        // SAFETY: the caller's promise.
        (Way::Kernel, Shared::From) => unsafe { kernel::read(to, from, len) },
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foreign").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
