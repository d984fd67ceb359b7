//! The base transport header, first in every packet (IBA 9.2).
//!
//! ```text
//!  byte 0          1               2               3
//! +---------------+-+-+---+-------+-------------------------------+
//! |    opcode     |S|M|pad| TVer  |             P_Key             |
//! +---------------+-+-+---+-------+-------------------------------+
//! |F|B| reserved  |               destination QP                  |
//! +---------------+-----------------------------------------------+
//! |A|  reserved   |                     PSN                       |
//! +---------------+-----------------------------------------------+
//! S solicited event   M MigReq   F FECN   B BECN   A AckReq
//! ```
//!
//! Reserved bits are sent as zero and ignored on receipt. The ICRC takes byte 4 as all ones, since a switch
//! on the way may set FECN and BECN: those two bits, and the reserved ones beside them, are the only ones in
//! a packet that nothing protects.

use super::fields::{get, get_u24, put, put_u24};
use super::{Header, Opcode, ParseError};
use crate::{Psn, Qpn};

const OPCODE: usize = 0;
const FLAGS: usize = 1;
const PKEY: usize = 2;
pub(crate) const CONGESTION: usize = 4;
const DEST_QP: usize = 5;
const ACK_REQ: usize = 8;
const PSN: usize = 9;

const SOLICITED: u8 = 0x80;
const MIG_REQ: u8 = 0x40;
const PAD_SHIFT: u32 = 4;
const PAD_MASK: u8 = 0x3;
const TVER_MASK: u8 = 0x0f;
const FECN: u8 = 0x80;
const BECN: u8 = 0x40;
const ACK_REQ_BIT: u8 = 0x80;

/// The default partition's key, full member: what RoCE uses where nobody configured partitions (IBA 10.9.1.2).
pub const DEFAULT_PKEY: u16 = 0xffff;

/// A base transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bth {
    /// Which operation the packet is part of, and so which headers follow.
    pub opcode: Opcode,
    /// Solicited event: the receiver's completion is to wake a waiter that asked for solicited ones only.
    pub solicited: bool,
    /// Migration state; 1 (migrated) where path migration isn't used, as rxe and hardware send it.
    pub mig_req: bool,
    /// Pad bytes between payload and ICRC, 0 to 3.
    pub pad: u8,
    /// Transport header version; 0 is the only one there is.
    pub tver: u8,
    /// Partition key.
    pub pkey: u16,
    /// Forward explicit congestion notification. Not protected by the ICRC.
    pub fecn: bool,
    /// Backward explicit congestion notification. Not protected by the ICRC.
    pub becn: bool,
    /// The queue pair that the packet is for.
    pub dest_qp: Qpn,
    /// Whether the responder is to acknowledge.
    pub ack_req: bool,
    /// The packet's sequence number.
    pub psn: Psn,
}

impl Bth {
    /// Its length in bytes.
    pub const LEN: usize = 12;

    /// A header with the usual values: MigReq set, the default P_Key, no pad, no flags.
    #[inline]
    #[must_use]
    pub const fn new(opcode: Opcode, dest_qp: Qpn, psn: Psn) -> Self {
        Self {
            opcode,
            solicited: false,
            mig_req: true,
            pad: 0,
            tver: 0,
            pkey: DEFAULT_PKEY,
            fecn: false,
            becn: false,
            dest_qp,
            ack_req: false,
            psn,
        }
    }

