//! Unreliable datagrams (UD): single packets to any queue pair, named with each request (IBA 9.8.3).

use super::grh::{GRH_LEN, grh};
use super::limits::Limits;
use super::snapshot::Snapshot;
use super::unreliable::{Part, Unreliable};
use super::{Context, Destination, DropReason, PacketKind, Source, Transmit};
use crate::wire::{Bth, Deth, Headers, Opcode, Operation, Packet, Transport};
use crate::work::{
    AsyncEvent, Attributes, Completion, CompletionKind, Event, Memory, ModifyError, PostError, QueuePairType,
    ReceiveQueue, RecvRequest, SendOperation, SendRequest, State, Status,
};
use crate::{Mtu, Psn, Qpn};
use core::fmt;

/// A queue key with this bit in a request stands for the queue pair's own (IBA 10.2.5): a program can't send with
/// such a key unless it was given to its queue pair.
const CONTROLLED_QKEY: u32 = 0x8000_0000;

/// A queue pair for datagrams. See [`crate::transport`] for how it is driven.
pub struct QueuePair<M: Memory> {
    common: Unreliable<M>,
    own: Qpn,
    mtu: Mtu,
}

impl<M: Memory> QueuePair<M> {
    /// A queue pair with number `own`, in the RESET state, for messages of at most `mtu`.
    #[must_use]
    pub fn new(limits: Limits, own: Qpn, mtu: Mtu) -> Self {
        Self { common: Unreliable::new(QueuePairType::Ud, limits), own, mtu }
    }

    pub(super) fn state(&self) -> State {
        self.common.state()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.common.snapshot()
    }

    pub(super) fn next_psn(&self) -> Psn {
        self.common.psn()
    }

    pub(super) fn modify(
        &mut self,
        change: &Attributes,
        receives: &mut ReceiveQueue<M::Buffers>,
    ) -> Result<(), ModifyError> {
        self.common.modify(change, receives)
    }

    pub(super) fn post_send(&mut self, request: SendRequest<M::Buffers>) -> Result<(), PostError> {
        if request.datagram().is_none() {
            return Err(PostError::Destination);
        }
        if !matches!(request.operation, SendOperation::Send | SendOperation::SendImmediate(_)) {
            return Err(PostError::Operation);
        }
        if request.len > self.mtu.bytes() {
            return Err(PostError::Datagram { len: request.len, mtu: self.mtu.bytes() });
        }
        self.common.post_send(request)
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
        let to = self.common.front()?.datagram()?;
        Some((Destination::Address(to.address), to.remote_qpn))
    }

    pub(super) fn poll_transmit(&mut self, cx: &mut Context<'_, M>, out: &mut [u8]) -> Option<Transmit> {
        let own_qkey = self.common.attributes().qkey.unwrap_or(0);
        let (own, memory) = (self.own, cx.memory);
        self.common.poll_transmit(memory, |Part { request, psn, .. }| {
            let to = request.datagram().ok_or(Status::LocalQueuePairOperation)?;
            let (operation, immediate) = match request.operation {
                SendOperation::SendImmediate(value) => (Operation::SendOnlyImm, Some(value)),
                _ => (Operation::SendOnly, None),
            };
            let mut bth = Bth::new(Opcode::Known { transport: Transport::Ud, operation }, to.remote_qpn, psn);
            bth.solicited = request.solicited;
            let mut headers = Headers::new(bth);
            let qkey = if to.remote_qkey & CONTROLLED_QKEY == 0 { to.remote_qkey } else { own_qkey };
            headers.deth = Some(Deth { qkey, src_qp: own });
            headers.immediate = immediate;
            let frame =
                headers.frame(out, request.len as usize).map_err(|_| Status::LocalQueuePairOperation)?;
            memory.gather(&request.buffers, 0, frame.payload).map_err(|_| Status::LocalProtection)?;
            let (len, to) = (frame.len, Destination::Address(to.address));
            Ok((Transmit { len, to, psn, kind: PacketKind::Request }, request.len))
        })
    }

    pub(super) fn handle_packet(
        &mut self,
        from: &Source,
        packet: &Packet<'_>,
        cx: &mut Context<'_, M>,
    ) -> Result<(), DropReason> {
        if !self.state().receives() {
            return Err(DropReason::State);
        }
        let headers = &packet.headers;
        match headers.bth.opcode {
            Opcode::Known {
                transport: Transport::Ud,
                operation: Operation::SendOnly | Operation::SendOnlyImm,
            } => {}
            Opcode::Cnp => return Ok(()),
            _ => return Err(DropReason::Transport),
        }
        let deth = headers.deth.ok_or(DropReason::Transport)?;
        if self.common.attributes().qkey != Some(deth.qkey) {
            return Err(DropReason::QueueKey);
        }
        let payload = u32::try_from(packet.payload.len()).ok().filter(|&len| len <= self.mtu.bytes());
        let len = GRH_LEN + payload.ok_or(DropReason::InvalidRequest)?;
        // A datagram that is too long leaves its request to the next one (rxe: class D).
        let room = cx.receives.front().ok_or(DropReason::ReceiverNotReady)?.len;
        if u64::from(len) > room {
            return Err(DropReason::ReceiveTooShort);
        }
        let request = cx.receives.take().ok_or(DropReason::ReceiverNotReady)?;
        cx.receives.finish();
        let (grh, memory) = (grh(from, packet), cx.memory);
        let stored = memory
            .scatter(&request.buffers, 0, &grh)
            .and_then(|()| memory.scatter(&request.buffers, GRH_LEN, packet.payload));
        let (id, kind) = (request.id, CompletionKind::Recv);
        if stored.is_err() {
            let failed = Completion::new(id, Status::LocalProtection, kind);
            self.common.events.push_back(Event::Completion(failed));
            self.common.events.push_back(Event::Async(AsyncEvent::Fatal));
            self.common.fail(cx.receives);
            return Err(DropReason::RemoteOperation);
        }
        self.common.events.push_back(Event::Completion(Completion {
            len,
            immediate: headers.immediate,
            solicited: headers.bth.solicited,
            source_qp: Some(deth.src_qp),
            grh: true,
            ..Completion::new(id, Status::Success, kind)
        }));
        Ok(())
    }
}

impl<M: Memory> fmt::Debug for QueuePair<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuePair").field("state", &self.state()).finish_non_exhaustive()
    }
}
