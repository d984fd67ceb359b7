//! Queue pairs and shared receive queues that are made for an id, with completion queues where the program has none.

use crate::abi::rdma_cm_id;
use crate::boundary::{errno, result};
use crate::id::Id;
use crate::multicast::detach_all;
use crate::session::verbs;
use crate::states;
use libc::{EINVAL, ENOMEM, EOPNOTSUPP, c_int};
use rdma_verbs_sys::{
    IBV_QP_INIT_ATTR_PD, IBV_SRQ_INIT_ATTR_PD, IBV_SRQ_INIT_ATTR_TYPE, IBV_SRQT_BASIC, ibv_comp_channel,
    ibv_context, ibv_cq, ibv_pd, ibv_qp, ibv_qp_init_attr, ibv_qp_init_attr_ex, ibv_srq_init_attr,
    ibv_srq_init_attr_ex, verbs_context,
};
use std::mem::offset_of;
use std::ptr::null_mut;

/// The further functions of an opened device, where it has some.
///
/// # Safety
/// The context is open.
unsafe fn extended(context: *mut ibv_context) -> Option<*mut verbs_context> {
    // SAFETY: the caller says so.
    let has = unsafe { (*context).abi_compat }.addr() == usize::MAX;
    // SAFETY: such a context is the end of one.
    has.then(|| unsafe { context.cast::<u8>().sub(offset_of!(verbs_context, context)).cast() })
}

/// A completion queue of an id's with its channel.
///
/// # Safety
/// The id belongs to the device.
unsafe fn create_cq(
    c: *mut rdma_cm_id,
    capacity: u32,
) -> Result<(*mut ibv_comp_channel, *mut ibv_cq), c_int> {
    let library = verbs()?;
    let capacity = c_int::try_from(capacity).map_err(|_| EINVAL)?;
    // SAFETY: the id's context is open.
    unsafe {
        let channel = library.ibv_create_comp_channel((*c).verbs);
        if channel.is_null() {
            return Err(errno());
        }
        let queue = library.ibv_create_cq((*c).verbs, capacity, c.cast(), channel, 0);
        if queue.is_null() {
            let failed = errno();
            library.ibv_destroy_comp_channel(channel);
            return Err(failed);
        }
        Ok((channel, queue))
    }
}

/// The completion queues that an id still needs.
///
/// # Safety
/// The id belongs to the device.
unsafe fn create_cqs(id: &Id, send: Option<u32>, recv: Option<u32>) -> Result<(), c_int> {
    let c = id.c();
    // SAFETY: the caller says so; fields of the id.
    unsafe {
        if let Some(capacity) = recv.filter(|capacity| *capacity > 0) {
            ((*c).recv_cq_channel, (*c).recv_cq) = create_cq(c, capacity)?;
        }
        if let Some(capacity) = send.filter(|capacity| *capacity > 0) {
            ((*c).send_cq_channel, (*c).send_cq) = create_cq(c, capacity)?;
        }
    }
    Ok(())
}

/// Destroys the completion queues that were made for an id.
///
/// # Safety
/// Nobody uses them.
unsafe fn destroy_cqs(id: &Id) {
    let Ok(library) = verbs() else { return };
    let c = id.c();
    // SAFETY: the caller says so; fields of the id.
    unsafe {
        let queues = [(*c).recv_cq, (*c).send_cq];
        let channels = [(*c).recv_cq_channel, (*c).send_cq_channel];
        [(*c).recv_cq, (*c).send_cq] = [null_mut(); 2];
        [(*c).recv_cq_channel, (*c).send_cq_channel] = [null_mut(); 2];
        queues.iter().filter(|queue| !queue.is_null()).for_each(|queue| {
            library.ibv_destroy_cq(*queue);
        });
        channels.iter().filter(|channel| !channel.is_null()).for_each(|channel| {
            library.ibv_destroy_comp_channel(*channel);
        });
    }
}

