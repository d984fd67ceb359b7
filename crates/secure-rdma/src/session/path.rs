//! Checks where the peer wants packets sent.
//!
//! If a peer could name any address, it could have anybody flooded. So packets go only to the host at the other end
//! of the control connection, whose address TCP's handshake has proved, and to a UDP port where an RDMA device may
//! listen. This side's link layer decides which rules hold, not the peer's record.

use crate::SessionError;
use crate::control::Endpoint;
use rdma_verbs::{GidEntry, GidKind};
use std::net::IpAddr;

/// The first UDP port that an unprivileged program can have. The ports below belong to the system's services.
const FIRST_FREE_PORT: u16 = 1024;

/// The local ACK timeouts that a peer may choose (IBA 9.7.6.1.3): 1 ms to 4.3 s. With the longest that can be encoded,
/// and with 0, which means none, a request would wait for hours.
const ACK_TIMEOUTS: core::ops::RangeInclusive<u8> = 8..=20;

/// The address that an endpoint names.
pub(super) fn address_of(endpoint: &Endpoint) -> IpAddr {
    IpAddr::from(endpoint.gid).to_canonical()
}

/// The local ACK timeout that this side uses with a peer that asks for `asked`.
pub(super) fn ack_timeout(asked: u8) -> u8 {
    asked.clamp(*ACK_TIMEOUTS.start(), *ACK_TIMEOUTS.end())
}

