//! Keys for the packets of two devices, agreed on by their hosts' agents: what seals programs that know nothing of it.
//!
//! A device is an [`Instance`]: an address, and a number among the devices that share it. Two agents meet by TLS 1.3,
//! in which each proves by its certificate that the device's address is its host's, tell each other the SPIs by which
//! their devices take packets, and derive the keys of both directions. The connection stays open for as long as the
//! keys are used: new ones are announced there, and when it ends, they end.
//!
//! | file | what it holds |
//! |---|---|
//! | `agent` | what an agent proves itself with and asks of others; connecting and listening |
//! | `vetting` | whether a peer may have keys: its certificate, its address, the list of who is allowed |
//! | `peers` | where other hosts' agents listen, and what their certificates say, where that isn't the usual |
//! | [`message`], `channel` | what agents say to each other, and its frames |
//! | `established` | a pair that has keys |
//! | `error` | why there are none |

mod agent;
mod channel;
mod error;
mod established;
pub mod message;
mod peers;
mod vetting;

pub use agent::{Asked, PairAgent, PairListener, PairOptions};
pub use error::{PairError, Refusal};
pub use established::{Heard, NextKey, Pair};
pub use peers::{PeerEntry, Peers, PeersError};

use core::fmt;
use std::net::IpAddr;

/// The TCP port that agents listen on unless they are told otherwise.
pub const AGENT_PORT: u16 = 4434;

/// The application protocol that both sides insist on.
pub const PAIR_ALPN: &[u8] = b"secure-rdma-pair/1";

/// A device: one of those at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance {
    /// Its address; an IPv4-mapped one as IPv4.
    pub address: IpAddr,
    /// Its number among those that share the address: the first bits of its queue pairs' numbers.
    pub slot: u8,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (device {})", self.address, self.slot)
    }
}
