//! Opcodes: which transport, which operation, and which headers follow the BTH (IBA 9.2, table "OpCode field").
//!
//! ```text
//!   7   6   5   4   3   2   1   0
//! +-----------+-------------------+
//! | transport |     operation     |     RC 0x00, UC 0x20, UD 0x60, XRC 0xa0 • |
//! +-----------+-------------------+
//! ```
//!
//! | operation | codes | headers after the BTH, in this order | payload | RC | UC | UD | XRC |
//! |---|---|---|---|---|---|---|---|
//! | SEND first, middle, last, only | 0x00 0x01 0x02 0x04 | | yes | • | • | only | • |
//! | SEND last, only with immediate | 0x03 0x05 | ImmDt | yes | • | • | only | • |
//! | RDMA WRITE first, only | 0x06 0x0a | RETH | yes | • | • | | • |
//! | RDMA WRITE middle, last | 0x07 0x08 | | yes | • | • | | • |
//! | RDMA WRITE last with immediate | 0x09 | ImmDt | yes | • | • | | • |
//! | RDMA WRITE only with immediate | 0x0b | RETH, ImmDt | yes | • | • | | • |
//! | RDMA READ request | 0x0c | RETH | no | • | | | • |
//! | RDMA READ response first, last, only | 0x0d 0x0f 0x10 | AETH | yes | • | | | • |
//! | RDMA READ response middle | 0x0e | | yes | • | | | • |
//! | acknowledge | 0x11 | AETH | no | • | | | • |
//! | atomic acknowledge | 0x12 | AETH, AtomicAckETH | no | • | | | • |
//! | compare and swap, fetch and add | 0x13 0x14 | AtomicETH | no | • | | | • |
//! | SEND last, only with invalidate | 0x16 0x17 | IETH | yes | • | | | • |
//!
//! UD puts a DETH first, and XRC (IBA Annex A14) an XRCETH in each request. Of the opcodes outside these transports,
//! only RoCEv2's CNP (0x81, IBA Annex A17.9.3) is known here.

use super::Header;

/// A transport service that packets are sent with: an opcode's upper three bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Transport {
    /// Reliable connection.
    Rc = 0x00,
    /// Unreliable connection.
    Uc = 0x20,
    /// Unreliable datagram.
    Ud = 0x60,
    /// Extended reliable connection: a reliable connection whose requests name a shared receive queue.
    Xrc = 0xa0,
}

/// What a packet does: an opcode's lower five bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Operation {
    /// SEND, first packet of several.
    SendFirst = 0x00,
    /// SEND, neither first nor last.
    SendMiddle = 0x01,
    /// SEND, last packet of several.
    SendLast = 0x02,
    /// SEND, last packet of several, with immediate data.
    SendLastImm = 0x03,
    /// SEND in one packet.
    SendOnly = 0x04,
    /// SEND in one packet, with immediate data.
    SendOnlyImm = 0x05,
    /// RDMA WRITE, first packet of several.
    WriteFirst = 0x06,
    /// RDMA WRITE, neither first nor last.
    WriteMiddle = 0x07,
    /// RDMA WRITE, last packet of several.
    WriteLast = 0x08,
    /// RDMA WRITE, last packet of several, with immediate data.
    WriteLastImm = 0x09,
    /// RDMA WRITE in one packet.
    WriteOnly = 0x0a,
    /// RDMA WRITE in one packet, with immediate data.
    WriteOnlyImm = 0x0b,
    /// RDMA READ, the request.
    ReadRequest = 0x0c,
    /// RDMA READ, first response of several.
    ReadResponseFirst = 0x0d,
    /// RDMA READ, a response neither first nor last.
    ReadResponseMiddle = 0x0e,
    /// RDMA READ, last response of several.
    ReadResponseLast = 0x0f,
    /// RDMA READ, the response in one packet.
    ReadResponseOnly = 0x10,
    /// Acknowledgement, positive or negative: its AETH says which.
    Acknowledge = 0x11,
    /// The answer to an atomic operation: the value that was there before.
    AtomicAcknowledge = 0x12,
    /// Atomic compare and swap of 8 bytes.
    CompareSwap = 0x13,
    /// Atomic fetch and add of 8 bytes.
    FetchAdd = 0x14,
    /// SEND, last packet of several, that invalidates one of the receiver's rkeys.
    SendLastInvalidate = 0x16,
    /// SEND in one packet, that invalidates one of the receiver's rkeys.
    SendOnlyInvalidate = 0x17,
}

