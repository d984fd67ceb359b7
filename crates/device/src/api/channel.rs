//! Completion channels: a file descriptor that becomes readable when an armed completion queue gets an entry.

use crate::engine::EventChannel;
use crate::host::Notifier;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// A completion channel (`ibv_comp_channel`): several completion queues may share one.
///
/// The descriptor counts events, so it stays readable until each has been taken.
pub struct CompletionChannel {
    notifier: Arc<Notifier>,
    events: Arc<EventChannel>,
}

impl CompletionChannel {
    pub(crate) fn new() -> io::Result<Self> {
        let notifier = Arc::new(Notifier::new(true)?);
        let events = Arc::new(EventChannel::new(Arc::<Notifier>::clone(&notifier)));
        Ok(Self { notifier, events })
    }

    pub(crate) fn engine(&self) -> &Arc<EventChannel> {
        &self.events
    }

    /// The number of a queue that has something to say, if there is one; it takes the event from the channel.
    #[must_use]
    pub fn try_event(&self) -> Option<u64> {
        self.events.try_event()
    }
}

impl AsFd for CompletionChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifier.as_fd()
    }
}

impl core::fmt::Debug for CompletionChannel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CompletionChannel").finish_non_exhaustive()
    }
}
