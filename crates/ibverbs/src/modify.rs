//! ibv_modify_qp(3): from C's attributes and masks to the device's, which checks them against the transition
//! (`rocev2::work::rules`).

use crate::address::path;
use crate::backend::{
    self, AttributeMask, Attributes, Mtu, PeerRights, Psn, Qpn, QueuePairType, State, rules,
};
use crate::queue_pair::Qp;
use libc::{EINVAL, EOPNOTSUPP, c_int};
use rdma_verbs_sys::{
    IBV_ACCESS_REMOTE_ATOMIC, IBV_ACCESS_REMOTE_READ, IBV_ACCESS_REMOTE_WRITE, IBV_QP_ACCESS_FLAGS,
    IBV_QP_ALT_PATH, IBV_QP_AV, IBV_QP_CAP, IBV_QP_CUR_STATE, IBV_QP_DEST_QPN, IBV_QP_EN_SQD_ASYNC_NOTIFY,
    IBV_QP_MAX_DEST_RD_ATOMIC, IBV_QP_MAX_QP_RD_ATOMIC, IBV_QP_MIN_RNR_TIMER, IBV_QP_PATH_MTU,
    IBV_QP_PKEY_INDEX, IBV_QP_PORT, IBV_QP_QKEY, IBV_QP_RATE_LIMIT, IBV_QP_RETRY_CNT, IBV_QP_RNR_RETRY,
    IBV_QP_RQ_PSN, IBV_QP_SQ_PSN, IBV_QP_STATE, IBV_QP_TIMEOUT, ibv_qp_attr, ibv_qp_state,
};
use std::sync::PoisonError;

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

fn state(number: ibv_qp_state) -> Result<State, c_int> {
    use State::{Error, Init, ReadyToReceive, ReadyToSend, Reset, SendQueueDrain, SendQueueError};
    [Reset, Init, ReadyToReceive, ReadyToSend, SendQueueDrain, SendQueueError, Error]
        .into_iter()
        .find(|state| *state as u32 == number)
        .ok_or(EINVAL)
}

/// What `mask` names, as the device takes it.
fn attributes(attr: &ibv_qp_attr, mask: c_int) -> Result<Attributes, c_int> {
    let has = |flag| mask & flag != 0;
    let mtu = || u8::try_from(attr.path_mtu).ok().and_then(Mtu::from_code).ok_or(EINVAL);
    Ok(Attributes {
        state: has(IBV_QP_STATE).then(|| state(attr.qp_state)).transpose()?,
        current_state: has(IBV_QP_CUR_STATE).then(|| state(attr.cur_qp_state)).transpose()?,
        drain_event: has(IBV_QP_EN_SQD_ASYNC_NOTIFY).then_some(attr.en_sqd_async_notify != 0),
        rights: has(IBV_QP_ACCESS_FLAGS).then(|| rights(attr.qp_access_flags)),
        pkey_index: has(IBV_QP_PKEY_INDEX).then_some(attr.pkey_index),
        port: has(IBV_QP_PORT).then_some(attr.port_num),
        qkey: has(IBV_QP_QKEY).then_some(attr.qkey),
        path: has(IBV_QP_AV),
        path_mtu: has(IBV_QP_PATH_MTU).then(mtu).transpose()?,
        peer_qpn: has(IBV_QP_DEST_QPN).then(|| Qpn::truncate(attr.dest_qp_num)),
        rq_psn: has(IBV_QP_RQ_PSN).then(|| Psn::truncate(attr.rq_psn)),
        sq_psn: has(IBV_QP_SQ_PSN).then(|| Psn::truncate(attr.sq_psn)),
        timeout: has(IBV_QP_TIMEOUT).then_some(attr.timeout),
        retry_count: has(IBV_QP_RETRY_CNT).then_some(attr.retry_cnt),
        rnr_retry: has(IBV_QP_RNR_RETRY).then_some(attr.rnr_retry),
        min_rnr_timer: has(IBV_QP_MIN_RNR_TIMER).then_some(attr.min_rnr_timer),
        max_rd_atomic: has(IBV_QP_MAX_QP_RD_ATOMIC).then_some(attr.max_rd_atomic),
        max_dest_rd_atomic: has(IBV_QP_MAX_DEST_RD_ATOMIC).then_some(attr.max_dest_rd_atomic),
    })
}

/// Refuses what the device doesn't have: a second path to go to, queues whose depth changes, a limit of the rate.
fn check(qp: &Qp, from: State, to: State, mask: c_int) -> Result<(), c_int> {
    let given = AttributeMask::from_bits_truncate(mask.cast_unsigned()) - AttributeMask::STATE;
    let rules = rules(qp.queue_pair.queue_pair_type(), from, to).ok_or(EINVAL)?;
    if !(given - rules.required - rules.optional).is_empty() {
        return Err(EINVAL);
    }
    if mask & (IBV_QP_ALT_PATH | IBV_QP_CAP | IBV_QP_RATE_LIMIT) != 0 { Err(EOPNOTSUPP) } else { Ok(()) }
}

/// Without what a side of an extended reliable connection has no use for: the kernel leaves it out before it looks at
/// the rest (`modify_qp_mask`), and programs treat such queue pairs as those of reliable connections.
fn of_use(of: QueuePairType, mask: c_int) -> c_int {
    match of {
        QueuePairType::XrcInitiator => mask & !(IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER),
        QueuePairType::XrcTarget => mask & !(IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY),
        _ => mask,
    }
}

/// ibv_modify_qp(3).
pub(crate) fn modify(qp: &Qp, attr: &ibv_qp_attr, mask: c_int) -> Result<(), c_int> {
    qp.context().check()?;
    let mask = of_use(qp.queue_pair.queue_pair_type(), mask);
    let mut told = qp.attributes.lock().unwrap_or_else(PoisonError::into_inner);
    let from = backend::snapshot(&qp.queue_pair).state;
    let change = attributes(attr, mask)?;
    let to = change.state.unwrap_or(from);
    check(qp, from, to, mask)?;
    let way = if change.path { Some(path(&attr.ah_attr)?) } else { None };
    if let (State::ReadyToReceive, Some(way), Some(qpn)) = (to, &way, change.peer_qpn) {
        qp.context().backend.seal(&qp.queue_pair, way.peer_gid, qpn)?;
    }
    backend::set_attributes(&qp.queue_pair, change, way)?;
    if to == State::Reset {
        qp.purge();
        *told = ibv_qp_attr { cap: qp.cap, ..ibv_qp_attr::default() };
    } else {
        merge(&mut told, attr, mask);
    }
    // SAFETY: a field that programs read at most.
    unsafe { (*qp.c.get()).qp_base.state = to as u32 };
    Ok(())
}
