//! What queue pairs are made with, what their transitions need, and what a device tells of one.

use crate::psn::PeerPsn;
use core::fmt;
use rocev2::transport::rc::{RequesterCounters, ResponderCounters};
use rocev2::work::{PeerRights, ReceiveAttributes, SendAttributes, State};
use rocev2::{Mtu, Qpn};
use rocev2_device::Gid;

/// What a queue pair is made for (`struct ibv_qp_cap`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePairLimits {
    /// Send requests that may be outstanding.
    pub max_send_requests: usize,
    /// Receive requests that may be outstanding.
    pub max_recv_requests: usize,
    /// Slices of one request.
    pub max_sge: usize,
    /// Bytes of an inline request.
    pub max_inline: usize,
}

impl Default for QueuePairLimits {
    /// Room for 128 requests of one slice in each queue, and nothing inline.
    fn default() -> Self {
        Self { max_send_requests: 128, max_recv_requests: 128, max_sge: 1, max_inline: 0 }
    }
}

/// What a device tells of a queue pair (`ibv_query_qp(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its state.
    pub state: State,
    /// What the peer may do.
    pub rights: PeerRights,
    /// What was given for INIT → RTR. A libibverbs device may tell where `rq_psn` has got to since.
    pub receive: Option<ReceiveAttributes>,
    /// What was given for RTR → RTS. A libibverbs device may tell where `sq_psn` has got to since.
    pub send: Option<SendAttributes>,
    /// What was counted; libibverbs doesn't tell.
    pub counters: Option<QueuePairCounters>,
}

/// What the embedded device counts of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePairCounters {
    /// As the one who asks.
    pub requester: RequesterCounters,
    /// As the one who is asked.
    pub responder: ResponderCounters,
}

/// The peer's end, as it described it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its queue pair.
    pub qpn: Qpn,
    /// The first PSN that it sends.
    pub psn: PeerPsn,
    /// Its address.
    pub gid: Gid,
    /// Its UDP port where the GID doesn't tell it: IPv6 on another port than 4791.
    pub udp_port: Option<u16>,
    /// Its port's LID, on InfiniBand.
    pub lid: Option<u16>,
}

/// What this side offers the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveOptions {
    /// The index of the local GID that the peer was told.
    pub gid_index: usize,
    /// Payload bytes of a full packet; both sides need the same.
    pub path_mtu: Mtu,
    /// Reads and atomics of the peer that are answered at a time.
    pub max_dest_rd_atomic: u8,
    /// The delay that an RNR NAK asks for, a 5-bit code: 12 is 0.64 ms (IBA table "RNR NAK timer field encoding").
    pub min_rnr_timer: u8,
}

/// How this side sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendOptions {
    /// The local ACK timeout, 4.096 µs · 2^timeout: 14 is 67 ms; 0 is for ever.
    pub timeout: u8,
    /// ACK timeouts beyond the first that the peer may stay silent, 0 to 7.
    pub retry_count: u8,
    /// RNR NAKs in a row that are accepted, 0 to 6; 7 is for ever.
    pub rnr_retry: u8,
    /// Reads and atomics under way at a time, at most the peer's `max_dest_rd_atomic`.
    pub max_rd_atomic: u8,
}

/// How queue pairs talk to each other (`enum ibv_qp_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportKind {
    /// Reliable connection.
    Rc,
    /// Unreliable connection.
    Uc,
    /// Unreliable datagram.
    Ud,
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rc => "reliable connections",
            Self::Uc => "unreliable connections",
            Self::Ud => "unreliable datagrams",
        })
    }
}

/// The queue pair that a datagram is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// Its number.
    pub qpn: Qpn,
    /// The Q_Key that it was initialised with.
    pub qkey: u32,
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key isn't for logs.
        f.debug_struct("Destination").field("qpn", &self.qpn).finish_non_exhaustive()
    }
}

/// What a shared receive queue is made for (`struct ibv_srq_attr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedReceiveQueueLimits {
    /// Requests that may be outstanding.
    pub max_requests: usize,
    /// Slices of one request.
    pub max_sge: usize,
}

/// How a memory window is bound (`enum ibv_mw_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowType {
    /// Type 1: every queue pair of the protection domain may use it, and its binding lasts until the next.
    One,
    /// Type 2: the queue pair that bound it alone may use it, and it or its peer's SEND may withdraw the key.
    Two,
}
