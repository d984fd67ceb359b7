//! Ways to peers, for datagrams.

use crate::domain::ProtectionDomain;
use crate::endpoint::Endpoint;
use crate::gid::GidEntry;
use crate::{Error, provider};
use core::fmt;
use std::sync::Arc;

/// The way to a peer's port: datagrams are sent by it (`ibv_create_ah(3)`).
pub struct AddressHandle {
    provider: provider::AddressHandle,
    /// Outlives the handle.
    _domain: Arc<ProtectionDomain>,
}

impl ProtectionDomain {
    /// The way from this device's `own` address to `peer`.
    ///
    /// # Errors
    /// There is none, or the device has no datagrams.
    pub fn address_handle(
        self: &Arc<Self>,
        own: &GidEntry,
        peer: &Endpoint,
    ) -> Result<Arc<AddressHandle>, Error> {
        let provider = self.provider().address_handle(own, peer)?;
        Ok(Arc::new(AddressHandle { provider, _domain: Arc::clone(self) }))
    }
}

impl AddressHandle {
    pub(crate) fn provider(&self) -> &provider::AddressHandle {
        &self.provider
    }
}

impl fmt::Debug for AddressHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressHandle").finish_non_exhaustive()
    }
}
