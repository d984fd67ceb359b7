//! Memory in safe Rust: regions that peers know by their rkey and their own side by a number, with a tally of
//! every access.

use super::rng::Rng;
use rocev2::work::{AtomicOperation, LocalFault, Memory, RemoteFault, RemoteRight};
use std::cell::{Cell, RefCell};
use std::ops::Range;

/// What a region allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) local_write: bool,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) atomic: bool,
    pub(crate) invalidate: bool,
}

impl Rights {
    pub(crate) const ALL: Self =
        Self { local_write: true, read: true, write: true, atomic: true, invalidate: true };
    pub(crate) const LOCAL: Self =
        Self { local_write: true, read: false, write: false, atomic: false, invalidate: false };
    pub(crate) const NONE: Self = Self { local_write: false, ..Self::LOCAL };
}

struct Region {
    rkey: u32,
    va: u64,
    bytes: Vec<u8>,
    rights: Rights,
    revoked: bool,
    /// Whether it is a memory window: revoked until it is bound, and free again when it is invalidated.
    window: bool,
}

/// A region, as its own side names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegionId(usize);

/// A part of a region: an element of a scatter/gather list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    pub(crate) region: RegionId,
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

impl Slice {
    /// The same bytes as a list of up to four elements.
    pub(crate) fn scattered(self, rng: &mut Rng) -> Vec<Self> {
        let mut cuts: Vec<usize> = (0..rng.index(4)).map(|_| rng.index(self.len + 1)).collect();
        cuts.extend([0, self.len]);
        cuts.sort_unstable();
        cuts.windows(2)
            .map(|ends| Self { offset: self.offset + ends[0], len: ends[1] - ends[0], ..self })
            .collect()
    }
}

/// What was done to a host's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Bytes that came to local buffers: of receive requests, reads and atomics.
    pub(crate) scattered: u64,
    /// Bytes that the peer wrote.
    pub(crate) written: u64,
    /// Bytes that the peer read.
    pub(crate) read: u64,
    /// Atomics that the peer had executed.
    pub(crate) atomics: u64,
    /// Keys that the peer withdrew.
    pub(crate) invalidated: u64,
    /// Windows that were bound, and that this side took back.
    pub(crate) bound: u64,
    pub(crate) taken_back: u64,
}

/// The memory of one host.
#[derive(Default)]
pub(crate) struct Ram {
    regions: RefCell<Vec<Region>>,
    tally: Cell<Tally>,
}

/// The right to a range of a region.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    region: usize,
    range: Range<usize>,
}

impl Ram {
    pub(crate) fn register(&self, rng: &mut Rng, va: u64, bytes: Vec<u8>, rights: Rights) -> RegionId {
        let mut regions = self.regions.borrow_mut();
        // The place in the table makes the key unique, the rest makes it hard to guess.
        let rkey = rng.word() << 12 | u32::try_from(regions.len()).expect("few regions");
        assert!(regions.len() < 1 << 12, "the key has 12 bits for the place");
        regions.push(Region { rkey, va, bytes, rights, revoked: false, window: false });
        RegionId(regions.len() - 1)
    }

    /// A memory window that isn't bound.
    pub(crate) fn window(&self, rng: &mut Rng, va: u64, bytes: Vec<u8>) -> RegionId {
        let id = self.register(rng, va, bytes, Rights::ALL);
        let region = &mut self.regions.borrow_mut()[id.0];
        (region.window, region.revoked) = (true, true);
        id
    }

    pub(crate) fn rkey(&self, id: RegionId) -> u32 {
        self.regions.borrow()[id.0].rkey
    }

    pub(crate) fn revoke(&self, id: RegionId) {
        self.regions.borrow_mut()[id.0].revoked = true;
    }

    pub(crate) fn is_revoked(&self, id: RegionId) -> bool {
        self.regions.borrow()[id.0].revoked
    }

    pub(crate) fn bytes(&self, slice: Slice) -> Vec<u8> {
        self.regions.borrow()[slice.region.0].bytes[slice.offset..slice.offset + slice.len].to_vec()
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally.get()
    }

    /// Everything that is stored here, to see whether anything changed.
    pub(crate) fn contents(&self) -> Vec<Vec<u8>> {
        self.regions.borrow().iter().map(|region| region.bytes.clone()).collect()
    }

    fn count(&self, change: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.get();
        change(&mut tally);
        self.tally.set(tally);
    }

    /// Runs `piece` for each element that `range` of the list touches, with the part of the range that it has.
    fn pieces(
        list: &[Slice],
        range: Range<usize>,
        mut piece: impl FnMut(Slice, Range<usize>) -> Result<(), LocalFault>,
    ) -> Result<(), LocalFault> {
        let total: usize = list.iter().map(|slice| slice.len).sum();
        if range.end > total {
            return Err(LocalFault);
        }
        let mut start = 0;
        for slice in list {
            let end = start + slice.len;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                let part =
                    Slice { offset: slice.offset + from - start, len: to - from, region: slice.region };
                piece(part, from - range.start..to - range.start)?;
            }
            start = end;
        }
        Ok(())
    }
}

