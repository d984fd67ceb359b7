//! Queue pairs, and what else is known by its address only.

use core::marker::{PhantomData, PhantomPinned};

use libc::{c_int, c_uint, c_void, pthread_cond_t, pthread_mutex_t};

use crate::{ibv_context, ibv_cq, ibv_gid, ibv_mtu, ibv_pd, ibv_srq};

/// Structures that this crate only hands on.
macro_rules! opaque {
    ($($(#[$attribute:meta])* $name:ident;)+) => { $(
        $(#[$attribute])*
        #[repr(C)]
        pub struct $name {
            _private: [u8; 0],
            // Neither `Send` nor `Sync` nor `Unpin`: who knows what is in there.
            _marker: PhantomData<(*mut u8, PhantomPinned)>,
        }
    )+ };
}

opaque! {
    /// A work queue: ibv_create_wq(3).
    ibv_wq;
}

c_enum! {
    /// What a queue pair offers.
    enum ibv_qp_type: c_uint {
        /// Reliable connection.
        IBV_QPT_RC = 2,
        /// Unreliable connection.
        IBV_QPT_UC = 3,
        /// Unreliable datagram.
        IBV_QPT_UD = 4,
        /// Raw Ethernet packets.
        IBV_QPT_RAW_PACKET = 8,
        /// Extended reliable connection, sending side.
        IBV_QPT_XRC_SEND = 9,
        /// Extended reliable connection, receiving side.
        IBV_QPT_XRC_RECV = 10,
        /// The driver's own.
        IBV_QPT_DRIVER = 0xff,
    }
}

c_enum! {
    /// A queue pair's state: ibv_modify_qp(3).
    enum ibv_qp_state: c_uint {
        /// New.
        IBV_QPS_RESET = 0,
        /// Receive requests may be posted.
        IBV_QPS_INIT = 1,
        /// Ready to receive.
        IBV_QPS_RTR = 2,
        /// Ready to send.
        IBV_QPS_RTS = 3,
        /// The send queue drains, or is drained.
        IBV_QPS_SQD = 4,
        /// The send queue failed.
        IBV_QPS_SQE = 5,
        /// Failed: everything is flushed.
        IBV_QPS_ERR = 6,
        /// Unknown.
        IBV_QPS_UNKNOWN = 7,
    }
}

c_enum! {
    /// Which path a connection uses.
    enum ibv_mig_state: c_uint {
        /// Moved to the alternate path.
        IBV_MIG_MIGRATED = 0,
        /// About to be armed.
        IBV_MIG_REARM = 1,
        /// Ready to move.
        IBV_MIG_ARMED = 2,
    }
}

c_enum! {
    /// Which fields of [`ibv_qp_attr`] are meant: ibv_modify_qp(3).
    enum ibv_qp_attr_mask: c_int {
        /// `qp_state`.
        IBV_QP_STATE = 1,
        /// `cur_qp_state`.
        IBV_QP_CUR_STATE = 1 << 1,
        /// `en_sqd_async_notify`.
        IBV_QP_EN_SQD_ASYNC_NOTIFY = 1 << 2,
        /// `qp_access_flags`.
        IBV_QP_ACCESS_FLAGS = 1 << 3,
        /// `pkey_index`.
        IBV_QP_PKEY_INDEX = 1 << 4,
        /// `port_num`.
        IBV_QP_PORT = 1 << 5,
        /// `qkey`.
        IBV_QP_QKEY = 1 << 6,
        /// `ah_attr`.
        IBV_QP_AV = 1 << 7,
        /// `path_mtu`.
        IBV_QP_PATH_MTU = 1 << 8,
        /// `timeout`.
        IBV_QP_TIMEOUT = 1 << 9,
        /// `retry_cnt`.
        IBV_QP_RETRY_CNT = 1 << 10,
        /// `rnr_retry`.
        IBV_QP_RNR_RETRY = 1 << 11,
        /// `rq_psn`.
        IBV_QP_RQ_PSN = 1 << 12,
        /// `max_rd_atomic`.
        IBV_QP_MAX_QP_RD_ATOMIC = 1 << 13,
        /// `alt_ah_attr`, `alt_pkey_index`, `alt_port_num` and `alt_timeout`.
        IBV_QP_ALT_PATH = 1 << 14,
        /// `min_rnr_timer`.
        IBV_QP_MIN_RNR_TIMER = 1 << 15,
        /// `sq_psn`.
        IBV_QP_SQ_PSN = 1 << 16,
        /// `max_dest_rd_atomic`.
        IBV_QP_MAX_DEST_RD_ATOMIC = 1 << 17,
        /// `path_mig_state`.
        IBV_QP_PATH_MIG_STATE = 1 << 18,
        /// `cap`.
        IBV_QP_CAP = 1 << 19,
        /// `dest_qp_num`.
        IBV_QP_DEST_QPN = 1 << 20,
        /// `rate_limit`.
        IBV_QP_RATE_LIMIT = 1 << 25,
    }
}

c_type! {
    "struct ibv_qp_cap":
    /// How much fits into a queue pair. The library writes back what it gave, which may be more than was asked for.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_qp_cap {
        /// Send requests.
        pub max_send_wr: u32,
        /// Receive requests.
        pub max_recv_wr: u32,
        /// Elements of a send request.
        pub max_send_sge: u32,
        /// Elements of a receive request.
        pub max_recv_sge: u32,
        /// Bytes that can be posted inline.
        pub max_inline_data: u32,
    }
}

c_type! {
    "struct ibv_qp_init_attr":
    /// What a queue pair is created with: ibv_create_qp(3).
    #[derive(Clone, Copy)]
    pub struct ibv_qp_init_attr {
        /// The caller's own pointer.
        pub qp_context: *mut c_void,
        /// Where send requests complete.
        pub send_cq: *mut ibv_cq,
        /// Where receive requests complete.
        pub recv_cq: *mut ibv_cq,
        /// The shared receive queue, or null.
        pub srq: *mut ibv_srq,
        /// How much is to fit.
        pub cap: ibv_qp_cap,
        /// What it offers.
        pub qp_type: ibv_qp_type,
        /// If not 0, every send request has a completion.
        pub sq_sig_all: c_int,
    }
}

c_type! {
    "struct ibv_global_route":
    /// The part of an address that RoCE needs.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_global_route {
        /// The peer's GID.
        pub dgid: ibv_gid,
        /// Flow label.
        pub flow_label: u32,
        /// This side's GID: its place in the table.
        pub sgid_index: u8,
        /// Hop limit.
        pub hop_limit: u8,
        /// Traffic class.
        pub traffic_class: u8,
    }
}

