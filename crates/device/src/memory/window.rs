//! Memory windows: rights to a part of a region that are given and taken back by work requests.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};

use super::key::{Key, KeyError, Place};
use super::region::Bounds;
use super::{Access, Fault, Region};

/// The two types of memory window (IBA 10.6.7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowType {
    /// Usable on every queue pair of the protection domain; each bind gives it a new key, and binding it to nothing
    /// takes the old one back.
    One,
    /// Type 2B: usable on the queue pair alone that bound it; its owner chooses the last byte of the key. It is
    /// bound while it is free, and free again once it has been invalidated, by either side.
    Two,
}

/// A memory window. It is bound to a part of a region or not.
pub struct Window {
    kind: WindowType,
    /// The protection domain.
    domain: Unique,
    state: Mutex<State>,
    _place: Place,
}

/// What a window is at the moment. Locked before its table, if both are.
pub(super) struct State {
    pub(super) key: Key,
    pub(super) binding: Option<Arc<Binding>>,
    pub(super) deallocated: bool,
}

/// A part of a region that peers reach by a window's key, from one bind to whatever ends it.
pub(super) struct Binding {
    pub(super) window: Weak<Window>,
    pub(super) kind: WindowType,
    pub(super) region: Arc<Region>,
    /// Where it begins in the region.
    pub(super) offset: usize,
    pub(super) bounds: Bounds,
    /// Of a type 2 window.
    pub(super) queue_pair: Option<QueuePairId>,
    /// As in [`Region`].
    revoked: RwLock<bool>,
}

/// A work request that binds a window; it is made when it is posted, and takes effect when it is executed.
pub struct Bind {
    pub(super) window: Arc<Window>,
    pub(super) key: NewKey,
    pub(super) range: Option<WindowRange>,
}

/// The key after a bind.
pub(super) enum NewKey {
    /// A type 1 window's: another one. It is gone once the bind has been executed.
    Fresh { rkey: u32, key: Mutex<Option<Key>> },
    /// A type 2 window's: the same index, with this variant.
    Variant(u8),
}

/// What a window is bound to.
#[derive(Debug, Clone)]
pub struct WindowRange {
    /// The region, which must have [`Access::MW_BIND`].
    pub region: Arc<Region>,
    /// The address of the first byte, as the region counts.
    pub va: u64,
    /// How many bytes.
    pub len: u64,
    /// What peers may do: the remote rights, and [`Access::ZERO_BASED`] if they shall count addresses from 0 at the
    /// window's first byte. Other flags mean nothing here.
    pub access: Access,
}

/// Why a bind couldn't be executed (it completes with `MW_BIND_ERR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// The window is another protection domain's, or has been deallocated.
    #[error("the memory window belongs to another protection domain, or has been deallocated")]
    Window,
    /// The region is another protection domain's, or has been deregistered.
    #[error("the memory region belongs to another protection domain, or has been deregistered")]
    Region,
    /// The type 2 window is bound already.
    #[error("the memory window is bound: invalidate it first")]
    Bound,
    /// The type 2 window's new key would be its last one.
    #[error("the memory window's new key is its old one: change its last byte")]
    SameKey,
    /// A type 2 window can't be bound to nothing.
    #[error("a type 2 memory window can't be bound to 0 bytes: invalidate it instead")]
    Empty,
    /// A type 1 window can't be zero-based (IBA o10-36.2.2).
    #[error("a type 1 memory window can't be zero-based")]
    ZeroBased,
    /// The region wasn't registered for windows, or gives less than the window should.
    #[error("the memory region was registered without {0:?}")]
    NotPermitted(Access),
    /// The range reaches outside the region.
    #[error("the memory window would reach outside its memory region")]
    OutOfRange,
    /// This request has been executed already.
    #[error("the bind has been executed already")]
    Executed,
}

/// A number that nothing else in this process has: unlike a queue pair's number or an address it isn't used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Unique(u64);

/// The identity of a queue pair, for the windows that are bound to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QueuePairId(Unique);

impl Unique {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl QueuePairId {
    /// One that no queue pair has had.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Self {
        Self(Unique::new())
    }
}

