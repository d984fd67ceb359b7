//! GID tables: the addresses of a device's port.

use crate::Gid;
use core::fmt;
use rocev2::Mtu;
use std::net::IpAddr;

/// The network that a GID belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GidKind {
    /// InfiniBand: packets find their way by LIDs.
    InfiniBand,
    /// RoCE version 1: Ethernet frames without IP, which no router forwards.
    RoceV1,
    /// RoCE version 2: UDP over the IP address that the GID names.
    RoceV2,
}

impl fmt::Display for GidKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InfiniBand => "InfiniBand",
            Self::RoceV1 => "RoCE v1",
            Self::RoceV2 => "RoCE v2",
        })
    }
}

/// One entry of the GID table of a device's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GidEntry {
    /// Its index.
    pub index: usize,
    /// What network it is for.
    pub kind: GidKind,
    /// The GID. An embedded device's may get another form when its address is first used: it has room for an
    /// IPv4 address's UDP port.
    pub gid: Gid,
    /// The IP address that it names: RoCE v2 only, and no link-local ones, which say nothing without an interface.
    pub address: Option<IpAddr>,
    /// The network interface, if there is one.
    pub interface: Option<String>,
    /// The largest path MTU that the port can use.
    pub mtu: Mtu,
    /// The same of queue pairs whose packets are sealed, by the device or by the kernel in front of it; `None` where
    /// none fits, or it isn't known.
    pub sealed_mtu: Option<Mtu>,
    /// The UDP port that it receives on (RoCE v2): 4791, or where the embedded device couldn't have that,
    /// another; `None` until the embedded device uses the address.
    pub udp_port: Option<u16>,
    /// The port's LID (InfiniBand).
    pub lid: Option<u16>,
}

impl fmt::Display for GidEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{address}"),
            None => write!(f, "{}", self.gid),
        }?;
        match &self.interface {
            Some(interface) => write!(f, " ({}, {interface})", self.kind),
            None => write!(f, " ({})", self.kind),
        }
    }
}
