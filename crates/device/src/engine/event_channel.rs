//! What armed completion queues announce their next completion to.

use super::Signal;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// The events of completion queues that share a channel.
pub(crate) struct EventChannel {
    /// Raised as often as there are events.
    signal: Arc<dyn Signal>,
    /// The numbers of the queues that have something to say, oldest first.
    events: Mutex<VecDeque<u64>>,
}

impl EventChannel {
    pub(crate) fn new(signal: Arc<dyn Signal>) -> Self {
        Self { signal, events: Mutex::default() }
    }

    /// Announces an event of the queue with that number.
    pub(crate) fn notify(&self, queue: u64) {
        crate::lock(&self.events).push_back(queue);
        self.signal.raise();
    }

    /// The number of a queue that has something to say, if there is one; its event is taken.
    pub(crate) fn try_event(&self) -> Option<u64> {
        if self.signal.lower() { crate::lock(&self.events).pop_front() } else { None }
    }
}
