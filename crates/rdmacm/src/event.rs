//! Events: taken from the agent, followed by what the library does about them, given to the program.

use crate::abi::{
    RDMA_CM_EVENT_ADDR_RESOLVED, RDMA_CM_EVENT_CONNECT_ERROR, RDMA_CM_EVENT_CONNECT_REQUEST,
    RDMA_CM_EVENT_CONNECT_RESPONSE, RDMA_CM_EVENT_DISCONNECTED, RDMA_CM_EVENT_ESTABLISHED,
    RDMA_CM_EVENT_MULTICAST_JOIN, RDMA_CM_EVENT_REJECTED, RDMA_CM_EVENT_ROUTE_RESOLVED, Zeroed,
    rdma_cm_event, rdma_cm_event_param, rdma_cm_id, rdma_conn_param, rdma_event_channel, rdma_ud_param,
};
use crate::boundary::result;
use crate::channel::Channel;
use crate::id::Id;
use crate::{address, connect, endpoint, multicast, states};
use libc::{ECONNREFUSED, EINVAL, c_char, c_int};
use rocev2_agent::cm::protocol::CmEvent;
use std::ffi::CStr;

/// The longest private data that there is.
const PRIVATE_DATA: usize = 256;

/// `RDMA_CM_EVENT_ADDR_ERROR`, `RDMA_CM_EVENT_ROUTE_ERROR`, `RDMA_CM_EVENT_MULTICAST_ERROR`: what stands behind the
/// event that failed.
const ERROR: u32 = 1;

/// What is sent to a group doesn't leave the subnet, as in the kernel.
const MULTICAST_HOPS: u8 = 1;

/// An event that a program was given.
#[repr(C)]
struct Event {
    c: rdma_cm_event,
    private_data: [u8; PRIVATE_DATA],
    /// Who waits for its acknowledgement: for a request whoever listens.
    of: *const Id,
}

/// # Safety
/// It is an event that a program was given, and that it hasn't acknowledged.
pub(crate) unsafe fn acknowledge(event: *mut rdma_cm_event) {
    // SAFETY: `report` made it.
    let event = unsafe { Box::from_raw(event.cast::<Event>()) };
    // SAFETY: it isn't freed before this.
    unsafe { &*event.of }.complete();
}

/// Acknowledges the event that a call has left with an id.
pub(crate) fn release(id: &Id) {
    if !id.private().sync {
        return;
    }
    // SAFETY: a field of the id.
    let event = unsafe { std::mem::replace(&mut (*id.c()).event, std::ptr::null_mut()) };
    if !event.is_null() {
        // SAFETY: a call has left it there.
        unsafe { acknowledge(event) };
    }
}

/// Waits for the event of a call, if the id's calls wait.
pub(crate) fn complete(id: &Id) -> Result<(), c_int> {
    if !id.private().sync {
        return Ok(());
    }
    release(id);
    // SAFETY: the id's own channel.
    let event = next(unsafe { Channel::of((*id.c()).channel)? })?;
    // SAFETY: a field of the id, and an event that was given out now.
    let (kind, status) = unsafe {
        (*id.c()).event = event;
        ((*event).event, (*event).status)
    };
    match status {
        0 => Ok(()),
        _ if kind == RDMA_CM_EVENT_REJECTED => Err(ECONNREFUSED),
        status => Err(status.abs()),
    }
}

/// The next event of a channel that a program is to be told.
pub(crate) fn next(channel: &Channel) -> Result<*mut rdma_cm_event, c_int> {
    loop {
        let event = channel.next()?;
        // An id that was destroyed meanwhile is told nothing.
        let Some(of) = Id::report(event.listener.unwrap_or(event.id)) else { continue };
        if let Some(reason) = &event.reason {
            let peer = event.addresses.destination.map_or_else(|| "its peer".into(), |to| to.to_string());
            eprintln!(
                "librdmacm (secure-rdma): a connection to {peer} can't be sealed, so nothing is sent: {reason}"
            );
        }
        match follow(of, &event) {
            Some(told) => return Ok(report(of, &told, &event)),
            None => of.complete(),
        }
    }
}

