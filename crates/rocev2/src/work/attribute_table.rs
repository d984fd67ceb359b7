//! Attributes of queue pairs, and which of them each transition needs and allows (`ibv_modify_qp(3)`;
//! `qp_state_table` in Linux's `drivers/infiniband/core/verbs.c`).

use super::attribute_mask::AttributeMask;
use super::attributes::{
    MAX_RD_ATOMIC, ModifyError, PeerRights, ReceiveAttributes, SendAttributes, State, Transition,
};
use super::queue_pair_type::QueuePairType;
use crate::{Mtu, Psn, Qpn};

/// Attributes to be set: those that are given. The protocol doesn't use all of them itself; the device does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The state to go to; otherwise the queue pair stays in its state.
    pub state: Option<State>,
    /// The state that the caller believes the queue pair to be in: any other refuses the change.
    pub current_state: Option<State>,
    /// Whether draining ends with an event; it does unless this says otherwise.
    pub drain_event: Option<bool>,
    /// What the peer may do.
    pub rights: Option<PeerRights>,
    /// The partition key, as an index of the port's table.
    pub pkey_index: Option<u16>,
    /// The port, from 1.
    pub port: Option<u8>,
    /// The queue key of a datagram queue pair.
    pub qkey: Option<u32>,
    /// Whether a path to the peer is set. The device keeps it.
    pub path: bool,
    /// Payload bytes of a full packet; both sides need the same.
    pub path_mtu: Option<Mtu>,
    /// The peer's queue pair.
    pub peer_qpn: Option<Qpn>,
    /// The first PSN that the **peer** will send.
    pub rq_psn: Option<Psn>,
    /// The first PSN that **this side** sends.
    pub sq_psn: Option<Psn>,
    /// The local ACK timeout, a 5-bit code.
    pub timeout: Option<u8>,
    /// How often a silent peer is asked again, 0 to 7.
    pub retry_count: Option<u8>,
    /// How often an RNR NAK is accepted, 0 to 6; 7 means for ever.
    pub rnr_retry: Option<u8>,
    /// The delay that an RNR NAK asks for, a 5-bit code.
    pub min_rnr_timer: Option<u8>,
    /// How many reads and atomics are under way at a time.
    pub max_rd_atomic: Option<u8>,
    /// How many reads and atomics of the peer are answered at a time.
    pub max_dest_rd_atomic: Option<u8>,
}

impl Attributes {
    /// Which attributes are given.
    #[must_use]
    pub fn mask(&self) -> AttributeMask {
        use AttributeMask as A;
        let given = [
            (self.state.is_some(), A::STATE),
            (self.current_state.is_some(), A::CURRENT_STATE),
            (self.drain_event.is_some(), A::DRAIN_EVENT),
            (self.rights.is_some(), A::ACCESS_FLAGS),
            (self.pkey_index.is_some(), A::PKEY_INDEX),
            (self.port.is_some(), A::PORT),
            (self.qkey.is_some(), A::QKEY),
            (self.path, A::PATH),
            (self.path_mtu.is_some(), A::PATH_MTU),
            (self.peer_qpn.is_some(), A::DEST_QPN),
            (self.rq_psn.is_some(), A::RQ_PSN),
            (self.sq_psn.is_some(), A::SQ_PSN),
            (self.timeout.is_some(), A::TIMEOUT),
            (self.retry_count.is_some(), A::RETRY_COUNT),
            (self.rnr_retry.is_some(), A::RNR_RETRY),
            (self.min_rnr_timer.is_some(), A::MIN_RNR_TIMER),
            (self.max_rd_atomic.is_some(), A::MAX_RD_ATOMIC),
            (self.max_dest_rd_atomic.is_some(), A::MAX_DEST_RD_ATOMIC),
        ];
        given.into_iter().filter_map(|(given, name)| given.then_some(name)).collect()
    }

