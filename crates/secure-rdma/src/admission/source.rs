//! Who asks for something that there is only so much of.

use core::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// So much of an identity is shown.
const SHOWN: usize = 200;

/// Whom a connection is counted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A client that has proved who it is: the names in its certificate, or its entry in the allow-list.
    Identity(String),
    /// A host that has an IPv4 address of its own.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address: a host usually has all addresses that begin with them.
    V6([u8; 8]),
}

/// What sources add up to: a site usually has all IPv6 addresses that share the first 48 bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Block {
    /// A source that isn't a part of anything larger.
    Single(Source),
    /// All sources in a /48.
    V6([u8; 6]),
}

impl Source {
    /// The host at `address`.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }

    /// What it is a part of.
    pub(crate) fn block(&self) -> Block {
        match self {
            Self::V6([a, b, c, d, e, f, ..]) => Block::V6([*a, *b, *c, *d, *e, *f]),
            other => Block::Single(other.clone()),
        }
    }

    /// Whether it is this machine. Loopback IPv6 addresses are counted as 0::/64, which no other host has.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Identity(_) => false,
            Self::V4(address) => address.is_loopback(),
            Self::V6(start) => *start == [0; 8],
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A certificate may have long names; they are ASCII.
            Self::Identity(name) => f.write_str(name.get(..SHOWN).unwrap_or(name)),
            Self::V4(address) => address.fmt(f),
            Self::V6(start) => {
                let mut octets = [0; 16];
                octets[..8].copy_from_slice(start);
                write!(f, "{}/64", Ipv6Addr::from(octets))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[test]
    fn ipv4_hosts_count_by_address_and_ipv6_hosts_by_64_bits_and_sites_by_48() {
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
        assert_eq!(source("10.0.0.1"), source("::ffff:10.0.0.1"));
        assert_eq!(source("2001:db8:1:2::3"), source("2001:db8:1:2:ffff::4"));
        assert_ne!(source("2001:db8:1:2::3"), source("2001:db8:1:3::3"));
        assert_eq!(source("2001:db8:1:2::3").block(), source("2001:db8:1:ffff::3").block());
        assert_ne!(source("2001:db8:1:2::3").block(), source("2001:db8:2:2::3").block());
        assert_ne!(source("10.0.0.1").block(), source("10.0.0.2").block());
    }

    #[test]
    fn sources_are_shown_as_what_is_counted() {
        assert_eq!(source("2001:db8:1:2::3").to_string(), "2001:db8:1:2::/64");
        assert_eq!(source("::ffff:10.0.0.1").to_string(), "10.0.0.1");
    }

    #[test]
    fn this_machine_is_told_from_others() {
        for (address, own) in [("127.0.0.2", true), ("::1", true), ("fe80::1", false), ("10.0.0.1", false)] {
            assert_eq!(source(address).is_loopback(), own, "{address}");
        }
    }
}
