//! What came after the first binary interface: [`verbs_context`], extended queue pairs and completion queues.
//!
//! A caller finds [`verbs_context`] before the `ibv_context` that it was given, if `abi_compat` there has all
//! bits set; `sz` says how far it reaches upward. A function that is null, or beyond `sz`, isn't supported.

#![allow(non_snake_case, reason = "the names of the C header")]

use libc::{c_int, c_uint, c_void, pthread_cond_t, pthread_mutex_t, timespec};

use crate::{
    __be32, Unused, ibv_advise_mr_advice, ibv_ah, ibv_comp_channel, ibv_context, ibv_cq, ibv_device_attr,
    ibv_mr, ibv_mw, ibv_mw_bind_info, ibv_pd, ibv_port_attr, ibv_qp, ibv_qp_cap, ibv_qp_type, ibv_sge,
    ibv_srq, ibv_srq_init_attr_ex, ibv_wc_opcode, ibv_wc_status, ibv_wq, ibv_xrcd, ibv_xrcd_init_attr,
};

c_type! {
    "struct verbs_context":
    /// The driver's further functions, which stand before the opened device.
    pub struct verbs_context {
        /// A port's attributes, as many bytes of them as the caller knows: ibv_query_port(3).
        pub query_port: op!((*mut ibv_context, u8, *mut ibv_port_attr, usize) -> c_int),
        /// ibv_advise_mr(3).
        pub advise_mr: op!((*mut ibv_pd, ibv_advise_mr_advice, u32, *mut ibv_sge, u32) -> c_int),
        /// ibv_alloc_null_mr(3).
        pub alloc_null_mr: op!((*mut ibv_pd) -> *mut ibv_mr),
        /// Counters: ibv_read_counters(3).
        pub read_counters: Unused,
        /// Counters.
        pub attach_counters_point_flow: Unused,
        /// Counters.
        pub create_counters: Unused,
        /// Counters.
        pub destroy_counters: Unused,
        /// Device memory: ibv_reg_dm_mr(3).
        pub reg_dm_mr: Unused,
        /// Device memory.
        pub alloc_dm: Unused,
        /// Device memory.
        pub free_dm: Unused,
        /// Flow steering.
        pub modify_flow_action_esp: Unused,
        /// Flow steering.
        pub destroy_flow_action: Unused,
        /// Flow steering.
        pub create_flow_action_esp: Unused,
        /// ibv_modify_qp_rate_limit(3).
        pub modify_qp_rate_limit: Unused,
        /// ibv_alloc_parent_domain(3).
        pub alloc_parent_domain: op!((*mut ibv_context, *mut ibv_parent_domain_init_attr) -> *mut ibv_pd),
        /// ibv_dealloc_td(3).
        pub dealloc_td: op!((*mut ibv_td) -> c_int),
        /// ibv_alloc_td(3).
        pub alloc_td: op!((*mut ibv_context, *mut ibv_td_init_attr) -> *mut ibv_td),
        /// ibv_modify_cq(3).
        pub modify_cq: op!((*mut ibv_cq, *mut ibv_modify_cq_attr) -> c_int),
        /// Tag matching: ibv_post_srq_ops(3).
        pub post_srq_ops: Unused,
        /// Receive-side scaling.
        pub destroy_rwq_ind_table: Unused,
        /// Receive-side scaling.
        pub create_rwq_ind_table: Unused,
        /// Work queues.
        pub destroy_wq: op!((*mut ibv_wq) -> c_int),
        /// Work queues.
        pub modify_wq: Unused,
        /// Work queues.
        pub create_wq: Unused,
        /// ibv_query_rt_values_ex(3).
        pub query_rt_values: op!((*mut ibv_context, *mut ibv_values_ex) -> c_int),
        /// ibv_create_cq_ex(3).
        pub create_cq_ex: op!((*mut ibv_context, *mut ibv_cq_init_attr_ex) -> *mut ibv_cq_ex),
        /// The library's.
        pub r#priv: *mut c_void,
        /// ibv_query_device_ex(3).
        pub query_device_ex: op!((
            *mut ibv_context,
            *const ibv_query_device_ex_input,
            *mut ibv_device_attr_ex,
            usize,
        ) -> c_int),
        /// Flow steering.
        pub ibv_destroy_flow: Unused,
        /// Nothing.
        pub ABI_placeholder2: Unused,
        /// Flow steering.
        pub ibv_create_flow: Unused,
        /// Nothing.
        pub ABI_placeholder1: Unused,
        /// ibv_open_qp(3).
        pub open_qp: op!((*mut ibv_context, *mut ibv_qp_open_attr) -> *mut ibv_qp),
        /// ibv_create_qp_ex(3).
        pub create_qp_ex: op!((*mut ibv_context, *mut ibv_qp_init_attr_ex) -> *mut ibv_qp),
        /// ibv_get_srq_num(3).
        pub get_srq_num: op!((*mut ibv_srq, *mut u32) -> c_int),
        /// ibv_create_srq_ex(3).
        pub create_srq_ex: op!((*mut ibv_context, *mut ibv_srq_init_attr_ex) -> *mut ibv_srq),
        /// ibv_open_xrcd(3).
        pub open_xrcd: op!((*mut ibv_context, *mut ibv_xrcd_init_attr) -> *mut ibv_xrcd),
        /// ibv_close_xrcd(3).
        pub close_xrcd: op!((*mut ibv_xrcd) -> c_int),
        /// Nothing.
        pub _ABI_placeholder3: u64,
        /// Bytes of this structure that are there, counted from its end.
        pub sz: usize,
        /// The opened device.
        pub context: ibv_context,
    }
}