/// Makes a queue pair for an id by `make`, with the id's completion queues and shared receive queue where the program
/// names none, and brings it as far as it can get.
///
/// # Safety
/// What the attributes name must be the program's own, and live.
unsafe fn create(
    id: &Id,
    pd: *mut ibv_pd,
    attr: &mut ibv_qp_init_attr,
    make: impl FnOnce(*mut ibv_pd, &mut ibv_qp_init_attr) -> *mut ibv_qp,
) -> Result<(), c_int> {
    let c = id.c();
    // SAFETY: the caller says so; fields of the id.
    unsafe {
        let pd = if pd.is_null() { (*c).pd } else { pd };
        let differ =
            |own: *mut ibv_cq, asked: *mut ibv_cq| !own.is_null() && !asked.is_null() && own != asked;
        if !(*c).qp.is_null()
            || (*c).verbs.is_null()
            || pd.is_null()
            || (*pd).context != (*c).verbs
            || differ((*c).recv_cq, attr.recv_cq)
            || differ((*c).send_cq, attr.send_cq)
        {
            return Err(EINVAL);
        }
        let needs = |own: *mut ibv_cq, asked: *mut ibv_cq| own.is_null() && asked.is_null();
        let send = needs((*c).send_cq, attr.send_cq).then_some(attr.cap.max_send_wr);
        let recv = needs((*c).recv_cq, attr.recv_cq).then_some(attr.cap.max_recv_wr);
        let made = create_cqs(id, send, recv).and_then(|()| {
            if attr.send_cq.is_null() {
                attr.send_cq = (*c).send_cq;
            }
            if attr.recv_cq.is_null() {
                attr.recv_cq = (*c).recv_cq;
            }
            if attr.srq.is_null() {
                attr.srq = (*c).srq;
            }
            // A queue that holds no request completes none; it has a completion queue nevertheless.
            for queue in [&mut attr.send_cq, &mut attr.recv_cq] {
                if queue.is_null() {
                    *queue = if (*c).send_cq.is_null() { (*c).recv_cq } else { (*c).send_cq };
                }
            }
            let qp = make(pd, attr);
            if qp.is_null() { Err(errno()) } else { Ok(qp) }
        });
        let ready = made.and_then(|qp| {
            states::init(id, qp).map(|()| qp).inspect_err(|_| {
                if let Ok(library) = verbs() {
                    library.ibv_destroy_qp(qp);
                }
            })
        });
        match ready {
            Ok(qp) => {
                (*c).pd = (*qp).pd;
                (*c).qp = qp;
                Ok(())
            }
            Err(error) => {
                destroy_cqs(id);
                Err(error)
            }
        }
    }
}

/// rdma_create_qp(3).
///
/// # Safety
/// What the attributes name must be the program's own, and live.
pub(crate) unsafe fn create_qp(id: &Id, pd: *mut ibv_pd, attr: &mut ibv_qp_init_attr) -> Result<(), c_int> {
    let library = verbs()?;
    // SAFETY: the caller says so.
    unsafe { create(id, pd, attr, |pd, attr| library.ibv_create_qp(pd, attr)) }
}

/// rdma_create_qp_ex(3).
///
/// # Safety
/// What the attributes name must be the program's own, and live.
unsafe fn create_qp_ex(id: &Id, attr: *mut ibv_qp_init_attr_ex) -> Result<(), c_int> {
    // SAFETY: the caller says so. The extended attributes begin as the others do.
    unsafe {
        let context = (*id.c()).verbs;
        let pd = if (*attr).comp_mask & IBV_QP_INIT_ATTR_PD == 0 { null_mut() } else { (*attr).pd };
        let make = extended(if context.is_null() { return Err(EINVAL) } else { context })
            .and_then(|context| (*context).create_qp_ex)
            .ok_or(EOPNOTSUPP)?;
        let mut base = attr.cast::<ibv_qp_init_attr>().read();
        let made = create(id, pd, &mut base, |pd, base| {
            attr.cast::<ibv_qp_init_attr>().write(*base);
            (*attr).pd = pd;
            (*attr).comp_mask |= IBV_QP_INIT_ATTR_PD;
            let qp = make(context, attr);
            *base = attr.cast::<ibv_qp_init_attr>().read();
            qp
        });
        attr.cast::<ibv_qp_init_attr>().write(base);
        made
    }
}

/// Destroys an id's queue pair, if it has one.
///
/// # Safety
/// Nobody uses it.
pub(crate) unsafe fn destroy_qp(id: &Id) {
    let Ok(library) = verbs() else { return };
    detach_all(id);
    // SAFETY: the caller says so; a field of the id.
    unsafe {
        let qp = std::mem::replace(&mut (*id.c()).qp, null_mut());
        if !qp.is_null() {
            library.ibv_destroy_qp(qp);
            destroy_cqs(id);
        }
    }
}

