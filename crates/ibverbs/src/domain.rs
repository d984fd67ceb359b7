//! Protection domains; parent and thread domains, which say how a program uses them and change nothing here.

use crate::backend::ProtectionDomain;
use crate::boundary::{null, number};
use crate::context::Context;
use libc::{EBUSY, EINVAL, EOPNOTSUPP, c_int};
use rdma_verbs_sys::{
    IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS, IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT, ibv_context,
    ibv_parent_domain_init_attr, ibv_pd, ibv_td, ibv_td_init_attr,
};
use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// A protection domain, or a parent domain: another name for one.
#[repr(C)]
pub(crate) struct Pd {
    c: UnsafeCell<ibv_pd>,
    pub(crate) domain: Arc<ProtectionDomain>,
    /// What was made in it and is still there.
    pub(crate) children: AtomicUsize,
    /// The protection domain that a parent domain stands for, and the thread domain that goes with it.
    of: Option<(*mut ibv_pd, *mut ibv_td)>,
}

/// A thread domain.
#[repr(C)]
struct Td {
    c: UnsafeCell<ibv_td>,
    users: AtomicUsize,
}

static HANDLES: AtomicU32 = AtomicU32::new(1);

/// A number for an object, as the kernel would give it one.
pub(crate) fn handle() -> u32 {
    HANDLES.fetch_add(1, Ordering::Relaxed)
}

impl Pd {
    /// The protection domain that a program means.
    ///
    /// # Safety
    /// It must be one of ours that isn't deallocated.
    pub(crate) unsafe fn of<'a>(c: *mut ibv_pd) -> &'a Self {
        // SAFETY: it is the first field of ours.
        unsafe { &*c.cast() }
    }

    fn leak(
        context: *mut ibv_context,
        domain: Arc<ProtectionDomain>,
        of: Option<(*mut ibv_pd, *mut ibv_td)>,
    ) -> *mut ibv_pd {
        let c = UnsafeCell::new(ibv_pd { context, handle: handle() });
        Box::into_raw(Box::new(Self { c, domain, children: AtomicUsize::new(0), of })).cast()
    }

    /// The device that it was made in.
    pub(crate) fn context(&self) -> *mut ibv_context {
        // SAFETY: nobody writes it.
        unsafe { (*self.c.get()).context }
    }
}

impl Td {
    unsafe fn of<'a>(c: *mut ibv_td) -> &'a Self {
        // SAFETY: it is the first field of ours, and the program says that it lives.
        unsafe { &*c.cast() }
    }
}

export! {
    "IBVERBS_1.1", std::ptr::null_mut(),
    /// ibv_alloc_pd(3).
    fn ibv_alloc_pd(context: *mut ibv_context) -> *mut ibv_pd {
        // SAFETY: the program says that it is open.
        let opened = unsafe { Context::of(context) };
        if let Err(error) = opened.check() {
            return null(error);
        }
        opened.children.fetch_add(1, Ordering::AcqRel);
        Pd::leak(context, Arc::new(opened.backend.domain()), None)
    }

    "IBVERBS_1.1", libc::EIO,
    /// ibv_dealloc_pd(3).
    fn ibv_dealloc_pd(pd: *mut ibv_pd) -> c_int {
        // SAFETY: the program says that it is one.
        let domain = unsafe { Pd::of(pd) };
        if domain.children.load(Ordering::Acquire) != 0 {
            return number(EBUSY);
        }
        match domain.of {
            Some((parent, td)) => {
                // SAFETY: neither can be deallocated before this.
                unsafe { Pd::of(parent) }.children.fetch_sub(1, Ordering::AcqRel);
                if !td.is_null() {
                    // SAFETY: as above.
                    unsafe { Td::of(td) }.users.fetch_sub(1, Ordering::AcqRel);
                }
            }
            None => {
                // SAFETY: a context that has children isn't freed.
                unsafe { Context::of(domain.context()) }.children.fetch_sub(1, Ordering::AcqRel);
            }
        }
        // SAFETY: `leak` made it, and nothing that was made in it is left.
        drop(unsafe { Box::from_raw(pd.cast::<Pd>()) });
        0
    }
}

operation! {
    std::ptr::null_mut(),
    /// ibv_alloc_td(3).
    fn alloc_td(context: *mut ibv_context, attr: *mut ibv_td_init_attr) -> *mut ibv_td {
        // SAFETY: the attributes are a mask.
        if unsafe { (*attr).comp_mask } != 0 {
            return null(EINVAL);
        }
        // SAFETY: the program says that it is open.
        unsafe { Context::of(context) }.children.fetch_add(1, Ordering::AcqRel);
        let c = UnsafeCell::new(ibv_td { context });
        Box::into_raw(Box::new(Td { c, users: AtomicUsize::new(0) })).cast()
    }

    libc::EIO,
    /// ibv_dealloc_td(3).
    fn dealloc_td(td: *mut ibv_td) -> c_int {
        // SAFETY: the program says that it is one.
        let thread = unsafe { Td::of(td) };
        if thread.users.load(Ordering::Acquire) != 0 {
            return number(EBUSY);
        }
        // SAFETY: nobody writes it, and a context that has children isn't freed.
        unsafe { Context::of((*thread.c.get()).context) }.children.fetch_sub(1, Ordering::AcqRel);
        // SAFETY: `alloc_td` made it.
        drop(unsafe { Box::from_raw(td.cast::<Td>()) });
        0
    }

    std::ptr::null_mut(),
    /// ibv_alloc_parent_domain(3). The program's own allocators aren't needed: no memory here is shared with a device.
    fn alloc_parent_domain(context: *mut ibv_context, attr: *mut ibv_parent_domain_init_attr) -> *mut ibv_pd {
        const KNOWN: u32 = IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS | IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT;
        // SAFETY: the program gave the attributes.
        let (pd, td, mask) = unsafe { ((*attr).pd, (*attr).td, (*attr).comp_mask) };
        if mask & !KNOWN != 0 {
            return null(EOPNOTSUPP);
        }
        if pd.is_null() {
            return null(EINVAL);
        }
        // SAFETY: the program says that it is one.
        let parent = unsafe { Pd::of(pd) };
        parent.children.fetch_add(1, Ordering::AcqRel);
        if !td.is_null() {
            // SAFETY: as above.
            unsafe { Td::of(td) }.users.fetch_add(1, Ordering::AcqRel);
        }
        Pd::leak(context, Arc::clone(&parent.domain), Some((pd, td)))
    }
}
