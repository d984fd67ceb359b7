//! Communication IDs.

use core::fmt;

/// A communication ID, or a SIDR request's: names a connection at one side (IBA 12.7.1). 0 names none.
///
/// It is drawn at random, and whoever would end a connection by a forged message has to know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommId(u32);

impl CommId {
    /// No connection.
    pub const NONE: Self = Self(0);

    /// The ID with that number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for CommId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommId({:#010x})", self.0)
    }
}

impl fmt::Display for CommId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}
