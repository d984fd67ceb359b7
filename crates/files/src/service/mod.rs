//! The server's side: a directory that is offered, to many sessions at a time.
//!
//! | file | what it holds |
//! |---|---|
//! | `options` | what is offered, and its limits |
//! | `guest` | what a session has open, and the requests that are carried out for it |
//! | `shared` | what all sessions have in common, and what is counted of each |

mod guest;
mod options;
mod shared;

pub use options::ServiceOptions;
pub use shared::Moved;

use crate::message::{Answer, decode_greeting, encode_answer};
use crate::refusal::Refusal;
use crate::root::Root;
use guest::Guest;
use secure_rdma::{Session, SessionError};
use shared::Shared;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Descriptors that an open file takes: its own, its folder's, and one while its path is looked at.
const DESCRIPTORS: u64 = 3;

/// A directory that is offered. What it does on disks is done by threads that may wait, and by so many at a time,
/// whatever number of sessions there is.
#[derive(Clone, Debug)]
pub struct Service(Arc<Shared>);

impl Service {
    /// Offers the directory at `path`.
    ///
    /// # Errors
    /// There is none, it can't be opened, or the kernel can't keep names in it.
    pub fn open(path: &Path, options: ServiceOptions) -> Result<Self, Refusal> {
        let root = Arc::new(Root::open(path)?);
        let disk = Arc::new(Semaphore::new(options.disk_jobs.max(1)));
        let open = Arc::new(Semaphore::new(options.max_open.max(1)));
        Ok(Self(Arc::new(Shared { root, options, disk, open })))
    }

    /// The descriptors that it takes at most.
    #[must_use]
    pub fn descriptors(&self) -> u64 {
        DESCRIPTORS.saturating_mul(self.0.options.max_open.saturating_add(self.0.options.disk_jobs) as u64)
    }

    /// Serves a session whose first message is `greeting`, until its client says goodbye.
    ///
    /// # Errors
    /// The session is over, or its client breaks the protocol, or has asked for nothing for too long. Whoever called
    /// ends it.
    pub async fn serve(
        &self,
        session: &mut Session,
        greeting: &[u8],
        moved: &mut Moved,
    ) -> Result<(), SessionError> {
        Guest::new(Arc::clone(&self.0), session, moved).stay(greeting).await
    }
}

/// What a server that offers no files answers to a session's first message, if a client for files has sent it.
#[must_use]
pub fn decline(message: &[u8]) -> Option<Vec<u8>> {
    let (tag, _) = decode_greeting(message).ok()?;
    Some(encode_answer(tag, Answer::Refused(Refusal::not_offered())))
}
