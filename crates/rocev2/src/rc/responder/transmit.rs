//! The next answer packet.

use super::{Answer, Remembered, Responder};
use crate::rc::completion::{AsyncEvent, Event};
use crate::rc::memory::{Memory, RemoteFault};
use crate::wire::{Aeth, Bth, Headers, NakCode, Opcode, Operation, Syndrome};
use std::collections::VecDeque;

/// "No credit count given" (IBA 9.7.7.2.1): end-to-end flow control by message credits isn't used; RNR NAKs do its work.
const NO_CREDITS: u8 = 0x1f;

/// Why a READ isn't answered.
enum NoResponse {
    /// The peer repeated an old READ, and had newer ones remembered in its place since.
    Forgotten,
    /// The region went away between request and answer.
    Revoked,
}

impl<M: Memory> Responder<M> {
    /// Writes the next answer into `out` and returns its length, or `None` when nothing is owed.
    pub(in crate::rc) fn poll_transmit(
        &mut self,
        memory: &M,
        out: &mut [u8],
        events: &mut VecDeque<Event>,
    ) -> Option<usize> {
        let answer = *self.answers.front()?;
        if let Answer::Read { begin, next, last, .. } = answer {
            match self.write_read_response(begin, next, last, memory, out) {
                Ok(len) => {
                    match self.answers.front_mut() {
                        Some(Answer::Read { next, .. }) if *next < last => *next += 1,
                        _ => drop(self.answers.pop_front()),
                    }
                    return Some(len);
                }
                Err(NoResponse::Forgotten) => drop(self.answers.pop_front()),
                Err(NoResponse::Revoked) => {
                    self.answers.clear();
                    self.answers.push_back(Answer::Nak { sequence: next, code: NakCode::RemoteAccess });
                    events.push_back(Event::Async(AsyncEvent::AccessError));
                    self.failed = true;
                }
            }
            return self.poll_transmit(memory, out, events);
        }
        self.answers.pop_front();
        let (operation, syndrome) = match answer {
            Answer::Atomic { .. } => (Operation::AtomicAcknowledge, Syndrome::Ack { credits: NO_CREDITS }),
            Answer::RnrNak { .. } => (Operation::Acknowledge, Syndrome::RnrNak { timer: self.min_rnr_timer }),
            Answer::Nak { code, .. } => (Operation::Acknowledge, Syndrome::Nak(code)),
            Answer::Ack { .. } | Answer::Read { .. } => {
                (Operation::Acknowledge, Syndrome::Ack { credits: NO_CREDITS })
            }
        };
        match answer {
            Answer::RnrNak { .. } => self.counters.rnr_naks += 1,
            Answer::Nak { .. } => self.counters.naks += 1,
            _ => self.counters.acks += 1,
        }
        let mut headers = Headers::new(self.bth(operation, answer.sequence()));
        headers.aeth = Some(Aeth { syndrome, msn: self.completed });
        if let Answer::Atomic { original, .. } = answer {
            headers.atomic_ack = Some(original);
        }
        headers.encode(out).ok()
    }

    fn write_read_response(
        &mut self,
        begin: u64,
        next: u64,
        last: u64,
        memory: &M,
        out: &mut [u8],
    ) -> Result<usize, NoResponse> {
        let Some(Remembered::Read { first, len, grant, .. }) =
            self.remembered.iter().find(|remembered| remembered.covers(next))
        else {
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
            headers.aeth =
                Some(Aeth { syndrome: Syndrome::Ack { credits: NO_CREDITS }, msn: self.completed });
        }
        let frame = headers.frame(out, (end - offset) as usize).map_err(|_| NoResponse::Forgotten)?;
        if let Some(grant) = grant {
            memory.read(grant, offset, frame.payload).map_err(|RemoteFault| NoResponse::Revoked)?;
        }
        Ok(frame.len)
    }

    fn bth(&self, operation: Operation, sequence: u64) -> Bth {
        Bth::new(Opcode::rc(operation), self.peer, self.psn(sequence))
    }
}
