//! The buffers of work requests, and memory as the protocol asks for it.

use crate::memory::{Access, Fault, KeyTable, Origin, Region};
use rocev2::work::{AtomicOperation, LocalFault, Memory, RemoteFault, RemoteRight};
use smallvec::SmallVec;
use std::sync::Arc;

/// One piece of a scatter/gather list: bytes of a registered region, which it keeps alive.
#[derive(Clone, Debug)]
pub struct Element {
    /// The region.
    pub region: Arc<Region>,
    /// The first byte's address, as the region counts.
    pub va: u64,
    /// How many bytes.
    pub len: u32,
}

/// Where the bytes of a work request come from or go to.
#[derive(Debug)]
pub enum Buffers {
    /// The bytes themselves, copied when the request was posted.
    Inline(SmallVec<[u8; 64]>),
    /// A scatter/gather list.
    List(SmallVec<[Element; 1]>),
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

/// The memory of one protection domain, as a queue pair in it sees it.
#[derive(Clone, Debug)]
pub(crate) struct DomainMemory {
    keys: Arc<KeyTable>,
}

/// The peer's right to a range of a region, for the length of one message.
#[derive(Debug)]
pub(crate) struct Grant {
    region: Arc<Region>,
    va: u64,
}

impl DomainMemory {
    pub(crate) fn new(keys: Arc<KeyTable>) -> Self {
        Self { keys }
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
                element.region.read(va, &mut out[range], Origin::Local).map_err(|_| LocalFault)
            }),
        }
    }

    fn scatter(&self, to: &Buffers, offset: u32, data: &[u8]) -> Result<(), LocalFault> {
        let Buffers::List(list) = to else { return Err(LocalFault) };
        Buffers::pieces(list, offset, data.len(), |element, va, range| {
            element.region.write(va, &data[range], Origin::Local).map_err(|_| LocalFault)
        })
    }

    fn grant(&self, rkey: u32, va: u64, len: u32, right: RemoteRight) -> Result<Grant, RemoteFault> {
        let needed = match right {
            RemoteRight::Read => Access::REMOTE_READ,
            RemoteRight::Write => Access::REMOTE_WRITE,
            RemoteRight::Atomic => Access::REMOTE_ATOMIC,
        };
        let region = self.keys.by_rkey(rkey).map_err(refuse)?;
        region.check(va, len.into(), needed).map_err(refuse)?;
        Ok(Grant { region, va })
    }

    fn read(&self, grant: &Grant, offset: u32, out: &mut [u8]) -> Result<(), RemoteFault> {
        grant.region.read(grant.va.wrapping_add(offset.into()), out, Origin::Remote).map_err(refuse)
    }

    fn write(&self, grant: &Grant, offset: u32, data: &[u8]) -> Result<(), RemoteFault> {
        grant.region.write(grant.va.wrapping_add(offset.into()), data, Origin::Remote).map_err(refuse)
    }

    fn atomic(&self, grant: &Grant, operation: AtomicOperation) -> Result<u64, RemoteFault> {
        match operation {
            AtomicOperation::CompareSwap { compare, swap } => {
                grant.region.compare_swap(grant.va, compare, swap)
            }
            AtomicOperation::FetchAdd { add } => grant.region.fetch_add(grant.va, add),
        }
        .map_err(refuse)
    }

    fn invalidate(&self, rkey: u32) -> Result<(), RemoteFault> {
        self.keys.invalidate(rkey).map_err(refuse)
    }
}

/// The peer isn't told which of the checks failed.
fn refuse(_: Fault) -> RemoteFault {
    RemoteFault
}
