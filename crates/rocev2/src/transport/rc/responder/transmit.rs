//! The next answer packet.

use super::{Answer, Remembered, Responder};
use crate::transport::{Destination, PacketKind, Transmit};
use crate::wire::{Aeth, Bth, Headers, NakCode, Opcode, Operation, Syndrome};
use crate::work::{AsyncEvent, Event, Memory, RemoteFault};
use std::collections::VecDeque;

/// End-to-end flow control by message credits isn't used: RNR NAKs do its work.
const ACK: Syndrome = Syndrome::Ack { credits: Syndrome::NO_CREDITS };

/// Why a READ isn't answered.
enum NoResponse {
    /// The peer repeated an old READ, and had newer ones remembered in its place since.
    Forgotten,
    /// The region went away between request and answer.
    Revoked,
}

impl<M: Memory> Responder<M> {
    /// Writes the next answer into `out`, or returns `None` when nothing is owed.
    pub(in crate::transport::rc) fn poll_transmit(
        &mut self,
        memory: &M,
        out: &mut [u8],
        events: &mut VecDeque<Event>,
    ) -> Option<Transmit> {
        loop {
            let answer = *self.answers.front()?;
            let sequence = answer.sequence();
            let (syndrome, original) = match answer {
                Answer::Read { begin, next, last, again, repeat } => {
                    if self.allowance == 0 {
                        return None;
                    }
                    match self.write_read_response(begin, next, last, memory, out) {
                        Ok(len) => {
                            match self.answers.front_mut() {
                                Some(Answer::Read { next, .. }) if *next < last => *next += 1,
                                Some(answer) => match repeat {
                                    Some((from, last)) => {
                                        let (begin, next, again) = (from, from, true);
                                        *answer = Answer::Read { begin, next, last, again, repeat: None };
                                    }
                                    None => drop(self.answers.pop_front()),
                                },
                                None => {}
                            }
                            self.allowance = self.allowance.saturating_sub(len as u64);
                            return Some(self.transmit(len, sequence, PacketKind::ReadResponse));
                        }
                        Err(NoResponse::Forgotten) => drop(self.answers.pop_front()),
                        Err(NoResponse::Revoked) => self.revoked(next, again, events),
                    }
                    continue;
                }
                Answer::Ack { .. } => (ACK, None),
                Answer::Atomic { original, .. } => (ACK, Some(original)),
                Answer::RnrNak { .. } => (Syndrome::RnrNak { timer: self.min_rnr_timer }, None),
                Answer::Nak { code, .. } => (Syndrome::Nak(code), None),
            };
            self.answers.pop_front();
            match syndrome {
                Syndrome::RnrNak { .. } => self.counters.rnr_naks += 1,
                Syndrome::Nak(_) => self.counters.naks += 1,
                _ => self.counters.acks += 1,
            }
            let (operation, kind) = match original {
                Some(_) => (Operation::AtomicAcknowledge, PacketKind::AtomicAcknowledge),
                None => (Operation::Acknowledge, PacketKind::Acknowledge),
            };
            let mut headers = Headers::new(self.bth(operation, sequence));
            headers.aeth = Some(Aeth { syndrome, msn: self.completed });
            headers.atomic_ack = original;
            return headers.encode(out).ok().map(|len| self.transmit(len, sequence, kind));
        }
    }

    /// The region that the first answer reads went away.
    fn revoked(&mut self, sequence: u64, again: bool, events: &mut VecDeque<Event>) {
        let code = NakCode::RemoteAccess;
        if again {
            // The peer had the whole answer once, and may only have been slow to say so, or not have asked at
            // all: the network repeats packets, too. If it does need the answer, the NAK ends its side; that
            // is no reason to end this one.
            self.answers.pop_front();
            self.answers.push_front(Answer::Nak { sequence, code });
            return;
        }
        self.answers.clear();
        self.answers.push_back(Answer::Nak { sequence, code });
        self.refused = Some((sequence, code));
        events.push_back(Event::Async(AsyncEvent::AccessError));
    }

    fn write_read_response(
        &mut self,
        begin: u64,
        next: u64,
        last: u64,
        memory: &M,
        out: &mut [u8],
    ) -> Result<usize, NoResponse> {
        let Some(Remembered::Read { first, len, grant, .. }) = self.remembered(next) else {
            return Err(NoResponse::Forgotten);
        };
        let offset_of = |sequence: u64| {
            let bytes = (sequence - first) * u64::from(self.mtu.bytes());
            u32::try_from(bytes).unwrap_or(u32::MAX).min(*len)
        };
        let (offset, end) = (offset_of(next), offset_of(next + 1));
        let operation = match (next == begin, next == last) {
            (true, true) => Operation::ReadResponseOnly,
            (true, false) => Operation::ReadResponseFirst,
            (false, false) => Operation::ReadResponseMiddle,
            (false, true) => Operation::ReadResponseLast,
        };
        let mut headers = Headers::new(self.bth(operation, next));
        if operation != Operation::ReadResponseMiddle {
            headers.aeth = Some(Aeth { syndrome: ACK, msn: self.completed });
        }
        let frame = headers.frame(out, (end - offset) as usize).map_err(|_| NoResponse::Forgotten)?;
        if let Some(grant) = grant {
            memory.read(grant, offset, frame.payload).map_err(|RemoteFault| NoResponse::Revoked)?;
        }
        Ok(frame.len)
    }

    fn transmit(&self, len: usize, sequence: u64, kind: PacketKind) -> Transmit {
        Transmit { len, to: Destination::Path, psn: self.psn(sequence), kind }
    }

    fn bth(&self, operation: Operation, sequence: u64) -> Bth {
        let opcode = Opcode::Known { transport: self.transport, operation };
        Bth::new(opcode, self.peer, self.psn(sequence))
    }
}
