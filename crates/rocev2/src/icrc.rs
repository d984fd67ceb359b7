//! The invariant CRC over everything in a packet that doesn't change on its way (IBA 7.8.1 and Annex A17.3.3;
//! rxe's `rxe_icrc.c`).
//!
//! It is the ordinary CRC-32 (reflected polynomial 0xEDB88320) over 8 bytes of ones, the IP and UDP headers,
//! and the packet from BTH through pad, with the fields that routers change set to ones. It stands behind the
//! pad, **little-endian**.
//!
//! | | set to ones | as sent |
//! |---|---|---|
//! | IPv4 | TOS, TTL, header checksum | version, IHL, total length, identification, flags, protocol, addresses |
//! | IPv6 | traffic class, flow label, hop limit | version, payload length, next header, addresses |
//! | UDP | checksum | ports, length |
//! | BTH | byte 4: FECN, BECN, reserved | the rest |
//!
//! # One pass over the packet
//!
//! A CRC register is a polynomial of degree under 32 over GF(2). Reading n bytes multiplies it by x^8n and
//! adds (XOR) something that depends on those bytes alone, modulo the CRC's polynomial. So every field adds
//! its own share, and a share can be carried to another place in the stream by multiplying with a power of x,
//! of positive or negative exponent: the polynomial has a constant term, so x has an inverse. A
//! [`PseudoHeader`] holds the register behind a UDP header whose lengths and identification are zero. For a
//! packet, the shares of those fields, and of BTH byte 4's masking (carried five bytes *back*), are added,
//! and the CRC then runs once over the packet's own bytes, where they are. The shares come from tables.
//!
//! # The identification that a receiver can't see
//!
//! No socket API shows a received packet's IPv4 identification, and not every sender's is predictable.
//! Compute the ICRC with a guess; its difference to the one received is the share of (right XOR guessed),
//! carried over the rest of the packet. Carry it back, by multiplying with x^-8n, and 16 bits in the field's
//! place must remain: they *are* the difference. Where anything else remains, the packet is corrupt.
//!
//! The price: a packet whose identification isn't the expected one has 16 check bits left instead of 32 (the
//! UDP checksum stands beside them). A random packet passes with probability 2^-16; one flipped bit in a
//! packet of up to 4124 bytes never does. A caller who knows the peer's identifications can insist on them:
//! [`Verified::id`]. The ICRC has no key: it finds accidents, never attacks.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::wire::Bth;
use crate::wire::bth::CONGESTION;

/// The length of an ICRC in bytes.
pub const LEN: usize = 4;

const UDP_LEN: usize = 8;
const IPV4_LEN: usize = 20;
const PROTOCOL_UDP: u8 = 17;
/// What stands for an InfiniBand local route header, which RoCE doesn't have.
const MASKED_LRH: [u8; 8] = [0xff; 8];

/// IPv4's fields that differ from packet to packet: bytes 2 and 4 of 20, and the UDP header behind.
const TOTAL_LENGTH: Share = Share::before(IPV4_LEN - 4 + UDP_LEN);
const ID_TO_BTH: usize = IPV4_LEN - 6 + UDP_LEN;
const IDENTIFICATION: Share = Share::before(ID_TO_BTH);
/// The UDP header's length, with its checksum behind.
const UDP_LENGTH: Share = Share::before(2);
/// IPv6's payload length (bytes 4 and 5 of 40), which equals UDP's length: both at once.
const IPV6_AND_UDP_LENGTH: Share = Share::before(40 - 6 + UDP_LEN).plus(&UDP_LENGTH);
/// BTH byte 4, carried back to before the BTH.
const MASK: Share = Share::inside(CONGESTION);

/// The IP addresses and UDP ports that the ICRC covers: computed once for each direction of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PseudoHeader {
    version: Version,
    /// The CRC-32 up to the end of the UDP header, with lengths and identification zero.
    start: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    V4,
    V6,
}

/// Source and destination address aren't of the same IP version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no packet can go from {src} to {dst}: one is IPv4, the other IPv6")]
pub struct MixedFamilies {
    /// The source address.
    pub src: SocketAddr,
    /// The destination address.
    pub dst: SocketAddr,
}

/// Why a received datagram isn't accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IcrcError {
    /// It has no room for a BTH and an ICRC.
    #[error("{have} bytes: too short for a BTH and an ICRC, {need} bytes")]
    Truncated {
        /// Bytes that a BTH and an ICRC take.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// The ICRC fits no identification.
    #[error("the ICRC doesn't match the packet")]
    Mismatch,
}

/// A datagram whose ICRC is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verified<'a> {
    /// The packet from BTH through pad.
    pub packet: &'a [u8],
    /// The IPv4 identification that it was sent with; `None` for IPv6, which has none.
    pub id: Option<u16>,
}