/// What the program is told.
struct Told {
    kind: u32,
    status: c_int,
    id: *mut rdma_cm_id,
    listen_id: *mut rdma_cm_id,
}

/// Does what follows from an event; `None` if the program isn't told of it.
fn follow(of: &Id, event: &CmEvent) -> Option<Told> {
    let (mut kind, mut status) = (event.kind, event.status);
    let mut told = Told { kind, status, id: of.c(), listen_id: std::ptr::null_mut() };
    let done = match kind {
        RDMA_CM_EVENT_ADDR_RESOLVED => {
            of.set_addresses(event.addresses).map_err(|error| (kind + ERROR, error))
        }
        RDMA_CM_EVENT_ROUTE_RESOLVED => of.set_path().map_err(|error| (kind + ERROR, error)),
        RDMA_CM_EVENT_CONNECT_REQUEST => {
            told.id = requested(of, event)?;
            told.listen_id = of.c();
            Ok(())
        }
        // SAFETY: the program doesn't change it meanwhile.
        RDMA_CM_EVENT_CONNECT_RESPONSE if unsafe { !(*of.c()).qp.is_null() } => {
            kind = RDMA_CM_EVENT_ESTABLISHED;
            connect::establish(of).map_err(|error| {
                of.private().connect_error = true;
                (RDMA_CM_EVENT_CONNECT_ERROR, error)
            })
        }
        RDMA_CM_EVENT_REJECTED | RDMA_CM_EVENT_DISCONNECTED if of.private().connect_error => return None,
        RDMA_CM_EVENT_REJECTED => {
            // It may be in another state already.
            let _ = states::fail(of);
            Ok(())
        }
        RDMA_CM_EVENT_MULTICAST_JOIN => {
            let attached = event.multicast.map_or(Ok(()), |joined| multicast::attach(of, &joined));
            attached.map_err(|error| (kind + ERROR, error))
        }
        _ => Ok(()),
    };
    if let Err((failed, error)) = done {
        (kind, status) = (failed, -error);
    }
    Some(Told { kind, status, ..told })
}

/// The id for a peer's request; `None` if there can't be one: then the request is refused.
fn requested(listener: &Id, event: &CmEvent) -> Option<*mut rdma_cm_id> {
    // SAFETY: the program doesn't change them meanwhile.
    let (channel, context, ps, qp_type) = unsafe {
        let c = listener.c();
        ((*c).channel, (*c).context, (*c).ps, (*c).qp_type)
    };
    let c = Id::add(event.id, channel, context, ps, qp_type, false);
    // SAFETY: it was made now.
    let id = unsafe { Id::own(c) };
    {
        let mut private = id.private();
        private.responder_resources = event.params.responder_resources;
        private.initiator_depth = event.params.initiator_depth;
    }
    let sync = listener.private().sync;
    let ready = id
        .set_addresses(event.addresses)
        .and_then(|()| id.set_path())
        // SAFETY: without another channel it gets its own.
        .and_then(|()| if sync { unsafe { endpoint::migrate(id, std::ptr::null_mut()) } } else { Ok(()) });
    if ready.is_err() {
        // SAFETY: nobody else knows it yet.
        let _ = unsafe { Id::destroy(c) };
        return None;
    }
    Some(c)
}

