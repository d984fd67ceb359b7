//! The memory behind a region.

use core::sync::atomic::Ordering;
use std::sync::Arc;

#[cfg(target_os = "linux")]
use super::Foreign;
use super::{Fault, Mapping};

/// The memory behind a region: the device's own, or the program's.
#[derive(Debug, Clone)]
pub enum Backing {
    /// Memory that the device has allocated.
    Own(Arc<Mapping>),
    /// Memory that the program owns, and may take away.
    #[cfg(target_os = "linux")]
    Foreign(Arc<Foreign>),
}

impl Backing {
    /// How many bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Own(mapping) => mapping.len(),
            #[cfg(target_os = "linux")]
            Self::Foreign(memory) => memory.len(),
        }
    }

    /// The address of the first byte in this process.
    pub(super) fn address(&self) -> u64 {
        match self {
            Self::Own(mapping) => mapping.address(),
            #[cfg(target_os = "linux")]
            Self::Foreign(memory) => memory.address(),
        }
    }

    /// Copies `bytes` to `offset`, the last byte last.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Own(mapping) => Ok(mapping.write(offset, bytes)?),
            #[cfg(target_os = "linux")]
            Self::Foreign(memory) => memory.write(offset, bytes),
        }
    }

    /// Fills `out` with the bytes from `offset` on.
    pub(super) fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), Fault> {
        match self {
            Self::Own(mapping) => Ok(mapping.read(offset, out)?),
            #[cfg(target_os = "linux")]
            Self::Foreign(memory) => memory.read(offset, out),
        }
    }

    /// Stores `swap` in the aligned 8 bytes at `offset` if they hold `compare`; what they held.
    pub(super) fn compare_swap(&self, offset: usize, compare: u64, swap: u64) -> Result<u64, Fault> {
        match self {
            Self::Own(mapping) => {
                let word = mapping.atomic_u64(offset)?;
                let found = word.compare_exchange(compare, swap, Ordering::SeqCst, Ordering::SeqCst);
                Ok(found.unwrap_or_else(|other| other))
            }
            #[cfg(target_os = "linux")]
            Self::Foreign(memory) => memory.compare_swap(offset, compare, swap),
        }
    }

    /// Adds `add`, around 2^64, to the aligned 8 bytes at `offset`; what they held.
    pub(super) fn fetch_add(&self, offset: usize, add: u64) -> Result<u64, Fault> {
        match self {
            Self::Own(mapping) => Ok(mapping.atomic_u64(offset)?.fetch_add(add, Ordering::SeqCst)),
            #[cfg(target_os = "linux")]
            Self::Foreign(memory) => memory.fetch_add(offset, add),
        }
    }
}