c_enum! {
    /// Which fields of [`ibv_qp_init_attr_ex`] are meant.
    enum ibv_qp_init_attr_mask: c_uint {
        /// `pd`.
        IBV_QP_INIT_ATTR_PD = 1,
        /// `xrcd`.
        IBV_QP_INIT_ATTR_XRCD = 1 << 1,
        /// `create_flags`.
        IBV_QP_INIT_ATTR_CREATE_FLAGS = 1 << 2,
        /// `max_tso_header`.
        IBV_QP_INIT_ATTR_MAX_TSO_HEADER = 1 << 3,
        /// `rwq_ind_tbl`.
        IBV_QP_INIT_ATTR_IND_TABLE = 1 << 4,
        /// `rx_hash_conf`.
        IBV_QP_INIT_ATTR_RX_HASH = 1 << 5,
        /// `send_ops_flags`.
        IBV_QP_INIT_ATTR_SEND_OPS_FLAGS = 1 << 6,
    }
}

c_enum! {
    /// Which functions of [`ibv_qp_ex`] a queue pair is to have: [`ibv_qp_init_attr_ex::send_ops_flags`].
    enum ibv_qp_create_send_ops_flags: c_uint {
        /// `wr_rdma_write`.
        IBV_QP_EX_WITH_RDMA_WRITE = 1,
        /// `wr_rdma_write_imm`.
        IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM = 1 << 1,
        /// `wr_send`.
        IBV_QP_EX_WITH_SEND = 1 << 2,
        /// `wr_send_imm`.
        IBV_QP_EX_WITH_SEND_WITH_IMM = 1 << 3,
        /// `wr_rdma_read`.
        IBV_QP_EX_WITH_RDMA_READ = 1 << 4,
        /// `wr_atomic_cmp_swp`.
        IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP = 1 << 5,
        /// `wr_atomic_fetch_add`.
        IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD = 1 << 6,
        /// `wr_local_inv`.
        IBV_QP_EX_WITH_LOCAL_INV = 1 << 7,
        /// `wr_bind_mw`.
        IBV_QP_EX_WITH_BIND_MW = 1 << 8,
        /// `wr_send_inv`.
        IBV_QP_EX_WITH_SEND_WITH_INV = 1 << 9,
        /// `wr_send_tso`.
        IBV_QP_EX_WITH_TSO = 1 << 10,
        /// `wr_atomic_write`.
        IBV_QP_EX_WITH_ATOMIC_WRITE = 1 << 12,
    }
}

