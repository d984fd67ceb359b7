//! The next request packet.

use super::{Asked, Pending, Requester, ended};
use crate::Time;
use crate::transport::message::{Place, extend, operation};
use crate::transport::rc::congestion::Congestion;
use crate::transport::rc::timing::Timer;
use crate::transport::rc::window::PACKET_COST;
use crate::transport::{Destination, PacketKind, Transmit};
use crate::wire::{AtomicEth, Bth, Headers, Opcode, Reth};
use crate::work::{AtomicOperation, Event, Memory, SendOperation, Status, execute_local};
use core::time::Duration;
use std::collections::VecDeque;

/// An ACK is asked for at least once in this share of the window, so that one part of a long message is on
/// its way while the other is acknowledged. A READ is asked for in pieces of this share for the same reason.
const SHARE: u64 = 2;

/// And at least once in so many full packets, however large the window is; rxe asks every 64.
const ACK_EVERY: u64 = 32;

/// And when nothing was heard for so long: before the requester [asks again](Requester::arm_retransmit) for
/// want of an answer.
const ASK_AFTER: Duration = Duration::from_micros(500);

/// Bytes in flight from which on packets may wait for others to leave with: what keeps the peer busy until they do.
const BUSY: u64 = 32 << 10;

/// Bytes of the longest headers and of what seals a packet.
const HEADERS: u64 = 76;

/// What the next packet is about, before its headers are made.
struct Plan {
    /// The request, as its place in the queue, and the packet's number.
    request: usize,
    at: u64,
    /// Sequence numbers that it uses up: one, or for a READ one for each response packet.
    numbers: u64,
    cost: u64,
    /// Whether nothing of it was ever sent.
    fresh: bool,
    /// Whether it is the request's last packet.
    last: bool,
    /// Whether it asks for an ACK: at the end of a message whose completion is reported, now and then before,
    /// and wherever the sender must wait for one.
    asks: bool,
}

impl<B> Requester<B> {
    /// Writes the next packet into `out`, or returns `None` when there is nothing to send now.
    pub(in crate::transport::rc) fn poll_transmit<M: Memory<Buffers = B>>(
        &mut self,
        now: Time,
        memory: &M,
        out: &mut [u8],
        events: &mut VecDeque<Event>,
    ) -> Option<Transmit> {
        if self.failed || self.recovery.timers.is_set(Timer::RnrWait) {
            return None;
        }
        if core::mem::take(&mut self.recovery.ack_wanted)
            && let Some(transmit) = self.ask(now, memory, out)
        {
            return Some(transmit);
        }
        if self.local > 0 && !self.execute_local(memory, events) {
            return self.ask(now, memory, out);
        }
        let Some(pending) = self.queue.get(self.cursor) else {
            // All has left. Who drains wants to know when it has arrived.
            return if self.draining { self.ask(now, memory, out) } else { None };
        };
        if let Some(status) = pending.fault {
            // Everything before it must have its own end first; and a queue that drains begins nothing.
            if self.cursor > 0 {
                return self.ask(now, memory, out);
            }
            if self.has_begun(pending) || !self.draining {
                self.fail(status, events);
            }
            return None;
        }
        // Whatever holds it up ends with an answer.
        let Some(plan) = self.plan(now) else { return self.ask(now, memory, out) };
        let written = self.write_packet(&plan, memory, out);
        let Some(transmit) = written else {
            if let Some(pending) = self.queue.get_mut(self.cursor) {
                pending.fault = Some(Status::LocalProtection);
            }
            return self.poll_transmit(now, memory, out, events);
        };
        self.account(now, &plan);
        Some(transmit)
    }

    /// Executes the requests that are this side's alone, up to the next one that has packets. Returns whether none
    /// has to wait.
    fn execute_local<M: Memory<Buffers = B>>(&mut self, memory: &M, events: &mut VecDeque<Event>) -> bool {
        while let Some(pending) = self.queue.get_mut(self.cursor).filter(|pending| pending.packets == 0) {
            if pending.fault.is_some() {
                return true;
            }
            if pending.waits_for_execution() {
                let request = &pending.request;
                // IBA 10.6.5.1: a local invalidation waits for everything before it (rxe: rxe_wqe_is_fenced).
                let everything = matches!(request.operation, SendOperation::LocalInvalidate(_));
                if self.draining
                    || (request.fence && !self.asked.is_empty())
                    || (everything && self.cursor > 0)
                {
                    return false;
                }
                if let Err(status) = execute_local(request, memory) {
                    pending.fault = Some(status);
                    return true;
                }
                pending.executed = true;
            }
            if self.cursor > 0 {
                self.cursor += 1;
                continue;
            }
            self.local -= 1;
            if let Some(pending) = self.queue.pop_front()
                && pending.request.signaled
            {
                events.push_back(ended(&pending.request, Status::Success));
            }
        }
        true
    }

