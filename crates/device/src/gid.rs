//! GIDs: the 16 bytes by which RDMA programs name a port of a device.

use core::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rocev2::UDP_PORT;

/// A GID (IBA 4.1.1; for RoCEv2, Annex A17): where a peer is to be found.
///
/// | GID | means |
/// |---|---|
/// | `::ffff:a.b.c.d` | IPv4 address, UDP port 4791 |
/// | an IPv6 address | that address, UDP port 4791 unless the peer says otherwise by another way |
/// | `fe80::/64` with a marker, see below | IPv4 address, another UDP port |
///
/// The third form is this project's own, so that programs that exchange nothing but a GID find a process that
/// couldn't have port 4791:
///
/// | bytes | 0–7 | 8–9 | 10–13 | 14–15 |
/// |---|---|---|---|---|
/// | | `fe80 0000 0000 0000` | marker `5352` | IPv4 address | UDP port, not 0 and not 4791 |
///
/// The marker's first byte has the group bit set: no interface identifier made from a network card's address
/// (EUI-64, RFC 4291, appendix A) begins so, for those are individual. A randomly chosen identifier (RFC
/// 7217) does once in 65,536 times; since a link-local address says nothing without its interface, none ever
/// stands for a peer here, with or without the marker.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gid([u8; 16]);

/// Why a GID names no endpoint that a packet could be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GidError {
    /// All zeros: the GID table's entry is empty.
    #[error("the GID is all zeros: that entry of the peer's GID table is empty")]
    Empty,
    /// A link-local address says nothing without an interface.
    #[error(
        "GID {0} is a link-local address, which says nothing without its interface; use another of the peer's GIDs"
    )]
    LinkLocal(Gid),
    /// Not the address of a single host.
    #[error("GID {0} is a multicast, broadcast or unspecified address, not that of one host")]
    NotUnicast(Gid),
    /// An address and port form that this project never writes: port 0, or a port that has a plainer form.
    #[error("GID {0} has the form of an IPv4 address with a UDP port, but its port is 0 or 4791")]
    Port(Gid),
}

const LINK_LOCAL: [u8; 8] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0];
const MARKER: [u8; 2] = [0x53, 0x52];

impl Gid {
    /// The GID of an endpoint. That of an IPv6 endpoint has no room for a port: on another one than 4791 the
    /// peer has to be told it some other way.
    #[must_use]
    pub fn for_endpoint(endpoint: SocketAddr) -> Self {
        match (endpoint.ip().to_canonical(), endpoint.port()) {
            (IpAddr::V6(address), _) => Self(address.octets()),
            (IpAddr::V4(address), UDP_PORT) => Self(address.to_ipv6_mapped().octets()),
            (IpAddr::V4(address), port) => {
                let ([a, b, c, d], [high, low]) = (address.octets(), port.to_be_bytes());
                let mut bytes = [0; 16];
                bytes[..8].copy_from_slice(&LINK_LOCAL);
                bytes[8..].copy_from_slice(&[MARKER[0], MARKER[1], a, b, c, d, high, low]);
                Self(bytes)
            }
        }
    }

    /// The address and UDP port that it names.
    ///
    /// # Errors
    /// [`GidError`] says why there are none.
    pub fn endpoint(&self) -> Result<(IpAddr, u16), GidError> {
        if self.0 == [0; 16] {
            return Err(GidError::Empty);
        }
        let (address, port) = if let Some(v4) = self.address().to_ipv4_mapped() {
            (IpAddr::V4(v4), UDP_PORT)
        } else if let Some((v4, port)) = self.marked() {
            if port == 0 || port == UDP_PORT {
                return Err(GidError::Port(*self));
            }
            (IpAddr::V4(v4), port)
        } else if self.address().is_unicast_link_local() {
            return Err(GidError::LinkLocal(*self));
        } else {
            (IpAddr::V6(self.address()), UDP_PORT)
        };
        if is_unicast(address) { Ok((address, port)) } else { Err(GidError::NotUnicast(*self)) }
    }

    /// The multicast group that it names, if it names one: an IPv6 multicast address, or `::ffff:a.b.c.d` for an IPv4
    /// one, as Linux' rdma_cm has it (`cma_iboe_set_mgid`). Packets go to UDP port 4791 there.
    #[must_use]
    pub fn group(&self) -> Option<IpAddr> {
        let address = IpAddr::V6(self.address()).to_canonical();
        address.is_multicast().then_some(address)
    }

