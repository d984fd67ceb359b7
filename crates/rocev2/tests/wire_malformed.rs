//! Bytes that a hostile peer may send. A panic here is a bug in the crate, whatever the bytes; what does
//! parse must be written back as the same bytes, with reserved bits and pad cleared: nothing may be read in
//! two ways.

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use rocev2::wire::{Bth, Header, Headers, Opcode, Packet, ParseError};

/// Every opcode byte that exists.
fn known() -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(|byte| !matches!(Opcode::from_byte(*byte), Opcode::Unknown(_)))
}

/// A packet of that opcode with nothing but zeros behind the BTH, and `payload` bytes of payload and pad.
fn zeros(opcode: u8, pad: u8, payload: usize) -> Vec<u8> {
    let mut bytes = vec![0; Headers::len_for(Opcode::from_byte(opcode)) + payload];
    bytes[0] = opcode;
    bytes[1] = pad << 4;
    bytes
}

/// The same packet with everything that a receiver ignores set to zero.
fn canonical(bytes: &[u8], packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[4] &= 0xc0;
    bytes[8] &= 0x80;
    if packet.headers.deth.is_some() {
        bytes[16] = 0;
    }
    if packet.headers.xrc_srq.is_some() {
        bytes[12] = 0;
    }
    if packet.headers.bth.opcode == Opcode::Cnp {
        bytes[12..28].fill(0);
    }
    let end = bytes.len() - usize::from(packet.headers.bth.pad);
    bytes[end..].fill(0);
    bytes
}

/// Parses, and checks what parses by writing it again. Returns whether it parsed.
fn probe(bytes: &[u8]) -> bool {
    let Ok(packet) = Packet::parse(bytes) else { return false };
    let mut out = vec![0x55; bytes.len()];
    let frame = packet.headers.frame(&mut out, packet.payload.len()).expect("what was read can be written");
    frame.payload.copy_from_slice(packet.payload);
    assert_eq!(frame.len, bytes.len());
    assert_eq!(out, canonical(bytes, &packet), "read {packet:?} from {bytes:02x?}");
    true
}

#[test]
fn a_packet_cut_inside_its_headers_is_truncated_and_the_error_says_where() {
    for opcode in known() {
        let whole = zeros(opcode, 0, 0);
        for have in 0..whole.len() {
            match Packet::parse(&whole[..have]).unwrap_err() {
                ParseError::Truncated { what, need, have: left } => {
                    assert!(left < need && need == what.len(), "{opcode:#04x}: {what} {need} {left}");
                    assert_eq!(what == Header::Bth, have < Bth::LEN);
                }
                other => panic!("{opcode:#04x} cut to {have}: {other}"),
            }
        }
        assert!(probe(&whole), "{opcode:#04x}");
    }
}

#[test]
fn bytes_after_an_opcode_without_payload_are_refused() {
    for opcode in known().filter(|byte| !Opcode::from_byte(*byte).carries_payload()) {
        let expected = ParseError::UnexpectedPayload { opcode: Opcode::from_byte(opcode), len: 4 };
        for pad in 0..4 {
            assert_eq!(Packet::parse(&zeros(opcode, pad, 4)), Err(expected));
        }
        assert_eq!(Packet::parse(&zeros(opcode, 2, 0)), Err(ParseError::Pad { pad: 2, len: 0 }));
    }
}

#[test]
fn payload_and_pad_that_are_no_multiple_of_four_are_refused() {
    for opcode in known() {
        for len in [1, 2, 3, 5, 1023] {
            for pad in 0..4 {
                assert_eq!(Packet::parse(&zeros(opcode, pad, len)), Err(ParseError::Unaligned { len }));
            }
        }
    }
}

#[test]
fn pad_is_taken_off_the_payload_and_more_of_it_than_there_are_bytes_is_refused() {
    for opcode in known().filter(|byte| Opcode::from_byte(*byte).carries_payload()) {
        for pad in 0..4 {
            assert_eq!(Packet::parse(&zeros(opcode, pad, 8)).unwrap().payload.len(), 8 - usize::from(pad));
        }
        for pad in 1..4 {
            assert_eq!(Packet::parse(&zeros(opcode, pad, 0)), Err(ParseError::Pad { pad, len: 0 }));
        }
    }
}

#[test]
fn opcodes_that_do_not_exist_and_versions_that_do_not_exist_are_refused() {
    for byte in 0..=u8::MAX {
        let mut bytes = zeros(byte, 0, 0);
        if let Opcode::Unknown(byte) = Opcode::from_byte(byte) {
            assert_eq!(Packet::parse(&bytes), Err(ParseError::UnknownOpcode(byte)));
        }
        bytes[1] = 0x07;
        assert_eq!(Packet::parse(&bytes), Err(ParseError::Version(7)));
    }
}

#[test]
fn every_error_has_its_own_reason_and_every_reason_its_error() {
    let errors = [
        ParseError::Truncated { what: Header::Bth, need: 12, have: 0 },
        ParseError::Version(1),
        ParseError::UnknownOpcode(0x15),
        ParseError::Unaligned { len: 1 },
        ParseError::Pad { pad: 1, len: 0 },
        ParseError::UnexpectedPayload { opcode: Opcode::Cnp, len: 4 },
    ];
    assert_eq!(errors.map(|error| error.reason()), ParseError::REASONS);
    for (i, reason) in ParseError::REASONS.iter().enumerate() {
        assert!(!ParseError::REASONS[..i].contains(reason));
    }
}

#[test]
fn one_flipped_bit_never_makes_a_packet_that_reads_in_two_ways() {
    for opcode in known() {
        let carries_payload = Opcode::from_byte(opcode).carries_payload();
        let mut bytes = zeros(opcode, 0, if carries_payload { 8 } else { 0 });
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            probe(&bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn random_bytes_behind_a_plausible_start_never_read_in_two_ways() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let known: Vec<u8> = known().collect();
    let mut parsed = 0;
    for _ in 0..200_000 {
        let mut bytes = [0; 80];
        rng.fill_bytes(&mut bytes);
        bytes[0] = known[usize::from(bytes[0]) % known.len()];
        bytes[1] &= 0xf0;
        // Mostly whole packets: headers and up to 32 bytes, in fours.
        let extra = usize::from(bytes[79]) % 9 * 4;
        let len = Headers::len_for(Opcode::from_byte(bytes[0])) + extra;
        parsed += usize::from(probe(&bytes[..len]));
    }
    assert!(parsed > 100_000, "the oracle saw only {parsed} packets");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic_and_never_read_in_two_ways(bytes in prop::collection::vec(any::<u8>(), 0..96)) {
        probe(&bytes);
    }
}