/// Checks that this side may send to `peer`, which is at the other end of a connection from `connected`. `is_own` says
/// whether an address is one of this host's.
///
/// # Errors
/// Packets would reach somebody else.
pub(super) fn check(
    own: &GidEntry,
    connected: IpAddr,
    peer: &Endpoint,
    is_own: impl FnOnce(IpAddr) -> bool,
) -> Result<(), SessionError> {
    let refuse = |reason| SessionError::Path { peer: address_of(peer), reason };
    if own.kind == GidKind::InfiniBand {
        // There are no IP addresses: the peer is believed, but only as to its own subnet.
        return match peer.lid {
            None => Err(refuse("this side's port is InfiniBand's, and the peer names no LID")),
            Some(_) if own.gid.to_bytes()[..8] != peer.gid[..8] => {
                Err(refuse("it is in another InfiniBand subnet, and sessions stay in one"))
            }
            Some(_) => Ok(()),
        };
    }
    if peer.lid.is_some() {
        return Err(refuse("the peer names an InfiniBand LID, and this side's port is Ethernet's"));
    }
    let (connected, named) = (connected.to_canonical(), address_of(peer));
    if connected != named && !(connected.is_loopback() && is_own(named)) {
        return Err(SessionError::ForeignAddress { connected, named });
    }
    for port in core::iter::once(peer.udp_port).chain(peer.esp_port) {
        if port.get() < FIRST_FREE_PORT {
            return Err(refuse("the peer names a UDP port below 1024, where the system's services are"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Lid, Redacted};
    use rdma_verbs::{Gid, Mtu, Qpn};
    use rocev2::Psn;
    use std::num::NonZeroU16;

    const SUBNET: u64 = 0xfec0_0000_0000_0001;

    fn ethernet(address: &str) -> GidEntry {
        let address: IpAddr = address.parse().unwrap();
        let gid = Gid::from(gid_of(address));
        let (interface, udp_port) = (Some("eth0".to_string()), Some(rdma_verbs::UDP_PORT));
        let (kind, mtu) = (GidKind::RoceV2, Mtu::B4096);
        GidEntry {
            index: 0,
            kind,
            gid,
            address: Some(address),
            interface,
            mtu,
            sealed_mtu: None,
            udp_port,
            lid: None,
        }
    }

    fn infiniband(subnet: u64) -> GidEntry {
        let gid = Gid::from(gid_in(subnet, 1));
        let (kind, mtu) = (GidKind::InfiniBand, Mtu::B4096);
        GidEntry {
            index: 0,
            kind,
            gid,
            address: None,
            interface: None,
            mtu,
            sealed_mtu: None,
            udp_port: None,
            lid: Some(1),
        }
    }

    fn gid_of(address: IpAddr) -> [u8; 16] {
        match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        }
    }

    fn gid_in(subnet: u64, port: u64) -> [u8; 16] {
        (u128::from(subnet) << 64 | u128::from(port)).to_be_bytes()
    }

    fn endpoint(gid: [u8; 16], udp_port: u16, lid: Option<u16>) -> Endpoint {
        Endpoint {
            qpn: Qpn::new(17).unwrap(),
            psn: Redacted::new(Psn::new(1).unwrap()),
            gid,
            udp_port: NonZeroU16::new(udp_port).unwrap(),
            mtu: Mtu::B4096,
            max_rd_atomic: 1,
            recv_depth: 1,
            recv_size: 4096,
            min_rnr_timer: 4,
            ack_timeout: 14,
            retry_count: 7,
            rnr_retry: 7,
            lid: lid.and_then(Lid::new),
            spi: None,
            esp_port: None,
            joins: None,
        }
    }

    fn peer(address: &str, udp_port: u16, lid: Option<u16>) -> Endpoint {
        endpoint(gid_of(address.parse().unwrap()), udp_port, lid)
    }

    /// Checks it for an Ethernet port at 192.0.2.1, with a peer from 192.0.2.2.
    fn over_ethernet(peer: &Endpoint) -> Result<(), SessionError> {
        check(&ethernet("192.0.2.1"), "192.0.2.2".parse().unwrap(), peer, |_| panic!("no loopback address"))
    }

    #[test]
    fn packets_go_to_the_host_that_is_connected_and_to_no_other() {
        over_ethernet(&peer("192.0.2.2", 4791, None)).unwrap();
        for other in ["192.0.2.3", "2001:db8::2", "127.0.0.1"] {
            let error = over_ethernet(&peer(other, 4791, None)).unwrap_err();
            assert!(matches!(error, SessionError::ForeignAddress { .. }), "{error}");
        }
    }

    #[test]
    fn a_peer_on_this_host_may_name_any_address_of_it() {
        let own = ethernet("127.0.0.1");
        let named = peer("192.0.2.1", 4791, None);
        let from = |connected: &str, is_own| check(&own, connected.parse().unwrap(), &named, |_| is_own);
        from("127.0.0.1", true).unwrap();
        from("::ffff:127.0.0.1", true).unwrap();
        assert!(matches!(from("127.0.0.1", false), Err(SessionError::ForeignAddress { .. })));
        assert!(matches!(from("192.0.2.9", true), Err(SessionError::ForeignAddress { .. })));
    }

    /// A LID means nothing on Ethernet.
    #[test]
    fn a_lid_does_not_lead_past_the_address_check_on_ethernet() {
        for address in ["192.0.2.2", "192.0.2.3", "2001:db8::3"] {
            let error = over_ethernet(&peer(address, 4791, Some(5))).unwrap_err();
            assert!(matches!(error, SessionError::Path { .. }), "{error}");
        }
    }

    #[test]
    fn on_infiniband_a_peer_is_in_this_subnet_and_has_a_lid() {
        let connected = "192.0.2.2".parse().unwrap();
        let check = |peer: &Endpoint| check(&infiniband(SUBNET), connected, peer, |_| true);
        check(&endpoint(gid_in(SUBNET, 2), 4791, Some(2))).unwrap();
        let wrong = [
            endpoint(gid_in(SUBNET, 2), 4791, None),
            endpoint(gid_in(SUBNET + 1, 2), 4791, Some(2)),
            peer("192.0.2.2", 4791, Some(2)),
            peer("192.0.2.2", 4791, None),
        ];
        for peer in wrong {
            assert!(matches!(check(&peer), Err(SessionError::Path { .. })), "{peer:?}");
        }
    }

    #[test]
    fn no_port_of_the_systems_services_is_sent_to() {
        for port in [1024, 4791, 49152, u16::MAX] {
            over_ethernet(&peer("192.0.2.2", port, None)).unwrap();
        }
        for port in [1, 53, 123, 1023] {
            let by_kernel =
                Endpoint { esp_port: NonZeroU16::new(port), ..peer("192.0.2.2", rdma_verbs::UDP_PORT, None) };
            for peer in [peer("192.0.2.2", port, None), by_kernel] {
                let error = over_ethernet(&peer).unwrap_err();
                assert!(matches!(error, SessionError::Path { .. }), "{error}");
            }
        }
    }

    #[test]
    fn a_peer_does_not_choose_to_be_waited_for_without_end() {
        assert_eq!([0, 7, 8, 14, 20, 21, 31].map(ack_timeout), [8, 8, 8, 14, 20, 20, 20]);
    }
}
