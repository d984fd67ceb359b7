//! Receive queues that several queue pairs share.

use crate::domain::ProtectionDomain;
use crate::in_flight::Receives;
use crate::options::{QueuePairLimits, SharedReceiveQueueLimits};
use crate::request::{PostError, RecvRequest};
use crate::{Error, PostReason, provider};
use core::fmt;
use rocev2::work;
use std::sync::Arc;

/// A receive queue for the messages of several queue pairs: each message takes the request that was posted
/// first, whichever queue pair it arrives at. The requests complete in their queue pairs' completion queues.
pub struct SharedReceiveQueue {
    /// Destroyed before the slices of its requests are released.
    provider: provider::SharedReceiveQueue,
    receives: Arc<Receives>,
    limits: SharedReceiveQueueLimits,
    /// Outlives the queue.
    _domain: Arc<ProtectionDomain>,
}

impl ProtectionDomain {
    /// A shared receive queue.
    ///
    /// # Errors
    /// The device has none, or none of that size.
    pub fn shared_receive_queue(
        self: &Arc<Self>,
        limits: SharedReceiveQueueLimits,
    ) -> Result<Arc<SharedReceiveQueue>, Error> {
        let receives = Arc::<Receives>::default();
        let provider = self.provider().shared_receive_queue(&limits, receives.clone())?;
        Ok(Arc::new(SharedReceiveQueue { provider, receives, limits, _domain: Arc::clone(self) }))
    }
}

impl SharedReceiveQueue {
    /// Its number among those of its device, which [`Event::SharedReceiveQueueLimit`](crate::Event) names.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.provider.number()
    }

    /// Queues a receive request.
    ///
    /// # Errors
    /// The request wasn't taken; its slices come back.
    pub fn post_recv(&self, request: RecvRequest) -> Result<(), PostError> {
        let SharedReceiveQueueLimits { max_requests, max_sge } = self.limits;
        let limits = QueuePairLimits { max_recv_requests: max_requests, max_sge, ..Default::default() };
        if let Err(reason) = request.check(&limits) {
            return Err(PostError { reason, slices: request.into_slices() });
        }
        self.receives.post(
            request.keep(),
            || PostReason::QueuePair(work::PostError::QueueFull(max_requests)),
            |elements| self.provider.prepare_recv(elements),
            |number, request| self.provider.post_recv(number, request),
        )
    }

    /// Asks for one [`Event::SharedReceiveQueueLimit`](crate::Event) when fewer than `limit` requests are
    /// left; 0 takes it back.
    ///
    /// # Errors
    /// It is more than the queue holds.
    pub fn arm_limit(&self, limit: u32) -> Result<(), Error> {
        self.provider.arm_limit(limit)
    }

    pub(crate) fn provider(&self) -> &provider::SharedReceiveQueue {
        &self.provider
    }

    pub(crate) fn receives(&self) -> &Arc<Receives> {
        &self.receives
    }
}

impl fmt::Debug for SharedReceiveQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReceiveQueue").field("limits", &self.limits).finish_non_exhaustive()
    }
}
