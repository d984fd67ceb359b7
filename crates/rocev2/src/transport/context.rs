//! What a call is given beside the packet.

use crate::Srqn;
use crate::work::{Memory, ReceiveQueue};
use std::net::IpAddr;

/// What a queue pair works with and doesn't own.
#[expect(missing_debug_implementations, reason = "memory and work requests may hold secrets")]
pub struct Context<'a, M: Memory> {
    /// The memory behind work requests and remote keys.
    pub memory: &'a M,
    /// The receive queue that messages take requests from: the queue pair's own, or a shared one.
    pub receives: &'a mut ReceiveQueue<M::Buffers>,
    /// At an XRC target, the number of the shared receive queue that `receives` is and whose protection domain `memory`
    /// is: that of the message that [is arriving](super::QueuePair::message_arrives), or else the one that the packet
    /// names, if the queue pair's XRC domain has it. A request that names another is refused.
    pub xrc_srq: Option<Srqn>,
}

impl<'a, M: Memory> Context<'a, M> {
    /// For a queue pair that is no XRC target.
    pub fn new(memory: &'a M, receives: &'a mut ReceiveQueue<M::Buffers>) -> Self {
        Self { memory, receives, xrc_srq: None }
    }
}

/// Where a packet came from, as far as its device knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The sender's address.
    pub source: IpAddr,
    /// The address that it was sent to.
    pub destination: IpAddr,
    /// The traffic class (IPv6) or type of service (IPv4).
    pub traffic_class: Option<u8>,
    /// The hop limit (IPv6) or time to live (IPv4) that was left.
    pub hop_limit: Option<u8>,
}
