//! Sealed processes: keys for each pair of devices, which the agent agrees on with the peers'.
//!
//! | module | what it holds |
//! |---|---|
//! | [`protocol`] | messages between a process and the agent |
//! | [`process`](Pairs) | a process's side: its device's security associations, one for each peer |
//! | `pair` | one of them, and its keys |
//! | [`key_manager`](KeyManager) | what the agent hands such a process's connection to: it is above this crate |

mod key_manager;
mod pair;
mod process;
pub mod protocol;

pub use key_manager::{KeyManager, NoKeys};
pub(crate) use process::refusal;
pub use process::{Pairs, PairsError};

use core::fmt;
use minicbor::{Decode, Encode};
use rocev2::Qpn;
use rocev2_device::host::group::SLOTS;
use std::net::IpAddr;

/// A device: one of those that share an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct Instance {
    /// Its address; an IPv4-mapped one as IPv4.
    #[n(0)]
    pub address: IpAddr,
    /// Its slot.
    #[n(1)]
    pub slot: u8,
}

impl Instance {
    /// The device at `address` that has the queue pair `qpn`.
    #[must_use]
    pub fn of(address: IpAddr, qpn: Qpn) -> Self {
        let slot = qpn.get() >> (24 - SLOTS.ilog2());
        Self { address: address.to_canonical(), slot: u8::try_from(slot).unwrap_or(u8::MAX) }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (device {})", self.address, self.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_pairs_number_tells_its_device() {
        let address = "::ffff:192.0.2.1".parse().unwrap();
        for (qpn, slot) in [(1, 0), (0x04_0000, 1), (0x07_ffff, 1), (0xff_fffe, 63)] {
            let found = Instance::of(address, Qpn::new(qpn).unwrap());
            assert_eq!(found, Instance { address: [192, 0, 2, 1].into(), slot });
        }
    }
}
