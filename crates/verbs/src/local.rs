//! Memory that no peer can reach, whose slices lend their bytes.

use crate::{Access, Error, MemoryRegion, ProtectionDomain, Slice, SliceError};
use core::fmt;
use std::sync::Arc;

/// A region that no peer can reach, and of which there is nothing but slices. The bytes of a slice that isn't
/// posted are its holder's alone, so [`Slice::bytes_mut`] lends them: what is sent can be made where it is
/// sent from.
pub struct LocalMemory(MemoryRegion);

impl ProtectionDomain {
    /// Registers `len` new zeroed bytes to send from and to receive into.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn register_local(self: &Arc<Self>, len: usize) -> Result<LocalMemory, Error> {
        // Nobody else ever has this region, through which a slice's bytes could be reached while they are lent.
        self.register(len, Access::LOCAL_WRITE).map(LocalMemory)
    }
}

impl LocalMemory {
    /// Takes `len` bytes from `offset`, to be posted. No other slice gets any of them until this one is dropped.
    ///
    /// # Errors
    /// They reach outside, or another slice has some of them.
    pub fn slice(&self, offset: u64, len: u32) -> Result<Slice, SliceError> {
        Ok(self.0.slice(offset, len)?.lending())
    }
}

impl fmt::Debug for LocalMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalMemory").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Access, Device, DeviceSelector, ProtectionDomain};
    use std::sync::Arc;

    fn domain() -> Arc<ProtectionDomain> {
        let embedded: DeviceSelector = "embedded".parse().unwrap();
        Device::open(&embedded).unwrap().protection_domain().unwrap()
    }

    #[test]
    fn a_slice_lends_its_own_bytes_and_no_others() {
        let memory = domain().register_local(100).unwrap();
        let [mut before, mut slice, mut behind] =
            [(0, 40), (40, 20), (60, 40)].map(|(offset, len)| memory.slice(offset, len).unwrap());
        slice.bytes_mut().unwrap().fill(7);
        let mut copied = [0; 20];
        slice.read(0, &mut copied).unwrap();
        assert_eq!(copied, [7; 20]);
        slice.write(3, b"written").unwrap();
        assert_eq!(&slice.bytes().unwrap()[2..11], b"\x07written\x07");
        slice.set_len(1).unwrap();
        assert_eq!(slice.bytes().unwrap().len(), 20, "all of the capacity");
        for beside in [&mut before, &mut behind] {
            assert_eq!(beside.bytes_mut().unwrap(), [0; 40]);
        }
        assert_eq!(memory.slice(5, 0).unwrap().bytes(), Some(&[][..]));
    }

    #[test]
    fn memory_that_others_reach_is_not_lent() {
        let domain = domain();
        for access in [Access::LOCAL_WRITE, Access::LOCAL_WRITE | Access::REMOTE_WRITE, Access::REMOTE_READ] {
            let region = domain.register(100, access).unwrap();
            let mut slice = region.slice(0, 100).unwrap();
            assert_eq!(slice.bytes(), None, "through the region itself it can be written");
            assert_eq!(slice.bytes_mut(), None);
        }
    }
}
