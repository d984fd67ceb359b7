//! What is posted to queues.

use libc::{c_int, c_uint, c_void};

use crate::{__be32, ibv_ah, ibv_mr, ibv_mw};

c_enum! {
    /// What a send request asks for: ibv_post_send(3).
    enum ibv_wr_opcode: c_uint {
        /// WRITE.
        IBV_WR_RDMA_WRITE = 0,
        /// WRITE with immediate data.
        IBV_WR_RDMA_WRITE_WITH_IMM = 1,
        /// SEND.
        IBV_WR_SEND = 2,
        /// SEND with immediate data.
        IBV_WR_SEND_WITH_IMM = 3,
        /// READ.
        IBV_WR_RDMA_READ = 4,
        /// Compare-and-swap.
        IBV_WR_ATOMIC_CMP_AND_SWP = 5,
        /// Fetch-and-add.
        IBV_WR_ATOMIC_FETCH_AND_ADD = 6,
        /// Invalidate a key of this side.
        IBV_WR_LOCAL_INV = 7,
        /// Bind a memory window.
        IBV_WR_BIND_MW = 8,
        /// SEND that invalidates a key of the peer's.
        IBV_WR_SEND_WITH_INV = 9,
        /// A TCP packet to be segmented.
        IBV_WR_TSO = 10,
        /// The driver's own.
        IBV_WR_DRIVER1 = 11,
        /// Atomic write.
        IBV_WR_ATOMIC_WRITE = 15,
    }
}

c_enum! {
    /// How a send request is to be carried out: [`ibv_send_wr::send_flags`].
    enum ibv_send_flags: c_uint {
        /// After the READs and atomics before it have completed.
        IBV_SEND_FENCE = 1,
        /// With a completion.
        IBV_SEND_SIGNALED = 1 << 1,
        /// With an event at the peer.
        IBV_SEND_SOLICITED = 1 << 2,
        /// With the data copied when it is posted.
        IBV_SEND_INLINE = 1 << 3,
        /// With checksums of IP filled in.
        IBV_SEND_IP_CSUM = 1 << 4,
    }
}

c_type! {
    "struct ibv_sge":
    /// A piece of registered memory.
    #[derive(Clone, Copy)]
    pub struct ibv_sge {
        /// Its first byte.
        pub addr: u64,
        /// Its bytes.
        pub length: u32,
        /// Its region's local key.
        pub lkey: u32,
    }
}

/// What goes with the opcode. It says which member is valid.
#[derive(Clone, Copy)]
#[repr(C)]
pub union ibv_send_wr_immediate {
    /// Immediate data, in network byte order.
    pub imm_data: __be32,
    /// The key to invalidate.
    pub invalidate_rkey: u32,
}

c_type! {
    "__typeof__(((struct ibv_send_wr *)0)->wr.rdma)":
    /// Where a READ or WRITE goes.
    #[derive(Clone, Copy)]
    pub struct ibv_send_wr_rdma {
        /// The first byte there.
        pub remote_addr: u64,
        /// The region's remote key.
        pub rkey: u32,
    }
}

c_type! {
    "__typeof__(((struct ibv_send_wr *)0)->wr.atomic)":
    /// Where an atomic goes, and with what.
    #[derive(Clone, Copy)]
    pub struct ibv_send_wr_atomic {
        /// The eight bytes there.
        pub remote_addr: u64,
        /// What to compare with, or to add.
        pub compare_add: u64,
        /// What to store if they are equal.
        pub swap: u64,
        /// The region's remote key.
        pub rkey: u32,
    }
}

c_type! {
    "__typeof__(((struct ibv_send_wr *)0)->wr.ud)":
    /// Where a datagram goes.
    #[derive(Clone, Copy)]
    pub struct ibv_send_wr_ud {
        /// The way there.
        pub ah: *mut ibv_ah,
        /// The queue pair there.
        pub remote_qpn: u32,
        /// Its queue key.
        pub remote_qkey: u32,
    }
}

c_type! {
    "__typeof__(((struct ibv_send_wr *)0)->wr)":
    /// Where a request goes. The opcode and the queue pair's type say which member is valid.
    #[derive(Clone, Copy)]
    pub union ibv_send_wr_wr {
        /// READ and WRITE.
        pub rdma: ibv_send_wr_rdma,
        /// Atomics.
        pub atomic: ibv_send_wr_atomic,
        /// Datagrams.
        pub ud: ibv_send_wr_ud,
    }
}

