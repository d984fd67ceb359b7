//! A queue pair of any transport.

use super::rc;
use super::snapshot::Snapshot;
use super::{Burst, Context, Destination, DropReason, Source, Transmit, uc, ud};
use crate::wire::Packet;
use crate::work::{
    Attributes, Event, Memory, ModifyError, PostError, QueuePairType, ReceiveQueue, RecvRequest, SendRequest,
    State, Transition,
};
use crate::{Psn, Qpn, Time};
use core::fmt;

/// A queue pair. See the [module](super) for how it is driven.
#[expect(clippy::large_enum_variant, reason = "most are reliable connections, and those would pay for a box")]
pub enum QueuePair<M: Memory> {
    /// Of a reliable connection, or a side of an extended one.
    Rc(rc::QueuePair<M>),
    /// Of an unreliable connection.
    Uc(uc::QueuePair<M>),
    /// For datagrams.
    Ud(ud::QueuePair<M>),
}

impl<M: Memory> fmt::Debug for QueuePair<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rc(rc) => rc.fmt(f),
            Self::Uc(uc) => uc.fmt(f),
            Self::Ud(ud) => ud.fmt(f),
        }
    }
}

impl<M: Memory> QueuePair<M> {
    /// The queue pair's state.
    #[must_use]
    pub fn state(&self) -> State {
        match self {
            Self::Rc(rc) => rc.state(),
            Self::Uc(uc) => uc.state(),
            Self::Ud(ud) => ud.state(),
        }
    }

