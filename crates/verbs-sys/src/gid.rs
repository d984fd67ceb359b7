//! Addresses of ports.

use libc::c_uint;

c_type! {
    "union ibv_gid":
    /// An address of a port: an IPv6 address, or an IPv4 address in its mapped form `::ffff:a.b.c.d`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[repr(align(8))]
    pub struct ibv_gid {
        /// Its bytes, in the order in which they stand in a packet.
        pub raw: [u8; 16],
    }
}

c_enum! {
    /// Which protocol goes with a GID.
    enum ibv_gid_type: c_uint {
        /// InfiniBand.
        IBV_GID_TYPE_IB = 0,
        /// RoCE v1: InfiniBand in Ethernet frames.
        IBV_GID_TYPE_ROCE_V1 = 1,
        /// RoCE v2: InfiniBand's transport over UDP.
        IBV_GID_TYPE_ROCE_V2 = 2,
    }
}

c_type! {
    "struct ibv_gid_entry":
    /// A line of a port's GID table: ibv_query_gid_ex(3).
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_gid_entry {
        /// The address.
        pub gid: ibv_gid,
        /// Its place in the table.
        pub gid_index: u32,
        /// The port, from 1.
        pub port_num: u32,
        /// [`ibv_gid_type`].
        pub gid_type: u32,
        /// The network interface's index; 0 if there is none.
        pub ndev_ifindex: u32,
    }
}

zeroed_default!(ibv_gid, ibv_gid_entry);
