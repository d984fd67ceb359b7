//! Work requests: from C's lists to the device's.

use crate::address::Ah;
use crate::backend::{
    self, ATTRIBUTES, AtomicOperation, Buffers, Datagram, Element, PostError, ProtectionDomain, Qpn,
    Recipient, RecvRequest, RemoteAddress, SendOperation, SendRequest, Srqn, Transport,
};
use crate::boundary::number;
use crate::queue_pair::Qp;
use crate::window;
use libc::{EINVAL, EOPNOTSUPP, c_int};
use rdma_verbs_sys::{
    IBV_SEND_FENCE, IBV_SEND_INLINE, IBV_SEND_SIGNALED, IBV_SEND_SOLICITED, IBV_WR_ATOMIC_CMP_AND_SWP,
    IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WR_BIND_MW, IBV_WR_LOCAL_INV, IBV_WR_RDMA_READ, IBV_WR_RDMA_WRITE,
    IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_SEND, IBV_WR_SEND_WITH_IMM, IBV_WR_SEND_WITH_INV, ibv_ah, ibv_qp,
    ibv_recv_wr, ibv_send_wr, ibv_sge,
};
use smallvec::SmallVec;
use std::cell::Cell;

/// The elements of a list; how many bytes they are. One with a key that no region has fails when it is used, as on
/// hardware.
pub(crate) fn elements(domain: &ProtectionDomain, list: &[ibv_sge]) -> (Buffers, u64) {
    let mut len = 0;
    let mut elements: SmallVec<[Element; 1]> = SmallVec::new();
    // An empty element may have any key.
    for sge in list.iter().filter(|sge| sge.length != 0) {
        len += u64::from(sge.length);
        elements.push(domain.element(sge.lkey, sge.addr, sge.length));
    }
    (Buffers::List(elements), len)
}

/// The list of a request.
///
/// # Safety
/// A program's: `num` elements from `list` on.
unsafe fn list<'a>(list: *const ibv_sge, num: c_int, most: u32) -> Result<&'a [ibv_sge], c_int> {
    let num = u32::try_from(num).map_err(|_| EINVAL)?;
    if num > most {
        return Err(EINVAL);
    }
    if num == 0 || list.is_null() {
        return Ok(&[]);
    }
    // SAFETY: the caller says so; the program leaves them alone until the call returns.
    Ok(unsafe { std::slice::from_raw_parts(list, num as usize) })
}

/// Copies the bytes that `list` names.
///
/// # Safety
/// A program's, inline: the addresses are its own.
unsafe fn copy(qp: &Qp, list: &[ibv_sge]) -> Result<(Buffers, u64), c_int> {
    let len: u64 = list.iter().map(|sge| u64::from(sge.length)).sum();
    if len > qp.cap.max_inline_data.into() || len > ATTRIBUTES.max_inline as u64 {
        return Err(EINVAL);
    }
    let mut bytes = SmallVec::new();
    for sge in list.iter().filter(|sge| sge.length != 0) {
        let Ok(at) = usize::try_from(sge.addr) else { return Err(EINVAL) };
        // SAFETY: the program says that it may be read.
        bytes.extend_from_slice(unsafe {
            std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(at), sge.length as usize)
        });
    }
    Ok((Buffers::Inline(bytes), len))
}

