//! Ids: what programs know connections, requests and listeners by (`rdma_cm_id`).

use super::protocol::{Addresses, Attributes, Params};
use rocev2::{Psn, Qpn};
use rocev2_cm::ip::{PortSpace, Service};
use rocev2_cm::manager::{LocalQueuePair, QueuePairAttributes};
use rocev2_cm::{CommId, Exponent};
use std::collections::HashSet;
use std::net::SocketAddr;

/// What kind of queue pair an id is for, by `enum ibv_qp_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum QpType {
    Rc,
    Uc,
    Ud,
}

impl QpType {
    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            2 => Some(Self::Rc),
            3 => Some(Self::Uc),
            4 => Some(Self::Ud),
            _ => None,
        }
    }
}

/// How far an id is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Idle,
    Bound,
    AddressResolved,
    RouteResolved,
    Listening,
    /// It has asked a peer, or a peer has asked.
    Connecting,
    /// Answered: connected, refused, or over.
    Answered,
}

#[derive(Debug)]
pub(super) struct Id {
    pub(super) client: u64,
    pub(super) channel: u32,
    pub(super) space: PortSpace,
    pub(super) qp_type: QpType,
    pub(super) state: State,
    pub(super) source: Option<SocketAddr>,
    pub(super) destination: Option<SocketAddr>,
    /// Whether it belongs to the device: not if it is bound to any address.
    pub(super) device: bool,
    /// The port that it has.
    pub(super) port: Option<Service>,
    pub(super) reuse: bool,
    pub(super) traffic_class: u8,
    pub(super) ack_timeout: Option<Exponent>,
    /// The manager's name for it, once there is one.
    pub(super) connection: Option<CommId>,
    /// The first PSN that its queue pair expects.
    pub(super) starting_psn: Psn,
    /// What a peer's request asks for: READs and atomics that this side has to answer, and may have under way.
    pub(super) asked: [u8; 2],
    /// The program's names for the multicast groups that it has joined.
    pub(super) groups: HashSet<u64>,
}

/// Stands for a queue pair that isn't known yet, where its number doesn't matter.
const ANY_QPN: Qpn = Qpn::truncate(2);

impl Id {
    pub(super) fn new(client: u64, channel: u32, space: PortSpace, qp_type: QpType, psn: Psn) -> Self {
        Self {
            client,
            channel,
            space,
            qp_type,
            state: State::Idle,
            source: None,
            destination: None,
            device: false,
            port: None,
            reuse: false,
            traffic_class: 0,
            ack_timeout: None,
            connection: None,
            starting_psn: psn,
            asked: [0; 2],
            groups: HashSet::new(),
        }
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses { source: self.source, destination: self.destination, device: self.device }
    }

    /// The program's queue pair.
    pub(super) fn queue_pair(&self, params: &Params) -> LocalQueuePair {
        LocalQueuePair {
            qpn: Qpn::truncate(params.qpn),
            starting_psn: self.starting_psn,
            responder_resources: params.responder_resources,
            initiator_depth: params.initiator_depth,
            rnr_retry_count: params.rnr_retry_count.min(7),
            srq: params.srq,
        }
    }

    /// The same before the program has answered a request: as the request asks for.
    pub(super) fn expected_queue_pair(&self) -> LocalQueuePair {
        let [responder_resources, initiator_depth] = self.asked;
        LocalQueuePair {
            qpn: ANY_QPN,
            starting_psn: self.starting_psn,
            responder_resources,
            initiator_depth,
            rnr_retry_count: 7,
            srq: false,
        }
    }
}

impl From<QueuePairAttributes> for Attributes {
    fn from(from: QueuePairAttributes) -> Self {
        Self {
            dgid: from.path.remote.0,
            traffic_class: from.traffic_class,
            hop_limit: from.hop_limit,
            flow_label: from.flow_label,
            path_mtu: from.path_mtu.code(),
            dest_qp_num: from.dest_qp_num.get(),
            rq_psn: from.rq_psn.get(),
            max_dest_rd_atomic: from.max_dest_rd_atomic,
            sq_psn: from.sq_psn.get(),
            timeout: from.timeout.get(),
            retry_cnt: from.retry_cnt,
            rnr_retry: from.rnr_retry,
            max_rd_atomic: from.max_rd_atomic,
        }
    }
}
