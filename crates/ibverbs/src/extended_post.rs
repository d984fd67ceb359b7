//! `ibv_wr_*`: requests that are put together call by call, and posted together.

use crate::backend::{
    self, ATTRIBUTES, AtomicOperation, Buffers, RemoteAddress, SendOperation, SendRequest, Transport,
};
use crate::post::{Work, datagram, elements, request, shared_receive_queue};
use crate::queue_pair::Qp;
use crate::window;
use libc::{EINVAL, EOPNOTSUPP, c_int, c_void, size_t};
use rdma_verbs_sys::{
    __be32, IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP, IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD, IBV_QP_EX_WITH_BIND_MW,
    IBV_QP_EX_WITH_LOCAL_INV, IBV_QP_EX_WITH_RDMA_READ, IBV_QP_EX_WITH_RDMA_WRITE,
    IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM, IBV_QP_EX_WITH_SEND, IBV_QP_EX_WITH_SEND_WITH_IMM,
    IBV_QP_EX_WITH_SEND_WITH_INV, ibv_ah, ibv_data_buf, ibv_mw, ibv_mw_bind_info, ibv_qp_ex, ibv_sge,
};
use smallvec::SmallVec;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// What has been put together since `wr_start`.
#[derive(Default)]
pub(crate) struct Builder {
    /// From `wr_start` to `wr_complete` or `wr_abort`.
    locked: AtomicBool,
    /// Only for whoever holds `locked`.
    state: UnsafeCell<Building>,
}

#[derive(Default)]
struct Building {
    requests: Vec<SendRequest<Buffers>>,
    /// The request that has no buffers yet.
    open: Option<Work>,
    error: c_int,
}

impl Building {
    /// Ends the request before this one: without buffers, if it got none.
    fn close(&mut self, qp: &Qp) {
        if self.open.is_some() {
            self.set(qp, Buffers::empty(), 0);
        }
    }

    /// The open request's buffers, as a list.
    fn set_list(&mut self, qp: &Qp, list: &[ibv_sge]) {
        match qp.domain() {
            Ok(domain) => {
                let (buffers, len) = elements(domain, list);
                self.set(qp, buffers, len);
            }
            Err(error) => self.error = error,
        }
    }

    /// The open request's buffers.
    fn set(&mut self, qp: &Qp, buffers: Buffers, len: u64) {
        let Some(work) = self.open.take() else {
            self.error = EINVAL;
            return;
        };
        match request(qp, work, buffers, len) {
            Ok(request) => self.requests.push(request),
            Err(error) => self.error = error,
        }
    }
}

/// The queue pair, and what is being put together.
///
/// # Safety
/// As a program calls it: between `wr_start` and `wr_complete`.
unsafe fn building<'a>(c: *mut ibv_qp_ex) -> (&'a Qp, &'a mut Building) {
    // SAFETY: the program says that it is one.
    let qp = unsafe { Qp::of(c.cast()) };
    // SAFETY: whoever is between the two holds the lock.
    (qp, unsafe { &mut *qp.builder.state.get() })
}

/// Begins a request.
///
/// # Safety
/// As [`building`].
unsafe fn begin(c: *mut ibv_qp_ex, operation: SendOperation) {
    // SAFETY: as the caller has it.
    let (qp, building) = unsafe { building(c) };
    building.close(qp);
    // SAFETY: the program has set both before.
    let (id, flags) = unsafe { ((*c).wr_id, (*c).wr_flags) };
    building.open = Some(Work { id, flags, operation, destination: None });
}

/// # Safety
/// As [`building`]; the pieces must be readable.
unsafe fn set_inline<'a>(c: *mut ibv_qp_ex, pieces: impl Iterator<Item = (*const c_void, usize)> + 'a) {
    // SAFETY: as the caller has it.
    let (qp, building) = unsafe { building(c) };
    let most = ATTRIBUTES.max_inline.min(qp.cap.max_inline_data as usize);
    let mut bytes: SmallVec<[u8; 64]> = SmallVec::new();
    for (at, len) in pieces.filter(|(_, len)| *len != 0) {
        if len > most - bytes.len() {
            building.error = libc::ENOMEM;
            building.open = None;
            return;
        }
        // SAFETY: the caller says that it may be read.
        bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(at.cast(), len) });
    }
    let len = bytes.len() as u64;
    building.set(qp, Buffers::Inline(bytes), len);
}

