//! A queue pair of any transport.

use super::rc::{self, RequesterCounters, ResponderCounters};
use super::{Context, DropReason, Source, Transmit};
use crate::wire::Packet;
use crate::work::{
    Event, Memory, ModifyError, PeerRights, PostError, ReceiveAttributes, ReceiveQueue, RecvRequest,
    SendAttributes, SendRequest, State, Transition,
};
use crate::{Psn, Time};
use core::fmt;

/// What a queue pair was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Send requests that may be outstanding.
    pub max_send_requests: usize,
    /// Bytes that the requester may have in flight at most: what sockets on the path can hold.
    pub window: u64,
}

/// What a query tells of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The queue pair's state.
    pub state: State,
    /// What the peer may do.
    pub rights: PeerRights,
    /// What was given for INIT → RTR.
    pub receive: Option<ReceiveAttributes>,
    /// What was given for RTR → RTS.
    pub send: Option<SendAttributes>,
    /// Send requests that have not completed.
    pub send_outstanding: usize,
    /// Answers to the peer's requests that wait to be sent; a READ counts once, however many packets its answer takes.
    pub answers_waiting: usize,
    /// What the requester counted.
    pub requester: RequesterCounters,
    /// What the responder counted.
    pub responder: ResponderCounters,
}

/// A queue pair. See the [module](super) for how it is driven.
pub enum QueuePair<M: Memory> {
    /// Of a reliable connection.
    Rc(rc::QueuePair<M>),
}

impl<M: Memory> fmt::Debug for QueuePair<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rc(rc) => rc.fmt(f),
        }
    }
}

impl<M: Memory> QueuePair<M> {
    /// The queue pair's state.
    #[must_use]
    pub fn state(&self) -> State {
        match self {
            Self::Rc(rc) => rc.state(),
        }
    }

    /// Everything a query tells.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        match self {
            Self::Rc(rc) => rc.snapshot(),
        }
    }

    /// The PSN of the oldest request packet that the peer has not acknowledged, or of the next one to be sent.
    #[must_use]
    pub fn unacknowledged(&self) -> Psn {
        match self {
            Self::Rc(rc) => rc.unacknowledged(),
        }
    }

    /// How often request packets or their answers seemed to be lost. One loss may count several times.
    #[must_use]
    pub fn losses(&self) -> u64 {
        match self {
            Self::Rc(rc) => rc.losses(),
        }
    }

    /// Makes a state transition.
    ///
    /// # Errors
    /// The transition doesn't exist or an attribute is out of range; nothing has changed then.
    pub fn modify(
        &mut self,
        transition: Transition,
        receives: &mut ReceiveQueue<M::Buffers>,
    ) -> Result<(), ModifyError> {
        match self {
            Self::Rc(rc) => rc.modify(transition, receives),
        }
    }

    /// Queues a send request. In the error state it is taken and completes with `WR_FLUSH_ERR`.
    ///
    /// # Errors
    /// The state doesn't allow it, the queue is full, or the request is malformed; nothing was queued.
    pub fn post_send(&mut self, request: SendRequest<M::Buffers>) -> Result<(), PostError> {
        match self {
            Self::Rc(rc) => rc.post_send(request),
        }
    }

    /// Queues a receive request. In the error state it is taken and completes with `WR_FLUSH_ERR`.
    ///
    /// # Errors
    /// The state doesn't allow it or the queue is full; nothing was queued.
    pub fn post_recv(
        &mut self,
        request: RecvRequest<M::Buffers>,
        receives: &mut ReceiveQueue<M::Buffers>,
    ) -> Result<(), PostError> {
        match self {
            Self::Rc(rc) => rc.post_recv(request, receives),
        }
    }

    /// Takes a packet for this queue pair; its ICRC, P_Key and addresses were checked.
    ///
    /// # Errors
    /// Why it changed nothing, for the caller's counters. What the protocol has to say about it is sent by
    /// [`Self::poll_transmit`].
    pub fn handle_packet(
        &mut self,
        now: Time,
        from: &Source,
        packet: &Packet<'_>,
        cx: &mut Context<'_, M>,
    ) -> Result<(), DropReason> {
        match self {
            Self::Rc(rc) => rc.handle_packet(now, from, packet, cx),
        }
    }

    /// Whether an ACK that is all the responder owes waits, for a request that leaves with it: then
    /// [`Self::poll_transmit`] leaves it out. The peer's requests complete only with it, so whoever sets this
    /// must end it soon; it delays nothing else.
    ///
    /// IBA 9.7.5.1 leaves it to the responder when to acknowledge, and how much with one packet, as long as
    /// its peer isn't kept waiting until a timeout.
    pub fn let_ack_wait(&mut self, wait: bool) {
        match self {
            Self::Rc(rc) => rc.let_ack_wait(wait),
        }
    }

    /// Whether all that the queue pair owes its peer is an ACK.
    #[must_use]
    pub fn owes_only_an_ack(&self) -> bool {
        match self {
            Self::Rc(rc) => rc.owes_only_an_ack(),
        }
    }

    /// Writes the next packet, BTH to pad, into `out` (which must hold a full packet: path MTU +
    /// [`crate::wire::Headers::MAX_LEN`] + 3 bytes) and says what it is, or `None` when nothing is to be sent
    /// now. Answers and requests take turns.
    pub fn poll_transmit(&mut self, now: Time, cx: &mut Context<'_, M>, out: &mut [u8]) -> Option<Transmit> {
        match self {
            Self::Rc(rc) => rc.poll_transmit(now, cx, out),
        }
    }

    /// When [`Self::handle_timeout`] wants to be called, if ever. It changes with every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match self {
            Self::Rc(rc) => rc.poll_timeout(),
        }
    }

    /// Does what is due at `now`. Calling it early does no harm.
    pub fn handle_timeout(&mut self, now: Time, receives: &mut ReceiveQueue<M::Buffers>) {
        match self {
            Self::Rc(rc) => rc.handle_timeout(now, receives),
        }
    }

    /// The next completion or event, in order.
    pub fn poll(&mut self) -> Option<Event> {
        match self {
            Self::Rc(rc) => rc.poll(),
        }
    }
}
