//! The requester: turns send requests into packets and answers into completions (rxe's `rxe_req.c` and `rxe_comp.c`).
//!
//! Every packet has a 64-bit sequence number of its own; a PSN is its low 24 bits, counted from `sq_psn`.
//! Requests get a contiguous range of numbers when they are posted (a READ one for each response packet), so
//! "go back to PSN n" is one assignment to `next`, and no comparison ever meets the wrap-around:
//!
//! ```text
//!   acknowledged        in flight             sent before, to be sent again     never sent
//!  ───────────────┃────────────────────────┃──────────────────────────────┃──────────────────┃
//!             acknowledged               next                           sent               end
//! ```

mod bursts;
mod message_numbers;
mod receive;
mod transmit;
mod written;

use self::bursts::Bursts;
use self::message_numbers::MessageNumbers;
use self::written::Written;
use super::recovery::Recovery;
use super::timing::{Timer, Timers};
use super::window::{PACKET_COST, Window};
use crate::transport::Burst;
use crate::wire::Transport;
use crate::work::{
    Attributes, Completion, Event, MAX_MESSAGE, PostError, SendAttributes, SendOperation, SendRequest, Status,
};
use crate::{Mtu, Psn, Qpn, Time};
use std::collections::VecDeque;

/// A send request with its range of sequence numbers.
struct Pending<B> {
    request: SendRequest<B>,
    first: u64,
    /// None for one that is executed on this side alone.
    packets: u32,
    /// Whether it is such a one, and has been executed.
    executed: bool,
    /// Whether each of its packets is a message of its own.
    split: bool,
    /// This side found it impossible; reported when everything before it has completed.
    fault: Option<Status>,
}

impl<B> Pending<B> {
    /// One past its last sequence number.
    fn end(&self) -> u64 {
        self.first + u64::from(self.packets)
    }

    /// A range of sequence numbers, cut to its own.
    fn cut(&self, from: u64, to: u64) -> (u64, u64) {
        (from.max(self.first), to.min(self.end()))
    }

    /// How many of its packets have numbers in that range.
    fn within(&self, from: u64, to: u64) -> u32 {
        let (from, to) = self.cut(from, to);
        // It has no more than `packets`.
        u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX)
    }

    /// Whether it is one that this side has to execute, and hasn't yet.
    fn waits_for_execution(&self) -> bool {
        self.packets == 0 && !self.executed
    }

    /// Where the packet numbered `sequence` begins in the message.
    fn offset(&self, sequence: u64, mtu: Mtu) -> u32 {
        let bytes = (sequence - self.first) * u64::from(mtu.bytes());
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.request.len)
    }
}

/// The range of sequence numbers that one READ request packet, or one atomic, asked answers for. A retry must
/// keep to it: the responder repeats only what lies inside one request that it remembers.
#[derive(Clone, Copy, Debug)]
struct Asked {
    first: u64,
    last: u64,
}

/// What the requester counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequesterCounters {
    /// Request packets sent again.
    pub retransmitted: u64,
    /// Times that nothing was heard for so long that the requester asked again.
    pub timeouts: u64,
    /// PSN sequence error NAKs taken.
    pub sequence_naks: u64,
    /// RNR NAKs taken.
    pub rnr_naks: u64,
    /// Answers that showed that one before them was lost.
    pub response_gaps: u64,
    /// Congestion notification packets taken.
    pub congestion_notifications: u64,
}

pub(super) struct Requester<B> {
    transport: Transport,
    mtu: Mtu,
    peer: Qpn,
    base: Psn,
    max_rd_atomic: usize,

    capacity: usize,
    queue: VecDeque<Pending<B>>,
    acknowledged: u64,
    next: u64,
    sent: u64,
    end: u64,
    /// Where in `queue` the request with number `next` is; `queue.len()` if `next` is `end`.
    cursor: usize,
    /// Requests in `queue` that are executed on this side alone.
    local: usize,
    asked: VecDeque<Asked>,

    message_numbers: MessageNumbers,
    recovery: Recovery<Window>,
    /// The longest WRITE that is split.
    split_up_to: u32,
    written: Written,
    bursts: Bursts,
    draining: bool,
    /// Set once the connection can't go on; the queue pair goes to the error state.
    failed: bool,
    pub(super) counters: RequesterCounters,
}

