//! The functions that C programs get from the header rather than from the library: each calls what the
//! device's driver has put into [`ibv_context::ops`](crate::ibv_context::ops).
//!
//! libibverbs fills every place there, with a function that reports an error if the driver has none. Should
//! one be empty nevertheless, these report `EOPNOTSUPP`.

use core::ptr;

use libc::{__errno_location, EINVAL, EOPNOTSUPP, c_int};

use crate::{
    IBV_MW_TYPE_1, ibv_cq, ibv_mw, ibv_mw_bind, ibv_mw_type, ibv_pd, ibv_qp, ibv_recv_wr, ibv_send_wr,
    ibv_srq, ibv_wc,
};

/// Takes up to `num_entries` completions out of `cq`: ibv_poll_cq(3). Returns how many there were; less than
/// 0 on failure.
///
/// # Safety
/// `cq` must be a completion queue that the library created and that isn't destroyed; `wc` must have room for
/// `num_entries`.
#[inline]
pub unsafe fn ibv_poll_cq(cq: *mut ibv_cq, num_entries: c_int, wc: *mut ibv_wc) -> c_int {
    // SAFETY: the caller says that the queue lives; its context doesn't change.
    let context = unsafe { (*cq).context };
    // SAFETY: the context outlives its queues, and the library changes its functions only while it opens it.
    let function = unsafe { (*context).ops.poll_cq };
    match function {
        // SAFETY: the driver's function for this queue, and the caller vouches for the arguments.
        Some(function) => unsafe { function(cq, num_entries, wc) },
        None => -EOPNOTSUPP,
    }
}

/// Asks for an event at `cq`'s channel when the next completion comes, or, if `solicited_only` isn't 0, the
/// next one that was solicited or failed: ibv_req_notify_cq(3). Returns 0 or an error number.
///
/// # Safety
/// `cq` must be a completion queue that the library created and that isn't destroyed.
#[inline]
pub unsafe fn ibv_req_notify_cq(cq: *mut ibv_cq, solicited_only: c_int) -> c_int {
    // SAFETY: the caller says that the queue lives; its context doesn't change.
    let context = unsafe { (*cq).context };
    // SAFETY: the context outlives its queues, and the library changes its functions only while it opens it.
    let function = unsafe { (*context).ops.req_notify_cq };
    match function {
        // SAFETY: the driver's function for this queue, and the caller vouches for the arguments.
        Some(function) => unsafe { function(cq, solicited_only) },
        None => EOPNOTSUPP,
    }
}

/// Posts a list of requests to `qp`'s send queue: ibv_post_send(3). Returns 0 or an error number; then
/// `bad_wr` points to the first request that wasn't posted.
///
/// # Safety
/// `qp` must be a queue pair that the library created and that isn't destroyed. `wr` must be a list that ends
/// with a null `next`, each request with as many elements as it says; `bad_wr` must be valid for a write. The
/// memory that the elements name must stay registered, and as the operation needs it, until the request has
/// completed.
#[inline]
pub unsafe fn ibv_post_send(qp: *mut ibv_qp, wr: *mut ibv_send_wr, bad_wr: *mut *mut ibv_send_wr) -> c_int {
    // SAFETY: the caller says that the queue pair lives; its context doesn't change.
    let context = unsafe { (*qp).context };
    // SAFETY: the context outlives its queue pairs, and the library changes its functions only while it opens it.
    let function = unsafe { (*context).ops.post_send };
    let Some(function) = function else {
        // SAFETY: the caller says that it may be written.
        unsafe { bad_wr.write(wr) };
        return EOPNOTSUPP;
    };
    // SAFETY: the driver's function for this queue pair, and the caller vouches for the arguments.
    unsafe { function(qp, wr, bad_wr) }
}

/// Posts a list of requests to `qp`'s receive queue: ibv_post_recv(3). Returns 0 or an error number; then
/// `bad_wr` points to the first request that wasn't posted.
///
/// # Safety
/// As [`ibv_post_send`].
#[inline]
pub unsafe fn ibv_post_recv(qp: *mut ibv_qp, wr: *mut ibv_recv_wr, bad_wr: *mut *mut ibv_recv_wr) -> c_int {
    // SAFETY: the caller says that the queue pair lives; its context doesn't change.
    let context = unsafe { (*qp).context };
    // SAFETY: the context outlives its queue pairs, and the library changes its functions only while it opens it.
    let function = unsafe { (*context).ops.post_recv };
    let Some(function) = function else {
        // SAFETY: the caller says that it may be written.
        unsafe { bad_wr.write(wr) };
        return EOPNOTSUPP;
    };
    // SAFETY: the driver's function for this queue pair, and the caller vouches for the arguments.
    unsafe { function(qp, wr, bad_wr) }
}

