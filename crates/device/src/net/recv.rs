//! Receiving: one system call takes several batches, each of several datagrams.

use core::fmt;
use std::io::IoSliceMut;
use std::net::SocketAddr;

use quinn_udp::RecvMeta;

use super::Socket;
use super::counters::add;
use super::sys::Batch;

/// Batches that one system call takes at most.
const BATCHES: usize = 8;

/// Bytes of the largest batch that the kernel puts together.
const BATCH: usize = 1 << 16;

/// Where a socket's datagrams arrive: memory for one system call.
pub struct RecvBuffers {
    bytes: Box<[u8]>,
    meta: [RecvMeta; BATCHES],
    /// What the last call brought.
    pace: Pace,
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
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Where it came from. It was sent to the socket's own address.
    pub src: SocketAddr,
    /// Its place in the batch that it arrived in: what its IP identification probably is, if the sender sent
    /// that batch at once.
    pub index: u16,
    /// The UDP payload.
    pub bytes: &'a [u8],
}

impl RecvBuffers {
    /// Memory for one system call: half a mebibyte.
    #[must_use]
    pub fn new() -> Self {
        let bytes = vec![0; BATCHES * BATCH].into();
        Self { bytes, meta: [RecvMeta::default(); BATCHES], pace: Pace::Paused }
    }
}

impl Default for RecvBuffers {
    fn default() -> Self {
        Self::new()
    }
}

/// What one [`Socket::recv`] brought.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    meta: &'a [RecvMeta],
    bytes: &'a [u8],
    /// How many batches there was room for.
    room: usize,
}

impl<'a> Received<'a> {
    /// The datagrams in the order of arrival.
    pub fn datagrams(self) -> impl Iterator<Item = Datagram<'a>> {
        self.meta.iter().zip(self.bytes.chunks_exact(BATCH)).flat_map(|(meta, bytes)| {
            let datagrams = (0..).zip(segments(&bytes[..meta.len.min(BATCH)], meta.stride));
            datagrams.map(|(index, bytes)| Datagram { src: meta.addr, index, bytes })
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.meta.is_empty()
    }

    /// Whether more is likely to wait: there was room for no further batch, and what came isn't a single
    /// datagram after a pause.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.is_all() && self.meta.iter().any(|meta| self.room > 1 || meta.len > meta.stride)
    }

    /// Whether the socket was empty at that moment.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.meta.len() < self.room
    }
}

impl Socket {
    /// Receives once. Errors are counted, not reported: on a UDP socket they concern datagrams sent earlier.
    ///
    /// Unless more than one came the last times, it looks for one batch only: what comes after a pause is
    /// mostly a single datagram, which somebody waits for, and to prepare for more, and find that there's
    /// none, takes as long as to receive it.
    pub fn recv<'a>(&self, buffers: &'a mut RecvBuffers) -> Received<'a> {
        let RecvBuffers { bytes, meta, pace } = buffers;
        let (batches, room) = if *pace == Pace::Flowing {
            let mut free = bytes.chunks_exact_mut(BATCH);
            let mut slices: [_; BATCHES] =
                core::array::from_fn(|_| IoSliceMut::new(free.next().unwrap_or_default()));
            (self.receive(&mut slices, meta), BATCHES)
        } else {
            let batch = self.receive_one(&mut bytes[..BATCH]);
            if let Some(Batch { len, stride, from }) = batch {
                (meta[0].len, meta[0].stride, meta[0].addr) = (len, stride, from);
            }
            (usize::from(batch.is_some()), 1)
        };
        let meta = &meta[..batches];
        let datagrams = meta.iter().map(|meta| meta.len.div_ceil(meta.stride.max(1)).max(1)).sum::<usize>();
        *pace = pace.after(datagrams);
        if datagrams > 0 {
            let total = meta.iter().map(|meta| meta.len).sum::<usize>();
            add(&self.counters().datagrams_received, datagrams as u64);
            add(&self.counters().bytes_received, total as u64);
        }
        Received { meta, bytes, room }
    }
}

/// The datagrams of a batch: `stride` bytes each, the last perhaps shorter. An empty datagram is one too.
fn segments(batch: &[u8], stride: usize) -> impl Iterator<Item = &[u8]> {
    let empty = batch.is_empty().then_some(batch);
    empty.into_iter().chain(batch.chunks(stride.max(1)))
}

impl fmt::Debug for RecvBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBuffers").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