/// # Safety
/// A program's request.
unsafe fn send_request(qp: &Qp, wr: &ibv_send_wr) -> Result<SendRequest<Buffers>, c_int> {
    let domain = qp.domain()?;
    // SAFETY: the opcode says which member of each union is valid.
    let (rdma, atomic, immediate, invalidated) = unsafe {
        (wr.wr.rdma, wr.wr.atomic, u32::from_be(wr.immediate.imm_data), wr.immediate.invalidate_rkey)
    };
    let remote = RemoteAddress { va: rdma.remote_addr, rkey: rdma.rkey };
    let word = RemoteAddress { va: atomic.remote_addr, rkey: atomic.rkey };
    let operation = match wr.opcode {
        IBV_WR_SEND => SendOperation::Send,
        IBV_WR_SEND_WITH_IMM => SendOperation::SendImmediate(immediate),
        IBV_WR_SEND_WITH_INV => SendOperation::SendInvalidate(invalidated),
        IBV_WR_RDMA_WRITE => SendOperation::Write(remote),
        IBV_WR_RDMA_WRITE_WITH_IMM => SendOperation::WriteImmediate(remote, immediate),
        IBV_WR_RDMA_READ => SendOperation::Read(remote),
        IBV_WR_ATOMIC_CMP_AND_SWP => SendOperation::Atomic(
            word,
            AtomicOperation::CompareSwap { compare: atomic.compare_add, swap: atomic.swap },
        ),
        IBV_WR_ATOMIC_FETCH_AND_ADD => {
            SendOperation::Atomic(word, AtomicOperation::FetchAdd { add: atomic.compare_add })
        }
        IBV_WR_LOCAL_INV => SendOperation::LocalInvalidate(invalidated),
        IBV_WR_BIND_MW => {
            let operation = SendOperation::BindWindow;
            // SAFETY: the opcode says that this member is valid; what it names is the program's own.
            let (buffers, _) = unsafe {
                let to = wr.extension.bind_mw;
                window::bind(to.mw, Some(to.rkey), &to.bind_info)
            }?;
            let work = Work { id: wr.wr_id, flags: wr.send_flags, operation, destination: None };
            return request(qp, work, buffers, 0);
        }
        _ => return Err(EOPNOTSUPP),
    };
    // SAFETY: the program's list.
    let list = unsafe { list(wr.sg_list, wr.num_sge, qp.cap.max_send_sge) }?;
    let (buffers, len) = if wr.send_flags & IBV_SEND_INLINE != 0 {
        if operation.is_read_or_atomic() {
            return Err(EINVAL);
        }
        // SAFETY: as above.
        unsafe { copy(qp, list) }?
    } else {
        elements(domain, list)
    };
    let destination = match qp.queue_pair.transport() {
        Transport::Ud => {
            // SAFETY: on a queue pair for datagrams this member is valid.
            let ud = unsafe { wr.wr.ud };
            // SAFETY: the program's own.
            Some(unsafe { datagram(ud.ah, ud.remote_qpn, ud.remote_qkey) }?)
        }
        // SAFETY: on a queue pair of XRC this member is valid.
        Transport::Xrc => Some(shared_receive_queue(unsafe { wr.qp_type.xrc.remote_srqn })),
        Transport::Rc | Transport::Uc => None,
    };
    let work = Work { id: wr.wr_id, flags: wr.send_flags, operation, destination };
    request(qp, work, buffers, len)
}

/// Where a datagram goes.
///
/// # Safety
/// The handle must be one of ours that isn't destroyed, or null.
pub(crate) unsafe fn datagram(ah: *mut ibv_ah, qpn: u32, qkey: u32) -> Result<Recipient, c_int> {
    if ah.is_null() {
        return Err(EINVAL);
    }
    // SAFETY: the caller says so.
    let whole = unsafe { Ah::of(ah) };
    let (address, remote_qpn) = (whole.handle.id(), Qpn::truncate(qpn));
    // Keys are agreed on with the first datagram for a device: that one waits for them.
    whole.context().backend.seal_datagrams(&whole.known, remote_qpn)?;
    Ok(Recipient::Datagram(Datagram { address, remote_qpn, remote_qkey: qkey }))
}

/// Which shared receive queue a request of XRC is for.
pub(crate) fn shared_receive_queue(number: u32) -> Recipient {
    Recipient::SharedReceiveQueue(Srqn::truncate(number))
}

/// What a request is, without its bytes.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) id: u64,
    pub(crate) flags: u32,
    pub(crate) operation: SendOperation,
    pub(crate) destination: Option<Recipient>,
}

/// A request for the send queue, with C's flags.
pub(crate) fn request(
    qp: &Qp,
    work: Work,
    buffers: Buffers,
    len: u64,
) -> Result<SendRequest<Buffers>, c_int> {
    let Work { id, flags, operation, destination } = work;
    let len = u32::try_from(len).ok().filter(|len| *len <= backend::MAX_MESSAGE).ok_or(EINVAL)?;
    Ok(SendRequest {
        id,
        operation,
        buffers,
        len,
        signaled: qp.sq_sig_all || flags & IBV_SEND_SIGNALED != 0,
        solicited: flags & IBV_SEND_SOLICITED != 0,
        fence: flags & IBV_SEND_FENCE != 0,
        destination,
    })
}

