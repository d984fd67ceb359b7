//! Completion channels for tokio.

use crate::{Completion, CompletionChannel, CompletionQueue, Error};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A channel registered with tokio's reactor.
#[derive(Debug)]
pub struct AsyncChannel {
    fd: AsyncFd<Registered>,
}

#[derive(Debug)]
struct Registered(Arc<CompletionChannel>);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsyncChannel {
    /// Registers `channel` with the current runtime.
    ///
    /// # Errors
    /// The runtime refused.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O, as tokio does.
    pub fn new(channel: Arc<CompletionChannel>) -> Result<Self, Error> {
        // SAFETY: `Registered` names the descriptor that its channel owns, always the same one, and keeps
        // the channel, so the descriptor stays open until the `AsyncFd` has given it up.
        #[expect(unsafe_code, reason = "tokio can't see that the descriptor stays open")]
        let fd = unsafe { AsyncFd::register_with_interest(Registered(channel), Interest::READABLE) };
        Ok(Self { fd: fd.map_err(|error| Error::Wait(error.into()))? })
    }

    /// The next event: the number of the queue that it came from. Cancelling loses nothing.
    ///
    /// # Errors
    /// The reactor is gone.
    pub async fn event(&self) -> Result<u64, Error> {
        loop {
            let mut ready = self.fd.readable().await.map_err(Error::Wait)?;
            match ready.get_inner().0.try_event()? {
                Some(event) => return Ok(event),
                None => ready.clear_ready(),
            }
        }
    }

    /// Waits until `queue`, the only one of this channel, has completions, and moves up to `max` to the
    /// end of `out`. Cancelling loses nothing.
    ///
    /// # Errors
    /// The queue overflowed, or the reactor is gone.
    pub async fn completions(
        &self,
        queue: &CompletionQueue,
        out: &mut Vec<Completion>,
        max: usize,
    ) -> Result<usize, Error> {
        loop {
            let count = queue.poll_or_arm(out, max)?;
            if count > 0 {
                return Ok(count);
            }
            self.event().await?;
        }
    }
}
