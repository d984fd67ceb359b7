//! XRC domains: the shared receive queues that messages for their targets may name.

use super::{CompletionQueue, DomainMemory, Host, Port, SharedReceiveQueue};
use rocev2::Srqn;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A shared receive queue of an XRC domain: where messages for it go, and what becomes of them.
pub(crate) struct XrcQueue {
    number: Srqn,
    queue: Arc<SharedReceiveQueue>,
    /// That of the protection domain which the queue belongs to: requests that name the queue reach it.
    memory: DomainMemory,
    completions: Arc<CompletionQueue>,
    withdrawn: AtomicBool,
}

impl XrcQueue {
    pub(crate) fn new(
        number: Srqn,
        queue: Arc<SharedReceiveQueue>,
        memory: DomainMemory,
        completions: Arc<CompletionQueue>,
    ) -> Self {
        Self { number, queue, memory, completions, withdrawn: AtomicBool::new(false) }
    }

    pub(crate) fn number(&self) -> Srqn {
        self.number
    }

    pub(crate) fn queue(&self) -> &SharedReceiveQueue {
        &self.queue
    }

    pub(crate) fn memory(&self) -> &DomainMemory {
        &self.memory
    }

    /// Where its receive requests complete, as long as there is somebody who posted them.
    pub(crate) fn completions(&self) -> Option<&CompletionQueue> {
        (!self.is_withdrawn()).then_some(&*self.completions)
    }

    /// Whether the program has destroyed it, though a message may still be arriving there.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }
}

/// An XRC domain. Numbers are random, as those of queue pairs.
#[derive(Default)]
pub(crate) struct XrcDomain(RwLock<Members>);

#[derive(Default)]
struct Members {
    queues: HashMap<Srqn, Arc<XrcQueue>>,
    /// Where packets for its targets arrive: who polls for a queue's completions looks there.
    ports: Vec<Arc<Port>>,
}

/// Shared receive queues of one domain, at most: beyond it, drawing a free number would take long.
pub(crate) const MAX_XRC_QUEUES: usize = 1 << 20;

impl XrcDomain {
    pub(crate) fn get(&self, number: Srqn) -> Option<Arc<XrcQueue>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).queues.get(&number).map(Arc::clone)
    }

    /// Adds the queue that `make` makes for a free number drawn from the host's generator.
    pub(crate) fn add(
        &self,
        host: &dyn Host,
        make: impl FnOnce(Srqn) -> XrcQueue,
    ) -> io::Result<Arc<XrcQueue>> {
        let mut members = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Members { queues, ports } = &mut *members;
        if queues.len() >= MAX_XRC_QUEUES {
            let full =
                format!("the XRC domain has all {MAX_XRC_QUEUES} shared receive queues that it can have");
            return Err(io::Error::other(full));
        }
        loop {
            let mut bytes = [0; 4];
            host.random(&mut bytes)?;
            let number = Srqn::truncate(u32::from_ne_bytes(bytes));
            if number.get() != 0
                && let Entry::Vacant(place) = queues.entry(number)
            {
                let queue = Arc::new(make(number));
                ports.iter().for_each(|port| queue.completions.add_port(port));
                return Ok(Arc::clone(place.insert(queue)));
            }
        }
    }

    /// Takes a queue out; a message that is arriving there is refused with its next packet.
    pub(crate) fn withdraw(&self, queue: &XrcQueue) {
        queue.withdrawn.store(true, Ordering::Release);
        self.0.write().unwrap_or_else(PoisonError::into_inner).queues.remove(&queue.number);
    }

    /// Packets for one of its targets arrive at `port`.
    pub(crate) fn use_port(&self, port: &Arc<Port>) {
        let mut members = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Members { queues, ports } = &mut *members;
        if !ports.iter().any(|other| Arc::ptr_eq(other, port)) {
            ports.push(Arc::clone(port));
            queues.values().for_each(|queue| queue.completions.add_port(port));
        }
    }
}