    /// Whether they may be set in state `from`, and the state that this leads to.
    ///
    /// # Errors
    /// There is no such transition, an attribute is missing, not allowed or out of range.
    pub fn check(&self, of: QueuePairType, from: State) -> Result<State, ModifyError> {
        let to = self.state.unwrap_or(from);
        let rules = rules(of, from, to).ok_or(ModifyError::Transition { from, to })?;
        if self.current_state.is_some_and(|state| state != from) {
            return Err(ModifyError::CurrentState { from });
        }
        let given = self.mask() - AttributeMask::STATE;
        let missing = rules.required - given;
        if !missing.is_empty() {
            return Err(ModifyError::Missing { from, to, missing });
        }
        let excess = given - rules.required - rules.optional;
        if !excess.is_empty() {
            return Err(ModifyError::NotAllowed { from, to, excess });
        }
        for (name, value, max) in [
            ("max_dest_rd_atomic", self.max_dest_rd_atomic, MAX_RD_ATOMIC),
            ("min_rnr_timer", self.min_rnr_timer, 31),
            ("timeout", self.timeout, 31),
            ("retry_count", self.retry_count, 7),
            ("rnr_retry", self.rnr_retry, 7),
            ("max_rd_atomic", self.max_rd_atomic, MAX_RD_ATOMIC),
        ] {
            if let Some(value) = value.filter(|&value| value > max) {
                return Err(ModifyError::Attribute { name, value, max });
            }
        }
        Ok(to)
    }

    /// What INIT → RTR was given, on a connection.
    pub(crate) fn receive(&self) -> Option<ReceiveAttributes> {
        Some(ReceiveAttributes {
            path_mtu: self.path_mtu?,
            peer_qpn: self.peer_qpn?,
            rq_psn: self.rq_psn?,
            max_dest_rd_atomic: self.max_dest_rd_atomic.unwrap_or(0),
            min_rnr_timer: self.min_rnr_timer.unwrap_or(0),
        })
    }

    /// What RTR → RTS was given.
    pub(crate) fn send(&self) -> Option<SendAttributes> {
        Some(SendAttributes {
            sq_psn: self.sq_psn?,
            timeout: self.timeout.unwrap_or(0),
            retry_count: self.retry_count.unwrap_or(0),
            rnr_retry: self.rnr_retry.unwrap_or(0),
            max_rd_atomic: self.max_rd_atomic.unwrap_or(0),
        })
    }

    /// These, with those that `newer` gives in their place.
    #[must_use]
    pub fn updated(&self, newer: &Self) -> Self {
        Self {
            state: newer.state.or(self.state),
            current_state: None,
            drain_event: newer.drain_event.or(self.drain_event),
            rights: newer.rights.or(self.rights),
            pkey_index: newer.pkey_index.or(self.pkey_index),
            port: newer.port.or(self.port),
            qkey: newer.qkey.or(self.qkey),
            path: newer.path || self.path,
            path_mtu: newer.path_mtu.or(self.path_mtu),
            peer_qpn: newer.peer_qpn.or(self.peer_qpn),
            rq_psn: newer.rq_psn.or(self.rq_psn),
            sq_psn: newer.sq_psn.or(self.sq_psn),
            timeout: newer.timeout.or(self.timeout),
            retry_count: newer.retry_count.or(self.retry_count),
            rnr_retry: newer.rnr_retry.or(self.rnr_retry),
            min_rnr_timer: newer.min_rnr_timer.or(self.min_rnr_timer),
            max_rd_atomic: newer.max_rd_atomic.or(self.max_rd_atomic),
            max_dest_rd_atomic: newer.max_dest_rd_atomic.or(self.max_dest_rd_atomic),
        }
    }
}

