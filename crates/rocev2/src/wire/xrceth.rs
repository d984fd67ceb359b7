//! The XRC extended transport header, which an extended reliable connection's requests carry (IBA 9.3, XRCETH).
//!
//! ```text
//!  byte 0          1
//! +---------------+-----------------------------------------------+
//! |   reserved    |           shared receive queue                |
//! +---------------+-----------------------------------------------+
//! ```
//!
//! The reserved byte is sent as zero and ignored on receipt.

use super::fields::{get_u24, put_u24};
use crate::Srqn;

/// The length of an XRCETH in bytes.
pub(super) const XRCETH_LEN: usize = 4;

const RESERVED: usize = 0;
const SRQ: usize = 1;

/// Reads the header: the shared receive queue that the request names.
#[inline]
pub(super) fn decode(bytes: &[u8; XRCETH_LEN]) -> Srqn {
    Srqn::truncate(get_u24::<SRQ, _>(bytes))
}

/// Writes the header.
#[inline]
pub(super) fn encode(srq: Srqn, out: &mut [u8; XRCETH_LEN]) {
    out[RESERVED] = 0;
    put_u24::<SRQ, _>(out, srq.get());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_number_are_the_same_header_whatever_the_reserved_byte_is() {
        let mut out = [0x55; XRCETH_LEN];
        encode(Srqn::truncate(0xab_cdef), &mut out);
        assert_eq!(out, [0, 0xab, 0xcd, 0xef]);
        assert_eq!(decode(&[0xff, 0xab, 0xcd, 0xef]), Srqn::truncate(0xab_cdef));
    }
}
