//! The ACK extended transport header (IBA 9.3, AETH; what the syndrome means: 9.7.5).
//!
//! Three bits that name no kind, and NAK codes that have no meaning, are [`Syndrome::Reserved`].
//!
//! ```text
//!  byte 0          1                                               4
//! +---------------+-----------------------------------------------+
//! |   syndrome    |                      MSN                      |
//! +---------------+-----------------------------------------------+
//!
//! syndrome   7 6 5 4 3 2 1 0
//!            0 0 0  credits    ACK; 0x1f: no credits are given
//!            0 0 1   timer     RNR NAK; the code of the least time to wait
//!            0 1 1   code      NAK; the codes of `NakCode`
//! ```

use super::fields::{get_u24, put_u24};

const SYNDROME: usize = 0;
const MSN: usize = 1;

const KIND_MASK: u8 = 0xe0;
const VALUE_MASK: u8 = 0x1f;
const ACK: u8 = 0x00;
const RNR_NAK: u8 = 0x20;
const NAK: u8 = 0x60;

/// Why a responder refuses a request for good, or asks for it again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum NakCode {
    /// A packet is missing: send again from the PSN that the NAK carries.
    PsnSequenceError = 0,
    /// The request can't be right: opcode out of order, length, alignment, an operation that the queue pair
    /// doesn't allow.
    InvalidRequest = 1,
    /// The key, the range or the access right doesn't fit.
    RemoteAccess = 2,
    /// The responder failed by itself.
    RemoteOperational = 3,
    /// Reliable datagrams only.
    InvalidRdRequest = 4,
}

/// What an acknowledgement says. Total over all 256 bytes, so that reading one can't fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Syndrome {
    /// Everything up to the PSN arrived.
    Ack {
        /// An encoded count of receive requests that are free, 5 bits; [`Syndrome::NO_CREDITS`]: none given,
        /// don't count.
        credits: u8,
    },
    /// No receive request was there ("receiver not ready"): wait, then send again from the PSN.
    RnrNak {
        /// The code of the least time to wait, 5 bits.
        timer: u8,
    },
    /// The request at the PSN was refused.
    Nak(NakCode),
    /// A byte that no meaning was given to.
    Reserved(u8),
}

impl Syndrome {
    /// The credit value of a responder that doesn't count receive requests, as rxe doesn't.
    pub const NO_CREDITS: u8 = VALUE_MASK;

    /// Reads a syndrome byte.
    #[inline]
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        let value = byte & VALUE_MASK;
        match (byte & KIND_MASK, value) {
            (ACK, credits) => Self::Ack { credits },
            (RNR_NAK, timer) => Self::RnrNak { timer },
            (NAK, 0) => Self::Nak(NakCode::PsnSequenceError),
            (NAK, 1) => Self::Nak(NakCode::InvalidRequest),
            (NAK, 2) => Self::Nak(NakCode::RemoteAccess),
            (NAK, 3) => Self::Nak(NakCode::RemoteOperational),
            (NAK, 4) => Self::Nak(NakCode::InvalidRdRequest),
            _ => Self::Reserved(byte),
        }
    }

    /// The syndrome byte; of `credits` and `timer` the low 5 bits.
    #[inline]
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Ack { credits } => ACK | credits & VALUE_MASK,
            Self::RnrNak { timer } => RNR_NAK | timer & VALUE_MASK,
            Self::Nak(code) => NAK | code as u8,
            Self::Reserved(byte) => byte,
        }
    }
}

/// An ACK extended transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aeth {
    /// What is acknowledged or refused.
    pub syndrome: Syndrome,
    /// The responder's message sequence number, 24 bits: how many requests it has completed.
    pub msn: u32,
}

impl Aeth {
    /// Its length in bytes.
    pub const LEN: usize = 4;

    /// Reads the header.
    #[inline]
    #[must_use]
    pub fn decode(bytes: &[u8; Self::LEN]) -> Self {
        Self { syndrome: Syndrome::from_byte(bytes[SYNDROME]), msn: get_u24::<MSN, _>(bytes) }
    }

    /// Writes the header; of `msn` the low 24 bits.
    #[inline]
    pub fn encode(&self, out: &mut [u8; Self::LEN]) {
        out[SYNDROME] = self.syndrome.to_byte();
        put_u24::<MSN, _>(out, self.msn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_fields_are_the_same_header() {
        let bytes = [0x2e, 0xab, 0xcd, 0xef];
        let fields = Aeth { syndrome: Syndrome::RnrNak { timer: 14 }, msn: 0xab_cdef };
        assert_eq!(Aeth::decode(&bytes), fields);
        let mut out = [0x55; Aeth::LEN];
        fields.encode(&mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn a_message_number_over_24_bits_does_not_reach_the_syndrome() {
        let mut out = [0; Aeth::LEN];
        Aeth { syndrome: Syndrome::Ack { credits: 0 }, msn: 0xff00_0001 }.encode(&mut out);
        assert_eq!(out, [0, 0, 0, 1]);
    }

    #[test]
    fn the_syndromes_that_peers_send_mean_what_rxe_means() {
        for (byte, syndrome) in [
            (0x00, Syndrome::Ack { credits: 0 }),
            (0x1f, Syndrome::Ack { credits: Syndrome::NO_CREDITS }),
            (0x20, Syndrome::RnrNak { timer: 0 }),
            (0x3f, Syndrome::RnrNak { timer: 31 }),
            (0x60, Syndrome::Nak(NakCode::PsnSequenceError)),
            (0x61, Syndrome::Nak(NakCode::InvalidRequest)),
            (0x62, Syndrome::Nak(NakCode::RemoteAccess)),
            (0x63, Syndrome::Nak(NakCode::RemoteOperational)),
            (0x64, Syndrome::Nak(NakCode::InvalidRdRequest)),
            (0x40, Syndrome::Reserved(0x40)),
            (0x65, Syndrome::Reserved(0x65)),
            (0x80, Syndrome::Reserved(0x80)),
            (0xe1, Syndrome::Reserved(0xe1)),
        ] {
            assert_eq!(Syndrome::from_byte(byte), syndrome);
            assert_eq!(syndrome.to_byte(), byte);
        }
    }

    #[test]
    fn every_byte_survives_reading_and_writing() {
        for byte in 0..=u8::MAX {
            assert_eq!(Syndrome::from_byte(byte).to_byte(), byte);
        }
    }

    #[test]
    fn too_wide_values_do_not_change_the_kind() {
        assert_eq!(Syndrome::Ack { credits: 0xff }.to_byte(), 0x1f);
        assert_eq!(Syndrome::RnrNak { timer: 0xff }.to_byte(), 0x3f);
    }
}
