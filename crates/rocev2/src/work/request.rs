//! Work requests.

use super::completion::{CompletionKind, Status};
use super::memory::{AtomicOperation, Memory};
use crate::{Qpn, Srqn};

/// The longest message: 2 GiB (rxe: `check_length`).
pub const MAX_MESSAGE: u32 = 1 << 31;

/// Where in the peer's memory a one-sided operation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteAddress {
    /// The virtual address, as the peer's region counts it.
    pub va: u64,
    /// The region's remote key.
    pub rkey: u32,
}

/// What a send request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOperation {
    /// SEND; the bytes go to the peer's next receive request.
    Send,
    /// SEND with a number that the peer's completion shows.
    SendImmediate(u32),
    /// SEND that withdraws one of the peer's remote keys.
    SendInvalidate(u32),
    /// RDMA WRITE.
    Write(RemoteAddress),
    /// RDMA WRITE that also takes one of the peer's receive requests, to show it a number.
    WriteImmediate(RemoteAddress, u32),
    /// RDMA READ into the request's buffers.
    Read(RemoteAddress),
    /// Binds the memory window that stands in the place of the request's buffers; nothing is sent (BIND_MW).
    BindWindow,
    /// Withdraws one of this side's own remote keys; nothing is sent (LOCAL_INV). It waits until every request
    /// before it has completed.
    LocalInvalidate(u32),
    /// An atomic; what the word held before goes to the request's buffers, 8 bytes in host order.
    Atomic(RemoteAddress, AtomicOperation),
}

impl SendOperation {
    /// Whether the peer's answer carries data: such requests take one of the peer's `max_dest_rd_atomic` places.
    #[must_use]
    pub const fn is_read_or_atomic(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Atomic(..))
    }

    /// Whether it is executed on this side alone.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::BindWindow | Self::LocalInvalidate(_))
    }

    /// What its completion says it was.
    #[must_use]
    pub const fn completion_kind(&self) -> CompletionKind {
        match self {
            Self::Send | Self::SendImmediate(_) | Self::SendInvalidate(_) => CompletionKind::Send,
            Self::Write(_) | Self::WriteImmediate(..) => CompletionKind::Write,
            Self::Read(_) => CompletionKind::Read,
            Self::BindWindow => CompletionKind::BindWindow,
            Self::LocalInvalidate(_) => CompletionKind::LocalInvalidate,
            Self::Atomic(_, AtomicOperation::CompareSwap { .. }) => CompletionKind::CompareSwap,
            Self::Atomic(_, AtomicOperation::FetchAdd { .. }) => CompletionKind::FetchAdd,
        }
    }
}

/// The caller's number for an address handle; the protocol only passes it through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressId(pub u64);

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The address handle that leads to the receiver's host.
    pub address: AddressId,
    /// The receiver's queue pair.
    pub remote_qpn: Qpn,
    /// The receiver's queue key; with its most significant bit set, the sender's own is sent instead.
    pub remote_qkey: u32,
}

/// What a request names beside the queue pair's peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// Where a datagram goes.
    Datagram(Datagram),
    /// The shared receive queue of the peer's XRC domain that a request of an XRC initiator is for. Its protection
    /// domain is the one whose memory is reached.
    SharedReceiveQueue(Srqn),
}

/// A request for the send queue.
#[derive(Clone, Debug)]
pub struct SendRequest<B> {
    /// The caller's number, given back by the completion.
    pub id: u64,
    /// What to do.
    pub operation: SendOperation,
    /// The bytes to send, or the place for the bytes that come back.
    pub buffers: B,
    /// How many bytes `buffers` has: at most [`MAX_MESSAGE`], exactly 8 for an atomic.
    pub len: u32,
    /// Whether success is reported; failure always is.
    pub signaled: bool,
    /// Whether the peer's completion counts as solicited.
    pub solicited: bool,
    /// Whether to wait until the reads and atomics posted before have finished.
    pub fence: bool,
    /// Where a datagram goes, or the shared receive queue that a request of an XRC initiator names; other queue pairs
    /// take none.
    pub destination: Option<Recipient>,
}

impl<B> SendRequest<B> {
    /// Where it goes, if it is a datagram.
    pub(crate) fn datagram(&self) -> Option<Datagram> {
        match self.destination {
            Some(Recipient::Datagram(datagram)) => Some(datagram),
            _ => None,
        }
    }

    /// The shared receive queue that it names, if it is an XRC initiator's.
    pub(crate) fn xrc_srq(&self) -> Option<Srqn> {
        match self.destination {
            Some(Recipient::SharedReceiveQueue(number)) => Some(number),
            _ => None,
        }
    }
}

/// A request for the receive queue.
#[derive(Clone, Debug)]
pub struct RecvRequest<B> {
    /// The caller's number, given back by the completion.
    pub id: u64,
    /// Where the message goes.
    pub buffers: B,
    /// How many bytes `buffers` has.
    pub len: u64,
}

/// Why a request wasn't taken; nothing was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The queue holds as many requests as it was made for.
    #[error(
        "the queue is full: it was made for {0} work requests; wait for a completion or create the queue pair with more"
    )]
    QueueFull(usize),
    /// The queue pair's state doesn't allow it.
    #[error("a queue pair in state {0} takes no such work request")]
    State(super::State),
    /// The message is longer than 2 GiB.
    #[error("{0} bytes are more than the 2 GiB that one message may have")]
    TooLong(u64),
    /// Receive requests go to the shared receive queue that the queue pair takes them from.
    #[error("the queue pair has no receive queue of its own: post to its shared receive queue")]
    SharedReceiveQueue,
    /// The queue pair's type has no such operation.
    #[error("a queue pair of this type has no such operation")]
    Operation,
    /// A datagram needs an address, an XRC request a shared receive queue, and other requests take neither.
    #[error(
        "a datagram needs an address, an XRC request a shared receive queue, and other requests take neither"
    )]
    Destination,
    /// A datagram is one packet.
    #[error("{len} bytes are more than the {mtu} that a datagram may have here")]
    Datagram {
        /// Bytes of the request.
        len: u32,
        /// Bytes that fit.
        mtu: u32,
    },
    /// An atomic needs a buffer of exactly 8 bytes.
    #[error("an atomic operation needs a buffer of 8 bytes, not {0}")]
    AtomicLength(u32),
}

/// Executes a request that is done on this side alone.
pub(crate) fn execute_local<M: Memory>(request: &SendRequest<M::Buffers>, memory: &M) -> Result<(), Status> {
    match request.operation {
        SendOperation::BindWindow => memory.bind(&request.buffers).map_err(|_| Status::WindowBind),
        SendOperation::LocalInvalidate(rkey) => {
            memory.invalidate_own(rkey).map_err(|_| Status::LocalQueuePairOperation)
        }
        _ => Err(Status::LocalQueuePairOperation),
    }
}