/// What can be asked for.
const KNOWN: u32 = IBV_QP_EX_WITH_RDMA_WRITE
    | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM
    | IBV_QP_EX_WITH_SEND
    | IBV_QP_EX_WITH_SEND_WITH_IMM
    | IBV_QP_EX_WITH_RDMA_READ
    | IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP
    | IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD
    | IBV_QP_EX_WITH_SEND_WITH_INV
    | IBV_QP_EX_WITH_BIND_MW
    | IBV_QP_EX_WITH_LOCAL_INV;

/// Of those, what each transport has.
const fn known(transport: Transport) -> u32 {
    let datagrams = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM;
    match transport {
        Transport::Rc | Transport::Xrc => KNOWN,
        Transport::Uc => {
            let writes = IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM;
            datagrams | writes | IBV_QP_EX_WITH_BIND_MW | IBV_QP_EX_WITH_LOCAL_INV
        }
        Transport::Ud => datagrams,
    }
}

/// Gives `c` the functions for `operations` (`IBV_QP_EX_WITH_*`).
pub(crate) fn fill(c: &mut ibv_qp_ex, transport: Transport, operations: u64) -> Result<(), c_int> {
    if operations & !u64::from(known(transport)) != 0 {
        return Err(EOPNOTSUPP);
    }
    c.wr_atomic_cmp_swp = Some(wr_atomic_cmp_swp);
    c.wr_atomic_fetch_add = Some(wr_atomic_fetch_add);
    c.wr_rdma_read = Some(wr_rdma_read);
    c.wr_rdma_write = Some(wr_rdma_write);
    c.wr_rdma_write_imm = Some(wr_rdma_write_imm);
    c.wr_send = Some(wr_send);
    c.wr_send_imm = Some(wr_send_imm);
    c.wr_send_inv = Some(wr_send_inv);
    c.wr_bind_mw = Some(wr_bind_mw);
    c.wr_local_inv = Some(wr_local_inv);
    c.wr_set_ud_addr = Some(wr_set_ud_addr);
    c.wr_set_xrc_srqn = Some(wr_set_xrc_srqn);
    c.wr_set_inline_data = Some(wr_set_inline_data);
    c.wr_set_inline_data_list = Some(wr_set_inline_data_list);
    c.wr_set_sge = Some(wr_set_sge);
    c.wr_set_sge_list = Some(wr_set_sge_list);
    c.wr_start = Some(wr_start);
    c.wr_complete = Some(wr_complete);
    c.wr_abort = Some(wr_abort);
    Ok(())
}

