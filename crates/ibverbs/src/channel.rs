//! Completion channels.

use crate::backend::CompletionChannel;
use crate::boundary::{null, number, set_errno};
use crate::completion::Cq;
use crate::context::Context;
use crate::events::wait_readable;
use libc::{EBUSY, c_int, c_uint, c_void};
use rdma_verbs_sys::{ibv_comp_channel, ibv_context, ibv_cq};
use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// A completion channel.
#[repr(C)]
pub(crate) struct Channel {
    c: UnsafeCell<ibv_comp_channel>,
    pub(crate) channel: Arc<CompletionChannel>,
    /// The completion queues that use it, by the device's numbers for them.
    queues: Mutex<HashMap<u64, usize>>,
}

impl Channel {
    /// The channel that a program means.
    ///
    /// # Safety
    /// It must be one of ours that isn't destroyed.
    pub(crate) unsafe fn of<'a>(c: *mut ibv_comp_channel) -> &'a Self {
        // SAFETY: it is the first field of ours.
        unsafe { &*c.cast() }
    }

    fn new(context: *mut ibv_context) -> Result<Self, c_int> {
        // SAFETY: the program says that it is open.
        let opened = unsafe { Context::of(context) };
        opened.check()?;
        let channel = opened.backend.channel()?;
        let fd = channel.as_fd().as_raw_fd();
        // ibv_get_cq_event waits, unless the program sets O_NONBLOCK itself.
        // SAFETY: a descriptor of ours.
        unsafe { libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) & !libc::O_NONBLOCK) };
        let c = UnsafeCell::new(ibv_comp_channel { context, fd, refcnt: 0 });
        Ok(Self { c, channel, queues: Mutex::default() })
    }

    /// `queue` uses it from now on; `cq` is what the program knows it as.
    pub(crate) fn add(&self, queue: u64, cq: *mut Cq) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).insert(queue, cq.expose_provenance());
    }

    /// `queue` doesn't use it any more; an event of its that nobody has read is dropped when it comes up.
    pub(crate) fn remove(&self, queue: u64) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).remove(&queue);
    }

    /// The next event's completion queue; waits for it unless the descriptor is `O_NONBLOCK`.
    fn next(&self) -> Result<*mut Cq, c_int> {
        loop {
            wait_readable(self.channel.as_fd().as_raw_fd())?;
            let Some(number) = self.channel.try_event() else { continue };
            let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = queues.get(&number) {
                let cq = std::ptr::with_exposed_provenance_mut::<Cq>(*at);
                // SAFETY: whoever destroys it removes it from the list first.
                unsafe { &*cq }.event_read();
                return Ok(cq);
            }
        }
    }
}

export! {
    "IBVERBS_1.0", std::ptr::null_mut(),
    /// ibv_create_comp_channel(3).
    fn ibv_create_comp_channel(context: *mut ibv_context) -> *mut ibv_comp_channel {
        match Channel::new(context) {
            Ok(channel) => {
                // SAFETY: the program says that it is open.
                unsafe { Context::of(context) }.children.fetch_add(1, Ordering::AcqRel);
                Box::into_raw(Box::new(channel)).cast()
            }
            Err(error) => null(error),
        }
    }

    "IBVERBS_1.0", libc::EIO,
    /// ibv_destroy_comp_channel(3).
    fn ibv_destroy_comp_channel(channel: *mut ibv_comp_channel) -> c_int {
        // SAFETY: the program says that it is one.
        let whole = unsafe { Channel::of(channel) };
        if !whole.queues.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return number(EBUSY);
        }
        // SAFETY: nobody writes it, and a context that has children isn't freed.
        unsafe { Context::of((*whole.c.get()).context) }.children.fetch_sub(1, Ordering::AcqRel);
        // SAFETY: ibv_create_comp_channel made it, and nobody uses it.
        drop(unsafe { Box::from_raw(channel.cast::<Channel>()) });
        0
    }

    "IBVERBS_1.1", -1,
    /// ibv_get_cq_event(3).
    fn ibv_get_cq_event(channel: *mut ibv_comp_channel, cq: *mut *mut ibv_cq, cq_context: *mut *mut c_void) -> c_int {
        // SAFETY: the program says that it is one.
        match unsafe { Channel::of(channel) }.next() {
            Ok(found) => {
                let found: *mut ibv_cq = found.cast();
                // SAFETY: the program gave places for both, and acknowledges the event before it destroys the queue.
                unsafe {
                    cq.write(found);
                    cq_context.write((*found).cq_context);
                }
                0
            }
            Err(error) => {
                set_errno(error);
                -1
            }
        }
    }

    "IBVERBS_1.1", (),
    /// ibv_ack_cq_events(3).
    fn ibv_ack_cq_events(cq: *mut ibv_cq, count: c_uint) {
        // SAFETY: destroying it waits for this.
        unsafe { Cq::of(cq) }.acknowledge(count);
    }
}
