//! The RDMA extended transport header: where a WRITE or READ begins and how long it is (IBA 9.3.3).
//!
//! ```text
//!  byte 0               4               8               12
//! +-------------------------------+---------------+---------------+
//! |        virtual address        |     R_Key     |  DMA length   |
//! +-------------------------------+---------------+---------------+
//! ```

use super::fields::{get, put};

const VA: usize = 0;
const RKEY: usize = 8;
const DMA_LEN: usize = 12;

/// An RDMA extended transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reth {
    /// The address in the responder's memory, as its region counts addresses.
    pub va: u64,
    /// The key of the region or window.
    pub rkey: u32,
    /// Bytes in the whole message, 0 to 2^31 in the specification; the wire has room for 2^32 − 1.
    pub len: u32,
}

impl Reth {
    /// Its length in bytes.
    pub const LEN: usize = 16;

    /// Reads the header.
    #[inline]
    #[must_use]
    pub fn decode(bytes: &[u8; Self::LEN]) -> Self {
        Self {
            va: u64::from_be_bytes(get::<VA, _, _>(bytes)),
            rkey: u32::from_be_bytes(get::<RKEY, _, _>(bytes)),
            len: u32::from_be_bytes(get::<DMA_LEN, _, _>(bytes)),
        }
    }

    /// Writes the header.
    #[inline]
    pub fn encode(&self, out: &mut [u8; Self::LEN]) {
        put::<VA, _, _>(out, self.va.to_be_bytes());
        put::<RKEY, _, _>(out, self.rkey.to_be_bytes());
        put::<DMA_LEN, _, _>(out, self.len.to_be_bytes());
    }
}