impl PseudoHeader {
    /// For packets from `src` to `dst`. An IPv4-mapped IPv6 address (`::ffff:a.b.c.d`), as a dual-stack
    /// socket gives, means IPv4.
    ///
    /// # Errors
    ///
    /// [`MixedFamilies`] if one address is IPv4 and the other IPv6.
    pub fn new(src: SocketAddr, dst: SocketAddr) -> Result<Self, MixedFamilies> {
        match (src.ip().to_canonical(), dst.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Ok(Self::v4(from, to, src.port(), dst.port())),
            (IpAddr::V6(from), IpAddr::V6(to)) => Ok(Self::v6(from, to, src.port(), dst.port())),
            _ => Err(MixedFamilies { src, dst }),
        }
    }

    /// For IPv4 packets without options, with DF set and not fragmented: the only ones there are (IBA Annex
    /// A17.3.1.1, CA17-3, CA17-7 and CA17-8).
    #[must_use]
    pub fn v4(src: Ipv4Addr, dst: Ipv4Addr, src_port: u16, dst_port: u16) -> Self {
        const VERSION_AND_IHL: u8 = 0x45;
        const DF: [u8; 2] = [0x40, 0x00];
        let mut crc = crc32fast::Hasher::new();
        crc.update(&MASKED_LRH);
        crc.update(&[VERSION_AND_IHL, 0xff, 0, 0, 0, 0, DF[0], DF[1], 0xff, PROTOCOL_UDP, 0xff, 0xff]);
        crc.update(&src.octets());
        crc.update(&dst.octets());
        Self { version: Version::V4, start: Self::behind_udp(crc, src_port, dst_port) }
    }

    /// For IPv6 packets without extension headers.
    #[must_use]
    pub fn v6(src: Ipv6Addr, dst: Ipv6Addr, src_port: u16, dst_port: u16) -> Self {
        const VERSION: u8 = 0x60;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&MASKED_LRH);
        crc.update(&[VERSION | 0x0f, 0xff, 0xff, 0xff, 0, 0, PROTOCOL_UDP, 0xff]);
        crc.update(&src.octets());
        crc.update(&dst.octets());
        Self { version: Version::V6, start: Self::behind_udp(crc, src_port, dst_port) }
    }

    fn behind_udp(mut crc: crc32fast::Hasher, src_port: u16, dst_port: u16) -> u32 {
        crc.update(&src_port.to_be_bytes());
        crc.update(&dst_port.to_be_bytes());
        crc.update(&[0, 0, 0xff, 0xff]);
        crc.finalize()
    }

    /// The ICRC of `packet` (BTH through pad), sent with IPv4 identification `id`, which IPv6 ignores.
    ///
    /// For a packet that fits an IP datagram; for a longer one the figure means nothing.
    #[inline]
    #[must_use]
    pub fn icrc(&self, id: u16, packet: &[u8]) -> u32 {
        let udp_len = length_field(UDP_LEN + packet.len() + LEN);
        let lengths = match self.version {
            Version::V4 => {
                TOTAL_LENGTH.of(length_field(IPV4_LEN + UDP_LEN + packet.len() + LEN))
                    ^ UDP_LENGTH.of(udp_len)
                    ^ IDENTIFICATION.of(id)
            }
            Version::V6 => IPV6_AND_UDP_LENGTH.of(udp_len),
        };
        let masked = packet.get(CONGESTION).map_or(0, |byte| MASK.of(u16::from(!byte)));
        let mut crc = crc32fast::Hasher::new_with_initial(self.start ^ lengths ^ masked);
        crc.update(packet);
        crc.finalize()
    }

    /// Writes the ICRC of the packet in `datagram` into its last four bytes.
    ///
    /// # Errors
    ///
    /// [`IcrcError::Truncated`] if `datagram` has no room for a BTH and an ICRC; nothing is written then.
    #[inline]
    pub fn write(&self, id: u16, datagram: &mut [u8]) -> Result<(), IcrcError> {
        let truncated = IcrcError::Truncated { need: Bth::LEN + LEN, have: datagram.len() };
        let (packet, place) = datagram.split_last_chunk_mut::<LEN>().ok_or(truncated)?;
        if packet.len() < Bth::LEN {
            return Err(truncated);
        }
        *place = self.icrc(id, packet).to_le_bytes();
        Ok(())
    }

    /// Checks a received UDP payload, packet and ICRC. `hint` is the IPv4 identification to try first: a
    /// segment's index in a batch that its sender segmented, 0 for a packet that came alone. Where that
    /// fails, the identification is solved for.
    ///
    /// # Errors
    ///
    /// [`IcrcError::Truncated`] under 16 bytes, [`IcrcError::Mismatch`] if no identification makes the ICRC right.
    #[inline]
    pub fn verify<'a>(&self, hint: u16, datagram: &'a [u8]) -> Result<Verified<'a>, IcrcError> {
        let truncated = IcrcError::Truncated { need: Bth::LEN + LEN, have: datagram.len() };
        let (packet, received) = datagram.split_last_chunk::<LEN>().ok_or(truncated)?;
        if packet.len() < Bth::LEN {
            return Err(truncated);
        }
        let difference = u32::from_le_bytes(*received) ^ self.icrc(hint, packet);
        let id = match (self.version, difference) {
            (Version::V4, 0) => Some(hint),
            (Version::V4, _) => Some(hint ^ solve(difference, packet.len()).ok_or(IcrcError::Mismatch)?),
            (Version::V6, 0) => None,
            (Version::V6, _) => return Err(IcrcError::Mismatch),
        };
        Ok(Verified { packet, id })
    }
}

