//! What a requester knows of its path, apart from what is queued: how much may be under way, how long an answer
//! takes, what counts as lost, and what the peer was asked to acknowledge.

use super::congestion::Congestion;
use super::timing::{Timer, Timers, ack_timeout};
use super::window::RoundTrip;
use crate::Time;
use crate::work::SendAttributes;
use core::time::Duration;

/// The longest time between two attempts to hear from a silent peer, where no ACK timeout bounds it.
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How often a silent peer is asked at least before it counts as gone, as far as round trips permit. In a
/// crowd before a full queue most packets are lost; who asks seldom would be given up for dead.
const LEAST_ATTEMPTS: u32 = 64;

pub(super) struct Recovery<C> {
    pub(super) congestion: C,
    pub(super) round_trip: RoundTrip,
    pub(super) timers: Timers,
    ack_timeout: Option<Duration>,
    pub(super) retry_count: u8,
    pub(super) rnr_retry: u8,
    pub(super) rnr_left: u8,
    /// What the packets under way cost the window.
    pub(super) in_flight: u64,
    /// A loss was noticed; those before this number belong to the same one and shrink the window no further.
    pub(super) cut_until: u64,
    /// What was awaited when the peer last told of a loss: its later signs of the same loss say nothing new.
    pub(super) nak_handled_at: Option<u64>,
    /// Nothing was heard: one packet at a time until it is clear what was lost.
    pub(super) go_back_probe: bool,
    /// One past the last packet that asked for an answer. As long as the peer has acknowledged that far, its
    /// silence means nothing.
    pub(super) ack_requested_until: u64,
    /// What the packets since the last one that asked for an ACK cost the window.
    pub(super) unrequested_bytes: u64,
    /// Requests that ended since then.
    pub(super) unrequested_messages: usize,
    /// A packet is to be repeated that asks for an ACK.
    pub(super) ack_wanted: bool,
    /// How far the answer to such a packet reaches if nothing was lost.
    pub(super) ack_probe_end: Option<u64>,
    /// When the peer last showed a sign of life, or was last known to owe no answer.
    pub(super) last_response: Time,
    /// How often the retransmission timer rang since then.
    pub(super) timeouts: u32,
    /// How often something seemed to be lost.
    pub(super) losses: u64,
}

impl<C: Congestion> Recovery<C> {
    pub(super) fn new(congestion: C) -> Self {
        Self {
            congestion,
            round_trip: RoundTrip::default(),
            timers: Timers::default(),
            ack_timeout: None,
            retry_count: 0,
            rnr_retry: 0,
            rnr_left: 0,
            in_flight: 0,
            cut_until: 0,
            nak_handled_at: None,
            go_back_probe: false,
            ack_requested_until: 0,
            unrequested_bytes: 0,
            unrequested_messages: 0,
            ack_wanted: false,
            ack_probe_end: None,
            last_response: Time::ZERO,
            timeouts: 0,
            losses: 0,
        }
    }

    /// Takes over how patient to be.
    pub(super) fn set_patience(&mut self, attributes: &SendAttributes) {
        self.ack_timeout = ack_timeout(attributes.timeout);
        self.retry_count = attributes.retry_count;
        self.rnr_retry = attributes.rnr_retry;
    }

    /// Rings when the peer stayed silent for what its round trips suggest, and no later than the local ACK
    /// timeout. The delay that an RNR NAK asks for comes first: what is sent after it sets this timer.
    ///
    /// The specification counts retries in ACK timeouts, tens of milliseconds each. Asking earlier costs a
    /// duplicate packet at worst, so the requester does, and keeps to the specified patience: `retry_count` +
    /// 1 ACK timeouts without a sign of life end the connection.
    pub(super) fn arm_retransmit(&mut self, now: Time) {
        if self.timers.is_set(Timer::RnrWait) {
            return;
        }
        let patience = self.give_up_after();
        let limit = self.ack_timeout.unwrap_or(MAX_PROBE_INTERVAL);
        let slowest = patience.map_or(limit, |patience| patience / LEAST_ATTEMPTS);
        let at = now + self.round_trip.wait(self.timeouts, slowest).min(limit);
        let end = patience.map(|patience| self.last_response + patience).filter(|&end| end > now);
        self.timers.set(Timer::Retransmit, end.map_or(at, |end| end.min(at)));
    }

    /// How long a peer may be silent until it counts as gone; for ever without an ACK timeout.
    pub(super) fn give_up_after(&self) -> Option<Duration> {
        self.ack_timeout.map(|timeout| timeout * (u32::from(self.retry_count) + 1))
    }

    /// Whether the peer, which has acknowledged everything before `acknowledged`, owes an answer to something that
    /// asked for one.
    pub(super) fn awaits_answer(&self, acknowledged: u64) -> bool {
        acknowledged < self.ack_requested_until
    }

    /// Notes a sign of life.
    pub(super) fn hear(&mut self, now: Time) {
        self.last_response = now;
        self.timeouts = 0;
    }

    /// Everything under way is sent again.
    pub(super) fn go_back(&mut self) {
        self.in_flight = 0;
        (self.unrequested_bytes, self.unrequested_messages) = (0, 0);
        self.ack_probe_end = None;
        self.round_trip.retransmitted();
    }

    /// Notes that something seems to be lost, and shrinks the window.
    pub(super) fn note_loss(&mut self, acknowledged: u64, sent: u64) {
        self.losses += 1;
        if self.takes_a_cut(acknowledged, sent) {
            self.congestion.lost();
        }
    }

    /// The fabric asks for less.
    pub(super) fn note_congestion(&mut self, acknowledged: u64, sent: u64) {
        if self.takes_a_cut(acknowledged, sent) {
            self.congestion.congested();
        }
    }

    /// So many bytes were acknowledged, with everything before `acknowledged`.
    pub(super) fn note_acknowledged(&mut self, acknowledged: u64, bytes: u64, now: Time) {
        if acknowledged >= self.cut_until {
            self.congestion.cut_took_effect();
        }
        self.congestion.acknowledged(bytes);
        self.round_trip.acknowledged(acknowledged, now);
        self.hear(now);
        self.rnr_left = self.rnr_retry;
    }

    /// Whether the window may be made smaller: once for each flight, and never for want of one.
    fn takes_a_cut(&mut self, acknowledged: u64, sent: u64) -> bool {
        let takes = acknowledged >= self.cut_until && acknowledged < sent;
        if takes {
            self.cut_until = sent;
        }
        takes
    }
}
