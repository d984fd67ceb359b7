//! Names of attributes of queue pairs, as a set.

use core::fmt;

bitflags::bitflags! {
    /// Names of attributes, numbered as `enum ibv_qp_attr_mask`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AttributeMask: u32 {
        /// The state to go to.
        const STATE = 1 << 0;
        /// The state that the caller believes the queue pair to be in.
        const CURRENT_STATE = 1 << 1;
        /// Whether draining ends with an event.
        const DRAIN_EVENT = 1 << 2;
        /// What the peer may do.
        const ACCESS_FLAGS = 1 << 3;
        /// The partition key, as an index of the port's table.
        const PKEY_INDEX = 1 << 4;
        /// The port.
        const PORT = 1 << 5;
        /// The queue key.
        const QKEY = 1 << 6;
        /// The address vector: the path to the peer.
        const PATH = 1 << 7;
        /// The path MTU.
        const PATH_MTU = 1 << 8;
        /// The local ACK timeout.
        const TIMEOUT = 1 << 9;
        /// Retries against silence.
        const RETRY_COUNT = 1 << 10;
        /// Retries against RNR NAKs.
        const RNR_RETRY = 1 << 11;
        /// The first PSN to be received.
        const RQ_PSN = 1 << 12;
        /// Reads and atomics under way as requester.
        const MAX_RD_ATOMIC = 1 << 13;
        /// An alternate path.
        const ALTERNATE_PATH = 1 << 14;
        /// The delay that RNR NAKs ask for.
        const MIN_RNR_TIMER = 1 << 15;
        /// The first PSN to be sent.
        const SQ_PSN = 1 << 16;
        /// Reads and atomics under way as responder.
        const MAX_DEST_RD_ATOMIC = 1 << 17;
        /// The state of path migration.
        const MIGRATION_STATE = 1 << 18;
        /// The depths of the queues.
        const CAPABILITIES = 1 << 19;
        /// The peer's queue pair.
        const DEST_QPN = 1 << 20;
    }
}

impl fmt::Display for AttributeMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bitflags::parser::to_writer(self, f)
    }
}
