//! Work requests as libibverbs takes them.

use super::completion::RECV;
use super::memory::Domain;
use super::window::{self, Window};
use crate::PostReason;
use crate::provider::{self, Element, Work};
use core::ptr::{self, NonNull};
use rdma_verbs_sys::{
    IBV_SEND_FENCE, IBV_SEND_INLINE, IBV_SEND_SIGNALED, IBV_SEND_SOLICITED, IBV_WR_ATOMIC_CMP_AND_SWP,
    IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WR_BIND_MW, IBV_WR_LOCAL_INV, IBV_WR_RDMA_READ, IBV_WR_RDMA_WRITE,
    IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_SEND, IBV_WR_SEND_WITH_IMM, IBV_WR_SEND_WITH_INV, ibv_ah, ibv_mw_bind,
    ibv_mw_bind_info, ibv_recv_wr, ibv_send_wr, ibv_send_wr_bind_mw, ibv_send_wr_ud, ibv_sge,
};
use rocev2::work::{self, AtomicOperation, RemoteAddress, SendOperation};
use smallvec::SmallVec;
use std::io;
use std::sync::Arc;

/// A scatter/gather list.
pub(super) type Elements = SmallVec<[ibv_sge; 2]>;

/// The elements as the library takes them, if they are of this domain's device.
pub(super) fn list<'a>(
    domain: &Domain,
    elements: impl Iterator<Item = Element<'a>>,
) -> Result<Elements, PostReason> {
    let element = |Element { region, offset, len }: Element<'a>| match region.ibv() {
        Ok(region) if region.is_of(domain) => {
            Ok(ibv_sge { addr: region.addr().wrapping_add(offset), length: len, lkey: region.lkey() })
        }
        _ => Err(PostReason::OtherDevice),
    };
    elements.map(element).collect()
}

/// Bytes of this process that the library copies when the request is posted.
fn inline_element(bytes: &[u8]) -> ibv_sge {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    ibv_sge { addr: bytes.as_ptr().expose_provenance() as u64, length, lkey: 0 }
}

/// What a send request asks beside moving its bytes.
#[derive(Clone, Copy)]
struct Flags {
    signaled: bool,
    solicited: bool,
    fence: bool,
    inline: bool,
}

/// A send request, with its scatter/gather list or with its bytes.
pub(crate) struct Send {
    work: Work,
    needs: Needs,
    elements: Elements,
}

impl Send {
    pub(super) fn new(work: Work, needs: Needs, elements: Elements) -> Self {
        Self { work, needs, elements }
    }

    /// As the library takes it. It points into this value, which must stay where it is until it is posted.
    pub(super) fn raw(&mut self, number: u64) -> ibv_send_wr {
        let Work { operation, inline, signaled, solicited, fence, .. } = &self.work;
        if let Some(bytes) = inline {
            self.elements = Elements::from_iter([inline_element(bytes)]);
        }
        let flags =
            Flags { signaled: *signaled, solicited: *solicited, fence: *fence, inline: inline.is_some() };
        let mut request = send(number, operation, flags, &mut self.elements);
        match (&self.needs, &self.work.destination) {
            (Needs::Handle(handle), Some(to)) => {
                request.wr.ud =
                    ibv_send_wr_ud { ah: handle.as_ptr(), remote_qpn: to.qpn.get(), remote_qkey: to.qkey };
            }
            (Needs::Window(bound), _) => {
                let (window, bind_info) = &**bound;
                let rkey = window.next_rkey().unwrap_or(0);
                let bind_info = *bind_info;
                request.extension.bind_mw =
                    ibv_send_wr_bind_mw { mw: window.raw().as_ptr(), rkey, bind_info };
            }
            _ => {}
        }
        request
    }
}

impl Send {
    /// The binding of a window of type 1, which has a call of its own.
    pub(super) fn bind_of_type_1(&self, number: u64) -> Option<(&Window, ibv_mw_bind)> {
        let Needs::Window(bound) = &self.needs else { return None };
        let (window, bind_info) = &**bound;
        if window.next_rkey().is_some() {
            return None;
        }
        let send_flags = if self.work.signaled { IBV_SEND_SIGNALED } else { 0 };
        Some((window, ibv_mw_bind { wr_id: number, send_flags, bind_info: *bind_info }))
    }

    /// The window that it binds.
    pub(super) fn binding(&self) -> Option<Arc<Window>> {
        match &self.needs {
            Needs::Window(bound) => Some(Arc::clone(&bound.0)),
            _ => None,
        }
    }
}