impl Operation {
    /// Every operation, in the order of their codes.
    pub const ALL: [Self; 23] = [
        Self::SendFirst,
        Self::SendMiddle,
        Self::SendLast,
        Self::SendLastImm,
        Self::SendOnly,
        Self::SendOnlyImm,
        Self::WriteFirst,
        Self::WriteMiddle,
        Self::WriteLast,
        Self::WriteLastImm,
        Self::WriteOnly,
        Self::WriteOnlyImm,
        Self::ReadRequest,
        Self::ReadResponseFirst,
        Self::ReadResponseMiddle,
        Self::ReadResponseLast,
        Self::ReadResponseOnly,
        Self::Acknowledge,
        Self::AtomicAcknowledge,
        Self::CompareSwap,
        Self::FetchAdd,
        Self::SendLastInvalidate,
        Self::SendOnlyInvalidate,
    ];

    /// An opcode's lower five bits, read as an operation.
    #[inline]
    const fn from_low_bits(byte: u8) -> Option<Self> {
        const BY_CODE: [Option<Operation>; 32] = {
            let mut table = [None; 32];
            let mut i = 0;
            while i < Operation::ALL.len() {
                table[Operation::ALL[i] as usize] = Some(Operation::ALL[i]);
                i += 1;
            }
            table
        };
        BY_CODE[(byte & 0x1f) as usize]
    }

    /// Whether the requester sends it (and the responder handles it); the others answer.
    #[inline]
    #[must_use]
    pub const fn is_request(self) -> bool {
        !self.is_response()
    }

    /// Whether the responder sends it (and the requester handles it).
    #[inline]
    #[must_use]
    pub const fn is_response(self) -> bool {
        self.is_read_response() || matches!(self, Self::Acknowledge | Self::AtomicAcknowledge)
    }

    /// Whether it is part of a SEND, of any kind.
    #[inline]
    #[must_use]
    pub const fn is_send(self) -> bool {
        matches!(
            self,
            Self::SendFirst
                | Self::SendMiddle
                | Self::SendLast
                | Self::SendLastImm
                | Self::SendOnly
                | Self::SendOnlyImm
                | Self::SendLastInvalidate
                | Self::SendOnlyInvalidate
        )
    }

    /// Whether it is part of an RDMA WRITE, with immediate data or without.
    #[inline]
    #[must_use]
    pub const fn is_write(self) -> bool {
        matches!(
            self,
            Self::WriteFirst
                | Self::WriteMiddle
                | Self::WriteLast
                | Self::WriteLastImm
                | Self::WriteOnly
                | Self::WriteOnlyImm
        )
    }

    /// Whether it is an atomic request.
    #[inline]
    #[must_use]
    pub const fn is_atomic(self) -> bool {
        matches!(self, Self::CompareSwap | Self::FetchAdd)
    }

    /// Whether it carries data that an RDMA READ asked for.
    #[inline]
    #[must_use]
    pub const fn is_read_response(self) -> bool {
        matches!(
            self,
            Self::ReadResponseFirst
                | Self::ReadResponseMiddle
                | Self::ReadResponseLast
                | Self::ReadResponseOnly
        )
    }

    /// Whether its message, or its READ's answer, begins with this packet.
    #[inline]
    #[must_use]
    pub const fn is_first_or_only(self) -> bool {
        !matches!(
            self,
            Self::SendMiddle
                | Self::SendLast
                | Self::SendLastImm
                | Self::SendLastInvalidate
                | Self::WriteMiddle
                | Self::WriteLast
                | Self::WriteLastImm
                | Self::ReadResponseMiddle
                | Self::ReadResponseLast
        )
    }

    /// Whether its message, or its READ's answer, ends with this packet.
    #[inline]
    #[must_use]
    pub const fn is_last_or_only(self) -> bool {
        !matches!(
            self,
            Self::SendFirst
                | Self::SendMiddle
                | Self::WriteFirst
                | Self::WriteMiddle
                | Self::ReadResponseFirst
                | Self::ReadResponseMiddle
        )
    }

