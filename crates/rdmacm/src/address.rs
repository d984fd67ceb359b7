//! Addresses as C has them.

use crate::abi::Zeroed;
use libc::{
    AF_INET, AF_INET6, EINVAL, c_int, sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t,
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// How long an address is, of the families that there are here; 0 of another one.
///
/// # Safety
/// It is null, or the program's own.
pub(crate) unsafe fn len(address: *const sockaddr) -> socklen_t {
    if address.is_null() {
        return 0;
    }
    // SAFETY: each address begins with its family.
    let len = match c_int::from(unsafe { (*address).sa_family }) {
        AF_INET => size_of::<sockaddr_in>(),
        AF_INET6 => size_of::<sockaddr_in6>(),
        _ => 0,
    };
    socklen_t::try_from(len).unwrap_or(0)
}

/// Reads an address.
///
/// # Safety
/// It is null, or the program's own, and as long as its family says.
pub(crate) unsafe fn read(address: *const sockaddr) -> Result<SocketAddr, c_int> {
    if address.is_null() {
        return Err(EINVAL);
    }
    // SAFETY: each address begins with its family.
    match c_int::from(unsafe { (*address).sa_family }) {
        AF_INET => {
            // SAFETY: it is that long.
            let address = unsafe { address.cast::<sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
            Ok(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
        }
        AF_INET6 => {
            // SAFETY: it is that long.
            let address = unsafe { address.cast::<sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            let port = u16::from_be(address.sin6_port);
            Ok(SocketAddrV6::new(ip, port, address.sin6_flowinfo, address.sin6_scope_id).into())
        }
        _ => Err(EINVAL),
    }
}

/// An address as C has it.
pub(crate) fn storage(address: SocketAddr) -> sockaddr_storage {
    let mut storage = sockaddr_storage::zeroed();
    let place = (&raw mut storage).cast::<sockaddr>();
    match address {
        SocketAddr::V4(address) => {
            let made = sockaddr_in {
                sin_family: 2,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: any address fits there.
            unsafe { place.cast::<sockaddr_in>().write(made) };
        }
        SocketAddr::V6(address) => {
            let made = sockaddr_in6 {
                sin6_family: 10,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: any address fits there.
            unsafe { place.cast::<sockaddr_in6>().write(made) };
        }
    }
    storage
}

/// An address's GID: an IPv4 one as `::ffff:a.b.c.d`.
pub(crate) fn gid(address: SocketAddr) -> [u8; 16] {
    match address {
        SocketAddr::V4(address) => address.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(address) => address.ip().octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_have_linux_numbers() {
        let family = |text: &str| c_int::from(storage(text.parse().unwrap()).ss_family);
        assert_eq!((family("192.0.2.1:7"), family("[2001:db8::1]:7")), (AF_INET, AF_INET6));
    }

    #[test]
    fn addresses_are_read_as_they_were_written() {
        for text in ["192.0.2.1:7174", "[2001:db8::1]:7174"] {
            let address: SocketAddr = text.parse().unwrap();
            let storage = storage(address);
            let place = (&raw const storage).cast::<sockaddr>();
            // SAFETY: it is ours.
            let (read, len) = unsafe { (read(place), len(place)) };
            assert_eq!((read, len), (Ok(address), if address.is_ipv4() { 16 } else { 28 }));
        }
        let mut other = sockaddr_storage::zeroed();
        other.ss_family = 1;
        let place = (&raw const other).cast::<sockaddr>();
        // SAFETY: it is ours.
        let (read, len) = unsafe { (read(place), len(place)) };
        assert_eq!((read, len), (Err(EINVAL), 0));
    }
}
