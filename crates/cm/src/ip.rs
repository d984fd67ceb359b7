//! IP addressing: service IDs of ports, and the addresses in front of the private data (IBA annex A11, the RDMA IP
//! CM Service). So the kernel's rdma_cm does it, and so librdmacm.
//!
//! ```text
//!  byte 0          1               2               3
//! +-------+-------+-------+-------+-------------------------------+
//! | MajV  | MinV  | IPV   | res.  |          source port          |  0
//! +-------+-------+-------+-------+-------------------------------+
//! |                       source IP address                       |  4
//! +---------------------------------------------------------------+
//! |                    destination IP address                     | 20
//! +---------------------------------------------------------------+
//! ```
//!
//! An IPv4 address stands in the last four of its 16 bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What names a protocol among the ports' (`enum rdma_port_space`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u16)]
pub enum PortSpace {
    /// Datagrams over IPoIB's multicast groups, `RDMA_PS_IPOIB`.
    IpoIb = 0x0002,
    /// Connections, `RDMA_PS_TCP`: of them the protocol number is 6.
    Tcp = 0x0106,
    /// Datagrams, `RDMA_PS_UDP`: of them the protocol number is 17.
    Udp = 0x0111,
    /// Whatever the consumer says, `RDMA_PS_IB`.
    Ib = 0x013f,
}

impl PortSpace {
    const ALL: [Self; 4] = [Self::IpoIb, Self::Tcp, Self::Udp, Self::Ib];

    /// The one with that number in `enum rdma_port_space`, if there is one.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|&space| space as u16 == code)
    }
}

/// A port, as a service ID names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Service {
    /// Whose port it is.
    pub space: PortSpace,
    /// The port.
    pub port: u16,
}

impl Service {
    /// Its service ID: the port space, then the port.
    #[must_use]
    pub const fn id(self) -> u64 {
        (self.space as u64) << 16 | self.port as u64
    }

    /// The port that a service ID names, if it names one.
    #[must_use]
    pub fn from_id(id: u64) -> Option<Self> {
        let space = PortSpace::ALL.into_iter().find(|&space| space as u64 == id >> 16)?;
        Some(Self { space, port: u16::try_from(id & 0xffff).ok()? })
    }
}

/// Who asks, in terms of IP: the first 36 bytes of a REQ's or SIDR_REQ's private data.
///
/// It is what the peer says. Packets go to where the request came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpAddressing {
    /// The asker's address and port.
    pub source: SocketAddr,
    /// The address that was asked for. Its port is in the service ID.
    pub destination: IpAddr,
}

/// Why private data has no IP addressing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IpError {
    /// Fewer bytes than it takes.
    #[error("{0} bytes of private data, IP addressing takes 36")]
    Truncated(usize),
    /// Another version of the layout.
    #[error("IP addressing of major version {0}, only 0 exists")]
    Version(u8),
    /// Neither IPv4 nor IPv6.
    #[error("IP version {0}")]
    IpVersion(u8),
    /// Source and destination are of different families.
    #[error("a source and a destination of different families")]
    Families,
}

impl IpAddressing {
    /// Its length in bytes.
    pub const LEN: usize = 36;

    /// Reads it at the start of private data, and returns it with the consumer's bytes behind it.
    ///
    /// # Errors
    ///
    /// What makes the bytes no IP addressing.
    pub fn parse(private_data: &[u8]) -> Result<(Self, &[u8]), IpError> {
        let truncated = IpError::Truncated(private_data.len());
        let (bytes, rest) = private_data.split_first_chunk::<{ Self::LEN }>().ok_or(truncated)?;
        let [version, ip_version, p0, p1, addresses @ ..] = *bytes;
        if version >> 4 != 0 {
            return Err(IpError::Version(version >> 4));
        }
        let (source, destination) = addresses.split_first_chunk::<16>().ok_or(truncated)?;
        let destination = destination.try_into().map_err(|_| truncated)?;
        let address = |bytes: [u8; 16]| match ip_version >> 4 {
            4 => {
                let [.., a, b, c, d] = bytes;
                Ok(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
            }
            6 => Ok(IpAddr::V6(Ipv6Addr::from(bytes))),
            other => Err(IpError::IpVersion(other)),
        };
        let source = SocketAddr::new(address(*source)?, u16::from_be_bytes([p0, p1]));
        Ok((Self { source, destination: address(destination)? }, rest))
    }

    /// Its bytes.
    ///
    /// # Errors
    ///
    /// [`IpError::Families`] if the addresses are of different families.
    pub fn encode(&self) -> Result<[u8; Self::LEN], IpError> {
        let mut bytes = [0; Self::LEN];
        match (self.source.ip(), self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes[1] = 4 << 4;
                bytes[16..20].copy_from_slice(&source.octets());
                bytes[32..].copy_from_slice(&destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                bytes[1] = 6 << 4;
                bytes[4..20].copy_from_slice(&source.octets());
                bytes[20..].copy_from_slice(&destination.octets());
            }
            _ => return Err(IpError::Families),
        }
        bytes[2..4].copy_from_slice(&self.source.port().to_be_bytes());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_and_its_service_id_name_each_other() {
        // As the kernel writes them: __rdma_get_service_id.
        let service = Service { space: PortSpace::Tcp, port: 7174 };
        assert_eq!(service.id(), 0x0106_1c06);
        for space in PortSpace::ALL {
            let service = Service { space, port: 0xbeef };
            assert_eq!(Service::from_id(service.id()), Some(service));
        }
        assert_eq!(Service::from_id(0x0107_0001), None);
        assert_eq!(Service::from_id(1 << 63 | 0x0106_0001), None);
    }

    #[test]
    fn addresses_of_both_families_are_read_back() {
        for (source, destination) in
            [("192.0.2.1:4660", "198.51.100.2"), ("[2001:db8::1]:4660", "2001:db8::2")]
        {
            let addressing =
                IpAddressing { source: source.parse().unwrap(), destination: destination.parse().unwrap() };
            let bytes = addressing.encode().unwrap();
            assert_eq!(bytes[2..4], [0x12, 0x34]);
            let private = [bytes.as_slice(), b"rest"].concat();
            assert_eq!(IpAddressing::parse(&private), Ok((addressing, b"rest".as_slice())));
        }
    }

    #[test]
    fn what_is_no_ip_addressing_is_refused_by_kind() {
        assert_eq!(IpAddressing::parse(&[0; 35]), Err(IpError::Truncated(35)));
        assert_eq!(IpAddressing::parse(&[0x10; 36]), Err(IpError::Version(1)));
        assert_eq!(IpAddressing::parse(&[0; 36]), Err(IpError::IpVersion(0)));
        let mixed = IpAddressing {
            source: "192.0.2.1:1".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
        };
        assert_eq!(mixed.encode(), Err(IpError::Families));
    }
}
