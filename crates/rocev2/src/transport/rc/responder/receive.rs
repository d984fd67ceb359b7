//! The peer's requests: sequence, then validity, then execution.

use super::{Answer, Remembered, Responder};
use crate::Psn;
use crate::transport::message::{Arriving, Place};
use crate::transport::{Context, DropReason};
use crate::wire::{NakCode, Operation, Packet, Reth};
use crate::work::{
    AsyncEvent, AtomicOperation, Completion, CompletionKind, Event, MAX_MESSAGE, Memory, ReceiveQueue,
    RecvRequest, RemoteRight, Status,
};
use std::collections::VecDeque;

/// How often a READ is answered once more, in packets of its whole answer. A requester asks for what it misses from the
/// first lost packet on: of 256 packets it needs some ten times as many where a tenth gets lost, and some forty where a
/// third does.
const REPETITIONS: u64 = 64;

impl<M: Memory> Responder<M> {
    /// Takes a request packet.
    pub(in crate::transport::rc) fn handle_request(
        &mut self,
        operation: Operation,
        packet: &Packet<'_>,
        cx: &mut Context<'_, M>,
        events: &mut VecDeque<Event>,
    ) -> Result<(), DropReason> {
        let ahead = packet.headers.bth.psn.distance_from(self.psn(self.expected));
        if ahead > 0 {
            if !self.nak_sent {
                self.nak_sent = true;
                self.answers
                    .push_back(Answer::Nak { sequence: self.expected, code: NakCode::PsnSequenceError });
            }
            return Err(DropReason::OutOfSequence);
        }
        if ahead < 0 {
            let sequence = self.expected.saturating_add_signed(ahead.into());
            return self.handle_duplicate(sequence, operation, packet);
        }
        // A NAK that waits to be sent says that this packet is missing, or came too early.
        self.answers.pop_back_if(|answer| matches!(answer, Answer::Nak { .. } | Answer::RnrNak { .. }));
        let used = match self.execute(operation, packet, cx, events) {
            Ok(used) => used,
            Err(DropReason::ReceiverNotReady) => {
                self.nak_sent = true;
                self.answers.push_back(Answer::RnrNak { sequence: self.expected });
                return Err(DropReason::ReceiverNotReady);
            }
            Err(refusal) => {
                self.fail(refusal, events);
                return Err(refusal);
            }
        };
        let sequence = self.expected;
        self.expected += used;
        self.nak_sent = false;
        if !answered_with_data(operation) {
            self.plain = sequence;
            if packet.headers.bth.ack_req {
                self.acknowledge(sequence);
            }
        }
        Ok(())
    }

    /// Takes a packet of a peer whose request ended the connection: as long as it asks, its refusal was lost.
    pub(in crate::transport::rc) fn refuse_again(&mut self, psn: Psn) {
        if let Some((sequence, code)) = self.refused
            && psn.distance_from(self.psn(sequence)) <= 0
            && self.answers.is_empty()
        {
            self.answers.push_back(Answer::Nak { sequence, code });
        }
    }

    /// Executes the expected packet and returns how many sequence numbers it uses up.
    fn execute(
        &mut self,
        operation: Operation,
        packet: &Packet<'_>,
        cx: &mut Context<'_, M>,
        events: &mut VecDeque<Event>,
    ) -> Result<u64, DropReason> {
        let place = Place::of(operation);
        // A message must be carried through before the next begins (rxe: check_op_seq).
        let continues = match self.arriving {
            None => place.first,
            Some(Arriving::Send { .. }) => !place.first && operation.is_send(),
            Some(Arriving::Write { .. }) => !place.first && operation.is_write(),
        };
        if !continues {
            return Err(DropReason::InvalidRequest);
        }
        // What names a queue of another XRC domain, or none, reaches for what it has no right to: network cards report
        // it as an access violation (hns, qedr).
        if packet.headers.xrc_srq != cx.xrc_srq {
            return Err(DropReason::RemoteAccess);
        }
        if operation.is_send() {
            self.execute_send(place, packet, cx, events)
        } else if operation.is_write() {
            self.execute_write(place, packet, cx, events)
        } else if operation.is_atomic() {
            self.execute_atomic(operation, packet, cx.memory)
        } else {
            self.execute_read(packet, cx.memory)
        }
    }