/// Destroys an id's shared receive queue, if it has one.
///
/// # Safety
/// Nobody uses it.
pub(crate) unsafe fn destroy_srq(id: &Id) {
    let Ok(library) = verbs() else { return };
    // SAFETY: the caller says so; a field of the id.
    unsafe {
        let srq = std::mem::replace(&mut (*id.c()).srq, null_mut());
        if !srq.is_null() {
            library.ibv_destroy_srq(srq);
            destroy_cqs(id);
        }
    }
}

/// rdma_create_srq(3).
///
/// # Safety
/// What is named must be the program's own, and live.
unsafe fn create_srq(id: &Id, pd: *mut ibv_pd, attr: *mut ibv_srq_init_attr) -> Result<(), c_int> {
    let library = verbs()?;
    let c = id.c();
    // SAFETY: the caller says so; fields of the id.
    unsafe {
        let pd = if pd.is_null() { (*c).pd } else { pd };
        if pd.is_null() || attr.is_null() || !(*c).srq.is_null() {
            return Err(EINVAL);
        }
        let srq = library.ibv_create_srq(pd, attr);
        if srq.is_null() {
            return Err(if errno() == 0 { ENOMEM } else { errno() });
        }
        (*c).srq = srq;
        if (*c).pd.is_null() {
            (*c).pd = pd;
        }
    }
    Ok(())
}

export! {
    "RDMACM_1.0", -1,
    /// rdma_create_qp(3).
    fn rdma_create_qp(id: *mut rdma_cm_id, pd: *mut ibv_pd, qp_init_attr: *mut ibv_qp_init_attr) -> c_int {
        // SAFETY: the program gives an id that exists, and attributes.
        result(unsafe {
            qp_init_attr.as_mut().ok_or(EINVAL).and_then(|attr| create_qp(Id::of(id)?, pd, attr))
        })
    }

    "RDMACM_1.0", -1,
    /// rdma_create_qp_ex(3).
    fn rdma_create_qp_ex(id: *mut rdma_cm_id, attr: *mut ibv_qp_init_attr_ex) -> c_int {
        // SAFETY: the program gives an id that exists, and attributes.
        result(if attr.is_null() { Err(EINVAL) } else { unsafe { Id::of(id).and_then(|id| create_qp_ex(id, attr)) } })
    }

    "RDMACM_1.0", (),
    /// rdma_destroy_qp(3).
    fn rdma_destroy_qp(id: *mut rdma_cm_id) {
        // SAFETY: the program says that nobody uses it.
        unsafe {
            if let Ok(id) = Id::of(id) {
                destroy_qp(id);
            }
        }
    }

    "RDMACM_1.0", -1,
    /// rdma_create_srq(3).
    fn rdma_create_srq(id: *mut rdma_cm_id, pd: *mut ibv_pd, attr: *mut ibv_srq_init_attr) -> c_int {
        // SAFETY: the program gives an id that exists, and attributes.
        result(unsafe { Id::of(id).and_then(|id| create_srq(id, pd, attr)) })
    }

    "RDMACM_1.0", -1,
    /// rdma_create_srq_ex(3).
    fn rdma_create_srq_ex(id: *mut rdma_cm_id, attr: *mut ibv_srq_init_attr_ex) -> c_int {
        // SAFETY: the program gives an id that exists, and attributes, which begin as those of rdma_create_srq(3).
        result(unsafe {
            if attr.is_null() || (*attr).comp_mask & IBV_SRQ_INIT_ATTR_TYPE == 0 {
                Err(EINVAL)
            } else if (*attr).srq_type != IBV_SRQT_BASIC {
                Err(EOPNOTSUPP)
            } else {
                let pd = if (*attr).comp_mask & IBV_SRQ_INIT_ATTR_PD == 0 { null_mut() } else { (*attr).pd };
                Id::of(id).and_then(|id| create_srq(id, pd, attr.cast()))
            }
        })
    }

    "RDMACM_1.0", (),
    /// rdma_destroy_srq(3).
    fn rdma_destroy_srq(id: *mut rdma_cm_id) {
        // SAFETY: the program says that nobody uses it.
        unsafe {
            if let Ok(id) = Id::of(id) {
                destroy_srq(id);
            }
        }
    }
}
