//! What a call is given beside the packet.

use crate::work::{Memory, ReceiveQueue};
use std::net::IpAddr;

/// What a queue pair works with and doesn't own.
#[expect(missing_debug_implementations, reason = "memory and work requests may hold secrets")]
pub struct Context<'a, M: Memory> {
    /// The memory behind work requests and remote keys.
    pub memory: &'a M,
    /// The receive queue that messages take requests from: the queue pair's own, or a shared one.
    pub receives: &'a mut ReceiveQueue<M::Buffers>,
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
