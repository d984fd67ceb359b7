//! Completion channels: a file descriptor that becomes readable when an armed completion queue gets an entry.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A completion channel (`ibv_comp_channel`): several completion queues may share one.
///
/// The descriptor counts events, so it stays readable until each has been taken.
#[derive(Debug)]
pub struct CompletionChannel {
    fd: OwnedFd,
    /// The numbers of the queues that have something to say, oldest first; as many as the descriptor counts.
    events: Mutex<VecDeque<u64>>,
}

impl CompletionChannel {
    pub(crate) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE)?;
        Ok(Self { fd, events: Mutex::default() })
    }

    /// Announces an event of the queue with that number.
    pub(crate) fn notify(&self, queue: u64) {
        crate::lock(&self.events).push_back(queue);
        // The counter can't overflow: each queue announces once until it is armed again.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// The number of a queue that has something to say, if there is one; it takes the event from the channel.
    #[must_use]
    pub fn try_event(&self) -> Option<u64> {
        let mut count = [0; 8];
        rustix::io::read(&self.fd, &mut count).ok()?;
        crate::lock(&self.events).pop_front()
    }

    /// Waits for an event at most `timeout`, without spinning; `None` means for ever.
    ///
    /// # Errors
    /// The operating system refused to wait.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<u64>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(event) = self.try_event() {
                return Ok(Some(event));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            let left = left.map(timespec);
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for CompletionChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `span` as the system takes it; what doesn't fit is as good as for ever.
pub(crate) fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    }
}
