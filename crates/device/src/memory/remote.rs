//! What a peer reaches by a key, and how.

use core::fmt;
use std::sync::Arc;

use super::region::Entered;
use super::window::{Binding, QueuePairId};
use super::{Access, Fault, Region};

/// What a remote key names: a region, or what a window is bound to.
///
/// Every access checks revocation, rights and bounds, of the window and of the region behind it; an access that is
/// refused has touched no byte, unless memory of the program has [vanished](Fault::Vanished).
#[derive(Clone)]
pub struct RemoteMemory(Kind);

#[derive(Clone)]
enum Kind {
    Region(Arc<Region>),
    Window(Arc<Binding>),
}

impl RemoteMemory {
    /// Whether a peer of that queue pair may access `len` bytes at `va` with the rights `needed`.
    ///
    /// # Errors
    /// The [`Fault`], looked for in the order queue pair, revoked, rights, range.
    pub fn check(&self, queue_pair: QueuePairId, va: u64, len: u64, needed: Access) -> Result<(), Fault> {
        if let Kind::Window(binding) = &self.0
            && !binding.is_for(queue_pair)
        {
            return Err(Fault::OtherQueuePair);
        }
        let len = usize::try_from(len).map_err(|_| Fault::OutOfRange)?;
        self.access(va, len, needed, |_, _| Ok(()))
    }

    /// Fills `out` with the bytes at `va`. That needs [`Access::REMOTE_READ`].
    ///
    /// # Errors
    /// A [`Fault`].
    pub fn read(&self, va: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.access(va, out.len(), Access::REMOTE_READ, |memory, offset| memory.read(offset, out))
    }

    /// Copies `bytes` to `va`, the last byte last and with release ordering. That needs [`Access::REMOTE_WRITE`].
    ///
    /// # Errors
    /// A [`Fault`].
    pub fn write(&self, va: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.access(va, bytes.len(), Access::REMOTE_WRITE, |memory, offset| memory.write(offset, bytes))
    }

    /// COMPARE_SWAP of the eight bytes at `va`, as a number in the host's byte order: stores `swap` where it finds
    /// `compare`, and returns what it found. It is atomic to this process too, not only among peers.
    ///
    /// # Errors
    /// A [`Fault`]; then nothing was written.
    pub fn compare_swap(&self, va: u64, compare: u64, swap: u64) -> Result<u64, Fault> {
        self.atomic(va, |memory, offset| memory.compare_swap(offset, compare, swap))
    }

    /// FETCH_ADD on the eight bytes at `va`, as a number in the host's byte order: adds `add`, around 2^64, and
    /// returns what was there before. It is atomic to this process too, not only among peers.
    ///
    /// # Errors
    /// A [`Fault`]; then nothing was written.
    pub fn fetch_add(&self, va: u64, add: u64) -> Result<u64, Fault> {
        self.atomic(va, |memory, offset| memory.fetch_add(offset, add))
    }

    pub(super) fn of_region(region: &Arc<Region>) -> Self {
        Self(Kind::Region(Arc::clone(region)))
    }

    pub(super) fn of_window(binding: &Arc<Binding>) -> Self {
        Self(Kind::Window(Arc::clone(binding)))
    }

    /// What the window is bound to, if it is one.
    pub(super) fn binding(&self) -> Option<&Arc<Binding>> {
        match &self.0 {
            Kind::Region(_) => None,
            Kind::Window(binding) => Some(binding),
        }
    }

    fn atomic(
        &self,
        va: u64,
        operation: impl FnOnce(&Entered<'_>, usize) -> Result<u64, Fault>,
    ) -> Result<u64, Fault> {
        self.access(va, size_of::<u64>(), Access::REMOTE_ATOMIC, |memory, offset| {
            // The address a peer names must be aligned (IBA 9.4.5); that the memory is aligned too, it checks itself.
            if va.is_multiple_of(size_of::<u64>() as u64) {
                operation(memory, offset)
            } else {
                Err(Fault::Misaligned)
            }
        })
    }

    /// Has `operation` access `len` bytes at `va`, given as an offset in the region. Neither window nor region is
    /// revoked meanwhile.
    fn access<T>(
        &self,
        va: u64,
        len: usize,
        needed: Access,
        operation: impl FnOnce(&Entered<'_>, usize) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        match &self.0 {
            Kind::Region(region) => {
                let entered = region.enter()?;
                operation(&entered, region.bounds().locate(va, len, needed)?)
            }
            Kind::Window(binding) => {
                let _bound = binding.enter()?;
                let entered = binding.region.enter()?;
                operation(&entered, binding.offset + binding.bounds.locate(va, len, needed)?)
            }
        }
    }
}

impl fmt::Debug for RemoteMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bounds = match &self.0 {
            Kind::Region(region) => region.bounds(),
            Kind::Window(binding) => binding.bounds,
        };
        f.debug_struct("RemoteMemory")
            .field("window", &self.binding().is_some())
            .field("len", &bounds.len)
            .field("access", &bounds.access)
            .finish()
    }
}

#[cfg(test)]
mod tests;
