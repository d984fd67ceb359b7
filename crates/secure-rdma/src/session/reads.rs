//! READs, of which several may be under way, between writes and messages. What arrives goes into memory of this side's own at once: no
//! registered buffer waits for somebody to take what is in it.
//!
//! A reliable connection carries out requests in their order, so a READ finds what was written before it. What comes after a READ isn't
//! held back by it: its data may be fetched late, or once more if the answer was lost. So a write to the same place waits until the data
//! are here; otherwise they could be newer than what was asked for, or older than what this side knows to be there.

use super::data::DataPath;
use super::sealed::{Sealing, open_piece};
use crate::SessionError;
use crate::seal::{Attempts, Layout};
use core::ops::Range;
use std::collections::VecDeque;
use verbs::{RemoteRegion, SendRequest, Slice, Status};
use zeroize::Zeroizing;

const OPERATION: &str = "read";

/// What was asked for, in this order.
#[derive(Default)]
pub(super) struct Reads {
    queue: VecDeque<Read>,
    /// How many requests were posted, and how many of them have ended.
    posted: u64,
    ended: u64,
}

/// Bytes that were asked for, in one request or several.
struct Read {
    /// Which bytes: of the plaintext, if there is a layout.
    bytes: Range<u64>,
    /// Where they are sealed.
    layout: Option<Layout>,
    /// Where they are in the peer's memory.
    addresses: Range<u64>,
    /// Those that are here.
    text: Zeroizing<Vec<u8>>,
    /// It is done when so many requests have ended.
    until: u64,
    whose: Whose,
    /// What became of a request that failed.
    failed: Option<Status>,
}

/// Who takes what was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The operation that is under way. Where another one begins, this one was cancelled.
    Operation,
    /// The program, when it asks for the next one.
    Program,
    Nobody,
}

impl Reads {
    /// Wipes what nobody has taken; what is still on its way won't be looked at.
    pub(super) fn forget(&mut self) {
        self.queue.clear();
    }

    /// A new operation begins: one that was cancelled takes nothing any more.
    fn begin(&mut self) {
        if let Some(read) = self.queue.back_mut()
            && read.whose == Whose::Operation
        {
            read.whose = Whose::Nobody;
            read.text = Zeroizing::default();
        }
        while self.queue.front().is_some_and(|read| read.whose == Whose::Nobody && read.until <= self.ended) {
            self.queue.pop_front();
        }
    }

    /// How many requests have to end before the last byte of `addresses` is here that was asked for.
    fn before(&self, addresses: &Range<u64>) -> u64 {
        let under_way = self.queue.iter().rev().take_while(|read| read.until > self.ended);
        let overlaps =
            |read: &&Read| read.addresses.start < addresses.end && addresses.start < read.addresses.end;
        under_way.filter(overlaps).map(|read| read.until).next().unwrap_or(0)
    }
}

impl Read {
    /// How many bytes from `at` on are read into a buffer of that size.
    fn part(&self, at: u64, buffer: u32) -> u64 {
        let (unit, units) = match &self.layout {
            Some(layout) => (layout.payload() as u64, (u64::from(buffer) / layout.stride() as u64).max(1)),
            None => (1, buffer.into()),
        };
        ((at / unit + units) * unit).min(self.bytes.end) - at
    }

    /// Takes the next part, which is in `slot`.
    fn take(&mut self, slot: &Slice, buffer: u32, sealing: Option<&mut Sealing>) -> Result<(), SessionError> {
        let at = self.bytes.start + self.text.len() as u64;
        let part = self.part(at, buffer);
        let Some(layout) = &self.layout else {
            return Ok(slot.append_to(0, usize::try_from(part).unwrap_or(usize::MAX), &mut self.text)?);
        };
        let stride = layout.stride();
        let (slots, sealed) = sealing.ok_or(SessionError::NoRegion)?.slots(stride)?;
        let mut from = 0;
        for piece in layout.pieces(at, part)? {
            slot.read(from, sealed)?;
            from += u32::try_from(stride).unwrap_or(u32::MAX);
            let start = self.text.len();
            self.text.resize(start + piece.len, 0);
            // What this side wrote before is there, nothing that it writes now is, and nobody else writes.
            open_piece(slots, piece, sealed, &mut self.text[start..], &mut Attempts::once())?;
        }
        Ok(())
    }
}

/// Where these bytes, of the plaintext if there is a layout, are in the region, and how many they are there.
pub(super) fn place(layout: Option<&Layout>, bytes: &Range<u64>) -> (u64, u64) {
    let Some(layout) = layout else { return (bytes.start, bytes.end - bytes.start) };
    let (payload, stride) = (layout.payload() as u64, layout.stride() as u64);
    let (first, end) = (bytes.start / payload, bytes.end.div_ceil(payload));
    (first * stride, (end - first) * stride)
}

