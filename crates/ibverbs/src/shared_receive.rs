//! Shared receive queues.

use crate::backend::{self, ATTRIBUTES, ProtectionDomain, SharedReceiveQueue};
use crate::boundary::{null, number};
use crate::completion::Cq;
use crate::context::Context;
use crate::domain::{Pd, handle};
use crate::events::{Name, Object, Reporter, announce};
use crate::post::{Walk, receive_request};
use crate::xrc::Xrcd;
use libc::{EBUSY, EINVAL, EOPNOTSUPP, c_int};
use rdma_verbs_sys::{
    IBV_SRQ_INIT_ATTR_CQ, IBV_SRQ_INIT_ATTR_PD, IBV_SRQ_INIT_ATTR_TYPE, IBV_SRQ_INIT_ATTR_XRCD,
    IBV_SRQ_LIMIT, IBV_SRQ_MAX_WR, IBV_SRQT_BASIC, IBV_SRQT_XRC, ibv_context, ibv_cq, ibv_pd, ibv_recv_wr,
    ibv_srq, ibv_srq_attr, ibv_srq_init_attr, ibv_srq_init_attr_ex, ibv_xrcd,
};
use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A shared receive queue.
#[repr(C)]
pub(crate) struct Srq {
    c: UnsafeCell<ibv_srq>,
    pub(crate) queue: SharedReceiveQueue,
    domain: Arc<ProtectionDomain>,
    /// The XRC domain that it belongs to, and where its requests complete.
    xrc: Option<(*mut ibv_xrcd, *mut ibv_cq)>,
    max_sge: u32,
    /// Queue pairs that were made with it.
    pub(crate) users: AtomicUsize,
    pub(crate) reporter: Reporter,
}

impl Srq {
    /// The queue that a program means.
    ///
    /// # Safety
    /// It must be one of ours that isn't destroyed.
    pub(crate) unsafe fn of<'a>(c: *mut ibv_srq) -> &'a Self {
        // SAFETY: it is the first field of ours.
        unsafe { &*c.cast() }
    }

    /// # Safety
    /// What `asked` names must be the program's own, and live.
    unsafe fn make(
        pd: *mut ibv_pd,
        xrc: Option<(*mut ibv_xrcd, *mut ibv_cq)>,
        asked: &ibv_srq_init_attr,
    ) -> Result<*mut Self, c_int> {
        if pd.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: the program says that it is one.
        let domain = unsafe { Pd::of(pd) };
        // SAFETY: a context that has children isn't freed.
        let context = unsafe { Context::of(domain.context()) };
        context.check()?;
        let ibv_srq_attr { max_wr, max_sge, .. } = asked.attr;
        if max_sge as usize > ATTRIBUTES.max_sge || max_wr == 0 || max_wr as usize > ATTRIBUTES.max_srq_wr {
            return Err(EINVAL);
        }
        let capacity = max_wr as usize;
        let queue = match xrc {
            Some((xrcd, cq)) if !xrcd.is_null() && !cq.is_null() => {
                // SAFETY: the program says that they are such.
                let (xrcd, cq) = unsafe { (Xrcd::of(xrcd), Cq::of(cq)) };
                backend::xrc_shared_receive_queue(&xrcd.domain, &domain.domain, &cq.queue, capacity)?
            }
            Some(_) => return Err(EINVAL),
            None => backend::shared_receive_queue(&domain.domain, capacity)?,
        };
        let number = queue.number();
        let c = ibv_srq {
            context: domain.context(),
            srq_context: asked.srq_context,
            pd,
            handle: handle(),
            mutex: libc::PTHREAD_MUTEX_INITIALIZER,
            cond: libc::PTHREAD_COND_INITIALIZER,
            events_completed: 0,
        };
        let mut whole = Box::<Self>::new_uninit();
        let at = whole.as_mut_ptr();
        let reporter = announce(Name::SharedQueue(number), Object::Srq(at.expose_provenance()), context);
        whole.write(Self {
            c: UnsafeCell::new(c),
            queue,
            domain: Arc::clone(&domain.domain),
            xrc,
            max_sge,
            users: AtomicUsize::new(0),
            reporter,
        });
        // SAFETY: written just now.
        let at = Box::into_raw(unsafe { whole.assume_init() });
        // SAFETY: as above.
        unsafe { &*at }.parents().for_each(|children| {
            children.fetch_add(1, Ordering::AcqRel);
        });
        Ok(at)
    }

    /// The counts of children of what it was made in.
    fn parents<'a>(&self) -> impl Iterator<Item = &'a AtomicUsize> + use<'a> {
        // SAFETY: nobody writes it, and what has children isn't freed.
        let domain = unsafe { Pd::of((*self.c.get()).pd) };
        // SAFETY: as above.
        let xrc = self.xrc.map(|(xrcd, cq)| unsafe { [&Xrcd::of(xrcd).users, &Cq::of(cq).users] });
        std::iter::once(&domain.children).chain(xrc.into_iter().flatten())
    }

    fn modify(&self, attr: &ibv_srq_attr, mask: u32) -> Result<(), c_int> {
        if mask & !(IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT) != 0 {
            return Err(EINVAL);
        }
        let limit = attr.srq_limit as usize;
        let capacity = if mask & IBV_SRQ_MAX_WR != 0 { attr.max_wr as usize } else { self.queue.capacity() };
        // Neither is changed where the other can't be.
        if capacity == 0 || (mask & IBV_SRQ_LIMIT != 0 && limit > capacity) {
            return Err(EINVAL);
        }
        if mask & IBV_SRQ_MAX_WR != 0 {
            self.queue.resize(capacity).map_err(|_| EINVAL)?;
        }
        if mask & IBV_SRQ_LIMIT != 0 {
            self.queue.set_limit(limit).map_err(|_| EINVAL)?;
        }
        Ok(())
    }
}

