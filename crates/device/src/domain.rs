//! Protection domains and memory regions.

use crate::buffers::DomainMemory;
use crate::device::{ATTRIBUTES, Inner, within};
use crate::memory::{Access, KeyTable, Mapping, Region, Registration};
use crate::queue_pair::QueuePairCore;
use crate::{CompletionQueue, DeviceError, QueuePair};
use rocev2::transport::{Limits, QueuePair as Protocol, rc};
use rocev2::work::ReceiveQueue;
use std::sync::Arc;

/// Bytes that one queue pair may have in flight at most. The window finds by itself what the sockets on the
/// path can hold; this only keeps one queue pair from taking more than the largest socket buffers hold.
const WINDOW: u64 = 2 << 20;

/// A protection domain: its queue pairs reach its regions and no others.
pub struct ProtectionDomain {
    inner: Arc<Inner>,
    keys: Arc<KeyTable>,
}

impl ProtectionDomain {
    pub(crate) fn new(inner: Arc<Inner>, keys: Arc<KeyTable>) -> Self {
        Self { inner, keys }
    }

    /// Allocates and registers `len` zeroed bytes.
    ///
    /// # Errors
    /// No memory, too many regions, or rights that contradict each other.
    pub fn register(&self, len: usize, access: Access) -> Result<MemoryRegion, DeviceError> {
        let mapping = Arc::new(Mapping::new(len)?);
        let registration = Registration { mapping, offset: 0, len, access, invalidatable: false };
        let region = self.keys.register(registration)?;
        Ok(MemoryRegion { region, keys: Arc::clone(&self.keys) })
    }

    /// A queue pair of a reliable connection, in the RESET state.
    ///
    /// # Errors
    /// The limits are more than the device has, or a completion queue is another device's.
    pub fn queue_pair(
        &self,
        send_queue: &CompletionQueue,
        recv_queue: &CompletionQueue,
        max_send_requests: usize,
        max_recv_requests: usize,
    ) -> Result<QueuePair, DeviceError> {
        if !send_queue.is_of(&self.inner) || !recv_queue.is_of(&self.inner) {
            return Err(DeviceError::OtherDevice);
        }
        within("send requests", max_send_requests, ATTRIBUTES.max_qp_wr)?;
        within("receive requests", max_recv_requests, ATTRIBUTES.max_qp_wr)?;
        let limits = Limits { max_send_requests, window: WINDOW };
        let core = self
            .inner
            .table
            .add(|qpn| {
                QueuePairCore::new(
                    qpn,
                    Protocol::Rc(rc::QueuePair::new(limits)),
                    ReceiveQueue::new(max_recv_requests),
                    DomainMemory::new(Arc::clone(&self.keys)),
                    Arc::clone(send_queue.core()),
                    Arc::clone(recv_queue.core()),
                    self.inner.surroundings.clone(),
                )
            })
            .map_err(DeviceError::system("drawing a queue pair number"))?;
        Ok(QueuePair::new(core, Arc::clone(&self.inner)))
    }
}

impl core::fmt::Debug for ProtectionDomain {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ProtectionDomain").field("regions", &self.keys.len()).finish_non_exhaustive()
    }
}

/// A registered memory region with its memory. Dropping it deregisters it; the memory itself lives as long as
/// a work request that names it.
pub struct MemoryRegion {
    region: Arc<Region>,
    keys: Arc<KeyTable>,
}

impl MemoryRegion {
    /// The region.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        // It fails only where a peer has invalidated the region before.
        let _ = self.keys.deregister(&self.region);
    }
}

impl core::fmt::Debug for MemoryRegion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MemoryRegion").field("len", &self.region.len()).finish_non_exhaustive()
    }
}
