//! Addresses, and pairs of them.

use crate::Unfit;
use core::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `AF_INET` and `AF_INET6`.
const FAMILIES: [u16; 2] = [2, 10];

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To this host (`XFRM_POLICY_IN`).
    In = 0,
    /// From it (`XFRM_POLICY_OUT`).
    Out = 1,
}

/// An address of this host, and a peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    own: IpAddr,
    peer: IpAddr,
}

impl Pair {
    /// The pair, if both are addresses of one host each, of one version of IP, and not of this host alone.
    ///
    /// # Errors
    /// They aren't.
    pub fn new(own: IpAddr, peer: IpAddr) -> Result<Self, Unfit> {
        let (own, peer) = (own.to_canonical(), peer.to_canonical());
        if own == peer {
            return Err(Unfit::OwnHost(peer));
        }
        for address in [own, peer] {
            let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
            if address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast {
                return Err(Unfit::NotAHost(address));
            }
        }
        if own.is_ipv4() != peer.is_ipv4() {
            return Err(Unfit::Families(own, peer));
        }
        Ok(Self { own, peer })
    }

    /// This host's address.
    #[must_use]
    pub const fn own(&self) -> IpAddr {
        self.own
    }

    /// The peer's.
    #[must_use]
    pub const fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Where packets come from that go that way.
    pub(crate) const fn source(&self, direction: Direction) -> IpAddr {
        match direction {
            Direction::In => self.peer,
            Direction::Out => self.own,
        }
    }

    /// Where they go to.
    pub(crate) const fn destination(&self, direction: Direction) -> IpAddr {
        match direction {
            Direction::In => self.own,
            Direction::Out => self.peer,
        }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", self.own, self.peer)
    }
}

/// `xfrm_address_t`.
pub(crate) fn to_wire(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address of a family as the kernel has them; `None` for other families.
pub(crate) fn from_wire(bytes: [u8; 16], family: u16) -> Option<IpAddr> {
    let [v4, v6] = FAMILIES;
    if family == v4 {
        bytes.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).into())
    } else {
        (family == v6).then(|| Ipv6Addr::from(bytes).into())
    }
}

/// Its family, as the kernel has them.
pub(crate) const fn family(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => FAMILIES[0],
        IpAddr::V6(_) => FAMILIES[1],
    }
}

/// The length of the prefix that is the address alone.
pub(crate) const fn prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(own: &str, peer: &str) -> Result<Pair, Unfit> {
        Pair::new(own.parse().unwrap(), peer.parse().unwrap())
    }

    #[test]
    fn a_pair_is_of_two_hosts_and_of_one_version_of_ip() {
        let mapped = pair("::ffff:10.0.0.1", "10.0.0.2").unwrap();
        assert_eq!(mapped, pair("10.0.0.1", "10.0.0.2").unwrap());
        pair("fd00::1", "fd00::2").unwrap();
        let own = "10.0.0.1";
        assert!(matches!(pair(own, own), Err(Unfit::OwnHost(_))));
        assert!(matches!(pair(own, "::ffff:10.0.0.1"), Err(Unfit::OwnHost(_))));
        assert!(matches!(pair(own, "fd00::2"), Err(Unfit::Families(..))));
        for other in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "ff02::1"] {
            assert!(matches!(pair(own, other), Err(Unfit::NotAHost(_))), "{other}");
            assert!(matches!(pair(other, own), Err(Unfit::NotAHost(_))), "{other}");
        }
    }

    #[test]
    fn addresses_are_what_they_were_after_encoding() {
        for address in ["10.77.0.1", "fd77::1"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(from_wire(to_wire(address), family(address)), Some(address));
            assert_eq!(from_wire(to_wire(address), 0), None);
        }
    }
}
