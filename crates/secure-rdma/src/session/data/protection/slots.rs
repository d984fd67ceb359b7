//! Messages sealed fragment by fragment, and the region in sealed slots: end to end, on any device (`docs/sealing.md`).
//!
//! No peer can reach the registered buffers, so messages and slots are sealed into the buffers that they are sent
//! from, and opened out of the buffers that they came in. A peer can reach this side's own region, so its slots are
//! copied, and the copies opened.

use super::{Arrived, Edges, Partial, Protection, Received, Units, lent};
use crate::SessionError;
use crate::control::Fragments;
use crate::seal::{
    Attempts, Layout, MANIFEST_ENTRY, ManifestError, MessageOpener, OVERHEAD, Piece, SealError, SessionKeys,
    Slots,
};
use rdma_verbs::{MemoryRegion, SendRequest, Slice};
use zeroize::Zeroizing;

/// Seals and opens with a session's keys.
pub(in crate::session) struct MessagesAndSlots {
    keys: SessionKeys,
    /// Room for a slot of this side's own region, made when one is first read.
    copy: Vec<u8>,
}

impl MessagesAndSlots {
    pub(in crate::session) const fn new(keys: SessionKeys) -> Self {
        Self { keys, copy: Vec::new() }
    }

    fn layout(&self) -> Result<Layout, SessionError> {
        self.keys.slots.as_ref().map(|slots| *slots.layout()).ok_or(SessionError::NoRegion)
    }

    fn slots(&mut self) -> Result<&mut Slots, SessionError> {
        self.keys.slots.as_mut().ok_or(SessionError::NoRegion)
    }
}

/// Opens `sealed`, the slot that `piece` is a part of, and copies the piece into `out`, which is as long.
fn open_piece(
    slots: &mut Slots,
    piece: Piece,
    sealed: &[u8],
    out: &mut [u8],
    attempts: &mut Attempts,
) -> Result<(), SealError> {
    if piece.whole {
        return slots.open(piece.slot, sealed, out, attempts);
    }
    let mut whole = Zeroizing::new(vec![0; slots.layout().payload()]);
    slots.open(piece.slot, sealed, &mut whole, attempts)?;
    out.copy_from_slice(&whole[piece.start..piece.start + piece.len]);
    Ok(())
}

impl Protection for MessagesAndSlots {
    fn overhead(&self) -> usize {
        OVERHEAD
    }

    /// The length of a manifest's entry.
    fn shortest_text(&self) -> usize {
        MANIFEST_ENTRY
    }

    fn fragment(&mut self, mut buffer: Slice, text: &[u8], last: bool) -> Result<SendRequest, SessionError> {
        let record = lent(&mut buffer, text.len().saturating_add(OVERHEAD))?;
        self.keys.sealer.seal(last, text, record)?;
        let len = u32::try_from(record.len()).unwrap_or(u32::MAX);
        buffer.set_len(len)?;
        Ok(SendRequest::send([buffer]))
    }

    fn take(&mut self, received: Received<'_>, message: &mut Partial) -> Result<Arrived, SessionError> {
        let Received { buffer, len, immediate } = received;
        if immediate.is_some() {
            return Err(SessionError::Protocol { what: "a message with an immediate that means nothing" });
        }
        let record = lent(buffer, len)?;
        let opener = &mut self.keys.opener;
        let (Some(&header), Some(text)) = (record.first_chunk(), len.checked_sub(OVERHEAD)) else {
            // It is the opener's to say what that means.
            return Ok(Arrived::Fragment { last: opener.open_in_place(record)?.last });
        };
        if MessageOpener::claims_manifest(header) {
            let manifest = opener.open_in_place(record)?.bytes;
            match &mut self.keys.slots {
                Some(slots) => slots.apply(manifest)?,
                None => return Err(SealError::Manifest(ManifestError::NoRegion).into()),
            }
            return Ok(Arrived::Announcement);
        }
        message.make_room(text, MessageOpener::claims_last(header));
        let opened = opener.open(record, message.grow(text))?;
        Ok(Arrived::Fragment { last: opened.last })
    }

    fn counts(&self) -> Fragments {
        Fragments { sent: self.keys.sealer.count(), arrived: self.keys.opener.count() }
    }

    fn numbers_requests(&self) -> bool {
        true
    }

    fn has_pending(&self) -> bool {
        self.keys.slots.as_ref().is_some_and(Slots::has_pending)
    }

