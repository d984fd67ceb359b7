//! How a session protects what its queue pair carries: a strategy that is chosen once, when the session begins. No
//! other part of the data path asks which one it is.
//!
//! | strategy | messages | the region |
//! |---|---|---|
//! | [`Clear`] | fragments as they are; the last has an immediate | plain bytes |
//! | [`MessagesAndSlots`] | sealed fragments | sealed slots, announced in manifests |

mod clear;
mod slots;
mod units;

pub(super) use clear::Clear;
pub(super) use slots::MessagesAndSlots;
pub(super) use units::Units;

use super::messages::Partial;
use crate::SessionError;
use crate::control::Fragments;
use crate::seal::{Attempts, SealError};
use rdma_verbs::{MemoryRegion, SendRequest, Slice};
use zeroize::Zeroizing;

/// What arrived in a receive buffer.
pub(super) struct Received<'a> {
    pub(super) buffer: &'a mut Slice,
    pub(super) len: usize,
    pub(super) immediate: Option<u32>,
}

/// What a receive buffer turned out to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// A fragment of a message, perhaps its last.
    Fragment { last: bool },
    /// A manifest of what the peer has written.
    Announcement,
}

/// The contents of units that are to be written only in part.
pub(super) type Edges = Vec<(u64, Zeroizing<Vec<u8>>)>;

/// Turns messages and memory into what travels, and back. Any error ends the data path.
pub(super) trait Protection: Send + Sync {
    /// How many bytes longer a fragment of a message is than its text.
    fn overhead(&self) -> usize;

    /// The shortest text that a peer's receive buffers must have room for.
    fn shortest_text(&self) -> usize;

    /// Makes the request that sends `text`, a fragment of a message, from `buffer`. It has to be posted before anything
    /// else is asked of this strategy, because the peer expects it next.
    fn fragment(&mut self, buffer: Slice, text: &[u8], last: bool) -> Result<SendRequest, SessionError>;

    /// Opens what arrived. A fragment's text is appended to `message`.
    fn take(&mut self, received: Received<'_>, message: &mut Partial) -> Result<Arrived, SessionError>;

    /// How many fragments were made, and taken.
    fn counts(&self) -> Fragments;

    /// Whether the peer would miss a request that was made and couldn't be posted.
    fn numbers_requests(&self) -> bool;

    /// Whether this side has written something that it hasn't announced yet.
    fn has_pending(&self) -> bool;

    /// Makes the request that announces those writes, in at most `text` bytes of text, from `buffer`. It has to be
    /// posted next, as a [`fragment`](Self::fragment) has.
    fn announcement(&mut self, buffer: Slice, text: usize) -> Result<SendRequest, SessionError>;

    /// How the bytes of the client's region are packed.
    fn units(&self) -> Units;

    /// Whether `unit` is known to hold zeros, without reading it.
    fn is_blank(&self, unit: u64) -> bool;

    /// Fills `buffer` with what has to be written so that the region holds `bytes` from `at` on; `edges` has
    /// the rest of the first and the last unit. The WRITE has to be posted next.
    fn put(
        &mut self,
        buffer: &mut Slice,
        at: u64,
        bytes: &[u8],
        edges: &mut Edges,
    ) -> Result<(), SessionError>;

    /// Fills `out` with the region's bytes from `at` on; `buffer` holds their units, which a READ has brought.
    fn get(&mut self, buffer: &mut Slice, at: u64, out: &mut [u8]) -> Result<(), SessionError>;

    /// Fills `out` with the bytes of this side's own `region` from `at` on, as far as no unit is being written by the
    /// peer; returns how many bytes it has filled. The unit behind them may be tried again as often as `attempts`
    /// allows.
    fn get_local(
        &mut self,
        region: &MemoryRegion,
        at: u64,
        out: &mut [u8],
        attempts: &mut Attempts,
    ) -> Result<usize, SessionError>;

    /// The first unit from `first` on whose last opened version is older than the peer's latest manifest.
    fn outdated(&self, first: u64) -> Option<u64>;
}

/// The first `len` bytes of a registered buffer.
fn lent(buffer: &mut Slice, len: usize) -> Result<&mut [u8], SealError> {
    let found = buffer.capacity() as usize;
    let bytes = buffer.bytes_mut().and_then(|bytes| bytes.get_mut(..len));
    bytes.ok_or(SealError::Size { expected: len, found })
}