    /// Whether a payload may follow its headers.
    #[inline]
    #[must_use]
    pub const fn carries_payload(self) -> bool {
        self.is_send() || self.is_write() || self.is_read_response()
    }

    /// Its extension headers on an extended reliable connection, in the order they are sent in.
    const fn xrc_extensions(self) -> &'static [Header] {
        match self {
            Self::SendFirst
            | Self::SendMiddle
            | Self::SendLast
            | Self::SendOnly
            | Self::WriteMiddle
            | Self::WriteLast => &[Header::XrcEth],
            Self::SendLastImm | Self::SendOnlyImm | Self::WriteLastImm => &[Header::XrcEth, Header::ImmDt],
            Self::SendLastInvalidate | Self::SendOnlyInvalidate => &[Header::XrcEth, Header::Ieth],
            Self::WriteFirst | Self::WriteOnly | Self::ReadRequest => &[Header::XrcEth, Header::Reth],
            Self::WriteOnlyImm => &[Header::XrcEth, Header::Reth, Header::ImmDt],
            Self::CompareSwap | Self::FetchAdd => &[Header::XrcEth, Header::AtomicEth],
            Self::ReadResponseFirst
            | Self::ReadResponseMiddle
            | Self::ReadResponseLast
            | Self::ReadResponseOnly
            | Self::Acknowledge
            | Self::AtomicAcknowledge => self.extensions(),
        }
    }

    /// Its extension headers on a connection (RC, UC), in the order they are sent in.
    const fn extensions(self) -> &'static [Header] {
        match self {
            Self::SendLastImm | Self::SendOnlyImm | Self::WriteLastImm => &[Header::ImmDt],
            Self::SendLastInvalidate | Self::SendOnlyInvalidate => &[Header::Ieth],
            Self::WriteFirst | Self::WriteOnly | Self::ReadRequest => &[Header::Reth],
            Self::WriteOnlyImm => &[Header::Reth, Header::ImmDt],
            Self::ReadResponseFirst | Self::ReadResponseLast | Self::ReadResponseOnly | Self::Acknowledge => {
                &[Header::Aeth]
            }
            Self::AtomicAcknowledge => &[Header::Aeth, Header::AtomicAckEth],
            Self::CompareSwap | Self::FetchAdd => &[Header::AtomicEth],
            Self::SendFirst
            | Self::SendMiddle
            | Self::SendLast
            | Self::SendOnly
            | Self::WriteMiddle
            | Self::WriteLast
            | Self::ReadResponseMiddle => &[],
        }
    }
}

/// A BTH's opcode: total over all 256 bytes, so that reading one can't fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Opcode {
    /// An operation of a transport. [`from_byte`](Self::from_byte) makes only combinations that exist (see
    /// the table above).
    Known {
        /// The transport service.
        transport: Transport,
        /// What the packet does.
        operation: Operation,
    },
    /// A RoCEv2 congestion notification packet, 0x81 (IBA Annex A17.9.3): BECN set, MigReq clear, PSN 0, and
    /// 16 reserved bytes, which are sent as zero and ignored on receipt. rxe doesn't know it: don't send it
    /// there.
    Cnp,
    /// Every other byte.
    Unknown(u8),
}

impl Opcode {
    const CNP: u8 = 0x81;

    /// A reliable connection's opcode.
    #[inline]
    #[must_use]
    pub const fn rc(operation: Operation) -> Self {
        Self::Known { transport: Transport::Rc, operation }
    }