impl<B> Requester<B> {
    pub(super) fn new(transport: Transport, capacity: usize, mtu: Mtu, peer: Qpn, window_limit: u64) -> Self {
        Self {
            transport,
            mtu,
            peer,
            base: Psn::default(),
            max_rd_atomic: 0,
            capacity,
            queue: VecDeque::new(),
            acknowledged: 0,
            next: 0,
            sent: 0,
            end: 0,
            cursor: 0,
            local: 0,
            asked: VecDeque::new(),
            message_numbers: MessageNumbers::default(),
            recovery: Recovery::new(Window::new(mtu.bytes(), window_limit)),
            split_up_to: 0,
            written: Written::default(),
            bursts: Bursts::default(),
            draining: false,
            failed: false,
            counters: RequesterCounters::default(),
        }
    }

    pub(super) fn start(&mut self, attributes: &SendAttributes) {
        self.base = attributes.sq_psn;
        self.recovery.set_patience(attributes);
        self.recovery.rnr_left = attributes.rnr_retry;
        self.max_rd_atomic = usize::from(attributes.max_rd_atomic);
    }

    /// Takes over what may be changed later.
    pub(super) fn update(&mut self, attributes: &Attributes) {
        let Some(send) = attributes.send() else { return };
        self.recovery.set_patience(&send);
        self.recovery.rnr_left = self.recovery.rnr_left.min(send.rnr_retry);
        self.max_rd_atomic = usize::from(send.max_rd_atomic);
    }

    #[inline]
    pub(super) fn post(&mut self, request: SendRequest<B>) -> Result<(), PostError> {
        if self.queue.len() >= self.capacity {
            return Err(PostError::QueueFull(self.capacity));
        }
        if request.len > MAX_MESSAGE {
            return Err(PostError::TooLong(request.len.into()));
        }
        if matches!(request.operation, SendOperation::Atomic(..)) && request.len != 8 {
            return Err(PostError::AtomicLength(request.len));
        }
        let packets = match request.operation {
            SendOperation::Atomic(..) => 1,
            SendOperation::BindWindow | SendOperation::LocalInvalidate(_) => 0,
            _ => self.mtu.packets(request.len),
        };
        let fault = (request.operation.is_read_or_atomic() && self.max_rd_atomic == 0)
            .then_some(Status::LocalQueuePairOperation);
        let split = match request.operation {
            SendOperation::Write(to) => {
                packets == 1 || (request.len <= self.split_up_to && self.written.contains(to, request.len))
            }
            _ => false,
        };
        self.bursts.posted();
        self.local += usize::from(packets == 0);
        self.queue.push_back(Pending { request, first: self.end, packets, executed: false, split, fault });
        self.end += u64::from(packets);
        Ok(())
    }

    pub(super) fn split_writes(&mut self, up_to: u32) {
        self.split_up_to = up_to;
    }

    #[inline]
    pub(super) fn begins_burst(&mut self, burst: Option<Burst>) {
        self.bursts.begins(burst);
    }

    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    pub(super) fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// Whether every request that was begun has finished.
    pub(super) fn is_drained(&self) -> bool {
        self.queue.front().is_none_or(|pending| !self.has_begun(pending))
    }

    fn has_begun(&self, pending: &Pending<B>) -> bool {
        self.sent > pending.first || pending.executed
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.recovery.timers.next()
    }

    /// The PSN of the oldest packet that isn't acknowledged.
    pub(super) fn unacknowledged(&self) -> Psn {
        self.psn(self.acknowledged)
    }

    pub(super) fn losses(&self) -> u64 {
        self.recovery.losses
    }

    /// Requests that have not completed.
    pub(super) fn outstanding(&self) -> usize {
        self.queue.len()
    }

    /// Completes everything with `WR_FLUSH_ERR`.
    pub(super) fn flush(&mut self, events: &mut VecDeque<Event>) {
        for pending in self.queue.drain(..) {
            events.push_back(ended(&pending.request, Status::Flushed));
        }
        self.local = 0;
        self.recovery.timers = Timers::default();
        self.asked.clear();
        self.next = self.end;
        self.sent = self.end;
        self.acknowledged = self.end;
        self.cursor = 0;
        self.recovery.in_flight = 0;
    }