/// The request at `at`, and the one behind it.
///
/// # Safety
/// A program's.
pub(crate) unsafe fn receive_request(
    domain: &ProtectionDomain,
    max_sge: u32,
    at: *mut ibv_recv_wr,
) -> (Result<RecvRequest<Buffers>, c_int>, *mut ibv_recv_wr) {
    // SAFETY: the caller says so.
    let wr = unsafe { &*at };
    // SAFETY: as above.
    let list = unsafe { list(wr.sg_list, wr.num_sge, max_sge) };
    let request = list.map(|list| {
        let (buffers, len) = elements(domain, list);
        RecvRequest { id: wr.wr_id, buffers, len }
    });
    (request, wr.next)
}

/// Requests as they are taken from a program's list.
pub(crate) struct Walk<T> {
    /// The one that comes next.
    next: Cell<*mut T>,
    /// The one that was handed over last.
    last: Cell<*mut T>,
    error: Cell<c_int>,
}

impl<T> Walk<T> {
    pub(crate) fn new(first: *mut T) -> Self {
        Self { next: Cell::new(first), last: Cell::new(std::ptr::null_mut()), error: Cell::new(0) }
    }

    /// The next request as `convert` makes it; `None` at the end, or where there is something wrong with it.
    pub(crate) fn step<R>(&self, convert: impl FnOnce(*mut T) -> (Result<R, c_int>, *mut T)) -> Option<R> {
        let at = self.next.get();
        if at.is_null() {
            return None;
        }
        let (converted, next) = convert(at);
        match converted {
            Ok(request) => {
                self.last.set(at);
                self.next.set(next);
                Some(request)
            }
            Err(error) => {
                self.error.set(error);
                None
            }
        }
    }

    /// What the verb returns; `bad` gets the first request that wasn't taken.
    ///
    /// # Safety
    /// `bad` must be a place for a pointer.
    pub(crate) unsafe fn finish(&self, posted: Result<(), PostError>, bad: *mut *mut T) -> c_int {
        let (at, error) = match posted {
            Err(error) => (self.last.get(), backend::refused(&error)),
            Ok(()) if self.error.get() != 0 => (self.next.get(), self.error.get()),
            Ok(()) => return 0,
        };
        // SAFETY: the caller says so.
        unsafe { bad.write(at) };
        number(error)
    }
}

operation! {
    libc::EIO,
    /// ibv_post_send(3).
    fn post_send(qp: *mut ibv_qp, wr: *mut ibv_send_wr, bad_wr: *mut *mut ibv_send_wr) -> c_int {
        // SAFETY: the program says that it is one.
        let qp = unsafe { Qp::of(qp) };
        let walk = Walk::new(wr);
        let requests = std::iter::from_fn(|| {
            // SAFETY: the program's list.
            walk.step(|at| unsafe { (send_request(qp, &*at), (*at).next) })
        });
        let posted = qp.queue_pair.post_send_list(requests);
        // SAFETY: the program gave a place for it.
        unsafe { walk.finish(posted, bad_wr) }
    }

    libc::EIO,
    /// ibv_post_recv(3).
    fn post_recv(qp: *mut ibv_qp, wr: *mut ibv_recv_wr, bad_wr: *mut *mut ibv_recv_wr) -> c_int {
        // SAFETY: the program says that it is one.
        let qp = unsafe { Qp::of(qp) };
        let domain = match qp.domain() {
            Ok(domain) => domain,
            Err(error) => {
                // SAFETY: the program gave a place for it.
                unsafe { bad_wr.write(wr) };
                return number(error);
            }
        };
        let walk = Walk::new(wr);
        // SAFETY: the program's list.
        let next = |at| unsafe { receive_request(domain, qp.cap.max_recv_sge, at) };
        let mut requests = std::iter::from_fn(|| walk.step(next));
        let posted = requests.try_for_each(|request| qp.queue_pair.post_recv(request));
        // SAFETY: the program gave a place for it.
        unsafe { walk.finish(posted, bad_wr) }
    }
}
