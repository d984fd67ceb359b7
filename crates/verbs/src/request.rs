//! Work requests, with the slices that they take along.

use crate::PostReason;
use crate::address_handle::AddressHandle;
use crate::kinds::{Connected, Rc, Transport, Ud};
use crate::memory_window::{MemoryWindow, WindowRange};
use crate::options::{Destination, QueuePairLimits};
use crate::provider::{self, Work};
use crate::region::{RemoteRange, Slice};
use core::marker::PhantomData;
use rocev2::work::{self, AtomicOperation, CompletionKind, SendOperation};
use smallvec::SmallVec;
use std::sync::Arc;

/// Slices of one request, mostly one.
pub(crate) type Slices = SmallVec<[Slice; 1]>;

/// A request for the send queue. It owns its slices until it completes.
///
/// The type says for which transport: what that can't do doesn't compile. Where the request is posted at once,
/// it follows from the queue pair.
#[derive(Debug)]
pub struct SendRequest<T: Transport = Rc> {
    operation: SendOperation,
    payload: Payload,
    /// Bytes of the peer's memory that it names; `None` for a SEND.
    remote: Option<u64>,
    id: u64,
    signaled: bool,
    solicited: bool,
    fence: bool,
    /// Where a datagram goes.
    to: Option<Destination>,
    needs: Needs,
    transport: PhantomData<T>,
}

#[derive(Debug)]
enum Payload {
    Slices(Slices),
    Inline(SmallVec<[u8; 64]>),
}

impl<T: Transport> SendRequest<T> {
    fn new(operation: SendOperation, payload: Payload, remote: Option<RemoteRange>) -> Self {
        let remote = remote.map(|range| range.len());
        Self {
            operation,
            payload,
            remote,
            id: 0,
            signaled: true,
            solicited: false,
            fence: false,
            to: None,
            needs: Needs::Nothing,
            transport: PhantomData,
        }
    }

    /// With a number that the peer's completion shows. An RDMA WRITE takes one of the peer's receive requests
    /// then. Reads and atomics can't carry one and stay as they are.
    #[must_use]
    pub fn immediate(mut self, value: u32) -> Self {
        self.operation = match self.operation {
            SendOperation::Send | SendOperation::SendImmediate(_) | SendOperation::SendInvalidate(_) => {
                SendOperation::SendImmediate(value)
            }
            SendOperation::Write(remote) | SendOperation::WriteImmediate(remote, _) => {
                SendOperation::WriteImmediate(remote, value)
            }
            other => other,
        };
        self
    }

    /// A number that the completion gives back; 0 otherwise.
    #[must_use]
    pub fn id(mut self, id: u64) -> Self {
        self.id = id;
        self
    }

    /// Success isn't reported; the slices come back with the next completion of this queue. The embedded
    /// device asks the peer for an acknowledgement only now and then where nothing is reported, which is the
    /// fastest way to send short messages.
    #[must_use]
    pub fn unsignaled(mut self) -> Self {
        self.signaled = false;
        self
    }

    /// The peer's completion counts as solicited.
    #[must_use]
    pub fn solicited(mut self) -> Self {
        self.solicited = true;
        self
    }
}

impl<T: Connected> SendRequest<T> {
    /// A SEND of the slices' bytes, in order; no slice for an empty message.
    pub fn send(slices: impl IntoIterator<Item = Slice>) -> Self {
        Self::new(SendOperation::Send, Payload::Slices(slices.into_iter().collect()), None)
    }

    /// A SEND of bytes that are copied when it is posted.
    #[must_use]
    pub fn send_inline(bytes: &[u8]) -> Self {
        Self::new(SendOperation::Send, Payload::Inline(bytes.into()), None)
    }

    /// An RDMA WRITE of the slices' bytes, in order, to `remote`, which must be as long.
    pub fn write(slices: impl IntoIterator<Item = Slice>, remote: RemoteRange) -> Self {
        let operation = SendOperation::Write(remote.address());
        Self::new(operation, Payload::Slices(slices.into_iter().collect()), Some(remote))
    }

    /// An RDMA WRITE of bytes that are copied when it is posted.
    #[must_use]
    pub fn write_inline(bytes: &[u8], remote: RemoteRange) -> Self {
        Self::new(SendOperation::Write(remote.address()), Payload::Inline(bytes.into()), Some(remote))
    }
}

