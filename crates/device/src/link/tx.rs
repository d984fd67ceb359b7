//! Sending: packets collected, then handed to the system in as few calls as possible.

use core::fmt;
use core::num::NonZeroU8;
use std::net::SocketAddr;

use super::Sent;

/// The most datagrams that every kernel with UDP segmentation offload takes in one system call.
pub(crate) const MAX_SEGMENTS: usize = 64;

/// Makes a datagram right for another IP identification than it was committed for: the datagram, where it goes, and
/// its new identification. In a plain one that is its ICRC ([`put_icrc`]).
pub type Reseal<'a> = dyn FnMut(&mut [u8], SocketAddr, u16) + 'a;

/// Bytes of the ICRC behind each packet.
const ICRC: usize = 4;

/// Bytes of a slot: the longest packet (40 bytes of headers, 4096 of payload, 3 of pad) with its ICRC fits, and so it
/// does inside ESP.
const SLOT: usize = 4096 + 96;

/// When there are so many bytes, it is time to flush. Two full runs stay inside a core's second-level cache.
const FULL: usize = 128 << 10;

/// The most bytes in one system call: what fits an IPv4 or IPv6 packet of 65,535 bytes.
pub(crate) const MAX_RUN: usize = 65_535 - 40 - 8;

/// The fields of the IP header that whoever sends may choose. The ICRC doesn't cover them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marking {
    /// The traffic class (IPv6) or type of service (IPv4).
    pub traffic_class: u8,
    /// The hop limit (IPv6) or time to live (IPv4); the system's own if there is none.
    pub hop_limit: Option<NonZeroU8>,
}

/// Datagrams for one destination that one system call may send: all of `segment` bytes but the last, which
/// may be shorter.
#[derive(Debug)]
struct Run {
    to: SocketAddr,
    marking: Marking,
    start: usize,
    end: usize,
    segment: usize,
    /// How many of its datagrams have left already.
    gone: usize,
    /// No other joins it.
    closed: bool,
}

/// A run on its way out: datagrams of `segment` bytes, the last perhaps shorter, one behind the other.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Where they go.
    pub to: SocketAddr,
    /// What their IP headers say.
    pub marking: Marking,
    /// The length of each but the last, ICRC included.
    pub segment: usize,
    /// The datagrams.
    pub bytes: &'a mut [u8],
    /// The IP identification that the first is sealed for; the next one's is one more, and so on.
    first_id: usize,
}

/// Packets that a link had no room for.
#[derive(Debug)]
pub struct Unsent {
    bytes: Box<[u8]>,
    runs: Vec<Run>,
}

/// Packets that are about to be sent.
///
/// Consecutive packets for one destination become runs, which leave by segmentation offload where the system
/// has it. They lie one behind the other in memory and aren't copied again. The ICRC covers a packet's IP
/// identification, which is its place in the system call that sends it. It is computed when the packet is
/// committed, while that is in the nearest cache, and once more only where it turns out not to leave with
/// others.
///
/// ```no_run
/// # fn icrc(_: &[u8], _: u16) -> u32 { 0 }
/// # use rocev2_device::link::{Link, TxBatch, put_icrc};
/// # fn send(link: &dyn Link, peer: std::net::SocketAddr, packets: &[&[u8]]) {
/// let mut batch = TxBatch::new();
/// for packet in packets {
///     if batch.is_full() {
///         link.send(&mut batch, &mut |datagram, _to, id| put_icrc(datagram, |packet| icrc(packet, id)));
///     }
///     batch.reserve()[..packet.len()].copy_from_slice(packet);
///     batch.commit(packet.len(), peer, icrc);
/// }
/// link.send(&mut batch, &mut |datagram, _to, id| put_icrc(datagram, |packet| icrc(packet, id)));
/// # }
/// ```
pub struct TxBatch {
    /// Longer than `end` by a slot at least.
    bytes: Vec<u8>,
    /// Where the next packet goes.
    end: usize,
    runs: Vec<Run>,
    /// Of the packets that are committed from now on.
    marking: Marking,
}

