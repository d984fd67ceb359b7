//! Memory windows.

use crate::backend::{self, Buffers, MemoryWindow, SendOperation, WindowType};
use crate::boundary::{null, number};
use crate::domain::{Pd, handle};
use crate::post::{Work, request};
use crate::queue_pair::Qp;
use crate::region::Mr;
use libc::{EINVAL, c_int};
use rdma_verbs_sys::{
    IBV_MW_TYPE_1, IBV_MW_TYPE_2, ibv_mw, ibv_mw_bind, ibv_mw_bind_info, ibv_mw_type, ibv_pd, ibv_qp,
};
use std::cell::UnsafeCell;
use std::sync::atomic::Ordering;

/// A memory window.
#[repr(C)]
struct Mw {
    c: UnsafeCell<ibv_mw>,
    window: MemoryWindow,
}

/// The variant of a key is its last byte.
const VARIANT: u32 = 0xff;

/// The request of a queue pair that binds a window, and the key that it has afterwards. Of a window of type 2 the
/// program says `rkey`, whose last byte alone is its choice.
///
/// # Safety
/// The window and the region must be ours, and live.
pub(crate) unsafe fn bind(
    mw: *mut ibv_mw,
    rkey: Option<u32>,
    to: &ibv_mw_bind_info,
) -> Result<(Buffers, u32), c_int> {
    if mw.is_null() {
        return Err(EINVAL);
    }
    // SAFETY: it is the first field of ours, and the caller says that it lives.
    let window = unsafe { &(*mw.cast::<Mw>()).window };
    let wanted = if rkey.is_some() { WindowType::Two } else { WindowType::One };
    let own = window.window().rkey() & !VARIANT;
    if window.window().kind() != wanted || rkey.is_some_and(|rkey| rkey & !VARIANT != own) {
        return Err(EINVAL);
    }
    // SAFETY: as above.
    let region = if to.mr.is_null() { None } else { unsafe { Mr::of(to.mr).region() } };
    let variant = rkey.map(|rkey| rkey.to_le_bytes()[0]);
    let bind = backend::bind(window, variant, region, (to.addr, to.length), to.mw_access_flags)?;
    let rkey = bind.rkey();
    Ok((Buffers::Bind(Box::new(bind)), rkey))
}

operation! {
    std::ptr::null_mut(),
    /// ibv_alloc_mw(3).
    fn alloc_mw(pd: *mut ibv_pd, kind: ibv_mw_type) -> *mut ibv_mw {
        // SAFETY: the program says that it is one.
        let domain = unsafe { Pd::of(pd) };
        let device_kind = match kind {
            IBV_MW_TYPE_1 => WindowType::One,
            IBV_MW_TYPE_2 => WindowType::Two,
            _ => return null(EINVAL),
        };
        let window = match backend::window(&domain.domain, device_kind) {
            Ok(window) => window,
            Err(error) => return null(error),
        };
        domain.children.fetch_add(1, Ordering::AcqRel);
        let (context, rkey) = (domain.context(), window.window().rkey());
        let c = ibv_mw { context, pd, rkey, handle: handle(), r#type: kind };
        Box::into_raw(Box::new(Mw { c: UnsafeCell::new(c), window })).cast()
    }

    libc::EIO,
    /// ibv_dealloc_mw(3).
    fn dealloc_mw(mw: *mut ibv_mw) -> c_int {
        // SAFETY: `alloc_mw` made it, and the program is done with it.
        let whole = unsafe { Box::from_raw(mw.cast::<Mw>()) };
        // SAFETY: a domain that has children isn't freed.
        unsafe { Pd::of((*whole.c.get()).pd) }.children.fetch_sub(1, Ordering::AcqRel);
        0
    }

    libc::EIO,
    /// ibv_bind_mw(3).
    fn bind_mw(qp: *mut ibv_qp, mw: *mut ibv_mw, mw_bind: *mut ibv_mw_bind) -> c_int {
        // SAFETY: the program says that it is one.
        let qp = unsafe { Qp::of(qp) };
        // SAFETY: the program gave it.
        let ibv_mw_bind { wr_id: id, send_flags: flags, bind_info } = unsafe { *mw_bind };
        // SAFETY: the program's own.
        let bound = unsafe { bind(mw, None, &bind_info) }.and_then(|(buffers, rkey)| {
            let work = Work { id, flags, operation: SendOperation::BindWindow, destination: None };
            let request = request(qp, work, buffers, 0)?;
            qp.queue_pair.post_send(request).map_err(|error| backend::refused(&error))?;
            Ok(rkey)
        });
        match bound {
            Ok(rkey) => {
                // SAFETY: the program's own; it is to have the new key.
                unsafe { (*mw).rkey = rkey };
                0
            }
            Err(error) => number(error),
        }
    }
}
