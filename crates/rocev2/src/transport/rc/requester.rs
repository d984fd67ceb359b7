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

mod message_numbers;
mod receive;
mod transmit;

use self::message_numbers::MessageNumbers;
use super::timing::{Timer, Timers, ack_timeout};
use super::window::{PACKET_COST, RoundTrip, Window};
use crate::work::{
    Attributes, Completion, Event, MAX_MESSAGE, PostError, SendAttributes, SendOperation, SendRequest, Status,
};
use crate::{Mtu, Psn, Qpn, Time};
use core::time::Duration;
use std::collections::VecDeque;

/// The longest time between two attempts to hear from a silent peer, where no ACK timeout bounds it.
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How often a silent peer is asked at least before it counts as gone, as far as round trips permit. In a
/// crowd before a full queue most packets are lost; who asks seldom would be given up for dead.
const LEAST_ATTEMPTS: u32 = 64;

/// A send request with its range of sequence numbers.
struct Pending<B> {
    request: SendRequest<B>,
    first: u64,
    /// None for one that is executed on this side alone.
    packets: u32,
    /// Whether it is such a one, and has been executed.
    executed: bool,
    /// This side found it impossible; reported when everything before it has completed.
    fault: Option<Status>,
}

impl<B> Pending<B> {
    /// One past its last sequence number.
    fn end(&self) -> u64 {
        self.first + u64::from(self.packets)
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
    mtu: Mtu,
    peer: Qpn,
    base: Psn,
    ack_timeout: Option<Duration>,
    retry_count: u8,
    rnr_retry: u8,
    max_rd_atomic: usize,

    capacity: usize,
    queue: VecDeque<Pending<B>>,
    acknowledged: u64,
    next: u64,
    sent: u64,
    end: u64,
    /// Where in `queue` the request with number `next` is; `queue.len()` if `next` is `end`.
    cursor: usize,
    asked: VecDeque<Asked>,

    message_numbers: MessageNumbers,
    window: Window,
    round_trip: RoundTrip,
    /// What the packets from `acknowledged` to `next` cost the window.
    in_flight: u64,
    /// A loss was noticed; those before this number belong to the same one and shrink the window no further.
    recover: u64,
    /// What was awaited when the peer last told of a loss: its later signs of the same loss say nothing new.
    told_of: Option<u64>,
    /// Nothing was heard: one packet at a time until it is clear what was lost.
    probing: bool,
    /// One past the last packet that asked for an answer. As long as the peer has acknowledged that far, its
    /// silence means nothing.
    asked_to: u64,
    /// What the packets since the last one that asked for an ACK cost the window.
    unasked: u64,
    /// Requests that ended since then.
    unasked_requests: usize,
    /// A packet is to be repeated that asks for an ACK.
    asking: bool,
    /// How far the answer to such a packet reaches if nothing was lost.
    reach: Option<u64>,

    timers: Timers,
    /// When the peer last showed a sign of life, or was last known to owe no answer.
    heard: Time,
    /// How often the retransmission timer rang since then.
    unanswered: u32,
    rnr_left: u8,
    draining: bool,
    /// Set once the connection can't go on; the queue pair goes to the error state.
    failed: bool,
    /// How often something seemed to be lost.
    losses: u64,
    pub(super) counters: RequesterCounters,
}

impl<B> Requester<B> {
    pub(super) fn new(capacity: usize, mtu: Mtu, peer: Qpn, window_limit: u64) -> Self {
        Self {
            mtu,
            peer,
            base: Psn::default(),
            ack_timeout: None,
            retry_count: 0,
            rnr_retry: 0,
            max_rd_atomic: 0,
            capacity,
            queue: VecDeque::new(),
            acknowledged: 0,
            next: 0,
            sent: 0,
            end: 0,
            cursor: 0,
            asked: VecDeque::new(),
            message_numbers: MessageNumbers::default(),
            window: Window::new(mtu.bytes(), window_limit),
            round_trip: RoundTrip::default(),
            in_flight: 0,
            recover: 0,
            told_of: None,
            probing: false,
            asked_to: 0,
            unasked: 0,
            unasked_requests: 0,
            asking: false,
            reach: None,
            timers: Timers::default(),
            heard: Time::ZERO,
            unanswered: 0,
            rnr_left: 0,
            draining: false,
            failed: false,
            losses: 0,
            counters: RequesterCounters::default(),
        }
    }

    pub(super) fn start(&mut self, attributes: &SendAttributes) {
        self.base = attributes.sq_psn;
        self.ack_timeout = ack_timeout(attributes.timeout);
        self.retry_count = attributes.retry_count;
        self.rnr_retry = attributes.rnr_retry;
        self.rnr_left = attributes.rnr_retry;
        self.max_rd_atomic = usize::from(attributes.max_rd_atomic);
    }

    /// Takes over what may be changed later.
    pub(super) fn update(&mut self, attributes: &Attributes) {
        let Some(send) = attributes.send() else { return };
        self.ack_timeout = ack_timeout(send.timeout);
        self.retry_count = send.retry_count;
        self.rnr_retry = send.rnr_retry;
        self.rnr_left = self.rnr_left.min(send.rnr_retry);
        self.max_rd_atomic = usize::from(send.max_rd_atomic);
    }

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
        self.queue.push_back(Pending { request, first: self.end, packets, executed: false, fault });
        self.end += u64::from(packets);
        Ok(())
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
        self.timers.next()
    }

