//! How what a queue pair carries is protected from whoever else can reach it: a strategy, chosen once, when the session
//! begins. Nothing else of the data path asks which one it is.
//!
//! | strategy | messages | the region |
//! |---|---|---|
//! | [`Clear`] | fragments as they are; the last has an immediate | plain bytes |
//! | [`MessagesAndSlots`] | sealed fragments, counted | sealed slots, of which the writer tells |

mod clear;
mod slots;
mod units;

pub(super) use clear::Clear;
pub(super) use slots::MessagesAndSlots;
pub(super) use units::Units;

use super::messages::Partial;
use crate::SessionError;
use crate::control::Fragments;
use crate::seal::Attempts;
use rdma_verbs::{MemoryRegion, SendRequest, Slice};
use zeroize::Zeroizing;

/// What arrived in a receive buffer.
pub(super) struct Received<'a> {
    pub(super) buffer: &'a mut Slice,
    pub(super) len: usize,
    pub(super) immediate: Option<u32>,
}

/// What it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// A fragment of a message, whose last one it may be.
    Fragment { last: bool },
    /// What the peer tells of its writes.
    Announcement,
}

/// The text of units of which only a part is to be written.
pub(super) type Edges = Vec<(u64, Zeroizing<Vec<u8>>)>;

/// Seals and opens, or doesn't, what a session carries.
///
/// An error that comes from these is the end of the data path.
pub(super) trait Protection: Send + Sync {
    /// How many bytes longer a fragment of a message is than its text.
    fn overhead(&self) -> usize;

    /// The shortest text that a peer's receive buffers must have room for.
    fn shortest_text(&self) -> usize;

    /// What sends `text`, a fragment of a message, from `buffer`. What comes of this has to be posted before anything else is
    /// asked of this strategy: the peer expects it next.
    fn fragment(&mut self, buffer: Slice, text: &[u8], last: bool) -> Result<SendRequest, SessionError>;

    /// Takes what arrived; of a fragment the text goes to the end of `message`.
    fn take(&mut self, received: Received<'_>, message: &mut Partial) -> Result<Arrived, SessionError>;

    /// Fragments that were sealed and opened; `None` where nothing is counted, because an acknowledgement is believed.
    fn counts(&self) -> Option<Fragments>;

    /// Whether this side has written what the peer has to be told of.
    fn has_pending(&self) -> bool;

    /// What tells the peer of it, from `buffer`, in at most `text` bytes of text. It has to be posted next, as a
    /// [`fragment`](Self::fragment).
    fn announcement(&mut self, buffer: Slice, text: usize) -> Result<SendRequest, SessionError>;

    /// How the bytes of the client's region are packed.
    fn units(&self) -> Units;

    /// Whether it is known without reading that the unit `unit` holds zeros.
    fn is_blank(&self, unit: u64) -> bool;

    /// Puts `bytes`, which begin at `at`, into `buffer` as they are to be written there, with the rest of the first and the
    /// last unit from `edges`. It has to be posted next.
    fn put(
        &mut self,
        buffer: &mut Slice,
        at: u64,
        bytes: &[u8],
        edges: &mut Edges,
    ) -> Result<(), SessionError>;

    /// Takes `out.len()` bytes from `at` on out of `buffer`, which holds the units that a READ has brought.
    fn get(&mut self, buffer: &mut Slice, at: u64, out: &mut [u8]) -> Result<(), SessionError>;

    /// Takes `out.len()` bytes from `at` on out of this side's own `region`. Returns how many it has taken: the unit behind them
    /// is being written by the peer, and may be tried again, as often as `attempts` allows without any progress.
    fn get_local(
        &mut self,
        region: &MemoryRegion,
        at: u64,
        out: &mut [u8],
        attempts: &mut Attempts,
    ) -> Result<usize, SessionError>;

    /// The first unit from `first` on of which this side's program has read something older than what the peer has told since.
    fn outdated(&self, first: u64) -> Option<u64>;
}
