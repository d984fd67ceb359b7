//! Keys: an index that nobody can guess and the byte behind it, the variant.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits of a key below its index (IBA 10.6.3.4: the part that the consumer owns).
const VARIANT_BITS: u32 = 8;

/// Indices in use at most: half of those there are, so that a free one is found in two draws on average.
const MAX_INDICES: usize = 1 << (u32::BITS - VARIANT_BITS - 1);

/// The keys in use on one device. No two of its regions and windows share an index, whatever their protection
/// domains, so that a window's owner may choose any variant.
///
/// A key is `index << 8 | variant`, and never 0. What of it is drawn from the host's random generator, so that keys
/// that an attacker has seen say nothing about it:
///
/// | key | random bits | |
/// |---|---|---|
/// | of a region, local and remote | 32 | index and variant, when it is registered |
/// | of a type 1 window | 32 | index and variant, anew for each bind |
/// | of a type 2 window | 24 | the index, when it is allocated; its owner chooses the variant of each bind |
///
/// A guess costs the guesser its queue pair, whether the key is unknown or known to another.
pub struct KeySpace {
    used: Mutex<HashSet<u32>>,
    max_used: usize,
    regions: Quota,
    windows: Quota,
    random: Box<Random>,
}

/// Fills bytes with what nobody can foresee.
type Random = dyn Fn(&mut [u8]) -> io::Result<()> + Send + Sync;

/// How many regions and windows a device may have.
#[derive(Debug, Clone, Copy)]
pub struct KeyLimits {
    /// Memory regions (`max_mr`).
    pub regions: usize,
    /// Memory windows (`max_mw`).
    pub windows: usize,
}

/// Why there was no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The device has as many as it may have.
    #[error("the device's limit of {limit} {what} is reached; free some first")]
    TooMany {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The host gave no random bytes.
    #[error("the host gives no random numbers for memory keys: {0}")]
    Random(io::Error),
}

struct Quota {
    what: &'static str,
    used: AtomicUsize,
    limit: usize,
}

/// One of the objects that a device may have; its place is free again when this is dropped.
pub(super) struct Place {
    space: Arc<KeySpace>,
    quota: fn(&KeySpace) -> &Quota,
}

/// An index in use, and a variant. The index is free again when the key is dropped.
pub(super) struct Key {
    index: u32,
    variant: u8,
    space: Arc<KeySpace>,
}

/// What a new region needs.
pub(super) struct RegionKeys {
    pub(super) lkey: Key,
    pub(super) rkey: Key,
    /// Random bits, for a base address that tells nothing.
    pub(super) random: u64,
    /// Held by the region for as long as it has its keys.
    pub(super) _place: Place,
}

impl KeySpace {
    /// A key space without keys. Those that it will have are drawn from `random`, which fills bytes with what nobody
    /// can foresee.
    #[must_use]
    pub fn new(
        limits: KeyLimits,
        random: impl Fn(&mut [u8]) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let quota = |what, limit| Quota { what, used: AtomicUsize::new(0), limit };
        Self {
            used: Mutex::default(),
            max_used: MAX_INDICES,
            regions: quota("memory regions", limits.regions),
            windows: quota("memory windows", limits.windows),
            random: Box::new(random),
        }
    }

    /// How many regions, windows and indices of keys are in use.
    pub(crate) fn usage(&self) -> (usize, usize, usize) {
        let [regions, windows] =
            [&self.regions, &self.windows].map(|quota| quota.used.load(Ordering::Relaxed));
        (regions, windows, self.used().len())
    }

    /// What a new region needs.
    pub(super) fn region(self: &Arc<Self>) -> Result<RegionKeys, KeyError> {
        let place = self.place(|space| &space.regions)?;
        // All in one call of the host: that costs most of what a key does.
        let [lkey, rkey, high, low] = self.draw()?;
        let random = u64::from(high) << u32::BITS | u64::from(low);
        Ok(RegionKeys { lkey: self.take(lkey)?, rkey: self.take(rkey)?, random, _place: place })
    }

    /// What a new window needs.
    pub(super) fn window(self: &Arc<Self>) -> Result<(Key, Place), KeyError> {
        let place = self.place(|space| &space.windows)?;
        Ok((self.key()?, place))
    }

    /// A new key.
    pub(super) fn key(self: &Arc<Self>) -> Result<Key, KeyError> {
        let [drawn] = self.draw()?;
        self.take(drawn)
    }

    /// `drawn` as a key, or another if its index is 0 or in use.
    fn take(self: &Arc<Self>, mut drawn: u32) -> Result<Key, KeyError> {
        let mut used = self.used();
        if used.len() >= self.max_used {
            return Err(KeyError::TooMany { what: "memory keys", limit: self.max_used });
        }
        loop {
            let index = drawn >> VARIANT_BITS;
            if index != 0 && used.insert(index) {
                let [.., variant] = drawn.to_be_bytes();
                return Ok(Key { index, variant, space: Arc::clone(self) });
            }
            [drawn] = self.draw()?;
        }
    }

    fn place(self: &Arc<Self>, quota: fn(&Self) -> &Quota) -> Result<Place, KeyError> {
        let Quota { what, used, limit } = quota(self);
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < *limit).then_some(used + 1))
            .map(|_| Place { space: Arc::clone(self), quota })
            .map_err(|_| KeyError::TooMany { what, limit: *limit })
    }

    /// Random numbers of the host.
    fn draw<const COUNT: usize>(&self) -> Result<[u32; COUNT], KeyError> {
        let mut bytes = [[0; 4]; COUNT];
        (self.random)(bytes.as_flattened_mut()).map_err(KeyError::Random)?;
        Ok(bytes.map(u32::from_ne_bytes))
    }

    fn used(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    /// The 32 bits.
    pub(super) fn get(&self) -> u32 {
        self.with(self.variant)
    }

    /// Another new key of the same space.
    pub(super) fn another(&self) -> Result<Self, KeyError> {
        self.space.key()
    }

    /// The 32 bits with another variant.
    pub(super) fn with(&self, variant: u8) -> u32 {
        self.index << VARIANT_BITS | u32::from(variant)
    }

    /// The byte that a window's owner may choose.
    pub(super) fn variant(&self) -> u8 {
        self.variant
    }

    /// Changes that byte.
    pub(super) fn set_variant(&mut self, variant: u8) {
        self.variant = variant;
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.space.used().remove(&self.index);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        (self.quota)(&self.space).used.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for KeySpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySpace")
            .field("keys", &self.used().len())
            .field("regions", &self.regions.used)
            .field("windows", &self.windows.used)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
