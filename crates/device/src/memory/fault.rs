//! Why an access to registered memory was refused.

use super::Access;

/// The reason for refusing an access to a memory region (it becomes a remote access error on the wire, a local
/// protection error in a completion).
///
/// It names neither keys nor addresses, so that it may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// No region of the protection domain has this key. Another domain's keys count as unknown.
    #[error("no memory region of this protection domain has that key")]
    UnknownKey,
    /// The region was deregistered or invalidated.
    #[error("the memory region has been deregistered or invalidated")]
    Revoked,
    /// Part of the bytes lies outside the region.
    #[error("the access reaches outside the memory region")]
    OutOfRange,
    /// The region wasn't registered with these rights.
    #[error("the memory region was registered without {0:?}")]
    NotPermitted(Access),
    /// A peer may not invalidate this region.
    #[error("the memory region was not registered as one that a peer may invalidate")]
    NotInvalidatable,
    /// An atomic operation needs an address that is a multiple of 8 (IBA 9.4.5).
    #[error("an atomic operation needs an address that is a multiple of 8")]
    Misaligned,
}
