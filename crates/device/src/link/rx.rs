//! Receiving: one call takes several batches, each of several datagrams.

use core::fmt;
use std::net::SocketAddr;

/// Batches that one system call takes at most.
pub(crate) const BATCHES: usize = 8;

/// Bytes of the largest batch that the kernel puts together.
pub(crate) const BATCH: usize = 1 << 16;

/// Where a link's datagrams arrive: memory for one system call.
pub struct RxBatch {
    bytes: Box<[u8]>,
    batches: [Batch; BATCHES],
    /// How many of them hold something.
    count: usize,
    /// Bytes that have been written to each buffer since it was wiped.
    written: [usize; BATCHES],
    /// What the last call brought.
    pace: Pace,
}

/// Datagrams from one sender that the kernel has put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Bytes, of all its datagrams.
    pub(crate) len: usize,
    /// Bytes of each datagram; the last may have fewer.
    pub(crate) stride: usize,
    /// Who sent it.
    pub(crate) from: SocketAddr,
}

/// How datagrams come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// The last call found nothing.
    Paused,
    /// It found a single datagram after a pause.
    Single,
    /// It found several, or one right after others.
    Flowing,
}

impl Pace {
    /// What it is after a call that brought so many.
    fn after(self, datagrams: usize) -> Self {
        match datagrams {
            0 => Self::Paused,
            1 if self == Self::Paused => Self::Single,
            _ => Self::Flowing,
        }
    }
}

/// A datagram as it arrived.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Where it came from. It was sent to the link's own address.
    pub src: SocketAddr,
    /// Its place in the batch that it arrived in: what its IP identification probably is, if the sender sent
    /// that batch at once.
    pub index: u16,
    /// The UDP payload. Whoever receives it may open it in place.
    pub bytes: &'a mut [u8],
}

/// What one [`Link::recv`](super::Link::recv) brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Datagrams.
    pub datagrams: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Nothing else had arrived at that moment.
    pub is_all: bool,
    /// More is likely to wait: there was room for no further batch, and what came isn't a single datagram after a
    /// pause.
    pub is_full: bool,
}

impl RxBatch {
    /// Memory for one system call: half a mebibyte.
    #[must_use]
    pub fn new() -> Self {
        let none = Batch { len: 0, stride: 0, from: SocketAddr::from(([0; 4], 0)) };
        Self {
            bytes: vec![0; BATCHES * BATCH].into(),
            batches: [none; BATCHES],
            count: 0,
            written: [0; BATCHES],
            pace: Pace::Paused,
        }
    }

    /// How many batches to look for.
    ///
    /// Unless more than one came the last times, that is one: what comes after a pause is mostly a single datagram,
    /// which somebody waits for, and to prepare for more, and find that there's none, takes as long as to receive it.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.pace == Pace::Flowing { BATCHES } else { 1 }
    }

    /// Receives up to [`room`](Self::room) batches: `fill` gets as many buffers and says what it has put into the
    /// first of them.
    pub(crate) fn fill<'a>(
        &'a mut self,
        fill: impl FnOnce(&mut dyn Iterator<Item = &'a mut [u8]>, &mut [Batch]) -> usize,
    ) -> Received {
        let room = self.room();
        let Self { bytes, batches, count, written, pace } = self;
        *count = fill(&mut bytes.chunks_exact_mut(BATCH).take(room), &mut batches[..room]).min(room);
        let batches = &batches[..*count];
        for (written, batch) in written.iter_mut().zip(batches) {
            *written = batch.len.min(BATCH).max(*written);
        }
        let datagrams = batches.iter().map(|it| it.len.div_ceil(it.stride.max(1)).max(1)).sum();
        let bytes = batches.iter().map(|it| it.len).sum();
        *pace = pace.after(datagrams);
        let is_all = batches.len() < room;
        let is_full = !is_all && (room > 1 || batches.iter().any(|it| it.len > it.stride));
        Received { datagrams, bytes, is_all, is_full }
    }

    /// Receives datagrams one by one: `next` puts one at the beginning of the buffer, and says how long it is and
    /// where it came from.
    pub fn fill_each(&mut self, next: impl FnMut(&mut [u8]) -> Option<(usize, SocketAddr)>) -> Received {
        self.fill(|buffers, batches| {
            let arrived = buffers.map_while(next).zip(batches);
            arrived.map(|((len, from), batch)| *batch = Batch { len, stride: len, from }).count()
        })
    }

    /// Wipes what arrived, and may have been opened where it stood.
    pub fn wipe(&mut self) {
        self.count = 0;
        for (buffer, written) in self.bytes.chunks_exact_mut(BATCH).zip(&mut self.written) {
            buffer[..core::mem::take(written)].fill(0);
        }
    }

    /// The datagrams in the order of arrival.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Datagram<'_>> {
        let batches = self.batches[..self.count].iter().zip(self.bytes.chunks_exact_mut(BATCH));
        batches.flat_map(|(batch, bytes)| {
            let datagrams = (0..).zip(segments(&mut bytes[..batch.len.min(BATCH)], batch.stride));
            datagrams.map(|(index, bytes)| Datagram { src: batch.from, index, bytes })
        })
    }
}

impl Default for RxBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// The datagrams of a batch: `stride` bytes each, the last perhaps shorter. An empty datagram is one too.
fn segments(batch: &mut [u8], stride: usize) -> impl Iterator<Item = &mut [u8]> {
    let (empty, rest): (Option<&mut [u8]>, &mut [u8]) =
        if batch.is_empty() { (Some(batch), &mut []) } else { (None, batch) };
    empty.into_iter().chain(rest.chunks_mut(stride.max(1)))
}

impl fmt::Debug for RxBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxBatch").field("batches", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
