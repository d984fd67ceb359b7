//! Why bytes are no packet, and why a packet can't be written.

use core::fmt;

use super::atomic::ATOMIC_ACK_LEN;
use super::ieth::IETH_LEN;
use super::immediate::IMMEDIATE_LEN;
use super::packet::CNP_RESERVED_LEN;
use super::xrceth::XRCETH_LEN;
use super::{Aeth, AtomicEth, Bth, Deth, Opcode, Reth};

/// A header's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Header {
    /// The base transport header.
    Bth,
    /// The RDMA extended transport header.
    Reth,
    /// The atomic extended transport header.
    AtomicEth,
    /// The ACK extended transport header.
    Aeth,
    /// The atomic ACK extended transport header.
    AtomicAckEth,
    /// The datagram extended transport header.
    Deth,
    /// The XRC extended transport header.
    XrcEth,
    /// Immediate data.
    ImmDt,
    /// The invalidate extended transport header.
    Ieth,
    /// The 16 reserved bytes of a CNP.
    CnpReserved,
}

impl Header {
    /// Its length in bytes.
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no header is empty")]
    pub const fn len(self) -> usize {
        match self {
            Self::Bth => Bth::LEN,
            Self::Reth => Reth::LEN,
            Self::AtomicEth => AtomicEth::LEN,
            Self::Aeth => Aeth::LEN,
            Self::AtomicAckEth => ATOMIC_ACK_LEN,
            Self::Deth => Deth::LEN,
            Self::XrcEth => XRCETH_LEN,
            Self::ImmDt => IMMEDIATE_LEN,
            Self::Ieth => IETH_LEN,
            Self::CnpReserved => CNP_RESERVED_LEN,
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bth => "BTH",
            Self::Reth => "RETH",
            Self::AtomicEth => "AtomicETH",
            Self::Aeth => "AETH",
            Self::AtomicAckEth => "AtomicAckETH",
            Self::Deth => "DETH",
            Self::XrcEth => "XRCETH",
            Self::ImmDt => "ImmDt",
            Self::Ieth => "IETH",
            Self::CnpReserved => "CNP's reserved field",
        })
    }
}

/// Why bytes are no packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseError {
    /// The bytes end inside a header.
    #[error("the packet ends inside its {what}: {need} bytes needed, {have} left")]
    Truncated {
        /// The header that isn't whole.
        what: Header,
        /// Its length in bytes.
        need: usize,
        /// The bytes that are left for it.
        have: usize,
    },
    /// The transport header version isn't 0.
    #[error("transport header version {0}, only 0 exists")]
    Version(u8),
    /// There is no such opcode, or not in the transports that this crate knows.
    #[error("unknown opcode {0:#04x}")]
    UnknownOpcode(u8),
    /// What follows the headers isn't a multiple of four bytes.
    #[error("{len} bytes of payload and pad, not a multiple of 4")]
    Unaligned {
        /// Bytes of payload and pad.
        len: usize,
    },
    /// More pad is announced than bytes are there.
    #[error("{pad} bytes of pad announced, {len} bytes of payload and pad there")]
    Pad {
        /// Bytes of pad announced.
        pad: u8,
        /// Bytes of payload and pad.
        len: usize,
    },
    /// Bytes follow the headers of an opcode that carries no payload.
    #[error("{len} bytes of payload or pad after {opcode:?}, which carries none")]
    UnexpectedPayload {
        /// The opcode.
        opcode: Opcode,
        /// Bytes of payload and pad.
        len: usize,
    },
}

impl ParseError {
    /// Every value of [`reason`](Self::reason), for counters.
    pub const REASONS: [&'static str; 6] =
        ["truncated", "version", "unknown_opcode", "unaligned", "pad", "unexpected_payload"];

    /// A short, constant name of the reason, for counters.
    #[inline]
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        Self::REASONS[match self {
            Self::Truncated { .. } => 0,
            Self::Version(_) => 1,
            Self::UnknownOpcode(_) => 2,
            Self::Unaligned { .. } => 3,
            Self::Pad { .. } => 4,
            Self::UnexpectedPayload { .. } => 5,
        }]
    }
}

/// Why a packet can't be written: a mistake of the caller, never of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// There is no such opcode.
    #[error("opcode {0:#04x} doesn't exist")]
    UnknownOpcode(u8),
    /// The opcode carries a header that wasn't given.
    #[error("the opcode carries a header that wasn't given: {0}")]
    Missing(Header),
    /// A header was given that the opcode doesn't carry.
    #[error("a header was given that the opcode doesn't carry: {0}")]
    Unexpected(Header),
    /// A payload was announced for an opcode that carries none.
    #[error("{len} bytes of payload for {opcode:?}, which carries none")]
    UnexpectedPayload {
        /// The opcode.
        opcode: Opcode,
        /// Bytes announced.
        len: usize,
    },
    /// The buffer is too short.
    #[error("the packet needs {need} bytes, the buffer has {have}")]
    NoRoom {
        /// Bytes needed, without ICRC.
        need: usize,
        /// The buffer's length.
        have: usize,
    },
}
