//! Completion queues, their channels, and completions.

use libc::{c_int, c_uint, c_void, pthread_cond_t, pthread_mutex_t};

use crate::{__be32, ibv_context};

c_type! {
    "struct ibv_comp_channel":
    /// A completion channel: ibv_create_comp_channel(3).
    pub struct ibv_comp_channel {
        /// The opened device that it belongs to.
        pub context: *mut ibv_context,
        /// The file that is readable when there is an event. Callers may make it non-blocking.
        pub fd: c_int,
        /// How many completion queues use it.
        pub refcnt: c_int,
    }
}

c_type! {
    "struct ibv_cq":
    /// A completion queue: ibv_create_cq(3).
    pub struct ibv_cq {
        /// The opened device that it belongs to.
        pub context: *mut ibv_context,
        /// Its channel, or null.
        pub channel: *mut ibv_comp_channel,
        /// What the caller gave to have with its events.
        pub cq_context: *mut c_void,
        /// The kernel's number for it.
        pub handle: u32,
        /// How many completions it has room for.
        pub cqe: c_int,
        /// The library's.
        pub mutex: pthread_mutex_t,
        /// The library's.
        pub cond: pthread_cond_t,
        /// Events of the channel that were acknowledged.
        pub comp_events_completed: u32,
        /// Asynchronous events that were acknowledged.
        pub async_events_completed: u32,
    }
}

c_enum! {
    /// How a request ended: ibv_poll_cq(3).
    enum ibv_wc_status: c_uint {
        /// Done.
        IBV_WC_SUCCESS = 0,
        /// The message doesn't fit the elements or the limits.
        IBV_WC_LOC_LEN_ERR = 1,
        /// The queue pair is broken, or the request doesn't fit it.
        IBV_WC_LOC_QP_OP_ERR = 2,
        /// The end-to-end context is broken.
        IBV_WC_LOC_EEC_OP_ERR = 3,
        /// An element names memory that isn't registered for this.
        IBV_WC_LOC_PROT_ERR = 4,
        /// The queue pair was in the error state: the request wasn't carried out, or not wholly.
        IBV_WC_WR_FLUSH_ERR = 5,
        /// A memory window couldn't be bound.
        IBV_WC_MW_BIND_ERR = 6,
        /// The peer answered with what doesn't fit.
        IBV_WC_BAD_RESP_ERR = 7,
        /// A peer's WRITE with immediate touched memory that isn't registered for it.
        IBV_WC_LOC_ACCESS_ERR = 8,
        /// The peer refused the message as invalid.
        IBV_WC_REM_INV_REQ_ERR = 9,
        /// The peer refused access to its memory.
        IBV_WC_REM_ACCESS_ERR = 10,
        /// The peer failed to carry it out.
        IBV_WC_REM_OP_ERR = 11,
        /// The peer didn't acknowledge.
        IBV_WC_RETRY_EXC_ERR = 12,
        /// The peer had no receive request.
        IBV_WC_RNR_RETRY_EXC_ERR = 13,
        /// The reliable datagram domains don't fit.
        IBV_WC_LOC_RDD_VIOL_ERR = 14,
        /// The peer refused a READ as invalid.
        IBV_WC_REM_INV_RD_REQ_ERR = 15,
        /// The peer aborted.
        IBV_WC_REM_ABORT_ERR = 16,
        /// There is no such end-to-end context.
        IBV_WC_INV_EECN_ERR = 17,
        /// The end-to-end context is in the wrong state.
        IBV_WC_INV_EEC_STATE_ERR = 18,
        /// The device failed.
        IBV_WC_FATAL_ERR = 19,
        /// No answer came in time.
        IBV_WC_RESP_TIMEOUT_ERR = 20,
        /// Something else.
        IBV_WC_GENERAL_ERR = 21,
        /// Tag matching failed.
        IBV_WC_TM_ERR = 22,
        /// Tag matching: software has to do the rendezvous.
        IBV_WC_TM_RNDV_INCOMPLETE = 23,
    }
}

