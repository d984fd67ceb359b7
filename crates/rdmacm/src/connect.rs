//! Connections: from a request to their end.

use crate::abi::{RDMA_MAX_INIT_DEPTH, RDMA_MAX_RESP_RES, RDMA_PS_TCP, rdma_cm_id, rdma_conn_param};
use crate::boundary::result;
use crate::event::complete;
use crate::id::Id;
use crate::session::{device, done};
use crate::states;
use libc::{EINVAL, c_int, c_void};
use rdma_verbs_sys::IBV_EVENT_COMM_EST;
use rocev2_agent::cm::protocol::{Params, Request};

/// What the program wants, if it says so, and what its queue pair is.
///
/// # Safety
/// What the parameters name must be the program's own.
unsafe fn params(id: &Id, param: Option<&rdma_conn_param>) -> Result<Params, c_int> {
    let c = id.c();
    // SAFETY: the program doesn't change it meanwhile.
    let qp = unsafe { (*c).qp };
    let (qpn, srq) = if qp.is_null() {
        let param = param.ok_or(EINVAL)?;
        (param.qp_num, param.srq != 0)
    } else {
        // SAFETY: the id's own queue pair.
        unsafe { ((*qp).qp_num, !(*qp).srq.is_null()) }
    };
    let private = id.private();
    let mut private_data = private.connect.clone();
    if let Some(param) = param
        && !param.private_data.is_null()
    {
        // SAFETY: the caller says that there are so many bytes.
        let bytes = unsafe {
            std::slice::from_raw_parts(param.private_data.cast::<u8>(), param.private_data_len.into())
        };
        private_data.extend_from_slice(bytes);
    }
    Ok(Params {
        qpn,
        responder_resources: private.responder_resources,
        initiator_depth: private.initiator_depth,
        retry_count: param.map_or(7, |param| param.retry_count),
        rnr_retry_count: param.map_or(7, |param| param.rnr_retry_count),
        srq,
        private_data,
    })
}

/// READs and atomics that the program wants, at most as many as the device can; those given if it doesn't say.
fn depths(id: &Id, param: Option<&rdma_conn_param>, otherwise: [u8; 2]) -> Result<(), c_int> {
    let device = device()?;
    let most = [device.max_responder_resources, device.max_initiator_depth];
    let asked = param.map_or([RDMA_MAX_RESP_RES, RDMA_MAX_INIT_DEPTH], |param| {
        [param.responder_resources, param.initiator_depth]
    });
    // SAFETY: it is set once.
    let checked = unsafe { (*id.c()).ps == RDMA_PS_TCP };
    let mut depths = [0; 2];
    for (at, depth) in depths.iter_mut().enumerate() {
        *depth = match asked[at] {
            u8::MAX => otherwise[at].min(most[at]),
            asked if checked && asked > most[at] => return Err(EINVAL),
            asked => asked,
        };
    }
    let mut private = id.private();
    [private.responder_resources, private.initiator_depth] = depths;
    Ok(())
}

/// # Safety
/// What the parameters name must be the program's own.
pub(crate) unsafe fn connect(id: &Id, param: Option<&rdma_conn_param>) -> Result<(), c_int> {
    depths(id, param, [u8::MAX; 2])?;
    // SAFETY: the caller says so.
    let params = unsafe { params(id, param)? };
    done(&Request::Connect { id: id.number, params })?;
    id.private().connect.clear();
    complete(id)
}

/// # Safety
/// What the parameters name must be the program's own.
pub(crate) unsafe fn accept(id: &Id, param: Option<&rdma_conn_param>) -> Result<(), c_int> {
    let asked = {
        let private = id.private();
        [private.responder_resources, private.initiator_depth]
    };
    depths(id, param, asked)?;
    // SAFETY: the caller says so.
    let params = unsafe { params(id, param)? };
    if id.is_datagram() {
        done(&Request::Accept { id: id.number, params })?;
        crate::event::release(id);
        return Ok(());
    }
    states::connect(id, params.responder_resources, params.initiator_depth)?;
    done(&Request::Accept { id: id.number, params }).inspect_err(|_| {
        let _ = states::fail(id);
    })?;
    complete(id)
}

