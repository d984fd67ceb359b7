//! Completion channels and completion queues.

use super::context::Context;
use super::{check, made};
use crate::Error;
use crate::provider::{Ended, Source};
use crate::status::Status;
use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use rdma_verbs_sys::{
    IBV_WC_GRH, IBV_WC_RECV_RDMA_WITH_IMM, IBV_WC_WITH_IMM, IBV_WC_WITH_INV, ibv_comp_channel, ibv_cq, ibv_wc,
};
use rocev2::Qpn;
use rocev2::work::CompletionKind;
use rocev2_device::Arm;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The bit of a work request's number that says that it was a receive: a failed completion tells the queue in
/// no other way.
pub(super) const RECV: u64 = 1 << 63;

/// Completions taken from the library at a time.
const BATCH: usize = 16;

/// A completion channel.
pub(crate) struct Channel {
    context: Arc<Context>,
    raw: NonNull<ibv_comp_channel>,
}

// SAFETY: libibverbs' objects aren't tied to a thread.
unsafe impl Send for Channel {}
// SAFETY: libibverbs locks what it has to.
unsafe impl Sync for Channel {}

impl Channel {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Self, Error> {
        // SAFETY: the context is open.
        let raw = made(unsafe { context.library.ibv_create_comp_channel(context.raw.as_ptr()) })
            .map_err(context.failed("making a completion channel", ""))?;
        let channel = Self { context: Arc::clone(context), raw };
        // Asking for an event must not block: who waits sleeps in poll, with a time limit.
        rustix::io::ioctl_fionbio(channel.as_fd(), true)
            .map_err(|error| context.failed("making a completion channel non-blocking", "")(error.into()))?;
        Ok(channel)
    }

    /// Takes an event if there is one: the number of the queue that it came from. A device that is gone is an error.
    pub(crate) fn try_event(&self) -> Result<Option<u64>, Error> {
        let (mut queue, mut number) = (ptr::null_mut(), ptr::null_mut());
        let library = self.context.library;
        // SAFETY: the channel exists, and the library writes the two pointers.
        let result = unsafe { library.ibv_get_cq_event(self.raw.as_ptr(), &raw mut queue, &raw mut number) };
        match check(result) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(None);
            }
            Err(error) => return Err(Error::Wait(error)),
        }
        // SAFETY: the event came from this queue, which can't be destroyed before the event is acknowledged.
        unsafe { library.ibv_ack_cq_events(queue, 1) };
        Ok(Some(number.addr() as u64))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel exists, and this field doesn't change.
        let fd = unsafe { (*self.raw.as_ptr()).fd };
        // SAFETY: the descriptor stays open as long as the channel.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: every completion queue holds its channel, so none is left; it is destroyed once.
        unsafe { self.context.library.ibv_destroy_comp_channel(self.raw.as_ptr()) };
    }
}

/// A completion queue.
pub(crate) struct Queue {
    context: Arc<Context>,
    _channel: Option<Arc<Channel>>,
    pub(super) raw: NonNull<ibv_cq>,
    capacity: usize,
}

// SAFETY: libibverbs' objects aren't tied to a thread.
unsafe impl Send for Queue {}
// SAFETY: libibverbs locks what it has to.
unsafe impl Sync for Queue {}

