//! Protection domains and memory regions.

use libc::{c_int, c_uint, c_void};

use crate::{ibv_context, ibv_mw_bind_info};

c_type! {
    "struct ibv_pd":
    /// A protection domain: ibv_alloc_pd(3).
    pub struct ibv_pd {
        /// The opened device that it belongs to.
        pub context: *mut ibv_context,
        /// The kernel's number for it.
        pub handle: u32,
    }
}

c_type! {
    "struct ibv_mr":
    /// A memory region: ibv_reg_mr(3).
    pub struct ibv_mr {
        /// The opened device that it belongs to.
        pub context: *mut ibv_context,
        /// Its protection domain.
        pub pd: *mut ibv_pd,
        /// Its first byte.
        pub addr: *mut c_void,
        /// Its bytes.
        pub length: usize,
        /// The kernel's number for it.
        pub handle: u32,
        /// The key for work requests of this side.
        pub lkey: u32,
        /// The key that a peer needs.
        pub rkey: u32,
    }
}

c_enum! {
    /// What may be done to a region, and by a queue pair's peer. Functions take it as a `c_int` or as a `c_uint`.
    enum ibv_access_flags: c_uint {
        /// The device may write into it for work requests of this side.
        IBV_ACCESS_LOCAL_WRITE = 1,
        /// Peers may write. Needs `LOCAL_WRITE`.
        IBV_ACCESS_REMOTE_WRITE = 1 << 1,
        /// Peers may read.
        IBV_ACCESS_REMOTE_READ = 1 << 2,
        /// Peers may use atomics. Needs `LOCAL_WRITE`.
        IBV_ACCESS_REMOTE_ATOMIC = 1 << 3,
        /// Memory windows may be bound to it.
        IBV_ACCESS_MW_BIND = 1 << 4,
        /// Peers' addresses count from its first byte.
        IBV_ACCESS_ZERO_BASED = 1 << 5,
        /// Pages aren't pinned, but faulted in.
        IBV_ACCESS_ON_DEMAND = 1 << 6,
        /// It stands in huge pages.
        IBV_ACCESS_HUGETLB = 1 << 7,
        /// The device may reorder its writes. Only `ibv_reg_mr_iova2` knows it; devices that don't ignore it.
        IBV_ACCESS_RELAXED_ORDERING = 1 << 20,
    }
}

c_enum! {
    /// What a re-registration changes: ibv_rereg_mr(3).
    enum ibv_rereg_mr_flags: c_uint {
        /// The memory.
        IBV_REREG_MR_CHANGE_TRANSLATION = 1,
        /// The protection domain.
        IBV_REREG_MR_CHANGE_PD = 1 << 1,
        /// The rights.
        IBV_REREG_MR_CHANGE_ACCESS = 1 << 2,
    }
}

c_enum! {
    /// Why a re-registration failed, and what the region is worth then: ibv_rereg_mr(3).
    enum ibv_rereg_mr_err_code: c_int {
        /// The arguments are wrong; the region is as it was.
        IBV_REREG_MR_ERR_INPUT = -1,
        /// The new memory couldn't be kept from children; the region is as it was.
        IBV_REREG_MR_ERR_DONT_FORK_NEW = -2,
        /// The old memory couldn't be given to children again; the region is changed.
        IBV_REREG_MR_ERR_DO_FORK_OLD = -3,
        /// The device refused; the region is of no use any more.
        IBV_REREG_MR_ERR_CMD = -4,
        /// The same, and the new memory stays kept from children.
        IBV_REREG_MR_ERR_CMD_AND_DO_FORK_NEW = -5,
    }
}

c_enum! {
    /// What a driver is advised to do with memory: ibv_advise_mr(3).
    enum ibv_advise_mr_advice: c_uint {
        /// Fetch it, to be read.
        IBV_ADVISE_MR_ADVICE_PREFETCH = 0,
        /// Fetch it, to be written.
        IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE = 1,
        /// Fetch what is there.
        IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT = 2,
    }
}

c_enum! {
    /// How a memory window is bound.
    enum ibv_mw_type: c_uint {
        /// By ibv_bind_mw(3), which chooses the key.
        IBV_MW_TYPE_1 = 1,
        /// By a work request, with a key whose last byte the caller chooses.
        IBV_MW_TYPE_2 = 2,
    }
}

c_type! {
    "struct ibv_mw":
    /// A memory window: ibv_alloc_mw(3).
    pub struct ibv_mw {
        /// The opened device that it belongs to.
        pub context: *mut ibv_context,
        /// Its protection domain.
        pub pd: *mut ibv_pd,
        /// The key that a peer needs.
        pub rkey: u32,
        /// The kernel's number for it.
        pub handle: u32,
        /// How it is bound.
        pub r#type: ibv_mw_type,
    }
}

c_type! {
    "struct ibv_mw_bind":
    /// A request to bind a window of type 1: ibv_bind_mw(3).
    #[derive(Clone, Copy)]
    pub struct ibv_mw_bind {
        /// The caller's number for it, which its completion carries.
        pub wr_id: u64,
        /// [`ibv_send_flags`](crate::ibv_send_flags).
        pub send_flags: c_uint,
        /// What the window shows.
        pub bind_info: ibv_mw_bind_info,
    }
}

zeroed_default!(ibv_mw_bind);
