//! Devices, and devices that are opened.

use libc::{c_char, c_int, c_uint, c_void, pthread_mutex_t};

use crate::{
    __be64, ibv_cq, ibv_mw, ibv_mw_bind, ibv_mw_type, ibv_pd, ibv_qp, ibv_recv_wr, ibv_send_wr, ibv_srq,
    ibv_wc,
};

c_enum! {
    /// What kind of node a device is.
    enum ibv_node_type: c_int {
        /// Unknown.
        IBV_NODE_UNKNOWN = -1,
        /// A channel adapter: an InfiniBand or RoCE card, or Soft-RoCE.
        IBV_NODE_CA = 1,
        /// A switch.
        IBV_NODE_SWITCH = 2,
        /// A router.
        IBV_NODE_ROUTER = 3,
        /// An iWARP card.
        IBV_NODE_RNIC = 4,
        /// Cisco's usNIC.
        IBV_NODE_USNIC = 5,
        /// Cisco's usNIC over UDP.
        IBV_NODE_USNIC_UDP = 6,
        /// Something else.
        IBV_NODE_UNSPECIFIED = 7,
    }
}

c_enum! {
    /// Which transport a device speaks.
    enum ibv_transport_type: c_int {
        /// Unknown.
        IBV_TRANSPORT_UNKNOWN = -1,
        /// InfiniBand's: InfiniBand and RoCE.
        IBV_TRANSPORT_IB = 0,
        /// iWARP.
        IBV_TRANSPORT_IWARP = 1,
        /// Cisco's usNIC.
        IBV_TRANSPORT_USNIC = 2,
        /// Cisco's usNIC over UDP.
        IBV_TRANSPORT_USNIC_UDP = 3,
        /// Something else.
        IBV_TRANSPORT_UNSPECIFIED = 4,
    }
}

c_enum! {
    /// What a device can do: [`ibv_device_attr::device_cap_flags`].
    enum ibv_device_cap_flags: c_uint {
        /// The number of requests of a queue pair can be changed.
        IBV_DEVICE_RESIZE_MAX_WR = 1,
        /// It counts wrong partition keys.
        IBV_DEVICE_BAD_PKEY_CNTR = 1 << 1,
        /// It counts wrong queue keys.
        IBV_DEVICE_BAD_QKEY_CNTR = 1 << 2,
        /// Raw multicast.
        IBV_DEVICE_RAW_MULTI = 1 << 3,
        /// Automatic path migration.
        IBV_DEVICE_AUTO_PATH_MIG = 1 << 4,
        /// A queue pair's port can be changed.
        IBV_DEVICE_CHANGE_PHY_PORT = 1 << 5,
        /// Address handles are checked against the port.
        IBV_DEVICE_UD_AV_PORT_ENFORCE = 1 << 6,
        /// The current state can be given when a queue pair is modified.
        IBV_DEVICE_CURR_QP_STATE_MOD = 1 << 7,
        /// A port can be shut down.
        IBV_DEVICE_SHUTDOWN_PORT = 1 << 8,
        /// It knows kinds of initialization.
        IBV_DEVICE_INIT_TYPE = 1 << 9,
        /// It reports ports that become active.
        IBV_DEVICE_PORT_ACTIVE_EVENT = 1 << 10,
        /// It has a system image GUID.
        IBV_DEVICE_SYS_IMAGE_GUID = 1 << 11,
        /// It sends RNR NAKs for reliable connections.
        IBV_DEVICE_RC_RNR_NAK_GEN = 1 << 12,
        /// Shared receive queues can be resized.
        IBV_DEVICE_SRQ_RESIZE = 1 << 13,
        /// It can notify after a number of completions.
        IBV_DEVICE_N_NOTIFY_CQ = 1 << 14,
        /// Memory windows.
        IBV_DEVICE_MEM_WINDOW = 1 << 17,
        /// Checksums of IP in datagrams.
        IBV_DEVICE_UD_IP_CSUM = 1 << 18,
        /// Extended reliable connections.
        IBV_DEVICE_XRC = 1 << 20,
        /// Memory management extensions: fast registration, remote invalidation.
        IBV_DEVICE_MEM_MGT_EXTENSIONS = 1 << 21,
        /// Memory windows of type 2A.
        IBV_DEVICE_MEM_WINDOW_TYPE_2A = 1 << 23,
        /// Memory windows of type 2B.
        IBV_DEVICE_MEM_WINDOW_TYPE_2B = 1 << 24,
        /// Checksums of IP in reliable connections.
        IBV_DEVICE_RC_IP_CSUM = 1 << 25,
        /// Checksums of IP in raw packets.
        IBV_DEVICE_RAW_IP_CSUM = 1 << 26,
        /// Flow steering.
        IBV_DEVICE_MANAGED_FLOW_STEERING = 1 << 29,
    }
}