c_type! {
    "struct ibv_ah_attr":
    /// An address, and the way there: ibv_create_ah(3).
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_ah_attr {
        /// The global route, if `is_global` isn't 0.
        pub grh: ibv_global_route,
        /// The peer's local identifier; without meaning on Ethernet.
        pub dlid: u16,
        /// Service level.
        pub sl: u8,
        /// Which of this port's local identifiers is used.
        pub src_path_bits: u8,
        /// The greatest rate; 0 is the link's.
        pub static_rate: u8,
        /// Whether `grh` is valid.
        pub is_global: u8,
        /// This side's port, from 1.
        pub port_num: u8,
    }
}

c_type! {
    "struct ibv_qp_attr":
    /// A queue pair's attributes: ibv_modify_qp(3), ibv_query_qp(3).
    #[derive(Clone, Copy)]
    pub struct ibv_qp_attr {
        /// The state to go to.
        pub qp_state: ibv_qp_state,
        /// The state that it is assumed to be in.
        pub cur_qp_state: ibv_qp_state,
        /// MTU of the path.
        pub path_mtu: ibv_mtu,
        /// Path migration.
        pub path_mig_state: ibv_mig_state,
        /// Queue key (datagrams only).
        pub qkey: u32,
        /// PSN of the first packet to be received.
        pub rq_psn: u32,
        /// PSN of the first packet to be sent.
        pub sq_psn: u32,
        /// The peer's queue pair.
        pub dest_qp_num: u32,
        /// What the peer may do: [`ibv_access_flags`](crate::ibv_access_flags).
        pub qp_access_flags: c_uint,
        /// How much fits.
        pub cap: ibv_qp_cap,
        /// The peer's address.
        pub ah_attr: ibv_ah_attr,
        /// The peer's address on the alternate path.
        pub alt_ah_attr: ibv_ah_attr,
        /// Partition key's place in its table.
        pub pkey_index: u16,
        /// The same on the alternate path.
        pub alt_pkey_index: u16,
        /// Whether to report when the send queue is drained.
        pub en_sqd_async_notify: u8,
        /// Whether the send queue drains (query only).
        pub sq_draining: u8,
        /// READs and atomics that this side may have outstanding.
        pub max_rd_atomic: u8,
        /// READs and atomics that the peer may have outstanding.
        pub max_dest_rd_atomic: u8,
        /// How long a peer has to wait if there is no receive request, encoded.
        pub min_rnr_timer: u8,
        /// This side's port, from 1.
        pub port_num: u8,
        /// Time until a packet is sent again, encoded: 4.096 µs · 2ⁿ; 0 is for ever.
        pub timeout: u8,
        /// How often it is sent again: 0 to 7.
        pub retry_cnt: u8,
        /// How often it is sent again if there was no receive request: 0 to 6, and 7 for without end.
        pub rnr_retry: u8,
        /// The port of the alternate path.
        pub alt_port_num: u8,
        /// The timeout on the alternate path.
        pub alt_timeout: u8,
        /// Greatest rate in kbit/s; 0 is no limit.
        pub rate_limit: u32,
    }
}

c_type! {
    "struct ibv_qp":
    /// A queue pair: ibv_create_qp(3).
    pub struct ibv_qp {
        /// The opened device that it belongs to.
        pub context: *mut ibv_context,
        /// The caller's own pointer.
        pub qp_context: *mut c_void,
        /// Its protection domain.
        pub pd: *mut ibv_pd,
        /// Where send requests complete.
        pub send_cq: *mut ibv_cq,
        /// Where receive requests complete.
        pub recv_cq: *mut ibv_cq,
        /// Its shared receive queue, or null.
        pub srq: *mut ibv_srq,
        /// The kernel's number for it.
        pub handle: u32,
        /// Its number, which the peer needs.
        pub qp_num: u32,
        /// The state it was last put into; a failure doesn't show here.
        pub state: ibv_qp_state,
        /// What it offers.
        pub qp_type: ibv_qp_type,
        /// The library's.
        pub mutex: pthread_mutex_t,
        /// The library's.
        pub cond: pthread_cond_t,
        /// Asynchronous events that were acknowledged.
        pub events_completed: u32,
    }
}

zeroed_default!(ibv_qp_cap, ibv_qp_init_attr, ibv_global_route, ibv_ah_attr, ibv_qp_attr);