impl Memory for Ram {
    type Buffers = Vec<Slice>;
    type Grant = Grant;

    fn gather(&self, from: &Self::Buffers, offset: u32, out: &mut [u8]) -> Result<(), LocalFault> {
        let regions = self.regions.borrow();
        let start = offset as usize;
        Self::pieces(from, start..start + out.len(), |part, place| {
            let region = &regions[part.region.0];
            if region.revoked {
                return Err(LocalFault);
            }
            out[place].copy_from_slice(&region.bytes[part.offset..part.offset + part.len]);
            Ok(())
        })
    }

    fn scatter(&self, to: &Self::Buffers, offset: u32, data: &[u8]) -> Result<(), LocalFault> {
        let mut regions = self.regions.borrow_mut();
        let start = offset as usize;
        Self::pieces(to, start..start + data.len(), |part, place| {
            let region = &mut regions[part.region.0];
            if region.revoked || !region.rights.local_write {
                return Err(LocalFault);
            }
            region.bytes[part.offset..part.offset + part.len].copy_from_slice(&data[place]);
            Ok(())
        })?;
        self.count(|tally| tally.scattered += data.len() as u64);
        Ok(())
    }

    fn grant(&self, rkey: u32, va: u64, len: u32, right: RemoteRight) -> Result<Grant, RemoteFault> {
        let regions = self.regions.borrow();
        let at = regions.iter().position(|region| region.rkey == rkey).ok_or(RemoteFault)?;
        let region = &regions[at];
        let allowed = match right {
            RemoteRight::Read => region.rights.read,
            RemoteRight::Write => region.rights.write,
            RemoteRight::Atomic => region.rights.atomic,
        };
        let start =
            usize::try_from(va.checked_sub(region.va).ok_or(RemoteFault)?).map_err(|_| RemoteFault)?;
        let end = start.checked_add(len as usize).ok_or(RemoteFault)?;
        if region.revoked || !allowed || end > region.bytes.len() {
            return Err(RemoteFault);
        }
        Ok(Grant { region: at, range: start..end })
    }

    fn read(&self, grant: &Grant, offset: u32, out: &mut [u8]) -> Result<(), RemoteFault> {
        let regions = self.regions.borrow();
        let region = &regions[grant.region];
        if region.revoked {
            return Err(RemoteFault);
        }
        let range = &region.bytes[grant.range.clone()];
        out.copy_from_slice(&range[offset as usize..][..out.len()]);
        self.count(|tally| tally.read += out.len() as u64);
        Ok(())
    }

    fn write(&self, grant: &Grant, offset: u32, data: &[u8]) -> Result<(), RemoteFault> {
        let mut regions = self.regions.borrow_mut();
        let region = &mut regions[grant.region];
        if region.revoked {
            return Err(RemoteFault);
        }
        let range = &mut region.bytes[grant.range.clone()];
        range[offset as usize..][..data.len()].copy_from_slice(data);
        self.count(|tally| tally.written += data.len() as u64);
        Ok(())
    }

    fn atomic(&self, grant: &Grant, operation: AtomicOperation) -> Result<u64, RemoteFault> {
        let mut regions = self.regions.borrow_mut();
        let region = &mut regions[grant.region];
        if region.revoked {
            return Err(RemoteFault);
        }
        let word = region.bytes[grant.range.clone()].first_chunk_mut::<8>().ok_or(RemoteFault)?;
        let original = u64::from_ne_bytes(*word);
        *word = executed(operation, original).to_ne_bytes();
        self.count(|tally| tally.atomics += 1);
        Ok(original)
    }

    fn invalidate(&self, rkey: u32) -> Result<(), RemoteFault> {
        let mut regions = self.regions.borrow_mut();
        let region = regions.iter_mut().find(|region| region.rkey == rkey).ok_or(RemoteFault)?;
        if region.revoked || !region.rights.invalidate {
            return Err(RemoteFault);
        }
        region.revoked = true;
        self.count(|tally| tally.invalidated += 1);
        Ok(())
    }

    fn bind(&self, bind: &Self::Buffers) -> Result<(), LocalFault> {
        let region = &mut self.regions.borrow_mut()[bind.first().ok_or(LocalFault)?.region.0];
        if !region.window || !region.revoked {
            return Err(LocalFault);
        }
        region.revoked = false;
        self.count(|tally| tally.bound += 1);
        Ok(())
    }

    fn invalidate_own(&self, rkey: u32) -> Result<(), LocalFault> {
        let mut regions = self.regions.borrow_mut();
        let region = regions.iter_mut().find(|region| region.rkey == rkey && region.window);
        let region = region.filter(|region| !region.revoked).ok_or(LocalFault)?;
        region.revoked = true;
        self.count(|tally| tally.taken_back += 1);
        Ok(())
    }
}

/// What a word holds after an atomic.
pub(crate) fn executed(operation: AtomicOperation, original: u64) -> u64 {
    match operation {
        AtomicOperation::CompareSwap { compare, swap } => {
            if original == compare {
                swap
            } else {
                original
            }
        }
        AtomicOperation::FetchAdd { add } => original.wrapping_add(add),
    }
}
