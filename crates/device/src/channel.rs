//! Completion channels: a file descriptor that becomes readable when an armed completion queue gets an entry.

use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

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
}

impl AsFd for CompletionChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
