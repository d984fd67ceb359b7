//! Sizes: what a session uses of memory, and what it offers.

use super::SealedBy;
use crate::control::Access as WireAccess;
use rdma_verbs::{Access, PeerRights, QueuePairLimits};

/// A session's registered buffers, at this side.
///
/// On the embedded device a buffer takes memory once it has been used; libibverbs' devices pin all of them
/// from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// Bytes of each receive buffer, and of the buffers that a server sends from: the longest fragment of a
    /// message that the peer may send. 256 to 2^20.
    pub size: u32,
    /// Receive buffers that are kept posted, 2 to 1024. A peer that sends more at a time is told to wait.
    pub receives: u32,
    /// Buffers to send from, to write from and to read into, 1 to 1024: so many requests may be under way.
    pub sends: u32,
    /// Bytes of each of these at a client, or `size` if that is more: what one request writes or reads. 4096 to 2^20.
    /// Sealed by messages, as many slots as hold so much.
    pub one_sided: u32,
}

impl Buffers {
    /// Messages in pieces of 15 full packets of the largest path MTU, which one segmented send carries (2^16
    /// bytes with the packets' headers are too many for one); twice as many receive buffers as a peer with
    /// these settings sends at a time. On libibverbs' devices they count against the limit on locked memory,
    /// which is often 8 MiB for a process, whatever number of sessions it has; these are 1.5 MiB. Lists of
    /// short messages gain by twice as many.
    pub const DEFAULT: Self = Self { size: 15 * 4096, receives: 16, sends: 8, one_sided: 64 << 10 };

    /// These, each brought into its range.
    pub(super) fn in_range(self) -> Self {
        Self {
            size: self.size.clamp(256, 1 << 20),
            receives: self.receives.clamp(2, 1024),
            sends: self.sends.clamp(1, 1024),
            one_sided: self.one_sided.clamp(4096, 1 << 20),
        }
    }

    /// Each request has a buffer of its own.
    pub(super) fn limits(self) -> QueuePairLimits {
        QueuePairLimits {
            max_send_requests: self.sends as usize,
            max_recv_requests: self.receives as usize,
            max_sge: 1,
            max_inline: 0,
        }
    }

    /// How many bytes they take, with buffers to send from that are so long.
    pub(super) fn bytes(self, send_size: u32) -> usize {
        self.receives as usize * self.size as usize + self.sends as usize * send_size as usize
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Whether a server's clients have counters for atomic operations. A network card adds to them, which it couldn't if
/// they were sealed: they are only where each packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CounterPolicy {
    /// No client has any.
    Off,
    /// A client has them where they are sealed, or nothing is: not where messages are sealed and packets aren't. The
    /// default.
    #[default]
    Auto,
    /// Every client has them. **They travel in clear** where messages are sealed and packets aren't.
    On,
}

impl CounterPolicy {
    /// Whether a client has counters whose session is sealed like this.
    #[must_use]
    pub const fn offers(self, sealed: SealedBy) -> bool {
        match self {
            Self::Off => false,
            Self::Auto => !matches!(sealed, SealedBy::Messages),
            Self::On => true,
        }
    }
}

/// Reads and atomics under way at a time, in each direction, where the device has so many.
pub(crate) const RD_ATOMIC: u8 = 16;

/// Bytes of a client's counters: eight.
pub(crate) const COUNTERS: usize = 64;

/// The rights that the key of a client's data gives it, if it may do `allowed`: never atomic operations, which lie
/// under another key. The device keeps to them, whatever the client's program does.
pub(crate) fn region_access(allowed: WireAccess) -> Access {
    let rights = [(WireAccess::WRITE, Access::REMOTE_WRITE), (WireAccess::READ, Access::REMOTE_READ)];
    // Remote writes need the local right too (IBA 10.6.3.1).
    let given = rights.into_iter().filter(|(wire, _)| allowed.allows(*wire));
    given.fold(Access::LOCAL_WRITE, |access, (_, right)| access | right)
}

/// The rights that the key of a client's counters gives: atomic operations, which need the local right too.
pub(crate) fn counters_access() -> Access {
    Access::LOCAL_WRITE | Access::REMOTE_ATOMIC
}

/// The same for the queue pair.
pub(crate) fn peer_rights(allowed: WireAccess) -> PeerRights {
    PeerRights {
        read: allowed.allows(WireAccess::READ),
        write: allowed.allows(WireAccess::WRITE),
        atomic: allowed.allows(WireAccess::ATOMIC),
    }
}