c_enum! {
    /// What else a queue pair is asked for: [`ibv_qp_init_attr_ex::create_flags`].
    enum ibv_qp_create_flags: c_uint {
        /// Its own multicasts don't come back to it.
        IBV_QP_CREATE_BLOCK_SELF_MCAST_LB = 1 << 1,
        /// Checksums of frames are delivered.
        IBV_QP_CREATE_SCATTER_FCS = 1 << 8,
        /// VLAN tags are taken off.
        IBV_QP_CREATE_CVLAN_STRIPPING = 1 << 9,
        /// `source_qpn` is meant.
        IBV_QP_CREATE_SOURCE_QPN = 1 << 10,
        /// Writes over PCI are padded to whole cache lines.
        IBV_QP_CREATE_PCI_WRITE_END_PADDING = 1 << 11,
    }
}

c_type! {
    "struct ibv_rx_hash_conf":
    /// Receive-side scaling.
    #[derive(Clone, Copy)]
    pub struct ibv_rx_hash_conf {
        /// The function.
        pub rx_hash_function: u8,
        /// Bytes of the key.
        pub rx_hash_key_len: u8,
        /// The key.
        pub rx_hash_key: *mut u8,
        /// The packet's fields.
        pub rx_hash_fields_mask: u64,
    }
}

c_type! {
    "struct ibv_qp_init_attr_ex":
    /// What an extended queue pair is created with: ibv_create_qp_ex(3). It begins as
    /// [`ibv_qp_init_attr`](crate::ibv_qp_init_attr) does.
    #[derive(Clone, Copy)]
    pub struct ibv_qp_init_attr_ex {
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
        /// [`ibv_qp_init_attr_mask`].
        pub comp_mask: u32,
        /// Its protection domain.
        pub pd: *mut ibv_pd,
        /// Its domain of extended reliable connections.
        pub xrcd: *mut ibv_xrcd,
        /// [`ibv_qp_create_flags`].
        pub create_flags: u32,
        /// Bytes of the longest header of a TCP packet to be segmented.
        pub max_tso_header: u16,
        /// Receive-side scaling.
        pub rwq_ind_tbl: *mut c_void,
        /// Receive-side scaling.
        pub rx_hash_conf: ibv_rx_hash_conf,
        /// The number that it sends under, if that is to be another than its own.
        pub source_qpn: u32,
        /// [`ibv_qp_create_send_ops_flags`].
        pub send_ops_flags: u64,
    }
}

c_enum! {
    /// Which fields of [`ibv_qp_open_attr`] are meant.
    enum ibv_qp_open_attr_mask: c_uint {
        /// `qp_num`.
        IBV_QP_OPEN_ATTR_NUM = 1,
        /// `xrcd`.
        IBV_QP_OPEN_ATTR_XRCD = 1 << 1,
        /// `qp_context`.
        IBV_QP_OPEN_ATTR_CONTEXT = 1 << 2,
        /// `qp_type`.
        IBV_QP_OPEN_ATTR_TYPE = 1 << 3,
    }
}

c_type! {
    "struct ibv_qp_open_attr":
    /// Which shared queue pair is opened: ibv_open_qp(3).
    #[derive(Clone, Copy)]
    pub struct ibv_qp_open_attr {
        /// [`ibv_qp_open_attr_mask`].
        pub comp_mask: u32,
        /// Its number.
        pub qp_num: u32,
        /// Its domain.
        pub xrcd: *mut ibv_xrcd,
        /// The caller's own pointer.
        pub qp_context: *mut c_void,
        /// What it offers.
        pub qp_type: ibv_qp_type,
    }
}

c_type! {
    "struct ibv_data_buf":
    /// Bytes of this process.
    #[derive(Clone, Copy)]
    pub struct ibv_data_buf {
        /// The first one.
        pub addr: *mut c_void,
        /// How many.
        pub length: usize,
    }
}

