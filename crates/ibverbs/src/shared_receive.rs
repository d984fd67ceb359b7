//! Shared receive queues, which the device doesn't have yet.

use crate::boundary::{null, number};
use libc::{EOPNOTSUPP, c_int};
use rdma_verbs_sys::{ibv_pd, ibv_recv_wr, ibv_srq, ibv_srq_attr, ibv_srq_init_attr};

operation! {
    EOPNOTSUPP,
    /// ibv_post_srq_recv(3).
    fn post_srq_recv(srq: *mut ibv_srq, wr: *mut ibv_recv_wr, bad_wr: *mut *mut ibv_recv_wr) -> c_int {
        let _ = srq;
        // SAFETY: the program gave a place for it.
        unsafe { bad_wr.write(wr) };
        number(EOPNOTSUPP)
    }
}

export! {
    "IBVERBS_1.1", std::ptr::null_mut(),
    /// ibv_create_srq(3).
    fn ibv_create_srq(pd: *mut ibv_pd, attr: *mut ibv_srq_init_attr) -> *mut ibv_srq {
        let _ = (pd, attr);
        null(EOPNOTSUPP)
    }

    "IBVERBS_1.1", EOPNOTSUPP,
    /// ibv_modify_srq(3).
    fn ibv_modify_srq(srq: *mut ibv_srq, attr: *mut ibv_srq_attr, mask: c_int) -> c_int {
        let _ = (srq, attr, mask);
        number(EOPNOTSUPP)
    }

    "IBVERBS_1.1", EOPNOTSUPP,
    /// ibv_query_srq(3).
    fn ibv_query_srq(srq: *mut ibv_srq, attr: *mut ibv_srq_attr) -> c_int {
        let _ = (srq, attr);
        number(EOPNOTSUPP)
    }

    "IBVERBS_1.1", EOPNOTSUPP,
    /// ibv_destroy_srq(3).
    fn ibv_destroy_srq(srq: *mut ibv_srq) -> c_int {
        let _ = srq;
        number(EOPNOTSUPP)
    }
}
