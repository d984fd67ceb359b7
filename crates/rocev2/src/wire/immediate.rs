//! Immediate data: four bytes that a SEND or RDMA WRITE hands to the receiver's completion (IBA 9.3, ImmDt).
//!
//! ```text
//!  byte 0                          4
//! +-------------------------------+
//! |        immediate data         |
//! +-------------------------------+
//! ```
//!
//! Here it is the number that those bytes are in big-endian order. libibverbs hands programs the bytes themselves
//! (`__be32 imm_data`).

/// The length of immediate data in bytes.
pub const IMMEDIATE_LEN: usize = 4;
