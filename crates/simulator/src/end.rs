//! One end of a connection, and what its program remembers.

use crate::memory::ClaimId;
use crate::plan::{ConnectionPlan, EndPlan};
use crate::tally::Operation;
use rocev2::Qpn;
use rocev2::wire::Transport;
use rocev2::work::{CompletionKind, RemoteAddress, Status};
use rocev2_device::memory::WindowType;
use rocev2_device::{AddressHandle, MemoryWindow, QueuePair, SecurityAssociation};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::rc::Rc;

/// A queue pair and what its program knows of it.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) machine: usize,
    /// The other end.
    pub(crate) peer: usize,
    pub(crate) connection: usize,
    pub(crate) domain: usize,
    pub(crate) plan: EndPlan,
    pub(crate) common: ConnectionPlan,
    /// `None` once it was destroyed.
    pub(crate) queue_pair: Option<QueuePair>,
    pub(crate) qpn: Qpn,
    /// Where its send and its receive requests complete.
    pub(crate) queues: [usize; 2],
    /// What its packets are sealed with.
    pub(crate) association: Option<SecurityAssociation>,
    /// The way to the peer, for datagrams.
    pub(crate) handle: Option<AddressHandle>,
    /// Send requests that may still be posted.
    pub(crate) quota: u64,
    pub(crate) next_id: u64,
    /// Send requests that have not ended, in order.
    pub(crate) works: VecDeque<Work>,
    /// Receive requests that have not ended, in order.
    pub(crate) receives: VecDeque<Receive>,
    /// Receive requests that were posted, and those that ended with a message.
    pub(crate) posted_receives: u64,
    pub(crate) received: u64,
    /// Every message for the peer's receive requests, in order.
    pub(crate) messages: Vec<Message>,
    /// Messages of which the peer has said that it has them.
    pub(crate) acknowledged: u64,
    /// Bytes of the peer that were to be written when the connection failed: that may still happen.
    pub(crate) loose: Vec<ClaimId>,
    /// Where peers read and write.
    pub(crate) memory: usize,
    /// Where receive requests go.
    pub(crate) inbox: usize,
    /// A word of the peer's that this end alone changes, and what it holds when all has been done.
    pub(crate) word: Option<(ClaimId, u64)>,
    pub(crate) windows: Vec<Window>,
    /// The next window that the peer uses is deallocated meanwhile.
    pub(crate) deallocates: bool,
    /// Unsignaled requests at the end of `works`.
    pub(crate) unsignaled: usize,
    /// The queue pair is in the error state, as its program has noticed.
    pub(crate) in_error: bool,
    /// A send request has failed, and a receive request: those behind it are flushed.
    pub(crate) send_failed: bool,
    pub(crate) receive_failed: bool,
    /// Whether requests may fail, since something was done to this connection.
    pub(crate) may_fail: bool,
    pub(crate) drain: Drain,
    /// A completion queue of its has overflowed: it wasn't told of everything.
    pub(crate) untold: bool,
}

/// Draining the send queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    No,
    Draining,
    Drained,
}

/// A send request under way.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) id: u64,
    pub(crate) operation: Operation,
    pub(crate) kind: CompletionKind,
    pub(crate) signaled: bool,
    pub(crate) len: u32,
    /// Bytes of this end that it sends.
    pub(crate) source: Option<ClaimId>,
    /// Bytes of this end that it fills.
    pub(crate) target: Option<ClaimId>,
    /// Bytes of the peer that it reads or fills.
    pub(crate) remote: Option<ClaimId>,
    /// It must not succeed.
    pub(crate) refused: bool,
    /// It adds to a counter that others use too: where it learns what that was.
    pub(crate) counter: bool,
    /// The number of the peer's receive request that it takes.
    pub(crate) message: Option<u64>,
    pub(crate) effect: Effect,
}

/// What a request does to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    /// It binds a window of this end.
    Binds(usize),
    /// It takes a window of this end back.
    Invalidates(usize),
    /// It uses a window of the peer.
    Uses(usize),
}

/// A receive request under way.
#[derive(Debug)]
pub(crate) struct Receive {
    pub(crate) id: u64,
    pub(crate) number: u64,
    pub(crate) claim: Option<ClaimId>,
}

/// What a message brings.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// What comes into the receive request's buffer.
    pub(crate) bytes: Rc<[u8]>,
    /// The length that the completion tells.
    pub(crate) len: u32,
    pub(crate) kind: CompletionKind,
    pub(crate) immediate: Option<u32>,
    pub(crate) invalidated: Option<u32>,
    pub(crate) solicited: bool,
    /// What an RDMA WRITE with immediate writes.
    pub(crate) written: Option<ClaimId>,
}

/// Windows of an end.
pub(crate) const WINDOWS: usize = 3;

/// A memory window of an end.
#[derive(Debug)]
pub(crate) struct Window {
    /// `None` once it was deallocated.
    pub(crate) window: Option<MemoryWindow>,
    pub(crate) kind: WindowType,
    pub(crate) state: WindowState,
    /// What it is bound to, or about to be.
    pub(crate) claim: Option<ClaimId>,
    pub(crate) len: usize,
    /// How the peer names it.
    pub(crate) remote: RemoteAddress,
}

/// Who may do what with a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WindowState {
    /// It is bound to nothing.
    Free,
    /// A bind is under way.
    Binding,
    /// The peer may use it.
    Offered,
    /// The peer uses it.
    Used,
    /// The peer takes it back itself, as soon as it has been used.
    UsedAndInvalidated,
    /// The peer has done with it.
    Returned,
    /// It is being taken back.
    Invalidating,
    /// Nobody touches it any more.
    Dead,
}

/// Requests that may end so where something was done to the connection.
pub(crate) const EXCUSED: [Status; 8] = [
    Status::Flushed,
    Status::RetryExceeded,
    Status::RnrRetryExceeded,
    Status::RemoteAccess,
    Status::RemoteOperation,
    Status::LocalProtection,
    Status::LocalQueuePairOperation,
    Status::WindowBind,
];

impl End {
    pub(crate) fn transport(&self) -> Transport {
        self.common.transport
    }

    /// Whether what is sent arrives, once and in order, or the connection fails.
    pub(crate) fn is_reliable(&self) -> bool {
        self.transport() == Transport::Rc
    }

    pub(crate) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The bytes of this end that its requests use.
    pub(crate) fn local_claims(&self) -> SmallVec<[ClaimId; 16]> {
        let works = self.works.iter().flat_map(|work| [work.source, work.target]);
        works.chain(self.receives.iter().map(|receive| receive.claim)).flatten().collect()
    }

    /// The bytes of the peer that its requests use, or may yet write.
    pub(crate) fn remote_claims(&self) -> SmallVec<[ClaimId; 16]> {
        self.works.iter().filter_map(|work| work.remote).chain(self.loose.iter().copied()).collect()
    }

    /// Whether it has nothing more to do.
    pub(crate) fn is_done(&self) -> bool {
        self.quota == 0 && self.works.is_empty()
    }
}
