//! Sockets at an address, of either kind.

use crate::gid::is_unicast;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// What the send and receive buffers should hold, in bytes: the system gives what its limits allow
/// (Linux: `net.core.rmem_max`, `net.core.wmem_max`), or all of it to a process with CAP_NET_ADMIN.
pub(super) const BUFFER: usize = 4 << 20;

/// A socket couldn't be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address and port are taken.
    #[error(
        "{0} is in use: by another process (ss -ulpn shows it), or by the kernel's rdma_rxe, which takes \
         UDP port 4791 on all addresses (rdma link shows it); stop it, or use another address or port"
    )]
    InUse(SocketAddr),
    /// The address isn't one of this host's.
    #[error("{0} is not an address of this host, or not yet usable (ip addr shows them)")]
    NotLocal(IpAddr),
    /// RoCEv2 needs the address of one host: peers check it.
    #[error("{0} is not the address of one host; choose one of this host's own addresses")]
    NotUnicast(IpAddr),
    /// The system refused something else.
    #[error("{what} for {address}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The address and port.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// The address as it is bound, if it is that of one host.
pub(crate) fn unicast(address: SocketAddr) -> Result<SocketAddr, BindError> {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    if is_unicast(address.ip()) { Ok(address) } else { Err(BindError::NotUnicast(address.ip())) }
}

/// A UDP socket for that address, with large buffers, not bound yet.
pub(crate) fn open(address: SocketAddr) -> Result<Socket, BindError> {
    let failed = |what| move |source| BindError::System { what, address, source };
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .map_err(failed("opening a UDP socket"))?;
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(failed("setting IPV6_V6ONLY"))?;
    }
    // Small buffers work too, more slowly.
    enlarge(&socket);
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn enlarge(socket: &Socket) {
    use rustix::net::sockopt;
    let _ = sockopt::set_socket_recv_buffer_size_force(socket, BUFFER)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(socket, BUFFER));
    let _ = sockopt::set_socket_send_buffer_size_force(socket, BUFFER)
        .or_else(|_| sockopt::set_socket_send_buffer_size(socket, BUFFER));
}

#[cfg(not(target_os = "linux"))]
fn enlarge(socket: &Socket) {
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
}

pub(crate) fn to(socket: &Socket, address: SocketAddr) -> Result<(), BindError> {
    socket.bind(&address.into()).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address),
        io::ErrorKind::AddrNotAvailable => BindError::NotLocal(address.ip()),
        _ => BindError::System { what: "binding a UDP socket", address, source },
    })
}
