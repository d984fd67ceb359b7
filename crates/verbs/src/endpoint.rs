//! What the two ends of a connection tell each other.

use crate::Gid;
use core::fmt;
use rocev2::{Mtu, Psn, Qpn};

/// What a peer needs to know of a queue pair to connect to it, and what the other side has to tell:
/// [`QueuePair::endpoint`](crate::QueuePair::endpoint), [`QueuePair::connect`](crate::QueuePair::connect).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The queue pair's number.
    pub qpn: Qpn,
    /// The first PSN that it sends.
    pub psn: Psn,
    /// The address of its device's port.
    pub gid: Gid,
    /// The UDP port that it receives on, where the GID doesn't tell it: IPv6 on another port than 4791.
    pub udp_port: Option<u16>,
    /// Its port's LID, on InfiniBand.
    pub lid: Option<u16>,
    /// The largest path MTU that its port can use.
    pub mtu: Mtu,
    /// Reads and atomics that it answers at a time.
    pub max_rd_atomic: u8,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The PSN isn't for logs.
        f.debug_struct("Endpoint").field("qpn", &self.qpn).field("gid", &self.gid).finish_non_exhaustive()
    }
}

/// How a queue pair is connected. The defaults are perftest's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Payload bytes of a full packet, at most what both ports can use; as many as both can otherwise. Both
    /// sides need the same.
    pub path_mtu: Option<Mtu>,
    /// Reads and atomics at a time, as far as the devices can, in each direction.
    pub max_rd_atomic: u8,
    /// The delay that an RNR NAK asks for, a 5-bit code: 12 is 0.64 ms (IBA table "RNR NAK timer field encoding").
    pub min_rnr_timer: u8,
    /// The local ACK timeout, 4.096 µs · 2^timeout: 14 is 67 ms; 0 is for ever.
    pub timeout: u8,
    /// ACK timeouts beyond the first that the peer may stay silent, 0 to 7.
    pub retry_count: u8,
    /// RNR NAKs in a row that are accepted, 0 to 6; 7 is for ever.
    pub rnr_retry: u8,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            path_mtu: None,
            max_rd_atomic: 16,
            min_rnr_timer: 12,
            timeout: 14,
            retry_count: 7,
            rnr_retry: 7,
        }
    }
}
