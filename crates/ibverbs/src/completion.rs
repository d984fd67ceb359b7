//! Completion queues.

use crate::backend::{Arm, CompletionKind, CompletionQueue, Qpn, WorkCompletion};
use crate::boundary::{null, number};
use crate::channel::Channel;
use crate::context::Context;
use crate::domain::handle;
use crate::events::{Name, Object, Reporter, announce};
use libc::{EBUSY, EINVAL, c_int, c_uint, c_void};
use rdma_verbs_sys::{
    IBV_CQ_ATTR_MODERATE, IBV_WC_BIND_MW, IBV_WC_COMP_SWAP, IBV_WC_FETCH_ADD, IBV_WC_GRH, IBV_WC_LOCAL_INV,
    IBV_WC_RDMA_READ, IBV_WC_RDMA_WRITE, IBV_WC_RECV, IBV_WC_RECV_RDMA_WITH_IMM, IBV_WC_SEND,
    IBV_WC_WITH_IMM, IBV_WC_WITH_INV, ibv_comp_channel, ibv_context, ibv_cq, ibv_cq_ex, ibv_modify_cq_attr,
    ibv_wc, ibv_wc_immediate,
};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// A completion queue, extended or not: both begin alike.
#[repr(C)]
pub(crate) struct Cq {
    pub(crate) c: UnsafeCell<ibv_cq_ex>,
    pub(crate) queue: CompletionQueue,
    /// Queue pairs that complete into it.
    pub(crate) users: AtomicUsize,
    pub(crate) reporter: Reporter,
    /// What a datagram's completion says as its service level.
    datagram_type: u8,
    channel: *mut ibv_comp_channel,
    /// Events that the program has read and not acknowledged.
    unacknowledged: Mutex<u32>,
    acknowledged: Condvar,
    /// Held by whoever takes completions out.
    polling: AtomicBool,
    /// Only for whoever holds `polling`.
    pub(crate) polled: UnsafeCell<Polled>,
}

/// What a poll has taken out of the queue.
pub(crate) struct Polled {
    /// Taken out together, not handed over yet from `next` on.
    batch: Vec<WorkCompletion>,
    next: usize,
    /// What an extended poll is at.
    pub(crate) current: ibv_wc,
    /// When that was taken out: nanoseconds of the monotonic clock, and of the wall clock.
    pub(crate) times: [u64; 2],
}

/// Completions that are taken out together.
const BATCH: usize = 64;

/// RoCE has no service levels. Where a datagram's would be, network cards tell what carried it (IBA A17.4.5.1 asks for
/// such a flag, and names no place): a UDP header, bit 3, behind an IPv6 header, 1, or an IPv4 header, 2. UCX goes by
/// it.
const OVER_IPV6: u8 = 1 << 3 | 1;
const OVER_IPV4: u8 = 1 << 3 | 2;

/// The smallest queue.
const SMALLEST: usize = 256;

impl Cq {
    /// The completion queue that a program means.
    ///
    /// # Safety
    /// It must be one of ours that isn't destroyed.
    pub(crate) unsafe fn of<'a>(c: *mut ibv_cq) -> &'a Self {
        // SAFETY: it is the first field of ours.
        unsafe { &*c.cast() }
    }

    /// Makes one; `extend` sets up what only extended ones have.
    pub(crate) fn make(
        context: *mut ibv_context,
        cqe: usize,
        cq_context: *mut c_void,
        channel: *mut ibv_comp_channel,
        vector: c_int,
        extend: impl FnOnce(&mut ibv_cq_ex),
    ) -> Result<*mut Self, c_int> {
        if cqe == 0 || vector != 0 {
            return Err(EINVAL);
        }
        // SAFETY: the program says that it is open.
        let opened = unsafe { Context::of(context) };
        opened.check()?;
        // SAFETY: the program says that it is one.
        let own = (!channel.is_null()).then(|| unsafe { Channel::of(channel) });
        let notified = own.map(|channel| channel.channel.clone());
        if cqe > crate::backend::ATTRIBUTES.max_cqe {
            return Err(EINVAL);
        }
        let queue = opened.backend.completion_queue(cqe.max(SMALLEST), notified)?;
        // SAFETY: numbers and pointers that may be null.
        let mut c: ibv_cq_ex = unsafe { std::mem::zeroed() };
        c.context = context;
        c.channel = channel;
        c.cq_context = cq_context;
        c.handle = handle();
        c.cqe = c_int::try_from(cqe).map_err(|_| EINVAL)?;
        c.mutex = libc::PTHREAD_MUTEX_INITIALIZER;
        c.cond = libc::PTHREAD_COND_INITIALIZER;
        extend(&mut c);
        let number = queue.number();
        let mut whole = Box::<Self>::new_uninit();
        let at = whole.as_mut_ptr();
        let reporter = announce(Name::Queue(number), Object::Cq(at.expose_provenance()), opened);
        whole.write(Self {
            c: UnsafeCell::new(c),
            queue,
            users: AtomicUsize::new(0),
            reporter,
            datagram_type: if opened.backend.interface().address.is_ipv4() { OVER_IPV4 } else { OVER_IPV6 },
            channel,
            unacknowledged: Mutex::new(0),
            acknowledged: Condvar::new(),
            polling: AtomicBool::new(false),
            polled: UnsafeCell::new(Polled {
                batch: Vec::with_capacity(BATCH),
                next: 0,
                current: ibv_wc::default(),
                times: [0; 2],
            }),
        });
        // SAFETY: written just now.
        let at = Box::into_raw(unsafe { whole.assume_init() });
        opened.children.fetch_add(1, Ordering::AcqRel);
        if let Some(channel) = own {
            channel.add(number, at);
        }
        Ok(at)
    }