/// The peer's answer is here: the queue pair follows, and the peer is told.
pub(crate) fn establish(id: &Id) -> Result<(), c_int> {
    let established = states::connect(id, RDMA_MAX_RESP_RES, RDMA_MAX_INIT_DEPTH)
        .and_then(|()| done(&Request::Establish { id: id.number }));
    established.inspect_err(|_| {
        let _ = states::fail(id);
    })
}

/// # Safety
/// There are so many bytes.
pub(crate) unsafe fn reject(id: &Id, private_data: *const c_void, len: u8) -> Result<(), c_int> {
    let private_data = if private_data.is_null() {
        Vec::new()
    } else {
        // SAFETY: the caller says so.
        unsafe { std::slice::from_raw_parts(private_data.cast::<u8>(), len.into()) }.to_vec()
    };
    done(&Request::Reject { id: id.number, private_data })
}

fn disconnect(id: &Id) -> Result<(), c_int> {
    // SAFETY: a field of the id.
    if unsafe { (*id.c()).verbs.is_null() } {
        return Err(EINVAL);
    }
    states::fail(id)?;
    done(&Request::Disconnect { id: id.number })?;
    complete(id)
}

export! {
    "RDMACM_1.0", -1,
    /// rdma_connect(3).
    fn rdma_connect(id: *mut rdma_cm_id, conn_param: *mut rdma_conn_param) -> c_int {
        // SAFETY: the program gives an id that exists, and parameters or none.
        result(unsafe { Id::of(id).and_then(|id| connect(id, conn_param.as_ref())) })
    }

    "RDMACM_1.0", -1,
    /// rdma_accept(3).
    fn rdma_accept(id: *mut rdma_cm_id, conn_param: *mut rdma_conn_param) -> c_int {
        // SAFETY: the program gives an id that exists, and parameters or none.
        result(unsafe { Id::of(id).and_then(|id| accept(id, conn_param.as_ref())) })
    }

    "RDMACM_1.2", -1,
    /// rdma_establish(3).
    fn rdma_establish(id: *mut rdma_cm_id) -> c_int {
        // SAFETY: the program doesn't destroy it meanwhile.
        let id = unsafe { Id::of(id) };
        // SAFETY: a field of it.
        result(id.and_then(|id| if unsafe { (*id.c()).qp.is_null() } { establish(id) } else { Err(EINVAL) }))
    }

    "RDMACM_1.0", -1,
    /// rdma_reject(3).
    fn rdma_reject(id: *mut rdma_cm_id, private_data: *const c_void, private_data_len: u8) -> c_int {
        // SAFETY: the program gives an id that exists, and so many bytes.
        result(unsafe { Id::of(id).and_then(|id| reject(id, private_data, private_data_len)) })
    }

    "RDMACM_1.3", -1,
    /// rdma_reject_ece(3).
    fn rdma_reject_ece(id: *mut rdma_cm_id, private_data: *const c_void, private_data_len: u8) -> c_int {
        // SAFETY: the program gives an id that exists, and so many bytes.
        result(unsafe { Id::of(id).and_then(|id| reject(id, private_data, private_data_len)) })
    }

    "RDMACM_1.0", -1,
    /// rdma_disconnect(3).
    fn rdma_disconnect(id: *mut rdma_cm_id) -> c_int {
        // SAFETY: the program doesn't destroy it meanwhile.
        result(unsafe { Id::of(id) }.and_then(disconnect))
    }

    "RDMACM_1.0", -1,
    /// rdma_notify(3).
    fn rdma_notify(id: *mut rdma_cm_id, event: u32) -> c_int {
        // SAFETY: the program doesn't destroy it meanwhile.
        result(unsafe { Id::of(id) }.and_then(|id| {
            if event == IBV_EVENT_COMM_EST {
                done(&Request::CommunicationEstablished { id: id.number })
            } else {
                Ok(())
            }
        }))
    }
}
