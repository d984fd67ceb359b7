//! Names of hosts and services.

use crate::abi::{RAI_NUMERICHOST, RAI_PASSIVE, RDMA_PS_TCP, RDMA_PS_UDP, Zeroed, rdma_addrinfo};
use crate::boundary::{result, set_errno};
use crate::{address, session};
use libc::{
    AF_INET, AI_NUMERICHOST, AI_PASSIVE, EINVAL, ENOMEM, IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_STREAM,
    addrinfo, c_char, c_int, c_void, sockaddr, socklen_t,
};
use rdma_verbs_sys::{IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD};

/// Why there is no answer.
enum Failed {
    Errno(c_int),
    /// `EAI_…`, which is returned as it is.
    Name(c_int),
}

fn code(number: u32) -> c_int {
    c_int::try_from(number).unwrap_or(0)
}

/// What the C library is asked for.
fn hints(of: &rdma_addrinfo) -> addrinfo {
    let mut asked = addrinfo::zeroed();
    if of.ai_flags & RAI_PASSIVE != 0 {
        asked.ai_flags |= AI_PASSIVE;
    }
    if of.ai_flags & RAI_NUMERICHOST != 0 {
        asked.ai_flags |= AI_NUMERICHOST;
    }
    asked.ai_family = of.ai_family;
    if of.ai_qp_type == code(IBV_QPT_UD) {
        asked.ai_socktype = SOCK_DGRAM;
    } else if of.ai_qp_type == code(IBV_QPT_RC) || of.ai_qp_type == code(IBV_QPT_UC) {
        asked.ai_socktype = SOCK_STREAM;
    }
    if of.ai_port_space == code(RDMA_PS_TCP) {
        asked.ai_protocol = IPPROTO_TCP;
    } else if of.ai_port_space == code(RDMA_PS_UDP) {
        asked.ai_protocol = IPPROTO_UDP;
    }
    asked
}

/// A copy of `len` bytes that `free` takes.
///
/// # Safety
/// There are so many bytes.
unsafe fn copy(from: *const sockaddr, len: socklen_t) -> Result<*mut sockaddr, Failed> {
    // SAFETY: room for so many bytes.
    let place = unsafe { libc::malloc(len as usize) };
    if place.is_null() {
        return Err(Failed::Errno(ENOMEM));
    }
    // SAFETY: the caller says so, and there is room.
    unsafe { place.cast::<u8>().copy_from_nonoverlapping(from.cast(), len as usize) };
    Ok(place.cast())
}

/// The first of a list that is of the device's family, or else the first.
///
/// # Safety
/// It is a list of the C library's that isn't empty.
unsafe fn choose(list: *const addrinfo) -> *const addrinfo {
    let own = session::address();
    let fits = |family: c_int| own.is_none_or(|own| own.is_ipv4() == (family == AF_INET));
    let mut entry = list;
    while !entry.is_null() {
        // SAFETY: an entry of the list.
        let (family, next) = unsafe { ((*entry).ai_family, (*entry).ai_next) };
        if fits(family) {
            return entry;
        }
        entry = next;
    }
    list
}

/// # Safety
/// The names are strings or null.
unsafe fn look_up(
    node: *const c_char,
    service: *const c_char,
    asked: Option<&rdma_addrinfo>,
    found: &mut rdma_addrinfo,
) -> Result<(), Failed> {
    let own_hints = asked.map(hints);
    let own_hints = own_hints.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let mut list = std::ptr::null_mut();
    // SAFETY: the caller says so.
    match unsafe { libc::getaddrinfo(node, service, own_hints, &raw mut list) } {
        0 => {}
        error => return Err(Failed::Name(error)),
    }
    // SAFETY: the list isn't empty, and is freed below.
    let entry = unsafe { &*choose(list) };
    found.ai_family = entry.ai_family;
    found.ai_qp_type = asked
        .map(|asked| asked.ai_qp_type)
        .filter(|kind| *kind != 0)
        .unwrap_or_else(|| code(if entry.ai_socktype == SOCK_DGRAM { IBV_QPT_UD } else { IBV_QPT_RC }));
    found.ai_port_space = asked
        .map(|asked| asked.ai_port_space)
        .filter(|space| *space != 0)
        .unwrap_or_else(|| code(if entry.ai_protocol == IPPROTO_UDP { RDMA_PS_UDP } else { RDMA_PS_TCP }));
    // SAFETY: the entry's address.
    let copied = unsafe { copy(entry.ai_addr, entry.ai_addrlen) };
    let len = entry.ai_addrlen;
    // SAFETY: the C library made it.
    unsafe { libc::freeaddrinfo(list) };
    if asked.is_some_and(|asked| asked.ai_flags & RAI_PASSIVE != 0) {
        found.ai_flags = RAI_PASSIVE;
        (found.ai_src_addr, found.ai_src_len) = (copied?, len);
    } else {
        (found.ai_dst_addr, found.ai_dst_len) = (copied?, len);
    }
    Ok(())
}

