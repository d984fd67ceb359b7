//! The link itself.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::config::{LinkConfig, Loss};
use crate::counters::Counters;
use crate::dice::{Dice, Stream};
use crate::packet::Packet;
use crate::transmitter::Transmitter;

/// One direction of an emulated link.
///
/// Times are nanoseconds since an origin that the caller chose, and must not go back from one call to the next.
///
/// ```
/// use netem::{Link, LinkConfig};
///
/// let mut link = Link::new(LinkConfig { latency_ns: 500, ..LinkConfig::default() }, 7);
/// link.send(1_000, b"hello".to_vec());
/// assert_eq!(link.next_delivery(), Some(1_500));
/// assert_eq!(link.recv(1_499), None);
/// assert_eq!(link.recv(1_500), Some(b"hello".to_vec()));
/// assert_eq!(link.next_delivery(), None);
/// ```
#[derive(Debug)]
pub struct Link<P = Vec<u8>> {
    config: LinkConfig,
    loss: Dice,
    duplicate: Dice,
    corrupt: Dice,
    jitter: Dice,
    reorder: Dice,
    /// The state of [`Loss::GilbertElliott`].
    bad: bool,
    transmitter: Transmitter,
    flying: BinaryHeap<Flying<P>>,
    /// When the latest packet that wasn't held back arrives: jitter brings no later one before that.
    in_order_until: u64,
    /// The number of the next packet, counted in the order of sending, copies included.
    next_number: u64,
    /// The highest number delivered.
    highest_delivered: u64,
    counters: Counters,
}

impl<P: Packet> Link<P> {
    /// A link that behaves as `config` says and draws every random decision from `seed`.
    ///
    /// # Panics
    /// If a probability isn't from 0 to 1, or the bandwidth or `corrupt.max_bits` is 0.
    #[must_use]
    pub fn new(config: LinkConfig, seed: u64) -> Self {
        config.check();
        Self {
            config,
            loss: Dice::new(seed, Stream::Loss),
            duplicate: Dice::new(seed, Stream::Duplicate),
            corrupt: Dice::new(seed, Stream::Corrupt),
            jitter: Dice::new(seed, Stream::Jitter),
            reorder: Dice::new(seed, Stream::Reorder),
            bad: false,
            transmitter: Transmitter::default(),
            flying: BinaryHeap::new(),
            in_order_until: 0,
            next_number: 0,
            highest_delivered: 0,
            counters: Counters::default(),
        }
    }

    /// Changes how the link treats packets from now on, for a cable that is pulled out, say, or a path that
    /// changes. What is under way arrives as it would have.
    ///
    /// ```
    /// use netem::{Link, LinkConfig, Loss};
    ///
    /// let mut link = Link::new(LinkConfig::default(), 7);
    /// link.send(0, b"before".to_vec());
    /// link.set_config(LinkConfig { loss: Loss::Bernoulli(1.0), ..LinkConfig::default() });
    /// link.send(0, b"after".to_vec());
    /// assert_eq!(link.recv(0), Some(b"before".to_vec()));
    /// assert_eq!(link.recv(0), None);
    /// ```
    ///
    /// # Panics
    /// As [`Link::new`].
    pub fn set_config(&mut self, config: LinkConfig) {
        config.check();
        self.config = config;
    }

    /// Sends `packet` at the time `now`.
    pub fn send(&mut self, now: u64, packet: P) {
        self.counters.sent += 1;
        let LinkConfig { bandwidth_bits_per_s, queue_bytes, duplicate, .. } = self.config;
        let len = packet.bytes().len() as u64;
        // Drawn for each packet sent, whatever else becomes of it: which ones are lost depends on nothing but the seed.
        let lost = self.is_lost();
        let copied = self.duplicate.chance(duplicate);
        let Some(leaves) = self.transmitter.accept(now, len, bandwidth_bits_per_s, queue_bytes) else {
            self.counters.dropped_by_queue += 1;
            return;
        };
        if lost {
            self.counters.lost += 1;
            return;
        }
        if copied {
            self.counters.duplicated += 1;
            self.launch(leaves, packet.clone());
        }
        self.launch(leaves, packet);
    }

    /// When the next packet arrives, `None` if nothing is under way. It may be in the past if [`Link::recv`]
    /// wasn't called since.
    #[must_use]
    pub fn next_delivery(&self) -> Option<u64> {
        self.flying.peek().map(|flying| flying.arrives)
    }

    /// The packet that arrived first of those that arrived by `now`; of several that arrived at the same
    /// time, the one sent first.
    pub fn recv(&mut self, now: u64) -> Option<P> {
        let Flying { number, packet, .. } =
            self.flying.peek_mut().filter(|flying| flying.arrives <= now).map(PeekMut::pop)?;
        self.counters.delivered += 1;
        self.counters.reordered += u64::from(number < self.highest_delivered);
        self.highest_delivered = self.highest_delivered.max(number);
        Some(packet)
    }

    /// How many packets are under way: waiting, on the link, or arrived and not yet received.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flying.len()
    }

    /// What the link did so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn is_lost(&mut self) -> bool {
        match self.config.loss {
            Loss::None => self.loss.chance(0.0),
            Loss::Bernoulli(p) => self.loss.chance(p),
            Loss::GilbertElliott { good_to_bad, bad_to_good, loss_good, loss_bad } => {
                let step = if self.bad { bad_to_good } else { good_to_bad };
                self.bad ^= self.loss.chance(step);
                self.loss.chance(if self.bad { loss_bad } else { loss_good })
            }
        }
    }

    /// Puts one copy, whose last bit left at `leaves`, on its way.
    fn launch(&mut self, leaves: u64, mut packet: P) {
        self.damage(packet.bytes_mut());
        let LinkConfig { latency_ns, jitter_ns, reorder, .. } = self.config;
        let delay = latency_ns.saturating_add(self.jitter.up_to(jitter_ns));
        let mut arrives = leaves.saturating_add(delay).max(self.in_order_until);
        if self.reorder.chance(reorder.probability) {
            arrives = arrives.saturating_add(reorder.extra_delay_ns);
        } else {
            self.in_order_until = arrives;
        }
        self.flying.push(Flying { arrives, number: self.next_number, packet });
        self.next_number += 1;
    }

    fn damage(&mut self, bytes: &mut [u8]) {
        let bits = bytes.len() as u64 * 8;
        if !self.corrupt.chance(self.config.corrupt.probability) || bits == 0 {
            return;
        }
        let flips = 1 + self.corrupt.up_to(u64::from(self.config.corrupt.max_bits) - 1);
        for position in self.corrupt.distinct(flips, bits) {
            if let Some(byte) = usize::try_from(position / 8).ok().and_then(|index| bytes.get_mut(index)) {
                *byte ^= 1 << (position % 8);
            }
        }
        self.counters.corrupted += 1;
    }
}

/// A packet on its way.
#[derive(Debug)]
struct Flying<P> {
    arrives: u64,
    number: u64,
    packet: P,
}

impl<P> Ord for Flying<P> {
    /// The greatest is the one to deliver next: the earliest, and of those the first sent.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.arrives, other.number).cmp(&(self.arrives, self.number))
    }
}

impl<P> PartialOrd for Flying<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> PartialEq for Flying<P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<P> Eq for Flying<P> {}