/// Posts a list of requests to a shared receive queue: ibv_post_srq_recv(3). Returns 0 or an error number;
/// then `bad_wr` points to the first request that wasn't posted.
///
/// # Safety
/// As [`ibv_post_send`], with a shared receive queue.
#[inline]
pub unsafe fn ibv_post_srq_recv(
    srq: *mut ibv_srq,
    wr: *mut ibv_recv_wr,
    bad_wr: *mut *mut ibv_recv_wr,
) -> c_int {
    // SAFETY: the caller says that the queue lives; its context doesn't change.
    let context = unsafe { (*srq).context };
    // SAFETY: the context outlives its queues, and the library changes its functions only while it opens it.
    let function = unsafe { (*context).ops.post_srq_recv };
    let Some(function) = function else {
        // SAFETY: the caller says that it may be written.
        unsafe { bad_wr.write(wr) };
        return EOPNOTSUPP;
    };
    // SAFETY: the driver's function for this queue, and the caller vouches for the arguments.
    unsafe { function(srq, wr, bad_wr) }
}

/// Makes a memory window: ibv_alloc_mw(3). Null with `errno` on failure.
///
/// # Safety
/// `pd` must be a protection domain that the library made and that isn't freed.
#[inline]
pub unsafe fn ibv_alloc_mw(pd: *mut ibv_pd, r#type: ibv_mw_type) -> *mut ibv_mw {
    // SAFETY: the caller says that the domain lives; its context doesn't change.
    let context = unsafe { (*pd).context };
    // SAFETY: the context outlives its domains, and the library changes its functions only while it opens it.
    let function = unsafe { (*context).ops.alloc_mw };
    match function {
        // SAFETY: the driver's function for this domain, and the caller vouches for the arguments.
        Some(function) => unsafe { function(pd, r#type) },
        None => {
            // SAFETY: `errno` is this thread's own.
            let errno = unsafe { __errno_location() };
            // SAFETY: as above.
            unsafe { errno.write(EOPNOTSUPP) };
            ptr::null_mut()
        }
    }
}

/// Binds a memory window of type 1: ibv_bind_mw(3). Returns 0 or an error number; then `mw->rkey` is the key
/// that the window has once the request has completed.
///
/// # Safety
/// `qp` and `mw` must be made by the library and not destroyed, and `mw_bind` must be valid, with a region
/// that stays registered as long as the window is bound to it.
#[inline]
pub unsafe fn ibv_bind_mw(qp: *mut ibv_qp, mw: *mut ibv_mw, mw_bind: *mut ibv_mw_bind) -> c_int {
    // SAFETY: the caller says that the window lives; its type doesn't change.
    if unsafe { (*mw).r#type } != IBV_MW_TYPE_1 {
        return EINVAL;
    }
    // SAFETY: the same; nor does its context.
    let context = unsafe { (*mw).context };
    // SAFETY: the context outlives its windows, and the library changes its functions only while it opens it.
    let function = unsafe { (*context).ops.bind_mw };
    match function {
        // SAFETY: the driver's function for this window, and the caller vouches for the arguments.
        Some(function) => unsafe { function(qp, mw, mw_bind) },
        None => EOPNOTSUPP,
    }
}

/// Destroys a memory window: ibv_dealloc_mw(3). Returns 0 or an error number.
///
/// # Safety
/// `mw` must be a window that the library made and that isn't destroyed.
#[inline]
pub unsafe fn ibv_dealloc_mw(mw: *mut ibv_mw) -> c_int {
    // SAFETY: the caller says that the window lives; its context doesn't change.
    let context = unsafe { (*mw).context };
    // SAFETY: the context outlives its windows, and the library changes its functions only while it opens it.
    let function = unsafe { (*context).ops.dealloc_mw };
    match function {
        // SAFETY: the driver's function for this window, and the caller vouches for the argument.
        Some(function) => unsafe { function(mw) },
        None => EOPNOTSUPP,
    }
}
