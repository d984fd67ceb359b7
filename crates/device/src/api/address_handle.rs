//! Address handles.

use super::device::DeviceState;
use rocev2::work::AddressId;
use std::sync::Arc;

/// A way for datagrams (`ibv_ah`), for the queue pairs of its protection domain. Dropping it destroys it: requests
/// that name it must have completed before.
pub struct AddressHandle {
    id: AddressId,
    device: Arc<DeviceState>,
}

impl AddressHandle {
    pub(crate) fn new(id: AddressId, device: Arc<DeviceState>) -> Self {
        Self { id, device }
    }

    /// How requests name it.
    #[must_use]
    pub fn id(&self) -> AddressId {
        self.id
    }
}

impl Drop for AddressHandle {
    fn drop(&mut self) {
        self.device.engine().shared().addresses.remove(self.id);
    }
}

impl core::fmt::Debug for AddressHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("AddressHandle").field(&self.id.0).finish()
    }
}