impl From<Transition> for Attributes {
    fn from(transition: Transition) -> Self {
        let to = Self { state: Some(transition.target()), ..Self::default() };
        match transition {
            Transition::Init(init) => {
                Self { rights: Some(init.rights), pkey_index: Some(0), port: Some(1), ..to }
            }
            Transition::ReadyToReceive(receive) => Self {
                path: true,
                path_mtu: Some(receive.path_mtu),
                peer_qpn: Some(receive.peer_qpn),
                rq_psn: Some(receive.rq_psn),
                max_dest_rd_atomic: Some(receive.max_dest_rd_atomic),
                min_rnr_timer: Some(receive.min_rnr_timer),
                ..to
            },
            Transition::ReadyToSend(send) => Self {
                sq_psn: Some(send.sq_psn),
                timeout: Some(send.timeout),
                retry_count: Some(send.retry_count),
                rnr_retry: Some(send.rnr_retry),
                max_rd_atomic: Some(send.max_rd_atomic),
                ..to
            },
            Transition::Reset | Transition::Drain | Transition::Resume | Transition::Error => to,
        }
    }
}

/// What a transition needs and allows, beside the state itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Attributes that must be given.
    pub required: AttributeMask,
    /// Attributes that may be given.
    pub optional: AttributeMask,
}

/// The rules of the transition between two states, if there is one.
#[must_use]
pub fn rules(of: QueuePairType, from: State, to: State) -> Option<Rules> {
    use AttributeMask as A;
    use State::{Error, Init, ReadyToReceive, ReadyToSend, Reset, SendQueueDrain, SendQueueError};
    let none = A::empty();
    let for_datagrams = of == QueuePairType::Ud;
    // What only a connection has, and only one side of a reliable one: that which sends requests or answers them.
    let connected = |attributes: A| if for_datagrams { none } else { attributes };
    let requester = |attributes: A| match of {
        QueuePairType::Rc | QueuePairType::XrcInitiator => attributes,
        _ => none,
    };
    let responder = |attributes: A| match of {
        QueuePairType::Rc | QueuePairType::XrcTarget => attributes,
        _ => none,
    };
    let reliable = |attributes: A| requester(attributes) | responder(attributes);
    let own = if for_datagrams { A::QKEY } else { A::ACCESS_FLAGS };
    let path = A::ALTERNATE_PATH | A::MIGRATION_STATE;
    // What may be changed in RTS, and on the way there.
    let working = A::CURRENT_STATE | own | connected(path) | responder(A::MIN_RNR_TIMER);
    let (required, optional) = match (from, to) {
        (_, Reset) => (none, none),
        (Reset, Error) => return None,
        (_, Error) => (none, none),
        (Reset, Init) => (A::PKEY_INDEX | A::PORT | own, none),
        (Init, Init) => (none, A::PKEY_INDEX | A::PORT | own),
        (Init, ReadyToReceive) => (
            connected(A::PATH | A::PATH_MTU | A::DEST_QPN | A::RQ_PSN)
                | responder(A::MAX_DEST_RD_ATOMIC | A::MIN_RNR_TIMER),
            A::PKEY_INDEX | own | connected(A::ALTERNATE_PATH),
        ),
        (ReadyToReceive, ReadyToSend) => (
            A::SQ_PSN | reliable(A::TIMEOUT) | requester(A::RETRY_COUNT | A::RNR_RETRY | A::MAX_RD_ATOMIC),
            working,
        ),
        (ReadyToSend, ReadyToSend) | (SendQueueDrain, ReadyToSend) => (none, working),
        (ReadyToSend, SendQueueDrain) => (none, A::DRAIN_EVENT),
        (SendQueueDrain, SendQueueDrain) => (
            none,
            A::PKEY_INDEX
                | own
                | connected(A::PATH | path)
                | reliable(A::PORT | A::TIMEOUT)
                | requester(A::RETRY_COUNT | A::RNR_RETRY | A::MAX_RD_ATOMIC)
                | responder(A::MAX_DEST_RD_ATOMIC | A::MIN_RNR_TIMER),
        ),
        // A reliable connection never gets there.
        (SendQueueError, ReadyToSend) => (none, A::CURRENT_STATE | if of.is_reliable() { none } else { own }),
        _ => return None,
    };
    Some(Rules { required, optional })
}
