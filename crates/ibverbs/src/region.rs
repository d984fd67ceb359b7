//! Memory regions.

use crate::backend::{self, ForeignRegion};
use crate::boundary::{null, number, set_errno};
use crate::context::Context;
use crate::domain::{Pd, handle};
use libc::{EINVAL, c_int, c_uint, c_void, size_t};
use rdma_verbs_sys::{
    IBV_REREG_MR_CHANGE_ACCESS, IBV_REREG_MR_CHANGE_PD, IBV_REREG_MR_CHANGE_TRANSLATION,
    IBV_REREG_MR_ERR_CMD, IBV_REREG_MR_ERR_INPUT, ibv_mr, ibv_pd,
};
use std::cell::UnsafeCell;
use std::sync::atomic::Ordering;

/// A memory region.
#[repr(C)]
pub(crate) struct Mr {
    c: UnsafeCell<ibv_mr>,
    /// There, but while it is being deregistered.
    region: UnsafeCell<Option<ForeignRegion>>,
}

impl Mr {
    /// The region that a program means.
    ///
    /// # Safety
    /// It must be one of ours that isn't deregistered.
    pub(crate) unsafe fn of<'a>(c: *mut ibv_mr) -> &'a Self {
        // SAFETY: it is the first field of ours.
        unsafe { &*c.cast() }
    }

    /// What it is on the device; nothing while it is being deregistered.
    ///
    /// # Safety
    /// Nobody may register it anew meanwhile.
    pub(crate) unsafe fn region(&self) -> Option<&ForeignRegion> {
        // SAFETY: the caller says so.
        unsafe { (*self.region.get()).as_ref() }
    }
}

/// # Safety
/// As ibv_reg_mr(3) demands.
unsafe fn register(pd: *mut ibv_pd, addr: *mut c_void, length: usize, iova: u64, access: u32) -> *mut ibv_mr {
    // SAFETY: the program says that it is one.
    let domain = unsafe { Pd::of(pd) };
    // SAFETY: a context that has children isn't freed.
    if let Err(error) = unsafe { Context::of(domain.context()) }.check() {
        return null(error);
    }
    // SAFETY: the program keeps the memory until it deregisters it.
    let region = match unsafe { backend::register(&domain.domain, addr.cast(), length, iova, access) } {
        Ok(region) => region,
        Err(error) => return null(error),
    };
    domain.children.fetch_add(1, Ordering::AcqRel);
    let c = ibv_mr {
        context: domain.context(),
        pd,
        addr,
        length,
        handle: handle(),
        lkey: region.region().lkey(),
        rkey: region.region().rkey(),
    };
    let whole = Mr { c: UnsafeCell::new(c), region: UnsafeCell::new(Some(region)) };
    Box::into_raw(Box::new(whole)).cast()
}

export! {
    "IBVERBS_1.1", std::ptr::null_mut(),
    /// ibv_reg_mr(3).
    fn ibv_reg_mr(pd: *mut ibv_pd, addr: *mut c_void, length: size_t, access: c_int) -> *mut ibv_mr {
        // SAFETY: as the program has it.
        unsafe { register(pd, addr, length, addr.addr() as u64, access.cast_unsigned()) }
    }

    "IBVERBS_1.7", std::ptr::null_mut(),
    /// ibv_reg_mr_iova(3).
    fn ibv_reg_mr_iova(pd: *mut ibv_pd, addr: *mut c_void, length: size_t, iova: u64, access: c_int) -> *mut ibv_mr {
        // SAFETY: as the program has it.
        unsafe { register(pd, addr, length, iova, access.cast_unsigned()) }
    }

    "IBVERBS_1.8", std::ptr::null_mut(),
    /// What ibv_reg_mr(3) is compiled to where optional access flags may be among `access`.
    fn ibv_reg_mr_iova2(pd: *mut ibv_pd, addr: *mut c_void, length: size_t, iova: u64, access: c_uint) -> *mut ibv_mr {
        // SAFETY: as the program has it.
        unsafe { register(pd, addr, length, iova, access) }
    }

    "IBVERBS_1.1", libc::EIO,
    /// ibv_dereg_mr(3).
    fn ibv_dereg_mr(mr: *mut ibv_mr) -> c_int {
        // SAFETY: the program says that it is one, and that nobody else uses it.
        let place = unsafe { &mut *Mr::of(mr).region.get() };
        if let Some(Err((region, error))) = place.take().map(backend::deregister) {
            *place = Some(region);
            return number(error);
        }
        // SAFETY: nobody writes it any more; a domain that has children isn't freed.
        unsafe { Pd::of((*mr).pd) }.children.fetch_sub(1, Ordering::AcqRel);
        // SAFETY: `register` made it, and the program is done with it.
        drop(unsafe { Box::from_raw(mr.cast::<Mr>()) });
        0
    }

    "IBVERBS_1.1", IBV_REREG_MR_ERR_CMD,
    /// ibv_rereg_mr(3). A region of which more than the rights change has new keys afterwards.
    fn ibv_rereg_mr(
        mr: *mut ibv_mr,
        flags: c_int,
        pd: *mut ibv_pd,
        addr: *mut c_void,
        length: size_t,
        access: c_int,
    ) -> c_int {
        const TRANSLATION: u32 = IBV_REREG_MR_CHANGE_TRANSLATION;
        const PD: u32 = IBV_REREG_MR_CHANGE_PD;
        const ACCESS: u32 = IBV_REREG_MR_CHANGE_ACCESS;
        let flags = flags.cast_unsigned();
        let refused = |error| {
            set_errno(error);
            IBV_REREG_MR_ERR_INPUT
        };
        if flags == 0 || flags & !(TRANSLATION | PD | ACCESS) != 0 || (flags & PD != 0 && pd.is_null()) {
            return refused(EINVAL);
        }
        // SAFETY: the program says that it is one, and that nobody else uses it meanwhile.
        let (c, region) = unsafe { (&mut *mr, &mut *Mr::of(mr).region.get()) };
        let Some(region) = region else { return refused(EINVAL) };
        let next = if flags & PD != 0 { pd } else { c.pd };
        // SAFETY: the program says that both are domains; the old one has this child.
        let (domain, before) = unsafe { (Pd::of(next), Pd::of(c.pd)) };
        let moves = (flags & PD != 0).then_some(&*domain.domain);
        let place = (flags & TRANSLATION != 0).then_some((addr.cast(), length));
        let access = (flags & ACCESS != 0).then_some(access.cast_unsigned());
        // SAFETY: the program keeps the memory.
        if let Err(error) = unsafe { backend::reregister(region, moves, place, access) } {
            return refused(error);
        }
        domain.children.fetch_add(1, Ordering::AcqRel);
        before.children.fetch_sub(1, Ordering::AcqRel);
        c.pd = next;
        if flags & TRANSLATION != 0 {
            (c.addr, c.length) = (addr, length);
        }
        (c.lkey, c.rkey) = (region.region().lkey(), region.region().rkey());
        number(0)
    }
}