/// An IP or UDP length field; lengths beyond it don't occur in packets.
#[inline]
fn length_field(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// Which XOR of the identification makes `difference` at the end of a packet of `len` bytes, if one does.
#[inline]
fn solve(difference: u32, len: usize) -> Option<u16> {
    let field = carry_back(difference, u16::try_from(len + ID_TO_BTH + 2).ok()?);
    Some(u16::try_from(field).ok()?.swap_bytes())
}

/// The shares in the register of a 16-bit big-endian field's values: one table for each half byte, since shares add up.
struct Share([[u32; 16]; 4]);

impl Share {
    /// For a field with `behind` bytes between it and the BTH.
    const fn before(behind: usize) -> Self {
        Self::carried(8 * (behind + 2), false)
    }

    /// For a field whose low byte is byte `at` of the packet, as a share at the packet's start.
    const fn inside(at: usize) -> Self {
        // The register meets the field's two bytes when it has read `at - 1` of the packet.
        Self::carried(8 * (at - 1), true)
    }

    const fn carried(bits: usize, back: bool) -> Self {
        let mut tables = [[0; 16]; 4];
        let mut i: u16 = 0;
        while i < 64 {
            let (table, digit) = (i / 16, i % 16);
            // The register takes its first byte into its lowest.
            let mut share = (digit << (4 * table)).swap_bytes() as u32;
            let mut bit = 0;
            while bit < bits {
                share = if back { divided_by_x(share) } else { times_x(share) };
                bit += 1;
            }
            tables[table as usize][digit as usize] = share;
            i += 1;
        }
        Self(tables)
    }

    /// The two fields' shares together, for fields of the same value.
    const fn plus(mut self, other: &Self) -> Self {
        let mut i = 0;
        while i < 64 {
            self.0[i / 16][i % 16] ^= other.0[i / 16][i % 16];
            i += 1;
        }
        self
    }

    /// The share of `value`.
    #[inline]
    fn of(&self, value: u16) -> u32 {
        let digit = |i: usize| self.0[i][usize::from(value >> (4 * i)) % 16];
        digit(0) ^ digit(1) ^ digit(2) ^ digit(3)
    }
}

/// The CRC's polynomial, reflected: the highest bit is the coefficient of x^0, and x^32 isn't written.
const POLYNOMIAL: u32 = 0xedb8_8320;
const ONE: u32 = 1 << 31;

#[inline]
const fn times_x(a: u32) -> u32 {
    (a >> 1) ^ (POLYNOMIAL & (a & 1).wrapping_neg())
}

const fn divided_by_x(a: u32) -> u32 {
    if a & ONE == 0 { a << 1 } else { (a ^ POLYNOMIAL) << 1 | 1 }
}

/// a · b modulo the polynomial.
#[inline]
const fn multiply(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut i = 0;
    while i < 32 {
        product ^= b & (a >> 31).wrapping_neg();
        a <<= 1;
        b = times_x(b);
        i += 1;
    }
    product
}

/// The register `bytes` zero bytes earlier: `register` · x^(−8 · bytes). One multiplication for each byte of
/// the exponent.
#[inline]
fn carry_back(register: u32, bytes: u16) -> u32 {
    /// x^(−8 · i) and x^(−8 · 256 · i).
    static POWERS: [[u32; 256]; 2] = {
        let byte = {
            let mut power = ONE;
            let mut i = 0;
            while i < 8 {
                power = divided_by_x(power);
                i += 1;
            }
            power
        };
        let low = powers(byte);
        [low, powers(multiply(low[255], byte))]
    };
    let [high, low] = bytes.to_be_bytes();
    multiply(multiply(register, POWERS[0][usize::from(low)]), POWERS[1][usize::from(high)])
}

/// `base` to the power of 0 to 255.
const fn powers(base: u32) -> [u32; 256] {
    let mut table = [ONE; 256];
    let mut i = 1;
    while i < 256 {
        table[i] = multiply(table[i - 1], base);
        i += 1;
    }
    table
}