    /// The program read an event of its channel.
    pub(crate) fn event_read(&self) {
        *self.unacknowledged.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    /// The program acknowledges events.
    pub(crate) fn acknowledge(&self, count: c_uint) {
        let mut unacknowledged = self.unacknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        *unacknowledged = unacknowledged.saturating_sub(count);
        // SAFETY: under the lock; the program reads it at most.
        unsafe { (*self.c.get()).comp_events_completed += count };
        self.acknowledged.notify_all();
    }

    fn wait_acknowledged(&self) {
        let mut unacknowledged = self.unacknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        while *unacknowledged != 0 {
            unacknowledged = self.acknowledged.wait(unacknowledged).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until nobody else takes completions out: that takes no longer than a poll, unless a program leaves an
    /// extended one open.
    pub(crate) fn begin_polling(&self) {
        while self.polling.swap(true, Ordering::Acquire) {
            while self.polling.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        }
    }

    pub(crate) fn end_polling(&self) {
        self.polling.store(false, Ordering::Release);
    }

    /// The next completion, from the queue if none is left of those taken out before; `None` if there is none.
    ///
    /// # Safety
    /// Only between [`Self::begin_polling`] and [`Self::end_polling`].
    pub(crate) unsafe fn next(&self, wanted: usize) -> Result<Option<WorkCompletion>, c_int> {
        // SAFETY: the caller holds `polling`.
        let polled = unsafe { &mut *self.polled.get() };
        if polled.next == polled.batch.len() {
            polled.batch.clear();
            polled.next = 0;
            if self.queue.poll(&mut polled.batch, wanted.min(BATCH)).is_err() {
                return Err(libc::EOVERFLOW);
            }
        }
        let next = polled.batch.get(polled.next).copied();
        polled.next += usize::from(next.is_some());
        Ok(next)
    }

    /// Drops the completions of a queue pair that is reset or destroyed: its next ones must not be taken for them.
    pub(crate) fn purge(&self, qpn: u32) {
        self.begin_polling();
        // SAFETY: we hold it.
        let polled = unsafe { &mut *self.polled.get() };
        polled.batch.drain(..polled.next);
        polled.next = 0;
        // An overflowed queue has nothing more to give.
        let _ = self.queue.poll(&mut polled.batch, self.queue.capacity());
        polled.batch.retain(|entry| entry.qpn.get() != qpn);
        self.end_polling();
    }

    fn destroy(at: *mut Self) -> c_int {
        // SAFETY: the program says that it is one.
        let cq = unsafe { &*at };
        if cq.users.load(Ordering::Acquire) != 0 {
            return EBUSY;
        }
        let number = cq.queue.number();
        if !cq.channel.is_null() {
            // SAFETY: a channel that has queues isn't destroyed.
            unsafe { Channel::of(cq.channel) }.remove(number);
        }
        cq.reporter.withdraw(Name::Queue(number), Object::Cq(at.expose_provenance()));
        cq.wait_acknowledged();
        // SAFETY: nobody writes it, and a context that has children isn't freed.
        unsafe { Context::of((*cq.c.get()).context) }.children.fetch_sub(1, Ordering::AcqRel);
        // SAFETY: `make` made it, and nobody uses it any more.
        drop(unsafe { Box::from_raw(at) });
        0
    }
}

/// A completion of `cq` as C has it.
pub(crate) fn work_completion(cq: &Cq, entry: &WorkCompletion) -> ibv_wc {
    let completion = &entry.completion;
    let mut wc = ibv_wc {
        wr_id: completion.id,
        status: u32::from(completion.status as u8),
        opcode: match completion.kind {
            CompletionKind::Send => IBV_WC_SEND,
            CompletionKind::Write => IBV_WC_RDMA_WRITE,
            CompletionKind::Read => IBV_WC_RDMA_READ,
            CompletionKind::CompareSwap => IBV_WC_COMP_SWAP,
            CompletionKind::FetchAdd => IBV_WC_FETCH_ADD,
            CompletionKind::Recv => IBV_WC_RECV,
            CompletionKind::RecvWriteImmediate => IBV_WC_RECV_RDMA_WITH_IMM,
            CompletionKind::BindWindow => IBV_WC_BIND_MW,
            CompletionKind::LocalInvalidate => IBV_WC_LOCAL_INV,
        },
        byte_len: completion.len,
        qp_num: entry.qpn.get(),
        src_qp: completion.source_qp.map_or(0, Qpn::get),
        wc_flags: if completion.grh { IBV_WC_GRH } else { 0 },
        pkey_index: completion.pkey_index,
        sl: if completion.grh { cq.datagram_type } else { 0 },
        ..ibv_wc::default()
    };
    if let Some(immediate) = completion.immediate {
        wc.wc_flags |= IBV_WC_WITH_IMM;
        wc.immediate = ibv_wc_immediate { imm_data: immediate.to_be() };
    } else if let Some(rkey) = completion.invalidated {
        wc.wc_flags |= IBV_WC_WITH_INV;
        wc.immediate = ibv_wc_immediate { invalidated_rkey: rkey };
    }
    wc
}

operation! {
    -1,
    /// ibv_poll_cq(3).
    fn poll_cq(cq: *mut ibv_cq, num_entries: c_int, wc: *mut ibv_wc) -> c_int {
        // SAFETY: the program says that it is one.
        let cq = unsafe { Cq::of(cq) };
        let Ok(wanted) = usize::try_from(num_entries) else { return -1 };
        let mut count = 0;
        let mut failed = false;
        cq.begin_polling();
        while count < wanted {
            // SAFETY: we hold it.
            match unsafe { cq.next(wanted - count) } {
                // SAFETY: the program has room for `num_entries`.
                Ok(Some(entry)) => unsafe { wc.add(count).write(work_completion(cq, &entry)) },
                Ok(None) => break,
                Err(_) => {
                    failed = count == 0;
                    break;
                }
            }
            count += 1;
            // SAFETY: we hold it.
            let polled = unsafe { &*cq.polled.get() };
            if polled.next == polled.batch.len() && polled.batch.len() < BATCH {
                // There were no more: looking again would be a poll of its own.
                break;
            }
        }
        cq.end_polling();
        if failed { -1 } else { c_int::try_from(count).unwrap_or(c_int::MAX) }
    }

    libc::EIO,
    /// ibv_req_notify_cq(3).
    fn req_notify_cq(cq: *mut ibv_cq, solicited_only: c_int) -> c_int {
        // SAFETY: the program says that it is one.
        let cq = unsafe { Cq::of(cq) };
        cq.queue.arm(if solicited_only == 0 { Arm::Any } else { Arm::Solicited });
        0
    }

    libc::EIO,
    /// ibv_modify_cq(3). Moderation is a wish: events come one by one.
    fn modify_cq(cq: *mut ibv_cq, attr: *mut ibv_modify_cq_attr) -> c_int {
        let _ = cq;
        // SAFETY: the program gave the attributes.
        if unsafe { (*attr).attr_mask } & !IBV_CQ_ATTR_MODERATE != 0 { number(EINVAL) } else { 0 }
    }
}

export! {
    "IBVERBS_1.1", std::ptr::null_mut(),
    /// ibv_create_cq(3).
    fn ibv_create_cq(
        context: *mut ibv_context,
        cqe: c_int,
        cq_context: *mut c_void,
        channel: *mut ibv_comp_channel,
        comp_vector: c_int,
    ) -> *mut ibv_cq {
        let cqe = usize::try_from(cqe).unwrap_or(0);
        match Cq::make(context, cqe, cq_context, channel, comp_vector, |_| {}) {
            Ok(cq) => cq.cast(),
            Err(error) => null(error),
        }
    }

    "IBVERBS_1.1", libc::EIO,
    /// ibv_destroy_cq(3).
    fn ibv_destroy_cq(cq: *mut ibv_cq) -> c_int {
        number(Cq::destroy(cq.cast()))
    }

    "IBVERBS_1.1", libc::EIO,
    /// ibv_resize_cq(3).
    fn ibv_resize_cq(cq: *mut ibv_cq, cqe: c_int) -> c_int {
        // SAFETY: the program says that it is one.
        let whole = unsafe { Cq::of(cq) };
        let wanted = usize::try_from(cqe).unwrap_or(0);
        if wanted == 0 || wanted > crate::backend::ATTRIBUTES.max_cqe {
            return number(EINVAL);
        }
        whole.begin_polling();
        // SAFETY: we hold it.
        let polled = unsafe { &*whole.polled.get() };
        // What has been taken out for the program and not handed over yet is in the queue, as it sees it.
        let held = polled.batch.len() - polled.next + whole.queue.len();
        let resized = if held > wanted { Err(EINVAL) } else { Ok(()) }
            .and_then(|()| whole.queue.resize(wanted.max(SMALLEST)).map_err(|_| EINVAL));
        whole.end_polling();
        if let Err(error) = resized {
            return number(error);
        }
        // SAFETY: the program doesn't use it meanwhile.
        unsafe { (*cq).cqe = cqe };
        0
    }
}
