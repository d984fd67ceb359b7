//! Queue pairs.

use crate::backend::{self, ATTRIBUTES, QueuePair, QueuePairOptions, Transport};
use crate::boundary::{null, number};
use crate::completion::Cq;
use crate::context::Context;
use crate::domain::{Pd, handle};
use crate::events::{Name, Object, Reporter, announce};
use crate::extended_post::{self, Builder};
use crate::modify;
use crate::shared_receive::Srq;
use libc::{EINVAL, EOPNOTSUPP, c_int};
use rdma_verbs_sys::{
    IBV_QP_INIT_ATTR_PD, IBV_QP_INIT_ATTR_SEND_OPS_FLAGS, IBV_QPS_RESET, IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD,
    ibv_context, ibv_pd, ibv_qp, ibv_qp_attr, ibv_qp_cap, ibv_qp_ex, ibv_qp_init_attr, ibv_qp_init_attr_ex,
};
use std::cell::UnsafeCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// A queue pair, extended or not.
#[repr(C)]
pub(crate) struct Qp {
    pub(crate) c: UnsafeCell<ibv_qp_ex>,
    pub(crate) queue_pair: QueuePair,
    pub(crate) domain: Arc<backend::ProtectionDomain>,
    pub(crate) cap: ibv_qp_cap,
    pub(crate) sq_sig_all: bool,
    pub(crate) reporter: Reporter,
    /// What the program has set, for it to ask for.
    pub(crate) attributes: Mutex<ibv_qp_attr>,
    /// Whether `ibv_wr_*` may be used.
    pub(crate) is_extended: bool,
    /// What `ibv_wr_*` has put together since `wr_start`; only for whoever holds its lock.
    pub(crate) builder: Builder,
}

impl Qp {
    /// The queue pair that a program means.
    ///
    /// # Safety
    /// It must be one of ours that isn't destroyed.
    pub(crate) unsafe fn of<'a>(c: *mut ibv_qp) -> &'a Self {
        // SAFETY: it is the first field of ours.
        unsafe { &*c.cast() }
    }

    /// The device that it was made in.
    pub(crate) fn context(&self) -> &Context {
        // SAFETY: nobody writes it, and a context that has children isn't freed.
        unsafe { Context::of((*self.c.get()).qp_base.context) }
    }

    /// Drops its completions that nobody has taken.
    pub(crate) fn purge(&self) {
        // SAFETY: nobody writes them, and queues that have users aren't freed.
        let (qpn, queues) = unsafe {
            let base = &raw const (*self.c.get()).qp_base;
            ((*base).qp_num, [Cq::of((*base).send_cq), Cq::of((*base).recv_cq)])
        };
        queues.iter().for_each(|queue| queue.purge(qpn));
    }

