//! Waiting for completions.

use crate::SessionError;
use rdma_verbs::{AsyncChannel, Completion, CompletionQueue};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Completions taken at a time.
pub(super) const BATCH: usize = 16;

/// A thread that polls lets its other tasks run at least so often.
const BURST: Duration = Duration::from_micros(20);

/// The completion queue of a data path, and what was taken from it and not looked at yet.
pub(super) struct Completions {
    queue: Arc<CompletionQueue>,
    channel: AsyncChannel,
    /// Kept here, not on the stack: a wait that is cancelled loses nothing.
    taken: Vec<Completion>,
    /// How long a thread looks for completions before it sleeps.
    busy_poll: Duration,
}

impl Completions {
    pub(super) fn new(queue: Arc<CompletionQueue>, channel: AsyncChannel, busy_poll: Duration) -> Self {
        Self { queue, channel, taken: Vec::new(), busy_poll }
    }

    /// Waits until there are any, for [`Self::take`].
    pub(super) async fn wait(&mut self) -> Result<(), SessionError> {
        if !self.busy_poll.is_zero() && self.poll_for(self.busy_poll).await? {
            return Ok(());
        }
        Box::pin(self.channel.completions(&self.queue, &mut self.taken, BATCH)).await?;
        Ok(())
    }

    /// Looks for completions for so long; whether there are any. By the system's clock: tokio's stands still in a test
    /// that has paused it.
    async fn poll_for(&mut self, long: Duration) -> Result<bool, SessionError> {
        let since = Instant::now();
        let mut yielded = since;
        loop {
            if self.poll()? {
                return Ok(true);
            }
            let now = Instant::now();
            if now - since >= long {
                return Ok(false);
            }
            if now - yielded >= BURST {
                tokio::task::yield_now().await;
                yielded = Instant::now();
            }
        }
    }

    /// Takes what is there, at most [`BATCH`]; whether that is anything.
    pub(super) fn poll(&mut self) -> Result<bool, SessionError> {
        Ok(self.queue.poll(&mut self.taken, BATCH)? > 0)
    }

    /// What was taken; [`Self::put_back`] returns its room.
    pub(super) fn take(&mut self) -> Vec<Completion> {
        core::mem::take(&mut self.taken)
    }

    /// Takes back an empty vector from [`Self::take`].
    pub(super) fn put_back(&mut self, empty: Vec<Completion>) {
        self.taken = empty;
    }
}