impl Window {
    pub(super) fn new(kind: WindowType, domain: Unique, key: Key, place: Place) -> Self {
        let state = Mutex::new(State { key, binding: None, deallocated: false });
        Self { kind, domain, state, _place: place }
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> WindowType {
        self.kind
    }

    /// The key that peers name it by while it is bound; the one it had last, or will have at first, otherwise.
    #[must_use]
    pub fn rkey(&self) -> u32 {
        self.state().key.get()
    }

    /// Whether it is bound.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.state().binding.is_some()
    }

    pub(super) fn domain(&self) -> Unique {
        self.domain
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bind {
    /// A request that binds the window to `range`. Without one, or with one of 0 bytes, a type 1 window is unbound.
    ///
    /// A type 2 window's key ends with `variant`, or with the next one (as `ibv_inc_rkey` has it) if there is none;
    /// a type 1 window's key is drawn at random.
    ///
    /// # Errors
    /// There is no key for a type 1 window.
    pub fn new(
        window: &Arc<Window>,
        variant: Option<u8>,
        range: Option<WindowRange>,
    ) -> Result<Self, KeyError> {
        let state = window.state();
        let key = match window.kind {
            WindowType::One => {
                let key = state.key.another()?;
                NewKey::Fresh { rkey: key.get(), key: Mutex::new(Some(key)) }
            }
            WindowType::Two => NewKey::Variant(variant.unwrap_or(state.key.variant().wrapping_add(1))),
        };
        drop(state);
        Ok(Self { window: Arc::clone(window), key, range })
    }

    /// The window's key from the moment when this has been executed.
    #[must_use]
    pub fn rkey(&self) -> u32 {
        match &self.key {
            NewKey::Fresh { rkey, .. } => *rkey,
            NewKey::Variant(variant) => self.window.state().key.with(*variant),
        }
    }
}

impl Binding {
    /// What `range` asks for, if its region allows it; the caller has checked that the region is one of the domain's.
    pub(super) fn new(
        window: &Arc<Window>,
        range: &WindowRange,
        queue_pair: QueuePairId,
    ) -> Result<Self, BindError> {
        let WindowRange { region, va, len, access } = range;
        let zero_based = access.contains(Access::ZERO_BASED);
        if zero_based && window.kind == WindowType::One {
            return Err(BindError::ZeroBased);
        }
        let access = access.intersection(Access::REMOTE);
        // IBA C10-73 and C10-74; a peer changes only what this process may change.
        let changes = access.intersects(Access::REMOTE_WRITE.union(Access::REMOTE_ATOMIC));
        let needed = if changes { Access::MW_BIND | Access::LOCAL_WRITE } else { Access::MW_BIND };
        let len = usize::try_from(*len).map_err(|_| BindError::OutOfRange)?;
        let offset = region.bounds().locate(*va, len, needed).map_err(|fault| match fault {
            Fault::NotPermitted(missing) => BindError::NotPermitted(missing),
            _ => BindError::OutOfRange,
        })?;
        Ok(Self {
            window: Arc::downgrade(window),
            kind: window.kind,
            region: Arc::clone(region),
            offset,
            bounds: Bounds { base: if zero_based { 0 } else { *va }, len, access },
            queue_pair: (window.kind == WindowType::Two).then_some(queue_pair),
            revoked: RwLock::new(false),
        })
    }

    /// Keeps the window from being taken back while the guard lives.
    pub(super) fn enter(&self) -> Result<RwLockReadGuard<'_, bool>, Fault> {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        if *revoked { Err(Fault::Revoked) } else { Ok(revoked) }
    }

    /// Ends every right at once. When this returns, no access is under way any more.
    pub(super) fn revoke(&self) {
        *self.revoked.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Whether it is usable on that queue pair.
    pub(super) fn is_for(&self, queue_pair: QueuePairId) -> bool {
        self.queue_pair.is_none_or(|own| own == queue_pair)
    }
}

impl fmt::Debug for Window {
    /// Without its key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("kind", &self.kind)
            .field("bound", &self.is_bound())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Bind {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.range.as_ref().map(|range| (range.len, range.access));
        f.debug_struct("Bind").field("window", &self.window).field("range", &range).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