    pub(super) fn handle_timeout(&mut self, now: Time, events: &mut VecDeque<Event>) {
        if self.recovery.timers.take_expired(Timer::RnrWait, now) {
            self.recovery.hear(now);
        }
        if self.recovery.timers.take_expired(Timer::Retransmit, now) && self.acknowledged < self.sent {
            if !self.recovery.awaits_answer(self.acknowledged) {
                // Nobody was asked: there's nothing to make of the silence, but to ask.
                self.recovery.ack_wanted = true;
                self.recovery.arm_retransmit(now);
                return;
            }
            self.counters.timeouts += 1;
            self.recovery.losses += 1;
            self.recovery.timeouts += 1;
            // Time alone proves nothing: this side may have slept, with the answers waiting in its socket.
            let tried = self.recovery.timeouts > u32::from(self.recovery.retry_count);
            if tried
                && self
                    .recovery
                    .give_up_after()
                    .is_some_and(|patience| now.since(self.recovery.last_response) >= patience)
            {
                self.fail(Status::RetryExceeded, events);
                return;
            }
            self.message_numbers.timed_out();
            self.recovery.round_trip.timed_out(now);
            self.recovery.go_back_probe = true;
            self.go_back();
            self.recovery.arm_retransmit(now);
        }
    }

    /// The peer told of a loss: sends again from the first packet that isn't acknowledged. Once: if the
    /// repetition is lost as well, silence will tell. (rxe's `started_retry` does the same.) Returns whether
    /// this sign was the first.
    fn go_back_once(&mut self, now: Time) -> bool {
        if self.recovery.nak_handled_at == Some(self.acknowledged) {
            return false;
        }
        self.recovery.nak_handled_at = Some(self.acknowledged);
        self.recovery.note_loss(self.acknowledged, self.sent);
        self.recovery.hear(now);
        // What had asked was dropped with the rest.
        self.recovery.ack_requested_until = self.acknowledged;
        // It is there, and dropped what came behind.
        self.recovery.go_back_probe = false;
        self.go_back();
        self.recovery.arm_retransmit(now);
        true
    }

    /// Sends again from the first packet that isn't acknowledged.
    fn go_back(&mut self) {
        self.next = self.acknowledged;
        self.cursor = 0;
        self.recovery.go_back();
    }

    /// Ends the first request, and with it the connection.
    fn fail(&mut self, status: Status, events: &mut VecDeque<Event>) {
        if let Some(pending) = self.queue.pop_front() {
            events.push_back(ended(&pending.request, status));
        }
        self.failed = true;
    }

    fn psn(&self, sequence: u64) -> Psn {
        #[expect(clippy::cast_possible_truncation, reason = "a PSN is the low bits of the sequence number")]
        self.base.plus(sequence as u32)
    }

    /// The sequence number nearest to what is awaited that has this PSN; `None` if it lies before the beginning.
    fn sequence(&self, psn: Psn) -> Option<u64> {
        self.acknowledged.checked_add_signed(psn.distance_from(self.psn(self.acknowledged)).into())
    }

    /// What the packets of `pending` in that range of numbers, cut to its own, cost the window.
    fn cost(&self, pending: &Pending<B>, from: u64, to: u64) -> u64 {
        let (from, to) = pending.cut(from, to);
        if from >= to {
            return 0;
        }
        let bytes = pending.offset(to, self.mtu) - pending.offset(from, self.mtu);
        u64::from(bytes) + PACKET_COST * (to - from)
    }
}

/// The completion of `request`.
fn ended<B>(request: &SendRequest<B>, status: Status) -> Event {
    let kind = request.operation.completion_kind();
    Event::Completion(Completion { len: request.len, ..Completion::new(request.id, status, kind) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::RemoteAddress;

    #[test]
    fn packets_begin_at_their_place_up_to_the_end_of_the_longest_message() {
        let operation = SendOperation::Write(RemoteAddress { va: 0, rkey: 0 });
        let request = SendRequest {
            id: 0,
            operation,
            buffers: (),
            len: 0,
            signaled: true,
            solicited: false,
            fence: false,
            destination: None,
        };
        for mtu in Mtu::ALL {
            for short in [0, 1, mtu.bytes() - 1, mtu.bytes()] {
                let len = MAX_MESSAGE - short;
                let packets = mtu.packets(len);
                // The numbers wrap around the PSNs within the message.
                let first = (1 << Psn::BITS) - 5;
                let request = SendRequest { len, ..request.clone() };
                let pending = Pending { request, first, packets, executed: false, split: false, fault: None };
                for packet in [0, 1, packets / 2, packets - 1] {
                    let offset = pending.offset(first + u64::from(packet), mtu);
                    assert_eq!(u64::from(offset), u64::from(packet) * u64::from(mtu.bytes()));
                }
                assert_eq!(pending.offset(pending.end(), mtu), len);
                let last = len - pending.offset(pending.end() - 1, mtu);
                assert!((1..=mtu.bytes()).contains(&last));
            }
        }
    }
}
