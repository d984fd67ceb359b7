//! Queue pairs.

use crate::backend::{self, ATTRIBUTES, QueuePair, QueuePairOptions, Transport};
use crate::boundary::{null, number};
use crate::completion::Cq;
use crate::context::Context;
use crate::domain::{Pd, handle};
use crate::events::{Name, Object, Reporter, announce};
use crate::extended_post::{self, Builder};
use crate::modify;
use crate::multicast::Groups;
use crate::shared_receive::Srq;
use crate::xrc::{self, Xrcd};
use libc::{EBUSY, EINVAL, EOPNOTSUPP, c_int};
use rdma_verbs_sys::{
    IBV_QP_INIT_ATTR_PD, IBV_QP_INIT_ATTR_SEND_OPS_FLAGS, IBV_QP_INIT_ATTR_XRCD, IBV_QPT_RC, IBV_QPT_UC,
    IBV_QPT_UD, IBV_QPT_XRC_RECV, IBV_QPT_XRC_SEND, ibv_context, ibv_pd, ibv_qp, ibv_qp_attr, ibv_qp_cap,
    ibv_qp_ex, ibv_qp_init_attr, ibv_qp_init_attr_ex, ibv_xrcd,
};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A queue pair, extended or not.
#[repr(C)]
pub(crate) struct Qp {
    pub(crate) c: UnsafeCell<ibv_qp_ex>,
    pub(crate) queue_pair: QueuePair,
    /// None for an XRC target.
    domain: Option<Arc<backend::ProtectionDomain>>,
    /// The XRC domain of a target, or null.
    xrcd: *mut ibv_xrcd,
    pub(crate) cap: ibv_qp_cap,
    pub(crate) sq_sig_all: bool,
    pub(crate) reporter: Reporter,
    /// What the program has set, for it to ask for. All users of an XRC target have the same.
    pub(crate) attributes: Arc<Mutex<ibv_qp_attr>>,
    /// The multicast groups that it is attached to.
    pub(crate) groups: Groups,
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

    /// Where its requests' elements are looked up: an XRC target has no requests of its own.
    pub(crate) fn domain(&self) -> Result<&backend::ProtectionDomain, c_int> {
        self.domain.as_deref().ok_or(EINVAL)
    }

    /// Drops its completions that nobody has taken.
    pub(crate) fn purge(&self) {
        let qpn = self.queue_pair.qpn().get();
        self.queues().for_each(|queue| queue.purge(qpn));
    }

