//! What all sessions of a service have in common, and what is counted of each.

use super::options::ServiceOptions;
use crate::root::Root;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What all sessions have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) root: Arc<Root>,
    pub(super) options: ServiceOptions,
    /// Disk jobs that are carried out at a time.
    pub(super) disk: Arc<Semaphore>,
    /// Files that may be open.
    pub(super) open: Arc<Semaphore>,
}

/// What a session has moved, as far as it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Files that were read to their end.
    pub files_read: u64,
    /// Bytes of files that were put where the client reads them.
    pub bytes_read: u64,
    /// Files that were written, and are whole.
    pub files_written: u64,
    /// Bytes of files that were written.
    pub bytes_written: u64,
    /// Requests that were refused.
    pub refused: u64,
}
