//! Queue pairs.

use super::address;
use super::completion::Queue;
use super::context::{Context, mtu};
use super::memory::Domain;
use super::request::{self, Elements};
use super::shared_receive_queue::Queue as SharedQueue;
use super::{check, made};
use crate::options::{Peer, QueuePairLimits, ReceiveOptions, Snapshot, TransportKind};
use crate::provider::{Element, Needs, QueuePairOptions, Work};
use crate::{Error, PostReason};
use core::ffi::c_int;
use core::ptr::{self, NonNull};
use rdma_verbs_sys::{
    IBV_ACCESS_LOCAL_WRITE, IBV_ACCESS_REMOTE_ATOMIC, IBV_ACCESS_REMOTE_READ, IBV_ACCESS_REMOTE_WRITE,
    IBV_QP_ACCESS_FLAGS, IBV_QP_AV, IBV_QP_DEST_QPN, IBV_QP_EN_SQD_ASYNC_NOTIFY, IBV_QP_MAX_DEST_RD_ATOMIC,
    IBV_QP_MAX_QP_RD_ATOMIC, IBV_QP_MIN_RNR_TIMER, IBV_QP_PATH_MTU, IBV_QP_PKEY_INDEX, IBV_QP_PORT,
    IBV_QP_QKEY, IBV_QP_RETRY_CNT, IBV_QP_RNR_RETRY, IBV_QP_RQ_PSN, IBV_QP_SQ_PSN, IBV_QP_STATE,
    IBV_QP_TIMEOUT, IBV_QPS_ERR, IBV_QPS_INIT, IBV_QPS_RESET, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPS_SQD,
    IBV_QPS_SQE, IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD, ibv_qp, ibv_qp_attr, ibv_qp_cap, ibv_qp_init_attr,
    ibv_qp_state,
};
use rocev2::work::{PeerRights, ReceiveAttributes, SendAttributes, State};
use rocev2::{Psn, Qpn};
use std::any::Any;
use std::io;
use std::sync::Arc;

/// A queue pair.
pub(crate) struct QueuePair {
    domain: Arc<Domain>,
    _queues: [Arc<Queue>; 2],
    _shared: Option<Arc<SharedQueue>>,
    transport: TransportKind,
    limits: QueuePairLimits,
    /// What its requests need back.
    kept: Arc<dyn Any + Send + Sync>,
    raw: NonNull<ibv_qp>,
    qpn: Qpn,
}

// SAFETY: libibverbs' objects aren't tied to a thread.
unsafe impl Send for QueuePair {}
// SAFETY: libibverbs locks what it has to.
unsafe impl Sync for QueuePair {}

impl QueuePair {
    /// What libibverbs has no interface for.
    pub(crate) fn unsupported(&self, what: &'static str) -> Error {
        self.domain.context.unsupported(what)
    }

    /// A queue pair in the RESET state.
    pub(crate) fn new(
        domain: &Arc<Domain>,
        queues: [&Arc<Queue>; 2],
        options: &QueuePairOptions<'_>,
        kept: Arc<dyn Any + Send + Sync>,
    ) -> Result<Self, Error> {
        let context = &domain.context;
        let [send_queue, recv_queue] = queues;
        let QueuePairOptions { transport, limits, signal_all, .. } = *options;
        let shared = options.shared.map(|shared| shared.ibv()).transpose()?;
        if shared.is_some_and(|shared| !shared.is_of(domain)) {
            return Err(Error::Mixed("the shared receive queue"));
        }
        if !send_queue.is_of(context) || !recv_queue.is_of(context) {
            return Err(Error::Mixed("a completion queue"));
        }
        context.within("send requests", limits.max_send_requests, context.limits.max_qp_wr)?;
        context.within("receive requests", limits.max_recv_requests, context.limits.max_qp_wr)?;
        context.within("elements of a scatter/gather list", limits.max_sge, context.limits.max_sge)?;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let cap = ibv_qp_cap {
            max_send_wr: number(limits.max_send_requests.max(1)),
            max_recv_wr: number(limits.max_recv_requests.max(1)),
            max_send_sge: number(limits.max_sge.max(1)),
            max_recv_sge: number(limits.max_sge.max(1)),
            max_inline_data: number(limits.max_inline),
        };
        let mut init = ibv_qp_init_attr {
            send_cq: send_queue.raw.as_ptr(),
            recv_cq: recv_queue.raw.as_ptr(),
            cap,
            srq: shared.map_or(ptr::null_mut(), |shared| shared.raw.as_ptr()),
            qp_type: match transport {
                TransportKind::Rc => IBV_QPT_RC,
                TransportKind::Uc => IBV_QPT_UC,
                TransportKind::Ud => IBV_QPT_UD,
            },
            sq_sig_all: c_int::from(signal_all),
            ..Default::default()
        };
        let advice = format!(
            "; it was asked for {} send and {} receive requests, {} scatter/gather elements and {} bytes inline",
            cap.max_send_wr, cap.max_recv_wr, limits.max_sge, limits.max_inline
        );
        // SAFETY: the domain and the queues exist, belong to this context, and are kept by the queue pair.
        let raw = made(unsafe { context.library.ibv_create_qp(domain.raw.as_ptr(), &raw mut init) })
            .map_err(context.failed("making a queue pair", advice))?;
        // SAFETY: the library made it, and its number doesn't change.
        let qpn = Qpn::truncate(unsafe { (*raw.as_ptr()).qp_num });
        let (domain, queues) = (Arc::clone(domain), queues.map(Arc::clone));
        Ok(Self { domain, _queues: queues, _shared: shared.cloned(), transport, limits, kept, raw, qpn })
    }

