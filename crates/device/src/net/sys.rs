//! The system calls that no safe crate has.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// An integer socket option.
#[derive(Debug, Clone, Copy)]
pub(super) struct SocketOption {
    level: libc::c_int,
    name: libc::c_int,
}

impl SocketOption {
    /// Receives IPv6 datagrams without a UDP checksum, which rxe sends.
    pub(super) const NO_CHECK6_RX: Self = Self { level: libc::SOL_UDP, name: libc::UDP_NO_CHECK6_RX };
    /// A control message with the time of arrival.
    pub(super) const TIMESTAMP: Self = Self { level: libc::SOL_SOCKET, name: libc::SO_TIMESTAMPNS };
    /// A control message with the destination address, IPv4.
    pub(super) const PACKET_INFO: Self = Self { level: libc::IPPROTO_IP, name: libc::IP_PKTINFO };
    /// A control message with the type of service, IPv4.
    pub(super) const RECV_TOS: Self = Self { level: libc::IPPROTO_IP, name: libc::IP_RECVTOS };
    /// A control message with the destination address, IPv6.
    pub(super) const PACKET_INFO6: Self = Self { level: libc::IPPROTO_IPV6, name: libc::IPV6_RECVPKTINFO };
    /// A control message with the traffic class, IPv6.
    pub(super) const RECV_TCLASS6: Self = Self { level: libc::IPPROTO_IPV6, name: libc::IPV6_RECVTCLASS };
    /// Sends without UDP checksums, IPv4.
    #[cfg(test)]
    pub(super) const NO_CHECK: Self = Self { level: libc::SOL_SOCKET, name: libc::SO_NO_CHECK };
    /// Sends without UDP checksums, IPv6.
    #[cfg(test)]
    pub(super) const NO_CHECK6_TX: Self = Self { level: libc::SOL_UDP, name: libc::UDP_NO_CHECK6_TX };

    /// Switches the option.
    pub(super) fn set(self, socket: impl AsFd, on: bool) -> io::Result<()> {
        let value = libc::c_int::from(on);
        #[expect(clippy::cast_possible_truncation, reason = "an integer's size")]
        let len = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the descriptor is open while it is borrowed, and the value is an integer of the length given.
        let result = unsafe {
            libc::setsockopt(
                socket.as_fd().as_raw_fd(),
                self.level,
                self.name,
                (&raw const value).cast(),
                len,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// The MTU of the network interface with that name. `socket` may be any socket.
///
/// Unlike `/sys/class/net`, this asks the network namespace that the process is in.
pub(super) fn interface_mtu(socket: impl AsFd, name: &str) -> io::Result<usize> {
    let mut request = named_request(name)?;
    // SAFETY: SIOCGIFMTU reads the name of an `ifreq` and writes its `ifru_mtu`; the structure lives and is exclusive.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above set this member of the union.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Whether the network interface with that name was set up. Whether its link works is another question, whose answer the kernel
/// gives late: an interface that has just been set up already has its addresses, and carries TCP.
pub(super) fn interface_is_up(socket: impl AsFd, name: &str) -> io::Result<bool> {
    let mut request = named_request(name)?;
    // SAFETY: SIOCGIFFLAGS reads the name of an `ifreq` and writes its `ifru_flags`; the structure lives and is exclusive.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above set this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(i32::from(flags) & libc::IFF_UP != 0)
}

/// A question about the network interface with that name.
fn named_request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zeros are a valid `ifreq`: an empty name and an empty union of plain data.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    // The last byte stays 0: the name is a C string.
    let (_, room) = request.ifr_name.split_last_mut().expect("IFNAMSIZ is 16");
    let Some(room) = room.get_mut(..name.len()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    for (to, from) in room.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(request)
}
