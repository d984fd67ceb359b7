//! The buffers of work requests, and memory as the protocol asks for it.

use crate::memory::{Access, Bind, Fault, Invalidation, KeyTable, QueuePairId, Region, RemoteMemory};
use rocev2::work::{AtomicOperation, LocalFault, Memory, RemoteFault, RemoteRight};
use smallvec::SmallVec;
use std::sync::Arc;

/// One piece of a scatter/gather list: bytes of a registered region, which it keeps alive.
#[derive(Clone, Debug)]
pub struct Element {
    /// None if there was no region with the local key.
    region: Option<Arc<Region>>,
    va: u64,
    len: u32,
}

impl Element {
    /// `len` bytes at `va`, an address as the region counts.
    #[must_use]
    pub fn new(region: Arc<Region>, va: u64, len: u32) -> Self {
        Self { region: Some(region), va, len }
    }

    /// `len` bytes at `va` of the region that `lkey` names in the domain of `keys`. If none has that key, a
    /// request with this element completes with `LOC_PROT_ERR`.
    pub(crate) fn by_lkey(keys: &KeyTable, lkey: u32, va: u64, len: u32) -> Self {
        Self { region: keys.by_lkey(lkey).ok(), va, len }
    }

    fn region(&self) -> Result<&Region, LocalFault> {
        self.region.as_deref().ok_or(LocalFault)
    }
}

/// Where the bytes of a work request come from or go to.
#[derive(Debug)]
pub enum Buffers {
    /// The bytes themselves, copied when the request was posted.
    Inline(SmallVec<[u8; 64]>),
    /// A scatter/gather list.
    List(SmallVec<[Element; 1]>),
    /// No bytes: a memory window to bind, and to what.
    Bind(Box<Bind>),
}

impl Buffers {
    /// No bytes at all.
    #[must_use]
    pub fn empty() -> Self {
        Self::List(SmallVec::new())
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::List(list) => list.iter().map(|element| u64::from(element.len)).sum(),
            Self::Bind(_) => 0,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `visit` for each piece of the `len` bytes from `offset`: the element, the address in its region,
    /// and which of the bytes they are.
    fn pieces(
        list: &[Element],
        offset: u32,
        len: usize,
        mut visit: impl FnMut(&Element, u64, core::ops::Range<usize>) -> Result<(), LocalFault>,
    ) -> Result<(), LocalFault> {
        let (mut skip, mut done) = (u64::from(offset), 0);
        for element in list {
            if done == len {
                break;
            }
            let here = u64::from(element.len);
            if skip >= here {
                skip -= here;
                continue;
            }
            let count = usize::try_from(here - skip).unwrap_or(usize::MAX).min(len - done);
            visit(element, element.va.wrapping_add(skip), done..done + count)?;
            done += count;
            skip = 0;
        }
        if done == len { Ok(()) } else { Err(LocalFault) }
    }
}

/// The memory of one protection domain, as one queue pair in it sees it.
#[derive(Debug)]
pub(crate) struct DomainMemory {
    keys: Arc<KeyTable>,
    queue_pair: QueuePairId,
}

/// The peer's right to a range of a region or window, for the length of one message.
#[derive(Debug)]
pub(crate) struct Grant {
    memory: RemoteMemory,
    va: u64,
}

impl DomainMemory {
    /// As a new queue pair sees it.
    pub(crate) fn new(keys: Arc<KeyTable>) -> Self {
        Self { keys, queue_pair: QueuePairId::new() }
    }

    /// What tells the protection domain from others.
    pub(crate) fn domain(&self) -> &Arc<KeyTable> {
        &self.keys
    }
}

impl Memory for DomainMemory {
    type Buffers = Buffers;
    type Grant = Grant;

    fn gather(&self, from: &Buffers, offset: u32, out: &mut [u8]) -> Result<(), LocalFault> {
        match from {
            Buffers::Inline(bytes) => {
                let start = offset as usize;
                let bytes = bytes.get(start..start.saturating_add(out.len())).ok_or(LocalFault)?;
                out.copy_from_slice(bytes);
                Ok(())
            }
            Buffers::List(list) => Buffers::pieces(list, offset, out.len(), |element, va, range| {
                element.region()?.read(va, &mut out[range]).map_err(|_| LocalFault)
            }),
            Buffers::Bind(_) => Err(LocalFault),
        }
    }

    fn scatter(&self, to: &Buffers, offset: u32, data: &[u8]) -> Result<(), LocalFault> {
        let Buffers::List(list) = to else { return Err(LocalFault) };
        Buffers::pieces(list, offset, data.len(), |element, va, range| {
            element.region()?.write(va, &data[range]).map_err(|_| LocalFault)
        })
    }

    fn grant(&self, rkey: u32, va: u64, len: u32, right: RemoteRight) -> Result<Grant, RemoteFault> {
        let needed = match right {
            RemoteRight::Read => Access::REMOTE_READ,
            RemoteRight::Write => Access::REMOTE_WRITE,
            RemoteRight::Atomic => Access::REMOTE_ATOMIC,
        };
        let memory = self.keys.by_rkey(rkey).map_err(refuse)?;
        memory.check(self.queue_pair, va, len.into(), needed).map_err(refuse)?;
        Ok(Grant { memory, va })
    }

    fn read(&self, grant: &Grant, offset: u32, out: &mut [u8]) -> Result<(), RemoteFault> {
        grant.memory.read(grant.va.wrapping_add(offset.into()), out).map_err(refuse)
    }

    fn write(&self, grant: &Grant, offset: u32, data: &[u8]) -> Result<(), RemoteFault> {
        grant.memory.write(grant.va.wrapping_add(offset.into()), data).map_err(refuse)
    }

    fn atomic(&self, grant: &Grant, operation: AtomicOperation) -> Result<u64, RemoteFault> {
        match operation {
            AtomicOperation::CompareSwap { compare, swap } => {
                grant.memory.compare_swap(grant.va, compare, swap)
            }
            AtomicOperation::FetchAdd { add } => grant.memory.fetch_add(grant.va, add),
        }
        .map_err(refuse)
    }

    fn invalidate(&self, rkey: u32) -> Result<(), RemoteFault> {
        self.keys.invalidate(rkey, Invalidation::Peer(self.queue_pair)).map_err(refuse)
    }

    fn bind(&self, bind: &Buffers) -> Result<(), LocalFault> {
        let Buffers::Bind(bind) = bind else { return Err(LocalFault) };
        self.keys.bind(bind, self.queue_pair).map_err(|_| LocalFault)
    }

    fn invalidate_own(&self, rkey: u32) -> Result<(), LocalFault> {
        self.keys.invalidate(rkey, Invalidation::Local).map_err(|_| LocalFault)
    }
}

/// The peer isn't told which of the checks failed.
fn refuse(_: Fault) -> RemoteFault {
    RemoteFault
}

#[cfg(test)]
mod tests;
