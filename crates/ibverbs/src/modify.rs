//! ibv_modify_qp(3): which attributes each transition needs and may have, as `qp_state_table` in Linux'
//! `drivers/infiniband/core/verbs.c` lays down, and what they become on the device.

use crate::address::destination;
use crate::backend::{
    self, ATTRIBUTES, Change, InitAttributes, Mtu, PeerRights, Psn, Qpn, ReceiveAttributes, SendAttributes,
};
use crate::queue_pair::Qp;
use libc::{EINVAL, EOPNOTSUPP, c_int};
use rdma_verbs_sys::{
    IBV_ACCESS_REMOTE_ATOMIC, IBV_ACCESS_REMOTE_READ, IBV_ACCESS_REMOTE_WRITE, IBV_QP_ACCESS_FLAGS,
    IBV_QP_ALT_PATH, IBV_QP_AV, IBV_QP_CAP, IBV_QP_CUR_STATE, IBV_QP_DEST_QPN, IBV_QP_EN_SQD_ASYNC_NOTIFY,
    IBV_QP_MAX_DEST_RD_ATOMIC, IBV_QP_MAX_QP_RD_ATOMIC, IBV_QP_MIN_RNR_TIMER, IBV_QP_PATH_MIG_STATE,
    IBV_QP_PATH_MTU, IBV_QP_PKEY_INDEX, IBV_QP_PORT, IBV_QP_QKEY, IBV_QP_RATE_LIMIT, IBV_QP_RETRY_CNT,
    IBV_QP_RNR_RETRY, IBV_QP_RQ_PSN, IBV_QP_SQ_PSN, IBV_QP_STATE, IBV_QP_TIMEOUT, IBV_QPS_ERR, IBV_QPS_INIT,
    IBV_QPS_RESET, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPS_SQD, ibv_qp_attr, ibv_qp_state,
};
use std::sync::PoisonError;

/// What a transition of a reliable connection needs, and what else it may have.
fn masks(from: ibv_qp_state, to: ibv_qp_state) -> Option<(c_int, c_int)> {
    /// What may be changed while packets are sent.
    const RUNNING: c_int = IBV_QP_CUR_STATE
        | IBV_QP_ACCESS_FLAGS
        | IBV_QP_ALT_PATH
        | IBV_QP_PATH_MIG_STATE
        | IBV_QP_MIN_RNR_TIMER
        | IBV_QP_RATE_LIMIT;
    const IDENTITY: c_int = IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
    Some(match (from, to) {
        (_, IBV_QPS_RESET | IBV_QPS_ERR) => (0, 0),
        (IBV_QPS_RESET, IBV_QPS_INIT) => (IDENTITY, 0),
        (IBV_QPS_INIT, IBV_QPS_INIT) => (0, IDENTITY),
        (IBV_QPS_INIT, IBV_QPS_RTR) => (
            IBV_QP_AV
                | IBV_QP_PATH_MTU
                | IBV_QP_DEST_QPN
                | IBV_QP_RQ_PSN
                | IBV_QP_MAX_DEST_RD_ATOMIC
                | IBV_QP_MIN_RNR_TIMER,
            IBV_QP_ALT_PATH | IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX,
        ),
        (IBV_QPS_RTR, IBV_QPS_RTS) => (
            IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC,
            RUNNING,
        ),
        (IBV_QPS_RTS, IBV_QPS_RTS) => (0, RUNNING),
        (IBV_QPS_RTS, IBV_QPS_SQD) => (0, IBV_QP_EN_SQD_ASYNC_NOTIFY),
        (IBV_QPS_SQD, IBV_QPS_RTS) => (0, RUNNING),
        _ => return None,
    })
}

fn rights(flags: u32) -> PeerRights {
    PeerRights {
        read: flags & IBV_ACCESS_REMOTE_READ != 0,
        write: flags & IBV_ACCESS_REMOTE_WRITE != 0,
        atomic: flags & IBV_ACCESS_REMOTE_ATOMIC != 0,
    }
}

/// Copies what `mask` names.
fn merge(to: &mut ibv_qp_attr, from: &ibv_qp_attr, mask: c_int) {
    macro_rules! take {
        ($($flag:ident => $($field:ident),+;)+) => {
            $( if mask & $flag != 0 { $( to.$field = from.$field; )+ } )+
        };
    }
    take! {
        IBV_QP_ACCESS_FLAGS => qp_access_flags;
        IBV_QP_PKEY_INDEX => pkey_index;
        IBV_QP_PORT => port_num;
        IBV_QP_QKEY => qkey;
        IBV_QP_AV => ah_attr;
        IBV_QP_PATH_MTU => path_mtu;
        IBV_QP_TIMEOUT => timeout;
        IBV_QP_RETRY_CNT => retry_cnt;
        IBV_QP_RNR_RETRY => rnr_retry;
        IBV_QP_RQ_PSN => rq_psn;
        IBV_QP_MAX_QP_RD_ATOMIC => max_rd_atomic;
        IBV_QP_MIN_RNR_TIMER => min_rnr_timer;
        IBV_QP_SQ_PSN => sq_psn;
        IBV_QP_MAX_DEST_RD_ATOMIC => max_dest_rd_atomic;
        IBV_QP_DEST_QPN => dest_qp_num;
        IBV_QP_EN_SQD_ASYNC_NOTIFY => en_sqd_async_notify;
    }
}