impl TxBatch {
    /// The longest packet that a slot takes, in bytes, without its ICRC.
    pub const MAX_PACKET: usize = SLOT - ICRC;

    /// An empty batch. It allocates here, and no more as long as it is flushed when it is full.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: vec![0; FULL + 2 * SLOT],
            end: 0,
            runs: Vec::with_capacity(MAX_SEGMENTS),
            marking: Marking::default(),
        }
    }

    /// Says what the IP headers of the packets that are committed from now on say.
    pub fn mark(&mut self, marking: Marking) {
        self.marking = marking;
    }

    /// Whether nothing is to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether it is time to flush. More packets may be added all the same, but cost memory. Where the last
    /// run is complete and another doesn't fit, it is time too: a part of one would take a system call of its
    /// own.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.end >= FULL || (self.end + MAX_RUN > FULL && self.runs.last().is_some_and(Run::is_complete))
    }

    /// Room for the next packet and its ICRC: [`MAX_PACKET`](Self::MAX_PACKET) bytes and four, with whatever earlier
    /// packets left there. What is written counts only after [`commit`](Self::commit).
    pub fn reserve(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..self.end + SLOT]
    }

    /// Adds the packet in the first `len` bytes that were reserved, at most [`MAX_PACKET`](Self::MAX_PACKET), to be
    /// sent to `to`. Returns its place in its run, counted from 0.
    ///
    /// `icrc` is called with the packet and the IP identification that it will probably have (on IPv6 there
    /// is none), and returns the ICRC, which is put behind the packet.
    pub fn commit(&mut self, len: usize, to: SocketAddr, icrc: impl FnOnce(&[u8], u16) -> u32) -> usize {
        debug_assert!(len <= Self::MAX_PACKET, "a packet of {len} bytes in a slot of {}", Self::MAX_PACKET);
        let finish = |datagram: &mut [u8], id| {
            put_icrc(datagram, |packet| icrc(packet, id));
            true
        };
        self.commit_datagram(len.min(Self::MAX_PACKET) + ICRC, to, finish).unwrap_or(0)
    }

    /// The same for a packet that must not leave in a run.
    pub fn commit_alone(&mut self, len: usize, to: SocketAddr, icrc: impl FnOnce(&[u8], u16) -> u32) {
        self.close();
        self.commit(len, to, icrc);
        self.close();
    }

    /// Adds a datagram that isn't a plain packet: the first `len` bytes that were reserved, once `finish` has
    /// completed them for the IP identification that it gets. If that fails, and returns false, nothing is added.
    pub fn commit_datagram(
        &mut self,
        len: usize,
        to: SocketAddr,
        finish: impl FnOnce(&mut [u8], u16) -> bool,
    ) -> Option<usize> {
        let (start, end) = (self.end, self.end + len.min(SLOT));
        let marking = self.marking;
        let joined = self.runs.last_mut().filter(|run| run.marking == marking && run.takes(len, to));
        let place = joined.as_ref().map_or(0, |run| (start - run.start) / run.segment);
        // A run has at most `MAX_SEGMENTS`.
        let id = u16::try_from(place).unwrap_or(u16::MAX);
        if !finish(&mut self.bytes[start..end], id) {
            return None;
        }
        match joined {
            Some(run) => run.end = end,
            None => self.runs.push(Run { to, marking, start, end, segment: len, gone: 0, closed: false }),
        }
        self.end = end;
        if self.bytes.len() < end + SLOT {
            self.bytes.resize(end + SLOT, 0);
        }
        Some(place)
    }

    /// The length of the datagrams of a run that another one to `to` may join, if it is at most as long: the length to
    /// pad it to, so that others may follow.
    #[must_use]
    pub fn joined_len(&self, to: SocketAddr) -> Option<usize> {
        let run = self.runs.last().filter(|run| run.marking == self.marking && run.takes(1, to));
        run.map(|run| run.segment)
    }

    /// Whether another packet to `to`, as long as those before it, begins a new run.
    #[must_use]
    pub fn begins_run(&self, to: SocketAddr) -> bool {
        let run = self.runs.last().filter(|run| run.marking == self.marking);
        run.is_none_or(|run| !run.takes(run.segment, to))
    }

    /// Whether the packets added last leave by segmentation offload, and another one may join them.
    #[must_use]
    pub fn ends_with_run(&self) -> bool {
        self.runs.last().is_some_and(|run| !run.closed && run.end - run.start > run.segment)
    }

    /// Has no other packet join those added last.
    pub fn close(&mut self) {
        if let Some(run) = self.runs.last_mut() {
            run.closed = true;
        }
    }

    /// Hands the runs to `send`, which says how many of a run's datagrams it had room for where that isn't all.
    /// Then this ends, and what is left stays.
    pub fn drain(&mut self, mut send: impl FnMut(Outgoing<'_>) -> Option<usize>) -> Sent {
        let mut gone = 0;
        for run in &mut self.runs {
            let bytes = &mut self.bytes[run.start..run.end];
            let Run { to, marking, segment, gone: first_id, .. } = *run;
            let outgoing = Outgoing { to, marking, segment, bytes, first_id };
            if let Some(count) = send(outgoing) {
                run.start += count * run.segment;
                run.gone += count;
                break;
            }
            gone += 1;
        }
        self.runs.drain(..gone);
        if self.runs.is_empty() {
            self.end = 0;
            return Sent::All;
        }
        Sent::Blocked
    }

    /// Takes what couldn't leave out of the batch.
    pub fn take_unsent(&mut self) -> Option<Unsent> {
        let start = self.runs.first()?.start;
        let bytes = self.bytes[start..self.end].into();
        let runs =
            self.runs.drain(..).map(|run| Run { start: run.start - start, end: run.end - start, ..run });
        let runs = runs.collect();
        self.end = 0;
        Some(Unsent { bytes, runs })
    }

    /// Puts packets that couldn't leave into the batch, which must be empty. No others join their runs.
    pub fn restore(&mut self, unsent: Unsent) {
        debug_assert!(self.is_empty(), "they have to leave first");
        self.end = unsent.bytes.len();
        if self.bytes.len() < self.end + SLOT {
            self.bytes.resize(self.end + SLOT, 0);
        }
        self.bytes[..self.end].copy_from_slice(&unsent.bytes);
        self.runs = unsent.runs;
        self.close();
    }
}