    fn execute_send(
        &mut self,
        place: Place,
        packet: &Packet<'_>,
        cx: &mut Context<'_, M>,
        events: &mut VecDeque<Event>,
    ) -> Result<u64, DropReason> {
        place.check_payload(packet.payload.len(), self.mtu)?;
        let (request, offset) = match self.arriving.take() {
            Some(Arriving::Send { request, offset }) => (request, offset),
            _ => (cx.receives.take().ok_or(DropReason::ReceiverNotReady)?, 0),
        };
        let end = u64::from(offset) + packet.payload.len() as u64;
        if end > request.len.min(MAX_MESSAGE.into()) {
            return Err(receive_failed(
                cx.receives,
                &request,
                Status::LocalLength,
                DropReason::InvalidRequest,
                events,
            ));
        }
        if cx.memory.scatter(&request.buffers, offset, packet.payload).is_err() {
            return Err(receive_failed(
                cx.receives,
                &request,
                Status::LocalProtection,
                DropReason::RemoteOperation,
                events,
            ));
        }
        let end = u32::try_from(end).map_err(|_| DropReason::InvalidRequest)?;
        if !place.last {
            self.arriving = Some(Arriving::Send { request, offset: end });
            return Ok(1);
        }
        if let Some(rkey) = packet.headers.invalidate
            && cx.memory.invalidate(rkey).is_err()
        {
            return Err(receive_failed(
                cx.receives,
                &request,
                Status::LocalQueuePairOperation,
                DropReason::RemoteAccess,
                events,
            ));
        }
        self.message_done();
        events.push_back(received(cx.receives, &request, CompletionKind::Recv, end, packet));
        Ok(1)
    }

    fn execute_write(
        &mut self,
        place: Place,
        packet: &Packet<'_>,
        cx: &mut Context<'_, M>,
        events: &mut VecDeque<Event>,
    ) -> Result<u64, DropReason> {
        place.check_payload(packet.payload.len(), self.mtu)?;
        let takes_receive = place.last && packet.headers.immediate.is_some();
        if place.first {
            let reth = packet.headers.reth.ok_or(DropReason::InvalidRequest)?;
            if !self.rights.write || reth.len > MAX_MESSAGE {
                return Err(DropReason::InvalidRequest);
            }
            let fits = if place.last {
                packet.payload.len() == reth.len as usize
            } else {
                reth.len > self.mtu.bytes()
            };
            if !fits {
                return Err(DropReason::InvalidRequest);
            }
            // A write of nothing touches nothing, whatever its key says (rxe's check_rkey passes it too).
            let grant = match reth.len {
                0 => None,
                len => match cx.memory.grant(reth.rkey, reth.va, len, RemoteRight::Write) {
                    Ok(grant) => Some(grant),
                    Err(_) => return Err(refuse_write(cx.receives, takes_receive, events)),
                },
            };
            self.arriving = Some(Arriving::Write { grant, len: reth.len, offset: 0 });
        }
        let Some(Arriving::Write { grant, len, offset }) = &mut self.arriving else {
            return Err(DropReason::InvalidRequest);
        };
        let end = u64::from(*offset) + packet.payload.len() as u64;
        let fits = if place.last { end == u64::from(*len) } else { end < u64::from(*len) };
        if !fits {
            return Err(DropReason::InvalidRequest);
        }
        if takes_receive && cx.receives.is_empty() {
            if place.first {
                self.arriving = None;
            }
            return Err(DropReason::ReceiverNotReady);
        }
        if let Some(grant) = grant
            && cx.memory.write(grant, *offset, packet.payload).is_err()
        {
            return Err(refuse_write(cx.receives, takes_receive, events));
        }
        let total = *len;
        *offset = u32::try_from(end).map_err(|_| DropReason::InvalidRequest)?;
        if place.last {
            self.arriving = None;
            self.message_done();
            if takes_receive && let Some(request) = cx.receives.take() {
                let kind = CompletionKind::RecvWriteImmediate;
                events.push_back(received(cx.receives, &request, kind, total, packet));
            }
        }
        Ok(1)
    }

    fn execute_read(&mut self, packet: &Packet<'_>, memory: &M) -> Result<u64, DropReason> {
        let reth = packet.headers.reth.ok_or(DropReason::InvalidRequest)?;
        if !self.rights.read || reth.len > MAX_MESSAGE || !self.has_place() {
            return Err(DropReason::InvalidRequest);
        }
        let grant = match reth.len {
            0 => None,
            len => Some(
                memory
                    .grant(reth.rkey, reth.va, len, RemoteRight::Read)
                    .map_err(|_| DropReason::RemoteAccess)?,
            ),
        };
        let packets = u64::from(self.mtu.packets(reth.len));
        let (first, last) = (self.expected, self.expected + packets - 1);
        let Reth { va, rkey, len } = reth;
        self.remember(Remembered::Read { first, last, va, rkey, len, grant, left: REPETITIONS * packets });
        self.message_done();
        self.answers.push_back(Answer::Read { begin: first, next: first, last, again: false, repeat: None });
        Ok(packets)
    }

