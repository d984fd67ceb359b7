//! This host's addresses, and the one that a peer is reached from.

use std::io;
use std::net::{IpAddr, UdpSocket};

use rocev2::UDP_PORT;

use super::sys;
use crate::gid::is_unicast;

/// A local address that RoCEv2 can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name.
    pub name: String,
    /// The interface's index.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// The largest IP packet that the interface takes, in bytes.
    pub mtu: usize,
}

/// This host's addresses couldn't be had.
#[derive(Debug, thiserror::Error)]
pub enum InterfacesError {
    /// The system doesn't list them.
    #[error("cannot list this host's network addresses: {0}")]
    List(#[source] io::Error),
    /// The system doesn't tell an interface's MTU.
    #[error("cannot read the MTU of network interface {name}: {source}")]
    Mtu {
        /// The interface.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The addresses of interfaces that were set up: IPv4 and IPv6, loopback last. Link-local IPv6 addresses
/// aren't among them: a GID can't say which interface they belong to.
///
/// # Errors
/// [`InterfacesError`] if the system doesn't tell.
pub fn interfaces() -> Result<Vec<Interface>, InterfacesError> {
    let listed = if_addrs::get_if_addrs().map_err(InterfacesError::List)?;
    // Any socket will do for asking.
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)
        .map_err(InterfacesError::List)?;
    let mut found = Vec::with_capacity(listed.len());
    for interface in listed {
        let address = interface.ip();
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let (false, true, Some(index)) = (link_local, is_unicast(address), interface.index) else { continue };
        let name = interface.name;
        let asked = sys::interface_is_up(&socket, &name)
            .and_then(|up| Ok(up.then_some(sys::interface_mtu(&socket, &name)?)));
        match asked {
            Ok(Some(mtu)) => found.push(Interface { name, index, address, mtu }),
            Ok(None) => {}
            // It has gone since it was listed.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(source) => return Err(InterfacesError::Mtu { name, source }),
        }
    }
    found.sort_by_key(|interface| interface.address.is_loopback());
    Ok(found)
}

/// How a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The local address that packets to it come from.
    pub src: IpAddr,
    /// The largest IP packet that the first hop takes (or the whole path, where the system has learnt of it), in bytes.
    pub mtu: usize,
}

/// There is no way to a peer.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// Not the address of a single host.
    #[error("{0} is not the address of one host")]
    NotUnicast(IpAddr),
    /// The system knows no route.
    #[error(
        "there is no route to {dst}: {source}; check the address and this host's network (ip route get {dst})"
    )]
    NoRoute {
        /// The peer.
        dst: IpAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// The route to `dst`, as the system's routing table has it now. Nothing is sent.
///
/// # Errors
/// [`RouteError`] if there is none.
pub fn route(dst: IpAddr) -> Result<Route, RouteError> {
    if !is_unicast(dst) {
        return Err(RouteError::NotUnicast(dst));
    }
    look_up(dst).map_err(|source| RouteError::NoRoute { dst, source })
}

/// Connecting a UDP socket sends nothing, but makes the system choose a route.
fn look_up(dst: IpAddr) -> io::Result<Route> {
    let any: IpAddr = if dst.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((dst, UDP_PORT))?;
    let src = socket.local_addr()?.ip();
    Ok(Route { src, mtu: mtu_of(&socket, src)? })
}

/// The MTU of the route that a connected socket takes.
#[cfg(target_os = "linux")]
fn mtu_of(socket: &UdpSocket, src: IpAddr) -> io::Result<usize> {
    use rustix::net::sockopt;
    let mtu = if src.is_ipv4() { sockopt::ip_mtu(socket)? } else { sockopt::ipv6_mtu(socket)? };
    Ok(usize::try_from(mtu).unwrap_or(usize::MAX))
}

/// The MTU of the interface whose address is `src`, by which packets leave: what the system has learnt of the route
/// isn't known.
#[cfg(not(target_os = "linux"))]
fn mtu_of(_socket: &UdpSocket, src: IpAddr) -> io::Result<usize> {
    let found = interfaces().map_err(io::Error::other)?;
    let mtu = |interface: &Interface| (interface.address == src).then_some(interface.mtu);
    found.iter().find_map(mtu).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests;
