//! Protection domains.

use crate::completion::{CompletionQueue, InFlight};
use crate::queue_pair::{QueuePair, QueuePairLimits, Reset};
use crate::region::{Access, MemoryRegion};
use crate::{Device, Error};
use std::sync::Arc;

/// A protection domain: peers of its queue pairs reach its regions and no others.
#[derive(Debug)]
pub struct ProtectionDomain {
    embedded: device::ProtectionDomain,
    device: Arc<Device>,
}

impl ProtectionDomain {
    pub(crate) fn new(embedded: device::ProtectionDomain, device: Arc<Device>) -> Self {
        Self { embedded, device }
    }

    /// The device it belongs to.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Allocates and registers `len` zeroed bytes.
    ///
    /// # Errors
    /// No memory, too many regions, or rights that contradict each other.
    pub fn register(&self, len: usize, access: Access) -> Result<MemoryRegion, Error> {
        Ok(MemoryRegion::new(self.embedded.register(len, access)?))
    }

    /// A queue pair of a reliable connection.
    ///
    /// # Errors
    /// The limits are more than the device has.
    pub fn queue_pair(
        self: &Arc<Self>,
        send_queue: &Arc<CompletionQueue>,
        recv_queue: &Arc<CompletionQueue>,
        limits: QueuePairLimits,
    ) -> Result<QueuePair<Reset>, Error> {
        let embedded = self.embedded.queue_pair(
            send_queue.embedded(),
            recv_queue.embedded(),
            limits.max_send_requests,
            limits.max_recv_requests,
        )?;
        let in_flight = Arc::<InFlight>::default();
        Ok(QueuePair::new(embedded, in_flight, [send_queue, recv_queue].map(Arc::clone), Arc::clone(self)))
    }
}
