//! Asynchronous events: what happens to objects rather than to work requests.

use super::Signal;
use rocev2::Qpn;
use rocev2::work::AsyncEvent;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// An asynchronous event and the object that it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// Something happened to a queue pair.
    QueuePair(Qpn, AsyncEvent),
    /// The completion queue with this number overflowed.
    CompletionQueueOverflow(u64),
    /// The shared receive queue with this number has fewer requests waiting than its limit.
    SharedReceiveQueueLimit(u64),
}

/// Events that nobody has read are kept up to this number; then the oldest goes.
const KEPT: usize = 4096;

/// The events of a device that nobody has read yet.
pub(crate) struct EventQueue {
    /// Raised while there are some.
    signal: Arc<dyn Signal>,
    events: Mutex<VecDeque<DeviceEvent>>,
}

impl EventQueue {
    pub(crate) fn new(signal: Arc<dyn Signal>) -> Self {
        Self { signal, events: Mutex::default() }
    }

    pub(crate) fn push(&self, event: DeviceEvent) {
        let mut events = crate::lock(&self.events);
        if events.len() >= KEPT {
            events.pop_front();
        }
        events.push_back(event);
        self.signal.raise();
    }

    pub(crate) fn pop(&self) -> Option<DeviceEvent> {
        let mut events = crate::lock(&self.events);
        let event = events.pop_front();
        if events.is_empty() {
            self.signal.lower();
        }
        event
    }
}
