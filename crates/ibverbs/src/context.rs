//! Opened devices.

use crate::backend::{self, Backend};
use crate::boundary::null;
use crate::device::Device;
use crate::events::Events;
use crate::{completion, domain, extended_completion, post, query, queue_pair, shared_receive, window, xrc};
use libc::{ENODEV, c_int};
use rdma_verbs_sys::{ibv_context, ibv_context_ops, ibv_device, verbs_context};
use std::cell::UnsafeCell;
use std::fs::{File, OpenOptions};
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An opened device.
#[repr(C)]
pub(crate) struct Context {
    c: UnsafeCell<verbs_context>,
    pub(crate) backend: Arc<Backend>,
    _command: File,
    pub(crate) events: Arc<Events>,
    /// What was made in it and is still there.
    pub(crate) children: AtomicUsize,
    /// [`backend::forks`] when it was opened.
    generation: u64,
}

impl Context {
    fn open(device: &Device) -> Result<*mut ibv_context, c_int> {
        let backend = backend::open(device.index())?;
        let events = Events::new().map_err(|error| error.raw_os_error().unwrap_or(libc::EMFILE))?;
        let events = Arc::new(events);
        // SAFETY: numbers and function pointers that may be null; what must not be zero is set below.
        let mut c: verbs_context = unsafe { std::mem::zeroed() };
        c.query_port = Some(query::query_port);
        c.alloc_parent_domain = Some(domain::alloc_parent_domain);
        c.alloc_td = Some(domain::alloc_td);
        c.dealloc_td = Some(domain::dealloc_td);
        c.modify_cq = Some(completion::modify_cq);
        c.query_rt_values = Some(query::query_rt_values);
        c.create_cq_ex = Some(extended_completion::create_cq_ex);
        c.query_device_ex = Some(query::query_device_ex);
        c.create_qp_ex = Some(queue_pair::create_qp_ex);
        c.open_qp = Some(xrc::open_qp);
        c.open_xrcd = Some(xrc::open_xrcd);
        c.close_xrcd = Some(xrc::close_xrcd);
        c.create_srq_ex = Some(shared_receive::create_srq_ex);
        c.get_srq_num = Some(shared_receive::get_srq_num);
        c.sz = size_of::<verbs_context>();
        c.context.device = device.c();
        c.context.ops = operations();
        // Programs may duplicate it and pass it around; nobody here reads it.
        let command = OpenOptions::new().read(true).write(true).open("/dev/null");
        let command = command.map_err(|error| error.raw_os_error().unwrap_or(libc::EMFILE))?;
        c.context.cmd_fd = command.as_raw_fd();
        c.context.async_fd = events.fd();
        c.context.num_comp_vectors = 1;
        c.context.abi_compat = std::ptr::without_provenance_mut(usize::MAX);
        let context = Box::leak(Box::new(Self {
            c: UnsafeCell::new(c),
            backend,
            _command: command,
            events,
            children: AtomicUsize::new(0),
            generation: backend::forks(),
        }));
        Ok(context.c())
    }

    pub(crate) fn c(&self) -> *mut ibv_context {
        // SAFETY: a place in what we have; no reference is made.
        unsafe { &raw mut (*self.c.get()).context }
    }

    /// The context that a program means.
    ///
    /// # Safety
    /// It must be one that ibv_open_device returned and that isn't closed.
    pub(crate) unsafe fn of<'a>(c: *mut ibv_context) -> &'a Self {
        // SAFETY: a program has the place of `context` in the whole, and the whole lives until it is closed.
        unsafe { &*c.byte_sub(offset_of!(verbs_context, context)).cast() }
    }

    /// `ENODEV` in a process that was forked off after the device was opened: what the parent has isn't its.
    pub(crate) fn check(&self) -> Result<(), c_int> {
        if self.generation == backend::forks() { Ok(()) } else { Err(ENODEV) }
    }
}

/// What programs call without going through a symbol.
fn operations() -> ibv_context_ops {
    // SAFETY: function pointers that may be null.
    let mut ops: ibv_context_ops = unsafe { std::mem::zeroed() };
    ops.poll_cq = Some(completion::poll_cq);
    ops.req_notify_cq = Some(completion::req_notify_cq);
    ops.post_send = Some(post::post_send);
    ops.post_recv = Some(post::post_recv);
    ops.post_srq_recv = Some(shared_receive::post_srq_recv);
    ops.alloc_mw = Some(window::alloc_mw);
    ops.bind_mw = Some(window::bind_mw);
    ops.dealloc_mw = Some(window::dealloc_mw);
    ops
}

export! {
    "IBVERBS_1.1", std::ptr::null_mut(),
    /// ibv_open_device(3).
    fn ibv_open_device(device: *mut ibv_device) -> *mut ibv_context {
        match Device::of(device).ok_or(ENODEV).and_then(Context::open) {
            Ok(context) => context,
            Err(error) => null(error),
        }
    }

    "IBVERBS_1.1", -1,
    /// ibv_close_device(3).
    fn ibv_close_device(context: *mut ibv_context) -> c_int {
        // SAFETY: the program says that it is open.
        let context = unsafe { Context::of(context) };
        context.events.close();
        if context.children.load(Ordering::Acquire) == 0 {
            // SAFETY: `open` leaked it, and nothing that was made in it is left.
            drop(unsafe { Box::from_raw(std::ptr::from_ref(context).cast_mut()) });
        }
        // What is still there goes on without it, until the program ends.
        0
    }
}
