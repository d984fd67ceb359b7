//! A queue pair: a requester and a responder under one state. A side of an extended reliable connection (IBA, Annex
//! A14) uses one of the two.

use super::requester::Requester;
use super::responder::Responder;
use crate::transport::limits::Limits;
use crate::transport::snapshot::Snapshot;
use crate::transport::{Burst, Context, DropReason, Source, Transmit};
use crate::wire::{Opcode, Operation, Packet};
use crate::work::{
    AsyncEvent, Attributes, Event, Memory, ModifyError, PostError, QueuePairType, ReceiveQueue, RecvRequest,
    SendRequest, State,
};
use crate::{Mtu, Psn, Qpn, Time};
use core::fmt;
use std::collections::VecDeque;

/// A queue pair of a reliable connection, or a side of an extended one. See [`crate::transport`] for how it is driven.
pub struct QueuePair<M: Memory> {
    of: QueuePairType,
    limits: Limits,
    state: State,
    attributes: Attributes,
    requester: Requester<M::Buffers>,
    responder: Responder<M>,
    established: bool,
    drain_reported: bool,
    turn: Turn,
    ack_waits: bool,
    events: VecDeque<Event>,
}

/// Whose packets leave next. Without turns, a peer that reads without end would keep this side's requests
/// from leaving, until they seemed unanswered; and the other way round.
#[derive(Clone, Copy)]
struct Turn {
    answers: bool,
    packets_left: u32,
    /// A lone ACK has let requests go first.
    yielded: bool,
}

impl Turn {
    /// Enough that a batch of packets is of one kind, as segmentation offload likes it.
    const PACKETS: u32 = 16;

    /// Answers first: the peer waits for them.
    const START: Self = Self { answers: true, packets_left: Self::PACKETS, yielded: false };

    /// A lone ACK lets a run of requests go first, once: the peer's program waits for those, its queue pair
    /// for the ACK.
    fn yield_to_requests(&mut self) {
        if !self.yielded {
            *self = Self { answers: false, packets_left: Self::PACKETS, yielded: true };
        }
    }

    /// Notes that a packet left, an answer or a request.
    fn took(&mut self, answer: bool) {
        if answer != self.answers {
            // The other side had nothing to send.
            return;
        }
        self.packets_left -= 1;
        if self.packets_left == 0 {
            *self = Self { answers: !answer, packets_left: Self::PACKETS, ..*self };
        }
    }
}

impl<M: Memory> fmt::Debug for QueuePair<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the PSNs: whoever reads them in a log can write into this memory.
        let Snapshot { state, send_outstanding, .. } = self.snapshot();
        f.debug_struct("QueuePair")
            .field("state", &state)
            .field("send_outstanding", &send_outstanding)
            .finish_non_exhaustive()
    }
}

