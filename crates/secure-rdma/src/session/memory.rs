//! Sizes: what a session uses of memory, and what it offers.

use crate::control::Access as WireAccess;
use verbs::{Access, QueuePairLimits};

/// Receive requests that are kept posted.
pub(crate) const RECV_DEPTH: u32 = 8;

/// Bytes of each receive buffer: the longest fragment that the peer may send. One full packet of the largest path MTU.
pub(crate) const RECV_SIZE: u32 = 4096;

/// Buffers to send from and to read into.
pub(crate) const SEND_SLOTS: u32 = 4;

/// Send requests that may be outstanding: each uses a buffer of its own.
pub(crate) const LIMITS: QueuePairLimits = QueuePairLimits {
    max_send_requests: SEND_SLOTS as usize,
    max_recv_requests: RECV_DEPTH as usize,
    max_sge: 1,
    max_inline: 0,
};

/// Reads and atomics under way at a time, in each direction, where the device has so many.
pub(crate) const RD_ATOMIC: u8 = 16;

/// Bytes at the end of a region for atomics: eight counters.
pub(crate) const COUNTERS: u64 = 64;

/// What the peer may do with the region that it is given, with or without counters.
pub(crate) fn region_access(counters: bool) -> Access {
    let access = Access::LOCAL_WRITE | Access::REMOTE_WRITE | Access::REMOTE_READ;
    if counters { access | Access::REMOTE_ATOMIC } else { access }
}

/// The same for the control protocol.
pub(crate) fn region_rights(counters: bool) -> WireAccess {
    let rights = WireAccess::READ | WireAccess::WRITE;
    if counters { rights | WireAccess::ATOMIC } else { rights }
}
