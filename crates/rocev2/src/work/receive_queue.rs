//! Receive queues. They stand outside of the queue pairs, which take from them when messages arrive.

use super::completion::{Completion, CompletionKind, Event, Status};
use super::request::{PostError, RecvRequest};
use std::collections::VecDeque;

/// Receive requests in the order in which messages take them.
#[derive(Debug)]
pub struct ReceiveQueue<B> {
    capacity: usize,
    waiting: VecDeque<RecvRequest<B>>,
    /// Requests that a message has taken and not yet completed.
    filling: usize,
}

impl<B> ReceiveQueue<B> {
    /// An empty queue for at most `capacity` requests.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, waiting: VecDeque::new(), filling: 0 }
    }

    /// Requests that have not completed, those that are being filled among them.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.waiting.len() + self.filling
    }

    /// Queues a request. Whether the state of a queue pair allows it is for the queue pair to say.
    pub(crate) fn post(&mut self, request: RecvRequest<B>) -> Result<(), PostError> {
        // A request that is being filled has its place until it completes.
        if self.outstanding() >= self.capacity {
            return Err(PostError::QueueFull(self.capacity));
        }
        self.waiting.push_back(request);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the next request for a message. It goes on counting until [`Self::finish`].
    pub(crate) fn take(&mut self) -> Option<RecvRequest<B>> {
        let request = self.waiting.pop_front()?;
        self.filling += 1;
        Some(request)
    }

    /// The request that a message would take next.
    pub(crate) fn front(&self) -> Option<&RecvRequest<B>> {
        self.waiting.front()
    }

    /// Gives a request back that was taken for a message of which the rest is missing: it is the next one again.
    pub(crate) fn put_back(&mut self, request: RecvRequest<B>) {
        self.finish();
        self.waiting.push_front(request);
    }

    /// The place of a request that was taken is free again: it completes, or is forgotten.
    pub(crate) fn finish(&mut self) {
        self.filling = self.filling.saturating_sub(1);
    }

    /// Completes every request that waits with `WR_FLUSH_ERR`.
    pub(crate) fn flush(&mut self, events: &mut VecDeque<Event>) {
        events.extend(self.waiting.drain(..).map(|request| flushed(request.id)));
    }

    /// Forgets every request that waits.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}

/// The completion of a receive request that was never used, or not to its end.
pub(crate) fn flushed(id: u64) -> Event {
    Event::Completion(Completion::new(id, Status::Flushed, CompletionKind::Recv))
}
