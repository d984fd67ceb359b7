//! What a sealed data path does otherwise: it seals and opens fragments of messages, and one-sided operations
//! move whole slots.
//!
//! No Rust reference reaches into registered memory, so everything is sealed into a buffer of this side's own
//! and copied from there, or copied there and opened.

use super::STEP_LIMIT;
use super::data::DataPath;
use super::reads::place;
use crate::SessionError;
use crate::control::Fragments;
use crate::seal::{Attempts, HEADER, Layout, MessageOpener, OVERHEAD, Piece, SealError, SessionKeys, Slots};
use rdma_verbs::{MemoryRegion, RemoteRegion, SendRequest, Slice};
use std::time::Duration;
use zeroize::{Zeroize, Zeroizing};

/// How long a slot that is being written may stay torn: as long as a step may take. A packet that was lost is
/// sent again within that.
pub(super) const TORN_TIMES: u32 = 1000;
const TORN_PAUSE: Duration = STEP_LIMIT.checked_div(TORN_TIMES).unwrap();

/// What seals a data path.
pub(crate) struct Sealing {
    pub(super) keys: SessionKeys,
    pub(super) scratch: Scratch,
}

/// Where sealed bytes are on their way into registered memory, or out of it. It takes memory when it is used,
/// as far as it is used: many sessions are idle.
pub(super) struct Scratch {
    bytes: Vec<u8>,
    longest: usize,
}

impl Scratch {
    pub(super) fn room(&mut self, len: usize) -> Result<&mut [u8], SealError> {
        if len > self.longest {
            return Err(SealError::Size { expected: len, found: self.longest });
        }
        if len > self.bytes.len() {
            self.bytes.resize(len, 0);
        }
        Ok(&mut self.bytes[..len])
    }
}

impl Sealing {
    /// `longest` is the length of the longest registered buffer.
    pub(super) fn new(keys: SessionKeys, longest: u32) -> Self {
        let stride = keys.slots.as_ref().map_or(0, |slots| slots.layout().stride());
        Self { keys, scratch: Scratch { bytes: Vec::new(), longest: stride.max(longest as usize) } }
    }

    pub(super) fn fragments(&self) -> Fragments {
        Fragments { sealed: self.keys.sealer.count(), opened: self.keys.opener.count() }
    }

    /// A fragment of a message, sealed.
    pub(super) fn seal_message(&mut self, last: bool, fragment: &[u8]) -> Result<&[u8], SealError> {
        let record = self.scratch.room(fragment.len().saturating_add(OVERHEAD))?;
        self.keys.sealer.seal(last, fragment, record)?;
        Ok(record)
    }

    /// Opens the fragment of `len` bytes that `slot` holds behind what is in `message`; whether it is the
    /// message's last. If it isn't, the whole message is expected to take `expected` bytes.
    pub(super) fn open_message(
        &mut self,
        slot: &Slice,
        len: usize,
        message: &mut Vec<u8>,
        expected: usize,
    ) -> Result<bool, SessionError> {
        let opener = &mut self.keys.opener;
        let Some(text) = len.checked_sub(OVERHEAD) else {
            // It is the opener's to say what that means.
            return Ok(opener.open_in_place(&mut [0; OVERHEAD][..len])?.last);
        };
        // Each byte is copied once, out of memory that others write to; what is opened is the copy, where it stays.
        let (mut header, mut tag) = ([0; HEADER], [0; OVERHEAD - HEADER]);
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        slot.read(0, &mut header)?;
        slot.read(place(HEADER + text), &mut tag)?;
        let start = message.len();
        make_room(message, text, if MessageOpener::claims_last(header) { 0 } else { expected });
        slot.append_to(place(HEADER), text, message)?;
        Ok(opener.open_parts(header, &mut message[start..], &tag)?)
    }

    /// The slots, and room for so many bytes of them.
    pub(super) fn slots(&mut self, len: usize) -> Result<(&mut Slots, &mut [u8]), SessionError> {
        let Self { keys, scratch } = self;
        Ok((keys.slots.as_mut().ok_or(SessionError::NoRegion)?, scratch.room(len)?))
    }

    /// Whether this side has written that slot of the peer's region, which nobody else writes.
    fn has_written(&self, slot: u32) -> bool {
        self.keys.slots.as_ref().is_some_and(|slots| slots.newest(slot).is_some())
    }

    /// How the region is divided.
    pub(super) fn layout(&self) -> Option<Layout> {
        self.keys.slots.as_ref().map(|slots| *slots.layout())
    }
}

/// Makes room for so many bytes more in `message`, and for `expected` in all. Where it has to be moved for
/// that, nothing is left behind at its old place.
pub(super) fn make_room(message: &mut Vec<u8>, by: usize, expected: usize) {
    let len = message.len() + by;
    if len > message.capacity() {
        move_to(message, len.max(expected).max(2 * message.capacity()));
    }
}

/// Moves `message` to where there is room for `capacity` bytes.
pub(super) fn move_to(message: &mut Vec<u8>, capacity: usize) {
    let mut moved = Vec::with_capacity(capacity);
    moved.extend_from_slice(message);
    // As a slice: of a vector each byte is wiped by itself.
    message.as_mut_slice().zeroize();
    *message = moved;
}

/// The text of one slot, wiped when it is dropped.
type Text = Zeroizing<Vec<u8>>;

