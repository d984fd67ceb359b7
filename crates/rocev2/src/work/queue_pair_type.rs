//! What queue pairs are made for.

use crate::wire::Transport;

/// A queue pair's type (`enum ibv_qp_type`): its transport, and which side of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueuePairType {
    /// Reliable connection.
    Rc,
    /// Unreliable connection.
    Uc,
    /// Unreliable datagram.
    Ud,
    /// The side of an extended reliable connection that sends requests (`IBV_QPT_XRC_SEND`).
    XrcInitiator,
    /// The side of an extended reliable connection that answers them (`IBV_QPT_XRC_RECV`). It has no queues: messages
    /// take their receive requests from the shared receive queue that they name.
    XrcTarget,
}

impl QueuePairType {
    /// Whether its requests are acknowledged.
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        self.transport().is_reliable()
    }

    /// Its transport.
    #[must_use]
    pub const fn transport(self) -> Transport {
        match self {
            Self::Rc => Transport::Rc,
            Self::Uc => Transport::Uc,
            Self::Ud => Transport::Ud,
            Self::XrcInitiator | Self::XrcTarget => Transport::Xrc,
        }
    }
}