/// Checks values that the device doesn't look at.
fn check(attr: &ibv_qp_attr, mask: c_int) -> Result<(), c_int> {
    let has = |flag| mask & flag != 0;
    let wrong = (has(IBV_QP_PORT) && attr.port_num != 1)
        || (has(IBV_QP_PKEY_INDEX) && attr.pkey_index != 0)
        || (has(IBV_QP_MAX_QP_RD_ATOMIC) && attr.max_rd_atomic > ATTRIBUTES.max_rd_atomic)
        || (has(IBV_QP_MAX_DEST_RD_ATOMIC) && attr.max_dest_rd_atomic > ATTRIBUTES.max_rd_atomic);
    if wrong {
        return Err(EINVAL);
    }
    // There is no second path to go to, and nothing that limits a rate.
    if has(IBV_QP_ALT_PATH) || has(IBV_QP_CAP) || has(IBV_QP_RATE_LIMIT) { Err(EOPNOTSUPP) } else { Ok(()) }
}

/// ibv_modify_qp(3).
pub(crate) fn modify(qp: &Qp, attr: &ibv_qp_attr, mask: c_int) -> Result<(), c_int> {
    qp.context().check()?;
    let mut attributes = qp.attributes.lock().unwrap_or_else(PoisonError::into_inner);
    let from = backend::snapshot(&qp.queue_pair).state as u32;
    if mask & IBV_QP_CUR_STATE != 0 && attr.cur_qp_state != from {
        return Err(EINVAL);
    }
    let to = if mask & IBV_QP_STATE != 0 { attr.qp_state } else { from };
    let (needed, allowed) = masks(from, to).ok_or(EINVAL)?;
    let given = mask & !IBV_QP_STATE;
    if given & needed != needed || given & !(needed | allowed | IBV_QP_CUR_STATE) != 0 {
        return Err(EINVAL);
    }
    check(attr, mask)?;
    let mut next = *attributes;
    merge(&mut next, attr, mask);
    let change = |change| backend::change(&qp.queue_pair, change);
    let init = Change::Init(InitAttributes { rights: rights(next.qp_access_flags) });
    match (from, to) {
        (_, IBV_QPS_RESET) => {
            change(Change::Reset)?;
            qp.purge();
            next = ibv_qp_attr { cap: qp.cap, ..ibv_qp_attr::default() };
        }
        (_, IBV_QPS_ERR) => change(Change::Error)?,
        (_, IBV_QPS_INIT) => change(init)?,
        (_, IBV_QPS_RTR) => {
            let gid = destination(&next.ah_attr)?;
            let code = u8::try_from(next.path_mtu).map_err(|_| EINVAL)?;
            let attributes = ReceiveAttributes {
                path_mtu: Mtu::from_code(code).ok_or(EINVAL)?,
                peer_qpn: Qpn::truncate(next.dest_qp_num),
                rq_psn: Psn::truncate(next.rq_psn),
                max_dest_rd_atomic: next.max_dest_rd_atomic,
                min_rnr_timer: next.min_rnr_timer,
            };
            if mask & IBV_QP_ACCESS_FLAGS != 0 {
                change(init)?;
            }
            change(Change::ReadyToReceive(attributes, gid))?;
        }
        (IBV_QPS_RTR, IBV_QPS_RTS) => {
            // The rights are those of INIT: nothing on the device changes them later.
            if mask & IBV_QP_ACCESS_FLAGS != 0
                && rights(next.qp_access_flags) != rights(attributes.qp_access_flags)
            {
                return Err(EOPNOTSUPP);
            }
            change(Change::ReadyToSend(SendAttributes {
                sq_psn: Psn::truncate(next.sq_psn),
                timeout: next.timeout,
                retry_count: next.retry_cnt,
                rnr_retry: next.rnr_retry,
                max_rd_atomic: next.max_rd_atomic,
            }))?;
        }
        (IBV_QPS_SQD, IBV_QPS_RTS) => change(Change::Resume)?,
        (IBV_QPS_RTS, IBV_QPS_SQD) => change(Change::Drain)?,
        _ => {
            if rights(next.qp_access_flags) != rights(attributes.qp_access_flags)
                || next.min_rnr_timer != attributes.min_rnr_timer
            {
                return Err(EOPNOTSUPP);
            }
        }
    }
    *attributes = next;
    // SAFETY: a field that programs read at most.
    unsafe { (*qp.c.get()).qp_base.state = to };
    Ok(())
}