/// What a send request needs beside its list. What is pointed to is kept until the request completes.
pub(crate) enum Needs {
    Nothing,
    Handle(NonNull<ibv_ah>),
    /// Apart, since every request is as large as the largest.
    Window(Box<(Arc<Window>, ibv_mw_bind_info)>),
}

impl Needs {
    pub(super) fn new(needs: &provider::Needs<'_>, domain: &Domain) -> Result<Self, PostReason> {
        let other = PostReason::OtherDevice;
        Ok(match needs {
            provider::Needs::Nothing => Self::Nothing,
            provider::Needs::Handle(handle) => {
                let handle = handle.ibv().map_err(|_| other)?;
                Self::Handle(handle.raw(domain).ok_or(other)?)
            }
            provider::Needs::Window(window, range) => {
                let window = window.ibv().map_err(|_| other)?;
                let info = window::info(range, domain).filter(|_| window.is_of(domain));
                Self::Window(Box::new((Arc::clone(window), info.ok_or(other)?)))
            }
        })
    }
}

/// A receive request, with its scatter/gather list.
pub(crate) struct Receive {
    elements: Elements,
}

impl Receive {
    pub(super) fn new(elements: Elements) -> Self {
        Self { elements }
    }

    /// As the library takes it. It points into this value, which must stay where it is until it is posted.
    pub(super) fn raw(&mut self, number: u64) -> ibv_recv_wr {
        ibv_recv_wr {
            wr_id: number | RECV,
            next: ptr::null_mut(),
            sg_list: first(&mut self.elements),
            num_sge: count(&self.elements),
        }
    }
}

/// A send request over `elements`, which must stay where they are until it is posted.
fn send(number: u64, operation: &SendOperation, flags: Flags, elements: &mut Elements) -> ibv_send_wr {
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let mut request = ibv_send_wr {
        wr_id: number,
        sg_list: first(elements),
        num_sge: count(elements),
        send_flags: flag(flags.signaled, IBV_SEND_SIGNALED)
            | flag(flags.solicited, IBV_SEND_SOLICITED)
            | flag(flags.fence, IBV_SEND_FENCE)
            | flag(flags.inline, IBV_SEND_INLINE),
        ..Default::default()
    };
    let rdma = |request: &mut ibv_send_wr, remote: &RemoteAddress| {
        request.wr.rdma.remote_addr = remote.va;
        request.wr.rdma.rkey = remote.rkey;
    };
    request.opcode = match operation {
        SendOperation::Send => IBV_WR_SEND,
        SendOperation::SendImmediate(value) => {
            request.immediate.imm_data = value.to_be();
            IBV_WR_SEND_WITH_IMM
        }
        SendOperation::SendInvalidate(rkey) => {
            request.immediate.invalidate_rkey = *rkey;
            IBV_WR_SEND_WITH_INV
        }
        SendOperation::LocalInvalidate(rkey) => {
            request.immediate.invalidate_rkey = *rkey;
            IBV_WR_LOCAL_INV
        }
        // What is bound, and to what, the caller adds.
        SendOperation::BindWindow => IBV_WR_BIND_MW,
        SendOperation::Write(remote) => {
            rdma(&mut request, remote);
            IBV_WR_RDMA_WRITE
        }
        SendOperation::WriteImmediate(remote, value) => {
            rdma(&mut request, remote);
            request.immediate.imm_data = value.to_be();
            IBV_WR_RDMA_WRITE_WITH_IMM
        }
        SendOperation::Read(remote) => {
            rdma(&mut request, remote);
            IBV_WR_RDMA_READ
        }
        SendOperation::Atomic(remote, operation) => {
            let (opcode, compare_add, swap) = match *operation {
                AtomicOperation::CompareSwap { compare, swap } => (IBV_WR_ATOMIC_CMP_AND_SWP, compare, swap),
                AtomicOperation::FetchAdd { add } => (IBV_WR_ATOMIC_FETCH_AND_ADD, add, 0),
            };
            request.wr.atomic.remote_addr = remote.va;
            request.wr.atomic.compare_add = compare_add;
            request.wr.atomic.swap = swap;
            request.wr.atomic.rkey = remote.rkey;
            opcode
        }
    };
    request
}

fn first(elements: &mut Elements) -> *mut ibv_sge {
    if elements.is_empty() { ptr::null_mut() } else { elements.as_mut_ptr() }
}

fn count(elements: &Elements) -> i32 {
    i32::try_from(elements.len()).unwrap_or(i32::MAX)
}

/// Why the library refused a request.
pub(super) fn refused(error: &io::Error, limit: usize) -> PostReason {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => PostReason::QueuePair(work::PostError::QueueFull(limit)),
        other => PostReason::Refused(other.unwrap_or(0)),
    }
}
