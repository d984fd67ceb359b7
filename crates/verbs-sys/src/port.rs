//! Ports.

use libc::{c_int, c_uint};

c_enum! {
    /// A port's logical state.
    enum ibv_port_state: c_uint {
        /// No state.
        IBV_PORT_NOP = 0,
        /// The link is down.
        IBV_PORT_DOWN = 1,
        /// The link is up, the port isn't set up yet.
        IBV_PORT_INIT = 2,
        /// Set up, not active yet.
        IBV_PORT_ARMED = 3,
        /// Packets can be sent.
        IBV_PORT_ACTIVE = 4,
        /// Active, with the link failing for the moment.
        IBV_PORT_ACTIVE_DEFER = 5,
    }
}

c_enum! {
    /// A maximum transfer unit.
    enum ibv_mtu: c_uint {
        /// 256 bytes.
        IBV_MTU_256 = 1,
        /// 512 bytes.
        IBV_MTU_512 = 2,
        /// 1024 bytes.
        IBV_MTU_1024 = 3,
        /// 2048 bytes.
        IBV_MTU_2048 = 4,
        /// 4096 bytes.
        IBV_MTU_4096 = 5,
    }
}

c_enum! {
    /// What a port's link is: [`ibv_port_attr::link_layer`].
    unnamed ibv_link_layer: u8 {
        /// Unknown: InfiniBand, by tradition.
        IBV_LINK_LAYER_UNSPECIFIED = 0,
        /// InfiniBand.
        IBV_LINK_LAYER_INFINIBAND = 1,
        /// Ethernet: RoCE, or iWARP.
        IBV_LINK_LAYER_ETHERNET = 2,
    }
}

c_enum! {
    /// What a port demands: [`ibv_port_attr::flags`].
    unnamed ibv_port_flags: u8 {
        /// Every address must have a global route, with a GID.
        IBV_QPF_GRH_REQUIRED = 1,
    }
}

c_enum! {
    /// What a port can do: [`ibv_port_attr::port_cap_flags`]. These are the ones that matter to programs.
    enum ibv_port_cap_flags: c_uint {
        /// The subnet manager runs here.
        IBV_PORT_SM = 1 << 1,
        /// It has a communication management agent.
        IBV_PORT_CM_SUP = 1 << 16,
        /// Its GIDs are IP addresses.
        IBV_PORT_IP_BASED_GIDS = 1 << 26,
    }
}

c_type! {
    "struct ibv_port_attr":
    /// A port's attributes: ibv_query_port(3).
    ///
    /// What the exported function fills in ends with `flags`. Since rdma-core 49 the header has a field more,
    /// `active_speed_ex`, which that function doesn't reach either.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_port_attr {
        /// Logical state.
        pub state: ibv_port_state,
        /// Largest MTU.
        pub max_mtu: ibv_mtu,
        /// MTU that packets may have now.
        pub active_mtu: ibv_mtu,
        /// Places in the GID table, empty ones included.
        pub gid_tbl_len: c_int,
        /// [`ibv_port_cap_flags`].
        pub port_cap_flags: u32,
        /// Bytes of the longest message.
        pub max_msg_sz: u32,
        /// Packets with a wrong partition key.
        pub bad_pkey_cntr: u32,
        /// Packets with a wrong queue key.
        pub qkey_viol_cntr: u32,
        /// Places in the partition key table.
        pub pkey_tbl_len: u16,
        /// Local identifier; 0 on Ethernet.
        pub lid: u16,
        /// The subnet manager's local identifier.
        pub sm_lid: u16,
        /// How many low bits of the local identifier choose paths.
        pub lmc: u8,
        /// Virtual lanes, encoded.
        pub max_vl_num: u8,
        /// The subnet manager's service level.
        pub sm_sl: u8,
        /// The subnet's propagation delay, encoded.
        pub subnet_timeout: u8,
        /// Kind of initialization that was done.
        pub init_type_reply: u8,
        /// Lanes, encoded: 1 is 1×, 2 is 4×, 4 is 8×, 8 is 12×, 16 is 2×.
        pub active_width: u8,
        /// Speed of a lane, encoded.
        pub active_speed: u8,
        /// Physical state: 5 is up.
        pub phys_state: u8,
        /// [`ibv_link_layer`].
        pub link_layer: u8,
        /// [`ibv_port_flags`].
        pub flags: u8,
        /// More capabilities. The exported function doesn't fill it in.
        pub port_cap_flags2: u16,
    }
}

zeroed_default!(ibv_port_attr);