c_type! {
    "struct ibv_qp_ex":
    /// A queue pair that takes requests by functions: ibv_wr_post(3).
    pub struct ibv_qp_ex {
        /// The queue pair.
        pub qp_base: ibv_qp,
        /// Nothing yet.
        pub comp_mask: u64,
        /// The next request's number; the caller writes it.
        pub wr_id: u64,
        /// The next request's [`ibv_send_flags`](crate::ibv_send_flags); the caller writes them.
        pub wr_flags: c_uint,
        /// Key, address, what to compare with, what to store.
        pub wr_atomic_cmp_swp: op!((*mut Self, u32, u64, u64, u64)),
        /// Key, address, what to add.
        pub wr_atomic_fetch_add: op!((*mut Self, u32, u64, u64)),
        /// Window, its new key, what it shows.
        pub wr_bind_mw: op!((*mut Self, *mut ibv_mw, u32, *const ibv_mw_bind_info)),
        /// The key.
        pub wr_local_inv: op!((*mut Self, u32)),
        /// Key, address.
        pub wr_rdma_read: op!((*mut Self, u32, u64)),
        /// Key, address.
        pub wr_rdma_write: op!((*mut Self, u32, u64)),
        /// Key, address, immediate data.
        pub wr_rdma_write_imm: op!((*mut Self, u32, u64, __be32)),
        /// A SEND.
        pub wr_send: op!((*mut Self)),
        /// Immediate data.
        pub wr_send_imm: op!((*mut Self, __be32)),
        /// The peer's key.
        pub wr_send_inv: op!((*mut Self, u32)),
        /// Headers, their bytes, bytes of a segment.
        pub wr_send_tso: op!((*mut Self, *mut c_void, u16, u16)),
        /// Address handle, the peer's queue pair, its queue key.
        pub wr_set_ud_addr: op!((*mut Self, *mut ibv_ah, u32, u32)),
        /// The shared receive queue there.
        pub wr_set_xrc_srqn: op!((*mut Self, u32)),
        /// Bytes to be copied.
        pub wr_set_inline_data: op!((*mut Self, *mut c_void, usize)),
        /// Bytes to be copied, in pieces.
        pub wr_set_inline_data_list: op!((*mut Self, usize, *const ibv_data_buf)),
        /// Local key, address, bytes.
        pub wr_set_sge: op!((*mut Self, u32, u64, u32)),
        /// The elements.
        pub wr_set_sge_list: op!((*mut Self, usize, *const ibv_sge)),
        /// Begins a batch of requests.
        pub wr_start: op!((*mut Self)),
        /// Posts the batch, or none of it and an error number.
        pub wr_complete: op!((*mut Self) -> c_int),
        /// Drops the batch.
        pub wr_abort: op!((*mut Self)),
        /// Key, address, the eight bytes.
        pub wr_atomic_write: op!((*mut Self, u32, u64, *const c_void)),
    }
}

c_enum! {
    /// What an extended completion queue's entries are to say: [`ibv_cq_init_attr_ex::wc_flags`].
    enum ibv_create_cq_wc_flags: c_uint {
        /// `read_byte_len`.
        IBV_WC_EX_WITH_BYTE_LEN = 1,
        /// `read_imm_data`.
        IBV_WC_EX_WITH_IMM = 1 << 1,
        /// `read_qp_num`.
        IBV_WC_EX_WITH_QP_NUM = 1 << 2,
        /// `read_src_qp`.
        IBV_WC_EX_WITH_SRC_QP = 1 << 3,
        /// `read_slid`.
        IBV_WC_EX_WITH_SLID = 1 << 4,
        /// `read_sl`.
        IBV_WC_EX_WITH_SL = 1 << 5,
        /// `read_dlid_path_bits`.
        IBV_WC_EX_WITH_DLID_PATH_BITS = 1 << 6,
        /// `read_completion_ts`.
        IBV_WC_EX_WITH_COMPLETION_TIMESTAMP = 1 << 7,
        /// `read_cvlan`.
        IBV_WC_EX_WITH_CVLAN = 1 << 8,
        /// `read_flow_tag`.
        IBV_WC_EX_WITH_FLOW_TAG = 1 << 9,
        /// `read_tm_info`.
        IBV_WC_EX_WITH_TM_INFO = 1 << 10,
        /// `read_completion_wallclock_ns`.
        IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK = 1 << 11,
    }
}

c_enum! {
    /// Which fields of [`ibv_cq_init_attr_ex`] are meant.
    enum ibv_cq_init_attr_mask: c_uint {
        /// `flags`.
        IBV_CQ_INIT_ATTR_MASK_FLAGS = 1,
        /// `parent_domain`.
        IBV_CQ_INIT_ATTR_MASK_PD = 1 << 1,
    }
}

c_enum! {
    /// What else a completion queue is asked for: [`ibv_cq_init_attr_ex::flags`].
    enum ibv_create_cq_attr_flags: c_uint {
        /// One thread uses it at a time.
        IBV_CREATE_CQ_ATTR_SINGLE_THREADED = 1,
        /// It may overflow: old entries are overwritten.
        IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN = 1 << 1,
    }
}