impl<T: Connected> SendRequest<T> {
    /// Binds `window` to `range`, whose region must be of the same protection domain. Nothing is sent: a peer
    /// may use the key as soon as this has completed. The window has a new key then, and the old one is worth
    /// nothing; of type 2, the old one must have been withdrawn before.
    #[must_use]
    pub fn bind_window(window: &Arc<MemoryWindow>, range: &WindowRange) -> Self {
        let needs = Needs::Window(Box::new((Arc::clone(window), range.clone())));
        Self { needs, ..Self::new(SendOperation::BindWindow, Payload::Slices(Slices::new()), None) }
    }

    /// Withdraws a key of this side: of a window of type 2 that this queue pair has bound.
    #[must_use]
    pub fn local_invalidate(rkey: u32) -> Self {
        Self::new(SendOperation::LocalInvalidate(rkey), Payload::Slices(Slices::new()), None)
    }
}

impl SendRequest<Rc> {
    /// An RDMA READ of `remote` into the slices; their lengths must add up to it.
    pub fn read(slices: impl IntoIterator<Item = Slice>, remote: RemoteRange) -> Self {
        let operation = SendOperation::Read(remote.address());
        Self::new(operation, Payload::Slices(slices.into_iter().collect()), Some(remote))
    }

    /// Stores `swap` in the aligned 8 bytes of `remote` if they hold `compare`; what they held goes to
    /// `result`, in host byte order.
    #[must_use]
    pub fn compare_swap(result: Slice, remote: RemoteRange, compare: u64, swap: u64) -> Self {
        Self::atomic(result, remote, AtomicOperation::CompareSwap { compare, swap })
    }

    /// Adds to the aligned 8 bytes of `remote`, wrapping; what they held goes to `result`, in host byte order.
    #[must_use]
    pub fn fetch_add(result: Slice, remote: RemoteRange, add: u64) -> Self {
        Self::atomic(result, remote, AtomicOperation::FetchAdd { add })
    }

    fn atomic(result: Slice, remote: RemoteRange, operation: AtomicOperation) -> Self {
        let operation = SendOperation::Atomic(remote.address(), operation);
        Self::new(operation, Payload::Slices(SmallVec::from_iter([result])), Some(remote))
    }

    /// A SEND that also withdraws one of the peer's remote keys. Other operations stay as they are.
    #[must_use]
    pub fn invalidate(mut self, rkey: u32) -> Self {
        if matches!(self.operation, SendOperation::Send | SendOperation::SendImmediate(_)) {
            self.operation = SendOperation::SendInvalidate(rkey);
        }
        self
    }

    /// Begins only when the reads and atomics before it have finished.
    #[must_use]
    pub fn fence(mut self) -> Self {
        self.fence = true;
        self
    }
}

impl SendRequest<Ud> {
    /// A datagram of the slices' bytes, in order, to the queue pair `to` at the port that `way` leads to.
    pub fn datagram(
        slices: impl IntoIterator<Item = Slice>,
        way: &Arc<AddressHandle>,
        to: Destination,
    ) -> Self {
        let payload = Payload::Slices(slices.into_iter().collect());
        let needs = Needs::Handle(Arc::clone(way));
        Self { to: Some(to), needs, ..Self::new(SendOperation::Send, payload, None) }
    }

    /// A datagram of bytes that are copied when it is posted.
    #[must_use]
    pub fn datagram_inline(bytes: &[u8], way: &Arc<AddressHandle>, to: Destination) -> Self {
        let needs = Needs::Handle(Arc::clone(way));
        Self { to: Some(to), needs, ..Self::new(SendOperation::Send, Payload::Inline(bytes.into()), None) }
    }
}

impl<T: Transport> SendRequest<T> {
    /// What can be checked without the device: the bytes that it moves, if it may be posted.
    pub(crate) fn check(&self, limits: &QueuePairLimits) -> Result<u32, PostReason> {
        let local: u64 = match &self.payload {
            Payload::Inline(bytes) if bytes.len() > limits.max_inline => {
                return Err(PostReason::InlineTooLong { len: bytes.len(), limit: limits.max_inline });
            }
            Payload::Inline(bytes) => bytes.len() as u64,
            Payload::Slices(slices) => {
                check_count(slices, limits)?;
                if self.operation.is_read_or_atomic() && !slices.iter().all(Slice::is_writable) {
                    return Err(PostReason::NotWritable);
                }
                slices.iter().map(|slice| u64::from(slice.len())).sum()
            }
        };
        if let Some(remote) = self.remote.filter(|remote| *remote != local) {
            return Err(PostReason::Lengths { local, remote });
        }
        match u32::try_from(local) {
            Ok(len) if len <= work::MAX_MESSAGE => Ok(len),
            _ => Err(PostReason::QueuePair(work::PostError::TooLong(local))),
        }
    }

