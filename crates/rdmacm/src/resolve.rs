//! Addresses and routes.

use crate::abi::rdma_cm_id;
use crate::address;
use crate::boundary::result;
use crate::event::complete;
use crate::id::Id;
use crate::session::{call, done};
use libc::{EIO, c_int, sockaddr};
use rocev2_agent::cm::protocol::{Addresses, Reply, Request};
use std::net::SocketAddr;

/// Asks for something that changes an id's addresses.
fn addresses(request: &Request) -> Result<Addresses, c_int> {
    match call(request)?.0 {
        Reply::Addresses(addresses) => Ok(addresses),
        _ => Err(EIO),
    }
}

/// rdma_bind_addr(3).
pub(crate) fn bind(id: &Id, address: SocketAddr) -> Result<(), c_int> {
    id.set_addresses(addresses(&Request::Bind { id: id.number, address })?)
}

/// rdma_resolve_addr(3).
pub(crate) fn resolve_address(
    id: &Id,
    source: Option<SocketAddr>,
    destination: SocketAddr,
) -> Result<(), c_int> {
    let found = addresses(&Request::ResolveAddress { id: id.number, source, destination })?;
    // The device follows with the event.
    id.set_addresses(Addresses { source: None, device: false, ..found })?;
    complete(id)
}

/// rdma_listen(3).
pub(crate) fn listen(id: &Id, backlog: c_int) -> Result<(), c_int> {
    let backlog = u32::try_from(backlog).unwrap_or(0);
    id.set_addresses(addresses(&Request::Listen { id: id.number, backlog })?)
}

/// rdma_resolve_route(3).
pub(crate) fn resolve_route(id: &Id) -> Result<(), c_int> {
    done(&Request::ResolveRoute { id: id.number })?;
    complete(id)
}

export! {
    "RDMACM_1.0", -1,
    /// rdma_bind_addr(3).
    fn rdma_bind_addr(id: *mut rdma_cm_id, addr: *mut sockaddr) -> c_int {
        // SAFETY: the program gives an id that exists, and an address.
        let (id, address) = unsafe { (Id::of(id), address::read(addr)) };
        result(id.and_then(|id| bind(id, address?)))
    }

    "RDMACM_1.0", -1,
    /// rdma_resolve_addr(3).
    fn rdma_resolve_addr(
        id: *mut rdma_cm_id,
        src_addr: *mut sockaddr,
        dst_addr: *mut sockaddr,
        _timeout_ms: c_int,
    ) -> c_int {
        // SAFETY: the program gives an id that exists, and addresses.
        let (id, destination) = unsafe { (Id::of(id), address::read(dst_addr)) };
        // SAFETY: as above.
        let source = (!src_addr.is_null()).then(|| unsafe { address::read(src_addr) }).transpose();
        result(id.and_then(|id| resolve_address(id, source?, destination?)))
    }

    "RDMACM_1.0", -1,
    /// rdma_resolve_route(3).
    fn rdma_resolve_route(id: *mut rdma_cm_id, _timeout_ms: c_int) -> c_int {
        // SAFETY: the program says that it is one.
        result(unsafe { Id::of(id) }.and_then(resolve_route))
    }

    "RDMACM_1.0", -1,
    /// rdma_listen(3).
    fn rdma_listen(id: *mut rdma_cm_id, backlog: c_int) -> c_int {
        // SAFETY: the program says that it is one.
        result(unsafe { Id::of(id) }.and_then(|id| listen(id, backlog)))
    }
}
