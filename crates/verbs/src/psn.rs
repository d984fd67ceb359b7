//! PSNs that can't be mixed up.

use crate::Error;
use core::fmt;
use rocev2::Psn;

/// The first PSN that this side sends (`sq_psn`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OwnPsn(Psn);

impl OwnPsn {
    /// A PSN from the operating system's generator, uniform over all 2^24.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn random() -> Result<Self, Error> {
        // 2^24 divides 2^32: dropping bits keeps the distribution uniform.
        getrandom::u32().map(|bits| Self(Psn::truncate(bits))).map_err(|error| Error::Random(error.into()))
    }

    /// A PSN that was agreed on elsewhere.
    #[must_use]
    pub const fn new(psn: Psn) -> Self {
        Self(psn)
    }

    /// The number, to tell the peer.
    #[must_use]
    pub const fn get(self) -> Psn {
        self.0
    }
}

/// The first PSN that the peer sends (`rq_psn`), as it told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PeerPsn(Psn);

impl PeerPsn {
    /// What the peer told.
    #[must_use]
    pub const fn new(psn: Psn) -> Self {
        Self(psn)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> Psn {
        self.0
    }
}

// PSNs aren't for logs: whoever reads one there is spared most of the guessing.
impl fmt::Debug for OwnPsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnPsn(…)")
    }
}

impl fmt::Debug for PeerPsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerPsn(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn random_psns_use_all_24_bits_and_differ() {
        let drawn: Vec<u32> = (0..200).map(|_| OwnPsn::random().unwrap().get().get()).collect();
        let ones = drawn.iter().fold(0, |seen, psn| seen | psn);
        let zeros = drawn.iter().fold(0, |seen, psn| seen | !psn);
        assert_eq!(ones, 0xff_ffff, "each bit is 1 sometimes");
        assert_eq!(zeros & 0xff_ffff, 0xff_ffff, "each bit is 0 sometimes");
        // Two of 200 are alike once in a thousand times, and many never.
        assert!(drawn.iter().collect::<HashSet<_>>().len() > 190);
    }
}