impl Queue {
    /// A queue with room for at least `capacity` entries.
    pub(crate) fn new(
        context: &Arc<Context>,
        capacity: usize,
        channel: Option<&Arc<Channel>>,
    ) -> Result<Self, Error> {
        context.within("completion queue entries", capacity, context.limits.max_cqe)?;
        let entries = c_int::try_from(capacity.max(1)).unwrap_or(c_int::MAX);
        // Its number travels as the pointer that the library gives back with events.
        let number = context.next_queue.fetch_add(1, Ordering::Relaxed);
        let number = ptr::without_provenance_mut(usize::try_from(number).unwrap_or(usize::MAX));
        let raw_channel = channel.map_or(ptr::null_mut(), |channel| channel.raw.as_ptr());
        let library = context.library;
        // SAFETY: the context is open, and the channel, if any, exists and is kept by the queue.
        let raw =
            made(unsafe { library.ibv_create_cq(context.raw.as_ptr(), entries, number, raw_channel, 0) })
                .map_err(context.failed("making a completion queue", ""))?;
        // SAFETY: the library made it, and this field doesn't change.
        let entries = unsafe { (*raw.as_ptr()).cqe };
        let capacity = usize::try_from(entries).unwrap_or(capacity);
        Ok(Self { context: Arc::clone(context), _channel: channel.cloned(), raw, capacity })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn is_of(&self, context: &Arc<Context>) -> bool {
        Arc::ptr_eq(&self.context, context)
    }

    /// Hands up to `max` completions to `take` and returns how many.
    pub(crate) fn poll(&self, max: usize, mut take: impl FnMut(Ended)) -> Result<usize, Error> {
        let mut total = 0;
        while total < max {
            let wanted = (max - total).min(BATCH);
            let mut entries = [const { MaybeUninit::<ibv_wc>::uninit() }; BATCH];
            let count = c_int::try_from(wanted).unwrap_or(c_int::MAX);
            // SAFETY: the queue exists, and the array has room for `count` entries.
            let got = unsafe {
                rdma_verbs_sys::ibv_poll_cq(self.raw.as_ptr(), count, entries.as_mut_ptr().cast::<ibv_wc>())
            };
            let Ok(got) = usize::try_from(got) else {
                let failed = self.context.failed("polling a completion queue", "");
                return Err(failed(io::Error::last_os_error()));
            };
            for entry in &entries[..got.min(wanted)] {
                // SAFETY: the library filled as many entries as it says.
                take(ended(unsafe { entry.assume_init_ref() }));
            }
            total += got;
            if got < wanted {
                break;
            }
        }
        Ok(total)
    }

    /// Asks for one event on the channel.
    pub(crate) fn arm(&self, arm: Arm) {
        let solicited_only = c_int::from(arm == Arm::Solicited);
        // It fails only on queues without a channel, for which it means nothing.
        // SAFETY: the queue exists.
        let _ = unsafe { rdma_verbs_sys::ibv_req_notify_cq(self.raw.as_ptr(), solicited_only) };
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: every queue pair holds its queues, so none is left, and events are acknowledged when they
        // are taken; it is destroyed once.
        unsafe { self.context.library.ibv_destroy_cq(self.raw.as_ptr()) };
    }
}

/// What the library says of the end of a work request.
fn ended(entry: &ibv_wc) -> Ended {
    let status = Status::from_number(entry.status);
    let recv = entry.wr_id & RECV != 0;
    let good = status == Status::Success;
    let has = |flag: u32| good && recv && entry.wc_flags & flag != 0;
    // SAFETY: both members of the union are 32-bit numbers, which any bytes are.
    let number = unsafe { entry.immediate.imm_data };
    Ended {
        number: entry.wr_id & !RECV,
        qpn: Qpn::truncate(entry.qp_num),
        recv,
        status,
        kind: (good && recv).then_some(if entry.opcode == IBV_WC_RECV_RDMA_WITH_IMM {
            CompletionKind::RecvWriteImmediate
        } else {
            CompletionKind::Recv
        }),
        len: if good && recv { entry.byte_len } else { 0 },
        immediate: has(IBV_WC_WITH_IMM).then(|| u32::from_be(number)),
        invalidated: has(IBV_WC_WITH_INV).then_some(number),
        // Of connections the field isn't set, and whoever asks knows the peer.
        source: (good && recv)
            .then(|| Source { qpn: Qpn::truncate(entry.src_qp), grh: entry.wc_flags & IBV_WC_GRH != 0 }),
    }
}
