//! The unreliable connection (UC): SENDs and RDMA WRITEs that nobody acknowledges (IBA 9.8.2; rxe's `rxe_resp.c`).
//!
//! Requests complete when they have left. A packet that is missing or doesn't fit drops its message, silently,
//! and the next FIRST or ONLY begins anew: what arrives is whole, but may be missing, and a message that the
//! network repeats is received again.

use super::limits::Limits;
use super::message::{Arriving, Place, extend, operation};
use super::snapshot::Snapshot;
use super::unreliable::{Part, Unreliable};
use super::{Context, Destination, DropReason, PacketKind, Source, Transmit};
use crate::wire::{Bth, Headers, Opcode, Operation, Packet, Transport};
use crate::work::{
    AsyncEvent, Attributes, Completion, CompletionKind, Event, MAX_MESSAGE, Memory, ModifyError, PostError,
    QueuePairType, ReceiveQueue, RecvRequest, RemoteRight, SendOperation, SendRequest, State, Status,
};
use crate::{Mtu, Psn, Qpn};
use core::fmt;

/// A queue pair of an unreliable connection. See [`crate::transport`] for how it is driven.
pub struct QueuePair<M: Memory> {
    common: Unreliable<M>,
    mtu: Mtu,
    peer: Qpn,
    /// The PSN that the next packet has if nothing is lost.
    expected: Psn,
    arriving: Option<Arriving<M>>,
}