    /// Decides whether something may be sent now, and how much.
    fn plan(&mut self, now: Time) -> Option<Plan> {
        let pending = self.queue.get(self.cursor)?;
        let fresh = self.next == self.sent;
        let begins = fresh && self.next == pending.first;
        if begins && (self.draining || (pending.request.fence && !self.asked.is_empty())) {
            return None;
        }
        if self.recovery.go_back_probe && self.recovery.in_flight > 0 {
            return None;
        }
        let full = u64::from(self.mtu.bytes()) + PACKET_COST;
        let numbers = match pending.request.operation {
            SendOperation::Read(_) if fresh => {
                let pieces = SHARE.min(self.max_rd_atomic as u64).max(1);
                let (piece, left) =
                    (self.recovery.congestion.window() / pieces / full, pending.end() - self.next);
                if piece < left {
                    // A larger window would ask for more.
                    self.recovery.congestion.limited();
                }
                piece.clamp(1, left)
            }
            SendOperation::Read(_) => {
                let asked = self.asked.iter().find(|asked| self.next <= asked.last)?;
                asked.last + 1 - self.next
            }
            _ => 1,
        };
        if fresh && pending.request.operation.is_read_or_atomic() && self.asked.len() >= self.max_rd_atomic {
            return None;
        }
        let cost = self.cost(pending, self.next, self.next + numbers);
        if self.recovery.in_flight > 0 && self.recovery.in_flight + cost > self.recovery.congestion.window() {
            self.recovery.congestion.limited();
            return None;
        }
        if fresh && self.lacks_burst(pending, full) && self.bursts.wait() {
            if self.end - self.next > (self.recovery.congestion.window() - self.recovery.in_flight) / full {
                self.recovery.congestion.limited();
            }
            return None;
        }
        let last = self.next + numbers == pending.end();
        let waits = self.recovery.go_back_probe
            || self.recovery.in_flight + cost + full > self.recovery.congestion.window();
        let asks = (last && self.wants_to_know(pending, now))
            || waits
            || self.recovery.unrequested_bytes + cost
                >= (self.recovery.congestion.window() / SHARE).min(ACK_EVERY * full);
        Some(Plan { request: self.cursor, at: self.next, numbers, cost, fresh, last, asks })
    }

    /// Whether there are fewer packets, of `full` bytes at most, than would leave together, and an answer is due before
    /// which more may come.
    fn lacks_burst(&self, pending: &Pending<B>, full: u64) -> bool {
        let Some(burst) = self.bursts.next() else { return false };
        let recovery = &self.recovery;
        let window = recovery.congestion.window().saturating_sub(recovery.in_flight);
        let together = (u64::from(burst.bytes) / (full - PACKET_COST + HEADERS)).min(burst.packets.into());
        recovery.in_flight >= BUSY
            && recovery.awaits_answer(self.acknowledged)
            && !self.draining
            && match pending.request.operation {
                SendOperation::Read(_) | SendOperation::Atomic(..) => false,
                SendOperation::Write(_) | SendOperation::WriteImmediate(..) => {
                    burst.mixes_headers || pending.split
                }
                _ => true,
            }
            && (self.end - self.next).min(window / full) < together
    }

    /// Repeats the first packet that isn't acknowledged, to ask for an ACK; nothing if an answer is awaited
    /// already, or that packet is about to be sent again anyway. It is one of a SEND or WRITE: others ask
    /// always. Nothing else waits for the answer: that it wasn't asked for until now says nothing about the
    /// path.
    fn ask<M: Memory<Buffers = B>>(&mut self, now: Time, memory: &M, out: &mut [u8]) -> Option<Transmit> {
        let in_flight = self.acknowledged < self.next;
        if !in_flight || self.recovery.awaits_answer(self.acknowledged) {
            return None;
        }
        let last = self.queue.front()?.end() == self.acknowledged + 1;
        let (request, at, numbers) = (0, self.acknowledged, 1);
        let plan = Plan { request, at, numbers, cost: 0, fresh: false, last, asks: true };
        let Some(transmit) = self.write_packet(&plan, memory, out) else {
            // Its buffers have gone: whoever sends it again in the usual way says so.
            self.go_back();
            return None;
        };
        self.counters.retransmitted += 1;
        self.recovery.ack_requested_until = at + 1;
        self.recovery.ack_probe_end = Some(self.sent);
        (self.recovery.unrequested_bytes, self.recovery.unrequested_messages) = (0, 0);
        // The packet's first copy asked for nothing: an answer is one to this.
        self.recovery.round_trip.sent(at, now);
        self.recovery.hear(now);
        self.recovery.arm_retransmit(now);
        Some(transmit)
    }

