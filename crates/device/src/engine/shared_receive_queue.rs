//! Where receive requests wait: in a queue pair's own queue, or in one that several share.

use super::{Buffers, DeviceEvent, Shared};
use core::ops::{Deref, DerefMut};
use rocev2::work::{PostError, ReceiveQueue, RecvRequest};
use std::sync::{Arc, Mutex, MutexGuard};

/// A receive queue that queue pairs share.
pub(crate) struct SharedReceiveQueue {
    number: u64,
    queue: Mutex<ReceiveQueue<Buffers>>,
    shared: Arc<Shared>,
}

impl SharedReceiveQueue {
    pub(crate) fn new(number: u64, capacity: usize, shared: &Arc<Shared>) -> Self {
        let queue = Mutex::new(ReceiveQueue::shared(capacity));
        Self { number, queue, shared: Arc::clone(shared) }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The queue, for as long as it takes to look at it or to change it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ReceiveQueue<Buffers>> {
        crate::lock(&self.queue)
    }

    pub(crate) fn post(&self, request: RecvRequest<Buffers>) -> Result<(), PostError> {
        self.lock().post(request)
    }
}

/// Where a queue pair's receive requests wait.
pub(crate) enum Receives {
    Own(ReceiveQueue<Buffers>),
    Shared(Arc<SharedReceiveQueue>),
}

impl Receives {
    /// The queue, for one call of the protocol: a message may take a request.
    pub(super) fn enter(&mut self) -> Entered<'_> {
        match self {
            Self::Own(queue) => Entered::Own(queue),
            Self::Shared(queue) => Entered::Shared(queue, queue.lock()),
        }
    }
}

/// A receive queue that nobody else uses meanwhile.
pub(super) enum Entered<'a> {
    Own(&'a mut ReceiveQueue<Buffers>),
    Shared(&'a SharedReceiveQueue, MutexGuard<'a, ReceiveQueue<Buffers>>),
}

impl Deref for Entered<'_> {
    type Target = ReceiveQueue<Buffers>;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Own(queue) => queue,
            Self::Shared(_, queue) => queue,
        }
    }
}

impl DerefMut for Entered<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Own(queue) => queue,
            Self::Shared(_, queue) => queue,
        }
    }
}

impl Drop for Entered<'_> {
    /// Tells that the queue's limit was reached.
    fn drop(&mut self) {
        if let Self::Shared(of, queue) = self
            && queue.poll_limit_reached()
        {
            of.shared.events.push(DeviceEvent::SharedReceiveQueueLimit(of.number));
        }
    }
}