c_type! {
    "struct ibv_cq_init_attr_ex":
    /// What an extended completion queue is created with: ibv_create_cq_ex(3).
    #[derive(Clone, Copy)]
    pub struct ibv_cq_init_attr_ex {
        /// Entries, at least.
        pub cqe: u32,
        /// The caller's own pointer.
        pub cq_context: *mut c_void,
        /// Where its events go, or null.
        pub channel: *mut ibv_comp_channel,
        /// The interrupt.
        pub comp_vector: u32,
        /// [`ibv_create_cq_wc_flags`].
        pub wc_flags: u64,
        /// [`ibv_cq_init_attr_mask`].
        pub comp_mask: u32,
        /// [`ibv_create_cq_attr_flags`].
        pub flags: u32,
        /// Its parent domain.
        pub parent_domain: *mut ibv_pd,
    }
}

c_type! {
    "struct ibv_poll_cq_attr":
    /// How a poll begins: [`ibv_cq_ex::start_poll`].
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_poll_cq_attr {
        /// Nothing yet.
        pub comp_mask: u32,
    }
}

c_type! {
    "struct ibv_wc_tm_info":
    /// Tag matching.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_wc_tm_info {
        /// The tag.
        pub tag: u64,
        /// What came with it.
        pub r#priv: u32,
    }
}

c_type! {
    "struct ibv_cq_ex":
    /// A completion queue that is read by functions: ibv_create_cq_ex(3). It begins as [`ibv_cq`] does.
    pub struct ibv_cq_ex {
        /// The opened device that it belongs to.
        pub context: *mut ibv_context,
        /// Where its events go, or null.
        pub channel: *mut ibv_comp_channel,
        /// The caller's own pointer.
        pub cq_context: *mut c_void,
        /// The kernel's number for it.
        pub handle: u32,
        /// Entries.
        pub cqe: c_int,
        /// The library's.
        pub mutex: pthread_mutex_t,
        /// The library's.
        pub cond: pthread_cond_t,
        /// Completion events that were acknowledged.
        pub comp_events_completed: u32,
        /// Asynchronous events that were acknowledged.
        pub async_events_completed: u32,
        /// Nothing yet.
        pub comp_mask: u32,
        /// How the request ended that is being read.
        pub status: ibv_wc_status,
        /// Its own number.
        pub wr_id: u64,
        /// Begins: 0 and there is an entry to read, `ENOENT` and there is none, or an error number.
        pub start_poll: op!((*mut Self, *mut ibv_poll_cq_attr) -> c_int),
        /// Goes on to the next entry; as `start_poll`.
        pub next_poll: op!((*mut Self) -> c_int),
        /// Ends what a successful `start_poll` began.
        pub end_poll: op!((*mut Self)),
        /// What it was.
        pub read_opcode: op!((*mut Self) -> ibv_wc_opcode),
        /// What the driver says of the failure.
        pub read_vendor_err: op!((*mut Self) -> u32),
        /// Bytes that were moved.
        pub read_byte_len: op!((*mut Self) -> u32),
        /// Immediate data, or the key that was invalidated.
        pub read_imm_data: op!((*mut Self) -> __be32),
        /// This side's queue pair.
        pub read_qp_num: op!((*mut Self) -> u32),
        /// The peer's queue pair (datagrams only).
        pub read_src_qp: op!((*mut Self) -> u32),
        /// [`ibv_wc_flags`](crate::ibv_wc_flags).
        pub read_wc_flags: op!((*mut Self) -> c_uint),
        /// The sender's local identifier.
        pub read_slid: op!((*mut Self) -> u32),
        /// Service level.
        pub read_sl: op!((*mut Self) -> u8),
        /// Which of this port's local identifiers it came to.
        pub read_dlid_path_bits: op!((*mut Self) -> u8),
        /// When it completed, by the device's clock.
        pub read_completion_ts: op!((*mut Self) -> u64),
        /// VLAN.
        pub read_cvlan: op!((*mut Self) -> u16),
        /// Flow steering.
        pub read_flow_tag: op!((*mut Self) -> u32),
        /// Tag matching.
        pub read_tm_info: op!((*mut Self, *mut ibv_wc_tm_info)),
        /// When it completed, in nanoseconds since 1970.
        pub read_completion_wallclock_ns: op!((*mut Self) -> u64),
    }
}

