//! The peer's requests: sequence, then validity, then execution.

use super::{Answer, Arriving, Remembered, Responder};
use crate::rc::completion::{AsyncEvent, Completion, CompletionKind, Event, Status};
use crate::rc::memory::{AtomicOperation, Memory, RemoteRight};
use crate::rc::refusal::Refusal;
use crate::rc::request::{MAX_MESSAGE, RecvRequest};
use crate::wire::{NakCode, Operation, Packet};
use std::collections::VecDeque;

/// Where a packet stands in its message.
#[derive(Clone, Copy)]
struct Place {
    first: bool,
    last: bool,
}

impl<M: Memory> Responder<M> {
    /// Takes a request packet.
    pub(in crate::rc) fn handle_request(
        &mut self,
        operation: Operation,
        packet: &Packet<'_>,
        memory: &M,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Refusal> {
        let ahead = packet.headers.bth.psn.distance_from(self.psn(self.expected));
        if ahead > 0 {
            if !self.nak_sent {
                self.nak_sent = true;
                self.answers
                    .push_back(Answer::Nak { sequence: self.expected, code: NakCode::PsnSequenceError });
            }
            return Err(Refusal::OutOfSequence);
        }
        if ahead < 0 {
            let sequence = self.expected.saturating_add_signed(ahead.into());
            return self.handle_duplicate(sequence, operation, packet);
        }
        let used = match self.execute(operation, packet, memory, events) {
            Ok(used) => used,
            Err(Refusal::ReceiverNotReady) => {
                self.nak_sent = true;
                self.answers.push_back(Answer::RnrNak { sequence: self.expected });
                return Err(Refusal::ReceiverNotReady);
            }
            Err(refusal) => {
                self.fail(refusal, events);
                return Err(refusal);
            }
        };
        let sequence = self.expected;
        self.expected += used;
        self.nak_sent = false;
        if packet.headers.bth.ack_req && !answered_with_data(operation) {
            self.acknowledge(sequence);
        }
        Ok(())
    }

    /// Executes the expected packet and returns how many sequence numbers it uses up.
    fn execute(
        &mut self,
        operation: Operation,
        packet: &Packet<'_>,
        memory: &M,
        events: &mut VecDeque<Event>,
    ) -> Result<u64, Refusal> {
        use Operation as O;
        let place = Place {
            first: !matches!(
                operation,
                O::SendMiddle
                    | O::SendLast
                    | O::SendLastImm
                    | O::SendLastInvalidate
                    | O::WriteMiddle
                    | O::WriteLast
                    | O::WriteLastImm
            ),
            last: !matches!(operation, O::SendFirst | O::SendMiddle | O::WriteFirst | O::WriteMiddle),
        };
        // A message must be carried through before the next begins (rxe: check_op_seq).
        let continues = match operation {
            O::SendMiddle | O::SendLast | O::SendLastImm | O::SendLastInvalidate => {
                matches!(self.arriving, Some(Arriving::Send { .. }))
            }
            O::WriteMiddle | O::WriteLast | O::WriteLastImm => {
                matches!(self.arriving, Some(Arriving::Write { .. }))
            }
            _ => self.arriving.is_none(),
        };
        if !continues {
            return Err(Refusal::InvalidRequest);
        }
        match operation {
            O::SendFirst
            | O::SendMiddle
            | O::SendLast
            | O::SendLastImm
            | O::SendLastInvalidate
            | O::SendOnly
            | O::SendOnlyImm
            | O::SendOnlyInvalidate => self.execute_send(place, packet, memory, events),
            O::WriteFirst
            | O::WriteMiddle
            | O::WriteLast
            | O::WriteLastImm
            | O::WriteOnly
            | O::WriteOnlyImm => self.execute_write(place, packet, memory, events),
            O::ReadRequest => self.execute_read(packet, memory),
            O::CompareSwap | O::FetchAdd => self.execute_atomic(operation, packet, memory),
            _ => Err(Refusal::InvalidRequest),
        }
    }

    fn execute_send(
        &mut self,
        place: Place,
        packet: &Packet<'_>,
        memory: &M,
        events: &mut VecDeque<Event>,
    ) -> Result<u64, Refusal> {
        self.check_payload(place, packet)?;
        let (request, offset) = match self.arriving.take() {
            Some(Arriving::Send { request, offset }) => (request, offset),
            _ => (self.queue.pop_front().ok_or(Refusal::ReceiverNotReady)?, 0),
        };
        let end = u64::from(offset) + packet.payload.len() as u64;
        if end > request.len.min(MAX_MESSAGE.into()) {
            return Err(receive_failed(&request, Status::LocalLength, Refusal::InvalidRequest, events));
        }
        if memory.scatter(&request.buffers, offset, packet.payload).is_err() {
            return Err(receive_failed(&request, Status::LocalProtection, Refusal::RemoteOperation, events));
        }
        let end = u32::try_from(end).map_err(|_| Refusal::InvalidRequest)?;
        if !place.last {
            self.arriving = Some(Arriving::Send { request, offset: end });
            return Ok(1);
        }
        if let Some(rkey) = packet.headers.invalidate
            && memory.invalidate(rkey).is_err()
        {
            return Err(receive_failed(
                &request,
                Status::LocalQueuePairOperation,
                Refusal::RemoteAccess,
                events,
            ));
        }
        self.message_done();
        events.push_back(received(&request, CompletionKind::Recv, end, packet));
        Ok(1)
    }

    fn execute_write(
        &mut self,
        place: Place,
        packet: &Packet<'_>,
        memory: &M,
        events: &mut VecDeque<Event>,
    ) -> Result<u64, Refusal> {
        self.check_payload(place, packet)?;
        if place.first {
            let reth = packet.headers.reth.ok_or(Refusal::InvalidRequest)?;
            if !self.rights.write || reth.len > MAX_MESSAGE {
                return Err(Refusal::InvalidRequest);
            }
            let fits = if place.last {
                packet.payload.len() == reth.len as usize
            } else {
                reth.len > self.mtu.bytes()
            };
            if !fits {
                return Err(Refusal::InvalidRequest);
            }
            // A write of nothing touches nothing, whatever its key says (rxe's check_rkey passes it too).
            let grant = match reth.len {
                0 => None,
                len => Some(
                    memory
                        .grant(reth.rkey, reth.va, len, RemoteRight::Write)
                        .map_err(|_| Refusal::RemoteAccess)?,
                ),
            };
            self.arriving = Some(Arriving::Write { grant, len: reth.len, offset: 0 });
        }
        let Some(Arriving::Write { grant, len, offset }) = &mut self.arriving else {
            return Err(Refusal::InvalidRequest);
        };
        let end = u64::from(*offset) + packet.payload.len() as u64;
        let fits = if place.last { end == u64::from(*len) } else { end < u64::from(*len) };
        if !fits {
            return Err(Refusal::InvalidRequest);
        }
        let takes_receive = place.last && packet.headers.immediate.is_some();
        if takes_receive && self.queue.is_empty() {
            if place.first {
                self.arriving = None;
            }
            return Err(Refusal::ReceiverNotReady);
        }
        if let Some(grant) = grant {
            memory.write(grant, *offset, packet.payload).map_err(|_| Refusal::RemoteAccess)?;
        }
        let total = *len;
        *offset = u32::try_from(end).map_err(|_| Refusal::InvalidRequest)?;
        if place.last {
            self.arriving = None;
            self.message_done();
            if takes_receive && let Some(request) = self.queue.pop_front() {
                events.push_back(received(&request, CompletionKind::RecvWriteImmediate, total, packet));
            }
        }
        Ok(1)
    }

    fn execute_read(&mut self, packet: &Packet<'_>, memory: &M) -> Result<u64, Refusal> {
        let reth = packet.headers.reth.ok_or(Refusal::InvalidRequest)?;
        if !self.rights.read || reth.len > MAX_MESSAGE || !self.has_place() {
            return Err(Refusal::InvalidRequest);
        }
        let grant = match reth.len {
            0 => None,
            len => Some(
                memory
                    .grant(reth.rkey, reth.va, len, RemoteRight::Read)
                    .map_err(|_| Refusal::RemoteAccess)?,
            ),
        };
        let packets = u64::from(self.mtu.packets(reth.len));
        let (first, last) = (self.expected, self.expected + packets - 1);
        self.remember(Remembered::Read { first, last, va: reth.va, rkey: reth.rkey, len: reth.len, grant });
        self.message_done();
        self.answers.push_back(Answer::Read { begin: first, next: first, last, again: false });
        Ok(packets)
    }

    fn execute_atomic(
        &mut self,
        operation: Operation,
        packet: &Packet<'_>,
        memory: &M,
    ) -> Result<u64, Refusal> {
        let header = packet.headers.atomic.ok_or(Refusal::InvalidRequest)?;
        if !self.rights.atomic || header.va % 8 != 0 || !self.has_place() {
            return Err(Refusal::InvalidRequest);
        }
        let grant = memory
            .grant(header.rkey, header.va, 8, RemoteRight::Atomic)
            .map_err(|_| Refusal::RemoteAccess)?;
        let operation = match operation {
            Operation::CompareSwap => {
                AtomicOperation::CompareSwap { compare: header.compare, swap: header.swap_or_add }
            }
            _ => AtomicOperation::FetchAdd { add: header.swap_or_add },
        };
        let original = memory.atomic(&grant, operation).map_err(|_| Refusal::RemoteAccess)?;
        let sequence = self.expected;
        self.remember(Remembered::Atomic { sequence, original });
        self.message_done();
        self.answers.push_back(Answer::Atomic { sequence, original, again: false });
        Ok(1)
    }

    /// A request behind the expected PSN (rxe: duplicate_request): its answer was lost, or it was copied. Nothing is executed twice.
    fn handle_duplicate(
        &mut self,
        sequence: u64,
        operation: Operation,
        packet: &Packet<'_>,
    ) -> Result<(), Refusal> {
        match operation {
            Operation::ReadRequest => self.repeat_read(sequence, packet),
            Operation::CompareSwap | Operation::FetchAdd => self.repeat_atomic(sequence),
            _ if operation.is_request() => {
                self.acknowledge(self.expected - 1);
                Err(Refusal::Duplicate)
            }
            _ => Err(Refusal::InvalidRequest),
        }
    }

    fn repeat_read(&mut self, sequence: u64, packet: &Packet<'_>) -> Result<(), Refusal> {
        let reth = packet.headers.reth.ok_or(Refusal::UnknownDuplicate)?;
        let Some(Remembered::Read { first, last, va, rkey, len, .. }) =
            self.remembered.iter().find(|remembered| remembered.covers(sequence))
        else {
            return Err(Refusal::UnknownDuplicate);
        };
        let skipped = (sequence - first) * u64::from(self.mtu.bytes());
        let inside = reth.rkey == *rkey
            && reth.va == va.wrapping_add(skipped)
            && skipped + u64::from(reth.len) <= u64::from(*len);
        if !inside {
            return Err(Refusal::UnknownDuplicate);
        }
        let end = (sequence + u64::from(self.mtu.packets(reth.len)) - 1).min(*last);
        let repeated = Answer::Read { begin: sequence, next: sequence, last: end, again: true };
        // Where the answer is still being sent, it begins again instead of being sent twice at a time.
        let same = |answer: &&mut Answer| matches!(answer, Answer::Read { last: sending, .. } if (first..=last).contains(&sending));
        match self.answers.iter_mut().find(same) {
            Some(answer) => *answer = repeated,
            None => self.insert(repeated),
        }
        Err(Refusal::Duplicate)
    }

    fn repeat_atomic(&mut self, sequence: u64) -> Result<(), Refusal> {
        let remembered = self.remembered.iter().find(|remembered| remembered.covers(sequence));
        let Some(&Remembered::Atomic { sequence, original }) = remembered else {
            return Err(Refusal::UnknownDuplicate);
        };
        let waits =
            |answer: &Answer| matches!(answer, Answer::Atomic { sequence: own, .. } if *own == sequence);
        if !self.answers.iter().any(waits) {
            self.insert(Answer::Atomic { sequence, original, again: true });
        }
        Err(Refusal::Duplicate)
    }

    /// Puts a repeated answer before those for later requests. There is at most one for each thing remembered.
    fn insert(&mut self, answer: Answer) {
        let at = self.answers.iter().take_while(|other| other.sequence() < answer.sequence()).count();
        self.answers.insert(at, answer);
    }

    /// Owes the peer an ACK of everything up to `sequence`; one that still waits to be sent is replaced.
    fn acknowledge(&mut self, sequence: u64) {
        match self.answers.back_mut() {
            Some(Answer::Ack { sequence: waiting }) => *waiting = sequence.max(*waiting),
            _ => self.answers.push_back(Answer::Ack { sequence }),
        }
    }

    /// Whether the peer keeps to the number of reads and atomics that it may have under way. Repetitions don't count: the
    /// network may have made them.
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

    /// FIRST and MIDDLE packets are full; a LAST one is neither empty nor too long (rxe: check_length).
    fn check_payload(&self, place: Place, packet: &Packet<'_>) -> Result<(), Refusal> {
        let (len, full) = (packet.payload.len(), self.mtu.bytes() as usize);
        let fits = match place {
            Place { last: false, .. } => len == full,
            Place { first: false, last: true } => (1..=full).contains(&len),
            Place { first: true, last: true } => len <= full,
        };
        if fits { Ok(()) } else { Err(Refusal::InvalidRequest) }
    }

    /// Refuses the expected packet for good.
    fn fail(&mut self, refusal: Refusal, events: &mut VecDeque<Event>) {
        let (code, event) = match refusal {
            Refusal::RemoteAccess => (NakCode::RemoteAccess, AsyncEvent::AccessError),
            Refusal::RemoteOperation => (NakCode::RemoteOperational, AsyncEvent::Fatal),
            _ => (NakCode::InvalidRequest, AsyncEvent::RequestError),
        };
        self.answers.push_back(Answer::Nak { sequence: self.expected, code });
        events.push_back(Event::Async(event));
        self.failed = true;
    }
}

fn answered_with_data(operation: Operation) -> bool {
    matches!(operation, Operation::ReadRequest | Operation::CompareSwap | Operation::FetchAdd)
}

fn received<B>(request: &RecvRequest<B>, kind: CompletionKind, len: u32, packet: &Packet<'_>) -> Event {
    Event::Completion(Completion {
        id: request.id,
        status: Status::Success,
        kind,
        len,
        immediate: packet.headers.immediate,
        invalidated: packet.headers.invalidate,
        solicited: packet.headers.bth.solicited,
    })
}

/// Ends a receive request with an error, and says how the packet is refused.
fn receive_failed<B>(
    request: &RecvRequest<B>,
    status: Status,
    refusal: Refusal,
    events: &mut VecDeque<Event>,
) -> Refusal {
    events.push_back(Event::Completion(Completion {
        id: request.id,
        status,
        kind: CompletionKind::Recv,
        len: 0,
        immediate: None,
        invalidated: None,
        solicited: false,
    }));
    refusal
}
