//! Security parameter indexes: the number by which a receiver finds an SA. The receiver chooses it.
//!
//! The embedded device takes plain and sealed packets at one UDP port. Their first four bytes tell them apart:
//!
//! | byte | plain: BTH | sealed: SPI |
//! |---|---|---|
//! | 0 | opcode: 0x00 to 0xbf are IBA's | 0xc0 to 0xff: opcodes that IBA 9.2.1 leaves to manufacturers |
//! | 1 | the low half is the transport header version, 0 | the low half is not 0: no plain packet |
//! | 2 | high byte of the partition key | which process the port's socket is steered to |
//! | 3 | | random |

use core::fmt;

/// The first byte from which on a datagram isn't plain RoCEv2.
const FIRST_SEALED: u8 = 0xc0;

/// A security parameter index.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spi(u32);

impl Spi {
    /// The SPI with this number; `None` for 0 to 255, which RFC 4303 (section 2.1) reserves.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number > 255 { Some(Self(number)) } else { None }
    }

    /// An SPI for a port that takes plain RoCEv2 too, made of `random` bits, of which almost 22 remain. `steering`
    /// is what a socket filter sees in byte 2.
    #[must_use]
    pub const fn for_shared_port(random: u32, steering: u8) -> Self {
        let [kind, version, _, low] = random.to_be_bytes();
        // 15 values of the low half are left: 0 becomes 8.
        let version = if version & 0x0f == 0 { version | 0x08 } else { version };
        Self(u32::from_be_bytes([kind | FIRST_SEALED, version, steering, low]))
    }

    /// Whether a datagram that begins with this byte, at a port that takes plain RoCEv2 too, is a sealed one.
    #[must_use]
    pub const fn is_sealed(first_byte: u8) -> bool {
        first_byte >= FIRST_SEALED
    }

    /// The SPI of a datagram; `None` if it is too short or the number is reserved.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Option<Self> {
        Self::new(u32::from_be_bytes(*datagram.first_chunk()?))
    }

    /// The SPI's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spi({:#010x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_numbers_are_no_spis() {
        assert_eq!(Spi::new(0), None);
        assert_eq!(Spi::new(255), None);
        assert_eq!(Spi::new(256).map(Spi::number), Some(256));
        assert_eq!(Spi::of(&[0, 0, 1]), None, "too short");
        assert_eq!(Spi::of(&[0, 0, 1, 0, 9]), Spi::new(256));
    }

    #[test]
    fn at_a_shared_port_no_spi_looks_like_a_plain_packet() {
        for random in (0..=u32::MAX).step_by(65_521) {
            let spi = Spi::for_shared_port(random, 0x5a);
            let bytes = spi.number().to_be_bytes();
            assert!(Spi::is_sealed(bytes[0]));
            assert_ne!(bytes[1] & 0x0f, 0, "the transport header version would be valid");
            assert_eq!(bytes[2], 0x5a);
            assert_eq!(bytes[3], random.to_le_bytes()[0]);
        }
        // Every opcode of IBA, and RoCEv2's CNP (0x81), is below.
        assert!(!Spi::is_sealed(0x81) && !Spi::is_sealed(0xbf));
    }
}
