//! Keys: 32 random bits that name a region, and the table that finds it.

use core::fmt;
use core::ptr;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::region::{Parts, Region};
use super::{Access, AccessError, Fault, Mapping};

/// The keys in use on one device, so that no two of its regions share one, whatever their protection domains.
///
/// Keys are drawn from the operating system's random generator, all 32 bits, never 0: what an attacker has
/// seen of other keys says nothing about the next.
pub struct KeySpace {
    used: Mutex<HashSet<u32>>,
    limit: usize,
}

/// A key in use; it is free again when the region that has it is gone.
pub(super) struct Key {
    value: u32,
    space: Arc<KeySpace>,
}

/// The regions of one protection domain, by key.
///
/// A key of another domain is unknown here: that is what keeps domains apart. Finding a key and finding none
/// cost the same: one keyed hash and one comparison of whole keys.
pub struct KeyTable {
    space: Arc<KeySpace>,
    regions: RwLock<Regions>,
}

#[derive(Default)]
struct Regions {
    by_lkey: HashMap<u32, Arc<Region>>,
    by_rkey: HashMap<u32, Arc<Region>>,
}

/// What to register: a part of a mapping, and what may be done with it.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The memory.
    pub mapping: Arc<Mapping>,
    /// Where the region begins in it.
    pub offset: usize,
    /// The region's bytes, at least 1.
    pub len: usize,
    /// The rights.
    pub access: Access,
    /// Whether a peer may end the region by SEND with invalidate, as it may a type 2 memory window.
    pub invalidatable: bool,
}

/// Why a region couldn't be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The access flags contradict each other.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The region would be empty or reach outside the mapping.
    #[error(
        "a region of {len} bytes at offset {offset} of a mapping of {size}: it must have at least one byte \
         and lie inside"
    )]
    Range {
        /// Where it should begin.
        offset: usize,
        /// How long it should be.
        len: usize,
        /// Bytes of the mapping.
        size: usize,
    },
    /// The device has as many regions as it may have.
    #[error("the device's limit of {limit} memory regions is reached; deregister some first")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random numbers for memory keys: {0}")]
    Random(getrandom::Error),
}

/// Keys a region has: local and remote.
const KEYS_PER_REGION: usize = 2;

impl KeySpace {
    /// A key space for at most `regions` regions (`max_mr` of the device).
    #[must_use]
    pub fn new(regions: usize) -> Self {
        Self { used: Mutex::default(), limit: regions }
    }

    /// The keys of a new region.
    fn draw(self: &Arc<Self>) -> Result<(Key, Key), RegisterError> {
        let mut used = self.used();
        if used.len() / KEYS_PER_REGION >= self.limit {
            return Err(RegisterError::TooMany { limit: self.limit });
        }
        let (lkey, rkey) = loop {
            // Both in one call of the operating system: that costs most of what a key does.
            let mut bytes = [[0; 4]; KEYS_PER_REGION];
            getrandom::fill(bytes.as_flattened_mut()).map_err(RegisterError::Random)?;
            let [lkey, rkey] = bytes.map(u32::from_ne_bytes);
            let is_free = |key| key != 0 && !used.contains(&key);
            if lkey != rkey && is_free(lkey) && is_free(rkey) {
                break (lkey, rkey);
            }
        };
        used.extend([lkey, rkey]);
        let key = |value| Key { value, space: Arc::clone(self) };
        Ok((key(lkey), key(rkey)))
    }

    fn used(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    pub(super) fn get(&self) -> u32 {
        self.value
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.space.used().remove(&self.value);
    }
}

impl KeyTable {
    /// An empty table whose keys come from `space`.
    #[must_use]
    pub fn new(space: Arc<KeySpace>) -> Self {
        Self { space, regions: RwLock::default() }
    }

    /// Registers a region under two new keys.
    ///
    /// # Errors
    /// [`RegisterError`] says what is wrong with the request or has run out.
    pub fn register(&self, request: Registration) -> Result<Arc<Region>, RegisterError> {
        let Registration { mapping, offset, len, access, invalidatable } = request;
        access.validate()?;
        let size = mapping.len();
        if len == 0 || size.checked_sub(offset).is_none_or(|room| len > room) {
            return Err(RegisterError::Range { offset, len, size });
        }
        let (lkey, rkey) = self.space.draw()?;
        let region = Arc::new(Region::new(Parts { mapping, offset, len, access, invalidatable, lkey, rkey }));
        let mut regions = self.regions_mut();
        regions.by_lkey.insert(region.lkey(), Arc::clone(&region));
        regions.by_rkey.insert(region.rkey(), Arc::clone(&region));
        Ok(region)
    }

    /// The region with that local key.
    ///
    /// # Errors
    /// [`Fault::UnknownKey`].
    pub fn by_lkey(&self, lkey: u32) -> Result<Arc<Region>, Fault> {
        self.regions().by_lkey.get(&lkey).cloned().ok_or(Fault::UnknownKey)
    }

    /// The region with that remote key.
    ///
    /// # Errors
    /// [`Fault::UnknownKey`].
    pub fn by_rkey(&self, rkey: u32) -> Result<Arc<Region>, Fault> {
        self.regions().by_rkey.get(&rkey).cloned().ok_or(Fault::UnknownKey)
    }

    /// A peer's request, in a SEND with invalidate, to end the region with that remote key. The region then
    /// refuses every access by either key, and its owner still has to deregister it.
    ///
    /// # Errors
    /// [`Fault::UnknownKey`], [`Fault::Revoked`] if it has ended already, or [`Fault::NotInvalidatable`].
    pub fn invalidate(&self, rkey: u32) -> Result<(), Fault> {
        let region = self.by_rkey(rkey)?;
        if !region.is_invalidatable() {
            return Err(Fault::NotInvalidatable);
        }
        if region.revoke() { Ok(()) } else { Err(Fault::Revoked) }
    }

    /// Ends a region. When this returns, no access to its memory is under way or can begin, and both keys are unknown.
    ///
    /// # Errors
    /// [`Fault::UnknownKey`] if it isn't (or no longer) a region of this table.
    pub fn deregister(&self, region: &Region) -> Result<(), Fault> {
        {
            let mut regions = self.regions_mut();
            if !regions.by_lkey.get(&region.lkey()).is_some_and(|known| ptr::eq(&**known, region)) {
                return Err(Fault::UnknownKey);
            }
            regions.by_lkey.remove(&region.lkey());
            regions.by_rkey.remove(&region.rkey());
        }
        region.revoke();
        Ok(())
    }

    /// The number of regions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.regions().by_lkey.len()
    }

    /// Whether there is no region.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn regions(&self) -> RwLockReadGuard<'_, Regions> {
        self.regions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn regions_mut(&self) -> RwLockWriteGuard<'_, Regions> {
        self.regions.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeyTable {
    /// Whoever still holds one of its regions finds it revoked.
    fn drop(&mut self) {
        for region in self.regions_mut().by_lkey.values() {
            region.revoke();
        }
    }
}

impl fmt::Debug for KeySpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySpace").field("used", &self.used().len()).field("regions", &self.limit).finish()
    }
}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyTable").field("regions", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