    /// Reads an opcode byte.
    #[inline]
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        if byte == Self::CNP {
            return Self::Cnp;
        }
        let transport = match byte & 0xe0 {
            0x00 => Transport::Rc,
            0x20 => Transport::Uc,
            0x60 => Transport::Ud,
            0xa0 => Transport::Xrc,
            _ => return Self::Unknown(byte),
        };
        match Operation::from_low_bits(byte) {
            Some(operation) if transport.offers(operation) => Self::Known { transport, operation },
            _ => Self::Unknown(byte),
        }
    }

    /// The opcode byte.
    #[inline]
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Known { transport, operation } => transport as u8 | operation as u8,
            Self::Cnp => Self::CNP,
            Self::Unknown(byte) => byte,
        }
    }

    /// The headers that follow the BTH, in the order they are sent in; `None` if there is no such opcode.
    #[inline]
    pub(super) const fn extensions(self) -> Option<&'static [Header]> {
        match self {
            Self::Known { transport, operation } if !transport.offers(operation) => None,
            Self::Known { transport: Transport::Ud, operation: Operation::SendOnlyImm } => {
                Some(&[Header::Deth, Header::ImmDt])
            }
            Self::Known { transport: Transport::Ud, .. } => Some(&[Header::Deth]),
            Self::Known { transport: Transport::Xrc, operation } => Some(operation.xrc_extensions()),
            Self::Known { operation, .. } => Some(operation.extensions()),
            Self::Cnp => Some(&[Header::CnpReserved]),
            Self::Unknown(_) => None,
        }
    }

    /// Whether a payload may follow its headers.
    #[inline]
    #[must_use]
    pub const fn carries_payload(self) -> bool {
        matches!(self, Self::Known { operation, .. } if operation.carries_payload())
    }
}

impl Transport {
    /// Whether requests are acknowledged.
    #[inline]
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        matches!(self, Self::Rc | Self::Xrc)
    }

    /// Whether this transport has that operation.
    #[inline]
    #[must_use]
    pub const fn offers(self, operation: Operation) -> bool {
        match self {
            Self::Rc | Self::Xrc => true,
            Self::Uc => {
                operation.is_write()
                    || operation.is_send()
                        && !matches!(operation, Operation::SendLastInvalidate | Operation::SendOnlyInvalidate)
            }
            Self::Ud => matches!(operation, Operation::SendOnly | Operation::SendOnlyImm),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exists(byte: u8) -> bool {
        matches!(byte, 0x00..=0x14 | 0x16 | 0x17 | 0x20..=0x2b | 0x64 | 0x65 | 0xa0..=0xb4 | 0xb6 | 0xb7)
    }

    #[test]
    fn every_byte_survives_reading_and_writing() {
        for byte in 0..=u8::MAX {
            assert_eq!(Opcode::from_byte(byte).to_byte(), byte);
        }
    }

    #[test]
    fn only_opcodes_that_exist_are_known() {
        for byte in 0..=u8::MAX {
            match Opcode::from_byte(byte) {
                Opcode::Known { .. } => assert!(exists(byte), "{byte:#04x}"),
                Opcode::Cnp => assert_eq!(byte, 0x81),
                Opcode::Unknown(same) => {
                    assert_eq!(same, byte);
                    assert!(byte != 0x81 && !exists(byte), "{byte:#04x}");
                }
            }
        }
    }

    #[test]
    fn a_combination_that_does_not_exist_has_no_headers() {
        for transport in [Transport::Rc, Transport::Uc, Transport::Ud, Transport::Xrc] {
            for operation in Operation::ALL {
                let opcode = Opcode::Known { transport, operation };
                assert_eq!(opcode.extensions().is_some(), exists(opcode.to_byte()), "{opcode:?}");
            }
        }
    }

    /// The operations' codes for which `property` holds.
    fn codes(property: impl Fn(Operation) -> bool) -> Vec<u8> {
        Operation::ALL.into_iter().filter(|&operation| property(operation)).map(|o| o as u8).collect()
    }

    #[test]
    fn operations_have_the_properties_of_their_names() {
        assert_eq!(codes(Operation::is_send), [0, 1, 2, 3, 4, 5, 0x16, 0x17]);
        assert_eq!(codes(Operation::is_write), [6, 7, 8, 9, 10, 11]);
        assert_eq!(codes(Operation::is_read_response), [0x0d, 0x0e, 0x0f, 0x10]);
        assert_eq!(codes(Operation::is_atomic), [0x13, 0x14]);
        assert_eq!(codes(Operation::is_response), [0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12]);
        assert_eq!(codes(|operation| !operation.carries_payload()), [0x0c, 0x11, 0x12, 0x13, 0x14]);
        assert_eq!(codes(|operation| !operation.is_first_or_only()), [1, 2, 3, 7, 8, 9, 0x0e, 0x0f, 0x16]);
        assert_eq!(codes(|operation| !operation.is_last_or_only()), [0, 1, 6, 7, 0x0d, 0x0e]);
        for operation in Operation::ALL {
            assert_ne!(operation.is_request(), operation.is_response());
        }
    }
}
