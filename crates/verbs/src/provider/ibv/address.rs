//! Ways to peers: address vectors and address handles.

use super::context::Context;
use super::made;
use super::memory::Domain;
use crate::endpoint::Endpoint;
use crate::gid::{GidEntry, GidKind};
use crate::options::Peer;
use crate::{Error, Gid};
use core::ptr::NonNull;
use rdma_verbs_sys::{IBV_QPF_GRH_REQUIRED, ibv_ah, ibv_ah_attr, ibv_gid, ibv_global_route};
use rocev2::UDP_PORT;
use std::sync::Arc;

/// Hops that packets may take, as IP's usual default.
const HOP_LIMIT: u8 = 64;

/// Where a peer's port is.
pub(super) struct Place {
    pub(super) gid: Gid,
    udp_port: Option<u16>,
    lid: Option<u16>,
}

impl From<&Peer> for Place {
    fn from(peer: &Peer) -> Self {
        Self { gid: peer.gid, udp_port: peer.udp_port, lid: peer.lid }
    }
}

impl From<&Endpoint> for Place {
    fn from(peer: &Endpoint) -> Self {
        Self { gid: peer.gid, udp_port: peer.udp_port, lid: peer.lid }
    }
}

/// An address handle.
pub(crate) struct Handle {
    domain: Arc<Domain>,
    raw: NonNull<ibv_ah>,
}

// SAFETY: libibverbs' objects aren't tied to a thread.
unsafe impl Send for Handle {}
// SAFETY: libibverbs locks what it has to.
unsafe impl Sync for Handle {}

impl Handle {
    pub(crate) fn new(domain: &Arc<Domain>, own: &GidEntry, peer: &Endpoint) -> Result<Self, Error> {
        let context = &domain.context;
        let mut vector = vector(context, &context.gid(own.index)?, &peer.into())?;
        // SAFETY: the domain exists, and the attributes are the caller's.
        let raw = made(unsafe { context.library.ibv_create_ah(domain.raw.as_ptr(), &raw mut vector) })
            .map_err(context.failed("making an address handle", ""))?;
        Ok(Self { domain: Arc::clone(domain), raw })
    }

    /// As work requests name it; `None` if it is another device's.
    pub(super) fn raw(&self, domain: &Domain) -> Option<NonNull<ibv_ah>> {
        Arc::ptr_eq(&self.domain.context, &domain.context).then_some(self.raw)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was made by this library and is destroyed once; requests that name it keep it.
        unsafe { self.domain.context.library.ibv_destroy_ah(self.raw.as_ptr()) };
    }
}

/// The address vector: how packets get from `own` to the peer.
pub(super) fn vector(context: &Context, own: &GidEntry, peer: &Place) -> Result<ibv_ah_attr, Error> {
    let unreachable =
        |reason: String| Error::Unreachable { own: own.to_string(), peer: peer.gid, reason: reason.into() };
    let grh = ibv_global_route {
        dgid: ibv_gid { raw: peer.gid.to_bytes() },
        sgid_index: u8::try_from(own.index)
            .map_err(|_| unreachable("libibverbs takes GID indices up to 255 only".into()))?,
        hop_limit: HOP_LIMIT,
        ..Default::default()
    };
    let mut vector = ibv_ah_attr { grh, port_num: context.port, ..Default::default() };
    match own.kind {
        GidKind::InfiniBand => {
            vector.dlid = peer.lid.ok_or_else(|| {
                unreachable(
                    "this one is on InfiniBand, the peer's is not; choose devices of one network".into(),
                )
            })?;
            let required = context.port_limits.flags & IBV_QPF_GRH_REQUIRED != 0;
            // A packet into another subnet needs the global route header; within one, LIDs do.
            let foreign = own.gid.to_bytes()[..8] != peer.gid.to_bytes()[..8];
            vector.is_global = u8::from(required || foreign);
        }
        GidKind::RoceV1 | GidKind::RoceV2 => {
            if peer.lid.is_some() {
                return Err(unreachable(
                    "this one is on Ethernet, the peer's on InfiniBand; choose devices of one network".into(),
                ));
            }
            vector.is_global = 1;
        }
    }
    if own.kind == GidKind::RoceV2 {
        check_udp(own, peer).map_err(unreachable)?;
    }
    Ok(vector)
}

/// What RoCEv2 needs of both ends: addresses of one IP version, and the one UDP port that devices send to.
fn check_udp(own: &GidEntry, peer: &Place) -> Result<(), String> {
    let (address, gid_port) = peer.gid.endpoint().map_err(|error| error.to_string())?;
    if own.address.is_some_and(|own| own.is_ipv4() != address.is_ipv4()) {
        return Err("one is IPv4, the other IPv6; choose GIDs of the same family".into());
    }
    let port = peer.udp_port.unwrap_or(gid_port);
    if port != UDP_PORT {
        return Err(format!(
            "the peer's embedded device receives on UDP port {port}, and this device sends to {UDP_PORT} only: \
             something else uses UDP port {UDP_PORT} at the peer's address"
        ));
    }
    Ok(())
}
