//! An id's queue pair on its way through its states.

use crate::abi::{RDMA_MAX_INIT_DEPTH, RDMA_MAX_RESP_RES, RDMA_UDP_QKEY, rdma_cm_id};
use crate::boundary::result;
use crate::id::Id;
use crate::session::{call, verbs};
use libc::{EINVAL, EIO, c_int};
use rdma_verbs_sys::{
    IBV_ACCESS_REMOTE_ATOMIC, IBV_ACCESS_REMOTE_READ, IBV_ACCESS_REMOTE_WRITE, IBV_QP_ACCESS_FLAGS,
    IBV_QP_AV, IBV_QP_DEST_QPN, IBV_QP_MAX_DEST_RD_ATOMIC, IBV_QP_MAX_QP_RD_ATOMIC, IBV_QP_MIN_RNR_TIMER,
    IBV_QP_PATH_MTU, IBV_QP_PKEY_INDEX, IBV_QP_PORT, IBV_QP_QKEY, IBV_QP_RETRY_CNT, IBV_QP_RNR_RETRY,
    IBV_QP_RQ_PSN, IBV_QP_SQ_PSN, IBV_QP_STATE, IBV_QP_TIMEOUT, IBV_QPS_ERR, IBV_QPS_INIT, IBV_QPS_RTR,
    IBV_QPS_RTS, IBV_QPT_RC, ibv_ah_attr, ibv_gid, ibv_global_route, ibv_qp, ibv_qp_attr, ibv_qp_state,
};
use rocev2_agent::cm::protocol::{Attributes, Reply, Request};

/// How long a peer waits whose message meets no receive request: 0.64 ms. (The kernel's 0 is 655 ms: there a message
/// that comes a moment too early costs more than the connection's set-up.)
const MIN_RNR_TIMER: u8 = 12;

/// The way to a peer.
pub(crate) fn ah_attr(dgid: [u8; 16], hop_limit: u8, traffic_class: u8, flow_label: u32) -> ibv_ah_attr {
    ibv_ah_attr {
        grh: ibv_global_route {
            dgid: ibv_gid { raw: dgid },
            flow_label,
            sgid_index: 0,
            hop_limit,
            traffic_class,
        },
        is_global: 1,
        port_num: 1,
        ..ibv_ah_attr::default()
    }
}

/// What an id's queue pair is to be given for a state, and which of it (rdma_init_qp_attr(3)).
fn attributes(id: &Id, state: ibv_qp_state) -> Result<(ibv_qp_attr, c_int), c_int> {
    // SAFETY: it is set once.
    let reliable = unsafe { (*id.c()).qp_type == IBV_QPT_RC };
    let mut attr = ibv_qp_attr { qp_state: state, ..ibv_qp_attr::default() };
    let mask = match (state, id.is_datagram()) {
        (IBV_QPS_INIT, datagram) => {
            attr.port_num = 1;
            let common = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT;
            if datagram {
                attr.qkey = RDMA_UDP_QKEY;
                common | IBV_QP_QKEY
            } else {
                let read = if reliable { IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC } else { 0 };
                attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | read;
                common | IBV_QP_ACCESS_FLAGS
            }
        }
        (IBV_QPS_RTR, true) => IBV_QP_STATE,
        (IBV_QPS_RTS, true) => IBV_QP_STATE | IBV_QP_SQ_PSN,
        (IBV_QPS_RTR, false) => {
            let of = connection(id)?;
            attr.ah_attr = ah_attr(of.dgid, of.hop_limit, of.traffic_class, of.flow_label);
            attr.path_mtu = of.path_mtu.into();
            attr.dest_qp_num = of.dest_qp_num;
            attr.rq_psn = of.rq_psn;
            attr.max_dest_rd_atomic = of.max_dest_rd_atomic;
            attr.min_rnr_timer = MIN_RNR_TIMER;
            let common = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
            let more = IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
            if reliable { common | more } else { common }
        }
        (IBV_QPS_RTS, false) => {
            let of = connection(id)?;
            attr.sq_psn = of.sq_psn;
            attr.timeout = of.timeout;
            attr.retry_cnt = of.retry_cnt;
            attr.rnr_retry = of.rnr_retry;
            attr.max_rd_atomic = of.max_rd_atomic;
            let more = IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
            let common = IBV_QP_STATE | IBV_QP_SQ_PSN;
            if reliable { common | more } else { common }
        }
        _ => return Err(EINVAL),
    };
    Ok((attr, c_int::try_from(mask).map_err(|_| EIO)?))
}

