//! Protection domains.

use crate::{Device, Error, provider};
use core::fmt;
use std::sync::Arc;

/// A protection domain: peers of its queue pairs reach its regions and no others.
pub struct ProtectionDomain {
    provider: provider::ProtectionDomain,
    device: Arc<Device>,
}

impl Device {
    /// A protection domain.
    ///
    /// # Errors
    /// The device has no more; the embedded one always has.
    pub fn protection_domain(self: &Arc<Self>) -> Result<Arc<ProtectionDomain>, Error> {
        let provider = self.provider().protection_domain()?;
        Ok(Arc::new(ProtectionDomain { provider, device: Arc::clone(self) }))
    }
}

impl ProtectionDomain {
    /// The device it belongs to.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(crate) fn provider(&self) -> &provider::ProtectionDomain {
        &self.provider
    }
}

impl fmt::Debug for ProtectionDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectionDomain").field("device", self.device.name()).finish_non_exhaustive()
    }
}
