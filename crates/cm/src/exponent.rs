//! Durations as the messages carry them: five bits, 4.096 µs · 2^n.

use core::fmt;
use core::time::Duration;

/// A duration of 4.096 µs · 2^n, n from 0 to 31: from 4 µs to 2.4 hours (IBA 12.7.5, 12.7.19, 12.7.31).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Exponent(u8);

impl Exponent {
    /// 4.3 s: what the kernel's rdma_cm gives a peer to answer (`CMA_CM_RESPONSE_TIMEOUT`).
    pub const RESPONSE: Self = Self(20);

    /// `n`, or `None` if it needs more than five bits.
    #[must_use]
    pub const fn new(n: u8) -> Option<Self> {
        if n < 32 { Some(Self(n)) } else { None }
    }

    /// The number n.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The low five bits of `n`.
    pub(crate) const fn truncate(n: u8) -> Self {
        Self(n & 31)
    }

    /// The duration itself.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_nanos(4096 << self.0)
    }

    /// The shortest that isn't shorter than `duration`, or the longest there is.
    #[must_use]
    pub fn at_least(duration: Duration) -> Self {
        (0..31).map(Self).find(|exponent| exponent.duration() >= duration).unwrap_or(Self(31))
    }
}

impl fmt::Debug for Exponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exponent({}: {:?})", self.0, self.duration())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_powers_of_two() {
        assert_eq!(Exponent::truncate(0).duration(), Duration::from_nanos(4096));
        assert_eq!(Exponent::RESPONSE.duration(), Duration::from_nanos(4_294_967_296));
        assert_eq!(Exponent::new(31).unwrap().duration().as_secs(), 8796);
        assert_eq!(Exponent::new(32), None);
    }

    #[test]
    fn rounding_goes_up() {
        assert_eq!(Exponent::at_least(Duration::ZERO).get(), 0);
        assert_eq!(Exponent::at_least(Duration::from_nanos(4097)).get(), 1);
        assert_eq!(Exponent::at_least(Duration::from_secs(4)).get(), 20);
        assert_eq!(Exponent::at_least(Duration::from_secs(100_000)).get(), 31);
    }
}