    pub(crate) fn qpn(&self) -> Qpn {
        self.qpn
    }

    /// RESET → INIT.
    pub(crate) fn init(&self, rights: PeerRights, qkey: u32) -> Result<(), Error> {
        let attributes = ibv_qp_attr {
            port_num: self.context().port,
            qp_access_flags: access_flags(rights),
            qkey,
            ..to(IBV_QPS_INIT)
        };
        let own = if self.transport == TransportKind::Ud { IBV_QP_QKEY } else { IBV_QP_ACCESS_FLAGS };
        self.modify("bringing a queue pair to INIT", attributes, IBV_QP_PKEY_INDEX | IBV_QP_PORT | own)
    }

    /// RTR → RTS.
    pub(crate) fn ready_to_send(&self, send: &SendAttributes) -> Result<(), Error> {
        let attributes = ibv_qp_attr {
            timeout: send.timeout,
            retry_cnt: send.retry_count,
            rnr_retry: send.rnr_retry,
            sq_psn: send.sq_psn.get(),
            max_rd_atomic: send.max_rd_atomic,
            ..to(IBV_QPS_RTS)
        };
        let reliable = IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
        self.modify("bringing a queue pair to RTS", attributes, IBV_QP_SQ_PSN | self.if_reliable(reliable))
    }

    /// INIT → RTR → RTS, for datagrams.
    pub(crate) fn ready_for_datagrams(&self, psn: Psn) -> Result<(), Error> {
        self.modify("bringing a queue pair to RTR", to(IBV_QPS_RTR), 0)?;
        let attributes = ibv_qp_attr { sq_psn: psn.get(), ..to(IBV_QPS_RTS) };
        self.modify("bringing a queue pair to RTS", attributes, IBV_QP_SQ_PSN)
    }

    /// What is asked for with a reliable connection only.
    fn if_reliable(&self, mask: c_int) -> c_int {
        if self.transport == TransportKind::Rc { mask } else { 0 }
    }

    /// RTS → SQD, with an event when all that had begun has finished.
    pub(crate) fn drain(&self) -> Result<(), Error> {
        let attributes = ibv_qp_attr { en_sqd_async_notify: 1, ..to(IBV_QPS_SQD) };
        self.modify("draining a send queue", attributes, IBV_QP_EN_SQD_ASYNC_NOTIFY)
    }

    /// SQD → RTS.
    pub(crate) fn resume(&self) -> Result<(), Error> {
        self.modify("resuming a send queue", to(IBV_QPS_RTS), 0)
    }

    /// To the error state.
    pub(crate) fn fail(&self) -> Result<(), Error> {
        self.modify("ending a queue pair", to(IBV_QPS_ERR), 0)
    }

