//! The responder: checks and executes the peer's requests in PSN order, and answers them (rxe's `rxe_resp.c`).

mod receive;
mod transmit;

use crate::transport::message::Arriving;
use crate::wire::{NakCode, Transport};
use crate::work::{Attributes, Event, Memory, PeerRights, ReceiveAttributes, ReceiveQueue, flushed};
use crate::{Mtu, Psn, Qpn};
use std::collections::VecDeque;

/// What the responder counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponderCounters {
    /// NAKs sent, of any kind but RNR.
    pub naks: u64,
    /// RNR NAKs sent.
    pub rnr_naks: u64,
    /// ACK packets sent.
    pub acks: u64,
}

/// What is remembered of the peer's reads and atomics, to repeat their answers (rxe's `resp_res`).
enum Remembered<M: Memory> {
    /// `left` packets of it are repeated at most.
    Read {
        first: u64,
        last: u64,
        va: u64,
        rkey: u32,
        len: u32,
        grant: Option<M::Grant>,
        left: u64,
    },
    Atomic {
        sequence: u64,
        original: u64,
    },
}

impl<M: Memory> Remembered<M> {
    /// The first and the last of its sequence numbers.
    fn range(&self) -> (u64, u64) {
        match *self {
            Self::Read { first, last, .. } => (first, last),
            Self::Atomic { sequence, .. } => (sequence, sequence),
        }
    }
}

/// An answer to be sent.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Everything up to this number was done.
    Ack { sequence: u64 },
    /// The READ that is remembered for `next`, from `begin` to `last`; `again` if all of it was sent before. If the
    /// peer has asked meanwhile for some of it once more, that part follows: its first and its last number.
    Read { begin: u64, next: u64, last: u64, again: bool, repeat: Option<(u64, u64)> },
    /// An atomic's result; `again` if it was sent before.
    Atomic { sequence: u64, original: u64, again: bool },
    /// Everything before this number was done; for this one a receive request is missing.
    RnrNak { sequence: u64 },
    /// Everything before this number was done; this one is refused.
    Nak { sequence: u64, code: NakCode },
}

impl Answer {
    fn sequence(&self) -> u64 {
        match *self {
            Self::Ack { sequence }
            | Self::Atomic { sequence, .. }
            | Self::RnrNak { sequence }
            | Self::Nak { sequence, .. } => sequence,
            Self::Read { next, .. } => next,
        }
    }
}

pub(super) struct Responder<M: Memory> {
    transport: Transport,
    mtu: Mtu,
    peer: Qpn,
    rights: PeerRights,
    base: Psn,
    min_rnr_timer: u8,
    max_dest_rd_atomic: usize,

    /// The sequence number that the next request must have; as the requester's, 64 bits wide.
    expected: u64,
    /// The last SEND or WRITE packet that was executed.
    plain: u64,
    /// Messages completed, 24 bits: the MSN.
    completed: u32,
    arriving: Option<Arriving<M>>,
    /// A NAK was sent for `expected`: further packets ahead of it are ignored.
    nak_sent: bool,
    /// By sequence number, at most `max_dest_rd_atomic`.
    remembered: VecDeque<Remembered<M>>,
    /// What is to be sent, by sequence number: each answer also acknowledges everything before it. At most
    /// one for each thing remembered or forgotten while it waited, an ACK behind each of them, and one NAK at
    /// the end.
    answers: VecDeque<Answer>,
    /// The request that ended the connection.
    refused: Option<(u64, NakCode)>,
    /// Bytes of READ responses that may leave until more are allowed.
    allowance: u64,
    pub(super) counters: ResponderCounters,
}

/// Distances are signed 24-bit numbers: beginning here, "behind the first packet" is still a positive number.
const ORIGIN: u64 = 1 << Psn::BITS;

impl<M: Memory> Responder<M> {
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            transport,
            mtu: Mtu::B256,
            peer: Qpn::truncate(0),
            rights: PeerRights::default(),
            base: Psn::default(),
            min_rnr_timer: 0,
            max_dest_rd_atomic: 0,
            expected: ORIGIN,
            plain: ORIGIN - 1,
            completed: 0,
            arriving: None,
            nak_sent: false,
            remembered: VecDeque::new(),
            answers: VecDeque::new(),
            refused: None,
            allowance: u64::MAX,
            counters: ResponderCounters::default(),
        }
    }

    /// Takes over what may be changed later.
    pub(super) fn update(&mut self, attributes: &Attributes) {
        self.rights = attributes.rights.unwrap_or_default();
        self.min_rnr_timer = attributes.min_rnr_timer.unwrap_or(self.min_rnr_timer);
        if let Some(depth) = attributes.max_dest_rd_atomic {
            self.max_dest_rd_atomic = usize::from(depth);
        }
    }

    pub(super) fn start(&mut self, attributes: &ReceiveAttributes) {
        self.mtu = attributes.path_mtu;
        self.peer = attributes.peer_qpn;
        self.base = attributes.rq_psn;
        self.min_rnr_timer = attributes.min_rnr_timer;
        self.max_dest_rd_atomic = usize::from(attributes.max_dest_rd_atomic);
    }

    pub(super) fn message_arrives(&self) -> bool {
        self.arriving.is_some()
    }

    pub(super) fn failed(&self) -> bool {
        self.refused.is_some()
    }

    /// Answers that wait to be sent.
    pub(super) fn answers_waiting(&self) -> usize {
        self.answers.len()
    }

    /// Sets how many bytes of READ responses may leave from now on.
    pub(super) fn allow(&mut self, bytes: u64) {
        self.allowance = bytes;
    }

    /// Whether a READ response waits for more to be allowed.
    pub(super) fn is_held_up(&self) -> bool {
        self.allowance == 0 && matches!(self.answers.front(), Some(Answer::Read { .. }))
    }

    /// Whether the only answer that waits says that requests were done, and carries nothing else.
    pub(super) fn owes_only_an_ack(&self) -> bool {
        self.answers.len() == 1 && matches!(self.answers.front(), Some(Answer::Ack { .. }))
    }

    /// From here on the peer's reads are left unanswered.
    pub(super) fn stop_reading(&mut self) {
        self.answers.retain(|answer| !matches!(answer, Answer::Read { .. }));
    }

    /// Completes every receive request with `WR_FLUSH_ERR`, the one that was being filled first. Answers that
    /// wait, a last NAK among them, are still sent.
    pub(super) fn flush(&mut self, receives: &mut ReceiveQueue<M::Buffers>, events: &mut VecDeque<Event>) {
        if let Some(Arriving::Send { request, .. }) = self.arriving.take() {
            receives.finish();
            events.push_back(flushed(request.id));
        }
        receives.flush(events);
    }

    /// Gives up the message that is arriving, and its receive request back.
    pub(super) fn abandon(&mut self, receives: &mut ReceiveQueue<M::Buffers>) {
        if let Some(Arriving::Send { request, .. }) = self.arriving.take() {
            receives.put_back(request);
        }
    }

    /// The read or atomic that this number belongs to, if it is remembered.
    fn remembered(&self, sequence: u64) -> Option<&Remembered<M>> {
        let at = self.remembered.partition_point(|remembered| remembered.range().1 < sequence);
        self.remembered.get(at).filter(|remembered| remembered.range().0 <= sequence)
    }

    fn psn(&self, sequence: u64) -> Psn {
        #[expect(clippy::cast_possible_truncation, reason = "a PSN is the low bits of the sequence number")]
        self.base.plus(sequence.wrapping_sub(ORIGIN) as u32)
    }
}
