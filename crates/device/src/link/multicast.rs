//! Sockets and multicast groups.

use super::bind::{self, BindError};
use socket2::{InterfaceIndexOrAddress, SockRef, Socket};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

/// A socket that gets what is sent to the group, where it was joined by the interface with that index. Several may.
pub(crate) fn join(group: SocketAddr, local: IpAddr, interface: u32) -> Result<Socket, BindError> {
    let failed = |what| move |source| BindError::System { what, address: group, source };
    let socket = open(group)?;
    socket.set_reuse_address(true).map_err(failed("setting SO_REUSEADDR"))?;
    // Bound to the group's address: what goes elsewhere isn't for it.
    bind::to(&socket, scoped(group, interface))?;
    match group.ip() {
        IpAddr::V4(address) => {
            socket.join_multicast_v4_n(&address, &InterfaceIndexOrAddress::Index(interface))
        }
        IpAddr::V6(address) => socket.join_multicast_v6(&address, interface),
    }
    .map_err(failed("joining a multicast group"))?;
    only_joined(&socket, local).map_err(failed("setting IP_MULTICAST_ALL"))?;
    Ok(socket)
}

/// Some IPv6 groups mean another on each interface.
fn scoped(group: SocketAddr, interface: u32) -> SocketAddr {
    match group {
        SocketAddr::V6(group) => SocketAddrV6::new(*group.ip(), group.port(), 0, interface).into(),
        v4 => v4,
    }
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn open(group: SocketAddr) -> Result<Socket, BindError> {
    super::udp::open(group)
}

#[cfg(any(not(target_os = "linux"), feature = "portable"))]
fn open(group: SocketAddr) -> Result<Socket, BindError> {
    bind::open(group)
}

/// What others have joined by another interface isn't for this socket.
#[cfg(target_os = "linux")]
fn only_joined(socket: &Socket, local: IpAddr) -> io::Result<()> {
    if local.is_ipv4() { socket.set_multicast_all_v4(false) } else { socket.set_multicast_all_v6(false) }
}

#[cfg(not(target_os = "linux"))]
fn only_joined(_socket: &Socket, _local: IpAddr) -> io::Result<()> {
    Ok(())
}

/// Has what the socket, of that address, sends to groups leave by the interface with that index.
pub(crate) fn leave_by(socket: &impl AsFd, local: IpAddr, interface: u32) -> io::Result<()> {
    let socket = socket.as_fd();
    let socket = SockRef::from(&socket);
    match local {
        IpAddr::V4(local) => socket.set_multicast_if_v4(&local),
        IpAddr::V6(_) => socket.set_multicast_if_v6(interface),
    }
}