    /// INIT → RTR, towards `peer`.
    pub(crate) fn ready_to_receive(&self, peer: &Peer, options: &ReceiveOptions) -> Result<(), Error> {
        let context = self.context();
        let own = context.gid(options.gid_index)?;
        if options.path_mtu > context.mtu() {
            let (asked, limit) = (options.path_mtu, context.mtu());
            return Err(Error::PathMtu { device: context.place(), asked, limit });
        }
        let mut attributes = ibv_qp_attr {
            ah_attr: address::vector(context, &own, &peer.into())?,
            path_mtu: options.path_mtu.code().into(),
            dest_qp_num: peer.qpn.get(),
            rq_psn: peer.psn.get().get(),
            max_dest_rd_atomic: options.max_dest_rd_atomic,
            min_rnr_timer: options.min_rnr_timer,
            ..to(IBV_QPS_RTR)
        };
        let reliable = self.if_reliable(IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
        let mask = IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | reliable;
        self.modify_raw(&mut attributes, mask).map_err(|source| match source.raw_os_error() {
            // The kernel looks the peer's hardware address up at this step.
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ETIMEDOUT | libc::EADDRNOTAVAIL) => {
                Error::Unreachable {
                    own: own.to_string(),
                    peer: peer.gid,
                    reason: format!(
                        "no way there was found ({source}); see `ip route get`, `ping` and the neighbour table"
                    )
                    .into(),
                }
            }
            _ => context.failed("bringing a queue pair to RTR", "")(source),
        })
    }

    pub(crate) fn prepare_send<'a>(
        &self,
        work: Work,
        needs: &Needs<'_>,
        elements: impl Iterator<Item = Element<'a>>,
    ) -> Result<request::Send, PostReason> {
        let inline = work.inline.is_some();
        let elements = if inline { Elements::new() } else { request::list(&self.domain, elements)? };
        Ok(request::Send::new(work, request::Needs::new(needs, &self.domain)?, elements))
    }

    pub(crate) fn prepare_recv<'a>(
        &self,
        elements: impl Iterator<Item = Element<'a>>,
    ) -> Result<request::Receive, PostReason> {
        Ok(request::Receive::new(request::list(&self.domain, elements)?))
    }

    pub(crate) fn post_send(&self, number: u64, mut request: request::Send) -> Result<(), PostReason> {
        if let Some((window, bind)) = request.bind_of_type_1(number) {
            // SAFETY: the queue pair exists; window and region are kept until the request completes.
            let result = unsafe { window.bind(self.raw, bind) };
            return result.map_err(|error| request::refused(&error, self.limits.max_send_requests));
        }
        let binding = request.binding();
        let binding = binding.as_deref().map(|window| (window, window.lock()));
        let (mut raw, mut bad) = (request.raw(number), ptr::null_mut());
        // SAFETY: the queue pair exists; the request and its list live until the call returns; the regions
        // that the list names are kept until the request completes.
        let result = unsafe { rdma_verbs_sys::ibv_post_send(self.raw.as_ptr(), &raw mut raw, &raw mut bad) };
        match check(result) {
            Err(error) if !bad.is_null() => Err(request::refused(&error, self.limits.max_send_requests)),
            // The library names no request that it didn't take: the device has it, but couldn't be told
            // (Soft-RoCE, whose kernel side is told by a system call). It is ended like everything else in
            // the queue.
            Err(_) => {
                let _ = self.fail();
                Ok(())
            }
            Ok(()) => {
                if let Some((window, lock)) = &binding {
                    // SAFETY: a request that binds a window has this member.
                    window.was_posted(unsafe { raw.extension.bind_mw }.rkey, lock);
                }
                Ok(())
            }
        }
    }

    pub(crate) fn post_recv(&self, number: u64, mut request: request::Receive) -> Result<(), PostReason> {
        let (mut raw, mut bad) = (request.raw(number), ptr::null_mut());
        // SAFETY: as in `post_send`.
        let result = unsafe { rdma_verbs_sys::ibv_post_recv(self.raw.as_ptr(), &raw mut raw, &raw mut bad) };
        check(result).map_err(|error| request::refused(&error, self.limits.max_recv_requests))
    }

    /// What the device says of it.
    pub(crate) fn query(&self) -> Result<Snapshot, Error> {
        let context = self.context();
        let (mut attributes, mut init) = (ibv_qp_attr::default(), ibv_qp_init_attr::default());
        let mask = IBV_QP_STATE
            | IBV_QP_ACCESS_FLAGS
            | IBV_QP_PATH_MTU
            | IBV_QP_DEST_QPN
            | IBV_QP_RQ_PSN
            | IBV_QP_SQ_PSN
            | IBV_QP_TIMEOUT
            | IBV_QP_RETRY_CNT
            | IBV_QP_RNR_RETRY
            | IBV_QP_MIN_RNR_TIMER
            | IBV_QP_MAX_QP_RD_ATOMIC
            | IBV_QP_MAX_DEST_RD_ATOMIC;
        // SAFETY: the queue pair exists, and both structures are the caller's.
        check(unsafe {
            context.library.ibv_query_qp(self.raw.as_ptr(), &raw mut attributes, mask, &raw mut init)
        })
        .map_err(context.failed("asking for a queue pair's state", ""))?;
        let state = state(attributes.qp_state);
        let (receives, sends) =
            if self.transport == TransportKind::Ud { (false, false) } else { reached(state) };
        let flags = attributes.qp_access_flags;
        Ok(Snapshot {
            state,
            rights: PeerRights {
                read: flags & IBV_ACCESS_REMOTE_READ != 0,
                write: flags & IBV_ACCESS_REMOTE_WRITE != 0,
                atomic: flags & IBV_ACCESS_REMOTE_ATOMIC != 0,
            },
            receive: receives.then(|| ReceiveAttributes {
                path_mtu: mtu(attributes.path_mtu),
                peer_qpn: Qpn::truncate(attributes.dest_qp_num),
                rq_psn: Psn::truncate(attributes.rq_psn),
                max_dest_rd_atomic: attributes.max_dest_rd_atomic,
                min_rnr_timer: attributes.min_rnr_timer,
            }),
            send: sends.then(|| SendAttributes {
                sq_psn: Psn::truncate(attributes.sq_psn),
                timeout: attributes.timeout,
                retry_count: attributes.retry_cnt,
                rnr_retry: attributes.rnr_retry,
                max_rd_atomic: attributes.max_rd_atomic,
            }),
            counters: None,
        })
    }

    fn context(&self) -> &Context {
        &self.domain.context
    }

    fn modify(&self, call: &'static str, mut attributes: ibv_qp_attr, mask: c_int) -> Result<(), Error> {
        self.modify_raw(&mut attributes, mask).map_err(self.context().failed(call, ""))
    }

    /// To the state that the attributes name, with those that `mask` names.
    fn modify_raw(&self, attributes: &mut ibv_qp_attr, mask: c_int) -> io::Result<()> {
        let mask = IBV_QP_STATE | mask;
        // SAFETY: the queue pair exists, and the attributes are the caller's.
        check(unsafe { self.context().library.ibv_modify_qp(self.raw.as_ptr(), attributes, mask) })
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: it was made by this library and is destroyed once. Buffers of its requests are kept until after this.
        let result = unsafe { self.context().library.ibv_destroy_qp(self.raw.as_ptr()) };
        if check(result).is_err() {
            // The device may still use the buffers of its requests: nobody else ever gets them.
            core::mem::forget(Arc::clone(&self.kept));
        }
    }
}

