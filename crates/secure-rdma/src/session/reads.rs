//! READs, of which several may be under way, between writes and messages. What has arrived goes into memory
//! of this side's own as soon as any operation looks: no registered buffer waits for somebody to take what is
//! in it.
//!
//! A reliable connection carries out requests in their order, so a READ finds what was written before it.
//! What comes after a READ isn't held back by it: its data may be fetched late, or once more if the answer
//! was lost. So a write to the same place waits until the data are here; otherwise they could be newer than
//! what was asked for, or older than what this side knows to be there.

use super::data::DataPath;
use super::sealed::{Sealing, open_piece};
use crate::SessionError;
use crate::seal::{Attempts, Layout};
use core::ops::Range;
use rdma_verbs::{RemoteRegion, SendRequest, Slice, Status};
use std::collections::VecDeque;
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
    /// Its requests are those behind so many.
    from: u64,
    /// It is done when so many requests have ended.
    until: u64,
    whose: Whose,
    /// What became of a request that failed.
    failed: Option<Status>,
}

/// Who takes what was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The operation that is under way. Where another one begins, whatever it does, this one was cancelled.
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

    /// A new operation begins, whatever it does: one that was cancelled takes nothing any more.
    pub(super) fn begin(&mut self) {
        let Some(read) = self.queue.back_mut().filter(|read| read.whose == Whose::Operation) else { return };
        read.whose = Whose::Nobody;
        read.text = Zeroizing::default();
        if read.until <= self.ended || read.until == read.from {
            self.queue.pop_back();
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
        (at / unit).saturating_add(units).saturating_mul(unit).min(self.bytes.end) - at
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
            let mine = |read: &Read| read.whose == Whose::Program;
            let Some(at) = self.reads.queue.iter().position(mine) else { return Ok(None) };
            let Some(until) = self.reads.queue.get(at).map(|read| read.until) else { return Ok(None) };
            if until > self.reads.ended {
                self.reads_end(until).await?;
                continue;
            }
            let Some(mut read) = self.reads.queue.remove(at) else { return Ok(None) };
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
        if read.whose == Whose::Nobody {
            if read.until == self.reads.ended {
                self.reads.queue.remove(at);
            }
            return Ok(());
        }
        if status != Status::Success {
            read.failed.get_or_insert(status);
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
            from: self.reads.posted,
            until: self.reads.posted,
            whose: Whose::Operation,
            failed: None,
        });
        let mut at = offset;
        while at < bytes.end {
            // A session that was condemned meanwhile has forgotten what was asked for.
            let Some(read) = self.reads.queue.back() else { return Err(SessionError::Closed) };
            let end = at + read.part(at, self.slot_size);
            let (from, sealed_len) = place(layout.as_ref(), &(at..end));
            let range = remote.range(from, sealed_len)?;
            let mut slot = self.slot(OPERATION).await?;
            slot.set_len(u32::try_from(sealed_len).unwrap_or(u32::MAX))?;
            self.post(SendRequest::read([slot], range))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(reads: &mut Reads, requests: u64, whose: Whose) {
        let from = reads.posted;
        reads.posted += requests;
        let text = Zeroizing::new(vec![1]);
        let (bytes, addresses, until) = (0..1, 0..1, reads.posted);
        reads.queue.push_back(Read {
            bytes,
            layout: None,
            addresses,
            text,
            from,
            until,
            whose,
            failed: None,
        });
    }

    #[test]
    fn of_a_cancelled_read_nothing_stays_when_the_next_operation_begins() {
        let mut reads = Reads::default();
        asked(&mut reads, 1, Whose::Program);
        for requests in [0, 1, 0] {
            asked(&mut reads, requests, Whose::Operation);
            reads.begin();
            reads.begin();
            assert!(reads.queue.iter().skip(1).all(|read| read.text.is_empty()));
        }
        assert_eq!(reads.queue.len(), 2, "what the program wants, and what is still on its way");
        reads.ended = reads.posted;
        asked(&mut reads, 0, Whose::Operation);
        reads.begin();
        assert_eq!(reads.queue.front().map(|read| read.text.len()), Some(1));
    }

    #[test]
    fn the_last_part_of_the_largest_region_is_a_part() {
        let end = u64::MAX;
        let (bytes, addresses, text) = (end - 100..end, 0..0, Zeroizing::default());
        let whose = Whose::Program;
        let read = Read { bytes, layout: None, addresses, text, from: 0, until: 0, whose, failed: None };
        assert_eq!(read.part(end - 100, 1 << 16), 100);
    }
}
