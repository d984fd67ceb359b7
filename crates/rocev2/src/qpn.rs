//! Queue pair numbers.

use core::fmt;

/// A queue pair number, 24 bits (IBA 9.2, "Destination QP").
///
/// 0 and 1 are the management queue pairs and 0xff_ffff means multicast: none of the three names an ordinary
/// queue pair.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Qpn(u32);

impl Qpn {
    /// The number that marks a multicast packet.
    pub const MULTICAST: Self = Self(0xff_ffff);
    /// Queue pair 1, the general services interface (GSI): management datagrams (IBA 3.9.5).
    pub const GSI: Self = Self(1);

    /// `value`, or `None` if it needs more than 24 bits.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        if value <= 0xff_ffff { Some(Self(value)) } else { None }
    }

    /// The low 24 bits of `value`.
    #[must_use]
    pub const fn truncate(value: u32) -> Self {
        Self(value & 0xff_ffff)
    }

    /// The number, 0 to 2^24 − 1.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether an ordinary queue pair may have this number.
    #[must_use]
    pub const fn is_ordinary(self) -> bool {
        self.0 > 1 && self.0 != Self::MULTICAST.0
    }
}

impl fmt::Debug for Qpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Qpn({:#08x})", self.0)
    }
}

impl fmt::Display for Qpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#08x}", self.0)
    }
}
