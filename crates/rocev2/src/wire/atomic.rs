//! The headers of an atomic operation and of its answer (IBA 9.3.4 and 9.3.5).
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
