//! Multicast groups that ids have joined.

use crate::abi::{
    RDMA_CM_JOIN_MC_ATTR_ADDRESS, RDMA_CM_JOIN_MC_ATTR_JOIN_FLAGS, RDMA_MC_JOIN_FLAG_FULLMEMBER,
    RDMA_MC_JOIN_FLAG_SENDONLY_FULLMEMBER, rdma_cm_id, rdma_cm_join_mc_attr_ex,
};
use crate::address;
use crate::boundary::result;
use crate::event::complete;
use crate::id::Id;
use crate::session::{done, verbs};
use libc::{EADDRNOTAVAIL, EINVAL, ENOTSUP, c_int, c_void, sockaddr};
use rdma_verbs_sys::{ibv_gid, ibv_qp};
use rocev2_agent::cm::protocol::{Multicast, Request};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// RoCE has no LIDs.
const NO_LID: u16 = 0;

/// A group that an id has joined.
pub(crate) struct Group {
    /// The agent's name for it.
    cookie: u64,
    address: SocketAddr,
    /// The program's.
    context: *mut c_void,
    /// Its GID, once the id's queue pair gets what is sent to it.
    attached: Option<[u8; 16]>,
}

/// The id's queue pair, or null.
fn queue_pair(id: &Id) -> *mut ibv_qp {
    // SAFETY: the program doesn't change it meanwhile.
    unsafe { (*id.c()).qp }
}

/// rdma_join_multicast(3).
fn join(id: &Id, address: SocketAddr, context: *mut c_void) -> Result<(), c_int> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let cookie = NEXT.fetch_add(1, Ordering::Relaxed);
    // Before the agent knows: its event may be taken by another thread at once.
    id.private().groups.push(Group { cookie, address, context, attached: None });
    done(&Request::JoinMulticast { id: id.number, group: address, cookie }).inspect_err(|_| {
        id.private().groups.retain(|group| group.cookie != cookie);
    })?;
    complete(id)
}

/// Has the id's queue pair, if there is one, get what is sent to a group that it has joined.
pub(crate) fn attach(id: &Id, joined: &Multicast) -> Result<(), c_int> {
    let qp = queue_pair(id);
    if qp.is_null() {
        return Ok(());
    }
    let mut private = id.private();
    // It may have been left meanwhile.
    let Some(group) = private.groups.iter_mut().find(|group| group.cookie == joined.cookie) else {
        return Ok(());
    };
    // SAFETY: the id's own queue pair.
    match unsafe { verbs()?.ibv_attach_mcast(qp, &ibv_gid { raw: joined.mgid }, NO_LID) } {
        0 => {
            group.attached = Some(joined.mgid);
            Ok(())
        }
        error => Err(error),
    }
}

/// What the program has given with a group that it has joined; null if it has left it.
pub(crate) fn context(id: &Id, joined: &Multicast) -> *mut c_void {
    let private = id.private();
    let group = private.groups.iter().find(|group| group.cookie == joined.cookie);
    group.map_or(std::ptr::null_mut(), |group| group.context)
}

/// rdma_leave_multicast(3).
fn leave(id: &Id, address: SocketAddr) -> Result<(), c_int> {
    let mut private = id.private();
    let at = private.groups.iter().rposition(|group| group.address == address).ok_or(EADDRNOTAVAIL)?;
    let group = private.groups.remove(at);
    let last = private.groups.iter().all(|other| other.attached != group.attached);
    drop(private);
    if let Some(gid) = group.attached.filter(|_| last) {
        detach(queue_pair(id), gid)?;
    }
    done(&Request::LeaveMulticast { id: id.number, cookie: group.cookie })
}

fn detach(qp: *mut ibv_qp, gid: [u8; 16]) -> Result<(), c_int> {
    if qp.is_null() {
        return Ok(());
    }
    // SAFETY: an id's own queue pair, which was attached.
    match unsafe { verbs()?.ibv_detach_mcast(qp, &ibv_gid { raw: gid }, NO_LID) } {
        0 => Ok(()),
        error => Err(error),
    }
}

/// Has the id's queue pair, which is about to be destroyed, get nothing more of what is sent to groups.
pub(crate) fn detach_all(id: &Id) {
    let mut attached: Vec<_> =
        id.private().groups.iter_mut().filter_map(|group| group.attached.take()).collect();
    attached.sort_unstable();
    attached.dedup();
    for gid in attached {
        // One that the program has detached itself is detached.
        let _ = detach(queue_pair(id), gid);
    }
}

/// Where extended attributes say to, as far as they are known.
///
/// # Safety
/// The address is as long as its family says.
unsafe fn group(attr: &rdma_cm_join_mc_attr_ex) -> Result<SocketAddr, c_int> {
    let known = RDMA_CM_JOIN_MC_ATTR_ADDRESS | RDMA_CM_JOIN_MC_ATTR_JOIN_FLAGS;
    if attr.comp_mask & !known != 0 {
        return Err(ENOTSUP);
    }
    // Who is to send only is as well a member here: the device has no other membership.
    let flags = [RDMA_MC_JOIN_FLAG_FULLMEMBER, RDMA_MC_JOIN_FLAG_SENDONLY_FULLMEMBER];
    let is_flagged = attr.comp_mask & RDMA_CM_JOIN_MC_ATTR_JOIN_FLAGS != 0;
    if attr.comp_mask & RDMA_CM_JOIN_MC_ATTR_ADDRESS == 0 || (is_flagged && !flags.contains(&attr.join_flags))
    {
        return Err(EINVAL);
    }
    // SAFETY: the caller says so.
    unsafe { address::read(attr.addr) }
}

export! {
    "RDMACM_1.0", -1,
    /// rdma_join_multicast(3).
    fn rdma_join_multicast(id: *mut rdma_cm_id, addr: *mut sockaddr, context: *mut c_void) -> c_int {
        // SAFETY: the program gives an id that exists, and an address.
        let (id, address) = unsafe { (Id::of(id), address::read(addr)) };
        result(id.and_then(|id| join(id, address?, context)))
    }

    "RDMACM_1.1", -1,
    /// rdma_join_multicast_ex(3).
    fn rdma_join_multicast_ex(
        id: *mut rdma_cm_id,
        mc_join_attr: *mut rdma_cm_join_mc_attr_ex,
        context: *mut c_void,
    ) -> c_int {
        // SAFETY: the program gives an id that exists, and attributes with an address.
        result(unsafe {
            mc_join_attr.as_ref().ok_or(EINVAL).and_then(|attr| join(Id::of(id)?, group(attr)?, context))
        })
    }

    "RDMACM_1.0", -1,
    /// rdma_leave_multicast(3).
    fn rdma_leave_multicast(id: *mut rdma_cm_id, addr: *mut sockaddr) -> c_int {
        // SAFETY: the program gives an id that exists, and an address.
        let (id, address) = unsafe { (Id::of(id), address::read(addr)) };
        result(id.and_then(|id| leave(id, address?)))
    }
}
