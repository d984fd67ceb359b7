//! Answers: ACKs, NAKs, READ responses and atomic results.

use super::{Requester, ended};
use crate::Psn;
use crate::Time;
use crate::transport::DropReason;
use crate::transport::rc::timing::{Timer, rnr_delay};
use crate::wire::{Aeth, NakCode, Operation, Packet, Syndrome};
use crate::work::{Event, Memory, SendOperation, Status};
use std::collections::VecDeque;

impl<B> Requester<B> {
    /// Takes an ACK or NAK.
    pub(in crate::transport::rc) fn handle_acknowledge(
        &mut self,
        now: Time,
        psn: Psn,
        aeth: Aeth,
        events: &mut VecDeque<Event>,
    ) -> Result<(), DropReason> {
        let sequence = self.awaited(psn)?;
        self.check_message_number(Some(aeth))?;
        match aeth.syndrome {
            Syndrome::Ack { .. } => {
                self.acknowledge(now, sequence + 1, events);
                // An ACK beyond a READ whose responses are missing: they were lost.
                if self.acknowledged <= sequence { self.response_lost(now) } else { Ok(()) }
            }
            Syndrome::RnrNak { timer } => {
                self.acknowledge(now, sequence, events);
                self.handle_rnr(now, sequence, timer, events)
            }
            Syndrome::Nak(NakCode::PsnSequenceError) => {
                self.counters.sequence_naks += 1;
                self.acknowledge(now, sequence, events);
                // Behind an RNR NAK, rxe also tells that what it dropped is missing: it was, and it will be
                // sent again in time.
                let fresh = !self.recovery.timers.is_set(Timer::RnrWait) && self.go_back_once(now);
                if fresh { Ok(()) } else { Err(DropReason::StaleResponse) }
            }
            Syndrome::Nak(code) => {
                self.acknowledge(now, sequence, events);
                if self.acknowledged != sequence {
                    return self.response_lost(now);
                }
                let status = match code {
                    NakCode::RemoteAccess => Status::RemoteAccess,
                    NakCode::RemoteOperational => Status::RemoteOperation,
                    _ => Status::RemoteInvalidRequest,
                };
                self.fail(status, events);
                Ok(())
            }
            Syndrome::Reserved(_) => Err(DropReason::BadResponse),
        }
    }

    /// Takes one packet of a READ response.
    pub(in crate::transport::rc) fn handle_read_response<M: Memory<Buffers = B>>(
        &mut self,
        now: Time,
        operation: Operation,
        packet: &Packet<'_>,
        memory: &M,
        events: &mut VecDeque<Event>,
    ) -> Result<(), DropReason> {
        let headers = &packet.headers;
        self.awaited(headers.bth.psn)?;
        self.check_message_number(headers.aeth)?;
        let (sequence, last) = self.awaited_data(now, headers.bth.psn, events)?;
        let Some(pending) = self.queue.front() else { return Err(DropReason::GhostResponse) };
        let offset = pending.offset(sequence, self.mtu);
        let expected = pending.offset(sequence + 1, self.mtu) - offset;
        // Whether it is a FIRST or a MIDDLE doesn't matter: rxe begins a repeated answer with either.
        if !matches!(pending.request.operation, SendOperation::Read(_))
            || operation.is_last_or_only() != (sequence == last)
            || packet.payload.len() != expected as usize
            || !headers.aeth.is_none_or(is_ack)
        {
            self.fail(Status::BadResponse, events);
            return Err(DropReason::BadResponse);
        }
        if memory.scatter(&pending.request.buffers, offset, packet.payload).is_err() {
            self.fail(Status::LocalProtection, events);
            return Ok(());
        }
        self.advance(now, sequence + 1, events);
        Ok(())
    }

    /// Takes the result of an atomic.
    pub(in crate::transport::rc) fn handle_atomic_acknowledge<M: Memory<Buffers = B>>(
        &mut self,
        now: Time,
        psn: Psn,
        aeth: Aeth,
        original: u64,
        memory: &M,
        events: &mut VecDeque<Event>,
    ) -> Result<(), DropReason> {
        self.awaited(psn)?;
        self.check_message_number(Some(aeth))?;
        let (sequence, _) = self.awaited_data(now, psn, events)?;
        let Some(pending) = self.queue.front() else { return Err(DropReason::GhostResponse) };
        if !matches!(pending.request.operation, SendOperation::Atomic(..)) || !is_ack(aeth) {
            self.fail(Status::BadResponse, events);
            return Err(DropReason::BadResponse);
        }
        if memory.scatter(&pending.request.buffers, 0, &original.to_ne_bytes()).is_err() {
            self.fail(Status::LocalProtection, events);
            return Ok(());
        }
        self.advance(now, sequence + 1, events);
        Ok(())
    }

    /// Takes a congestion notification: the fabric asks for less.
    pub(in crate::transport::rc) fn handle_congestion(&mut self) {
        self.counters.congestion_notifications += 1;
        self.recovery.note_congestion(self.acknowledged, self.sent);
    }

    /// Refuses an answer whose message sequence number can't be true.
    fn check_message_number(&mut self, aeth: Option<Aeth>) -> Result<(), DropReason> {
        match aeth {
            Some(aeth) if !self.message_numbers.takes(aeth.msn) => Err(DropReason::MessageNumber),
            _ => Ok(()),
        }
    }

