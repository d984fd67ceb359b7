//! Domains of extended reliable connections (XRC), and their targets.
//!
//! As the kernel has it, those of one file are the same domain, and one without a file is nobody else's. A device is a
//! process's own here: programs that name the same file share the domain, and its targets, within a process only.

use crate::backend::{self, QueuePair, XrcDomain};
use crate::boundary::{null, number};
use crate::context::Context;
use crate::queue_pair::{Parts, Qp};
use libc::{EAGAIN, EBADF, EBUSY, EINVAL, EOPNOTSUPP, c_int};
use rdma_verbs_sys::{
    IBV_QP_OPEN_ATTR_CONTEXT, IBV_QP_OPEN_ATTR_NUM, IBV_QP_OPEN_ATTR_TYPE, IBV_QP_OPEN_ATTR_XRCD,
    IBV_QPT_XRC_RECV, IBV_XRCD_INIT_ATTR_FD, IBV_XRCD_INIT_ATTR_OFLAGS, ibv_context, ibv_qp, ibv_qp_attr,
    ibv_qp_cap, ibv_qp_init_attr, ibv_qp_open_attr, ibv_xrcd, ibv_xrcd_init_attr,
};
use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A domain, as one call opened it.
#[repr(C)]
pub(crate) struct Xrcd {
    c: UnsafeCell<ibv_xrcd>,
    pub(crate) domain: Arc<XrcDomain>,
    /// What was made in it by this name and is still there.
    pub(crate) users: AtomicUsize,
}

/// What tells a file's domain from others: this process after so many forks, the RDMA device's place among those that
/// the program sees, the file's device, its inode.
type FileId = (u64, usize, u64, u64);

/// The domains of files.
static FILES: Mutex<Option<HashMap<FileId, Weak<XrcDomain>>>> = Mutex::new(None);

/// What programs have set of targets: of one that was opened again, all users see the same. By device and number, in
/// this process after so many forks.
type Told = HashMap<(u64, usize, u32), Weak<Mutex<ibv_qp_attr>>>;

static TOLD: Mutex<Option<Told>> = Mutex::new(None);

fn attributes(device: usize, qpn: u32) -> Arc<Mutex<ibv_qp_attr>> {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let told = told.get_or_insert_default();
    told.retain(|_, attributes| attributes.strong_count() > 0);
    let of_target = told.entry((backend::forks(), device, qpn)).or_default();
    of_target.upgrade().unwrap_or_else(|| {
        let new = Arc::default();
        *of_target = Arc::downgrade(&new);
        new
    })
}

fn file_id(device: usize, fd: c_int) -> Result<FileId, c_int> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the place is ours.
    if unsafe { libc::fstat(fd, stat.as_mut_ptr()) } != 0 {
        return Err(EBADF);
    }
    // SAFETY: the call filled it.
    let stat = unsafe { stat.assume_init() };
    Ok((backend::forks(), device, stat.st_dev, stat.st_ino))
}

impl Xrcd {
    /// The domain that a program means.
    ///
    /// # Safety
    /// It must be one of ours that isn't closed.
    pub(crate) unsafe fn of<'a>(c: *mut ibv_xrcd) -> &'a Self {
        // SAFETY: it is the first field of ours.
        unsafe { &*c.cast() }
    }

    /// The device that it was opened in.
    pub(crate) fn context(&self) -> *mut ibv_context {
        // SAFETY: nobody writes it.
        unsafe { (*self.c.get()).context }
    }

    fn open(c: *mut ibv_context, asked: &ibv_xrcd_init_attr) -> Result<*mut ibv_xrcd, c_int> {
        let needed = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS;
        if asked.comp_mask & !needed != 0 {
            return Err(EOPNOTSUPP);
        }
        if asked.comp_mask != needed {
            return Err(EINVAL);
        }
        // SAFETY: the program says that it is open.
        let context = unsafe { Context::of(c) };
        context.check()?;
        let domain = match asked.fd {
            -1 => Arc::new(context.backend.xrc_domain()),
            fd => Self::of_file(context, file_id(context.backend.index(), fd)?, asked.oflags)?,
        };
        let whole = Self { c: UnsafeCell::new(ibv_xrcd { context: c }), domain, users: AtomicUsize::new(0) };
        context.children.fetch_add(1, Ordering::AcqRel);
        Ok(Box::into_raw(Box::new(whole)).cast())
    }