    /// What it becomes for a device, and what to keep until it completes; `len` as [`check`](Self::check) found it.
    pub(crate) fn split(self, len: u32, signal_all: bool) -> (Work, Kept) {
        if let Needs::Window(bound) = &self.needs {
            let (window, range) = &**bound;
            window.keep(range);
        }
        let kind = self.operation.completion_kind();
        let brought = if self.operation.is_read_or_atomic() { len } else { 0 };
        let (inline, slices) = match self.payload {
            Payload::Inline(bytes) => (Some(bytes), Slices::new()),
            Payload::Slices(slices) => (None, slices),
        };
        let work = Work {
            operation: self.operation,
            inline,
            len,
            signaled: self.signaled || signal_all,
            solicited: self.solicited,
            fence: self.fence,
            destination: self.to,
        };
        (work, Kept { id: self.id, kind, len: brought, needs: self.needs, slices })
    }

    /// Its slices, when it wasn't posted.
    #[must_use]
    pub fn into_slices(self) -> SmallVec<[Slice; 1]> {
        match self.payload {
            Payload::Inline(_) => Slices::new(),
            Payload::Slices(slices) => slices,
        }
    }
}

/// A request for the receive queue: one message goes into its slices, as far as their capacities reach.
#[derive(Debug)]
pub struct RecvRequest {
    slices: Slices,
    id: u64,
}

impl RecvRequest {
    /// Receives into the slices, in order.
    pub fn new(slices: impl IntoIterator<Item = Slice>) -> Self {
        Self { slices: slices.into_iter().collect(), id: 0 }
    }

    /// A number that the completion gives back; 0 otherwise.
    #[must_use]
    pub fn id(mut self, id: u64) -> Self {
        self.id = id;
        self
    }

    /// What can be checked without the device.
    pub(crate) fn check(&self, limits: &QueuePairLimits) -> Result<(), PostReason> {
        check_count(&self.slices, limits)?;
        if self.slices.iter().all(Slice::is_writable) { Ok(()) } else { Err(PostReason::NotWritable) }
    }

    /// What to keep until it completes.
    pub(crate) fn keep(self) -> Kept {
        Kept { id: self.id, kind: CompletionKind::Recv, len: 0, needs: Needs::Nothing, slices: self.slices }
    }

    /// Its slices, when it wasn't taken.
    pub(crate) fn into_slices(self) -> Slices {
        self.slices
    }
}

fn check_count(slices: &[Slice], limits: &QueuePairLimits) -> Result<(), PostReason> {
    match (slices.len(), limits.max_sge) {
        (count, limit) if count > limit => Err(PostReason::TooManySlices { count, limit }),
        _ => Ok(()),
    }
}

/// A request that wasn't taken; its slices come back.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct PostError {
    /// Why.
    pub reason: PostReason,
    /// The request's slices.
    pub slices: SmallVec<[Slice; 1]>,
}

/// An unsignaled request that succeeded.
#[derive(Debug)]
pub struct Released {
    /// The number that it was posted with.
    pub id: u64,
    /// Its slices.
    pub slices: Slices,
}

/// What a request needs beside its slices, and the device as long as it has the request.
#[derive(Debug)]
pub(crate) enum Needs {
    Nothing,
    /// A datagram's way.
    Handle(Arc<AddressHandle>),
    /// A window that is bound, and to what; apart, since every request is as large as the largest.
    Window(Box<(Arc<MemoryWindow>, WindowRange)>),
}

impl Needs {
    /// For the device.
    pub(crate) fn provided(&self) -> provider::Needs<'_> {
        match self {
            Self::Nothing => provider::Needs::Nothing,
            Self::Handle(handle) => provider::Needs::Handle(handle.provider()),
            Self::Window(bound) => provider::Needs::Window(bound.0.provider(), bound.1.provided()),
        }
    }
}

/// What is kept of a request while the device has it.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The caller's number.
    pub(crate) id: u64,
    /// What it asks for.
    pub(crate) kind: CompletionKind,
    /// Bytes that it brings back from the peer.
    pub(crate) len: u32,
    pub(crate) needs: Needs,
    pub(crate) slices: Slices,
}
