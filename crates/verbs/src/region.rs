//! Registered memory: regions, slices to post, and the regions of peers.

use crate::provider::{self, Element};
use crate::{Error, ProtectionDomain, SliceError};
use core::fmt;
use rocev2::work::RemoteAddress;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use rocev2_device::memory::Access;

/// A registered region and which parts of it are lent out as slices.
pub(crate) struct Registered {
    memory: provider::MemoryRegion,
    /// Start → end of each slice.
    lent: Mutex<BTreeMap<u64, u64>>,
}

/// A memory region. It is deregistered when it and all its slices are gone.
///
/// Peers may read and write it while this process does: every access copies, and a copy that overlaps a
/// peer's write may see part of it. What must be consistent needs a protocol above, such as reading only what
/// a message said is complete.
pub struct MemoryRegion {
    registered: Arc<Registered>,
}

impl ProtectionDomain {
    /// Allocates and registers `len` zeroed bytes.
    ///
    /// # Errors
    /// No memory, too many regions, or rights that contradict each other.
    pub fn register(&self, len: usize, access: Access) -> Result<MemoryRegion, Error> {
        let memory = self.provider().register(len, access)?;
        Ok(MemoryRegion { registered: Arc::new(Registered { memory, lent: Mutex::default() }) })
    }
}

impl MemoryRegion {
    /// How many bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a region has at least one byte")]
    pub fn len(&self) -> u64 {
        self.registered.len()
    }

    /// Copies `out.len()` bytes from `offset`.
    ///
    /// # Errors
    /// They reach outside.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), SliceError> {
        self.registered.read(offset, out)
    }

    /// Copies `data` to `offset`. The last byte is stored last.
    ///
    /// # Errors
    /// It reaches outside.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), SliceError> {
        self.registered.write(offset, data)
    }

    /// What a peer needs to reach this region; the rights it was registered with say what it may do there.
    #[must_use]
    pub fn remote(&self) -> RemoteRegion {
        let memory = &self.registered.memory;
        RemoteRegion { addr: memory.addr(), rkey: memory.rkey(), len: self.len() }
    }

    /// The region, if `len` bytes from `offset` are inside.
    pub(crate) fn registered_range(&self, offset: u64, len: u64) -> Result<Arc<Registered>, SliceError> {
        self.registered.place(offset, len)?;
        Ok(Arc::clone(&self.registered))
    }

    /// Takes `len` bytes from `offset`, to be posted. No other slice gets any of them until this one is dropped.
    ///
    /// # Errors
    /// They reach outside, or another slice has some of them.
    pub fn slice(&self, offset: u64, len: u32) -> Result<Slice, SliceError> {
        self.registered.place(offset, len.into())?;
        let (end, taken) = (offset + u64::from(len), SliceError::Taken { offset, len: len.into() });
        let mut lent = self.registered.lent.lock().unwrap_or_else(PoisonError::into_inner);
        // The last slice that begins before this one's end must end before it begins.
        if len > 0 && lent.range(..end).next_back().is_some_and(|(_, &other)| other > offset) {
            return Err(taken);
        }
        if len > 0 {
            lent.insert(offset, end);
        }
        Ok(Slice { registered: Arc::clone(&self.registered), offset, capacity: len, len, lends: false })
    }
}

impl fmt::Debug for MemoryRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRegion").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Registered {
    fn len(&self) -> u64 {
        self.memory.mapping().len() as u64
    }

    pub(crate) fn memory(&self) -> &provider::MemoryRegion {
        &self.memory
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), SliceError> {
        let at = self.place(offset, out.len() as u64)?;
        self.memory.mapping().read(at, out).map_err(|_| self.outside(offset, out.len() as u64))
    }

    fn append_to(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<(), SliceError> {
        let at = self.place(offset, len as u64)?;
        self.memory.mapping().append_to(at, len, out).map_err(|_| self.outside(offset, len as u64))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), SliceError> {
        let at = self.place(offset, data.len() as u64)?;
        self.memory.mapping().write(at, data).map_err(|_| self.outside(offset, data.len() as u64))
    }

    fn outside(&self, offset: u64, len: u64) -> SliceError {
        SliceError::Bounds { offset, len, region: self.len() }
    }

    /// The place of `offset` in the mapping, if `len` bytes from there are inside.
    fn place(&self, offset: u64, len: u64) -> Result<usize, SliceError> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len());
        let at = usize::try_from(offset).ok().filter(|_| inside);
        at.ok_or_else(|| self.outside(offset, len))
    }
}

/// A part of a region that belongs to whoever holds it: post it, and it comes back with the completion.
///
/// It has a capacity, which receives use, and a length, which sends use.
pub struct Slice {
    registered: Arc<Registered>,
    offset: u64,
    capacity: u32,
    len: u32,
    /// Whether it is of a [`LocalMemory`](crate::LocalMemory).
    lends: bool,
}

impl Slice {
    /// This slice, of a [`LocalMemory`](crate::LocalMemory).
    pub(crate) fn lending(mut self) -> Self {
        self.lends = true;
        self
    }

