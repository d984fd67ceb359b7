//! The headers of an atomic operation and of its answer (IBA 9.3, AtomicETH and AtomicAckETH).
//!
//! ```text
//! AtomicETH
//!  byte 0               8               12              20               28
//! +-------------------------------+---------------+---------------+---------------+
//! |        virtual address        |     R_Key     |  swap or add  |    compare    |
//! |            8 bytes            |    4 bytes    |    8 bytes    |    8 bytes    |
//! +-------------------------------+---------------+---------------+---------------+
//!
//! AtomicAckETH
//!  byte 0                               8
//! +-------------------------------------+
//! |            original value           |
//! +-------------------------------------+
//! ```

use super::fields::{get, put};

const VA: usize = 0;
const RKEY: usize = 8;
const SWAP_OR_ADD: usize = 12;
const COMPARE: usize = 20;

/// An atomic extended transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AtomicEth {
    /// The address of the 8 bytes in the responder's memory; a multiple of 8, which the responder checks.
    pub va: u64,
    /// The key of the region or window.
    pub rkey: u32,
    /// The value to store (compare and swap) or to add (fetch and add).
    pub swap_or_add: u64,
    /// The value that must be there for the swap to happen; fetch and add doesn't use it.
    pub compare: u64,
}

impl AtomicEth {
    /// Its length in bytes.
    pub const LEN: usize = 28;

    /// Reads the header.
    #[inline]
    #[must_use]
    pub fn decode(bytes: &[u8; Self::LEN]) -> Self {
        Self {
            va: u64::from_be_bytes(get::<VA, _, _>(bytes)),
            rkey: u32::from_be_bytes(get::<RKEY, _, _>(bytes)),
            swap_or_add: u64::from_be_bytes(get::<SWAP_OR_ADD, _, _>(bytes)),
            compare: u64::from_be_bytes(get::<COMPARE, _, _>(bytes)),
        }
    }

    /// Writes the header.
    #[inline]
    pub fn encode(&self, out: &mut [u8; Self::LEN]) {
        put::<VA, _, _>(out, self.va.to_be_bytes());
        put::<RKEY, _, _>(out, self.rkey.to_be_bytes());
        put::<SWAP_OR_ADD, _, _>(out, self.swap_or_add.to_be_bytes());
        put::<COMPARE, _, _>(out, self.compare.to_be_bytes());
    }
}

/// The length of an AtomicAckETH in bytes: one big-endian number, the value before the operation.
pub const ATOMIC_ACK_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_fields_are_the_same_header() {
        let bytes = [
            1, 2, 3, 4, 5, 6, 7, 8, 0xa1, 0xa2, 0xa3, 0xa4, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8,
            0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8,
        ];
        let fields = AtomicEth {
            va: 0x0102_0304_0506_0708,
            rkey: 0xa1a2_a3a4,
            swap_or_add: 0xb1b2_b3b4_b5b6_b7b8,
            compare: 0xc1c2_c3c4_c5c6_c7c8,
        };
        assert_eq!(AtomicEth::decode(&bytes), fields);
        let mut out = [0x55; AtomicEth::LEN];
        fields.encode(&mut out);
        assert_eq!(out, bytes);
    }
}