c_type! {
    "struct ibv_moderate_cq":
    /// How many completions cause one event.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_moderate_cq {
        /// Completions.
        pub cq_count: u16,
        /// Microseconds after which fewer do.
        pub cq_period: u16,
    }
}

c_enum! {
    /// Which fields of [`ibv_modify_cq_attr`] are meant.
    enum ibv_cq_attr_mask: c_uint {
        /// `moderate`.
        IBV_CQ_ATTR_MODERATE = 1,
    }
}

c_type! {
    "struct ibv_modify_cq_attr":
    /// What is changed of a completion queue: ibv_modify_cq(3).
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_modify_cq_attr {
        /// [`ibv_cq_attr_mask`].
        pub attr_mask: u32,
        /// Moderation.
        pub moderate: ibv_moderate_cq,
    }
}

c_type! {
    "struct ibv_td":
    /// A thread domain: ibv_alloc_td(3).
    pub struct ibv_td {
        /// The opened device that it belongs to.
        pub context: *mut ibv_context,
    }
}

c_type! {
    "struct ibv_td_init_attr":
    /// What a thread domain is created with.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_td_init_attr {
        /// Nothing yet.
        pub comp_mask: u32,
    }
}

c_enum! {
    /// Which fields of [`ibv_parent_domain_init_attr`] are meant.
    enum ibv_parent_domain_init_attr_mask: c_uint {
        /// `alloc` and `free`.
        IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS = 1,
        /// `pd_context`.
        IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT = 1 << 1,
    }
}

c_type! {
    "struct ibv_parent_domain_init_attr":
    /// What a parent domain is created with: ibv_alloc_parent_domain(3).
    #[derive(Clone, Copy)]
    pub struct ibv_parent_domain_init_attr {
        /// The protection domain.
        pub pd: *mut ibv_pd,
        /// The thread domain, or null.
        pub td: *mut ibv_td,
        /// [`ibv_parent_domain_init_attr_mask`].
        pub comp_mask: u32,
        /// Allocates memory for the driver.
        pub alloc: op!((*mut ibv_pd, *mut c_void, usize, usize, u64) -> *mut c_void),
        /// Frees it.
        pub free: op!((*mut ibv_pd, *mut c_void, *mut c_void, u64)),
        /// The caller's own pointer, for both.
        pub pd_context: *mut c_void,
    }
}

c_enum! {
    /// Which fields of [`ibv_values_ex`] are meant.
    enum ibv_values_mask: c_uint {
        /// `raw_clock`.
        IBV_VALUES_MASK_RAW_CLOCK = 1,
    }
}

c_type! {
    "struct ibv_values_ex":
    /// What a device says of this moment: ibv_query_rt_values_ex(3).
    #[derive(Clone, Copy)]
    pub struct ibv_values_ex {
        /// [`ibv_values_mask`].
        pub comp_mask: u32,
        /// Its clock.
        pub raw_clock: timespec,
    }
}

c_type! {
    "struct ibv_query_device_ex_input":
    /// What is asked of a device: ibv_query_device_ex(3).
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_query_device_ex_input {
        /// Nothing yet.
        pub comp_mask: u32,
    }
}

c_type! {
    "__typeof__(((struct ibv_odp_caps *)0)->per_transport_caps)":
    /// On-demand paging, by transport.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_odp_transport_caps {
        /// Reliable connection.
        pub rc_odp_caps: u32,
        /// Unreliable connection.
        pub uc_odp_caps: u32,
        /// Unreliable datagram.
        pub ud_odp_caps: u32,
    }
}

c_type! {
    "struct ibv_odp_caps":
    /// On-demand paging.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_odp_caps {
        /// Whether there is any.
        pub general_caps: u64,
        /// By transport.
        pub per_transport_caps: ibv_odp_transport_caps,
    }
}

c_type! {
    "struct ibv_tso_caps":
    /// Segmentation of TCP packets.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_tso_caps {
        /// Bytes of the longest one.
        pub max_tso: u32,
        /// Types of queue pair, one bit each.
        pub supported_qpts: u32,
    }
}