/// The attributes of a transition to a state.
fn to(qp_state: ibv_qp_state) -> ibv_qp_attr {
    ibv_qp_attr { qp_state, ..Default::default() }
}

fn access_flags(rights: PeerRights) -> u32 {
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    // Receives and answers to reads are written locally.
    IBV_ACCESS_LOCAL_WRITE
        | flag(rights.read, IBV_ACCESS_REMOTE_READ)
        | flag(rights.write, IBV_ACCESS_REMOTE_WRITE)
        | flag(rights.atomic, IBV_ACCESS_REMOTE_ATOMIC)
}

/// A number that no state has is taken for the error state: such a queue pair is of no use.
fn state(number: u32) -> State {
    match number {
        IBV_QPS_RESET => State::Reset,
        IBV_QPS_INIT => State::Init,
        IBV_QPS_RTR => State::ReadyToReceive,
        IBV_QPS_RTS => State::ReadyToSend,
        IBV_QPS_SQD => State::SendQueueDrain,
        IBV_QPS_SQE => State::SendQueueError,
        _ => State::Error,
    }
}

/// Whether a queue pair in this state has been given what INIT → RTR and RTR → RTS need.
fn reached(state: State) -> (bool, bool) {
    match state {
        State::Reset | State::Init => (false, false),
        State::ReadyToReceive => (true, false),
        _ => (true, true),
    }
}
