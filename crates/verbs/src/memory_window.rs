//! Memory windows: parts of a region under keys of their own, given and withdrawn by work requests.

use crate::domain::ProtectionDomain;
use crate::options::WindowType;
use crate::region::{Access, MemoryRegion, Registered, RemoteRegion};
use crate::{Error, SliceError, provider};
use core::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A memory window (`ibv_alloc_mw(3)`): once [bound](crate::SendRequest::bind_window), a peer reaches a part of
/// a region by the window's key.
///
/// Drop one of type 2 that is bound before the queue pair that bound it: Soft-RoCE (Linux 6.1) waits for the window
/// for half a minute before it gives up the queue pair.
pub struct MemoryWindow {
    provider: provider::MemoryWindow,
    /// The region that it was last bound to, and the one before, to which it is bound until that has been
    /// done: they stay registered. (Of older ones the device knows by itself, and refuses to let them go.)
    bound: Mutex<[Option<Arc<Registered>>; 2]>,
    /// Outlives the window.
    _domain: Arc<ProtectionDomain>,
}

impl ProtectionDomain {
    /// A memory window, bound to nothing.
    ///
    /// # Errors
    /// The device has none, or no more.
    pub fn memory_window(self: &Arc<Self>, kind: WindowType) -> Result<Arc<MemoryWindow>, Error> {
        let provider = self.provider().memory_window(kind)?;
        Ok(Arc::new(MemoryWindow { provider, bound: Mutex::default(), _domain: Arc::clone(self) }))
    }
}

impl MemoryWindow {
    /// The key that it has once the binding that was posted last has completed; before, it may be the one before.
    #[must_use]
    pub fn rkey(&self) -> u32 {
        self.provider.rkey()
    }

    pub(crate) fn provider(&self) -> &provider::MemoryWindow {
        &self.provider
    }

    /// It is about to be bound to that region, which it keeps from now on.
    pub(crate) fn keep(&self, range: &WindowRange) {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let [last, before] = &mut *bound;
        *before = last.replace(Arc::clone(&range.registered));
    }
}

impl fmt::Debug for MemoryWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key isn't for logs.
        f.debug_struct("MemoryWindow").finish_non_exhaustive()
    }
}

/// A part of a region, and what a peer may do there: what a window shows. The region must have been
/// registered with [`Access::MW_BIND`], and with local write access where peers may write.
#[derive(Clone)]
pub struct WindowRange {
    registered: Arc<Registered>,
    offset: u64,
    len: u64,
    access: Access,
}

impl MemoryRegion {
    /// `len` bytes from `offset`, for a window.
    ///
    /// # Errors
    /// They reach outside.
    pub fn window_range(&self, offset: u64, len: u64, access: Access) -> Result<WindowRange, SliceError> {
        let registered = self.registered_range(offset, len)?;
        Ok(WindowRange { registered, offset, len, access })
    }
}

impl WindowRange {
    /// What a peer needs to reach it by `window`, once that is bound to it.
    #[must_use]
    pub fn remote(&self, window: &MemoryWindow) -> RemoteRegion {
        let addr = self.registered.memory().addr().wrapping_add(self.offset);
        RemoteRegion { addr, rkey: window.rkey(), len: self.len }
    }

    pub(crate) fn provided(&self) -> provider::WindowRange<'_> {
        let (offset, len, access) = (self.offset, self.len, self.access);
        provider::WindowRange { region: self.registered.memory(), offset, len, access }
    }
}

impl fmt::Debug for WindowRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowRange")
            .field("offset", &self.offset)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
