//! Protection domains.

use crate::completion::{CompletionQueue, InFlight};
use crate::queue_pair::{self, QueuePair, QueuePairLimits, Reset};
use crate::region::{Access, Memory, MemoryRegion};
use crate::{Device, Error, ibv};
use core::fmt;
use std::sync::Arc;

/// A protection domain: peers of its queue pairs reach its regions and no others.
pub struct ProtectionDomain {
    side: Side,
    device: Arc<Device>,
}

pub(crate) enum Side {
    Embedded(rocev2_device::ProtectionDomain),
    Ibv(Arc<ibv::memory::Domain>),
}

impl ProtectionDomain {
    pub(crate) fn new(side: Side, device: Arc<Device>) -> Self {
        Self { side, device }
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
        Ok(MemoryRegion::new(match &self.side {
            Side::Embedded(domain) => Memory::Embedded(domain.register(len, access)?),
            Side::Ibv(domain) => Memory::Ibv(ibv::memory::Region::new(domain, len, access)?),
        }))
    }

    /// A queue pair of a reliable connection.
    ///
    /// # Errors
    /// The limits are more than the device has, or a queue is another device's.
    pub fn queue_pair(
        self: &Arc<Self>,
        send_queue: &Arc<CompletionQueue>,
        recv_queue: &Arc<CompletionQueue>,
        limits: QueuePairLimits,
    ) -> Result<QueuePair<Reset>, Error> {
        let mixed = || Error::Mixed("a completion queue");
        let in_flight = Arc::<InFlight>::default();
        let side = match &self.side {
            Side::Embedded(domain) => {
                limits.check_embedded()?;
                queue_pair::Side::Embedded(domain.queue_pair(
                    send_queue.side_embedded().ok_or_else(mixed)?,
                    recv_queue.side_embedded().ok_or_else(mixed)?,
                    limits.max_send_requests,
                    limits.max_recv_requests,
                )?)
            }
            Side::Ibv(domain) => queue_pair::Side::Ibv(ibv::queue_pair::QueuePair::new(
                domain,
                send_queue.side_ibv().ok_or_else(mixed)?,
                recv_queue.side_ibv().ok_or_else(mixed)?,
                &limits,
                &in_flight,
            )?),
        };
        let queues = [send_queue, recv_queue].map(Arc::clone);
        Ok(QueuePair::new(side, limits, in_flight, queues, Arc::clone(self)))
    }
}

impl fmt::Debug for ProtectionDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectionDomain").field("device", self.device.name()).finish_non_exhaustive()
    }
}
