//! One connection.

use core::time::Duration;

use rocev2::{Psn, Qpn, Time};

use super::listener::Listening;
use super::listener_awaited::ListenerAwaited;
use super::params::{LocalQueuePair, QueuePairAttributes, Route, Transport};
use super::{Config, Path};
use crate::wire::MAD_LEN;
use crate::{CommId, Exponent};

/// A connection's or SIDR request's state, by the kernel's names (IBA 12.9.6, 12.9.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum State {
    /// This side's REQ waits for its answer.
    ReqSent,
    /// The peer's REQ waits for the caller's answer.
    ReqRcvd,
    /// The peer's REP waits for the caller to be ready.
    RepRcvd,
    /// This side's REP waits for its answer.
    RepSent,
    /// Connected.
    Established,
    /// This side's DREQ waits for its answer.
    DreqSent,
    /// The peer's DREQ waits for the caller's answer.
    DreqRcvd,
    /// The connection is over; late packets of it may still be under way.
    TimeWait,
    /// This side's SIDR_REQ waits for its answer.
    SidrReqSent,
    /// The peer's SIDR_REQ waits for the caller's answer.
    SidrReqRcvd,
    /// The peer's SIDR_REQ is answered; the answer is kept in case it is lost.
    SidrRepSent,
}

impl State {
    /// Whether it is a connection that a peer has begun and that isn't established: the limits on half-open ones count
    /// it.
    pub(super) const fn is_half_open(self) -> bool {
        matches!(self, Self::ReqRcvd | Self::RepSent)
    }
}

/// A message that is repeated until it is answered.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) mad: Box<[u8; MAD_LEN]>,
    pub(super) retries_left: u8,
    pub(super) interval: Duration,
    /// Whether an MRA has extended the wait: once for each message.
    pub(super) extended: bool,
    /// For as long as nobody listens, where it is a request.
    pub(super) listener: ListenerAwaited,
}

impl Unanswered {
    /// Whether it may be sent once more. After a refusal since nobody listens, that is no repetition.
    pub(super) fn take_turn(&mut self) -> bool {
        if self.listener.resume() {
            return true;
        }
        let left = self.retries_left.checked_sub(1);
        self.retries_left = left.unwrap_or(0);
        left.is_some()
    }
}

/// The peer's queue pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct RemoteQueuePair {
    pub(super) qpn: Qpn,
    pub(super) starting_psn: Psn,
    pub(super) responder_resources: u8,
    pub(super) initiator_depth: u8,
    pub(super) rnr_retry_count: u8,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) state: State,
    pub(super) path: Path,
    /// Of the exchange from REQ to RTU.
    pub(super) transaction_id: u64,
    /// [`CommId::NONE`] as long as it isn't known.
    pub(super) remote_id: CommId,
    pub(super) transport: Transport,
    pub(super) route: Route,
    pub(super) local: Option<LocalQueuePair>,
    pub(super) remote: Option<RemoteQueuePair>,
    /// How long the peer is given for an answer, as the REQ says it.
    pub(super) peer_answers_within: Exponent,
    pub(super) max_retries: u8,
    pub(super) unanswered: Option<Unanswered>,
    /// What was answered last: sent again if the peer repeats what it was an answer to.
    pub(super) answer: Option<Box<[u8; MAD_LEN]>>,
    pub(super) deadline: Option<Time>,
    /// Whose backlog it fills.
    pub(super) listening: Option<Listening>,
    /// The caller has given it up: no events any more.
    pub(super) abandoned: bool,
    pub(super) told_stale: bool,
}

impl Connection {
    /// How long to wait for an answer: what the peer was told that it may take, and the way there and back. A peer's
    /// word counts up to the limit.
    pub(super) fn interval(&self, config: &Config) -> Duration {
        let way = self.route.ack_timeout.duration();
        self.peer_answers_within.duration().saturating_add(way).min(config.max_response_timeout)
    }

    /// As long as packets of the connection may be under way (IBA 12.9.8.4).
    pub(super) fn time_wait(&self, config: &Config) -> Duration {
        self.route.ack_timeout.duration().min(config.max_time_wait)
    }

    pub(super) fn attributes(&self) -> Option<QueuePairAttributes> {
        let (local, remote) = (self.local?, self.remote?);
        Some(QueuePairAttributes {
            transport: self.transport,
            partition_key: self.route.partition_key,
            path: self.path,
            traffic_class: self.route.traffic_class,
            flow_label: self.route.flow_label,
            hop_limit: self.route.hop_limit,
            service_level: self.route.service_level,
            path_mtu: self.route.mtu,
            dest_qp_num: remote.qpn,
            rq_psn: local.starting_psn,
            max_dest_rd_atomic: local.responder_resources.min(remote.initiator_depth),
            sq_psn: remote.starting_psn,
            timeout: self.route.ack_timeout,
            retry_cnt: self.route.retry_count,
            rnr_retry: remote.rnr_retry_count,
            // More than the peer can answer would be refused by its queue pair.
            max_rd_atomic: local.initiator_depth.min(remote.responder_resources),
        })
    }
}
