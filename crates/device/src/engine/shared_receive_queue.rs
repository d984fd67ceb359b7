//! Where receive requests wait: in a queue pair's own queue, in one that several share, or in those of an XRC domain.

use super::{Buffers, DeviceEvent, Shared, XrcDomain, XrcQueue};
use core::ops::{Deref, DerefMut};
use rocev2::Srqn;
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
    Xrc(XrcReceives),
}

/// What an XRC target takes its messages into.
pub(crate) struct XrcReceives {
    domain: Arc<XrcDomain>,
    /// The queue of the message that is arriving, or of the packet that is looked at.
    current: Option<Arc<XrcQueue>>,
    /// An empty queue, where there is none of the domain's.
    none: ReceiveQueue<Buffers>,
}

impl XrcReceives {
    pub(crate) fn new(domain: Arc<XrcDomain>) -> Self {
        Self { domain, current: None, none: ReceiveQueue::new(0) }
    }
}

impl Receives {
    /// Chooses an XRC domain's queue for a packet that names one: that of the message that is arriving, or else the one
    /// that it names, if there is one. Queues that others use don't change that way.
    pub(super) fn choose(&mut self, named: Option<Srqn>) -> Option<Arc<XrcQueue>> {
        let Self::Xrc(XrcReceives { domain, current, .. }) = self else { return None };
        if current.is_none() {
            *current = named.and_then(|number| domain.get(number));
        }
        current.clone()
    }

    /// The XRC domain's queue that was chosen.
    pub(super) fn chosen(&self) -> Option<&Arc<XrcQueue>> {
        match self {
            Self::Xrc(XrcReceives { current, .. }) => current.as_ref(),
            _ => None,
        }
    }

    /// The message, if there was one, has arrived.
    pub(super) fn choose_none(&mut self) {
        if let Self::Xrc(XrcReceives { current, .. }) = self {
            *current = None;
        }
    }

    /// The XRC domain that it belongs to.
    pub(super) fn xrc_domain(&self) -> Option<&Arc<XrcDomain>> {
        match self {
            Self::Xrc(XrcReceives { domain, .. }) => Some(domain),
            _ => None,
        }
    }

    /// The queue, for one call of the protocol: a message may take a request.
    pub(super) fn enter(&mut self) -> Entered<'_> {
        match self {
            Self::Own(queue) => Entered::Own(queue),
            Self::Shared(queue) => Entered::Shared(queue, queue.lock()),
            Self::Xrc(XrcReceives { current: Some(queue), .. }) => {
                Entered::Shared(queue.queue(), queue.queue().lock())
            }
            Self::Xrc(XrcReceives { none, .. }) => Entered::Own(none),
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
