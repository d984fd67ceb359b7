//! What the caller gives, and what it gets for its queue pair.

use core::time::Duration;

use rocev2::{Mtu, Psn, Qpn};

use super::Path;
use crate::Exponent;
use crate::wire::PrivateData;

/// The transport of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Reliable connection.
    Rc,
    /// Unreliable connection.
    Uc,
}

/// A queue pair of the caller's, and what it can do (`rdma_conn_param`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalQueuePair {
    /// Its number.
    pub qpn: Qpn,
    /// The first PSN that it expects, which the peer is told: draw it at random.
    pub starting_psn: Psn,
    /// READs and atomics that it can answer at a time.
    pub responder_resources: u8,
    /// READs and atomics that it will have under way at a time.
    pub initiator_depth: u8,
    /// How often the peer is to try again when this queue pair isn't ready: 0 to 7, 7 is for ever.
    pub rnr_retry_count: u8,
    /// Whether it has a shared receive queue.
    pub srq: bool,
}

/// What both ends of a connection agree on, as the REQ says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The path MTU.
    pub mtu: Mtu,
    /// Twice the packet lifetime and the delay of an acknowledgement.
    pub ack_timeout: Exponent,
    /// How often what isn't acknowledged is repeated: 0 to 7.
    pub retry_count: u8,
    /// The partition.
    pub partition_key: u16,
    /// The packets' traffic class.
    pub traffic_class: u8,
    /// The packets' flow label, 20 bits.
    pub flow_label: u32,
    /// The packets' hop limit.
    pub hop_limit: u8,
    /// The packets' service level, 0 to 15.
    pub service_level: u8,
}

impl Route {
    /// As the kernel's rdma_cm has it over RoCEv2, at that path MTU: hop limit 64, an acknowledgement within
    /// 537 ms, seven retries.
    #[must_use]
    pub const fn new(mtu: Mtu) -> Self {
        Self {
            mtu,
            ack_timeout: Exponent::truncate(17),
            retry_count: 7,
            partition_key: 0xffff,
            traffic_class: 0,
            flow_label: 0,
            hop_limit: 64,
            service_level: 0,
        }
    }
}

/// How long answers are waited for, and how often a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long the other side may take to answer.
    pub response_timeout: Exponent,
    /// How often a message that isn't answered is sent again: 0 to 15.
    pub max_retries: u8,
    /// How long a peer that answers that nobody listens is asked again, from its first answer on: for programs that
    /// tell their peers to connect and listen only then. The pauses grow, from 5 ms on.
    pub listener_within: Duration,
}

impl Default for Patience {
    /// The kernel's rdma_cm: 4.3 s, 15 retries; that nobody listens is told at once.
    fn default() -> Self {
        Self { response_timeout: Exponent::RESPONSE, max_retries: 15, listener_within: Duration::ZERO }
    }
}

/// What [`Manager::connect`](super::Manager::connect) asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The ends.
    pub path: Path,
    /// The service: [`crate::ip::Service::id`].
    pub service_id: u64,
    /// The transport.
    pub transport: Transport,
    /// The caller's queue pair.
    pub queue_pair: LocalQueuePair,
    /// What the connection is to be like.
    pub route: Route,
    /// How long both sides wait.
    pub patience: Patience,
    /// Of a port, it begins with [`crate::ip::IpAddressing`].
    pub private_data: PrivateData<92>,
}

/// What [`Manager::resolve`](super::Manager::resolve) asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// The ends.
    pub path: Path,
    /// The service.
    pub service_id: u64,
    /// The partition.
    pub partition_key: u16,
    /// How long this side waits.
    pub patience: Patience,
    /// Of a port, it begins with [`crate::ip::IpAddressing`].
    pub private_data: PrivateData<216>,
}

/// What the caller answers to a [`SidrRequest`](super::Event::SidrRequest).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// [`SidrStatus::Valid`](crate::wire::SidrStatus::Valid), or why not.
    pub status: crate::wire::SidrStatus,
    /// The queue pair that serves datagrams.
    pub qpn: Qpn,
    /// Its queue key.
    pub qkey: u32,
    /// The consumer's.
    pub private_data: PrivateData<136>,
}

/// What a queue pair is to be given on its way to RTS, by `ibv_modify_qp`'s names. The peer is known from the
/// connect request or response on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePairAttributes {
    /// The transport.
    pub transport: Transport,
    /// INIT: the partition.
    pub partition_key: u16,
    /// RTR: the ends.
    pub path: Path,
    /// RTR: the packets' traffic class.
    pub traffic_class: u8,
    /// RTR: the packets' flow label.
    pub flow_label: u32,
    /// RTR: the packets' hop limit.
    pub hop_limit: u8,
    /// RTR: the packets' service level.
    pub service_level: u8,
    /// RTR: the path MTU.
    pub path_mtu: Mtu,
    /// RTR: the peer's queue pair.
    pub dest_qp_num: Qpn,
    /// RTR: the first PSN that is expected, one's own starting PSN.
    pub rq_psn: Psn,
    /// RTR: READs and atomics to be answered at a time.
    pub max_dest_rd_atomic: u8,
    /// RTS: the first PSN to send, the peer's starting PSN.
    pub sq_psn: Psn,
    /// RTS: the local ACK timeout.
    pub timeout: Exponent,
    /// RTS: how often what isn't acknowledged is repeated.
    pub retry_cnt: u8,
    /// RTS: how often to try again when the peer isn't ready.
    pub rnr_retry: u8,
    /// RTS: READs and atomics under way at a time.
    pub max_rd_atomic: u8,
}
