//! Random numbers.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use rocev2::Psn;
use rocev2_device::DeviceError;

/// Numbers that no peer can predict. The system is asked once, for their seed: after that there always are some.
pub(super) struct Random(ChaCha20Rng);

impl Random {
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn new() -> Result<Self, DeviceError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| DeviceError::System { what: "drawing random numbers", source: error.into() })?;
        Ok(Self(ChaCha20Rng::from_seed(seed)))
    }

    pub(super) fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(super) fn u16(&mut self) -> u16 {
        let [high, low, ..] = self.u64().to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    pub(super) fn psn(&mut self) -> Psn {
        Psn::truncate(self.0.next_u32())
    }
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random")
    }
}