    /// # Safety
    /// What `asked` names must be the program's own, and live.
    unsafe fn make(
        pd: *mut ibv_pd,
        asked: &ibv_qp_init_attr,
        extended: Option<u64>,
    ) -> Result<(*mut Self, ibv_qp_cap), c_int> {
        let transport = match asked.qp_type {
            IBV_QPT_RC => Transport::Rc,
            IBV_QPT_UC => Transport::Uc,
            IBV_QPT_UD => Transport::Ud,
            _ => return Err(EOPNOTSUPP),
        };
        if pd.is_null() || asked.send_cq.is_null() || asked.recv_cq.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: the program says that it is one.
        let domain = unsafe { Pd::of(pd) };
        // SAFETY: a context that has children isn't freed.
        let context = unsafe { Context::of(domain.context()) };
        context.check()?;
        // SAFETY: as above.
        let srq = (!asked.srq.is_null()).then(|| unsafe { Srq::of(asked.srq) });
        let cap = granted(asked.cap, srq.is_some())?;
        // SAFETY: as above.
        let (send_cq, recv_cq) = unsafe { (Cq::of(asked.send_cq), Cq::of(asked.recv_cq)) };
        let options = QueuePairOptions {
            transport,
            send_queue: &send_cq.queue,
            recv_queue: &recv_cq.queue,
            shared: srq.map(|srq| &srq.queue),
            max_send_requests: cap.max_send_wr as usize,
            max_recv_requests: cap.max_recv_wr as usize,
        };
        let queue_pair = backend::queue_pair(&domain.domain, options)?;
        if transport == Transport::Ud {
            // Datagrams come without a path that would have the address used.
            context.backend.gid()?;
        }
        let qpn = queue_pair.qpn().get();
        // SAFETY: numbers and pointers that may be null.
        let mut c: ibv_qp_ex = unsafe { std::mem::zeroed() };
        let base = &mut c.qp_base;
        base.context = domain.context();
        base.qp_context = asked.qp_context;
        base.pd = pd;
        (base.send_cq, base.recv_cq) = (asked.send_cq, asked.recv_cq);
        base.srq = asked.srq;
        base.handle = handle();
        base.qp_num = qpn;
        base.state = IBV_QPS_RESET;
        base.qp_type = asked.qp_type;
        base.mutex = libc::PTHREAD_MUTEX_INITIALIZER;
        base.cond = libc::PTHREAD_COND_INITIALIZER;
        if let Some(operations) = extended {
            extended_post::fill(&mut c, transport, operations)?;
        }
        let mut whole = Box::<Self>::new_uninit();
        let at = whole.as_mut_ptr();
        let reporter = announce(Name::Qpn(qpn), Object::Qp(at.expose_provenance()), context);
        whole.write(Self {
            c: UnsafeCell::new(c),
            queue_pair,
            domain: Arc::clone(&domain.domain),
            cap,
            sq_sig_all: asked.sq_sig_all != 0,
            reporter,
            attributes: Mutex::new(ibv_qp_attr { cap, ..ibv_qp_attr::default() }),
            is_extended: extended.is_some(),
            builder: Builder::default(),
        });
        let parents = [&domain.children, &send_cq.users, &recv_cq.users];
        for children in parents.into_iter().chain(srq.map(|srq| &srq.users)) {
            children.fetch_add(1, Ordering::AcqRel);
        }
        // SAFETY: written just now.
        Ok((Box::into_raw(unsafe { whole.assume_init() }), cap))
    }
}

/// What a program gets that asks for `cap`: nothing of a receive queue where others share one with it.
fn granted(mut cap: ibv_qp_cap, shares: bool) -> Result<ibv_qp_cap, c_int> {
    if shares {
        (cap.max_recv_wr, cap.max_recv_sge) = (0, 0);
    }
    let most = [
        ATTRIBUTES.max_qp_wr,
        ATTRIBUTES.max_qp_wr,
        ATTRIBUTES.max_sge,
        ATTRIBUTES.max_sge,
        ATTRIBUTES.max_inline,
    ];
    let asked = [cap.max_send_wr, cap.max_recv_wr, cap.max_send_sge, cap.max_recv_sge, cap.max_inline_data];
    if asked.iter().zip(most).any(|(asked, most)| *asked as usize > most) {
        return Err(EINVAL);
    }
    Ok(cap)
}

