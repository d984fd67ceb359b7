//! The regions and windows of one protection domain, by key.

use core::fmt;
use core::ptr;
use core::sync::atomic::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::key::{KeyError, KeySpace};
use super::region::Bounds;
use super::window::{Binding, NewKey, State, Unique};
use super::{
    Access, AccessError, Backing, Bind, BindError, Fault, QueuePairId, Region, RemoteMemory, Window,
    WindowType,
};

/// The regions and windows of one protection domain, by key.
///
/// A key of another domain is unknown here: that is what keeps domains apart. Finding a key and finding none
/// cost the same: one keyed hash and one comparison of whole keys.
pub struct KeyTable {
    space: Arc<KeySpace>,
    identity: Unique,
    entries: RwLock<Entries>,
}

#[derive(Default)]
struct Entries {
    by_lkey: HashMap<u32, Arc<Region>>,
    by_rkey: HashMap<u32, RemoteMemory>,
}

/// What to register: some memory, how it is named, and what may be done with it.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The memory; it may have no byte.
    pub backing: Backing,
    /// The region's first address. A region that is [`Access::ZERO_BASED`] has 0, whatever this says.
    pub base: Base,
    /// The rights.
    pub access: Access,
}

/// How peers and work requests name a region's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// By its address in this process, which tells peers, and whoever reads the packets, where things lie here.
    Address,
    /// By an address that the program has chosen (`iova`).
    At(u64),
    /// By an address drawn at random, as far from the beginning of a page as the byte is: so they learn nothing.
    Random,
}

/// Why a region couldn't be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The access flags contradict each other.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The region's last address would be beyond 2^64.
    #[error(
        "a region of {len} bytes goes beyond the last address from the one that was chosen for its first byte"
    )]
    Wraps {
        /// How long it should be.
        len: usize,
    },
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Why a region couldn't be deregistered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeregisterError {
    /// It isn't, or no longer, a region of this protection domain.
    #[error("this is no memory region of the protection domain")]
    Unknown,
    /// Windows are bound to it.
    #[error("memory windows are bound to the memory region: invalidate, unbind or deallocate them first")]
    WindowsBound,
}

/// Why a region's rights couldn't be changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The rights contradict each other.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The region isn't one, or isn't free.
    #[error(transparent)]
    Deregister(#[from] DeregisterError),
}

/// Who takes a window back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalidation {
    /// This process, by a work request (LOCAL_INV).
    Local,
    /// The peer of that queue pair (SEND with invalidate).
    Peer(QueuePairId),
}

/// The system's smallest page.
const PAGE: u64 = 4096;

/// Random addresses lie below this one, so that no region's last address is beyond 2^64.
const RANDOM_END: u64 = 1 << 62;

impl KeyTable {
    /// An empty table whose keys come from `space`.
    #[must_use]
    pub fn new(space: Arc<KeySpace>) -> Self {
        Self { space, identity: Unique::new(), entries: RwLock::default() }
    }

    /// Registers a region under two new keys.
    ///
    /// # Errors
    /// [`RegisterError`] says what is wrong with the request or has run out.
    pub fn register(&self, request: Registration) -> Result<Arc<Region>, RegisterError> {
        let Registration { backing, base, access } = request;
        access.validate()?;
        let keys = self.space.region()?;
        let (address, len) = (backing.address(), backing.len());
        let base = match base {
            _ if access.contains(Access::ZERO_BASED) => 0,
            Base::Address => address,
            Base::At(base) => base,
            Base::Random => random_base(keys.random, address),
        };
        if base.checked_add(len as u64).is_none() {
            return Err(RegisterError::Wraps { len });
        }
        let region = Arc::new(Region::new(backing, Bounds { base, len, access }, Arc::new(keys)));
        let mut entries = self.entries_mut();
        entries.by_lkey.insert(region.lkey(), Arc::clone(&region));
        entries.by_rkey.insert(region.rkey(), RemoteMemory::of_region(&region));
        Ok(region)
    }