operation! {
    (),
    fn wr_atomic_cmp_swp(c: *mut ibv_qp_ex, rkey: u32, va: u64, compare: u64, swap: u64) {
        let operation = AtomicOperation::CompareSwap { compare, swap };
        // SAFETY: the program is between `wr_start` and `wr_complete`.
        unsafe { begin(c, SendOperation::Atomic(RemoteAddress { va, rkey }, operation)) };
    }

    (),
    fn wr_atomic_fetch_add(c: *mut ibv_qp_ex, rkey: u32, va: u64, add: u64) {
        let operation = AtomicOperation::FetchAdd { add };
        // SAFETY: as above.
        unsafe { begin(c, SendOperation::Atomic(RemoteAddress { va, rkey }, operation)) };
    }

    (),
    fn wr_rdma_read(c: *mut ibv_qp_ex, rkey: u32, va: u64) {
        // SAFETY: as above.
        unsafe { begin(c, SendOperation::Read(RemoteAddress { va, rkey })) };
    }

    (),
    fn wr_rdma_write(c: *mut ibv_qp_ex, rkey: u32, va: u64) {
        // SAFETY: as above.
        unsafe { begin(c, SendOperation::Write(RemoteAddress { va, rkey })) };
    }

    (),
    fn wr_rdma_write_imm(c: *mut ibv_qp_ex, rkey: u32, va: u64, immediate: __be32) {
        let operation = SendOperation::WriteImmediate(RemoteAddress { va, rkey }, u32::from_be(immediate));
        // SAFETY: as above.
        unsafe { begin(c, operation) };
    }

    (),
    fn wr_send(c: *mut ibv_qp_ex) {
        // SAFETY: as above.
        unsafe { begin(c, SendOperation::Send) };
    }

    (),
    fn wr_send_imm(c: *mut ibv_qp_ex, immediate: __be32) {
        // SAFETY: as above.
        unsafe { begin(c, SendOperation::SendImmediate(u32::from_be(immediate))) };
    }

    (),
    fn wr_send_inv(c: *mut ibv_qp_ex, rkey: u32) {
        // SAFETY: as above.
        unsafe { begin(c, SendOperation::SendInvalidate(rkey)) };
    }

    (),
    fn wr_bind_mw(c: *mut ibv_qp_ex, mw: *mut ibv_mw, rkey: u32, info: *const ibv_mw_bind_info) {
        // SAFETY: as above.
        unsafe { begin(c, SendOperation::BindWindow) };
        // SAFETY: as above.
        let (qp, building) = unsafe { building(c) };
        // SAFETY: the program's own.
        match unsafe { window::bind(mw, Some(rkey), &*info) } {
            Ok((buffers, _)) => building.set(qp, buffers, 0),
            Err(error) => building.error = error,
        }
    }

    (),
    fn wr_local_inv(c: *mut ibv_qp_ex, rkey: u32) {
        // SAFETY: as above.
        unsafe { begin(c, SendOperation::LocalInvalidate(rkey)) };
    }

    (),
    fn wr_set_ud_addr(c: *mut ibv_qp_ex, ah: *mut ibv_ah, qpn: u32, qkey: u32) {
        // SAFETY: as above.
        let building = unsafe { building(c) }.1;
        // SAFETY: the program's own.
        match (unsafe { datagram(ah, qpn, qkey) }, &mut building.open) {
            (Ok(to), Some(work)) => work.destination = Some(to),
            (Ok(_), None) => building.error = EINVAL,
            (Err(error), _) => building.error = error,
        }
    }

    (),
    fn wr_set_xrc_srqn(c: *mut ibv_qp_ex, remote_srqn: u32) {
        // SAFETY: as above.
        match &mut unsafe { building(c) }.1 {
            Building { open: Some(work), .. } => work.destination = Some(shared_receive_queue(remote_srqn)),
            building => building.error = EINVAL,
        }
    }

    (),
    fn wr_set_inline_data(c: *mut ibv_qp_ex, addr: *mut c_void, length: size_t) {
        // SAFETY: as above; the program says that it may be read.
        unsafe { set_inline(c, std::iter::once((addr.cast_const(), length))) };
    }

    (),
    fn wr_set_inline_data_list(c: *mut ibv_qp_ex, num: size_t, list: *const ibv_data_buf) {
        let list = if num == 0 {
            &[]
        } else {
            // SAFETY: the program has `num` of them.
            unsafe { std::slice::from_raw_parts(list, num) }
        };
        // SAFETY: as above.
        unsafe { set_inline(c, list.iter().map(|piece| (piece.addr.cast_const(), piece.length))) };
    }

    (),
    fn wr_set_sge(c: *mut ibv_qp_ex, lkey: u32, addr: u64, length: u32) {
        // SAFETY: as above.
        let (qp, building) = unsafe { building(c) };
        building.set_list(qp, &[ibv_sge { addr, length, lkey }]);
    }

    (),
    fn wr_set_sge_list(c: *mut ibv_qp_ex, num: size_t, list: *const ibv_sge) {
        // SAFETY: as above.
        let (qp, building) = unsafe { building(c) };
        if num > qp.cap.max_send_sge as usize {
            building.error = libc::ENOMEM;
            building.open = None;
            return;
        }
        let list = if num == 0 {
            &[]
        } else {
            // SAFETY: the program has `num` of them.
            unsafe { std::slice::from_raw_parts(list, num) }
        };
        building.set_list(qp, list);
    }

    (),
    fn wr_start(c: *mut ibv_qp_ex) {
        // SAFETY: the program says that it is one.
        let builder = &unsafe { Qp::of(c.cast()) }.builder;
        while builder.locked.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        // SAFETY: locked just now.
        let building = unsafe { &mut *builder.state.get() };
        building.requests.clear();
        building.open = None;
        building.error = 0;
    }

    libc::EIO,
    fn wr_complete(c: *mut ibv_qp_ex) -> c_int {
        // SAFETY: the program has called `wr_start`.
        let (qp, building) = unsafe { building(c) };
        building.close(qp);
        let result = if building.error != 0 {
            building.error
        } else {
            let posted = qp.queue_pair.post_send_list(building.requests.drain(..));
            posted.err().map_or(0, |error| backend::refused(&error))
        };
        building.requests.clear();
        qp.builder.locked.store(false, Ordering::Release);
        result
    }

    (),
    fn wr_abort(c: *mut ibv_qp_ex) {
        // SAFETY: the program has called `wr_start`.
        let (qp, building) = unsafe { building(c) };
        building.requests.clear();
        building.open = None;
        qp.builder.locked.store(false, Ordering::Release);
    }
}
