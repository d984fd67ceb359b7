//! What happened, for the caller: rdma_cm's events.

use rocev2::{Mtu, Psn, Qpn};

use super::{Path, Transport};
use crate::ip::IpAddressing;
use crate::wire::{PrivateData, RejectReason, SidrStatus};
use crate::{CommId, Exponent};

/// What happened. Each connection's events come in order, and none follows one that says that its id is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer asks for a connection: `RDMA_CM_EVENT_CONNECT_REQUEST`.
    /// [`Manager::accept`](super::Manager::accept) or [`Manager::reject`](super::Manager::reject) answers.
    ConnectRequest {
        /// The connection's id from now on.
        id: CommId,
        /// What the peer asks for.
        request: ConnectRequest,
    },
    /// The peer accepts: `RDMA_CM_EVENT_CONNECT_RESPONSE`. Bring the queue pair to RTR and RTS, then call
    /// [`Manager::establish`](super::Manager::establish).
    ConnectResponse {
        /// The connection.
        id: CommId,
        /// What the peer answers.
        response: ConnectResponse,
    },
    /// The peer is ready: `RDMA_CM_EVENT_ESTABLISHED`, for who has accepted. Who has connected is told by the return
    /// of its own call.
    Established {
        /// The connection.
        id: CommId,
        /// What the peer's RTU carries; `None` if a message came first.
        private_data: Option<PrivateData<224>>,
    },
    /// The peer refuses, or gives up: `RDMA_CM_EVENT_REJECTED`. The id is gone unless it
    /// [has a state](super::Manager::state), TIME-WAIT.
    Rejected {
        /// The connection.
        id: CommId,
        /// Why.
        reason: RejectReason,
        /// How many bytes of `ari` there are, at most 72.
        ari_len: usize,
        /// Additional information.
        ari: [u8; 72],
        /// The consumer's.
        private_data: PrivateData<148>,
    },
    /// No answer after all retries, or none by the caller in time: `RDMA_CM_EVENT_UNREACHABLE`. The id is gone unless
    /// it has a state, TIME-WAIT.
    Unreachable {
        /// The connection or SIDR request.
        id: CommId,
    },
    /// The connection has ended: `RDMA_CM_EVENT_DISCONNECTED`. If the peer ended it,
    /// [`Manager::disconnect`](super::Manager::disconnect) answers.
    Disconnected {
        /// The connection.
        id: CommId,
    },
    /// TIME-WAIT is over: `RDMA_CM_EVENT_TIMEWAIT_EXIT`. The id is gone, the queue pair may be used anew.
    TimeWaitExit {
        /// The connection.
        id: CommId,
    },
    /// Somebody asks for a connection with the peer's queue pair, and was refused: the peer may have forgotten this
    /// connection, or somebody forges. Told once. (The kernel ends the old connection then, which a forger could use.)
    Stale {
        /// The old connection.
        id: CommId,
    },
    /// A peer asks which queue pair serves datagrams: `RDMA_CM_EVENT_CONNECT_REQUEST` of a UDP port.
    /// [`Manager::answer`](super::Manager::answer) answers.
    SidrRequest {
        /// The request.
        id: CommId,
        /// The ends.
        path: Path,
        /// What was asked for.
        service_id: u64,
        /// The asker, if the service is a port.
        addressing: Option<IpAddressing>,
        /// All of it, IP addressing included.
        private_data: PrivateData<216>,
    },
    /// The answer to [`Manager::resolve`](super::Manager::resolve): `RDMA_CM_EVENT_ESTABLISHED` if it is
    /// [`SidrStatus::Valid`], else `RDMA_CM_EVENT_UNREACHABLE`. The id is gone.
    SidrResponse {
        /// The request.
        id: CommId,
        /// Whether `qpn` and `qkey` mean something.
        status: SidrStatus,
        /// The queue pair.
        qpn: Qpn,
        /// Its queue key.
        qkey: u32,
        /// The consumer's.
        private_data: PrivateData<136>,
    },
}

/// What a peer's REQ asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The ends.
    pub path: Path,
    /// The service.
    pub service_id: u64,
    /// The asker, if the service is a port.
    pub addressing: Option<IpAddressing>,
    /// The transport.
    pub transport: Transport,
    /// The peer's queue pair.
    pub qpn: Qpn,
    /// The first PSN that it expects: this side's queue pair sends it.
    pub starting_psn: Psn,
    /// The path MTU.
    pub mtu: Mtu,
    /// READs and atomics that the peer can answer at a time.
    pub responder_resources: u8,
    /// READs and atomics that the peer will have under way at a time.
    pub initiator_depth: u8,
    /// How often this side is to repeat what isn't acknowledged.
    pub retry_count: u8,
    /// How often this side is to try again when the peer isn't ready.
    pub rnr_retry_count: u8,
    /// Whether the peer has a shared receive queue.
    pub srq: bool,
    /// All of the private data, IP addressing included.
    pub private_data: PrivateData<92>,
}

/// What a peer's REP answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// The peer's queue pair.
    pub qpn: Qpn,
    /// The first PSN that it expects: this side's queue pair sends it.
    pub starting_psn: Psn,
    /// READs and atomics that the peer can answer at a time.
    pub responder_resources: u8,
    /// READs and atomics that the peer will have under way at a time.
    pub initiator_depth: u8,
    /// How often this side is to try again when the peer isn't ready.
    pub rnr_retry_count: u8,
    /// How long the peer takes to acknowledge.
    pub target_ack_delay: Exponent,
    /// Whether the peer has a shared receive queue.
    pub srq: bool,
    /// The consumer's.
    pub private_data: PrivateData<196>,
}