fn connection(id: &Id) -> Result<Attributes, c_int> {
    match call(&Request::Attributes { id: id.number })?.0 {
        Reply::Attributes(attributes) => Ok(attributes),
        _ => Err(EIO),
    }
}

/// # Safety
/// The queue pair is one of libibverbs' that isn't destroyed.
unsafe fn modify(qp: *mut ibv_qp, mut attr: ibv_qp_attr, mask: c_int) -> Result<(), c_int> {
    // SAFETY: the caller says so.
    match unsafe { verbs()?.ibv_modify_qp(qp, &raw mut attr, mask) } {
        0 => Ok(()),
        error => Err(error),
    }
}

/// Brings a new queue pair as far as it can get without a peer: one of a connection to INIT, one for datagrams to RTS.
///
/// # Safety
/// The queue pair is one of libibverbs' that isn't destroyed.
pub(crate) unsafe fn init(id: &Id, qp: *mut ibv_qp) -> Result<(), c_int> {
    let states: &[_] =
        if id.is_datagram() { &[IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS] } else { &[IBV_QPS_INIT] };
    for state in states {
        let (attr, mask) = attributes(id, *state)?;
        // SAFETY: the caller says so.
        unsafe { modify(qp, attr, mask)? };
    }
    Ok(())
}

/// Brings the queue pair of a connection to RTS, if the id has one. READs and atomics are as the peer and this side
/// want them, unless the caller says otherwise.
pub(crate) fn connect(id: &Id, responder_resources: u8, initiator_depth: u8) -> Result<(), c_int> {
    // SAFETY: the program doesn't change it meanwhile.
    let qp = unsafe { (*id.c()).qp };
    if qp.is_null() {
        return Ok(());
    }
    let (mut rtr, mask) = attributes(id, IBV_QPS_RTR)?;
    if responder_resources != RDMA_MAX_RESP_RES {
        rtr.max_dest_rd_atomic = responder_resources;
    }
    // SAFETY: the id's own queue pair.
    unsafe { modify(qp, rtr, mask)? };
    let (mut rts, mask) = attributes(id, IBV_QPS_RTS)?;
    if initiator_depth != RDMA_MAX_INIT_DEPTH {
        rts.max_rd_atomic = initiator_depth;
    }
    // SAFETY: as above.
    unsafe { modify(qp, rts, mask) }
}

/// Brings the queue pair into the error state, if the id has one: what is queued ends.
pub(crate) fn fail(id: &Id) -> Result<(), c_int> {
    // SAFETY: the program doesn't change it meanwhile.
    let qp = unsafe { (*id.c()).qp };
    if qp.is_null() {
        return Ok(());
    }
    let attr = ibv_qp_attr { qp_state: IBV_QPS_ERR, ..ibv_qp_attr::default() };
    // SAFETY: the id's own queue pair.
    unsafe { modify(qp, attr, c_int::try_from(IBV_QP_STATE).map_err(|_| EIO)?) }
}

export! {
    "RDMACM_1.2", -1,
    /// rdma_init_qp_attr(3).
    fn rdma_init_qp_attr(id: *mut rdma_cm_id, qp_attr: *mut ibv_qp_attr, qp_attr_mask: *mut c_int) -> c_int {
        // SAFETY: the program gives an id that exists, and a state.
        let made = unsafe { Id::of(id).and_then(|id| attributes(id, (*qp_attr).qp_state)) };
        result(made.map(|(attr, mask)| {
            // SAFETY: and places for both.
            unsafe {
                qp_attr.write(attr);
                qp_attr_mask.write(mask);
            }
        }))
    }
}
