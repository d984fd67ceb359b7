//! Waiting for completions.

use crate::SessionError;
use rdma_verbs::{AsyncCompletionQueue, Completion};
use std::time::{Duration, Instant};

/// The most completions taken at a time.
pub(super) const BATCH: usize = 16;

/// The longest that a thread polls before it sleeps.
const BUSY_POLL_LIMIT: Duration = Duration::from_millis(1);

/// The longest that a polling thread keeps its runtime's other tasks waiting.
const BURST: Duration = Duration::from_micros(20);

/// A data path's completion queue, with the completions that were taken from it and not handled yet.
pub(super) struct Completions {
    queue: AsyncCompletionQueue,
    /// Completions that [`Self::take`] will return. They are kept here, not on the stack, so that cancelling a
    /// wait loses none.
    taken: Vec<Completion>,
    /// How long a thread looks for completions before it sleeps.
    busy_poll: Duration,
}

impl Completions {
    pub(super) fn new(queue: AsyncCompletionQueue, busy_poll: Duration) -> Self {
        Self { queue, taken: Vec::new(), busy_poll: busy_poll.min(BUSY_POLL_LIMIT) }
    }

    pub(super) fn set_busy_poll(&mut self, time: Duration) {
        self.busy_poll = time.min(BUSY_POLL_LIMIT);
    }

    /// Waits until [`Self::take`] has completions to return. Polling gives the runtime's other tasks their turn at once
    /// where `wanted` says that one waits for this data path.
    pub(super) async fn wait(&mut self, wanted: impl Fn() -> bool) -> Result<(), SessionError> {
        if !self.busy_poll.is_zero() && self.poll_for(self.busy_poll, wanted).await? {
            return Ok(());
        }
        Box::pin(self.queue.completions(&mut self.taken, BATCH)).await?;
        Ok(())
    }

    /// Polls for up to `long`; returns whether there are completions. Time is the system's: tokio's clock stands
    /// still in a test that has paused it.
    async fn poll_for(&mut self, long: Duration, wanted: impl Fn() -> bool) -> Result<bool, SessionError> {
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
            if now - yielded >= BURST || wanted() {
                tokio::task::yield_now().await;
                yielded = Instant::now();
            }
        }
    }

    /// Polls once, for up to [`BATCH`] completions; returns whether there were any.
    pub(super) fn poll(&mut self) -> Result<bool, SessionError> {
        Ok(self.queue.poll(&mut self.taken, BATCH)? > 0)
    }

    /// Returns the completions that were taken; [`Self::put_back`] gives the vector back for reuse.
    pub(super) fn take(&mut self) -> Vec<Completion> {
        core::mem::take(&mut self.taken)
    }

    /// Takes back an empty vector from [`Self::take`].
    pub(super) fn put_back(&mut self, empty: Vec<Completion>) {
        self.taken = empty;
    }
}