    /// Its completion queues.
    fn queues<'a>(&self) -> impl Iterator<Item = &'a Cq> + use<'a> {
        // SAFETY: nobody writes them.
        let queues = unsafe {
            let base = &raw const (*self.c.get()).qp_base;
            [(*base).send_cq, (*base).recv_cq]
        };
        // SAFETY: queues that have users aren't freed.
        queues.into_iter().filter(|queue| !queue.is_null()).map(|queue| unsafe { Cq::of(queue) })
    }

    /// The counts of children of what it was made in and with.
    fn parents<'a>(&self) -> impl Iterator<Item = &'a AtomicUsize> + use<'a> {
        // SAFETY: nobody writes them.
        let (pd, srq) = unsafe {
            let base = &raw const (*self.c.get()).qp_base;
            ((*base).pd, (*base).srq)
        };
        // SAFETY: what has children isn't freed.
        let domain = (!pd.is_null()).then(|| unsafe { &Pd::of(pd).children });
        // SAFETY: as above.
        let srq = (!srq.is_null()).then(|| unsafe { &Srq::of(srq).users });
        // SAFETY: as above.
        let xrcd = (!self.xrcd.is_null()).then(|| unsafe { &Xrcd::of(self.xrcd).users });
        self.queues().map(|queue| &queue.users).chain(domain).chain(srq).chain(xrcd)
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
            IBV_QPT_XRC_SEND => Transport::Xrc,
            _ => return Err(EOPNOTSUPP),
        };
        let mut asked = *asked;
        let receives = transport != Transport::Xrc;
        if !receives {
            (asked.recv_cq, asked.srq) = (std::ptr::null_mut(), std::ptr::null_mut());
        }
        if pd.is_null() || asked.send_cq.is_null() || (receives && asked.recv_cq.is_null()) {
            return Err(EINVAL);
        }
        // SAFETY: the program says that it is one.
        let domain = unsafe { Pd::of(pd) };
        // SAFETY: a context that has children isn't freed.
        let context = unsafe { Context::of(domain.context()) };
        context.check()?;
        // SAFETY: as above.
        let srq = (!asked.srq.is_null()).then(|| unsafe { Srq::of(asked.srq) });
        let cap = granted(asked.cap, srq.is_none() && receives)?;
        // SAFETY: as above.
        let send_queue = unsafe { &Cq::of(asked.send_cq).queue };
        // SAFETY: as above.
        let recv_queue = if receives { unsafe { &Cq::of(asked.recv_cq).queue } } else { send_queue };
        let options = QueuePairOptions {
            transport,
            send_queue,
            recv_queue,
            shared: srq.map(|srq| &srq.queue),
            max_send_requests: cap.max_send_wr as usize,
            max_recv_requests: cap.max_recv_wr as usize,
        };
        let queue_pair = backend::queue_pair(&domain.domain, options)?;
        if transport == Transport::Ud {
            // Datagrams come without a path that would have the address used.
            context.backend.gid()?;
            if context.backend.is_sealed() {
                backend::seal_datagrams(&queue_pair)?;
            }
        }
        asked.cap = cap;
        let parts = Parts {
            context: domain.context(),
            pd,
            xrcd: std::ptr::null_mut(),
            asked,
            queue_pair,
            domain: Some(Arc::clone(&domain.domain)),
            attributes: Arc::new(Mutex::new(ibv_qp_attr { cap, ..ibv_qp_attr::default() })),
        };
        // SAFETY: as the caller has it.
        Ok((unsafe { Self::assemble(parts, extended) }?, cap))
    }

    /// What a program has as a queue pair.
    ///
    /// # Safety
    /// What `parts` names must be the program's own, and live.
    pub(crate) unsafe fn assemble(parts: Parts, extended: Option<u64>) -> Result<*mut Self, c_int> {
        let Parts { context, pd, xrcd, asked, queue_pair, domain, attributes } = parts;
        let qpn = queue_pair.qpn().get();
        // SAFETY: numbers and pointers that may be null.
        let mut c: ibv_qp_ex = unsafe { std::mem::zeroed() };
        let base = &mut c.qp_base;
        base.context = context;
        base.qp_context = asked.qp_context;
        base.pd = pd;
        (base.send_cq, base.recv_cq) = (asked.send_cq, asked.recv_cq);
        base.srq = asked.srq;
        base.handle = handle();
        base.qp_num = qpn;
        // A target that was opened again has a state already.
        base.state = backend::snapshot(&queue_pair).state as u32;
        base.qp_type = asked.qp_type;
        base.mutex = libc::PTHREAD_MUTEX_INITIALIZER;
        base.cond = libc::PTHREAD_COND_INITIALIZER;
        if let Some(operations) = extended {
            extended_post::fill(&mut c, queue_pair.transport(), operations)?;
        }
        let mut whole = Box::<Self>::new_uninit();
        let at = whole.as_mut_ptr();
        // SAFETY: a context that has children isn't freed.
        let context = unsafe { Context::of(context) };
        let reporter = announce(Name::Qpn(qpn), Object::Qp(at.expose_provenance()), context);
        whole.write(Self {
            c: UnsafeCell::new(c),
            queue_pair,
            domain,
            xrcd,
            cap: asked.cap,
            sq_sig_all: asked.sq_sig_all != 0,
            reporter,
            attributes,
            groups: Groups::default(),
            is_extended: extended.is_some(),
            builder: Builder::default(),
        });
        // SAFETY: written just now.
        let at = Box::into_raw(unsafe { whole.assume_init() });
        // SAFETY: as above.
        unsafe { &*at }.parents().for_each(|children| {
            children.fetch_add(1, Ordering::AcqRel);
        });
        Ok(at)
    }
}

/// What a queue pair is made of: what the program asked for and got, and the device's own.
pub(crate) struct Parts {
    pub(crate) context: *mut ibv_context,
    /// Null for an XRC target.
    pub(crate) pd: *mut ibv_pd,
    /// Null for all others.
    pub(crate) xrcd: *mut ibv_xrcd,
    pub(crate) asked: ibv_qp_init_attr,
    pub(crate) queue_pair: QueuePair,
    pub(crate) domain: Option<Arc<backend::ProtectionDomain>>,
    pub(crate) attributes: Arc<Mutex<ibv_qp_attr>>,
}

/// What a program gets that asks for `cap`: nothing of a receive queue where it has none of its own.
fn granted(mut cap: ibv_qp_cap, receives: bool) -> Result<ibv_qp_cap, c_int> {
    if !receives {
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
        if !whole.groups.is_empty() {
            return number(EBUSY);
        }
        whole.reporter.withdraw(Name::Qpn(whole.queue_pair.qpn().get()), Object::Qp(qp.expose_provenance()));
        let parents = whole.parents();
        // Nothing completes any more from here on. An XRC target ends with its last user.
        if whole.xrcd.is_null() {
            let _ = backend::reset(&whole.queue_pair);
            whole.purge();
        }
        // SAFETY: `assemble` made it, and the program is done with it.
        drop(unsafe { Box::from_raw(qp.cast::<Qp>()) });
        parents.for_each(|children| {
            children.fetch_sub(1, Ordering::AcqRel);
        });
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
        if base.qp_type == IBV_QPT_XRC_RECV {
            if mask != IBV_QP_INIT_ATTR_XRCD {
                return null(EINVAL);
            }
            // SAFETY: the mask says that the domain is there, and what the attributes name lives.
            return match unsafe { xrc::create_target((*attr).xrcd, base) } {
                Ok(qp) => {
                    // SAFETY: as above; it gets to know that there are no queues.
                    unsafe { (*attr).cap = ibv_qp_cap::default() };
                    qp
                }
                Err(error) => null(error),
            };
        }
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