    /// The file's domain, with the error numbers of the kernel (`ib_uverbs_open_xrcd`).
    fn of_file(context: &Context, file: FileId, flags: c_int) -> Result<Arc<XrcDomain>, c_int> {
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        let files = files.get_or_insert_default();
        files.retain(|_, domain| domain.strong_count() > 0);
        match files.get(&file).and_then(Weak::upgrade) {
            Some(_) if flags & libc::O_EXCL != 0 => Err(EINVAL),
            Some(domain) => Ok(domain),
            None if flags & libc::O_CREAT == 0 => Err(EAGAIN),
            None => {
                let domain = Arc::new(context.backend.xrc_domain());
                files.insert(file, Arc::downgrade(&domain));
                Ok(domain)
            }
        }
    }
}

/// A target of a domain, new or opened again, as a program has it.
///
/// # Safety
/// `asked` is the program's own.
unsafe fn target(
    xrcd: *mut ibv_xrcd,
    asked: ibv_qp_init_attr,
    make: impl FnOnce(&XrcDomain) -> Result<QueuePair, c_int>,
) -> Result<*mut ibv_qp, c_int> {
    if xrcd.is_null() {
        return Err(EINVAL);
    }
    // SAFETY: the program says that it is one.
    let opened = unsafe { Xrcd::of(xrcd) };
    // SAFETY: a context that has children isn't freed.
    let device = unsafe { Context::of(opened.context()) };
    device.check()?;
    // It has no queues, and no protection domain.
    let asked = ibv_qp_init_attr {
        send_cq: std::ptr::null_mut(),
        recv_cq: std::ptr::null_mut(),
        srq: std::ptr::null_mut(),
        cap: ibv_qp_cap::default(),
        ..asked
    };
    let queue_pair = make(&opened.domain)?;
    let (context, pd) = (opened.context(), std::ptr::null_mut());
    let attributes = attributes(device.backend.index(), queue_pair.qpn().get());
    let parts = Parts { context, pd, xrcd, asked, queue_pair, domain: None, attributes };
    // SAFETY: what the attributes name lives.
    unsafe { Qp::assemble(parts, None) }.map(<*mut Qp>::cast)
}

/// A new target.
///
/// # Safety
/// `asked` is the program's own.
pub(crate) unsafe fn create_target(
    xrcd: *mut ibv_xrcd,
    asked: ibv_qp_init_attr,
) -> Result<*mut ibv_qp, c_int> {
    // SAFETY: the caller says so.
    unsafe { target(xrcd, asked, backend::xrc_target) }
}

operation! {
    std::ptr::null_mut(),
    /// ibv_open_xrcd(3).
    fn open_xrcd(context: *mut ibv_context, attr: *mut ibv_xrcd_init_attr) -> *mut ibv_xrcd {
        // SAFETY: the program gave the attributes.
        Xrcd::open(context, unsafe { &*attr }).unwrap_or_else(null)
    }

    libc::EIO,
    /// ibv_close_xrcd(3).
    fn close_xrcd(xrcd: *mut ibv_xrcd) -> c_int {
        // SAFETY: the program says that it is one.
        let whole = unsafe { Xrcd::of(xrcd) };
        if whole.users.load(Ordering::Acquire) != 0 {
            return number(EBUSY);
        }
        // SAFETY: a context that has children isn't freed.
        unsafe { Context::of(whole.context()) }.children.fetch_sub(1, Ordering::AcqRel);
        // SAFETY: `open` made it, and nobody uses it any more.
        drop(unsafe { Box::from_raw(xrcd.cast::<Xrcd>()) });
        0
    }

    std::ptr::null_mut(),
    /// ibv_open_qp(3).
    fn open_qp(context: *mut ibv_context, attr: *mut ibv_qp_open_attr) -> *mut ibv_qp {
        let _ = context;
        // SAFETY: the program gave the attributes.
        let asked = unsafe { &*attr };
        let needed = IBV_QP_OPEN_ATTR_NUM | IBV_QP_OPEN_ATTR_XRCD | IBV_QP_OPEN_ATTR_TYPE;
        if asked.comp_mask & !(needed | IBV_QP_OPEN_ATTR_CONTEXT) != 0 {
            return null(EOPNOTSUPP);
        }
        if asked.comp_mask & needed != needed || asked.qp_type != IBV_QPT_XRC_RECV {
            return null(EINVAL);
        }
        let has_context = asked.comp_mask & IBV_QP_OPEN_ATTR_CONTEXT != 0;
        let init = ibv_qp_init_attr {
            qp_context: if has_context { asked.qp_context } else { std::ptr::null_mut() },
            qp_type: asked.qp_type,
            ..ibv_qp_init_attr::default()
        };
        // SAFETY: what the attributes name lives.
        let opened = unsafe {
            target(asked.xrcd, init, |domain| backend::open_xrc_target(domain, asked.qp_num))
        };
        opened.unwrap_or_else(null)
    }
}