impl<M: Memory> QueuePair<M> {
    /// A queue pair in the RESET state.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            common: Unreliable::new(QueuePairType::Uc, limits),
            mtu: Mtu::B256,
            peer: Qpn::truncate(0),
            expected: Psn::default(),
            arriving: None,
        }
    }

    pub(super) fn state(&self) -> State {
        self.common.state()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.common.snapshot()
    }

    pub(super) fn message_arrives(&self) -> bool {
        self.arriving.is_some()
    }

    pub(super) fn next_psn(&self) -> Psn {
        self.common.psn()
    }

    pub(super) fn modify(
        &mut self,
        change: &Attributes,
        receives: &mut ReceiveQueue<M::Buffers>,
    ) -> Result<(), ModifyError> {
        let to = change.check(QueuePairType::Uc, self.state())?;
        match to {
            State::Reset => self.abandon(receives),
            State::Error => self.flush_arriving(receives),
            _ => {}
        }
        self.common.modify(change, receives)?;
        self.mtu = change.path_mtu.unwrap_or(self.mtu);
        self.peer = change.peer_qpn.unwrap_or(self.peer);
        self.expected = change.rq_psn.unwrap_or(self.expected);
        Ok(())
    }

    pub(super) fn post_send(&mut self, request: SendRequest<M::Buffers>) -> Result<(), PostError> {
        if request.destination.is_some() {
            return Err(PostError::Destination);
        }
        match request.operation {
            SendOperation::Send
            | SendOperation::SendImmediate(_)
            | SendOperation::Write(_)
            | SendOperation::WriteImmediate(..)
            | SendOperation::BindWindow
            | SendOperation::LocalInvalidate(_) => self.common.post_send(request),
            _ => Err(PostError::Operation),
        }
    }

    pub(super) fn post_recv(
        &mut self,
        request: RecvRequest<M::Buffers>,
        receives: &mut ReceiveQueue<M::Buffers>,
    ) -> Result<(), PostError> {
        self.common.post_recv(request, receives)
    }

    pub(super) fn poll(&mut self) -> Option<Event> {
        self.common.events.pop_front()
    }

    pub(super) fn next_destination(&self) -> Option<(Destination, Qpn)> {
        self.common.front().map(|_| (Destination::Path, self.peer))
    }

    pub(super) fn poll_transmit(&mut self, cx: &mut Context<'_, M>, out: &mut [u8]) -> Option<Transmit> {
        let (mtu, peer, memory) = (self.mtu, self.peer, cx.memory);
        self.common.poll_transmit(memory, |Part { request, offset, psn }| {
            let payload = (request.len - offset).min(mtu.bytes());
            let left = offset + payload;
            let place = Place { first: offset == 0, last: left == request.len };
            let operation = operation(request.operation, place);
            let mut bth = Bth::new(uc(operation), peer, psn);
            bth.solicited =
                place.last && request.solicited && !matches!(request.operation, SendOperation::Write(_));
            let mut headers = Headers::new(bth);
            extend(&mut headers, request.operation, request.len, place);
            let frame = headers.frame(out, payload as usize).map_err(|_| Status::LocalQueuePairOperation)?;
            memory.gather(&request.buffers, offset, frame.payload).map_err(|_| Status::LocalProtection)?;
            Ok((Transmit { len: frame.len, to: Destination::Path, psn, kind: PacketKind::Request }, left))
        })
    }

    pub(super) fn handle_packet(
        &mut self,
        _from: &Source,
        packet: &Packet<'_>,
        cx: &mut Context<'_, M>,
    ) -> Result<(), DropReason> {
        if !self.state().receives() {
            return Err(DropReason::State);
        }
        let operation = match packet.headers.bth.opcode {
            Opcode::Known { transport: Transport::Uc, operation } => operation,
            // There is no window that could be made smaller.
            Opcode::Cnp => return Ok(()),
            _ => return Err(DropReason::Transport),
        };
        let place = Place::of(operation);
        let psn = packet.headers.bth.psn;
        if !place.first && (psn != self.expected || self.arriving.is_none()) {
            self.abandon(cx.receives);
            return Err(DropReason::OutOfSequence);
        }
        if place.first {
            // What was arriving lost its end.
            self.abandon(cx.receives);
        }
        self.expected = psn.plus(1);
        let result = self.execute(operation, place, packet, cx);
        match result {
            Ok(()) => self.common.heard(),
            Err(DropReason::RemoteOperation) => {
                // The receive request has completed with its own error.
                self.flush_arriving(cx.receives);
                self.common.events.push_back(Event::Async(AsyncEvent::Fatal));
                self.common.fail(cx.receives);
            }
            Err(_) => self.abandon(cx.receives),
        }
        result
    }

    fn execute(
        &mut self,
        operation: Operation,
        place: Place,
        packet: &Packet<'_>,
        cx: &mut Context<'_, M>,
    ) -> Result<(), DropReason> {
        place.check_payload(packet.payload.len(), self.mtu)?;
        match &self.arriving {
            Some(Arriving::Send { .. }) if !operation.is_send() => Err(DropReason::InvalidRequest),
            Some(Arriving::Write { .. }) if !operation.is_write() => Err(DropReason::InvalidRequest),
            _ if operation.is_send() => self.execute_send(place, packet, cx),
            _ => self.execute_write(place, packet, cx),
        }
    }

    fn execute_send(
        &mut self,
        place: Place,
        packet: &Packet<'_>,
        cx: &mut Context<'_, M>,
    ) -> Result<(), DropReason> {
        if place.first {
            let request = cx.receives.take().ok_or(DropReason::ReceiverNotReady)?;
            self.arriving = Some(Arriving::Send { request, offset: 0 });
        }
        let Some(Arriving::Send { request, offset }) = &mut self.arriving else {
            return Err(DropReason::InvalidRequest);
        };
        let end = u64::from(*offset) + packet.payload.len() as u64;
        let end = u32::try_from(end).ok().filter(|&end| end <= MAX_MESSAGE && u64::from(end) <= request.len);
        let end = end.ok_or(DropReason::ReceiveTooShort)?;
        if cx.memory.scatter(&request.buffers, *offset, packet.payload).is_err() {
            let (id, kind) = (request.id, CompletionKind::Recv);
            self.arriving = None;
            cx.receives.finish();
            let failed = Completion::new(id, Status::LocalProtection, kind);
            self.common.events.push_back(Event::Completion(failed));
            return Err(DropReason::RemoteOperation);
        }
        *offset = end;
        if place.last {
            let id = request.id;
            self.arriving = None;
            self.received(id, CompletionKind::Recv, end, packet, cx.receives);
        }
        Ok(())
    }

    fn execute_write(
        &mut self,
        place: Place,
        packet: &Packet<'_>,
        cx: &mut Context<'_, M>,
    ) -> Result<(), DropReason> {
        if place.first {
            let reth = packet.headers.reth.ok_or(DropReason::InvalidRequest)?;
            if !self.common.attributes().rights.is_some_and(|rights| rights.write) || reth.len > MAX_MESSAGE {
                return Err(DropReason::InvalidRequest);
            }
            let grant = match reth.len {
                0 => None,
                len => {
                    let grant = cx.memory.grant(reth.rkey, reth.va, len, RemoteRight::Write);
                    Some(grant.map_err(|_| DropReason::RemoteAccess)?)
                }
            };
            self.arriving = Some(Arriving::Write { grant, len: reth.len, offset: 0 });
        }
        let Some(Arriving::Write { grant, len, offset }) = &mut self.arriving else {
            return Err(DropReason::InvalidRequest);
        };
        let end = u64::from(*offset) + packet.payload.len() as u64;
        let end = u32::try_from(end).ok().filter(|&end| if place.last { end == *len } else { end < *len });
        let end = end.ok_or(DropReason::InvalidRequest)?;
        let takes_receive = place.last && packet.headers.immediate.is_some();
        if takes_receive && cx.receives.is_empty() {
            return Err(DropReason::ReceiverNotReady);
        }
        if let Some(grant) = grant {
            cx.memory.write(grant, *offset, packet.payload).map_err(|_| DropReason::RemoteAccess)?;
        }
        *offset = end;
        if place.last {
            self.arriving = None;
            if takes_receive && let Some(request) = cx.receives.take() {
                self.received(request.id, CompletionKind::RecvWriteImmediate, end, packet, cx.receives);
            }
        }
        Ok(())
    }

    /// Ends a receive request that took a whole message.
    fn received(
        &mut self,
        id: u64,
        kind: CompletionKind,
        len: u32,
        packet: &Packet<'_>,
        receives: &mut ReceiveQueue<M::Buffers>,
    ) {
        receives.finish();
        self.common.events.push_back(Event::Completion(Completion {
            len,
            immediate: packet.headers.immediate,
            solicited: packet.headers.bth.solicited,
            ..Completion::new(id, Status::Success, kind)
        }));
    }

    /// Gives up the message that is arriving; the next one takes its receive request.
    fn abandon(&mut self, receives: &mut ReceiveQueue<M::Buffers>) {
        if let Some(Arriving::Send { request, .. }) = self.arriving.take() {
            receives.put_back(request);
        }
    }

    /// Completes the receive request that is being filled with `WR_FLUSH_ERR`.
    fn flush_arriving(&mut self, receives: &mut ReceiveQueue<M::Buffers>) {
        if let Some(Arriving::Send { request, .. }) = self.arriving.take() {
            receives.finish();
            let flushed = Completion::new(request.id, Status::Flushed, CompletionKind::Recv);
            self.common.events.push_back(Event::Completion(flushed));
        }
    }
}

impl<M: Memory> fmt::Debug for QueuePair<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuePair").field("state", &self.state()).finish_non_exhaustive()
    }
}

fn uc(operation: Operation) -> Opcode {
    Opcode::Known { transport: Transport::Uc, operation }
}
