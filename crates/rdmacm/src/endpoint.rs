//! Endpoints, whose calls wait, and ids that go to another channel.

use crate::abi::{RAI_PASSIVE, RDMA_CM_EVENT_CONNECT_REQUEST, rdma_addrinfo, rdma_cm_id, rdma_event_channel};
use crate::address;
use crate::boundary::result;
use crate::channel::Channel;
use crate::event::{next, release};
use crate::id::Id;
use crate::queue_pair::{create_qp, destroy_qp, destroy_srq};
use crate::resolve::{bind, resolve_address, resolve_route};
use crate::session::done;
use libc::{EINVAL, c_int};
use rdma_verbs_sys::{ibv_pd, ibv_qp_init_attr};
use rocev2_agent::cm::protocol::Request;

/// Has an id's events go to another channel, or to one of its own.
///
/// # Safety
/// The channel is null, or one of ours that isn't destroyed.
pub(crate) unsafe fn migrate(id: &Id, channel: *mut rdma_event_channel) -> Result<(), c_int> {
    let own = channel.is_null();
    let was_own = id.private().sync;
    if own && was_own {
        return Err(EINVAL);
    }
    let channel = if own { Channel::create()? } else { channel };
    // SAFETY: the caller says so, or it was made now.
    let queue = unsafe { Channel::of(channel)? }.number;
    if let Err(error) = done(&Request::Migrate { id: id.number, channel: queue }) {
        if own {
            // SAFETY: it was made above.
            unsafe { Channel::destroy(channel) };
        }
        return Err(error);
    }
    release(id);
    // SAFETY: a field of the id, which the program doesn't touch meanwhile.
    let before = unsafe { std::mem::replace(&mut (*id.c()).channel, channel) };
    id.private().sync = own;
    if was_own {
        // SAFETY: it was the id's own.
        unsafe { Channel::destroy(before) };
    }
    id.wait_for_acknowledgements();
    Ok(())
}

/// # Safety
/// What is named must be the program's own, and live.
unsafe fn create_ep(
    res: &rdma_addrinfo,
    pd: *mut ibv_pd,
    qp_init_attr: Option<&mut ibv_qp_init_attr>,
) -> Result<*mut rdma_cm_id, c_int> {
    let number = |number: c_int| u32::try_from(number).map_err(|_| EINVAL);
    let (ps, qp_type) = (number(res.ai_port_space)?, number(res.ai_qp_type)?);
    // SAFETY: without a channel it gets its own.
    let c = unsafe { Id::create(std::ptr::null_mut(), std::ptr::null_mut(), ps, qp_type)? };
    // SAFETY: it was made now.
    let id = unsafe { Id::own(c) };
    // SAFETY: the caller says so.
    unsafe { set_up(id, res, pd, qp_init_attr, qp_type) }.map(|()| c).inspect_err(|_| {
        // SAFETY: nobody else knows it.
        let _ = unsafe { Id::destroy(c) };
    })
}

/// # Safety
/// What is named must be the program's own, and live.
unsafe fn set_up(
    id: &Id,
    res: &rdma_addrinfo,
    pd: *mut ibv_pd,
    qp_init_attr: Option<&mut ibv_qp_init_attr>,
    qp_type: u32,
) -> Result<(), c_int> {
    // SAFETY: the caller says so.
    let read = |at: *mut libc::sockaddr| (!at.is_null()).then(|| unsafe { address::read(at) }).transpose();
    if res.ai_flags & RAI_PASSIVE != 0 {
        if let Some(source) = read(res.ai_src_addr)? {
            bind(id, source)?;
        }
        if !pd.is_null() {
            // SAFETY: a field of the id.
            unsafe { (*id.c()).pd = pd };
        }
        id.private().qp_init_attr = qp_init_attr.map(|attr| ibv_qp_init_attr { qp_type, ..*attr });
        return Ok(());
    }
    resolve_address(id, read(res.ai_src_addr)?, read(res.ai_dst_addr)?.ok_or(EINVAL)?)?;
    resolve_route(id)?;
    if let Some(attr) = qp_init_attr {
        attr.qp_type = qp_type;
        // SAFETY: the caller says so.
        unsafe { create_qp(id, pd, attr)? };
    }
    if !res.ai_connect.is_null() {
        // SAFETY: the caller says that there are so many bytes.
        let bytes = unsafe { std::slice::from_raw_parts(res.ai_connect.cast::<u8>(), res.ai_connect_len) };
        id.private().connect = bytes.to_vec();
    }
    Ok(())
}

/// The next request at a listener whose calls wait.
pub(crate) fn get_request(listener: &Id) -> Result<*mut rdma_cm_id, c_int> {
    if !listener.private().sync {
        return Err(EINVAL);
    }
    release(listener);
    // SAFETY: the id's own channel.
    let event = next(unsafe { Channel::of((*listener.c()).channel)? })?;
    // SAFETY: it was given out now.
    let (kind, status, c) = unsafe { ((*event).event, (*event).status, (*event).id) };
    let attr = listener.private().qp_init_attr;
    let made = match (status, kind, attr) {
        (0, RDMA_CM_EVENT_CONNECT_REQUEST, None) => Ok(()),
        (0, RDMA_CM_EVENT_CONNECT_REQUEST, Some(mut attr)) => {
            // SAFETY: the id of the request, and the listener's protection domain.
            unsafe { create_qp(Id::own(c), (*listener.c()).pd, &mut attr) }
        }
        (0, ..) => Err(EINVAL),
        (status, ..) => Err(status.abs()),
    };
    // SAFETY: fields of the two ids.
    unsafe { if made.is_ok() { (*c).event = event } else { (*listener.c()).event = event } }
    made.map(|()| c)
}

export! {
    "RDMACM_1.0", -1,
    /// rdma_migrate_id(3).
    fn rdma_migrate_id(id: *mut rdma_cm_id, channel: *mut rdma_event_channel) -> c_int {
        // SAFETY: the program gives an id that exists, and a channel or none.
        result(unsafe { Id::of(id).and_then(|id| migrate(id, channel)) })
    }

    "RDMACM_1.0", -1,
    /// rdma_create_ep(3).
    fn rdma_create_ep(
        id: *mut *mut rdma_cm_id,
        res: *mut rdma_addrinfo,
        pd: *mut ibv_pd,
        qp_init_attr: *mut ibv_qp_init_attr,
    ) -> c_int {
        // SAFETY: the program gives what rdma_getaddrinfo has found, and attributes or none.
        let made = unsafe { res.as_ref().ok_or(EINVAL).and_then(|res| create_ep(res, pd, qp_init_attr.as_mut())) };
        result(made.map(|made| {
            // SAFETY: and a place for the id.
            unsafe { id.write(made) };
        }))
    }

    "RDMACM_1.0", (),
    /// rdma_destroy_ep(3).
    fn rdma_destroy_ep(id: *mut rdma_cm_id) {
        // SAFETY: the program says that it is one, and no longer used.
        unsafe {
            if let Ok(own) = Id::of(id) {
                destroy_qp(own);
                destroy_srq(own);
                let _ = Id::destroy(id);
            }
        }
    }

    "RDMACM_1.0", -1,
    /// rdma_get_request(3).
    fn rdma_get_request(listen: *mut rdma_cm_id, id: *mut *mut rdma_cm_id) -> c_int {
        // SAFETY: the program says that it is one.
        result(unsafe { Id::of(listen) }.and_then(get_request).map(|made| {
            // SAFETY: and gives a place for the id.
            unsafe { id.write(made) };
        }))
    }
}
