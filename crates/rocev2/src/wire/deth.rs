//! The datagram extended transport header, which UD packets carry (IBA 9.3, DETH).
//!
//! ```text
//!  byte 0                          4               5               8
//! +-------------------------------+---------------+---------------+
//! |             Q_Key             |   reserved    |   source QP   |
//! +-------------------------------+---------------+---------------+
//! ```
//!
//! The reserved byte is sent as zero and ignored on receipt.

use super::fields::{get, get_u24, put, put_u24};
use crate::Qpn;

const QKEY: usize = 0;
const RESERVED: usize = 4;
const SRC_QP: usize = 5;

/// A datagram extended transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deth {
    /// The queue key; the receiver's must equal it.
    pub qkey: u32,
    /// The queue pair that sent the packet.
    pub src_qp: Qpn,
}

impl Deth {
    /// Its length in bytes.
    pub const LEN: usize = 8;

    /// Reads the header.
    #[inline]
    #[must_use]
    pub fn decode(bytes: &[u8; Self::LEN]) -> Self {
        Self {
            qkey: u32::from_be_bytes(get::<QKEY, _, _>(bytes)),
            src_qp: Qpn::truncate(get_u24::<SRC_QP, _>(bytes)),
        }
    }

    /// Writes the header.
    #[inline]
    pub fn encode(&self, out: &mut [u8; Self::LEN]) {
        put::<QKEY, _, _>(out, self.qkey.to_be_bytes());
        out[RESERVED] = 0;
        put_u24::<SRC_QP, _>(out, self.src_qp.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: Deth = Deth { qkey: 0x8001_0203, src_qp: Qpn::truncate(0xab_cdef) };

    #[test]
    fn bytes_and_fields_are_the_same_header() {
        let bytes = [0x80, 1, 2, 3, 0, 0xab, 0xcd, 0xef];
        assert_eq!(Deth::decode(&bytes), FIELDS);
        let mut out = [0x55; Deth::LEN];
        FIELDS.encode(&mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn the_reserved_byte_is_ignored_on_receipt() {
        assert_eq!(Deth::decode(&[0x80, 1, 2, 3, 0xff, 0xab, 0xcd, 0xef]), FIELDS);
    }
}