operation! {
    libc::EIO,
    /// ibv_post_srq_recv(3).
    fn post_srq_recv(srq: *mut ibv_srq, wr: *mut ibv_recv_wr, bad_wr: *mut *mut ibv_recv_wr) -> c_int {
        // SAFETY: the program says that it is one.
        let srq = unsafe { Srq::of(srq) };
        let walk = Walk::new(wr);
        // SAFETY: the program's list.
        let next = |at| unsafe { receive_request(&srq.domain, srq.max_sge, at) };
        let posted = std::iter::from_fn(|| walk.step(next)).try_for_each(|it| srq.queue.post_recv(it));
        // SAFETY: the program gave a place for it.
        unsafe { walk.finish(posted, bad_wr) }
    }
}

export! {
    "IBVERBS_1.1", std::ptr::null_mut(),
    /// ibv_create_srq(3).
    fn ibv_create_srq(pd: *mut ibv_pd, attr: *mut ibv_srq_init_attr) -> *mut ibv_srq {
        // SAFETY: the program gave the attributes, and what they name lives.
        match unsafe { Srq::make(pd, None, &*attr) } {
            Ok(srq) => srq.cast(),
            Err(error) => null(error),
        }
    }

    "IBVERBS_1.1", libc::EIO,
    /// ibv_modify_srq(3).
    fn ibv_modify_srq(srq: *mut ibv_srq, attr: *mut ibv_srq_attr, mask: c_int) -> c_int {
        // SAFETY: the program says that it is one, and gave the attributes.
        number(unsafe { Srq::of(srq).modify(&*attr, mask.cast_unsigned()) }.err().unwrap_or(0))
    }

    "IBVERBS_1.1", libc::EIO,
    /// ibv_query_srq(3).
    fn ibv_query_srq(srq: *mut ibv_srq, attr: *mut ibv_srq_attr) -> c_int {
        // SAFETY: the program says that it is one.
        let srq = unsafe { Srq::of(srq) };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (max_wr, srq_limit) = (count(srq.queue.capacity()), count(srq.queue.limit()));
        // SAFETY: the program gave a place for it.
        unsafe { attr.write(ibv_srq_attr { max_wr, max_sge: srq.max_sge, srq_limit }) };
        0
    }

    "IBVERBS_1.1", libc::EIO,
    /// ibv_destroy_srq(3).
    fn ibv_destroy_srq(srq: *mut ibv_srq) -> c_int {
        // SAFETY: the program says that it is one.
        let whole = unsafe { Srq::of(srq) };
        if whole.users.load(Ordering::Acquire) != 0 {
            return number(EBUSY);
        }
        let name = Name::SharedQueue(whole.queue.number());
        whole.reporter.withdraw(name, Object::Srq(srq.expose_provenance()));
        let parents = whole.parents();
        // SAFETY: `make` made it, and nobody uses it any more.
        drop(unsafe { Box::from_raw(srq.cast::<Srq>()) });
        parents.for_each(|children| {
            children.fetch_sub(1, Ordering::AcqRel);
        });
        0
    }
}

operation! {
    std::ptr::null_mut(),
    /// ibv_create_srq_ex(3).
    fn create_srq_ex(context: *mut ibv_context, attr: *mut ibv_srq_init_attr_ex) -> *mut ibv_srq {
        let _ = context;
        // SAFETY: the program gave the attributes, the rest as far as the mask says.
        let (base, mask) = unsafe {
            let attr = &raw const *attr;
            let base = ibv_srq_init_attr { srq_context: (*attr).srq_context, attr: (*attr).attr };
            (base, (*attr).comp_mask)
        };
        let basic = IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD;
        let xrc = IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ;
        if mask & !(basic | xrc) != 0 {
            return null(EOPNOTSUPP);
        }
        // SAFETY: the mask says that it is there.
        let kind = if mask & IBV_SRQ_INIT_ATTR_TYPE == 0 { IBV_SRQT_BASIC } else { unsafe { (*attr).srq_type } };
        let of = match kind {
            IBV_SRQT_BASIC if mask & xrc == 0 => None,
            // SAFETY: the mask says that they are there.
            IBV_SRQT_XRC if mask & xrc == xrc => Some(unsafe { ((*attr).xrcd, (*attr).cq) }),
            IBV_SRQT_BASIC | IBV_SRQT_XRC => return null(EINVAL),
            _ => return null(EOPNOTSUPP),
        };
        if mask & IBV_SRQ_INIT_ATTR_PD == 0 {
            return null(EINVAL);
        }
        // SAFETY: what the attributes name lives.
        match unsafe { Srq::make((*attr).pd, of, &base) } {
            Ok(srq) => srq.cast(),
            Err(error) => null(error),
        }
    }

    libc::EIO,
    /// ibv_get_srq_num(3).
    fn get_srq_num(srq: *mut ibv_srq, srq_num: *mut u32) -> c_int {
        // SAFETY: the program says that it is one.
        let Some(srqn) = unsafe { Srq::of(srq) }.queue.srqn() else { return number(EOPNOTSUPP) };
        // SAFETY: the program gave a place for it.
        unsafe { srq_num.write(srqn.get()) };
        0
    }
}