    /// The 16 bytes, as they travel.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    fn address(self) -> Ipv6Addr {
        Ipv6Addr::from(self.0)
    }

    /// What the marked form holds.
    fn marked(self) -> Option<(Ipv4Addr, u16)> {
        let [prefix @ .., m0, m1, a, b, c, d, high, low] = self.0;
        (prefix == LINK_LOCAL && [m0, m1] == MARKER)
            .then(|| (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
    }
}

/// Whether a host, and only one, can have the address.
pub(super) fn is_unicast(address: IpAddr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && !matches!(address, IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0)
}

impl From<[u8; 16]> for Gid {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Gid {
    /// Eight groups of four digits, nothing left out, as `ibv_devinfo -v` does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.address().segments();
        write!(f, "{first:04x}")?;
        rest.iter().try_for_each(|group| write!(f, ":{group:04x}"))
    }
}

impl fmt::Debug for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gid({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gid(text: &str) -> Gid {
        Gid::from(text.parse::<Ipv6Addr>().unwrap().octets())
    }

    fn endpoint(text: &str) -> (IpAddr, u16) {
        let endpoint: SocketAddr = text.parse().unwrap();
        (endpoint.ip(), endpoint.port())
    }

    #[test]
    fn each_form_names_its_endpoint_both_ways() {
        let forms = [
            ("192.0.2.2:4791", "::ffff:192.0.2.2"),
            ("[fd00::2]:4791", "fd00::2"),
            ("[::1]:4791", "::1"),
            ("192.0.2.2:40000", "fe80::5352:c000:202:9c40"),
            ("127.0.0.1:1", "fe80::5352:7f00:1:1"),
            ("10.255.254.3:65535", "fe80::5352:aff:fe03:ffff"),
        ];
        for (name, form) in forms {
            assert_eq!(Gid::for_endpoint(name.parse().unwrap()), gid(form), "{name}");
            assert_eq!(gid(form).endpoint(), Ok(endpoint(name)), "{form}");
        }
    }

    #[test]
    fn every_port_of_an_ipv4_address_survives_but_zero() {
        for port in 1..=u16::MAX {
            let endpoint = (IpAddr::from([198, 51, 100, 7]), port);
            assert_eq!(Gid::for_endpoint(endpoint.into()).endpoint(), Ok(endpoint));
        }
    }

    #[test]
    fn an_ipv6_gid_says_nothing_of_the_port() {
        let gid = Gid::for_endpoint("[fd00::2]:40000".parse().unwrap());
        assert_eq!(gid.endpoint(), Ok(endpoint("[fd00::2]:4791")));
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_an_ipv4_address() {
        let mapped = "[::ffff:192.0.2.2]:4791".parse().unwrap();
        assert_eq!(Gid::for_endpoint(mapped).endpoint(), Ok(endpoint("192.0.2.2:4791")));
        let mapped = "[::ffff:192.0.2.2]:5000".parse().unwrap();
        assert_eq!(Gid::for_endpoint(mapped).endpoint(), Ok(endpoint("192.0.2.2:5000")));
    }

    #[test]
    fn an_ordinary_link_local_address_is_no_endpoint() {
        for text in [
            "fe80::1",
            "fe80::fc:ff:fe00:1",         // from a network card's address
            "fe80::5352:1:c000:202:9c40", // the marker, but not in fe80::/64
            "fe80::5353:c000:202:9c40",   // nearly the marker
            // A card's address 53-52-c0-02-9c-40 would be multicast; its neighbour isn't marked.
            "fe80::5152:c0ff:fe02:9c40",
            "febf::5352:c000:202:9c40",
        ] {
            assert_eq!(gid(text).endpoint(), Err(GidError::LinkLocal(gid(text))), "{text}");
        }
    }

    #[test]
    fn what_is_no_single_host_is_no_endpoint() {
        assert_eq!(gid("::").endpoint(), Err(GidError::Empty));
        for text in [
            "ff02::1",
            "::ffff:224.0.0.1",
            "::ffff:255.255.255.255",
            "::ffff:0.0.0.0",
            "::ffff:0.1.2.3",
            "fe80::5352:e000:1:9c40",
            "fe80::5352:0:0:9c40",
        ] {
            assert_eq!(gid(text).endpoint(), Err(GidError::NotUnicast(gid(text))), "{text}");
        }
    }

    #[test]
    fn multicast_addresses_are_groups_and_no_others() {
        let group = |text: &str| gid(text).group();
        assert_eq!(group("ff02::1"), Some("ff02::1".parse().unwrap()));
        assert_eq!(group("::ffff:239.1.2.3"), Some("239.1.2.3".parse().unwrap()));
        for text in ["::", "fd00::2", "::ffff:192.0.2.2", "::ffff:255.255.255.255", "fe80::5352:e000:1:9c40"]
        {
            assert_eq!(group(text), None, "{text}");
        }
    }

    #[test]
    fn a_port_that_has_a_plainer_form_is_refused() {
        for text in ["fe80::5352:c000:202:0", "fe80::5352:c000:202:12b7"] {
            assert_eq!(gid(text).endpoint(), Err(GidError::Port(gid(text))), "{text}");
        }
    }

    #[test]
    fn it_is_written_as_ibv_devinfo_writes_it() {
        assert_eq!(gid("::ffff:192.0.2.2").to_string(), "0000:0000:0000:0000:0000:ffff:c000:0202");
        assert_eq!(format!("{:?}", gid("fe80::1")), "Gid(fe80:0000:0000:0000:0000:0000:0000:0001)");
    }
}
