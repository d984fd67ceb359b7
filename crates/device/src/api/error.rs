//! What can go wrong on the embedded device.

use crate::engine::SpiError;
use crate::host::InterfacesError;
use crate::link::BindError;
#[cfg(target_os = "linux")]
use crate::memory::ForeignError;
use crate::memory::{ChangeError, DeregisterError, KeyError, MappingError, RegisterError};
use rocev2::{Mtu, Qpn};
use std::io;
use std::net::IpAddr;

/// Why something couldn't be had of the device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The operating system doesn't tell its addresses.
    #[error(transparent)]
    Interfaces(#[from] InterfacesError),
    /// The address isn't one of this host's.
    #[error("{address} is not an address that this device uses; it has: {have}")]
    NoSuchAddress {
        /// What was asked for.
        address: IpAddr,
        /// What there is.
        have: String,
    },
    /// There is no address at all.
    #[error(
        "this host has no network address that the embedded device could use (link-local IPv6 addresses don't count)"
    )]
    NoAddress,
    /// No entry of the GID table has this index.
    #[error("GID index {index} doesn't exist: the device has {count}, counted from 0")]
    GidIndex {
        /// What was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The address's socket couldn't be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No memory for a region.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// The region couldn't be registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The program's memory can't be registered.
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// The region couldn't be deregistered.
    #[error(transparent)]
    Deregister(#[from] DeregisterError),
    /// There is no memory window, or no key for it.
    #[error(transparent)]
    Window(#[from] KeyError),
    /// A limit of the device.
    #[error("{what}: {asked} was asked for, the device has at most {limit}")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// What was asked for.
        asked: usize,
        /// The limit.
        limit: usize,
    },
    /// A queue of another device.
    #[error("a queue belongs to another device: what is used together must be made by one device")]
    OtherDevice,
    /// A shared receive queue of an XRC domain serves its targets, and no other queue pair.
    #[error("a shared receive queue of an XRC domain serves the domain's targets only")]
    XrcQueue,
    /// No target of the XRC domain has that number.
    #[error("the XRC domain has no target with number {0}")]
    NoSuchTarget(Qpn),
    /// The GID names no multicast group.
    #[error("GID {0} names no multicast group: those are IPv6 multicast addresses, and ::ffff:224.0.0.0/100")]
    NoGroup(String),
    /// Only datagrams are multicast.
    #[error("only queue pairs for datagrams get what is sent to multicast groups")]
    MulticastType,
    /// The queue pair isn't attached to that group.
    #[error("the queue pair isn't attached to the multicast group {0}")]
    NotAttached(String),
    /// A queue holds more than it is to have room for.
    #[error("a queue can't be made for {capacity} entries: it holds {outstanding}")]
    Holds {
        /// What was asked for.
        capacity: usize,
        /// What it holds.
        outstanding: usize,
    },
    /// Queue pair 1 exists once.
    #[error("queue pair 1 of this device is in use, or another process's that shares the port")]
    Gsi,
    /// There is one port.
    #[error("the device has no port {0}: its only one is port 1")]
    Port(u8),
    /// There is one partition.
    #[error("the port has no partition key at index {0}: its only one is at index 0")]
    PartitionKey(u16),
    /// Both ends of a path need the same IP version.
    #[error(
        "there is no path from {local} to {peer}: one is IPv4, the other IPv6; choose a GID of the same family"
    )]
    Family {
        /// The local address.
        local: IpAddr,
        /// The peer's.
        peer: IpAddr,
    },
    /// The path MTU is more than the interface carries.
    #[error(
        "a path MTU of {asked} doesn't fit the interface of {address}, which carries {limit}; choose a smaller one"
    )]
    PathMtu {
        /// What was asked for.
        asked: Mtu,
        /// What fits.
        limit: Mtu,
        /// The interface's address.
        address: IpAddr,
    },
    /// Not even the smallest packets fit the interface inside ESP.
    #[error("packets sealed by ESP don't fit the interface of {address}; raise its MTU")]
    NoRoomForEsp {
        /// The interface's address.
        address: IpAddr,
    },
    /// Whether packets are sealed is decided before the queue pair may receive any.
    #[error("a queue pair is sealed before RTR, not in {0:?}")]
    SealedLate(rocev2::work::State),
    /// Nothing could leave: in clear it mustn't.
    #[error(
        "the security association has no SA for packets that leave: install one before the queue pair receives"
    )]
    NoSa,
    /// Datagrams have many peers.
    #[error(
        "a queue pair for datagrams has many peers: each has an association, and the queue pair takes them all"
    )]
    SealedDatagrams,
    /// A connection has one peer.
    #[error("a connection's queue pair has one peer: it is sealed by that one's association")]
    NotDatagrams,
    /// The device is one that nothing leaves in clear.
    #[error("nothing leaves this device in clear: the queue pair has to be sealed before RTR")]
    NotSealed,
    /// An SPI or its SA.
    #[error(transparent)]
    Spi(#[from] SpiError),
    /// The peer's GID doesn't name an IP address.
    #[error("the peer's GID {0} names no IP address that a RoCEv2 packet could be sent to")]
    Gid(String),
    /// The state transition isn't possible.
    #[error(transparent)]
    Modify(#[from] rocev2::work::ModifyError),
    /// The operating system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
}

impl From<ChangeError> for DeviceError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Register(error) => error.into(),
            ChangeError::Deregister(error) => error.into(),
        }
    }
}

impl DeviceError {
    /// For `map_err`.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
