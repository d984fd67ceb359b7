//! Protection domains and memory regions.

use libc::{c_uint, c_void};

use crate::ibv_context;

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
