//! Completion channels, for threads that wait and for tokio.

use crate::{Error, ibv};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A completion channel: a file descriptor that becomes readable when an armed completion queue gets an entry.
#[derive(Debug)]
pub struct CompletionChannel {
    side: Side,
}

enum Side {
    Embedded(Arc<rocev2_device::CompletionChannel>),
    Ibv(Arc<ibv::completion::Channel>),
}

impl CompletionChannel {
    pub(crate) fn embedded(channel: Arc<rocev2_device::CompletionChannel>) -> Self {
        Self { side: Side::Embedded(channel) }
    }

    pub(crate) fn ibv(channel: ibv::completion::Channel) -> Self {
        Self { side: Side::Ibv(Arc::new(channel)) }
    }

    pub(crate) fn side_embedded(&self) -> Option<&Arc<rocev2_device::CompletionChannel>> {
        match &self.side {
            Side::Embedded(channel) => Some(channel),
            Side::Ibv(_) => None,
        }
    }

    pub(crate) fn side_ibv(&self) -> Option<&Arc<ibv::completion::Channel>> {
        match &self.side {
            Side::Embedded(_) => None,
            Side::Ibv(channel) => Some(channel),
        }
    }

    /// Takes an event if there is one: the number of the queue that it came from.
    ///
    /// # Errors
    /// A libibverbs device is gone.
    pub fn try_event(&self) -> Result<Option<u64>, Error> {
        match &self.side {
            Side::Embedded(channel) => Ok(channel.try_event()),
            Side::Ibv(channel) => channel.try_event().map_err(Error::Wait),
        }
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
        match &self.side {
            Side::Embedded(channel) => channel.as_fd(),
            Side::Ibv(channel) => channel.as_fd(),
        }
    }
}

impl core::fmt::Debug for Side {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Embedded(_) => "embedded",
            Self::Ibv(_) => "libibverbs",
        })
    }
}

#[cfg(feature = "tokio")]
pub use with_tokio::AsyncChannel;

#[cfg(feature = "tokio")]
mod with_tokio {
    use super::{CompletionChannel, Error};
    use crate::{Completion, CompletionQueue};
    use std::os::fd::{AsRawFd, RawFd};
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
            use std::os::fd::AsFd;
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
}
