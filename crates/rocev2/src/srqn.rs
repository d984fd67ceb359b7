//! Numbers of shared receive queues.

use core::fmt;

/// The number of an XRC shared receive queue, 24 bits (IBA 9.3, "XRCETH"; `ibv_get_srq_num(3)`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Srqn(u32);

impl Srqn {
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
}

impl fmt::Debug for Srqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Srqn({:#08x})", self.0)
    }
}

impl fmt::Display for Srqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#08x}", self.0)
    }
}