export! {
    "IBVERBS_1.1", std::ptr::null_mut(),
    /// ibv_create_qp(3).
    fn ibv_create_qp(pd: *mut ibv_pd, attr: *mut ibv_qp_init_attr) -> *mut ibv_qp {
        // SAFETY: the program gave the attributes, and what they name lives.
        match unsafe { Qp::make(pd, &*attr, None) } {
            Ok((qp, cap)) => {
                // SAFETY: as above; it gets to know what it got.
                unsafe { (*attr).cap = cap };
                qp.cast()
            }
            Err(error) => null(error),
        }
    }

    "IBVERBS_1.1", libc::EIO,
    /// ibv_destroy_qp(3).
    fn ibv_destroy_qp(qp: *mut ibv_qp) -> c_int {
        // SAFETY: the program says that it is one.
        let whole = unsafe { Qp::of(qp) };
        // SAFETY: nobody writes them, and what has users isn't freed.
        let (parents, srq) = unsafe {
            let base = &raw const (*whole.c.get()).qp_base;
            whole.reporter.withdraw(Name::Qpn((*base).qp_num), Object::Qp(qp.expose_provenance()));
            let queues = [&Cq::of((*base).send_cq).users, &Cq::of((*base).recv_cq).users];
            let srq = (!(*base).srq.is_null()).then(|| &Srq::of((*base).srq).users);
            ([queues[0], queues[1], &Pd::of((*base).pd).children], srq)
        };
        // Nothing completes any more from here on.
        let _ = backend::reset(&whole.queue_pair);
        whole.purge();
        // SAFETY: `make` made it, and the program is done with it.
        drop(unsafe { Box::from_raw(qp.cast::<Qp>()) });
        for children in parents.into_iter().chain(srq) {
            children.fetch_sub(1, Ordering::AcqRel);
        }
        0
    }

    "IBVERBS_1.1", libc::EIO,
    /// ibv_modify_qp(3).
    fn ibv_modify_qp(qp: *mut ibv_qp, attr: *mut ibv_qp_attr, mask: c_int) -> c_int {
        // SAFETY: the program says that it is one, and gave the attributes.
        number(unsafe { modify::modify(Qp::of(qp), &*attr, mask) }.err().unwrap_or(0))
    }

    "IBVERBS_1.1", libc::EIO,
    /// ibv_query_qp(3).
    fn ibv_query_qp(qp: *mut ibv_qp, attr: *mut ibv_qp_attr, mask: c_int, init: *mut ibv_qp_init_attr) -> c_int {
        // All of it is told, whatever the mask says: that costs nothing.
        let _ = mask;
        // SAFETY: the program says that it is one.
        let whole = unsafe { Qp::of(qp) };
        let state = backend::snapshot(&whole.queue_pair).state as u32;
        let mut told = *whole.attributes.lock().unwrap_or_else(PoisonError::into_inner);
        (told.qp_state, told.cur_qp_state) = (state, state);
        // SAFETY: the program gave places for both; it has the queue pair from us.
        unsafe {
            (*qp).state = state;
            attr.write(told);
            init.write(ibv_qp_init_attr {
                qp_context: (*qp).qp_context,
                send_cq: (*qp).send_cq,
                recv_cq: (*qp).recv_cq,
                srq: (*qp).srq,
                cap: whole.cap,
                qp_type: (*qp).qp_type,
                sq_sig_all: c_int::from(whole.sq_sig_all),
            });
        }
        0
    }

    "IBVERBS_1.6", std::ptr::null_mut(),
    /// ibv_qp_to_qp_ex(3).
    fn ibv_qp_to_qp_ex(qp: *mut ibv_qp) -> *mut ibv_qp_ex {
        // SAFETY: the program says that it is one.
        if unsafe { Qp::of(qp) }.is_extended { qp.cast() } else { std::ptr::null_mut() }
    }

    "IBVERBS_1.14", 0,
    /// ibv_query_qp_data_in_order(3): only the last byte of what is written is sure to come last.
    fn ibv_query_qp_data_in_order(qp: *mut ibv_qp, opcode: u32, flags: u32) -> c_int {
        let _ = (qp, opcode, flags);
        0
    }
}

operation! {
    std::ptr::null_mut(),
    /// ibv_create_qp_ex(3).
    fn create_qp_ex(context: *mut ibv_context, attr: *mut ibv_qp_init_attr_ex) -> *mut ibv_qp {
        let _ = context;
        // SAFETY: the program gave the attributes, the rest as far as the mask says.
        let (base, mask) = unsafe {
            let attr = &raw const *attr;
            let base = ibv_qp_init_attr {
                qp_context: (*attr).qp_context,
                send_cq: (*attr).send_cq,
                recv_cq: (*attr).recv_cq,
                srq: (*attr).srq,
                cap: (*attr).cap,
                qp_type: (*attr).qp_type,
                sq_sig_all: (*attr).sq_sig_all,
            };
            (base, (*attr).comp_mask)
        };
        if mask & IBV_QP_INIT_ATTR_PD == 0 || mask & !(IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) != 0 {
            return null(EOPNOTSUPP);
        }
        // SAFETY: the mask says that they are there.
        let pd = unsafe { (*attr).pd };
        // SAFETY: as above.
        let extended = (mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS != 0).then(|| unsafe { (*attr).send_ops_flags });
        // SAFETY: what the attributes name lives.
        match unsafe { Qp::make(pd, &base, extended) } {
            Ok((qp, cap)) => {
                // SAFETY: as above.
                unsafe { (*attr).cap = cap };
                qp.cast()
            }
            Err(error) => null(error),
        }
    }
}
