//! Completion channels.

use crate::{Device, Error, provider};
use core::fmt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A completion channel: a file descriptor that becomes readable when an armed completion queue gets an entry.
pub struct CompletionChannel {
    provider: provider::CompletionChannel,
}

impl Device {
    /// A completion channel.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn completion_channel(&self) -> Result<Arc<CompletionChannel>, Error> {
        Ok(Arc::new(CompletionChannel { provider: self.provider().completion_channel()? }))
    }
}

impl CompletionChannel {
    pub(crate) fn provider(&self) -> &provider::CompletionChannel {
        &self.provider
    }

    /// Takes an event if there is one: the number of the queue that it came from.
    ///
    /// # Errors
    /// A libibverbs device is gone.
    pub fn try_event(&self) -> Result<Option<u64>, Error> {
        self.provider.try_event()
    }

    /// Sleeps until there is an event, at most `timeout`; `None` means for ever.
    ///
    /// # Errors
    /// The operating system refused to wait, or the device is gone.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Option<u64>, Error> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(event) = self.try_event()? {
                return Ok(Some(event));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            // What doesn't fit the system's type is as good as for ever.
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(self, PollFlags::IN)], left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Error::Wait(error.into())),
            }
        }
    }
}

impl AsFd for CompletionChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.provider.as_fd()
    }
}

impl fmt::Debug for CompletionChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionChannel").finish_non_exhaustive()
    }
}