    fn execute_atomic(
        &mut self,
        operation: Operation,
        packet: &Packet<'_>,
        memory: &M,
    ) -> Result<u64, DropReason> {
        let header = packet.headers.atomic.ok_or(DropReason::InvalidRequest)?;
        if !self.rights.atomic || header.va % 8 != 0 || !self.has_place() {
            return Err(DropReason::InvalidRequest);
        }
        let grant = memory
            .grant(header.rkey, header.va, 8, RemoteRight::Atomic)
            .map_err(|_| DropReason::RemoteAccess)?;
        let operation = match operation {
            Operation::CompareSwap => {
                AtomicOperation::CompareSwap { compare: header.compare, swap: header.swap_or_add }
            }
            _ => AtomicOperation::FetchAdd { add: header.swap_or_add },
        };
        let original = memory.atomic(&grant, operation).map_err(|_| DropReason::RemoteAccess)?;
        let sequence = self.expected;
        self.remember(Remembered::Atomic { sequence, original });
        self.message_done();
        self.answers.push_back(Answer::Atomic { sequence, original, again: false });
        Ok(1)
    }

    /// A request behind the expected PSN (rxe: duplicate_request): its answer was lost, or it was copied.
    /// Nothing is executed twice.
    fn handle_duplicate(
        &mut self,
        sequence: u64,
        operation: Operation,
        packet: &Packet<'_>,
    ) -> Result<(), DropReason> {
        match operation {
            Operation::ReadRequest => self.repeat_read(sequence, packet),
            Operation::CompareSwap | Operation::FetchAdd => self.repeat_atomic(sequence),
            _ => {
                // Not up to a READ or an atomic: rxe takes an ACK with its PSN for its answer.
                self.acknowledge(self.plain);
                Err(DropReason::Duplicate)
            }
        }
    }

    fn repeat_read(&mut self, sequence: u64, packet: &Packet<'_>) -> Result<(), DropReason> {
        let reth = packet.headers.reth.ok_or(DropReason::UnknownDuplicate)?;
        let Some(&Remembered::Read { first, last, va, rkey, len, .. }) = self.remembered(sequence) else {
            return Err(DropReason::UnknownDuplicate);
        };
        let skipped = (sequence - first) * u64::from(self.mtu.bytes());
        let end = skipped + u64::from(reth.len);
        // A part ends where the whole does, or with a full packet.
        let fits = end == u64::from(len)
            || (end < u64::from(len) && reth.len > 0 && reth.len % self.mtu.bytes() == 0);
        if reth.rkey != rkey || reth.va != va.wrapping_add(skipped) || !fits {
            return Err(DropReason::UnknownDuplicate);
        }
        let asked = u64::from(self.mtu.packets(reth.len));
        let wanted = sequence + asked - 1;
        let under_way = self.answers.iter_mut().find_map(|answer| match answer {
            Answer::Read { next, last: end, repeat, .. } if (first..=last).contains(end) => {
                Some((*next, *end, repeat))
            }
            _ => None,
        });
        match under_way {
            // What hasn't left yet needs no repetition. What has is repeated once the answer is through: were it begun
            // anew each time, a peer or an attacker that goes on asking could have any part sent without end.
            Some((next, end, repeat)) => {
                if sequence < next && wanted >= end {
                    if repeat.is_none_or(|(from, _)| sequence < from) {
                        repeats(&mut self.remembered, sequence, asked)?;
                    }
                    let from = repeat.map_or(sequence, |(from, _)| from.min(sequence));
                    *repeat = Some((from, wanted));
                }
            }
            None => {
                repeats(&mut self.remembered, sequence, asked)?;
                let (begin, next) = (sequence, sequence);
                self.insert(Answer::Read { begin, next, last: wanted, again: true, repeat: None });
            }
        }
        Err(DropReason::Duplicate)
    }

    fn repeat_atomic(&mut self, sequence: u64) -> Result<(), DropReason> {
        let Some(&Remembered::Atomic { sequence, original }) = self.remembered(sequence) else {
            return Err(DropReason::UnknownDuplicate);
        };
        let waits =
            |answer: &Answer| matches!(answer, Answer::Atomic { sequence: own, .. } if *own == sequence);
        if !self.answers.iter().any(waits) {
            self.insert(Answer::Atomic { sequence, original, again: true });
        }
        Err(DropReason::Duplicate)
    }

