//! A chunk that is under way.

use crate::chunk::Chunk;

/// A transfer's number.
pub(super) type Key = u64;

/// A chunk of a transfer, and the window that it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) key: Key,
    pub(super) index: u64,
    pub(super) chunk: Chunk,
    pub(super) window: u16,
}
