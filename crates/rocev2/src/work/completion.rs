//! What became of work requests.

use crate::Qpn;
use core::fmt;

/// How a work request ended: the names and numbers of `enum ibv_wc_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Success = 0,
    /// The message didn't fit its buffer.
    LocalLength = 1,
    /// The queue pair can't do what was asked (a read where `max_rd_atomic` is 0).
    LocalQueuePairOperation = 2,
    /// A buffer's region is gone or may not be written.
    LocalProtection = 4,
    /// Never tried: the queue pair was in the error state.
    Flushed = 5,
    /// A memory window couldn't be bound.
    WindowBind = 6,
    /// The peer's answer made no sense.
    BadResponse = 7,
    /// The peer says that the request was invalid.
    RemoteInvalidRequest = 9,
    /// The peer says that the key doesn't allow it; of a receive request, that the peer's key didn't allow
    /// the write that took it.
    RemoteAccess = 10,
    /// The peer says that it couldn't carry it out.
    RemoteOperation = 11,
    /// The peer didn't answer in time, as often as was tried.
    RetryExceeded = 12,
    /// The peer had no receive request, as often as was tried.
    RnrRetryExceeded = 13,
}

impl Status {
    /// Its name in the verbs world.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::LocalLength => "LOC_LEN_ERR",
            Self::LocalQueuePairOperation => "LOC_QP_OP_ERR",
            Self::LocalProtection => "LOC_PROT_ERR",
            Self::Flushed => "WR_FLUSH_ERR",
            Self::WindowBind => "MW_BIND_ERR",
            Self::BadResponse => "BAD_RESP_ERR",
            Self::RemoteInvalidRequest => "REM_INV_REQ_ERR",
            Self::RemoteAccess => "REM_ACCESS_ERR",
            Self::RemoteOperation => "REM_OP_ERR",
            Self::RetryExceeded => "RETRY_EXC_ERR",
            Self::RnrRetryExceeded => "RNR_RETRY_EXC_ERR",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What completed, as `enum ibv_wc_opcode` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompletionKind {
    /// A SEND, with or without immediate or invalidate.
    Send,
    /// An RDMA WRITE, with or without immediate.
    Write,
    /// An RDMA READ.
    Read,
    /// A compare-and-swap.
    CompareSwap,
    /// A fetch-and-add.
    FetchAdd,
    /// The bind of a memory window.
    BindWindow,
    /// A local invalidation.
    LocalInvalidate,
    /// A receive request, by a SEND.
    Recv,
    /// A receive request, by the immediate of an RDMA WRITE.
    RecvWriteImmediate,
}

impl CompletionKind {
    /// Whether it belongs to the receive queue.
    #[must_use]
    pub const fn is_recv(self) -> bool {
        matches!(self, Self::Recv | Self::RecvWriteImmediate)
    }
}

/// The end of one work request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The request's own number.
    pub id: u64,
    /// How it ended. Unless this is success, only `id`, `status` and which queue it was mean anything.
    pub status: Status,
    /// What it was.
    pub kind: CompletionKind,
    /// Bytes received (receive queue), read, or written back by an atomic.
    pub len: u32,
    /// The number that came with the message.
    pub immediate: Option<u32>,
    /// The remote key that the message withdrew.
    pub invalidated: Option<u32>,
    /// Whether the sender asked for a solicited event.
    pub solicited: bool,
    /// The queue pair that a datagram came from.
    pub source_qp: Option<Qpn>,
    /// Whether the first 40 bytes are a global routing header.
    pub grh: bool,
    /// The partition key that a datagram came with, as an index of the port's table.
    pub pkey_index: u16,
}

impl Completion {
    /// A completion of which nothing more is known.
    #[must_use]
    pub const fn new(id: u64, status: Status, kind: CompletionKind) -> Self {
        Self {
            id,
            status,
            kind,
            len: 0,
            immediate: None,
            invalidated: None,
            solicited: false,
            source_qp: None,
            grh: false,
            pkey_index: 0,
        }
    }
}

/// What happened to the queue pair itself: the asynchronous events of `ibv_get_async_event(3)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AsyncEvent {
    /// A packet came while the queue pair was only ready to receive: the peer is there (`COMM_EST`).
    CommunicationEstablished,
    /// Everything that was under way when the send queue was told to drain has finished (`SQ_DRAINED`).
    SendQueueDrained,
    /// The peer tried what its key doesn't allow; the queue pair is in the error state (`QP_ACCESS_ERR`).
    AccessError,
    /// The peer broke the protocol; the queue pair is in the error state (`QP_REQ_ERR`).
    RequestError,
    /// This side couldn't carry on; the queue pair is in the error state (`QP_FATAL`).
    Fatal,
    /// The queue pair is in the error state and takes nothing more from its shared receive queue
    /// (`QP_LAST_WQE_REACHED`).
    LastWorkRequestReached,
}

/// What [`crate::transport::QueuePair::poll`] hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A work request ended.
    Completion(Completion),
    /// Something happened to the queue pair.
    Async(AsyncEvent),
}
