//! The states of a queue pair and what each transition needs (`ibv_modify_qp(3)`; `qp_state_table` in Linux's
//! `drivers/infiniband/core/verbs.c`).

use super::attribute_mask::AttributeMask;
use crate::{Mtu, Psn, Qpn};
use core::fmt;

/// The states of a queue pair, numbered as `enum ibv_qp_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Made; nothing works yet.
    Reset = 0,
    /// Receive requests may be posted; packets are ignored.
    Init = 1,
    /// Packets are received and answered.
    ReadyToReceive = 2,
    /// Everything works.
    ReadyToSend = 3,
    /// Send requests that had begun are finished, no further one is begun.
    SendQueueDrain = 4,
    /// The send queue failed while the receive queue works, until the program goes back to
    /// [`State::ReadyToSend`]. A reliable connection never gets there: it fails as a whole.
    SendQueueError = 5,
    /// Failed, or told to stop: every request completes with `WR_FLUSH_ERR`.
    Error = 6,
}

impl State {
    /// Whether packets of the peer are received.
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::ReadyToReceive | Self::ReadyToSend | Self::SendQueueDrain | Self::SendQueueError)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "RESET",
            Self::Init => "INIT",
            Self::ReadyToReceive => "RTR",
            Self::ReadyToSend => "RTS",
            Self::SendQueueDrain => "SQD",
            Self::SendQueueError => "SQE",
            Self::Error => "ERR",
        })
    }
}

/// What the peer may do through this queue pair, whatever its keys say (`qp_access_flags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerRights {
    /// RDMA READ.
    pub read: bool,
    /// RDMA WRITE.
    pub write: bool,
    /// Atomics.
    pub atomic: bool,
}

/// RESET → INIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitAttributes {
    /// What the peer may do.
    pub rights: PeerRights,
}

/// INIT → RTR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveAttributes {
    /// Payload bytes of a full packet; both sides need the same.
    pub path_mtu: Mtu,
    /// The peer's queue pair.
    pub peer_qpn: Qpn,
    /// The first PSN that the **peer** will send (`rq_psn`).
    pub rq_psn: Psn,
    /// How many reads and atomics of the peer are answered at a time, 0 to [`MAX_RD_ATOMIC`].
    pub max_dest_rd_atomic: u8,
    /// The delay that an RNR NAK asks for, a 5-bit code (see [`crate::transport::rc::rnr_delay`]).
    pub min_rnr_timer: u8,
}

/// RTR → RTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendAttributes {
    /// The first PSN that **this side** sends (`sq_psn`).
    pub sq_psn: Psn,
    /// The local ACK timeout, a 5-bit code (see [`crate::transport::rc::ack_timeout`]).
    pub timeout: u8,
    /// How often a silent peer is asked again before `RETRY_EXC_ERR`, 0 to 7.
    pub retry_count: u8,
    /// How often an RNR NAK is accepted before `RNR_RETRY_EXC_ERR`, 0 to 6; 7 means for ever.
    pub rnr_retry: u8,
    /// How many reads and atomics are under way at a time, at most the peer's `max_dest_rd_atomic`.
    pub max_rd_atomic: u8,
}

/// The most reads and atomics that one direction may have under way.
pub const MAX_RD_ATOMIC: u8 = 128;

/// A transition with what it requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// From any state: forgets everything, requests and completions not yet handed out included.
    Reset,
    /// RESET → INIT, or INIT → INIT.
    Init(InitAttributes),
    /// INIT → RTR.
    ReadyToReceive(ReceiveAttributes),
    /// RTR → RTS.
    ReadyToSend(SendAttributes),
    /// RTS → SQD.
    Drain,
    /// SQD → RTS.
    Resume,
    /// From any state but RESET.
    Error,
}

impl Transition {
    /// The state it leads to.
    #[must_use]
    pub const fn target(&self) -> State {
        match self {
            Self::Reset => State::Reset,
            Self::Init(_) => State::Init,
            Self::ReadyToReceive(_) => State::ReadyToReceive,
            Self::ReadyToSend(_) | Self::Resume => State::ReadyToSend,
            Self::Drain => State::SendQueueDrain,
            Self::Error => State::Error,
        }
    }

    /// Whether it may be made from `from`, whatever its attributes.
    pub(crate) fn check(&self, from: State) -> Result<(), ModifyError> {
        let allowed = match self {
            Self::Reset => true,
            Self::Init(_) => matches!(from, State::Reset | State::Init),
            Self::ReadyToReceive(_) => from == State::Init,
            Self::ReadyToSend(_) => from == State::ReadyToReceive,
            Self::Drain => from == State::ReadyToSend,
            Self::Resume => from == State::SendQueueDrain,
            Self::Error => from != State::Reset,
        };
        if !allowed {
            return Err(ModifyError::Transition { from, to: self.target() });
        }
        Ok(())
    }
}

/// Why a transition wasn't made; the queue pair is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModifyError {
    /// No such transition.
    #[error("a queue pair can't go from {from} to {to}")]
    Transition {
        /// The state it is in.
        from: State,
        /// The state that was asked for.
        to: State,
    },
    /// The queue pair isn't in the state that the caller believed it to be in.
    #[error("the queue pair is in state {from}, not in the one that was given as its current state")]
    CurrentState {
        /// The state it is in.
        from: State,
    },
    /// The transition needs more attributes.
    #[error("from {from} to {to} a queue pair needs {missing}, too")]
    Missing {
        /// The state it is in.
        from: State,
        /// The state that was asked for.
        to: State,
        /// The attributes that weren't given.
        missing: AttributeMask,
    },
    /// The transition sets no such attributes.
    #[error("from {from} to {to} a queue pair takes no {excess}")]
    NotAllowed {
        /// The state it is in.
        from: State,
        /// The state that was asked for.
        to: State,
        /// The attributes that can't be set then.
        excess: AttributeMask,
    },
    /// An attribute is out of its range.
    #[error("{name} = {value} is more than the {max} that are allowed")]
    Attribute {
        /// Its name in `ibv_qp_attr`.
        name: &'static str,
        /// What was asked for.
        value: u8,
        /// The most that is allowed.
        max: u8,
    },
}