impl<M: Memory> QueuePair<M> {
    /// A queue pair of a reliable connection, in the RESET state.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::with(QueuePairType::Rc, limits)
    }

    /// The side of an extended reliable connection that sends requests, in the RESET state.
    #[must_use]
    pub fn xrc_initiator(limits: Limits) -> Self {
        Self::with(QueuePairType::XrcInitiator, limits)
    }

    /// The side of an extended reliable connection that answers requests, in the RESET state.
    #[must_use]
    pub fn xrc_target() -> Self {
        Self::with(QueuePairType::XrcTarget, Limits { max_send_requests: 0, window: 0 })
    }

    fn with(of: QueuePairType, limits: Limits) -> Self {
        let transport = of.transport();
        let (capacity, peer) = (limits.max_send_requests, Qpn::truncate(0));
        Self {
            of,
            limits,
            state: State::Reset,
            attributes: Attributes::default(),
            requester: Requester::new(transport, capacity, Mtu::B256, peer, limits.window),
            responder: Responder::new(transport),
            established: false,
            drain_reported: false,
            turn: Turn::START,
            ack_waits: false,
            events: VecDeque::new(),
        }
    }

    /// What it was made for.
    #[must_use]
    pub fn queue_pair_type(&self) -> QueuePairType {
        self.of
    }

    /// Whether a message is between its first and its last packet.
    #[must_use]
    pub fn message_arrives(&self) -> bool {
        self.responder.message_arrives()
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Everything a query tells.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.state,
            attributes: self.attributes,
            rights: self.attributes.rights.unwrap_or_default(),
            receive: self.attributes.receive(),
            send: self.attributes.send(),
            send_outstanding: self.requester.outstanding(),
            answers_waiting: self.responder.answers_waiting(),
            requester: self.requester.counters,
            responder: self.responder.counters,
        }
    }

    /// The PSN of the oldest request packet that the peer has not acknowledged, or of the next one to be sent.
    #[must_use]
    pub fn unacknowledged(&self) -> Psn {
        self.requester.unacknowledged()
    }

    /// How often request packets or their answers seemed to be lost. One loss may count several times.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.requester.losses()
    }

    /// Sets attributes, and with them the state.
    ///
    /// # Errors
    /// There is no such transition, or an attribute is missing, not allowed or out of range; nothing has changed
    /// then.
    pub fn modify(
        &mut self,
        change: &Attributes,
        receives: &mut ReceiveQueue<M::Buffers>,
    ) -> Result<(), ModifyError> {
        let to = change.check(self.of, self.state)?;
        if to == State::Reset {
            self.responder.abandon(receives);
            receives.clear();
            *self = Self::with(self.of, self.limits);
            return Ok(());
        }
        self.attributes = self.attributes.updated(change);
        if let (State::Init, State::ReadyToReceive, Some(receive)) =
            (self.state, to, self.attributes.receive())
        {
            self.responder.start(&receive);
            let Limits { max_send_requests, window } = self.limits;
            let (mtu, peer) = (receive.path_mtu, receive.peer_qpn);
            self.requester = Requester::new(self.of.transport(), max_send_requests, mtu, peer, window);
        }
        if let (State::ReadyToReceive, State::ReadyToSend, Some(send)) =
            (self.state, to, self.attributes.send())
        {
            self.requester.start(&send);
        }
        self.responder.update(&self.attributes);
        self.requester.update(&self.attributes);
        match (self.state, to) {
            (State::ReadyToSend, State::SendQueueDrain) => {
                self.requester.set_draining(true);
                self.drain_reported = self.attributes.drain_event == Some(false);
            }
            (State::SendQueueDrain, State::ReadyToSend) => self.requester.set_draining(false),
            (_, State::Error) => {
                self.responder.stop_reading();
                if self.state != State::Error {
                    self.enter_error(receives);
                }
            }
            _ => {}
        }
        self.state = to;
        self.after_change(receives);
        Ok(())
    }

    /// Has WRITEs of at most `up_to` bytes, from the next one on, leave as a message for each packet.
    pub fn split_writes(&mut self, up_to: u32) {
        self.requester.split_writes(up_to);
    }

    /// Says what the next packet begins, if it begins something that leaves by one system call. While much is in flight
    /// and an acknowledgement is due, requests that aren't enough for it wait.
    #[inline]
    pub fn begins_burst(&mut self, burst: Option<Burst>) {
        self.requester.begins_burst(burst);
    }

    /// Queues a send request. In the error state it is taken and completes with `WR_FLUSH_ERR`.
    ///
    /// # Errors
    /// The state doesn't allow it, the queue is full, or the request is malformed; nothing was queued.
    #[inline]
    pub fn post_send(&mut self, request: SendRequest<M::Buffers>) -> Result<(), PostError> {
        let names_what_it_needs = match self.of {
            QueuePairType::XrcTarget => return Err(PostError::Operation),
            QueuePairType::XrcInitiator => request.xrc_srq().is_some() || request.operation.is_local(),
            _ => request.destination.is_none(),
        };
        if !names_what_it_needs {
            return Err(PostError::Destination);
        }
        match self.state {
            State::ReadyToSend | State::SendQueueDrain => self.requester.post(request),
            State::Error => {
                self.requester.post(request)?;
                self.requester.flush(&mut self.events);
                Ok(())
            }
            state => Err(PostError::State(state)),
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
        match self.of {
            QueuePairType::XrcInitiator => return Err(PostError::Operation),
            QueuePairType::XrcTarget => return Err(PostError::SharedReceiveQueue),
            _ => {}
        }
        match self.state {
            State::Reset => Err(PostError::State(State::Reset)),
            State::Error => {
                receives.post_own(request)?;
                receives.flush(&mut self.events);
                Ok(())
            }
            _ => receives.post_own(request),
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
        _from: &Source,
        packet: &Packet<'_>,
        cx: &mut Context<'_, M>,
    ) -> Result<(), DropReason> {
        if self.state == State::Error && self.takes(packet).is_some_and(Operation::is_request) {
            self.responder.refuse_again(packet.headers.bth.psn);
        }
        if !self.state.receives() {
            return Err(DropReason::State);
        }
        if packet.headers.bth.opcode == Opcode::Cnp {
            self.requester.handle_congestion();
            return Ok(());
        }
        let operation = self.takes(packet).ok_or(DropReason::Transport)?;
        let result = if operation.is_request() {
            self.responder.handle_request(operation, packet, cx, &mut self.events)
        } else {
            self.handle_response(now, operation, packet, cx.memory)
        };
        if result.is_ok() && self.state == State::ReadyToReceive && !self.established {
            self.established = true;
            self.events.push_back(Event::Async(AsyncEvent::CommunicationEstablished));
        }
        self.after_change(cx.receives);
        result
    }

    /// The packet's operation, if it is one that a queue pair of this type takes.
    #[inline]
    fn takes(&self, packet: &Packet<'_>) -> Option<Operation> {
        let Opcode::Known { transport, operation } = packet.headers.bth.opcode else { return None };
        let on_this_side = match self.of {
            QueuePairType::XrcInitiator => operation.is_response(),
            QueuePairType::XrcTarget => operation.is_request(),
            _ => true,
        };
        (transport == self.of.transport() && on_this_side).then_some(operation)
    }

    fn handle_response(
        &mut self,
        now: Time,
        operation: Operation,
        packet: &Packet<'_>,
        memory: &M,
    ) -> Result<(), DropReason> {
        if self.state == State::ReadyToReceive {
            return Err(DropReason::State);
        }
        let (headers, events) = (&packet.headers, &mut self.events);
        match (operation, headers.aeth, headers.atomic_ack) {
            (Operation::Acknowledge, Some(aeth), _) => {
                self.requester.handle_acknowledge(now, headers.bth.psn, aeth, events)
            }
            (Operation::AtomicAcknowledge, Some(aeth), Some(original)) => {
                let psn = headers.bth.psn;
                self.requester.handle_atomic_acknowledge(now, psn, aeth, original, memory, events)
            }
            _ => self.requester.handle_read_response(now, operation, packet, memory, events),
        }
    }

    /// Whether an ACK that is all the responder owes waits, for a request that leaves with it: then
    /// [`Self::poll_transmit`] leaves it out. The peer's requests complete only with it, so whoever sets this
    /// must end it soon; it delays nothing else.
    ///
    /// IBA 9.7.5.1 leaves it to the responder when to acknowledge, and how much with one packet, as long as
    /// its peer isn't kept waiting until a timeout.
    pub fn let_ack_wait(&mut self, wait: bool) {
        self.ack_waits = wait;
    }

    /// How many bytes of READ responses may leave from now on; without end unless this was called.
    pub fn allow_read_responses(&mut self, bytes: u64) {
        self.responder.allow(bytes);
    }

    /// Whether a READ response waits for more to be allowed.
    #[must_use]
    pub fn read_responses_wait(&self) -> bool {
        self.responder.is_held_up()
    }

    /// Whether all that it owes its peer is an ACK.
    #[must_use]
    pub fn owes_only_an_ack(&self) -> bool {
        self.responder.owes_only_an_ack()
    }

    /// Writes the next packet, BTH to pad, into `out` (which must hold a full packet: path MTU +
    /// [`crate::wire::Headers::MAX_LEN`] + 3 bytes) and says what it is, or `None` when nothing is to be sent
    /// now. Answers and requests take turns.
    pub fn poll_transmit(&mut self, now: Time, cx: &mut Context<'_, M>, out: &mut [u8]) -> Option<Transmit> {
        if self.responder.owes_only_an_ack() {
            self.turn.yield_to_requests();
        }
        let answers_first = self.turn.answers;
        for answer in [answers_first, !answers_first] {
            let transmit = if answer {
                if self.responder.answers_waiting() == 0
                    || (self.ack_waits && self.responder.owes_only_an_ack())
                {
                    continue;
                }
                self.responder.poll_transmit(cx.memory, out, &mut self.events)
            } else if matches!(self.state, State::ReadyToSend | State::SendQueueDrain) {
                self.requester.poll_transmit(now, cx.memory, out, &mut self.events)
            } else {
                None
            };
            self.after_change(cx.receives);
            if transmit.is_some() {
                self.turn.took(answer);
                return transmit;
            }
        }
        self.turn = Turn::START;
        None
    }

    /// When [`Self::handle_timeout`] wants to be called, if ever. It changes with every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.requester.next_timeout()
    }

    /// Does what is due at `now`. Calling it early does no harm.
    pub fn handle_timeout(&mut self, now: Time, receives: &mut ReceiveQueue<M::Buffers>) {
        self.requester.handle_timeout(now, &mut self.events);
        self.after_change(receives);
    }

    /// The next completion or event, in order.
    #[inline]
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Notices that requester or responder failed, or that the send queue has drained.
    #[inline]
    fn after_change(&mut self, receives: &mut ReceiveQueue<M::Buffers>) {
        // It follows each packet, and mostly nothing of the kind has happened.
        if self.requester.failed() || self.responder.failed() || self.state == State::SendQueueDrain {
            self.after_failure_or_drain(receives);
        }
    }

    #[cold]
    fn after_failure_or_drain(&mut self, receives: &mut ReceiveQueue<M::Buffers>) {
        if self.state != State::Error && (self.requester.failed() || self.responder.failed()) {
            if !self.responder.failed() {
                self.responder.stop_reading();
            }
            self.enter_error(receives);
            self.state = State::Error;
        }
        if self.state == State::SendQueueDrain && !self.drain_reported && self.requester.is_drained() {
            self.drain_reported = true;
            self.events.push_back(Event::Async(AsyncEvent::SendQueueDrained));
        }
    }

    fn enter_error(&mut self, receives: &mut ReceiveQueue<M::Buffers>) {
        self.requester.flush(&mut self.events);
        self.responder.flush(receives, &mut self.events);
        // An XRC target has no queue that it could have emptied.
        if receives.is_shared() && self.of == QueuePairType::Rc {
            self.events.push_back(Event::Async(AsyncEvent::LastWorkRequestReached));
        }
    }
}