    fn announcement(&mut self, mut buffer: Slice, text: usize) -> Result<SendRequest, SessionError> {
        let slots = self.keys.slots.as_mut().ok_or(SealError::Manifest(ManifestError::NoRegion))?;
        let record = lent(&mut buffer, text.saturating_add(OVERHEAD))?;
        let told = slots.announce(&mut record[MessageOpener::TEXT_AT..][..text]);
        let record = &mut record[..told + OVERHEAD];
        self.keys.sealer.seal_manifest(record)?;
        let len = u32::try_from(record.len()).unwrap_or(u32::MAX);
        buffer.set_len(len)?;
        Ok(SendRequest::send([buffer]))
    }

    fn units(&self) -> Units {
        let units = |layout: Layout| Units { text: layout.payload() as u64, stride: layout.stride() as u64 };
        self.layout().map_or(Units::PLAIN, units)
    }

    fn is_blank(&self, unit: u64) -> bool {
        let newest = |slots: &Slots| u32::try_from(unit).ok().and_then(|slot| slots.newest(slot));
        self.keys.slots.as_ref().is_some_and(|slots| newest(slots).is_none())
    }

    fn put(
        &mut self,
        buffer: &mut Slice,
        at: u64,
        bytes: &[u8],
        edges: &mut Edges,
    ) -> Result<(), SessionError> {
        let layout = self.layout()?;
        let slots = self.slots()?;
        let capacity = buffer.capacity() as usize;
        let mut sealed = lent(buffer, capacity)?;
        let (mut at, mut rest, mut len) = (at, bytes, 0);
        let (payload, stride) = (layout.payload(), layout.stride());
        while let Some(piece) = layout.pieces(at, rest.len() as u64)?.next() {
            // Whole slots go together.
            let count = if piece.whole { rest.len() / payload } else { 1 };
            let text =
                rest.split_off(..if piece.whole { count * payload } else { piece.len }).unwrap_or_default();
            let size = SealError::Size { expected: count * stride, found: sealed.len() };
            let out = sealed.split_off_mut(..count * stride).ok_or(size)?;
            let unit = u64::from(piece.slot);
            match edges.iter_mut().find(|(edge, _)| !piece.whole && *edge == unit) {
                Some((_, whole)) => {
                    whole[piece.start..piece.start + piece.len].copy_from_slice(text);
                    slots.seal(piece.slot, whole, out)?;
                }
                None => slots.seal_run(piece.slot, text, out)?,
            }
            at += text.len() as u64;
            len += out.len();
        }
        Ok(buffer.set_len(u32::try_from(len).unwrap_or(u32::MAX))?)
    }

    fn get(&mut self, buffer: &mut Slice, at: u64, out: &mut [u8]) -> Result<(), SessionError> {
        let layout = self.layout()?;
        let slots = self.slots()?;
        let capacity = buffer.capacity() as usize;
        let mut sealed = &*lent(buffer, capacity)?;
        let mut rest = out;
        for piece in layout.pieces(at, rest.len() as u64)? {
            let size = SealError::Size { expected: layout.stride(), found: sealed.len() };
            let slot = sealed.split_off(..layout.stride()).ok_or(size)?;
            let here = rest.split_off_mut(..piece.len).unwrap_or_default();
            // What this side wrote before is there, nothing that it writes now is, and nobody else writes.
            open_piece(slots, piece, slot, here, &mut Attempts::once())?;
        }
        Ok(())
    }

    fn get_local(
        &mut self,
        region: &MemoryRegion,
        at: u64,
        out: &mut [u8],
        attempts: &mut Attempts,
    ) -> Result<usize, SessionError> {
        let layout = self.layout()?;
        let Self { keys, copy } = self;
        let slots = keys.slots.as_mut().ok_or(SessionError::NoRegion)?;
        copy.resize(layout.stride(), 0);
        let (mut rest, mut taken) = (out, 0);
        for piece in layout.pieces(at, rest.len() as u64)? {
            region.read(layout.place(piece.slot), copy)?;
            let here = rest.split_off_mut(..piece.len).unwrap_or_default();
            match open_piece(slots, piece, copy, here, attempts) {
                Ok(()) => taken += piece.len,
                Err(SealError::Torn { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(taken)
    }

    fn outdated(&self, first: u64) -> Option<u64> {
        let first = u32::try_from(first).ok()?;
        self.keys.slots.as_ref()?.outdated(first).map(u64::from)
    }
}