c_type! {
    "struct ibv_rss_caps":
    /// Receive-side scaling.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_rss_caps {
        /// Types of queue pair, one bit each.
        pub supported_qpts: u32,
        /// Tables.
        pub max_rwq_indirection_tables: u32,
        /// Entries of a table.
        pub max_rwq_indirection_table_size: u32,
        /// Fields of a packet.
        pub rx_hash_fields_mask: u64,
        /// Functions.
        pub rx_hash_function: u8,
    }
}

c_type! {
    "struct ibv_packet_pacing_caps":
    /// Rates that a queue pair may be limited to.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_packet_pacing_caps {
        /// The lowest, in kbit/s.
        pub qp_rate_limit_min: u32,
        /// The highest, in kbit/s.
        pub qp_rate_limit_max: u32,
        /// Types of queue pair, one bit each.
        pub supported_qpts: u32,
    }
}

c_type! {
    "struct ibv_tm_caps":
    /// Tag matching, as a device has it.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_tm_caps {
        /// Bytes of the longest header of a rendezvous.
        pub max_rndv_hdr_size: u32,
        /// Tags.
        pub max_num_tags: u32,
        /// What it can do.
        pub flags: u32,
        /// Operations outstanding.
        pub max_ops: u32,
        /// Elements of a request.
        pub max_sge: u32,
    }
}

c_type! {
    "struct ibv_tm_cap":
    /// Tag matching, as a shared receive queue is asked for it.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_tm_cap {
        /// Tags.
        pub max_num_tags: u32,
        /// Operations outstanding.
        pub max_ops: u32,
    }
}

c_type! {
    "struct ibv_cq_moderation_caps":
    /// How far completions may be gathered.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_cq_moderation_caps {
        /// Completions.
        pub max_cq_count: u16,
        /// Microseconds.
        pub max_cq_period: u16,
    }
}

c_type! {
    "struct ibv_pci_atomic_caps":
    /// Atomics over PCI.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_pci_atomic_caps {
        /// Fetch-and-add.
        pub fetch_add: u16,
        /// Swap.
        pub swap: u16,
        /// Compare-and-swap.
        pub compare_swap: u16,
    }
}

c_type! {
    "struct ibv_device_attr_ex":
    /// A device's attributes, all of them: ibv_query_device_ex(3). The caller says how many bytes of it he knows.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_device_attr_ex {
        /// The first interface's.
        pub orig_attr: ibv_device_attr,
        /// Nothing yet.
        pub comp_mask: u32,
        /// On-demand paging.
        pub odp_caps: ibv_odp_caps,
        /// The bits of a completion's time; 0 if it has none.
        pub completion_timestamp_mask: u64,
        /// Its clock's rate, in kHz.
        pub hca_core_clock: u64,
        /// What it can do: the first interface's flags, and more.
        pub device_cap_flags_ex: u64,
        /// Segmentation of TCP packets.
        pub tso_caps: ibv_tso_caps,
        /// Receive-side scaling.
        pub rss_caps: ibv_rss_caps,
        /// Work queues.
        pub max_wq_type_rq: u32,
        /// Rates.
        pub packet_pacing_caps: ibv_packet_pacing_caps,
        /// Raw packets.
        pub raw_packet_caps: u32,
        /// Tag matching.
        pub tm_caps: ibv_tm_caps,
        /// Moderation.
        pub cq_mod_caps: ibv_cq_moderation_caps,
        /// Bytes of device memory.
        pub max_dm_size: u64,
        /// Atomics over PCI.
        pub pci_atomic_caps: ibv_pci_atomic_caps,
        /// On-demand paging of extended reliable connections.
        pub xrc_odp_caps: u32,
        /// Ports, where they are more than the first interface can say.
        pub phys_port_cnt_ex: u32,
    }
}

zeroed_default!(
    ibv_cq_init_attr_ex,
    ibv_device_attr_ex,
    ibv_modify_cq_attr,
    ibv_parent_domain_init_attr,
    ibv_poll_cq_attr,
    ibv_qp_init_attr_ex,
    ibv_qp_open_attr,
    ibv_query_device_ex_input,
    ibv_tm_cap,
    ibv_values_ex,
    ibv_wc_tm_info,
);