c_enum! {
    /// With what a device's atomics are atomic.
    enum ibv_atomic_cap: c_uint {
        /// There are none.
        IBV_ATOMIC_NONE = 0,
        /// With this device's other atomics.
        IBV_ATOMIC_HCA = 1,
        /// With the processor's and other devices' too.
        IBV_ATOMIC_GLOB = 2,
    }
}

/// Bytes of a device's name, the final 0 included.
pub const IBV_SYSFS_NAME_MAX: usize = 64;
/// Bytes of a path in sysfs, the final 0 included.
pub const IBV_SYSFS_PATH_MAX: usize = 256;

/// A slot that this crate has no use for: a function of some type, or nothing.
pub type Unused = Option<unsafe extern "C" fn()>;

c_type! {
    "struct _ibv_device_ops":
    /// Never used.
    pub struct _ibv_device_ops {
        /// Nothing.
        pub _dummy1: Unused,
        /// Nothing.
        pub _dummy2: Unused,
    }
}

c_type! {
    "struct ibv_device":
    /// A device, as it stands in the list of ibv_get_device_list(3). The library's own part comes behind it,
    /// so it can't be copied.
    pub struct ibv_device {
        /// Never used.
        pub _ops: _ibv_device_ops,
        /// What it is.
        pub node_type: ibv_node_type,
        /// What it speaks.
        pub transport_type: ibv_transport_type,
        /// Its name, such as `mlx5_0` or `rxe0`.
        pub name: [c_char; IBV_SYSFS_NAME_MAX],
        /// The kernel device's name, such as `uverbs0`.
        pub dev_name: [c_char; IBV_SYSFS_NAME_MAX],
        /// Its place in sysfs under `infiniband_verbs`.
        pub dev_path: [c_char; IBV_SYSFS_PATH_MAX],
        /// Its place in sysfs under `infiniband`.
        pub ibdev_path: [c_char; IBV_SYSFS_PATH_MAX],
    }
}

c_type! {
    "struct ibv_context_ops":
    /// The driver's functions for an opened device. [`ibv_poll_cq`](crate::ibv_poll_cq) and its like call them.
    #[derive(Clone, Copy)]
    pub struct ibv_context_ops {
        /// Not for callers.
        pub _compat_query_device: Unused,
        /// Not for callers.
        pub _compat_query_port: Unused,
        /// Not for callers.
        pub _compat_alloc_pd: Unused,
        /// Not for callers.
        pub _compat_dealloc_pd: Unused,
        /// Not for callers.
        pub _compat_reg_mr: Unused,
        /// Not for callers.
        pub _compat_rereg_mr: Unused,
        /// Not for callers.
        pub _compat_dereg_mr: Unused,
        /// Makes a memory window: ibv_alloc_mw(3).
        pub alloc_mw: op!((*mut ibv_pd, ibv_mw_type) -> *mut ibv_mw),
        /// Binds a memory window: ibv_bind_mw(3).
        pub bind_mw: op!((*mut ibv_qp, *mut ibv_mw, *mut ibv_mw_bind) -> c_int),
        /// Destroys a memory window: ibv_dealloc_mw(3).
        pub dealloc_mw: op!((*mut ibv_mw) -> c_int),
        /// Not for callers.
        pub _compat_create_cq: Unused,
        /// ibv_poll_cq(3).
        pub poll_cq: op!((*mut ibv_cq, c_int, *mut ibv_wc) -> c_int),
        /// ibv_req_notify_cq(3).
        pub req_notify_cq: op!((*mut ibv_cq, c_int) -> c_int),
        /// Not for callers.
        pub _compat_cq_event: Unused,
        /// Not for callers.
        pub _compat_resize_cq: Unused,
        /// Not for callers.
        pub _compat_destroy_cq: Unused,
        /// Not for callers.
        pub _compat_create_srq: Unused,
        /// Not for callers.
        pub _compat_modify_srq: Unused,
        /// Not for callers.
        pub _compat_query_srq: Unused,
        /// Not for callers.
        pub _compat_destroy_srq: Unused,
        /// ibv_post_srq_recv(3).
        pub post_srq_recv: op!((*mut ibv_srq, *mut ibv_recv_wr, *mut *mut ibv_recv_wr) -> c_int),
        /// Not for callers.
        pub _compat_create_qp: Unused,
        /// Not for callers.
        pub _compat_query_qp: Unused,
        /// Not for callers.
        pub _compat_modify_qp: Unused,
        /// Not for callers.
        pub _compat_destroy_qp: Unused,
        /// ibv_post_send(3).
        pub post_send: op!((*mut ibv_qp, *mut ibv_send_wr, *mut *mut ibv_send_wr) -> c_int),
        /// ibv_post_recv(3).
        pub post_recv: op!((*mut ibv_qp, *mut ibv_recv_wr, *mut *mut ibv_recv_wr) -> c_int),
        /// Not for callers.
        pub _compat_create_ah: Unused,
        /// Not for callers.
        pub _compat_destroy_ah: Unused,
        /// Not for callers.
        pub _compat_attach_mcast: Unused,
        /// Not for callers.
        pub _compat_detach_mcast: Unused,
        /// Not for callers.
        pub _compat_async_event: Unused,
    }
}

