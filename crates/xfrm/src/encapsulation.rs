//! The UDP socket where the kernel opens packets.

use crate::Error;
use core::ffi::c_int;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// The port of ESP in UDP (RFC 3948).
const NAT_TRAVERSAL_PORT: u16 = 4500;

/// `UDP_ENCAP`, `UDP_ENCAP_ESPINUDP` (`linux/udp.h`).
const UDP_ENCAP: c_int = 100;
const ESP_IN_UDP: c_int = 2;

/// A UDP socket of this host's, by which the kernel takes ESP in UDP for as long as it exists. It needs no right.
#[derive(Debug)]
pub struct Encapsulation {
    _socket: UdpSocket,
    address: SocketAddr,
}

impl Encapsulation {
    /// One at `own`: at port 4500, or where that is in use, at any that is free.
    ///
    /// # Errors
    /// The address isn't this host's, or the kernel refused.
    pub fn open(own: IpAddr) -> Result<Self, Error> {
        const WHAT: &str = "opening a UDP socket for ESP";
        let bound = UdpSocket::bind((own, NAT_TRAVERSAL_PORT)).or_else(|_| UdpSocket::bind((own, 0)));
        let socket = bound.map_err(Error::kernel(WHAT))?;
        take_esp(&socket).map_err(Error::kernel(WHAT))?;
        let address = socket.local_addr().map_err(Error::kernel(WHAT))?;
        Ok(Self { _socket: socket, address })
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address.ip()
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }
}

/// Has the kernel take the ESP that comes to a socket. No safe library has this option.
#[allow(unsafe_code)]
fn take_esp(socket: &UdpSocket) -> io::Result<()> {
    let value = ESP_IN_UDP;
    let len = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the descriptor is open, and the option's value is an integer of the length that is given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_UDP, UDP_ENCAP, (&raw const value).cast(), len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