impl Outgoing<'_> {
    /// Seals the datagrams for the IP identifications that they have where they leave in one system call (0, 1, 2,
    /// …), or, not `together`, one by one (0).
    pub fn seal(&mut self, together: bool, reseal: &mut Reseal<'_>) {
        let (to, first) = (self.to, self.first_id);
        for (at, datagram) in self.bytes.chunks_mut(self.segment).enumerate() {
            let id = if together { at } else { 0 };
            if id != first + at {
                // A run has at most `MAX_SEGMENTS`.
                reseal(datagram, to, u16::try_from(id).unwrap_or(u16::MAX));
            }
        }
    }
}

/// Puts a plain datagram's ICRC, computed from the packet before it, into its last bytes.
pub fn put_icrc(datagram: &mut [u8], icrc: impl FnOnce(&[u8]) -> u32) {
    if let Some((packet, trailer)) = datagram.split_last_chunk_mut::<ICRC>() {
        *trailer = icrc(packet).to_le_bytes();
    }
}

impl Run {
    /// Whether another datagram, whose bytes follow this run's, may join it.
    fn takes(&self, len: usize, to: SocketAddr) -> bool {
        let bytes = self.end - self.start;
        self.to == to
            && !self.closed
            && len <= self.segment
            // A shorter one was the last.
            && bytes.is_multiple_of(self.segment)
            && bytes / self.segment < MAX_SEGMENTS
            && bytes + len <= MAX_RUN
    }

    /// Whether it has as many datagrams of its length as a run may have.
    fn is_complete(&self) -> bool {
        let bytes = self.end - self.start;
        bytes / self.segment >= MAX_SEGMENTS || bytes + self.segment > MAX_RUN
    }
}

impl Default for TxBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TxBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxBatch")
            .field("bytes", &self.end)
            .field("runs", &self.runs.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