c_type! {
    "__typeof__(((struct ibv_send_wr *)0)->qp_type.xrc)":
    /// Where a request of an extended reliable connection goes.
    #[derive(Clone, Copy)]
    pub struct ibv_send_wr_xrc {
        /// The shared receive queue there.
        pub remote_srqn: u32,
    }
}

c_type! {
    "__typeof__(((struct ibv_send_wr *)0)->qp_type)":
    /// What some types of queue pair need besides.
    #[derive(Clone, Copy)]
    pub union ibv_send_wr_qp_type {
        /// Extended reliable connections.
        pub xrc: ibv_send_wr_xrc,
    }
}

c_type! {
    "struct ibv_mw_bind_info":
    /// What a memory window shows: ibv_bind_mw(3).
    #[derive(Clone, Copy)]
    pub struct ibv_mw_bind_info {
        /// Of which region.
        pub mr: *mut ibv_mr,
        /// From which byte.
        pub addr: u64,
        /// How many bytes.
        pub length: u64,
        /// With which rights: [`ibv_access_flags`](crate::ibv_access_flags).
        pub mw_access_flags: c_uint,
    }
}

c_type! {
    "__typeof__(((struct ibv_send_wr *)0)->bind_mw)":
    /// How a memory window is to be bound.
    #[derive(Clone, Copy)]
    pub struct ibv_send_wr_bind_mw {
        /// The window.
        pub mw: *mut ibv_mw,
        /// Its new remote key.
        pub rkey: u32,
        /// What it shows.
        pub bind_info: ibv_mw_bind_info,
    }
}

c_type! {
    "__typeof__(((struct ibv_send_wr *)0)->tso)":
    /// How a TCP packet is to be segmented.
    #[derive(Clone, Copy)]
    pub struct ibv_send_wr_tso {
        /// Its headers.
        pub hdr: *mut c_void,
        /// Their bytes.
        pub hdr_sz: u16,
        /// Bytes of data in a segment.
        pub mss: u16,
    }
}

/// What some opcodes need besides.
#[derive(Clone, Copy)]
#[repr(C)]
pub union ibv_send_wr_extension {
    /// [`IBV_WR_BIND_MW`].
    pub bind_mw: ibv_send_wr_bind_mw,
    /// [`IBV_WR_TSO`].
    pub tso: ibv_send_wr_tso,
}

c_type! {
    "struct ibv_send_wr":
    /// A send request: ibv_post_send(3).
    #[derive(Clone, Copy)]
    pub struct ibv_send_wr {
        /// The caller's number for it, which its completion carries.
        pub wr_id: u64,
        /// The next in the list, or null.
        pub next: *mut ibv_send_wr,
        /// Its elements.
        pub sg_list: *mut ibv_sge,
        /// How many there are.
        pub num_sge: c_int,
        /// What it asks for.
        pub opcode: ibv_wr_opcode,
        /// [`ibv_send_flags`].
        pub send_flags: c_uint,
        /// What goes with the opcode. In C its members stand directly in the structure.
        pub immediate: ibv_send_wr_immediate as { imm_data, invalidate_rkey },
        /// Where it goes.
        pub wr: ibv_send_wr_wr,
        /// What the queue pair's type needs.
        pub qp_type: ibv_send_wr_qp_type,
        /// What the opcode needs besides. In C its members stand directly in the structure.
        pub extension: ibv_send_wr_extension as { bind_mw, tso },
    }
}

c_type! {
    "struct ibv_recv_wr":
    /// A receive request: ibv_post_recv(3).
    #[derive(Clone, Copy)]
    pub struct ibv_recv_wr {
        /// The caller's number for it, which its completion carries.
        pub wr_id: u64,
        /// The next in the list, or null.
        pub next: *mut ibv_recv_wr,
        /// Its elements.
        pub sg_list: *mut ibv_sge,
        /// How many there are.
        pub num_sge: c_int,
    }
}

zeroed_default!(
    ibv_sge,
    ibv_send_wr_immediate,
    ibv_send_wr_rdma,
    ibv_send_wr_atomic,
    ibv_send_wr_ud,
    ibv_send_wr_wr,
    ibv_send_wr_xrc,
    ibv_send_wr_qp_type,
    ibv_mw_bind_info,
    ibv_send_wr_bind_mw,
    ibv_send_wr_tso,
    ibv_send_wr_extension,
    ibv_send_wr,
    ibv_recv_wr,
);
