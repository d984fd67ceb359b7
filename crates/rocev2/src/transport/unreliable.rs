//! What the unreliable transports share: states, and a send queue whose requests complete when they have left.

use super::Transmit;
use super::limits::Limits;
use super::rc::{RequesterCounters, ResponderCounters};
use super::snapshot::Snapshot;
use crate::Psn;
use crate::work::{
    AsyncEvent, Attributes, Completion, Event, MAX_MESSAGE, Memory, ModifyError, PostError, QueuePairType,
    ReceiveQueue, RecvRequest, SendRequest, State, Status, execute_local,
};
use std::collections::VecDeque;

/// A packet of a request, to be written.
pub(super) struct Part<'a, B> {
    pub(super) request: &'a SendRequest<B>,
    /// How much of the message has left.
    pub(super) offset: u32,
    pub(super) psn: Psn,
}

/// The states and the send queue of an unreliable queue pair.
pub(super) struct Unreliable<M: Memory> {
    of: QueuePairType,
    limits: Limits,
    state: State,
    attributes: Attributes,
    sends: VecDeque<SendRequest<M::Buffers>>,
    /// How much of the first request has left, if it has begun to.
    begun: Option<u32>,
    psn: Psn,
    established: bool,
    drain_reported: bool,
    pub(super) events: VecDeque<Event>,
}

impl<M: Memory> Unreliable<M> {
    pub(super) fn new(of: QueuePairType, limits: Limits) -> Self {
        Self {
            of,
            limits,
            state: State::Reset,
            attributes: Attributes::default(),
            sends: VecDeque::new(),
            begun: None,
            psn: Psn::default(),
            established: false,
            drain_reported: false,
            events: VecDeque::new(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    pub(super) fn psn(&self) -> Psn {
        self.psn
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.state,
            attributes: self.attributes,
            rights: self.attributes.rights.unwrap_or_default(),
            receive: self.attributes.receive(),
            send: self.attributes.send(),
            send_outstanding: self.sends.len(),
            answers_waiting: 0,
            requester: RequesterCounters::default(),
            responder: ResponderCounters::default(),
        }
    }

    /// Sets attributes; the caller has given up the message that was arriving if the state is RESET or ERR now.
    pub(super) fn modify(
        &mut self,
        change: &Attributes,
        receives: &mut ReceiveQueue<M::Buffers>,
    ) -> Result<(), ModifyError> {
        let to = change.check(self.of, self.state)?;
        if to == State::Reset {
            receives.clear();
            *self = Self::new(self.of, self.limits);
            return Ok(());
        }
        self.attributes = self.attributes.updated(change);
        if let Some(psn) = change.sq_psn {
            self.psn = psn;
        }
        if to == State::SendQueueDrain && self.state != to {
            self.drain_reported = self.attributes.drain_event == Some(false);
        }
        if to == State::Error {
            self.fail(receives);
        }
        self.state = to;
        self.after_send();
        Ok(())
    }

    /// Goes to the error state: everything that waits is flushed.
    pub(super) fn fail(&mut self, receives: &mut ReceiveQueue<M::Buffers>) {
        self.flush_sends();
        receives.flush(&mut self.events);
        if receives.is_shared() && self.state != State::Error {
            self.events.push_back(Event::Async(AsyncEvent::LastWorkRequestReached));
        }
        self.state = State::Error;
    }

    /// Queues a send request whose operation and destination the transport has found possible.
    pub(super) fn post_send(&mut self, request: SendRequest<M::Buffers>) -> Result<(), PostError> {
        if !matches!(
            self.state,
            State::ReadyToSend | State::SendQueueDrain | State::SendQueueError | State::Error
        ) {
            return Err(PostError::State(self.state));
        }
        if self.sends.len() >= self.limits.max_send_requests {
            return Err(PostError::QueueFull(self.limits.max_send_requests));
        }
        if request.len > MAX_MESSAGE {
            return Err(PostError::TooLong(request.len.into()));
        }
        self.sends.push_back(request);
        if matches!(self.state, State::SendQueueError | State::Error) {
            self.flush_sends();
        }
        Ok(())
    }

    pub(super) fn post_recv(
        &mut self,
        request: RecvRequest<M::Buffers>,
        receives: &mut ReceiveQueue<M::Buffers>,
    ) -> Result<(), PostError> {
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

    /// The request whose packet is the next to leave.
    pub(super) fn front(&self) -> Option<&SendRequest<M::Buffers>> {
        self.sends.front().filter(|_| self.state == State::ReadyToSend || self.begun.is_some())
    }

    /// Has `write` write the next packet. It returns what it wrote and how much of the message has left then, or
    /// how the request ends.
    pub(super) fn poll_transmit(
        &mut self,
        memory: &M,
        write: impl FnOnce(Part<'_, M::Buffers>) -> Result<(Transmit, u32), Status>,
    ) -> Option<Transmit> {
        let may_begin = match self.state {
            State::ReadyToSend => true,
            State::SendQueueDrain => false,
            _ => return None,
        };
        while may_begin && self.sends.front()?.operation.is_local() {
            match execute_local(self.sends.front()?, memory) {
                Ok(()) => self.complete(Status::Success),
                Err(status) => {
                    self.fail_sends(status);
                    return None;
                }
            }
        }
        let request = self.sends.front()?;
        if self.begun.is_none() && !may_begin {
            return None;
        }
        let part = Part { request, offset: self.begun.unwrap_or(0), psn: self.psn };
        let transmit = match write(part) {
            Ok((transmit, left)) => {
                self.psn = self.psn.plus(1);
                self.begun = Some(left);
                if left == request.len {
                    self.complete(Status::Success);
                }
                Some(transmit)
            }
            Err(status) => {
                self.fail_sends(status);
                None
            }
        };
        self.after_send();
        transmit
    }

    /// Ends the first send request with an error, and with it the send queue.
    fn fail_sends(&mut self, status: Status) {
        self.complete(status);
        self.flush_sends();
        self.state = State::SendQueueError;
    }

    /// Ends the first send request.
    fn complete(&mut self, status: Status) {
        self.begun = None;
        let Some(request) = self.sends.pop_front() else { return };
        if request.signaled || status != Status::Success {
            self.events.push_back(Event::Completion(Completion {
                len: request.len,
                ..Completion::new(request.id, status, request.operation.completion_kind())
            }));
        }
    }

    fn flush_sends(&mut self) {
        while !self.sends.is_empty() {
            self.complete(Status::Flushed);
        }
    }

    fn after_send(&mut self) {
        if self.state == State::SendQueueDrain && !self.drain_reported && self.begun.is_none() {
            self.drain_reported = true;
            self.events.push_back(Event::Async(AsyncEvent::SendQueueDrained));
        }
    }

    /// A packet of the peer was taken.
    pub(super) fn heard(&mut self) {
        if self.state == State::ReadyToReceive && !self.established {
            self.established = true;
            self.events.push_back(Event::Async(AsyncEvent::CommunicationEstablished));
        }
    }
}
