//! Completion queues.

use super::DeviceError;
use super::device::{ATTRIBUTES, DeviceState, within};
use crate::engine::{self, Arm, Overflow, WorkCompletion};
use std::sync::Arc;

/// A completion queue.
pub struct CompletionQueue {
    queue: Arc<engine::CompletionQueue>,
    device: Arc<DeviceState>,
}

impl CompletionQueue {
    pub(crate) fn new(queue: Arc<engine::CompletionQueue>, device: Arc<DeviceState>) -> Self {
        Self { queue, device }
    }

    pub(crate) fn is_of(&self, device: &Arc<DeviceState>) -> bool {
        Arc::ptr_eq(&self.device, device)
    }

    pub(crate) fn engine(&self) -> &Arc<engine::CompletionQueue> {
        &self.queue
    }

    /// Its number, which its channel's events name.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.queue.number()
    }

    /// How many entries it has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// How many entries it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for `capacity` entries instead.
    ///
    /// # Errors
    /// The device has no queue of that size, or it holds more entries.
    pub fn resize(&self, capacity: usize) -> Result<(), DeviceError> {
        within("completion queue entries", capacity, ATTRIBUTES.max_cqe)?;
        let capacity = capacity.max(1);
        self.queue.resize(capacity).map_err(|outstanding| DeviceError::Holds { capacity, outstanding })
    }

    /// Moves up to `max` completions to the end of `out` and returns how many; looks at the network if there
    /// are none yet.
    ///
    /// # Errors
    /// The queue overflowed.
    pub fn poll(&self, out: &mut Vec<WorkCompletion>, max: usize) -> Result<usize, Overflow> {
        match self.queue.take(out, max)? {
            0 => {
                self.device.engine().poll(&self.queue);
                self.queue.take(out, max)
            }
            count => Ok(count),
        }
    }

    /// Asks for one event on the channel at the next completion. One that came before isn't announced: poll
    /// once more after this.
    pub fn arm(&self, arm: Arm) {
        self.queue.arm(arm);
        self.device.engine().about_to_wait(&self.queue);
    }
}

impl core::fmt::Debug for CompletionQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CompletionQueue").field("number", &self.number()).finish_non_exhaustive()
    }
}
