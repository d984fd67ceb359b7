//! Receive queues. They stand outside of the queue pairs, which take from them when messages arrive.

use super::completion::{Completion, CompletionKind, Event, Status};
use super::request::{PostError, RecvRequest};
use std::collections::VecDeque;

/// Receive requests in the order in which messages take them: a queue pair's own, or shared by several.
#[derive(Debug)]
pub struct ReceiveQueue<B> {
    capacity: usize,
    waiting: VecDeque<RecvRequest<B>>,
    /// Requests that a message has taken and not yet completed.
    filling: usize,
    shared: Option<Shared>,
}

/// What a shared receive queue has in addition.
#[derive(Clone, Copy, Debug, Default)]
struct Shared {
    /// Fewer waiting requests than this are told of, once; 0 if they aren't.
    limit: usize,
    limit_reached: bool,
}

impl<B> ReceiveQueue<B> {
    /// The empty queue of one queue pair, for at most `capacity` requests.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, waiting: VecDeque::new(), filling: 0, shared: None }
    }

    /// An empty shared receive queue, for at most `capacity` requests.
    #[must_use]
    pub fn shared(capacity: usize) -> Self {
        Self { shared: Some(Shared::default()), ..Self::new(capacity) }
    }

    /// Whether queue pairs share it: then none of them posts to it, flushes it or clears it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// How many requests it is for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Requests that have not completed, those that are being filled among them.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.waiting.len() + self.filling
    }

    /// Queues a request at a shared receive queue; a queue pair's own takes them through the queue pair, which knows
    /// whether its state allows it.
    ///
    /// # Errors
    /// The queue is full; nothing was queued.
    pub fn post(&mut self, request: RecvRequest<B>) -> Result<(), PostError> {
        // A request that is being filled has its place until it completes.
        if self.outstanding() >= self.capacity {
            return Err(PostError::QueueFull(self.capacity));
        }
        self.waiting.push_back(request);
        Ok(())
    }

    /// Changes how many requests it is for (`IBV_SRQ_MAX_WR`).
    ///
    /// # Errors
    /// So many are outstanding that they would have no room; nothing has changed.
    pub fn resize(&mut self, capacity: usize) -> Result<(), PostError> {
        if self.outstanding() > capacity {
            return Err(PostError::QueueFull(capacity));
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Asks a shared receive queue for one event, as soon as a message leaves fewer than `limit` requests waiting
    /// (`IBV_SRQ_LIMIT`); 0 asks for none.
    pub fn set_limit(&mut self, limit: usize) {
        if let Some(shared) = &mut self.shared {
            *shared = Shared { limit, limit_reached: false };
        }
    }

    /// The limit that is set; 0 once it was reached (`srq_limit` of a query).
    #[must_use]
    pub fn limit(&self) -> usize {
        self.shared.map_or(0, |shared| shared.limit)
    }

    /// Whether the limit was reached since this was last asked (`SRQ_LIMIT_REACHED`).
    pub fn poll_limit_reached(&mut self) -> bool {
        self.shared.as_mut().is_some_and(|shared| core::mem::take(&mut shared.limit_reached))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Queues a request of the queue pair that the queue belongs to.
    pub(crate) fn post_own(&mut self, request: RecvRequest<B>) -> Result<(), PostError> {
        if self.is_shared() { Err(PostError::SharedReceiveQueue) } else { self.post(request) }
    }

    /// Takes the next request for a message. It goes on counting until [`Self::finish`].
    pub(crate) fn take(&mut self) -> Option<RecvRequest<B>> {
        let request = self.waiting.pop_front()?;
        self.filling += 1;
        if let Some(shared) = &mut self.shared
            && self.waiting.len() < shared.limit
        {
            *shared = Shared { limit: 0, limit_reached: true };
        }
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

    /// The place of a request that was taken is free again: it completes.
    pub(crate) fn finish(&mut self) {
        self.filling = self.filling.saturating_sub(1);
    }

    /// Completes every request that waits with `WR_FLUSH_ERR`, unless others share them.
    pub(crate) fn flush(&mut self, events: &mut VecDeque<Event>) {
        if !self.is_shared() {
            events.extend(self.waiting.drain(..).map(|request| flushed(request.id)));
        }
    }

    /// Forgets every request that waits, unless others share them.
    pub(crate) fn clear(&mut self) {
        if !self.is_shared() {
            self.waiting.clear();
        }
    }
}

/// The completion of a receive request that was never used, or not to its end.
pub(crate) fn flushed(id: u64) -> Event {
    Event::Completion(Completion::new(id, Status::Flushed, CompletionKind::Recv))
}