c_type! {
    "struct ibv_context":
    /// An opened device: ibv_open_device(3). The library's own part stands before it, so it can't be copied.
    pub struct ibv_context {
        /// The device.
        pub device: *mut ibv_device,
        /// The driver's functions.
        pub ops: ibv_context_ops,
        /// The file that commands go through.
        pub cmd_fd: c_int,
        /// The file that is readable when ibv_get_async_event(3) has something.
        pub async_fd: c_int,
        /// How many completion vectors (interrupts) there are.
        pub num_comp_vectors: c_int,
        /// The library's.
        pub mutex: pthread_mutex_t,
        /// All bits set: the library's extended part is there.
        pub abi_compat: *mut c_void,
    }
}

c_type! {
    "struct ibv_device_attr":
    /// A device's attributes: ibv_query_device(3).
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_device_attr {
        /// Version of its firmware.
        pub fw_ver: [c_char; 64],
        /// Its GUID.
        pub node_guid: __be64,
        /// The GUID of the system that it is a part of.
        pub sys_image_guid: __be64,
        /// Bytes of the longest region.
        pub max_mr_size: u64,
        /// Page sizes that it knows, one bit each.
        pub page_size_cap: u64,
        /// Its maker (IEEE).
        pub vendor_id: u32,
        /// The maker's number for the part.
        pub vendor_part_id: u32,
        /// Version of the hardware.
        pub hw_ver: u32,
        /// Queue pairs.
        pub max_qp: c_int,
        /// Requests in a work queue.
        pub max_qp_wr: c_int,
        /// [`ibv_device_cap_flags`].
        pub device_cap_flags: c_uint,
        /// Scatter/gather elements of a request.
        pub max_sge: c_int,
        /// Scatter/gather elements of a READ.
        pub max_sge_rd: c_int,
        /// Completion queues.
        pub max_cq: c_int,
        /// Entries of a completion queue.
        pub max_cqe: c_int,
        /// Memory regions.
        pub max_mr: c_int,
        /// Protection domains.
        pub max_pd: c_int,
        /// READs and atomics that a peer may have outstanding at a queue pair.
        pub max_qp_rd_atom: c_int,
        /// The same for an end-to-end context.
        pub max_ee_rd_atom: c_int,
        /// READs and atomics that peers may have outstanding at the device.
        pub max_res_rd_atom: c_int,
        /// READs and atomics that a queue pair may have outstanding.
        pub max_qp_init_rd_atom: c_int,
        /// The same for an end-to-end context.
        pub max_ee_init_rd_atom: c_int,
        /// What its atomics are worth.
        pub atomic_cap: ibv_atomic_cap,
        /// End-to-end contexts.
        pub max_ee: c_int,
        /// Reliable datagram domains.
        pub max_rdd: c_int,
        /// Memory windows.
        pub max_mw: c_int,
        /// Raw IPv6 queue pairs.
        pub max_raw_ipv6_qp: c_int,
        /// Raw Ethernet queue pairs.
        pub max_raw_ethy_qp: c_int,
        /// Multicast groups.
        pub max_mcast_grp: c_int,
        /// Queue pairs in a multicast group.
        pub max_mcast_qp_attach: c_int,
        /// Queue pairs in all multicast groups.
        pub max_total_mcast_qp_attach: c_int,
        /// Address handles.
        pub max_ah: c_int,
        /// Fast memory regions.
        pub max_fmr: c_int,
        /// Times that a fast memory region can be remapped.
        pub max_map_per_fmr: c_int,
        /// Shared receive queues.
        pub max_srq: c_int,
        /// Requests in a shared receive queue.
        pub max_srq_wr: c_int,
        /// Scatter/gather elements of a request there.
        pub max_srq_sge: c_int,
        /// Partition keys.
        pub max_pkeys: u16,
        /// Time until it acknowledges, encoded: 4.096 µs · 2ⁿ.
        pub local_ca_ack_delay: u8,
        /// Ports.
        pub phys_port_cnt: u8,
    }
}

zeroed_default!(ibv_device_attr);