    /// The sequence number of an answer that may be awaited: sent, and not yet acknowledged.
    fn awaited(&self, psn: Psn) -> Result<u64, DropReason> {
        match self.sequence(psn) {
            Some(sequence) if sequence >= self.sent => Err(DropReason::GhostResponse),
            Some(sequence) if sequence >= self.acknowledged => Ok(sequence),
            _ => Err(DropReason::StaleResponse),
        }
    }

    /// The same for an answer with data, which must be the very next one; with the last number of the piece
    /// it belongs to. It acknowledges everything before it. One for a request that asked for no data is no
    /// answer, and acknowledges nothing.
    fn awaited_data(
        &mut self,
        now: Time,
        psn: Psn,
        events: &mut VecDeque<Event>,
    ) -> Result<(u64, u64), DropReason> {
        let sequence = self.awaited(psn)?;
        let asked = self.asked.iter().find(|asked| sequence <= asked.last);
        let asked = *asked.filter(|asked| asked.first <= sequence).ok_or(DropReason::BadResponse)?;
        self.acknowledge(now, sequence, events);
        if sequence > self.acknowledged {
            self.response_lost(now)?;
        }
        Ok((sequence, asked.last))
    }

    /// Takes note that the peer has everything before `until`, except answers with data: those must come themselves.
    fn acknowledge(&mut self, now: Time, until: u64, events: &mut VecDeque<Event>) {
        let limit = self.asked.front().map_or(u64::MAX, |asked| asked.first.max(self.acknowledged));
        self.advance(now, until.min(limit), events);
    }

    fn advance(&mut self, now: Time, until: u64, events: &mut VecDeque<Event>) {
        if until <= self.acknowledged {
            return;
        }
        let from = self.acknowledged;
        self.acknowledged = until;
        let mut cost = 0;
        while let Some(pending) = self.queue.front() {
            cost += self.cost(pending, from, until);
            if pending.split {
                self.message_numbers.acknowledged(pending.within(from, until));
            }
            if pending.end() > until || pending.waits_for_execution() {
                break;
            }
            if pending.packets == 0 {
                self.local -= 1;
            } else if !pending.split && !pending.request.operation.is_read_or_atomic() {
                self.message_numbers.acknowledged(1);
            }
            if let SendOperation::Write(to) = pending.request.operation {
                self.written.add(to, pending.request.len);
            }
            if pending.request.signaled {
                events.push_back(ended(&pending.request, Status::Success));
            }
            self.queue.pop_front();
            self.cursor = self.cursor.saturating_sub(1);
        }
        while self.asked.front().is_some_and(|asked| asked.last < until) {
            self.asked.pop_front();
            self.message_numbers.acknowledged(1);
        }
        if self.next < until {
            // What was about to be sent again had arrived after all. `until` is at most `sent`, so the request it
            // belongs to is the front one, or the next is a new one.
            self.next = until;
            self.cursor = 0;
            self.recovery.in_flight = 0;
        } else {
            self.recovery.in_flight = self.recovery.in_flight.saturating_sub(cost);
        }
        self.recovery.note_acknowledged(until, cost, now);
        // Progress implies that the receiver is ready.
        self.recovery.timers.stop(Timer::RnrWait);
        if self.recovery.ack_probe_end.take().is_some_and(|reach| until < reach) {
            // The answer tells of everything that the peer has.
            self.recovery.note_loss(self.acknowledged, self.sent);
            self.go_back();
        }
        // If the probe alone is acknowledged, it had been lost, and everything behind it is of no use. If
        // more is, only the answer had been lost, or was late. Then the rest is perhaps on its way, so the
        // next packet is another probe, not the flight.
        if self.recovery.go_back_probe && until == from + 1 && until < self.sent {
            self.recovery.note_loss(self.acknowledged, self.sent);
        }
        self.recovery.go_back_probe &= until > from + 1 && until < self.sent;
        if self.acknowledged == self.sent {
            self.recovery.timers.stop(Timer::Retransmit);
        } else {
            self.recovery.arm_retransmit(now);
        }
    }

    /// An answer with data is missing: asks again.
    fn response_lost(&mut self, now: Time) -> Result<(), DropReason> {
        self.counters.response_gaps += 1;
        self.go_back_once(now);
        Err(DropReason::ResponseGap)
    }

    fn handle_rnr(
        &mut self,
        now: Time,
        sequence: u64,
        timer: u8,
        events: &mut VecDeque<Event>,
    ) -> Result<(), DropReason> {
        if self.acknowledged != sequence {
            return self.response_lost(now);
        }
        if self.recovery.timers.is_set(Timer::RnrWait) {
            return Err(DropReason::StaleResponse);
        }
        self.counters.rnr_naks += 1;
        // 7 means for ever.
        if self.recovery.rnr_retry != 7 {
            if self.recovery.rnr_left == 0 {
                self.fail(Status::RnrRetryExceeded, events);
                return Ok(());
            }
            self.recovery.rnr_left -= 1;
        }
        self.recovery.hear(now);
        self.recovery.go_back_probe = false;
        self.go_back();
        // What had asked was dropped with the rest.
        self.recovery.ack_requested_until = self.acknowledged;
        self.recovery.timers.stop(Timer::Retransmit);
        self.recovery.timers.set(Timer::RnrWait, now + rnr_delay(timer));
        Ok(())
    }
}

fn is_ack(aeth: Aeth) -> bool {
    matches!(aeth.syndrome, Syndrome::Ack { .. })
}
