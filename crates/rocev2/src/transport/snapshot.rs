//! What a query tells of a queue pair.

use super::rc::{RequesterCounters, ResponderCounters};
use crate::work::{Attributes, PeerRights, ReceiveAttributes, SendAttributes, State};

/// What a query tells of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The queue pair's state.
    pub state: State,
    /// Every attribute that was set.
    pub attributes: Attributes,
    /// What the peer may do.
    pub rights: PeerRights,
    /// What was given for INIT → RTR.
    pub receive: Option<ReceiveAttributes>,
    /// What was given for RTR → RTS.
    pub send: Option<SendAttributes>,
    /// Send requests that have not completed.
    pub send_outstanding: usize,
    /// Answers to the peer's requests that wait to be sent; a READ counts once, however many packets its answer takes.
    pub answers_waiting: usize,
    /// What the requester counted.
    pub requester: RequesterCounters,
    /// What the responder counted.
    pub responder: ResponderCounters,
}