fn text(layout: &Layout) -> Text {
    Zeroizing::new(vec![0; layout.payload()])
}

/// Opens `sealed`, which came from the place of the piece's slot, and puts the piece into `out`, which is as long.
pub(super) fn open_piece(
    slots: &mut Slots,
    piece: Piece,
    sealed: &[u8],
    out: &mut [u8],
    attempts: &mut Attempts,
) -> Result<(), SealError> {
    if piece.whole {
        return slots.open(piece.slot, sealed, out, attempts);
    }
    let mut whole = text(slots.layout());
    slots.open(piece.slot, sealed, &mut whole, attempts)?;
    out.copy_from_slice(&whole[piece.start..piece.start + piece.len]);
    Ok(())
}

impl DataPath {
    pub(super) fn sealed_layout(&self) -> Result<Layout, SessionError> {
        self.sealing.as_ref().and_then(Sealing::layout).ok_or(SessionError::NoRegion)
    }

    /// Writes `data` to `offset` of the plaintext of `remote`'s slots; waits for nothing but free buffers,
    /// what has to be read before, and what is being read there. Where this side may not read there, what is
    /// in a slot is known only as long as it hasn't written it.
    pub(crate) async fn post_write_sealed(
        &mut self,
        remote: &RemoteRegion,
        offset: u64,
        data: &[u8],
        may_read: bool,
    ) -> Result<(), SessionError> {
        const OPERATION: &str = "write";
        self.reads.begin();
        let layout = self.sealed_layout()?;
        let pieces = || layout.pieces(offset, data.len() as u64);
        // What is in the slots of which only a part is written: at most the first and the last one.
        let mut edges: Vec<(u32, Text)> = Vec::new();
        for Piece { slot, .. } in pieces()?.filter(|piece| !piece.whole) {
            let start = u64::from(slot) * layout.payload() as u64;
            if !may_read {
                if self.sealing.as_ref().is_some_and(|sealing| sealing.has_written(slot)) {
                    return Err(SessionError::PartOfSlot);
                }
                edges.push((slot, text(&layout)));
                continue;
            }
            edges.push((slot, self.read(remote, start, layout.payload(), Some(layout)).await?));
        }
        self.check()?;
        // What is read is compared with what this side has written last.
        let (at, len) = place(Some(&layout), &(offset..offset.saturating_add(data.len() as u64)));
        self.let_reads_pass(remote, at..at + len).await?;
        let (mut pieces, mut rest) = (pieces()?.peekable(), data);
        while let Some(first) = pieces.peek().map(|piece| piece.slot) {
            let buffer = self.slot(OPERATION).await?;
            // From here to posting there is no `await`: what this side takes for written is sent.
            let stride = u32::try_from(layout.stride()).unwrap_or(u32::MAX);
            let at_a_time = (self.slot_size / stride) as usize;
            let Some(sealing) = &mut self.sealing else { return Err(SessionError::NoRegion) };
            // One by one, while it is in the nearest cache.
            let (slots, sealed) = sealing.slots(layout.stride())?;
            let (mut buffer, mut staged) = (buffer, 0);
            let mut seal = || {
                for piece in pieces.by_ref().take(at_a_time) {
                    let bytes = rest.split_off(..piece.len).unwrap_or_default();
                    match edges.iter_mut().find(|(slot, _)| !piece.whole && *slot == piece.slot) {
                        Some((_, whole)) => {
                            whole[piece.start..piece.start + piece.len].copy_from_slice(bytes);
                            slots.seal(piece.slot, whole, sealed)?;
                        }
                        None => slots.seal(piece.slot, bytes, sealed)?,
                    }
                    buffer.write(staged, sealed)?;
                    staged += stride;
                }
                buffer.set_len(staged)?;
                Ok::<(), SessionError>(())
            };
            if let Err(error) = seal() {
                return Err(self.condemn(error));
            }
            let range = remote.range(layout.place(first), staged.into())?;
            self.post(SendRequest::write([buffer], range))?;
        }
        Ok(())
    }

    /// Opens `out.len()` bytes from `offset` of the plaintext of the slots in this side's own `region`. A
    /// slot that the peer is writing is read so many times more.
    pub(crate) async fn open_local(
        &mut self,
        region: &MemoryRegion,
        offset: u64,
        out: &mut [u8],
        times: u32,
    ) -> Result<(), SessionError> {
        // What the peer has said of its writes, if it has come.
        self.hear()?;
        self.check()?;
        let layout = self.sealed_layout()?;
        let mut rest = out;
        for piece in layout.pieces(offset, rest.len() as u64)? {
            let here = rest.split_off_mut(..piece.len).unwrap_or_default();
            let mut attempts = Attempts::again(times);
            loop {
                let Some(sealing) = &mut self.sealing else { return Err(SessionError::NoRegion) };
                let (slots, sealed) = sealing.slots(layout.stride())?;
                region.read(layout.place(piece.slot), sealed)?;
                match open_piece(slots, piece, sealed, here, &mut attempts) {
                    Ok(()) => break,
                    Err(SealError::Torn { .. }) => tokio::time::sleep(TORN_PAUSE).await,
                    Err(error) => return Err(self.condemn(error.into())),
                }
            }
        }
        Ok(())
    }
}

impl Drop for Sealing {
    fn drop(&mut self) {
        self.scratch.bytes.zeroize();
    }
}