    /// All bytes of the slice, up to its capacity; `None` unless it is of a [`LocalMemory`](crate::LocalMemory).
    #[must_use]
    #[expect(unsafe_code, reason = "that nobody else reaches the bytes is known here alone")]
    pub fn bytes(&self) -> Option<&[u8]> {
        let at = self.registered.place(self.offset, self.capacity.into()).ok().filter(|_| self.lends)?;
        // SAFETY: the region has no remote rights, so that no peer reaches it, and its memory is this process' own. No one
        // has its handle: the bytes are reached through slices alone, and no other slice has any of these. A request
        // takes its slices along and gives them back when the device has let go of them: none that names these bytes
        // exists while `self` is here. `&self` allows reading only.
        unsafe { self.registered.memory.mapping().lend(at, self.capacity as usize) }.ok()
    }

    /// All bytes of the slice, up to its capacity, to be changed; `None` unless it is of a
    /// [`LocalMemory`](crate::LocalMemory).
    #[must_use]
    #[expect(unsafe_code, reason = "that nobody else reaches the bytes is known here alone")]
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let at = self.registered.place(self.offset, self.capacity.into()).ok().filter(|_| self.lends)?;
        // SAFETY: as in `bytes`; and `&mut self` allows nobody else to read or write through this slice.
        unsafe { self.registered.memory.mapping().lend_mut(at, self.capacity as usize) }.ok()
    }

    /// The most bytes it can hold.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many bytes a send takes from it.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether a send takes no bytes from it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets how many bytes a send takes, up to the capacity.
    ///
    /// # Errors
    /// It is more.
    pub fn set_len(&mut self, len: u32) -> Result<(), SliceError> {
        self.check(0, len.into())?;
        self.len = len;
        Ok(())
    }

    /// Copies `out.len()` bytes from `offset` of the slice.
    ///
    /// # Errors
    /// They reach outside the capacity.
    pub fn read(&self, offset: u32, out: &mut [u8]) -> Result<(), SliceError> {
        self.check(offset, out.len() as u64)?;
        self.registered.read(self.offset + u64::from(offset), out)
    }

    /// Copies `len` bytes from `offset` of the slice to the end of `out`, which grows by them.
    ///
    /// # Errors
    /// They reach outside the capacity; `out` is then as it was.
    pub fn append_to(&self, offset: u32, len: usize, out: &mut Vec<u8>) -> Result<(), SliceError> {
        self.check(offset, len as u64)?;
        self.registered.append_to(self.offset + u64::from(offset), len, out)
    }

    /// Copies `data` to `offset` of the slice.
    ///
    /// # Errors
    /// It reaches outside the capacity.
    pub fn write(&mut self, offset: u32, data: &[u8]) -> Result<(), SliceError> {
        self.check(offset, data.len() as u64)?;
        self.registered.write(self.offset + u64::from(offset), data)
    }

    /// Copies `data` to the beginning and makes it what a send takes.
    ///
    /// # Errors
    /// It is more than the capacity.
    pub fn fill(&mut self, data: &[u8]) -> Result<(), SliceError> {
        self.write(0, data)?;
        self.set_len(u32::try_from(data.len()).unwrap_or(u32::MAX))
    }

    fn check(&self, offset: u32, len: u64) -> Result<(), SliceError> {
        if u64::from(offset) + len <= u64::from(self.capacity) {
            Ok(())
        } else {
            Err(SliceError::Bounds { offset: offset.into(), len, region: self.capacity.into() })
        }
    }

    /// For a work request, `len` of its bytes.
    pub(crate) fn element(&self, len: u32) -> Element<'_> {
        Element { region: &self.registered.memory, offset: self.offset, len }
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.registered.memory.access().contains(Access::LOCAL_WRITE)
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        if self.capacity > 0 {
            self.registered.lent.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.offset);
        }
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slice").field("offset", &self.offset).field("len", &self.len).finish_non_exhaustive()
    }
}

/// A region of the peer, as it described it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RemoteRegion {
    /// The address of its first byte, as the peer counts.
    pub addr: u64,
    /// Its remote key.
    pub rkey: u32,
    /// How many bytes.
    pub len: u64,
}

impl RemoteRegion {
    /// `len` bytes from `offset`.
    ///
    /// # Errors
    /// They reach outside.
    pub fn range(&self, offset: u64, len: u64) -> Result<RemoteRange, SliceError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => {
                Ok(RemoteRange { addr: self.addr.wrapping_add(offset), rkey: self.rkey, len })
            }
            _ => Err(SliceError::Bounds { offset, len, region: self.len }),
        }
    }
}

impl fmt::Debug for RemoteRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key isn't for logs.
        f.debug_struct("RemoteRegion").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Bytes of a peer's region.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RemoteRange {
    addr: u64,
    rkey: u32,
    len: u64,
}

impl RemoteRange {
    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn address(&self) -> RemoteAddress {
        RemoteAddress { va: self.addr, rkey: self.rkey }
    }
}

impl fmt::Debug for RemoteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteRange").field("len", &self.len).finish_non_exhaustive()
    }
}
