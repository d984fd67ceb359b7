//! Sizes: what a session uses of memory, and what it offers.

use crate::control::Access as WireAccess;
use verbs::{Access, PeerRights, QueuePairLimits};

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

/// The rights that a region's key gives a client that may do `allowed`. The device keeps to them, whatever the client's program does.
pub(crate) fn region_access(allowed: WireAccess) -> Access {
    let rights = [
        (WireAccess::WRITE, Access::REMOTE_WRITE),
        (WireAccess::READ, Access::REMOTE_READ),
        (WireAccess::ATOMIC, Access::REMOTE_ATOMIC),
    ];
    // Remote writes and atomics need the local right too (IBA 10.6.3.1).
    let given = rights.into_iter().filter(|(wire, _)| allowed.allows(*wire));
    given.fold(Access::LOCAL_WRITE, |access, (_, right)| access | right)
}

/// The same for the queue pair.
pub(crate) fn peer_rights(allowed: WireAccess) -> PeerRights {
    PeerRights {
        read: allowed.allows(WireAccess::READ),
        write: allowed.allows(WireAccess::WRITE),
        atomic: allowed.allows(WireAccess::ATOMIC),
    }
}
