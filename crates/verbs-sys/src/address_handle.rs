//! Address handles, and the header that stands before a datagram.

use crate::{__be16, __be32, ibv_context, ibv_gid, ibv_pd};

c_type! {
    "struct ibv_ah":
    /// An address handle: ibv_create_ah(3).
    pub struct ibv_ah {
        /// The opened device that it belongs to.
        pub context: *mut ibv_context,
        /// Its protection domain.
        pub pd: *mut ibv_pd,
        /// The kernel's number for it.
        pub handle: u32,
    }
}

c_type! {
    "struct ibv_grh":
    /// The global route header, in the first 40 bytes of a received datagram. Of a RoCEv2 datagram over IPv4
    /// the last 20 of them are the IPv4 header.
    #[derive(Clone, Copy, Debug)]
    pub struct ibv_grh {
        /// Version (4 bits), traffic class (8) and flow label (20).
        pub version_tclass_flow: __be32,
        /// Bytes behind it.
        pub paylen: __be16,
        /// What stands behind it.
        pub next_hdr: u8,
        /// Hops that were left.
        pub hop_limit: u8,
        /// The sender's GID.
        pub sgid: ibv_gid,
        /// The GID that it was sent to.
        pub dgid: ibv_gid,
    }
}

zeroed_default!(ibv_grh);