impl DataPath {
    /// Reads `len` bytes of `remote` from `offset` on, of the plaintext if it has a layout.
    pub(crate) async fn read(
        &mut self,
        remote: &RemoteRegion,
        offset: u64,
        len: usize,
        layout: Option<Layout>,
    ) -> Result<Zeroizing<Vec<u8>>, SessionError> {
        self.ask(remote, offset, len, layout).await?;
        self.reads_end(self.reads.posted).await?;
        self.check()?;
        let Some(mut read) = self.reads.queue.pop_back() else { return Err(SessionError::Closed) };
        Ok(core::mem::take(&mut read.text))
    }

    /// Asks for bytes as [`Self::read`] does, which [`Self::next_read`] takes then; waits for nothing but free buffers.
    pub(crate) async fn post_read(
        &mut self,
        remote: &RemoteRegion,
        offset: u64,
        len: usize,
        layout: Option<Layout>,
    ) -> Result<(), SessionError> {
        self.ask(remote, offset, len, layout).await?;
        if let Some(read) = self.reads.queue.back_mut() {
            read.whose = Whose::Program;
        }
        Ok(())
    }

    /// The oldest of what was posted to be read and hasn't been taken; `None` if there is none.
    pub(crate) async fn next_read(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        loop {
            self.check()?;
            self.reads.begin();
            let Some(until) = self.reads.queue.front().map(|read| read.until) else { return Ok(None) };
            if until > self.reads.ended {
                self.reads_end(until).await?;
                continue;
            }
            let Some(mut read) = self.reads.queue.pop_front() else { return Ok(None) };
            return match read.failed {
                Some(status) => Err(SessionError::Operation { operation: OPERATION, status }),
                None => Ok(Some(core::mem::take(&mut *read.text))),
            };
        }
    }

    /// Waits until all has arrived that was asked for of these bytes of `remote`.
    pub(super) async fn let_reads_pass(
        &mut self,
        remote: &RemoteRegion,
        place: Range<u64>,
    ) -> Result<(), SessionError> {
        let addresses = remote.addr.wrapping_add(place.start)..remote.addr.wrapping_add(place.end);
        self.reads_end(self.reads.before(&addresses)).await
    }

    /// A request to read has ended; `slot` holds what has come.
    pub(super) fn read_ended(&mut self, slot: &Slice, status: Status) -> Result<(), SessionError> {
        let number = self.reads.ended;
        self.reads.ended += 1;
        // They end in their order.
        let at = self.reads.queue.partition_point(|read| read.until <= number);
        let Some(read) = self.reads.queue.get_mut(at) else { return Ok(()) };
        if status != Status::Success {
            read.failed.get_or_insert(status);
            return Ok(());
        }
        if read.whose == Whose::Nobody {
            return Ok(());
        }
        read.take(slot, self.slot_size, self.sealing.as_mut()).map_err(|error| self.condemn(error))
    }

    async fn ask(
        &mut self,
        remote: &RemoteRegion,
        offset: u64,
        len: usize,
        layout: Option<Layout>,
    ) -> Result<(), SessionError> {
        self.check()?;
        self.reads.begin();
        let bytes = offset..offset.saturating_add(len as u64);
        let (at, sealed_len) = place(layout.as_ref(), &bytes);
        remote.range(at, sealed_len)?;
        let start = remote.addr.wrapping_add(at);
        self.reads.queue.push_back(Read {
            bytes: bytes.clone(),
            layout,
            addresses: start..start.wrapping_add(sealed_len),
            text: Zeroizing::new(Vec::with_capacity(len)),
            until: self.reads.posted,
            whose: Whose::Operation,
            failed: None,
        });
        let mut at = offset;
        while at < bytes.end {
            let mut slot = self.slot(OPERATION).await?;
            // A session that was condemned meanwhile has forgotten what was asked for.
            let Some(read) = self.reads.queue.back_mut() else { return Err(SessionError::Closed) };
            let end = at + read.part(at, self.slot_size);
            let (from, sealed_len) = place(layout.as_ref(), &(at..end));
            slot.set_len(u32::try_from(sealed_len).unwrap_or(u32::MAX))?;
            self.post(SendRequest::read([slot], remote.range(from, sealed_len)?))?;
            self.reads.posted += 1;
            if let Some(read) = self.reads.queue.back_mut() {
                read.until = self.reads.posted;
            }
            at = end;
        }
        Ok(())
    }

    /// Waits until so many requests to read have ended.
    async fn reads_end(&mut self, count: u64) -> Result<(), SessionError> {
        while self.reads.ended < count {
            let slot = self.finish(OPERATION).await?;
            self.slots.push(slot);
        }
        Ok(())
    }
}
