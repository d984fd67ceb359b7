//! Whole packets: all headers of one, its payload and its pad.
//!
//! ```text
//! +------+--------------------------+---------+----------+ +------+
//! | BTH  | extension headers by     | payload | 0 to 3   | | ICRC |
//! |      | opcode, 0 to 32 bytes    |         | pad bytes| |      |
//! +------+--------------------------+---------+----------+ +------+
//! |<--------------- Packet, Headers::frame ------------->|  module icrc
//! ```
//!
//! Payload and pad together are a multiple of four bytes. Pad is sent as zero and ignored on receipt (IBA 9.2, PadCnt).

use super::atomic::ATOMIC_ACK_LEN;
use super::ieth::IETH_LEN;
use super::immediate::IMMEDIATE_LEN;
use super::xrceth::{self, XRCETH_LEN};
use super::{Aeth, AtomicEth, Bth, Deth, EncodeError, Header, Opcode, ParseError, Reth};
use crate::Srqn;

/// The headers of one packet: the BTH and whatever extension headers its opcode carries (see [`Opcode`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// The base transport header.
    pub bth: Bth,
    /// Address, key and length of an RDMA WRITE or READ.
    pub reth: Option<Reth>,
    /// Address, key and operands of an atomic operation.
    pub atomic: Option<AtomicEth>,
    /// What is acknowledged.
    pub aeth: Option<Aeth>,
    /// The value that an atomic operation found.
    pub atomic_ack: Option<u64>,
    /// Queue key and sender of a datagram.
    pub deth: Option<Deth>,
    /// The shared receive queue that a request of an extended reliable connection names.
    pub xrc_srq: Option<Srqn>,
    /// Immediate data: its four bytes read as a big-endian number.
    pub immediate: Option<u32>,
    /// The rkey that the receiver is to invalidate.
    pub invalidate: Option<u32>,
}

/// A packet under construction: its headers and pad are written, its payload is the caller's to write.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Where the payload goes, exactly as long as it was announced.
    pub payload: &'a mut [u8],
    /// Bytes from the BTH through the pad. The ICRC goes behind them.
    pub len: usize,
}

impl Headers {
    /// The most bytes that headers take: BTH, XRCETH and AtomicETH.
    pub const MAX_LEN: usize = Bth::LEN + XRCETH_LEN + AtomicEth::LEN;

    /// Only a BTH, no extension header yet.
    #[inline]
    #[must_use]
    pub const fn new(bth: Bth) -> Self {
        Self {
            bth,
            reth: None,
            atomic: None,
            aeth: None,
            atomic_ack: None,
            deth: None,
            xrc_srq: None,
            immediate: None,
            invalidate: None,
        }
    }

    /// Header bytes of a packet with that opcode; a BTH's for one that isn't known. A CNP's 16 reserved bytes
    /// count as header.
    #[inline]
    #[must_use]
    pub fn len_for(opcode: Opcode) -> usize {
        Bth::LEN + opcode.extensions().unwrap_or_default().iter().map(|header| header.len()).sum::<usize>()
    }

    /// The extension headers that are there.
    #[inline]
    fn given(&self) -> impl Iterator<Item = Header> {
        [
            (self.reth.is_some(), Header::Reth),
            (self.atomic.is_some(), Header::AtomicEth),
            (self.aeth.is_some(), Header::Aeth),
            (self.atomic_ack.is_some(), Header::AtomicAckEth),
            (self.deth.is_some(), Header::Deth),
            (self.xrc_srq.is_some(), Header::XrcEth),
            (self.immediate.is_some(), Header::ImmDt),
            (self.invalidate.is_some(), Header::Ieth),
        ]
        .into_iter()
        .filter_map(|(given, header)| given.then_some(header))
    }