    /// Puts a repeated answer before those for later requests. There is at most one for each thing remembered.
    fn insert(&mut self, answer: Answer) {
        let at = self.answers.iter().take_while(|other| other.sequence() < answer.sequence()).count();
        self.answers.insert(at, answer);
    }

    /// Owes the peer an ACK of everything up to `sequence`, unless a later answer waits to be sent; an
    /// earlier ACK is replaced.
    fn acknowledge(&mut self, sequence: u64) {
        match self.answers.back_mut() {
            Some(Answer::Ack { sequence: waiting }) => *waiting = sequence.max(*waiting),
            Some(answer) if answer.sequence() > sequence => {}
            _ => self.answers.push_back(Answer::Ack { sequence }),
        }
    }

    /// Whether the peer keeps to the number of reads and atomics that it may have under way. Repetitions
    /// don't count: the network may have made them.
    fn has_place(&self) -> bool {
        let under_way = |answer: &&Answer| {
            matches!(answer, Answer::Read { again: false, .. } | Answer::Atomic { again: false, .. })
        };
        self.answers.iter().filter(under_way).count() < self.max_dest_rd_atomic
    }

    fn remember(&mut self, request: Remembered<M>) {
        if self.remembered.len() >= self.max_dest_rd_atomic {
            self.remembered.pop_front();
        }
        self.remembered.push_back(request);
    }

    fn message_done(&mut self) {
        self.completed = self.completed.wrapping_add(1) & 0xff_ffff;
    }

    /// Refuses the expected packet for good.
    fn fail(&mut self, refusal: DropReason, events: &mut VecDeque<Event>) {
        let (code, event) = match refusal {
            DropReason::RemoteAccess => (NakCode::RemoteAccess, AsyncEvent::AccessError),
            DropReason::RemoteOperation => (NakCode::RemoteOperational, AsyncEvent::Fatal),
            _ => (NakCode::InvalidRequest, AsyncEvent::RequestError),
        };
        self.answers.push_back(Answer::Nak { sequence: self.expected, code });
        self.refused = Some((self.expected, code));
        events.push_back(Event::Async(event));
    }
}

/// So many packets of the answer to a READ are repeated once more, unless it was repeated too often: whoever knows
/// the PSN of one could have the responder send without end.
fn repeats<M: Memory>(
    remembered: &mut VecDeque<Remembered<M>>,
    sequence: u64,
    packets: u64,
) -> Result<(), DropReason> {
    let read = remembered.iter_mut().find_map(|request| match request {
        Remembered::Read { first, last, left, .. } if (*first..=*last).contains(&sequence) => Some(left),
        _ => None,
    });
    let left = read.ok_or(DropReason::UnknownDuplicate)?;
    *left = left.checked_sub(packets).ok_or(DropReason::Repeated)?;
    Ok(())
}

fn answered_with_data(operation: Operation) -> bool {
    operation == Operation::ReadRequest || operation.is_atomic()
}

/// Refuses a WRITE for its key. A receive request that the packet takes ends with it (IBA 9.9.3, class C;
/// rxe: do_complete).
fn refuse_write<B>(
    receives: &mut ReceiveQueue<B>,
    takes_receive: bool,
    events: &mut VecDeque<Event>,
) -> DropReason {
    match takes_receive.then(|| receives.take()).flatten() {
        Some(request) => {
            receive_failed(receives, &request, Status::RemoteAccess, DropReason::RemoteAccess, events)
        }
        None => DropReason::RemoteAccess,
    }
}

/// Ends a receive request that took a whole message.
fn received<B>(
    receives: &mut ReceiveQueue<B>,
    request: &RecvRequest<B>,
    kind: CompletionKind,
    len: u32,
    packet: &Packet<'_>,
) -> Event {
    receives.finish();
    Event::Completion(Completion {
        len,
        immediate: packet.headers.immediate,
        invalidated: packet.headers.invalidate,
        solicited: packet.headers.bth.solicited,
        ..Completion::new(request.id, Status::Success, kind)
    })
}

/// Ends a receive request with an error, and says how the packet is refused.
fn receive_failed<B>(
    receives: &mut ReceiveQueue<B>,
    request: &RecvRequest<B>,
    status: Status,
    refusal: DropReason,
    events: &mut VecDeque<Event>,
) -> DropReason {
    receives.finish();
    events.push_back(Event::Completion(Completion::new(request.id, status, CompletionKind::Recv)));
    refusal
}