    /// Everything a query tells.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        match self {
            Self::Rc(rc) => rc.snapshot(),
            Self::Uc(uc) => uc.snapshot(),
            Self::Ud(ud) => ud.snapshot(),
        }
    }

    /// The PSN of the oldest request packet that the peer has not acknowledged, or of the next one to be sent.
    #[must_use]
    pub fn unacknowledged(&self) -> Psn {
        match self {
            Self::Rc(rc) => rc.unacknowledged(),
            Self::Uc(uc) => uc.next_psn(),
            Self::Ud(ud) => ud.next_psn(),
        }
    }

    /// How often request packets or their answers seemed to be lost. One loss may count several times.
    #[must_use]
    pub fn losses(&self) -> u64 {
        match self {
            Self::Rc(rc) => rc.losses(),
            Self::Uc(_) | Self::Ud(_) => 0,
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
        transition.check(self.state())?;
        self.set_attributes(&transition.into(), receives)
    }

    /// Sets attributes, and with them the state, as `ibv_modify_qp(3)` does. What the device keeps itself (path,
    /// port, partition key) is checked here with the rest, and then left to it.
    ///
    /// # Errors
    /// There is no such transition, or an attribute is missing, not allowed or out of range; nothing has changed
    /// then.
    pub fn set_attributes(
        &mut self,
        change: &Attributes,
        receives: &mut ReceiveQueue<M::Buffers>,
    ) -> Result<(), ModifyError> {
        match self {
            Self::Rc(rc) => rc.modify(change, receives),
            Self::Uc(uc) => uc.modify(change, receives),
            Self::Ud(ud) => ud.modify(change, receives),
        }
    }

    /// What it was made for.
    #[must_use]
    pub fn queue_pair_type(&self) -> QueuePairType {
        match self {
            Self::Rc(rc) => rc.queue_pair_type(),
            Self::Uc(_) => QueuePairType::Uc,
            Self::Ud(_) => QueuePairType::Ud,
        }
    }

    /// Whether a message is between its first and its last packet. An XRC target takes all of one into the same shared
    /// receive queue: while this holds, each call has to be given that.
    #[inline]
    #[must_use]
    pub fn message_arrives(&self) -> bool {
        match self {
            Self::Rc(rc) => rc.message_arrives(),
            Self::Uc(uc) => uc.message_arrives(),
            Self::Ud(_) => false,
        }
    }

    /// Queues a send request. In the error state it is taken and completes with `WR_FLUSH_ERR`.
    ///
    /// # Errors
    /// The state doesn't allow it, the queue is full, or the request is malformed; nothing was queued.
    #[inline]
    pub fn post_send(&mut self, request: SendRequest<M::Buffers>) -> Result<(), PostError> {
        match self {
            Self::Rc(rc) => rc.post_send(request),
            Self::Uc(uc) => uc.post_send(request),
            Self::Ud(ud) => ud.post_send(request),
        }
    }

    /// Queues a receive request. In the error state it is taken and completes with `WR_FLUSH_ERR`.
    ///
    /// # Errors
    /// The state doesn't allow it or the queue is full; nothing was queued.
    #[inline]
    pub fn post_recv(
        &mut self,
        request: RecvRequest<M::Buffers>,
        receives: &mut ReceiveQueue<M::Buffers>,
    ) -> Result<(), PostError> {
        match self {
            Self::Rc(rc) => rc.post_recv(request, receives),
            Self::Uc(uc) => uc.post_recv(request, receives),
            Self::Ud(ud) => ud.post_recv(request, receives),
        }
    }

    /// Takes a packet for this queue pair; its ICRC, P_Key and addresses were checked.
    ///
    /// # Errors
    /// Why it changed nothing, for the caller's counters. What the protocol has to say about it is sent by
    /// [`Self::poll_transmit`].
    #[inline]
    pub fn handle_packet(
        &mut self,
        now: Time,
        from: &Source,
        packet: &Packet<'_>,
        cx: &mut Context<'_, M>,
    ) -> Result<(), DropReason> {
        match self {
            Self::Rc(rc) => rc.handle_packet(now, from, packet, cx),
            Self::Uc(uc) => uc.handle_packet(from, packet, cx),
            Self::Ud(ud) => ud.handle_packet(from, packet, cx),
        }
    }

    /// Has WRITEs of at most `up_to` bytes, from the next one on, leave as a message (WRITE ONLY) for each packet,
    /// where the peer has taken every byte of it before.
    ///
    /// These are all equally long, so that segmentation offload takes them together, and those of one request with
    /// those of the next; a FIRST packet is 16 bytes longer than the others. The peer can't tell it from as many short
    /// WRITEs: should it refuse one after all, those before it are done.
    pub fn split_writes(&mut self, up_to: u32) {
        match self {
            Self::Rc(rc) => rc.split_writes(up_to),
            Self::Uc(_) | Self::Ud(_) => {}
        }
    }

    /// Says what the next packet begins, if it begins something that leaves by one system call.
    ///
    /// While much is in flight, and the peer owes an acknowledgement, requests that aren't enough for all of it wait
    /// for more of them or for that acknowledgement, as a TCP sender's do by Nagle's algorithm (RFC 896): otherwise a
    /// stream of messages that are a packet longer than that would cost two system calls for each. With `None`, and of
    /// other transports than RC, nothing waits.
    #[inline]
    pub fn begins_burst(&mut self, burst: Option<Burst>) {
        match self {
            Self::Rc(rc) => rc.begins_burst(burst),
            Self::Uc(_) | Self::Ud(_) => {}
        }
    }

    /// Whether an ACK that is all the responder owes waits, for a request that leaves with it: then
    /// [`Self::poll_transmit`] leaves it out. The peer's requests complete only with it, so whoever sets this
    /// must end it soon; it delays nothing else.
    ///
    /// IBA 9.7.5.1 leaves it to the responder when to acknowledge, and how much with one packet, as long as
    /// its peer isn't kept waiting until a timeout.
    #[inline]
    pub fn let_ack_wait(&mut self, wait: bool) {
        match self {
            Self::Rc(rc) => rc.let_ack_wait(wait),
            Self::Uc(_) | Self::Ud(_) => {}
        }
    }

    /// How many bytes of READ responses, their headers included, may leave from now on; the packet that uses up the
    /// last of them still leaves whole. Without a call there is no bound. Whoever sends renews this as what was sent
    /// drains: a peer asks for many with a few bytes, and the protocol itself hears nothing of how they fare.
    /// Answers stay in order, so those behind a READ wait with it; requests don't.
    pub fn allow_read_responses(&mut self, bytes: u64) {
        if let Self::Rc(rc) = self {
            rc.allow_read_responses(bytes);
        }
    }

    /// Whether a READ response waits for more to be allowed.
    #[must_use]
    pub fn read_responses_wait(&self) -> bool {
        match self {
            Self::Rc(rc) => rc.read_responses_wait(),
            Self::Uc(_) | Self::Ud(_) => false,
        }
    }

    /// Whether all that the queue pair owes its peer is an ACK.
    #[inline]
    #[must_use]
    pub fn owes_only_an_ack(&self) -> bool {
        match self {
            Self::Rc(rc) => rc.owes_only_an_ack(),
            Self::Uc(_) | Self::Ud(_) => false,
        }
    }

    /// Where the next packet goes, and to which queue pair there, on an unreliable transport: whoever sends chooses
    /// the local address by it, and may wait where the receiver has no room. A reliable connection knows by itself
    /// when to wait, and has one path.
    #[inline]
    #[must_use]
    pub fn next_destination(&self) -> Option<(Destination, Qpn)> {
        match self {
            Self::Rc(_) => None,
            Self::Uc(uc) => uc.next_destination(),
            Self::Ud(ud) => ud.next_destination(),
        }
    }

    /// Writes the next packet, BTH to pad, into `out` (which must hold a full packet: path MTU +
    /// [`crate::wire::Headers::MAX_LEN`] + 3 bytes) and says what it is, or `None` when nothing is to be sent
    /// now. Answers and requests take turns.
    #[inline]
    pub fn poll_transmit(&mut self, now: Time, cx: &mut Context<'_, M>, out: &mut [u8]) -> Option<Transmit> {
        match self {
            Self::Rc(rc) => rc.poll_transmit(now, cx, out),
            Self::Uc(uc) => uc.poll_transmit(cx, out),
            Self::Ud(ud) => ud.poll_transmit(cx, out),
        }
    }

    /// When [`Self::handle_timeout`] wants to be called, if ever. It changes with every other call.
    #[must_use]
    #[inline]
    pub fn poll_timeout(&self) -> Option<Time> {
        match self {
            Self::Rc(rc) => rc.poll_timeout(),
            Self::Uc(_) | Self::Ud(_) => None,
        }
    }

    /// Does what is due at `now`. Calling it early does no harm.
    #[inline]
    pub fn handle_timeout(&mut self, now: Time, receives: &mut ReceiveQueue<M::Buffers>) {
        match self {
            Self::Rc(rc) => rc.handle_timeout(now, receives),
            Self::Uc(_) | Self::Ud(_) => {}
        }
    }

    /// The next completion or event, in order.
    #[inline]
    pub fn poll(&mut self) -> Option<Event> {
        match self {
            Self::Rc(rc) => rc.poll(),
            Self::Uc(uc) => uc.poll(),
            Self::Ud(ud) => ud.poll(),
        }
    }
}
