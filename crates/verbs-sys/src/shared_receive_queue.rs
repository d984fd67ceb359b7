//! Shared receive queues.

use libc::{c_int, c_uint, c_void, pthread_cond_t, pthread_mutex_t};

use crate::{ibv_context, ibv_cq, ibv_pd, ibv_tm_cap};

c_type! {
    "struct ibv_srq":
    /// A shared receive queue: ibv_create_srq(3).
    pub struct ibv_srq {
        /// The opened device that it belongs to.
        pub context: *mut ibv_context,
        /// The caller's own pointer.
        pub srq_context: *mut c_void,
        /// Its protection domain.
        pub pd: *mut ibv_pd,
        /// The kernel's number for it.
        pub handle: u32,
        /// The library's.
        pub mutex: pthread_mutex_t,
        /// The library's.
        pub cond: pthread_cond_t,
        /// Asynchronous events that were acknowledged.
        pub events_completed: u32,
    }
}

c_type! {
    "struct ibv_srq_attr":
    /// A shared receive queue's attributes: ibv_modify_srq(3).
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_srq_attr {
        /// Requests.
        pub max_wr: u32,
        /// Elements of a request.
        pub max_sge: u32,
        /// Fewer requests than this cause one event; 0 is none. Not looked at when the queue is made.
        pub srq_limit: u32,
    }
}

c_enum! {
    /// Which fields of [`ibv_srq_attr`] are meant: ibv_modify_srq(3).
    enum ibv_srq_attr_mask: c_uint {
        /// `max_wr`.
        IBV_SRQ_MAX_WR = 1,
        /// `srq_limit`.
        IBV_SRQ_LIMIT = 1 << 1,
    }
}

c_type! {
    "struct ibv_srq_init_attr":
    /// What a shared receive queue is created with: ibv_create_srq(3).
    #[derive(Clone, Copy)]
    pub struct ibv_srq_init_attr {
        /// The caller's own pointer.
        pub srq_context: *mut c_void,
        /// How much is to fit. The library writes back what it gave.
        pub attr: ibv_srq_attr,
    }
}

c_enum! {
    /// What a shared receive queue is for.
    enum ibv_srq_type: c_uint {
        /// Connections and datagrams.
        IBV_SRQT_BASIC = 0,
        /// Extended reliable connections.
        IBV_SRQT_XRC = 1,
        /// Tag matching.
        IBV_SRQT_TM = 2,
    }
}

c_enum! {
    /// Which fields of [`ibv_srq_init_attr_ex`] are meant.
    enum ibv_srq_init_attr_mask: c_uint {
        /// `srq_type`.
        IBV_SRQ_INIT_ATTR_TYPE = 1,
        /// `pd`.
        IBV_SRQ_INIT_ATTR_PD = 1 << 1,
        /// `xrcd`.
        IBV_SRQ_INIT_ATTR_XRCD = 1 << 2,
        /// `cq`.
        IBV_SRQ_INIT_ATTR_CQ = 1 << 3,
        /// `tm_cap`.
        IBV_SRQ_INIT_ATTR_TM = 1 << 4,
    }
}

c_type! {
    "struct ibv_srq_init_attr_ex":
    /// What a shared receive queue of any type is created with: ibv_create_srq_ex(3).
    #[derive(Clone, Copy)]
    pub struct ibv_srq_init_attr_ex {
        /// The caller's own pointer.
        pub srq_context: *mut c_void,
        /// How much is to fit. The library writes back what it gave.
        pub attr: ibv_srq_attr,
        /// [`ibv_srq_init_attr_mask`].
        pub comp_mask: u32,
        /// What it is for.
        pub srq_type: ibv_srq_type,
        /// Its protection domain.
        pub pd: *mut ibv_pd,
        /// Its domain of extended reliable connections.
        pub xrcd: *mut ibv_xrcd,
        /// Where its requests complete (XRC, tag matching).
        pub cq: *mut ibv_cq,
        /// Tag matching.
        pub tm_cap: ibv_tm_cap,
    }
}

c_enum! {
    /// Which fields of [`ibv_xrcd_init_attr`] are meant.
    enum ibv_xrcd_init_attr_mask: c_uint {
        /// `fd`.
        IBV_XRCD_INIT_ATTR_FD = 1,
        /// `oflags`.
        IBV_XRCD_INIT_ATTR_OFLAGS = 1 << 1,
    }
}

c_type! {
    "struct ibv_xrcd":
    /// A domain of extended reliable connections: ibv_open_xrcd(3).
    pub struct ibv_xrcd {
        /// The opened device that it belongs to.
        pub context: *mut ibv_context,
    }
}

c_type! {
    "struct ibv_xrcd_init_attr":
    /// What a domain of extended reliable connections is opened with: ibv_open_xrcd(3).
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_xrcd_init_attr {
        /// [`ibv_xrcd_init_attr_mask`].
        pub comp_mask: u32,
        /// The file by which processes share it, or -1.
        pub fd: c_int,
        /// As open(2) has them: `O_CREAT`, `O_EXCL`.
        pub oflags: c_int,
    }
}

zeroed_default!(ibv_srq_attr, ibv_srq_init_attr, ibv_srq_init_attr_ex, ibv_xrcd_init_attr);