c_enum! {
    /// What has completed. Those of receive requests have the bit [`IBV_WC_RECV`]. Valid only if the status is success.
    enum ibv_wc_opcode: c_uint {
        /// A SEND.
        IBV_WC_SEND = 0,
        /// A WRITE.
        IBV_WC_RDMA_WRITE = 1,
        /// A READ.
        IBV_WC_RDMA_READ = 2,
        /// A compare-and-swap.
        IBV_WC_COMP_SWAP = 3,
        /// A fetch-and-add.
        IBV_WC_FETCH_ADD = 4,
        /// A memory window was bound.
        IBV_WC_BIND_MW = 5,
        /// A key was invalidated.
        IBV_WC_LOCAL_INV = 6,
        /// A segmented TCP packet.
        IBV_WC_TSO = 7,
        /// An atomic write.
        IBV_WC_ATOMIC_WRITE = 9,
        /// A message was received.
        IBV_WC_RECV = 1 << 7,
        /// The peer's WRITE with immediate was received.
        IBV_WC_RECV_RDMA_WITH_IMM = (1 << 7) + 1,
        /// Tag matching: a tag was added.
        IBV_WC_TM_ADD = (1 << 7) + 2,
        /// Tag matching: a tag was removed.
        IBV_WC_TM_DEL = (1 << 7) + 3,
        /// Tag matching: synchronised.
        IBV_WC_TM_SYNC = (1 << 7) + 4,
        /// Tag matching: a message was received.
        IBV_WC_TM_RECV = (1 << 7) + 5,
        /// Tag matching: a message without tag was received.
        IBV_WC_TM_NO_TAG = (1 << 7) + 6,
        /// The driver's own.
        IBV_WC_DRIVER1 = (1 << 7) + 7,
        /// The driver's own.
        IBV_WC_DRIVER2 = (1 << 7) + 8,
        /// The driver's own.
        IBV_WC_DRIVER3 = (1 << 7) + 9,
    }
}

c_enum! {
    /// What else a completion says: [`ibv_wc::wc_flags`].
    enum ibv_wc_flags: c_uint {
        /// A global route header stands in the first 40 bytes (datagrams only).
        IBV_WC_GRH = 1,
        /// `imm_data` is valid.
        IBV_WC_WITH_IMM = 1 << 1,
        /// The checksums of IP are right.
        IBV_WC_IP_CSUM_OK = 1 << 2,
        /// `invalidated_rkey` is valid.
        IBV_WC_WITH_INV = 1 << 3,
        /// Tag matching: synchronise.
        IBV_WC_TM_SYNC_REQ = 1 << 4,
        /// Tag matching: a tag matched.
        IBV_WC_TM_MATCH = 1 << 5,
        /// Tag matching: the data is there.
        IBV_WC_TM_DATA_VALID = 1 << 6,
    }
}

/// What the peer gave with its message. [`ibv_wc::wc_flags`] says which it is.
#[derive(Clone, Copy)]
#[repr(C)]
pub union ibv_wc_immediate {
    /// Immediate data, in network byte order.
    pub imm_data: __be32,
    /// The key that the peer invalidated.
    pub invalidated_rkey: u32,
}

c_type! {
    "struct ibv_wc":
    /// A completion: ibv_poll_cq(3). If the status isn't success, only `wr_id`, `status`, `qp_num` and
    /// `vendor_err` are valid.
    #[derive(Clone, Copy)]
    pub struct ibv_wc {
        /// The request's own number.
        pub wr_id: u64,
        /// How it ended.
        pub status: ibv_wc_status,
        /// What it was.
        pub opcode: ibv_wc_opcode,
        /// What the driver says of the failure.
        pub vendor_err: u32,
        /// Bytes that were moved.
        pub byte_len: u32,
        /// What the peer gave with it. In C its members stand directly in the structure.
        pub immediate: ibv_wc_immediate as { imm_data, invalidated_rkey },
        /// This side's queue pair.
        pub qp_num: u32,
        /// The peer's queue pair (datagrams only).
        pub src_qp: u32,
        /// [`ibv_wc_flags`].
        pub wc_flags: c_uint,
        /// Partition key's place in its table.
        pub pkey_index: u16,
        /// The sender's local identifier.
        pub slid: u16,
        /// Service level.
        pub sl: u8,
        /// Which of this port's local identifiers it came to.
        pub dlid_path_bits: u8,
    }
}

zeroed_default!(ibv_wc_immediate, ibv_wc);