fn report(of: &Id, told: &Told, event: &CmEvent) -> *mut rdma_cm_event {
    let Told { kind, status, id, listen_id } = *told;
    let c = rdma_cm_event { id, listen_id, event: kind, status, param: rdma_cm_event_param::zeroed() };
    let mut whole = Box::new(Event { c, private_data: [0; PRIVATE_DATA], of });
    let params = &event.params;
    let len = params.private_data.len().min(PRIVATE_DATA - 1);
    whole.private_data[..len].copy_from_slice(&params.private_data[..len]);
    let private_data = if len == 0 { std::ptr::null() } else { whole.private_data.as_ptr().cast() };
    // At most 255, above.
    let private_data_len = u8::try_from(len).unwrap_or(u8::MAX);
    whole.c.param = if let Some(joined) = event.multicast {
        rdma_cm_event_param {
            ud: rdma_ud_param {
                private_data: multicast::context(of, &joined),
                private_data_len: 0,
                ah_attr: states::ah_attr(joined.mgid, MULTICAST_HOPS, joined.traffic_class, 0),
                qp_num: params.qpn,
                qkey: event.qkey,
            },
        }
    } else if of.is_datagram() {
        let dgid = event.addresses.destination.map_or([0; 16], address::gid);
        rdma_cm_event_param {
            ud: rdma_ud_param {
                private_data,
                private_data_len,
                ah_attr: states::ah_attr(dgid, 64, 0, 0),
                qp_num: params.qpn,
                qkey: event.qkey,
            },
        }
    } else {
        rdma_cm_event_param {
            conn: rdma_conn_param {
                private_data,
                private_data_len,
                responder_resources: params.responder_resources,
                initiator_depth: params.initiator_depth,
                flow_control: 0,
                retry_count: params.retry_count,
                rnr_retry_count: params.rnr_retry_count,
                srq: params.srq.into(),
                qp_num: params.qpn,
            },
        }
    };
    Box::into_raw(whole).cast()
}

const NAMES: [&CStr; 16] = [
    c"RDMA_CM_EVENT_ADDR_RESOLVED",
    c"RDMA_CM_EVENT_ADDR_ERROR",
    c"RDMA_CM_EVENT_ROUTE_RESOLVED",
    c"RDMA_CM_EVENT_ROUTE_ERROR",
    c"RDMA_CM_EVENT_CONNECT_REQUEST",
    c"RDMA_CM_EVENT_CONNECT_RESPONSE",
    c"RDMA_CM_EVENT_CONNECT_ERROR",
    c"RDMA_CM_EVENT_UNREACHABLE",
    c"RDMA_CM_EVENT_REJECTED",
    c"RDMA_CM_EVENT_ESTABLISHED",
    c"RDMA_CM_EVENT_DISCONNECTED",
    c"RDMA_CM_EVENT_DEVICE_REMOVAL",
    c"RDMA_CM_EVENT_MULTICAST_JOIN",
    c"RDMA_CM_EVENT_MULTICAST_ERROR",
    c"RDMA_CM_EVENT_ADDR_CHANGE",
    c"RDMA_CM_EVENT_TIMEWAIT_EXIT",
];

const UNKNOWN: &CStr = c"UNKNOWN EVENT";

export! {
    "RDMACM_1.0", -1,
    /// rdma_get_cm_event(3).
    fn rdma_get_cm_event(channel: *mut rdma_event_channel, event: *mut *mut rdma_cm_event) -> c_int {
        if event.is_null() {
            return result(Err(EINVAL));
        }
        // SAFETY: the program says that it is one.
        result(unsafe { Channel::of(channel) }.and_then(next).map(|next| {
            // SAFETY: and gives a place for the event.
            unsafe { event.write(next) };
        }))
    }

    "RDMACM_1.0", -1,
    /// rdma_ack_cm_event(3).
    fn rdma_ack_cm_event(event: *mut rdma_cm_event) -> c_int {
        if event.is_null() {
            return result(Err(EINVAL));
        }
        // SAFETY: the program says that it was given it, and is done with it.
        unsafe { acknowledge(event) };
        0
    }

    "RDMACM_1.0", UNKNOWN.as_ptr(),
    /// rdma_event_str(3).
    fn rdma_event_str(event: u32) -> *const c_char {
        usize::try_from(event).ok().and_then(|event| NAMES.get(event)).unwrap_or(&UNKNOWN).as_ptr()
    }
}