    /// Puts a region with other rights in the place of `region`, under the same keys. When this returns, no access with
    /// the old rights is under way or can begin.
    ///
    /// # Errors
    /// The rights contradict each other, or the region isn't one of this table that no window is bound to; then it is
    /// as it was.
    pub fn change_access(&self, region: &Region, access: Access) -> Result<Arc<Region>, ChangeError> {
        access.validate().map_err(RegisterError::from)?;
        let changed = Arc::new(region.with_access(access));
        {
            let mut entries = self.entries_mut();
            entries.check_unused(region)?;
            entries.by_lkey.insert(changed.lkey(), Arc::clone(&changed));
            entries.by_rkey.insert(changed.rkey(), RemoteMemory::of_region(&changed));
        }
        region.revoke();
        Ok(changed)
    }

    /// Allocates a window, bound to nothing.
    ///
    /// # Errors
    /// There are too many.
    pub fn window(&self, kind: WindowType) -> Result<Arc<Window>, KeyError> {
        let (key, place) = self.space.window()?;
        Ok(Arc::new(Window::new(kind, self.identity, key, place)))
    }

    /// The region with that local key.
    ///
    /// # Errors
    /// [`Fault::UnknownKey`].
    pub fn by_lkey(&self, lkey: u32) -> Result<Arc<Region>, Fault> {
        self.entries().by_lkey.get(&lkey).cloned().ok_or(Fault::UnknownKey)
    }

    /// The region or bound window with that remote key.
    ///
    /// # Errors
    /// [`Fault::UnknownKey`].
    pub fn by_rkey(&self, rkey: u32) -> Result<RemoteMemory, Fault> {
        self.entries().by_rkey.get(&rkey).cloned().ok_or(Fault::UnknownKey)
    }

    /// Executes a bind on that queue pair. When this returns, the key that a type 1 window had before is unknown,
    /// and no access by it is under way.
    ///
    /// # Errors
    /// [`BindError`]; then the window is as it was.
    pub fn bind(&self, bind: &Bind, queue_pair: QueuePairId) -> Result<(), BindError> {
        let window = &bind.window;
        let mut state = window.state();
        if state.deallocated || window.domain() != self.identity {
            return Err(BindError::Window);
        }
        let range = bind.range.as_ref().filter(|range| range.len > 0);
        let variant = match (window.kind(), &bind.key) {
            (WindowType::Two, _) if range.is_none() => return Err(BindError::Empty),
            (WindowType::Two, _) if state.binding.is_some() => return Err(BindError::Bound),
            (WindowType::Two, NewKey::Variant(new)) if state.key.variant() == *new => {
                return Err(BindError::SameKey);
            }
            (_, NewKey::Variant(new)) => Some(*new),
            (_, NewKey::Fresh { .. }) => None,
        };
        let binding = range.map(|range| Binding::new(window, range, queue_pair)).transpose()?.map(Arc::new);

        let mut entries = self.entries_mut();
        let region = binding.as_ref().map(|binding| &binding.region);
        if region.is_some_and(|region| !entries.has(region)) {
            return Err(BindError::Region);
        }
        let key = match &bind.key {
            NewKey::Fresh { key, .. } => {
                Some(key.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(BindError::Executed)?)
            }
            NewKey::Variant(_) => None,
        };
        let before = entries.unbind(&mut state);
        if let Some(key) = key {
            state.key = key;
        }
        if let Some(variant) = variant {
            state.key.set_variant(variant);
        }
        if let Some(binding) = binding {
            binding.region.windows().fetch_add(1, Ordering::Relaxed);
            entries.by_rkey.insert(state.key.get(), RemoteMemory::of_window(&binding));
            state.binding = Some(binding);
        }
        drop(entries);
        drop(state);
        if let Some(before) = before {
            before.revoke();
        }
        Ok(())
    }

