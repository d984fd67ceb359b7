//! Protection domains and memory regions.

use super::context::Context;
use super::{check, made};
use crate::Error;
use core::ptr::NonNull;
use rdma_verbs_sys::{ibv_mr, ibv_pd};
use rocev2_device::memory::{Access, Mapping};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;

/// A protection domain.
pub(crate) struct Domain {
    pub(super) context: Arc<Context>,
    pub(super) raw: NonNull<ibv_pd>,
}

// SAFETY: libibverbs' objects aren't tied to a thread.
unsafe impl Send for Domain {}
// SAFETY: libibverbs locks what it has to.
unsafe impl Sync for Domain {}

impl Domain {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Self, Error> {
        // SAFETY: the context is open.
        let raw = made(unsafe { context.library.ibv_alloc_pd(context.raw.as_ptr()) })
            .map_err(context.failed("making a protection domain", ""))?;
        Ok(Self { context: Arc::clone(context), raw })
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: everything made in the domain holds it, so nothing is left; it is freed once.
        unsafe { self.context.library.ibv_dealloc_pd(self.raw.as_ptr()) };
    }
}

/// A memory region with its memory.
pub(crate) struct Region {
    domain: Arc<Domain>,
    mapping: Arc<Mapping>,
    raw: NonNull<ibv_mr>,
    access: Access,
    addr: u64,
    lkey: u32,
    rkey: u32,
}

// SAFETY: libibverbs' objects aren't tied to a thread.
unsafe impl Send for Region {}
// SAFETY: as above, and the memory is accessed through `Mapping` only.
unsafe impl Sync for Region {}

impl Region {
    /// Allocates and registers `len` zeroed bytes.
    pub(crate) fn new(domain: &Arc<Domain>, len: usize, access: Access) -> Result<Self, Error> {
        access.validate()?;
        let context = &domain.context;
        let limit = context.limits.max_mr_size;
        if limit > 0 && len as u64 > limit {
            let device = context.name().to_owned();
            return Err(Error::Limit { device, what: "bytes of a memory region", asked: len as u64, limit });
        }
        let mapping = Arc::new(Mapping::new(len)?);
        let library = context.library;
        let zero_based = access.contains(Access::ZERO_BASED);
        let flags = access.difference(Access::ZERO_BASED).bits();
        let start = mapping.as_ptr().cast();
        let raw = if zero_based {
            // SAFETY: the mapping has `len` bytes, and this region keeps it until it is deregistered.
            unsafe { library.ibv_reg_mr_iova2(domain.raw.as_ptr(), start, len, 0, flags) }
        } else {
            let flags = i32::try_from(flags).unwrap_or(0);
            // SAFETY: as above.
            unsafe { library.ibv_reg_mr(domain.raw.as_ptr(), start, len, flags) }
        };
        let raw = made(raw).map_err(|source| {
            let advice = register_advice(&source, len);
            context.failed("registering memory", advice)(source)
        })?;
        // SAFETY: the library made it, and its fields don't change.
        let ibv_mr { lkey, rkey, .. } = *unsafe { raw.as_ref() };
        let addr = if zero_based { 0 } else { mapping.address() };
        Ok(Self { domain: Arc::clone(domain), mapping, raw, access, addr, lkey, rkey })
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// The address of the first byte, as work requests and peers name it.
    pub(crate) fn addr(&self) -> u64 {
        self.addr
    }

    pub(super) fn raw(&self) -> NonNull<ibv_mr> {
        self.raw
    }

    pub(crate) fn rkey(&self) -> u32 {
        self.rkey
    }

    pub(super) fn lkey(&self) -> u32 {
        self.lkey
    }

    /// Whether its device is the one that `domain` belongs to.
    pub(crate) fn is_of(&self, domain: &Domain) -> bool {
        Arc::ptr_eq(&self.domain.context, &domain.context)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: it was registered by this library and is deregistered once.
        let result = unsafe { self.domain.context.library.ibv_dereg_mr(self.raw.as_ptr()) };
        if check(result).is_err() {
            // The device may still write there: this memory is never used for anything else.
            core::mem::forget(Arc::clone(&self.mapping));
        }
    }
}

/// What to do about memory that couldn't be registered: mostly the limit on locked memory.
fn register_advice(error: &io::Error, len: usize) -> Cow<'static, str> {
    if !matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EAGAIN | libc::EPERM)) {
        return "".into();
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    match limit {
        Some(limit) => format!(
            "; the {len} bytes must be locked in memory, and this process may lock {} KiB in all: raise the \
             limit (ulimit -l unlimited, memlock in /etc/security/limits.conf, LimitMEMLOCK=infinity for a \
             systemd service), or run as root",
            limit / 1024
        )
        .into(),
        None => "; this host has not so much memory to lock".into(),
    }
}
