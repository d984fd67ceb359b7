//! Who packets come from and go to.

use crate::engine::queue_pair_table::slot_of;
use rocev2::Qpn;
use std::net::IpAddr;

/// A peer: another device, one of those that share an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Its slot there: the first bits of its queue pairs' numbers.
    pub slot: u8,
}

impl Peer {
    /// The device at `address` that has the queue pair `qpn`.
    #[must_use]
    pub fn of(address: IpAddr, qpn: Qpn) -> Self {
        Self { address: address.to_canonical(), slot: slot_of(qpn) }
    }
}