    /// Whether the end of `pending` is worth an answer: its completion is reported, or its place in the queue
    /// is needed soon, or nothing was heard for a while, and silence would cost a packet more. Network cards
    /// choose as well (`log_ack_req_freq` of an mlx5 queue pair).
    fn wants_to_know(&self, pending: &Pending<B>, now: Time) -> bool {
        pending.request.signaled
            || pending.request.operation.is_read_or_atomic()
            || (self.recovery.unrequested_messages + 1) * 2 >= self.capacity
            || (self.acknowledged < self.sent && now.since(self.recovery.last_response) >= ASK_AFTER)
    }

    /// Writes the packet; `None` if the request's buffers don't serve.
    fn write_packet<M: Memory<Buffers = B>>(
        &mut self,
        plan: &Plan,
        memory: &M,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let pending = self.queue.get(plan.request)?;
        let request = &pending.request;
        let place =
            Place { first: pending.split || plan.at == pending.first, last: pending.split || plan.last };
        let offset = pending.offset(plan.at, self.mtu);
        let end = pending.offset(plan.at + plan.numbers, self.mtu);

        let psn = self.psn(plan.at);
        let opcode =
            Opcode::Known { transport: self.transport, operation: operation(request.operation, place) };
        let mut bth = Bth::new(opcode, self.peer, psn);
        bth.ack_req = plan.asks;
        // Only what completes a receive request can wake anybody (rxe: init_req_packet).
        bth.solicited = place.last
            && request.solicited
            && !matches!(request.operation, SendOperation::Write(_))
            && !request.operation.is_read_or_atomic();
        let mut headers = Headers::new(bth);
        headers.xrc_srq = request.xrc_srq();
        let mut payload = (end - offset) as usize;
        match request.operation {
            SendOperation::Read(remote) => {
                let va = remote.va.wrapping_add(offset.into());
                headers.reth = Some(Reth { va, rkey: remote.rkey, len: end - offset });
                payload = 0;
            }
            SendOperation::Atomic(remote, operation) => {
                let (swap_or_add, compare) = match operation {
                    AtomicOperation::CompareSwap { compare, swap } => (swap, compare),
                    AtomicOperation::FetchAdd { add } => (add, 0),
                };
                headers.atomic = Some(AtomicEth { va: remote.va, rkey: remote.rkey, swap_or_add, compare });
                payload = 0;
            }
            SendOperation::Write(remote) if pending.split => {
                let va = remote.va.wrapping_add(offset.into());
                headers.reth = Some(Reth { va, rkey: remote.rkey, len: end - offset });
            }
            operation => extend(&mut headers, operation, request.len, place),
        }
        let frame = headers.frame(out, payload).ok()?;
        memory.gather(&request.buffers, offset, frame.payload).ok()?;
        Some(Transmit { len: frame.len, to: Destination::Path, psn, kind: PacketKind::Request })
    }

    /// Notes that the planned packet was sent.
    fn account(&mut self, now: Time, plan: &Plan) {
        let Some(pending) = self.queue.get(self.cursor) else { return };
        let answered_with_data = pending.request.operation.is_read_or_atomic();
        let asks = plan.asks || answered_with_data;
        let first_to_ask = asks && !self.recovery.awaits_answer(self.acknowledged);
        if first_to_ask || self.acknowledged == self.sent {
            // Nothing was awaited until now: silence counts from here.
            self.recovery.hear(now);
        }
        if plan.fresh {
            self.bursts.sent();
            if answered_with_data {
                self.asked.push_back(Asked { first: self.next, last: self.next + plan.numbers - 1 });
            }
            if asks {
                self.recovery.round_trip.sent(self.next, now);
            }
            // A READ is as many messages as pieces were asked for.
            if answered_with_data || plan.last || pending.split {
                self.message_numbers.sent();
            }
        } else {
            self.counters.retransmitted += 1;
        }
        if asks {
            (self.recovery.unrequested_bytes, self.recovery.unrequested_messages) = (0, 0);
        } else {
            self.recovery.unrequested_bytes += plan.cost;
            self.recovery.unrequested_messages += usize::from(plan.last);
        }
        self.next += plan.numbers;
        if asks {
            self.recovery.ack_requested_until = self.recovery.ack_requested_until.max(self.next);
        }
        self.sent = self.sent.max(self.next);
        self.recovery.in_flight += plan.cost;
        if plan.last {
            self.cursor += 1;
        }
        if first_to_ask || !self.recovery.timers.is_set(Timer::Retransmit) {
            self.recovery.arm_retransmit(now);
        }
    }
}
