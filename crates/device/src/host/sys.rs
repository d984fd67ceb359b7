//! The system calls that no safe crate has.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The MTU of the network interface with that name. `socket` may be any socket.
///
/// Unlike `/sys/class/net`, this asks the network namespace that the process is in.
pub(super) fn interface_mtu(socket: impl AsFd, name: &str) -> io::Result<usize> {
    let mut request = named_request(name)?;
    // SAFETY: SIOCGIFMTU reads the name of an `ifreq` and writes its `ifru_mtu`; the structure lives and is exclusive.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above set this member of the union.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Has every descriptor from `first` on closed when this process becomes another program.
///
/// # Errors
/// The kernel can't: Linux can since 5.11.
#[cfg(target_os = "linux")]
pub fn close_on_exec(first: u32) -> io::Result<()> {
    // SAFETY: marked descriptors stay open, and belong to whom they belonged to.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the network interface with that name was set up. Whether its link works is another question, whose
/// answer the kernel gives late: an interface that has just been set up already has its addresses, and
/// carries TCP.
pub(super) fn interface_is_up(socket: impl AsFd, name: &str) -> io::Result<bool> {
    let mut request = named_request(name)?;
    // SAFETY: SIOCGIFFLAGS reads the name of an `ifreq` and writes its `ifru_flags`; the structure lives and
    // is exclusive.
    let result =
        unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) };
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
