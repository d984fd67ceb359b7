//! What a device reports by itself.

use libc::{c_int, c_uint};

use crate::{ibv_cq, ibv_qp, ibv_srq, ibv_wq};

c_enum! {
    /// What happened: ibv_get_async_event(3).
    enum ibv_event_type: c_uint {
        /// A completion queue is broken, most often because it overflowed. `cq`.
        IBV_EVENT_CQ_ERR = 0,
        /// A queue pair failed where no completion can say so. `qp`.
        IBV_EVENT_QP_FATAL = 1,
        /// The peer sent what the transport doesn't allow. `qp`.
        IBV_EVENT_QP_REQ_ERR = 2,
        /// The peer had no right to what it tried. `qp`.
        IBV_EVENT_QP_ACCESS_ERR = 3,
        /// The first packet came while the queue pair was ready to receive. `qp`.
        IBV_EVENT_COMM_EST = 4,
        /// The send queue is drained. `qp`.
        IBV_EVENT_SQ_DRAINED = 5,
        /// The connection moved to its alternate path. `qp`.
        IBV_EVENT_PATH_MIG = 6,
        /// Moving to the alternate path failed. `qp`.
        IBV_EVENT_PATH_MIG_ERR = 7,
        /// The device failed.
        IBV_EVENT_DEVICE_FATAL = 8,
        /// A port became active. `port_num`.
        IBV_EVENT_PORT_ACTIVE = 9,
        /// A port's link was lost. `port_num`.
        IBV_EVENT_PORT_ERR = 10,
        /// A port's local identifier changed. `port_num`.
        IBV_EVENT_LID_CHANGE = 11,
        /// A port's partition key table changed. `port_num`.
        IBV_EVENT_PKEY_CHANGE = 12,
        /// The subnet manager changed. `port_num`.
        IBV_EVENT_SM_CHANGE = 13,
        /// A shared receive queue failed. `srq`.
        IBV_EVENT_SRQ_ERR = 14,
        /// A shared receive queue runs low. `srq`.
        IBV_EVENT_SRQ_LIMIT_REACHED = 15,
        /// A failed queue pair takes nothing more from its shared receive queue. `qp`.
        IBV_EVENT_QP_LAST_WQE_REACHED = 16,
        /// The subnet manager asks to register anew. `port_num`.
        IBV_EVENT_CLIENT_REREGISTER = 17,
        /// A port's GID table changed. `port_num`.
        IBV_EVENT_GID_CHANGE = 18,
        /// A work queue failed. `wq`.
        IBV_EVENT_WQ_FATAL = 19,
    }
}

c_type! {
    "__typeof__(((struct ibv_async_event *)0)->element)":
    /// What an event is about. The event's type says which member is valid.
    #[derive(Clone, Copy)]
    pub union ibv_async_event_element {
        /// A completion queue.
        pub cq: *mut ibv_cq,
        /// A queue pair.
        pub qp: *mut ibv_qp,
        /// A shared receive queue.
        pub srq: *mut ibv_srq,
        /// A work queue.
        pub wq: *mut ibv_wq,
        /// A port, from 1.
        pub port_num: c_int,
    }
}

c_type! {
    "struct ibv_async_event":
    /// An event: ibv_get_async_event(3). Each one must be acknowledged.
    #[derive(Clone, Copy)]
    pub struct ibv_async_event {
        /// What it is about.
        pub element: ibv_async_event_element,
        /// What happened.
        pub event_type: ibv_event_type,
    }
}

zeroed_default!(ibv_async_event_element, ibv_async_event);
