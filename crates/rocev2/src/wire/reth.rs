//! The RDMA extended transport header: where a WRITE or READ begins and how long it is (IBA 9.3.3, RETH).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_fields_are_the_same_header() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 0xa1, 0xa2, 0xa3, 0xa4, 0xb1, 0xb2, 0xb3, 0xb4];
        let fields = Reth { va: 0x0102_0304_0506_0708, rkey: 0xa1a2_a3a4, len: 0xb1b2_b3b4 };
        assert_eq!(Reth::decode(&bytes), fields);
        let mut out = [0x55; Reth::LEN];
        fields.encode(&mut out);
        assert_eq!(out, bytes);
    }
}