    /// Writes the headers at the start of `out` and returns how many bytes they take.
    ///
    /// # Errors
    ///
    /// The caller's mistakes: an opcode that doesn't exist, a header that is missing or that the opcode
    /// doesn't carry, an `out` that is too short. `out` may then be partly written.
    #[inline]
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        self.encode_with_pad(out, self.bth.pad)
    }

    #[inline]
    fn encode_with_pad(&self, out: &mut [u8], pad: u8) -> Result<usize, EncodeError> {
        let opcode = self.bth.opcode;
        let extensions = opcode.extensions().ok_or(EncodeError::UnknownOpcode(opcode.to_byte()))?;
        if let Some(header) = self.given().find(|header| !extensions.contains(header)) {
            return Err(EncodeError::Unexpected(header));
        }
        let have = out.len();
        let no_room = EncodeError::NoRoom { need: Self::len_for(opcode), have };
        let mut rest = out;

        Bth { pad, ..self.bth }.encode(reserve(&mut rest).ok_or(no_room)?);
        for &header in extensions {
            let missing = EncodeError::Missing(header);
            match header {
                Header::Bth => {}
                Header::Reth => {
                    self.reth.ok_or(missing)?.encode(reserve(&mut rest).ok_or(no_room)?);
                }
                Header::AtomicEth => {
                    self.atomic.ok_or(missing)?.encode(reserve(&mut rest).ok_or(no_room)?);
                }
                Header::Aeth => {
                    self.aeth.ok_or(missing)?.encode(reserve(&mut rest).ok_or(no_room)?);
                }
                Header::AtomicAckEth => {
                    *reserve(&mut rest).ok_or(no_room)? = self.atomic_ack.ok_or(missing)?.to_be_bytes();
                }
                Header::Deth => {
                    self.deth.ok_or(missing)?.encode(reserve(&mut rest).ok_or(no_room)?);
                }
                Header::XrcEth => {
                    xrceth::encode(self.xrc_srq.ok_or(missing)?, reserve(&mut rest).ok_or(no_room)?);
                }
                Header::ImmDt => {
                    *reserve(&mut rest).ok_or(no_room)? = self.immediate.ok_or(missing)?.to_be_bytes();
                }
                Header::Ieth => {
                    *reserve(&mut rest).ok_or(no_room)? = self.invalidate.ok_or(missing)?.to_be_bytes();
                }
                Header::CnpReserved => {
                    *reserve(&mut rest).ok_or(no_room)? = [0; CNP_RESERVED_LEN];
                }
            }
        }
        Ok(have - rest.len())
    }

    /// Lays out a packet with a payload of `payload_len` bytes in `out`: writes headers and pad, and returns
    /// the place for the payload. The pad count is worked out here, whatever `bth.pad` says.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode), and a payload that the opcode doesn't carry.
    #[inline]
    pub fn frame<'a>(&self, out: &'a mut [u8], payload_len: usize) -> Result<Frame<'a>, EncodeError> {
        let opcode = self.bth.opcode;
        if payload_len > 0 && !opcode.carries_payload() {
            return Err(EncodeError::UnexpectedPayload { opcode, len: payload_len });
        }
        let pad = [0, 3, 2, 1][payload_len % 4];
        let start = self.encode_with_pad(out, pad)?;
        let pad = usize::from(pad);
        let len = start.saturating_add(payload_len).saturating_add(pad);
        let no_room = EncodeError::NoRoom { need: len, have: out.len() };
        let (payload, tail) = out[start..].split_at_mut_checked(payload_len).ok_or(no_room)?;
        tail.get_mut(..pad).ok_or(no_room)?.fill(0);
        Ok(Frame { payload, len })
    }
}

/// Reserved bytes of a CNP (IBA Annex A17.9.3).
pub(super) const CNP_RESERVED_LEN: usize = 16;

/// Takes `N` bytes off the front of `rest` to write to.
#[inline]
fn reserve<'a, const N: usize>(rest: &mut &'a mut [u8]) -> Option<&'a mut [u8; N]> {
    let (front, back) = core::mem::take(rest).split_first_chunk_mut()?;
    *rest = back;
    Some(front)
}

/// Takes `N` bytes, those of `what`, off the front of `rest` to read from.
#[inline]
fn take<'a, const N: usize>(rest: &mut &'a [u8], what: Header) -> Result<&'a [u8; N], ParseError> {
    let Some((front, back)) = rest.split_first_chunk() else {
        return Err(ParseError::Truncated { what, need: N, have: rest.len() });
    };
    *rest = back;
    Ok(front)
}

/// A packet as a UDP payload holds it, without its ICRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its headers: exactly those that the opcode carries are there.
    pub headers: Headers,
    /// Its payload, without pad.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet from BTH through pad. What needs a queue pair to judge (path MTU, lengths against the
    /// RETH, P_Key, opcode order) isn't judged here.
    ///
    /// # Errors
    ///
    /// Whatever makes the bytes no packet: see [`ParseError`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let bth = Bth::parse(bytes)?;
        let extensions = bth.opcode.extensions().ok_or(ParseError::UnknownOpcode(bth.opcode.to_byte()))?;
        let mut headers = Headers::new(bth);
        let mut rest = &bytes[Bth::LEN..];
        for &header in extensions {
            match header {
                Header::Bth => {}
                Header::Reth => headers.reth = Some(Reth::decode(take(&mut rest, header)?)),
                Header::AtomicEth => headers.atomic = Some(AtomicEth::decode(take(&mut rest, header)?)),
                Header::Aeth => headers.aeth = Some(Aeth::decode(take(&mut rest, header)?)),
                Header::AtomicAckEth => {
                    headers.atomic_ack =
                        Some(u64::from_be_bytes(*take::<ATOMIC_ACK_LEN>(&mut rest, header)?));
                }
                Header::Deth => headers.deth = Some(Deth::decode(take(&mut rest, header)?)),
                Header::XrcEth => headers.xrc_srq = Some(xrceth::decode(take(&mut rest, header)?)),
                Header::ImmDt => {
                    headers.immediate = Some(u32::from_be_bytes(*take::<IMMEDIATE_LEN>(&mut rest, header)?));
                }
                Header::Ieth => {
                    headers.invalidate = Some(u32::from_be_bytes(*take::<IETH_LEN>(&mut rest, header)?));
                }
                Header::CnpReserved => {
                    take::<CNP_RESERVED_LEN>(&mut rest, header)?;
                }
            }
        }
        Ok(Self { headers, payload: strip_pad(&bth, rest)? })
    }
}

/// What follows the headers, checked and without its pad.
#[inline]
fn strip_pad<'a>(bth: &Bth, rest: &'a [u8]) -> Result<&'a [u8], ParseError> {
    let len = rest.len();
    if !len.is_multiple_of(4) {
        return Err(ParseError::Unaligned { len });
    }
    let pad = bth.pad;
    let payload =
        len.checked_sub(pad.into()).and_then(|end| rest.get(..end)).ok_or(ParseError::Pad { pad, len })?;
    if !bth.opcode.carries_payload() && len > 0 {
        return Err(ParseError::UnexpectedPayload { opcode: bth.opcode, len });
    }
    Ok(payload)
}
