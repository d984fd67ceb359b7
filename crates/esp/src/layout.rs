//! Where the parts of a sealed datagram stand.
//!
//! ```text
//!  byte 0            4            8             16                 24
//! +---------------+------------+-------------+------------------+-----------+-----+-----+------+---------+
//! |      SPI      |  sequence  |     IV      | UDP header, 4791 | BTH..ICRC | pad | len | next | ICV, 16 |
//! +---------------+------------+-------------+------------------+-----------+-----+-----+------+---------+
//! |<------- ESP header, authentic ---------->|<------------ encrypted and authentic ----------->|
//! ```
//!
//! This is the payload of the outer UDP datagram: ESP in transport mode (RFC 4303, section 2; RFC 4106, section 3)
//! whose next header is UDP, encapsulated in UDP (RFC 3948, section 2.1). The sequence number is the low half of a
//! 64-bit one (RFC 4303, section 2.2.1). The padding is 1, 2, 3, … (section 2.4).

/// Bytes before the RoCEv2 packet: SPI, sequence number, IV and the inner UDP header.
pub const HEADROOM: usize = IV_END + INNER_UDP;

/// Bytes behind the RoCEv2 packet at most, beside the padding that makes lengths equal: alignment, trailer, ICV.
pub const TAILROOM: usize = MAX_ALIGNMENT + TRAILER + ICV;

/// Bytes that a datagram has more than the plain packet, at most, beside the padding that makes lengths equal.
pub const OVERHEAD: usize = HEADROOM + TAILROOM;

/// Bytes that padding may have (its length is one byte).
pub const MAX_PADDING: usize = 255;

/// Bytes of the integrity check value (RFC 4106, section 6: the full tag).
pub(crate) const ICV: usize = 16;

pub(crate) const SPI: usize = 0;
pub(crate) const SEQUENCE: usize = 4;
pub(crate) const IV: usize = 8;
pub(crate) const IV_END: usize = 16;

/// The inner UDP header.
pub(crate) const INNER_UDP: usize = 8;

/// Pad length and next header.
pub(crate) const TRAILER: usize = 2;

/// The next header: UDP.
pub(crate) const NEXT_HEADER: u8 = 17;

/// The port to which the inner UDP header leads: RoCEv2's.
pub(crate) const ROCE_PORT: u16 = 4791;

/// The ICV stands at a multiple of four bytes (RFC 4303, section 2.4).
const ALIGNMENT: usize = 4;

const MAX_ALIGNMENT: usize = ALIGNMENT - 1;

/// The shortest datagram that a packet of `packet_len` bytes, ICRC included, seals to.
#[must_use]
pub const fn sealed_len(packet_len: usize) -> usize {
    (HEADROOM + packet_len + TRAILER).next_multiple_of(ALIGNMENT) + ICV
}

/// The longest packet, ICRC included, for which [`sealed_len`] is at most `datagram`; `None` if nothing fits.
#[must_use]
pub const fn packet_len(datagram: usize) -> Option<usize> {
    match datagram.checked_sub(HEADROOM + TRAILER + ICV) {
        // RoCEv2 packets are padded to four bytes, and so is the ICV's place.
        Some(room) => Some(
            ((room + TRAILER) / ALIGNMENT * ALIGNMENT).saturating_sub(TRAILER.next_multiple_of(ALIGNMENT)),
        ),
        None => None,
    }
}

/// The padding of a packet of `packet_len` bytes in a datagram of `datagram_len`; `None` if they don't fit together.
pub(crate) fn padding(packet_len: usize, datagram_len: usize) -> Option<usize> {
    let padding = datagram_len.checked_sub(HEADROOM.checked_add(packet_len)?.checked_add(TRAILER + ICV)?)?;
    (datagram_len.is_multiple_of(ALIGNMENT) && padding <= MAX_PADDING).then_some(padding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_datagram_is_aligned_and_no_shorter_one_would_do() {
        for packet in 0..300 {
            let sealed = sealed_len(packet);
            assert!(sealed.is_multiple_of(4));
            assert!(padding(packet, sealed).is_some_and(|padding| padding < 4), "{packet}");
            assert_eq!(padding(packet, sealed - 4), None, "{packet}");
            assert!(sealed <= HEADROOM + packet + TAILROOM);
        }
    }

    #[test]
    fn a_datagram_has_room_for_the_longest_packet_that_is_said_to_fit() {
        assert_eq!(packet_len(HEADROOM + TRAILER + ICV - 1), None);
        for datagram in (44..6000).step_by(4) {
            let packet = packet_len(datagram).unwrap();
            assert!(packet.is_multiple_of(4));
            assert!(sealed_len(packet) <= datagram, "{datagram}");
            assert!(sealed_len(packet + 4) > datagram, "{datagram}");
        }
    }

    #[test]
    fn padding_is_bounded_and_aligned() {
        let shortest = sealed_len(40);
        assert_eq!(padding(40, shortest), Some(2));
        assert_eq!(padding(40, shortest + 252), Some(254));
        assert_eq!(padding(40, shortest + 256), None, "more than the length byte can say");
        assert_eq!(padding(40, shortest + 1), None, "the ICV would not be aligned");
        assert_eq!(padding(usize::MAX - 8, 100), None);
    }
}