    /// Reads the header at the start of `bytes`; what follows it is ignored, and so are reserved bits. An
    /// opcode that isn't known is no error here, so that a device can still say which queue pair was meant.
    ///
    /// # Errors
    ///
    /// [`ParseError::Truncated`] under 12 bytes, [`ParseError::Version`] if TVer isn't 0.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let Some((bytes, _)) = bytes.split_first_chunk::<{ Self::LEN }>() else {
            return Err(ParseError::Truncated { what: Header::Bth, need: Self::LEN, have: bytes.len() });
        };
        let flags = bytes[FLAGS];
        let tver = flags & TVER_MASK;
        if tver != 0 {
            return Err(ParseError::Version(tver));
        }
        Ok(Self {
            opcode: Opcode::from_byte(bytes[OPCODE]),
            solicited: flags & SOLICITED != 0,
            mig_req: flags & MIG_REQ != 0,
            pad: (flags >> PAD_SHIFT) & PAD_MASK,
            tver,
            pkey: u16::from_be_bytes(get::<PKEY, _, _>(bytes)),
            fecn: bytes[CONGESTION] & FECN != 0,
            becn: bytes[CONGESTION] & BECN != 0,
            dest_qp: Qpn::truncate(get_u24::<DEST_QP, _>(bytes)),
            ack_req: bytes[ACK_REQ] & ACK_REQ_BIT != 0,
            psn: Psn::truncate(get_u24::<PSN, _>(bytes)),
        })
    }

    /// Writes the header, reserved bits as zero. Of `pad` and `tver` the bits that have a place are written.
    #[inline]
    pub fn encode(&self, out: &mut [u8; Self::LEN]) {
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        out[OPCODE] = self.opcode.to_byte();
        out[FLAGS] = bit(self.solicited, SOLICITED)
            | bit(self.mig_req, MIG_REQ)
            | (self.pad & PAD_MASK) << PAD_SHIFT
            | self.tver & TVER_MASK;
        put::<PKEY, _, _>(out, self.pkey.to_be_bytes());
        out[CONGESTION] = bit(self.fecn, FECN) | bit(self.becn, BECN);
        put_u24::<DEST_QP, _>(out, self.dest_qp.get());
        out[ACK_REQ] = bit(self.ack_req, ACK_REQ_BIT);
        put_u24::<PSN, _>(out, self.psn.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Operation;

    const BYTES: [u8; Bth::LEN] = [0x0a, 0xb0, 0x12, 0x34, 0xc0, 0xab, 0xcd, 0xef, 0x80, 0x65, 0x43, 0x21];

    fn fields() -> Bth {
        Bth {
            opcode: Opcode::rc(Operation::WriteOnly),
            solicited: true,
            mig_req: false,
            pad: 3,
            tver: 0,
            pkey: 0x1234,
            fecn: true,
            becn: true,
            dest_qp: Qpn::truncate(0xab_cdef),
            ack_req: true,
            psn: Psn::truncate(0x65_4321),
        }
    }

    #[test]
    fn bytes_and_fields_are_the_same_header() {
        assert_eq!(Bth::parse(&BYTES), Ok(fields()));
        let mut out = [0x55; Bth::LEN];
        fields().encode(&mut out);
        assert_eq!(out, BYTES);
    }

    #[test]
    fn each_flag_is_the_bit_it_should_be() {
        let plain = Bth { mig_req: false, ..Bth::new(Opcode::Cnp, Qpn::truncate(2), Psn::truncate(0)) };
        for (header, byte, bit) in [
            (Bth { solicited: true, ..plain }, 1, 0x80),
            (Bth { mig_req: true, ..plain }, 1, 0x40),
            (Bth { pad: 1, ..plain }, 1, 0x10),
            (Bth { fecn: true, ..plain }, 4, 0x80),
            (Bth { becn: true, ..plain }, 4, 0x40),
            (Bth { ack_req: true, ..plain }, 8, 0x80),
        ] {
            let mut expected = [0x81, 0, 0xff, 0xff, 0, 0, 0, 2, 0, 0, 0, 0];
            expected[byte] = bit;
            let mut out = [0x55; Bth::LEN];
            header.encode(&mut out);
            assert_eq!(out, expected);
            assert_eq!(Bth::parse(&expected), Ok(header));
        }
    }

    #[test]
    fn reserved_bits_are_ignored_on_receipt() {
        let mut bytes = BYTES;
        bytes[CONGESTION] |= 0x3f;
        bytes[ACK_REQ] |= 0x7f;
        assert_eq!(Bth::parse(&bytes), Ok(fields()));
    }

    #[test]
    fn another_version_is_refused() {
        for tver in 1..=15 {
            let mut bytes = BYTES;
            bytes[FLAGS] |= tver;
            assert_eq!(Bth::parse(&bytes), Err(ParseError::Version(tver)));
        }
    }

    #[test]
    fn too_wide_pad_and_version_do_not_reach_other_fields() {
        let mut out = [0; Bth::LEN];
        Bth { solicited: false, mig_req: false, pad: 0xfc, tver: 0xf0, ..fields() }.encode(&mut out);
        assert_eq!(out[FLAGS], 0);
    }

    #[test]
    fn fewer_than_12_bytes_are_truncated() {
        for have in 0..Bth::LEN {
            let expected = ParseError::Truncated { what: Header::Bth, need: 12, have };
            assert_eq!(Bth::parse(&BYTES[..have]), Err(expected));
        }
    }
}