    /// The PSN of the oldest packet that isn't acknowledged.
    pub(super) fn unacknowledged(&self) -> Psn {
        self.psn(self.acknowledged)
    }

    pub(super) fn losses(&self) -> u64 {
        self.losses
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
        self.timers = Timers::default();
        self.asked.clear();
        self.next = self.end;
        self.sent = self.end;
        self.acknowledged = self.end;
        self.cursor = 0;
        self.in_flight = 0;
    }

    pub(super) fn handle_timeout(&mut self, now: Time, events: &mut VecDeque<Event>) {
        if self.timers.take_expired(Timer::RnrWait, now) {
            self.hear(now);
        }
        if self.timers.take_expired(Timer::Retransmit, now) && self.acknowledged < self.sent {
            if !self.awaits_answer() {
                // Nobody was asked: there's nothing to make of the silence, but to ask.
                self.asking = true;
                self.arm_retransmit(now);
                return;
            }
            self.counters.timeouts += 1;
            self.losses += 1;
            self.unanswered += 1;
            // Time alone proves nothing: this side may have slept, with the answers waiting in its socket.
            let tried = self.unanswered > u32::from(self.retry_count);
            if tried && self.patience().is_some_and(|patience| now.since(self.heard) >= patience) {
                self.fail(Status::RetryExceeded, events);
                return;
            }
            self.message_numbers.timed_out();
            self.round_trip.timed_out(now);
            self.probing = true;
            self.go_back();
            self.arm_retransmit(now);
        }
    }

    /// Rings when the peer stayed silent for what its round trips suggest, and no later than the local ACK
    /// timeout. The delay that an RNR NAK asks for comes first: what is sent after it sets this timer.
    ///
    /// The specification counts retries in ACK timeouts, tens of milliseconds each. Asking earlier costs a
    /// duplicate packet at worst, so the requester does, and keeps to the specified patience: `retry_count` +
    /// 1 ACK timeouts without a sign of life end the connection.
    fn arm_retransmit(&mut self, now: Time) {
        if self.timers.is_set(Timer::RnrWait) {
            return;
        }
        let patience = self.patience();
        let limit = self.ack_timeout.unwrap_or(MAX_PROBE_INTERVAL);
        let slowest = patience.map_or(limit, |patience| patience / LEAST_ATTEMPTS);
        let at = now + self.round_trip.wait(self.unanswered, slowest).min(limit);
        let end = patience.map(|patience| self.heard + patience).filter(|&end| end > now);
        self.timers.set(Timer::Retransmit, end.map_or(at, |end| end.min(at)));
    }

    /// How long a peer may be silent until it counts as gone; for ever without an ACK timeout.
    fn patience(&self) -> Option<Duration> {
        self.ack_timeout.map(|timeout| timeout * (u32::from(self.retry_count) + 1))
    }

    /// Whether the peer owes an answer to something that asked for one.
    fn awaits_answer(&self) -> bool {
        self.acknowledged < self.asked_to
    }

    /// Notes a sign of life.
    fn hear(&mut self, now: Time) {
        self.heard = now;
        self.unanswered = 0;
    }

    /// The peer told of a loss: sends again from the first packet that isn't acknowledged. Once: if the
    /// repetition is lost as well, silence will tell. (rxe's `started_retry` does the same.) Returns whether
    /// this sign was the first.
    fn go_back_once(&mut self, now: Time) -> bool {
        if self.told_of == Some(self.acknowledged) {
            return false;
        }
        self.told_of = Some(self.acknowledged);
        self.note_loss();
        self.hear(now);
        // What had asked was dropped with the rest.
        self.asked_to = self.acknowledged;
        // It is there, and dropped what came behind.
        self.probing = false;
        self.go_back();
        self.arm_retransmit(now);
        true
    }

    /// Sends again from the first packet that isn't acknowledged.
    fn go_back(&mut self) {
        self.next = self.acknowledged;
        self.cursor = 0;
        self.in_flight = 0;
        (self.unasked, self.unasked_requests) = (0, 0);
        self.reach = None;
        self.round_trip.retransmitted();
    }

    /// Notes that something seems to be lost, and shrinks the window.
    fn note_loss(&mut self) {
        self.losses += 1;
        self.shrink_window();
    }

    /// Shrinks the window, once for each flight.
    fn shrink_window(&mut self) {
        if self.takes_a_cut() {
            self.window.lost();
        }
    }

    /// Whether the window may be made smaller: once for each flight, and never for want of one.
    fn takes_a_cut(&mut self) -> bool {
        let takes = self.acknowledged >= self.recover && self.acknowledged < self.sent;
        if takes {
            self.recover = self.sent;
        }
        takes
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
        let (from, to) = (from.max(pending.first), to.min(pending.end()));
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
                let pending = Pending { request, first, packets, executed: false, fault: None };
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
