//! Memory windows.

use super::memory::Domain;
use super::{check, made};
use crate::Error;
use crate::options::WindowType;
use crate::provider::WindowRange;
use core::ptr::NonNull;
use rdma_verbs_sys::{IBV_MW_TYPE_1, IBV_MW_TYPE_2, ibv_mr, ibv_mw, ibv_mw_bind, ibv_mw_bind_info, ibv_qp};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A memory window.
pub(crate) struct Window {
    domain: Arc<Domain>,
    raw: NonNull<ibv_mw>,
    kind: WindowType,
    /// One thread at a time binds it.
    binding: Mutex<()>,
    rkey: AtomicU32,
}

// SAFETY: libibverbs' objects aren't tied to a thread.
unsafe impl Send for Window {}
// SAFETY: libibverbs locks what it has to, but for the key, which `binding` guards.
unsafe impl Sync for Window {}

impl Window {
    pub(crate) fn new(domain: &Arc<Domain>, kind: WindowType) -> Result<Self, Error> {
        let context = &domain.context;
        let number = match kind {
            WindowType::One => IBV_MW_TYPE_1,
            WindowType::Two => IBV_MW_TYPE_2,
        };
        // SAFETY: the domain exists.
        let raw = made(unsafe { rdma_verbs_sys::ibv_alloc_mw(domain.raw.as_ptr(), number) })
            .map_err(context.failed("making a memory window", ""))?;
        // SAFETY: the library made it, and nobody has bound it yet.
        let rkey = AtomicU32::new(unsafe { (*raw.as_ptr()).rkey });
        Ok(Self { domain: Arc::clone(domain), raw, kind, binding: Mutex::default(), rkey })
    }

    pub(crate) fn rkey(&self) -> u32 {
        self.rkey.load(Ordering::Relaxed)
    }

    pub(super) fn raw(&self) -> NonNull<ibv_mw> {
        self.raw
    }

    /// The key for the next binding of a window of type 2: its owner chooses the last byte, which must change.
    /// `None` for one of type 1, of which the library chooses.
    pub(super) fn next_rkey(&self) -> Option<u32> {
        let rkey = self.rkey();
        (self.kind == WindowType::Two).then_some(rkey & !0xff | rkey.wrapping_add(1) & 0xff)
    }

    /// Held by the one who binds: the library reads and writes its own copy of the key meanwhile.
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.binding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The binding of a window of type 2 by `rkey` was posted. The library leaves it to its caller to note the
    /// key, which it needs for the next binding.
    pub(super) fn was_posted(&self, rkey: u32, _binding: &MutexGuard<'_, ()>) {
        // SAFETY: the window exists, and one thread at a time has the lock.
        unsafe { (*self.raw.as_ptr()).rkey = rkey };
        self.rkey.store(rkey, Ordering::Relaxed);
    }

    /// Posts the binding of a window of type 1.
    ///
    /// # Safety
    /// The queue pair must exist, and what `bind` names must stay until the request has completed.
    pub(super) unsafe fn bind(&self, qp: NonNull<ibv_qp>, mut bind: ibv_mw_bind) -> io::Result<()> {
        let _binding = self.lock();
        // SAFETY: the window exists; the caller vouches for the rest.
        check(unsafe { rdma_verbs_sys::ibv_bind_mw(qp.as_ptr(), self.raw.as_ptr(), &raw mut bind) })?;
        // SAFETY: the library writes the key in the call above alone, which one thread makes at a time.
        let rkey = unsafe { (*self.raw.as_ptr()).rkey };
        self.rkey.store(rkey, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn is_of(&self, domain: &Domain) -> bool {
        Arc::ptr_eq(&self.domain.context, &domain.context)
    }
}

/// What a window is bound to, as the library takes it; `None` if the region is another device's.
pub(super) fn info(range: &WindowRange<'_>, domain: &Domain) -> Option<ibv_mw_bind_info> {
    let region = range.region.ibv().ok().filter(|region| region.is_of(domain))?;
    let mr: NonNull<ibv_mr> = region.raw();
    Some(ibv_mw_bind_info {
        mr: mr.as_ptr(),
        addr: region.addr().wrapping_add(range.offset),
        length: range.len,
        mw_access_flags: range.access.bits(),
    })
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: it was made by this library and is deallocated once; requests that name it keep it.
        unsafe { rdma_verbs_sys::ibv_dealloc_mw(self.raw.as_ptr()) };
    }
}
