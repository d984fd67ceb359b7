//! What is to be moved, and what became of it.

use crate::error::FilesError;
use crate::path::FilePath;
use std::collections::VecDeque;

/// A file to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Where it is, below the directory of its side.
    pub from: FilePath,
    /// Where it is to be, below the other's.
    pub to: FilePath,
}

/// What became of a file.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub transfer: Transfer,
    /// Bytes of it.
    pub size: u64,
    /// How many of these were there already, and right.
    pub resumed: u64,
    /// Whether it is there, whole.
    pub result: Result<(), FilesError>,
}

/// Files to be moved. When the session ends, those that aren't done are waiting again: another session goes on.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Those that aren't done.
    pub waiting: VecDeque<Transfer>,
    /// What became of the others.
    pub outcomes: Vec<Outcome>,
}

impl Batch {
    /// A batch of these.
    pub fn new(transfers: impl IntoIterator<Item = Transfer>) -> Self {
        Self { waiting: transfers.into_iter().collect(), outcomes: Vec::new() }
    }
}

/// Whoever wants to know how far it has come.
pub trait Observer: Sync {
    /// A file of `size` bytes is being moved.
    fn begun(&self, path: &FilePath, size: u64) {
        let _ = (path, size);
    }

    /// So many bytes of it have been moved, or were there and right.
    fn moved(&self, bytes: u64) {
        let _ = bytes;
    }

    /// That is what became of it.
    fn done(&self, outcome: &Outcome) {
        let _ = outcome;
    }
}

/// Nobody.
impl Observer for () {}
