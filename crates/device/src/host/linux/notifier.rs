//! Descriptors that become readable: what programs wait for.

use crate::engine::Signal;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A descriptor that is readable while it is raised.
#[derive(Debug)]
pub(crate) struct Notifier(OwnedFd);

impl Notifier {
    /// One that has to be lowered as often as it was raised, if it is `counting`.
    pub(crate) fn new(counting: bool) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let semaphore = if counting { EventfdFlags::SEMAPHORE } else { EventfdFlags::empty() };
        Ok(Self(eventfd(0, flags | semaphore)?))
    }
}

impl Signal for Notifier {
    fn raise(&self) {
        // Its counter holds more than can be raised without being lowered.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    fn lower(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
