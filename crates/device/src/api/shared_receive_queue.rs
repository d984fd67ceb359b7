//! Shared receive queues.

use super::DeviceError;
use super::device::{ATTRIBUTES, DeviceState, within};
use crate::engine::{self, Buffers, XrcDomain, XrcQueue};
use rocev2::Srqn;
use rocev2::work::{PostError, RecvRequest};
use std::sync::Arc;

/// A receive queue that queue pairs share (`ibv_srq`). Those that have been made with it keep what is in it; an XRC
/// domain's ends when it is dropped.
pub struct SharedReceiveQueue {
    queue: Arc<engine::SharedReceiveQueue>,
    xrc: Option<(Arc<XrcDomain>, Arc<XrcQueue>)>,
    device: Arc<DeviceState>,
}

impl SharedReceiveQueue {
    pub(crate) fn new(queue: Arc<engine::SharedReceiveQueue>, device: Arc<DeviceState>) -> Self {
        Self { queue, xrc: None, device }
    }

    /// The same as a queue of that XRC domain.
    pub(crate) fn with_xrc(self, domain: Arc<XrcDomain>, member: Arc<XrcQueue>) -> Self {
        Self { queue: Arc::clone(&self.queue), xrc: Some((domain, member)), device: Arc::clone(&self.device) }
    }

    pub(crate) fn is_of(&self, device: &Arc<DeviceState>) -> bool {
        Arc::ptr_eq(&self.device, device)
    }

    pub(crate) fn engine(&self) -> &Arc<engine::SharedReceiveQueue> {
        &self.queue
    }

    /// Its number, which [`DeviceEvent::SharedReceiveQueueLimit`](crate::DeviceEvent) names.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.queue.number()
    }

    /// The number by which requests name it, if it is an XRC domain's (`ibv_get_srq_num(3)`).
    #[must_use]
    pub fn srqn(&self) -> Option<Srqn> {
        self.xrc.as_ref().map(|(_, member)| member.number())
    }

    /// How many requests it has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.queue.lock().capacity()
    }

    /// The limit that is set; 0 where none is, or once it was reached.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.queue.lock().limit()
    }

    /// Changes how many requests it has room for (`IBV_SRQ_MAX_WR`).
    ///
    /// # Errors
    /// The device has no queue of that size, or more requests are outstanding.
    pub fn resize(&self, capacity: usize) -> Result<(), DeviceError> {
        within("requests of a shared receive queue", capacity, ATTRIBUTES.max_srq_wr)?;
        let mut queue = self.queue.lock();
        let outstanding = queue.outstanding();
        queue.resize(capacity).map_err(|_| DeviceError::Holds { capacity, outstanding })
    }

    /// Asks for one [event](crate::DeviceEvent::SharedReceiveQueueLimit) when a message leaves fewer than `limit`
    /// requests waiting (`IBV_SRQ_LIMIT`); 0 asks for none.
    ///
    /// # Errors
    /// It has no room for so many.
    pub fn set_limit(&self, limit: usize) -> Result<(), DeviceError> {
        let mut queue = self.queue.lock();
        within("limit of a shared receive queue", limit, queue.capacity())?;
        queue.set_limit(limit);
        Ok(())
    }

    /// Queues a receive request.
    ///
    /// # Errors
    /// It is full.
    pub fn post_recv(&self, request: RecvRequest<Buffers>) -> Result<(), PostError> {
        self.queue.post(request)
    }
}

impl Drop for SharedReceiveQueue {
    fn drop(&mut self) {
        if let Some((domain, member)) = &self.xrc {
            domain.withdraw(member);
        }
    }
}

impl core::fmt::Debug for SharedReceiveQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SharedReceiveQueue").field("number", &self.number()).finish_non_exhaustive()
    }
}
