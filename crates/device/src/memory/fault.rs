//! Why an access was refused.

use super::{Access, OutOfBounds};

/// The reason for refusing an access to registered memory (it becomes a remote access error on the wire, a local
/// protection error in a completion).
///
/// It names neither keys nor addresses, so that it may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// No region or bound window of the protection domain has this key. Another domain's keys count as unknown.
    #[error("no memory region or window of this protection domain has that key")]
    UnknownKey,
    /// The region was deregistered, or the window was invalidated.
    #[error("the memory region has been deregistered, or the memory window invalidated")]
    Revoked,
    /// Part of the bytes lies outside the region or window.
    #[error("the access reaches outside the memory region or window")]
    OutOfRange,
    /// The region or window doesn't have these rights.
    #[error("the memory region or window gives no right to {0:?}")]
    NotPermitted(Access),
    /// The type 2 window is bound to another queue pair.
    #[error("the memory window is bound to another queue pair")]
    OtherQueuePair,
    /// Only type 2 windows can be invalidated.
    #[error("only a type 2 memory window can be invalidated")]
    NotInvalidatable,
    /// An atomic operation needs an address that is a multiple of 8 (IBA 9.4.5).
    #[error("an atomic operation needs an address that is a multiple of 8")]
    Misaligned,
    /// The program has unmapped or truncated the memory, or protected it from such an access. What came before
    /// that part may have been accessed.
    #[error("the program has unmapped or truncated the memory, or protected it from such an access")]
    Vanished,
}

impl From<OutOfBounds> for Fault {
    fn from(error: OutOfBounds) -> Self {
        match error {
            OutOfBounds::Range { .. } => Self::OutOfRange,
            OutOfBounds::Misaligned { .. } => Self::Misaligned,
        }
    }
}