/// # Safety
/// The names are strings or null, and what the hints name is the program's own.
unsafe fn find(
    node: *const c_char,
    service: *const c_char,
    asked: Option<&rdma_addrinfo>,
    found: &mut rdma_addrinfo,
) -> Result<(), Failed> {
    // SAFETY: the caller says so.
    unsafe {
        if !node.is_null() || !service.is_null() {
            look_up(node, service, asked, found)?;
        } else if let Some(asked) = asked {
            found.ai_flags = asked.ai_flags;
            found.ai_family = asked.ai_family;
            found.ai_qp_type = asked.ai_qp_type;
            found.ai_port_space = asked.ai_port_space;
            let len = address::len(asked.ai_dst_addr);
            if len != 0 && len <= asked.ai_dst_len {
                (found.ai_dst_addr, found.ai_dst_len) = (copy(asked.ai_dst_addr, len)?, len);
            }
        }
        if let Some(asked) = asked {
            let len = address::len(asked.ai_src_addr);
            if found.ai_src_len == 0 && len != 0 && len <= asked.ai_src_len {
                (found.ai_src_addr, found.ai_src_len) = (copy(asked.ai_src_addr, len)?, len);
            }
        }
    }
    Ok(())
}

/// # Safety
/// [`rdma_getaddrinfo`] made the list.
unsafe fn free(mut list: *mut rdma_addrinfo) {
    while !list.is_null() {
        // SAFETY: the caller says so.
        let entry = unsafe { Box::from_raw(list) };
        let parts: [*mut c_void; 6] = [
            entry.ai_src_addr.cast(),
            entry.ai_dst_addr.cast(),
            entry.ai_src_canonname.cast(),
            entry.ai_dst_canonname.cast(),
            entry.ai_route,
            entry.ai_connect,
        ];
        // SAFETY: they are the entry's own, or null.
        parts.into_iter().for_each(|part| unsafe { libc::free(part) });
        list = entry.ai_next;
    }
}

export! {
    "RDMACM_1.0", -1,
    /// rdma_getaddrinfo(3).
    fn rdma_getaddrinfo(
        node: *const c_char,
        service: *const c_char,
        hints: *const rdma_addrinfo,
        res: *mut *mut rdma_addrinfo,
    ) -> c_int {
        if (node.is_null() && service.is_null() && hints.is_null()) || res.is_null() {
            return result(Err(EINVAL));
        }
        let mut found = Box::new(rdma_addrinfo::zeroed());
        // SAFETY: the program gives strings and hints, or none.
        let looked_up = unsafe { find(node, service, hints.as_ref(), &mut found) };
        let found = Box::into_raw(found);
        if looked_up.is_err() {
            // SAFETY: it was made above.
            unsafe { free(found) };
        }
        match looked_up {
            Ok(()) => {
                // SAFETY: the program gives a place for it.
                unsafe { res.write(found) };
                0
            }
            Err(Failed::Errno(error)) => result(Err(error)),
            Err(Failed::Name(error)) => {
                set_errno(EINVAL);
                error
            }
        }
    }

    "RDMACM_1.0", (),
    /// rdma_freeaddrinfo(3).
    fn rdma_freeaddrinfo(res: *mut rdma_addrinfo) {
        // SAFETY: rdma_getaddrinfo made it.
        unsafe { free(res) };
    }
}
