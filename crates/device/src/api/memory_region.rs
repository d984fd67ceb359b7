//! Memory regions: of the device's own memory, and of the program's.

use crate::memory::{KeyTable, Mapping, Region};
#[cfg(target_os = "linux")]
use crate::{
    DeviceError, ProtectionDomain,
    memory::{Access, Backing, Base, Foreign, Registration},
};
use core::fmt;
use std::sync::Arc;

/// A registered memory region with its memory. Dropping it deregisters it, and windows that are bound to it give
/// nothing any more; the memory itself lives as long as a work request that names it.
pub struct MemoryRegion {
    mapping: Arc<Mapping>,
    region: Arc<Region>,
    keys: Arc<KeyTable>,
}

impl MemoryRegion {
    pub(crate) fn new(mapping: Arc<Mapping>, region: Arc<Region>, keys: Arc<KeyTable>) -> Self {
        Self { mapping, region, keys }
    }

    /// Its memory, all of which is the region.
    #[must_use]
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        self.keys.revoke(&self.region);
    }
}

impl fmt::Debug for MemoryRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRegion").field("len", &self.region.len()).finish_non_exhaustive()
    }
}

/// A registered memory region of memory that the program owns. Dropping it deregisters it, and windows that are
/// bound to it give nothing any more.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub struct ForeignRegion {
    region: Arc<Region>,
    base: Base,
    keys: Arc<KeyTable>,
}

/// What [`ForeignRegion::reregister`] changes; the rest stays.
#[cfg(target_os = "linux")]
#[derive(Debug, Default)]
pub struct Reregistration<'a> {
    /// The protection domain (`IBV_REREG_MR_CHANGE_PD`).
    pub domain: Option<&'a ProtectionDomain>,
    /// Other memory, and its first byte's address to peers (`IBV_REREG_MR_CHANGE_TRANSLATION`).
    pub memory: Option<(Foreign, Base)>,
    /// The rights (`IBV_REREG_MR_CHANGE_ACCESS`).
    pub access: Option<Access>,
}

#[cfg(target_os = "linux")]
impl ForeignRegion {
    pub(crate) fn new(region: Arc<Region>, base: Base, keys: Arc<KeyTable>) -> Self {
        Self { region, base, keys }
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Deregisters it. When this returns, nothing reads or writes the memory any more.
    ///
    /// # Errors
    /// Windows are bound to it. It is still registered then, and in the error.
    pub fn deregister(self) -> Result<(), (Self, DeviceError)> {
        self.keys.deregister(&self.region).map_err(|error| (self, error.into()))
    }

    /// Registers it anew with some of its attributes changed. If that is more than its rights, it has new keys
    /// afterwards, and the old ones are unknown, so that whoever knew them doesn't reach what they were never meant
    /// for.
    ///
    /// # Errors
    /// Windows are bound to it, or the new attributes can't be had. It is as it was then.
    pub fn reregister(&mut self, change: Reregistration<'_>) -> Result<(), DeviceError> {
        let Reregistration { domain, memory, access } = change;
        if let (None, None, Some(access)) = (&domain, &memory, access) {
            self.region = self.keys.change_access(&self.region, access)?;
            return Ok(());
        }
        let keys = Arc::clone(domain.map_or(&self.keys, ProtectionDomain::keys));
        let access = access.unwrap_or(self.region.access());
        let (backing, base) = match memory {
            Some((memory, base)) => (Backing::Foreign(Arc::new(memory)), base),
            None => (self.region.backing().clone(), self.base),
        };
        let region = keys.register(Registration { backing, base, access })?;
        // If windows are bound to this one, the new one deregisters itself.
        let new = Self { region, base, keys };
        self.keys.deregister(&self.region)?;
        *self = new;
        Ok(())
    }
}

#[cfg(target_os = "linux")]
impl Drop for ForeignRegion {
    fn drop(&mut self) {
        self.keys.revoke(&self.region);
    }
}
