//! What a side has written into slots, told to its peer: notes, which travel as fragments of their own before
//! the next message, and before a goodbye. Where nothing was written there are none.
//!
//! The network's word for a write can be forged. Who has been told of a write takes nothing older for it.

use super::data::{DataPath, MISSING_LIMIT};
use super::sealed::Sealing;
use crate::SessionError;
use crate::control::Fragments;
use crate::seal::{MessageOpener, NOTE_ENTRY, NoteError, OVERHEAD, SealError, Slots};
use rdma_verbs::{MemoryRegion, SendRequest, Slice};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// The shortest text of a fragment that a peer of a sealed session has to take: an entry of a note.
pub(super) const SHORTEST: usize = NOTE_ENTRY;

impl Sealing {
    fn has_news(&self) -> bool {
        self.keys.slots.as_ref().is_some_and(Slots::has_news)
    }

    /// A note of what this side has written, sealed, as far as there is room in a fragment of so many bytes.
    fn seal_note(&mut self, fragment: usize) -> Result<&[u8], SealError> {
        let slots = self.keys.slots.as_mut().ok_or(SealError::Note(NoteError::NoRegion))?;
        let record = self.scratch.room(fragment.saturating_add(OVERHEAD))?;
        let told = slots.tell(&mut record[MessageOpener::TEXT_AT..][..fragment]);
        let record = &mut record[..told + OVERHEAD];
        self.keys.sealer.seal_note(record)?;
        Ok(record)
    }

    /// Takes the note that is in the first `len` bytes of `slot`; whether one is.
    pub(super) fn take_note(&mut self, slot: &Slice, len: usize) -> Result<bool, SessionError> {
        let Ok(header) = DataPath::header(slot) else { return Ok(false) };
        if len < OVERHEAD || !MessageOpener::says_note(header) {
            return Ok(false);
        }
        let record = self.scratch.room(len)?;
        DataPath::empty(slot, record)?;
        let fragment = self.keys.opener.open_in_place(record)?;
        if !fragment.note {
            // It said otherwise a moment ago.
            return Err(SealError::Message { counter: self.keys.opener.count() }.into());
        }
        let note = fragment.bytes;
        match &mut self.keys.slots {
            Some(slots) => slots.learn(note)?,
            None => return Err(SealError::Note(NoteError::NoRegion).into()),
        }
        Ok(true)
    }
}

impl DataPath {
    /// The beginning of what a receive buffer holds.
    fn header(slot: &Slice) -> Result<[u8; MessageOpener::TEXT_AT], SessionError> {
        let mut header = [0; MessageOpener::TEXT_AT];
        Self::empty(slot, &mut header)?;
        Ok(header)
    }

    /// Tells the peer what this side has written since it last told; waits for nothing but free buffers. The
    /// writes were posted before, to the same queue pair: where nobody interferes, they are carried out
    /// before the notes arrive.
    pub(crate) async fn tell(&mut self, operation: &'static str) -> Result<(), SessionError> {
        while self.sealing.as_ref().is_some_and(Sealing::has_news) {
            let slot = self.slot(operation).await?;
            // From here to posting there is no `await`: what is taken for told is sent.
            let fragment = self.fragment;
            let Some(sealing) = &mut self.sealing else { break };
            let request = match sealing.seal_note(fragment) {
                Ok(sealed) => SendRequest::send([Self::fill(slot, sealed)?]),
                Err(error) => return Err(self.condemn(error.into())),
            };
            self.post(request)?;
        }
        Ok(())
    }

    /// Opens once more what this side's program has read and the peer, as it has told, has written since, in
    /// `region`: a program that read too early, and never again, would not find out that a write was
    /// withheld. The peer has said goodbye: it is writing nothing.
    pub(crate) async fn check_read(&mut self, region: &MemoryRegion) -> Result<(), SessionError> {
        let outdated = |path: &Self, first| path.sealing.as_ref()?.keys.slots.as_ref()?.outdated(first);
        let mut first = 0;
        while let Some(slot) = outdated(self, first) {
            let payload = self.sealed_layout()?.payload();
            let mut text = Zeroizing::new(vec![0; payload]);
            self.open_local(region, u64::from(slot) * payload as u64, &mut text, 0).await?;
            first = slot.saturating_add(1);
            // There may be many of them.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Takes in what the peer has sent before it said goodbye, unless too much waits to be taken by the program.
    pub(crate) async fn hear_out(&mut self, peer: Fragments) -> Result<(), SessionError> {
        let deadline = Instant::now() + MISSING_LIMIT;
        while self.is_sealed() && self.fragments().opened < peer.sealed && !self.is_full() {
            self.check()?;
            self.progress_of(peer, deadline).await?;
        }
        Ok(())
    }
}
