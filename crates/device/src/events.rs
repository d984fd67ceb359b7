//! Asynchronous events: what happens to objects rather than to work requests.

use rocev2::Qpn;
use rocev2::work::AsyncEvent;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

/// An asynchronous event and the object that it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// Something happened to a queue pair.
    QueuePair(Qpn, AsyncEvent),
    /// The completion queue with this number overflowed.
    CompletionQueueOverflow(u64),
}

/// Events that nobody has read are kept up to this number; then the oldest goes.
const KEPT: usize = 4096;

/// The events of a device that nobody has read yet, and a descriptor that is readable while there are some.
#[derive(Debug)]
pub(crate) struct EventQueue {
    fd: OwnedFd,
    events: Mutex<VecDeque<DeviceEvent>>,
}

impl EventQueue {
    pub(crate) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd, events: Mutex::default() })
    }

    pub(crate) fn push(&self, event: DeviceEvent) {
        let mut events = crate::lock(&self.events);
        if events.len() >= KEPT {
            events.pop_front();
        }
        events.push_back(event);
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    pub(crate) fn pop(&self) -> Option<DeviceEvent> {
        let mut events = crate::lock(&self.events);
        let event = events.pop_front();
        if events.is_empty() {
            let _ = rustix::io::read(&self.fd, &mut [0; 8]);
        }
        event
    }
}

impl AsFd for EventQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