    /// Takes back what a type 2 window gives under that key: the window is free afterwards, the key unknown, and no
    /// access by it is under way when this returns.
    ///
    /// # Errors
    /// [`Fault::UnknownKey`]; [`Fault::NotInvalidatable`] for a region or a type 1 window;
    /// [`Fault::OtherQueuePair`] if a peer isn't the one who may use it.
    pub fn invalidate(&self, rkey: u32, by: Invalidation) -> Result<(), Fault> {
        let memory = self.by_rkey(rkey)?;
        let binding = memory.binding().ok_or(Fault::NotInvalidatable)?;
        match by {
            _ if binding.kind == WindowType::One => return Err(Fault::NotInvalidatable),
            Invalidation::Peer(queue_pair) if !binding.is_for(queue_pair) => {
                return Err(Fault::OtherQueuePair);
            }
            Invalidation::Local | Invalidation::Peer(_) => {}
        }
        let window = binding.window.upgrade().ok_or(Fault::UnknownKey)?;
        let mut state = window.state();
        // It may have been bound anew meanwhile.
        if !state.binding.as_ref().is_some_and(|current| Arc::ptr_eq(current, binding)) {
            return Err(Fault::UnknownKey);
        }
        self.entries_mut().unbind(&mut state);
        drop(state);
        binding.revoke();
        Ok(())
    }

    /// Deallocates a window of this table, whether it is bound or not. When this returns, no access by its key is
    /// under way or can begin.
    pub fn deallocate(&self, window: &Window) {
        let mut state = window.state();
        state.deallocated = true;
        let binding = self.entries_mut().unbind(&mut state);
        drop(state);
        if let Some(binding) = binding {
            binding.revoke();
        }
    }

    /// Ends a region. When this returns, no access to its memory is under way or can begin, and both keys are unknown.
    ///
    /// # Errors
    /// [`DeregisterError`]; then the region is as it was.
    pub fn deregister(&self, region: &Region) -> Result<(), DeregisterError> {
        {
            let mut entries = self.entries_mut();
            entries.check_unused(region)?;
            entries.remove(region);
        }
        region.revoke();
        Ok(())
    }

    /// Ends a region even if windows are bound to it: they give nothing any more.
    pub fn revoke(&self, region: &Region) {
        let mut entries = self.entries_mut();
        if entries.has(region) {
            entries.remove(region);
        }
        drop(entries);
        region.revoke();
    }

    /// The number of regions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries().by_lkey.len()
    }

    /// Whether there is no region.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries_mut(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address made of random bits, for the byte at `address`, whose place in its page it keeps. It is in no page that
/// programs take for invalid, the first one.
fn random_base(random: u64, address: u64) -> u64 {
    (PAGE + random % (RANDOM_END - PAGE)) / PAGE * PAGE + address % PAGE
}

impl Entries {
    fn has(&self, region: &Region) -> bool {
        self.by_lkey.get(&region.lkey()).is_some_and(|known| ptr::eq(&**known, region))
    }

    /// Whether it is a region of this table that no window is bound to.
    fn check_unused(&self, region: &Region) -> Result<(), DeregisterError> {
        if !self.has(region) {
            return Err(DeregisterError::Unknown);
        }
        if region.windows().load(Ordering::Relaxed) > 0 { Err(DeregisterError::WindowsBound) } else { Ok(()) }
    }

    fn remove(&mut self, region: &Region) {
        self.by_lkey.remove(&region.lkey());
        self.by_rkey.remove(&region.rkey());
    }

    /// Frees a window; what it was bound to, which the caller revokes when he has no lock any more.
    fn unbind(&mut self, state: &mut State) -> Option<Arc<Binding>> {
        let binding = state.binding.take()?;
        self.by_rkey.remove(&state.key.get());
        binding.region.windows().fetch_sub(1, Ordering::Relaxed);
        Some(binding)
    }
}

impl Drop for KeyTable {
    /// Whoever still holds one of its regions finds it revoked, and so does who holds what a window gives.
    fn drop(&mut self) {
        for region in self.entries_mut().by_lkey.values() {
            region.revoke();
        }
    }
}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyTable").field("regions", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
