//! The ICRC against a plain description of it, the solving of identifications, and what corruption gets past.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use rocev2::icrc::{IcrcError, MixedFamilies, PseudoHeader};

/// CRC-32, a bit at a time.
fn crc32(bytes: impl IntoIterator<Item = u8>) -> u32 {
    let mut register = u32::MAX;
    for byte in bytes {
        register ^= u32::from(byte);
        for _ in 0..8 {
            register = (register >> 1) ^ if register & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    !register
}

fn field(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("test packets fit a datagram").to_be_bytes()
}

/// The ICRC by its description: the whole packet with its headers written out and masked.
fn by_description(src: SocketAddr, dst: SocketAddr, id: u16, packet: &[u8]) -> u32 {
    let udp_len = 8 + packet.len() + 4;
    let mut bytes = vec![0xff; 8];
    match (src.ip(), dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            bytes.extend([0x45, 0xff]);
            bytes.extend(field(20 + udp_len));
            bytes.extend(id.to_be_bytes());
            bytes.extend([0x40, 0x00, 0xff, 17, 0xff, 0xff]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            bytes.extend([0x6f, 0xff, 0xff, 0xff]);
            bytes.extend(field(udp_len));
            bytes.extend([17, 0xff]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
        }
        _ => panic!("one family a packet"),
    }
    bytes.extend(src.port().to_be_bytes());
    bytes.extend(dst.port().to_be_bytes());
    bytes.extend(field(udp_len));
    bytes.extend([0xff, 0xff]);
    let bth = bytes.len();
    bytes.extend(packet);
    bytes[bth + 4] = 0xff;
    crc32(bytes)
}

fn v4() -> PseudoHeader {
    PseudoHeader::v4(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 7), 0xc123, 4791)
}

fn v6() -> PseudoHeader {
    let host = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
    PseudoHeader::v6(host(1), host(2), 0xc123, 4791)
}

/// A UDP payload of random bytes with a right ICRC.
fn datagram(path: &PseudoHeader, id: u16, packet_len: usize, rng: &mut TestRng) -> Vec<u8> {
    let mut bytes = vec![0; packet_len + 4];
    rng.fill_bytes(&mut bytes);
    path.write(id, &mut bytes).expect("the packet is long enough");
    bytes
}

fn rng() -> TestRng {
    TestRng::deterministic_rng(RngAlgorithm::ChaCha)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn over_ipv4_it_is_the_crc_of_the_description(
        src in any::<([u8; 4], u16)>(), dst in any::<([u8; 4], u16)>(), id in any::<u16>(),
        packet in prop::collection::vec(any::<u8>(), 12..400),
    ) {
        let (src, dst) = (SocketAddr::from(src), SocketAddr::from(dst));
        let path = PseudoHeader::new(src, dst).unwrap();
        prop_assert_eq!(path.icrc(id, &packet), by_description(src, dst, id, &packet));
    }

    #[test]
    fn over_ipv6_it_is_the_crc_of_the_description_and_has_no_identification(
        src in any::<([u16; 8], u16)>(), dst in any::<([u16; 8], u16)>(), id in any::<u16>(),
        packet in prop::collection::vec(any::<u8>(), 12..400),
    ) {
        // The first bits keep random addresses from being IPv4-mapped ones.
        let public = |mut segments: [u16; 8]| { segments[0] |= 0x2000; segments };
        let (src, dst) = (SocketAddr::from((public(src.0), src.1)), SocketAddr::from((public(dst.0), dst.1)));
        let path = PseudoHeader::new(src, dst).unwrap();
        prop_assert_eq!(path.icrc(id, &packet), by_description(src, dst, 0, &packet));
    }
}

#[test]
fn it_is_the_crc_of_the_description_up_to_the_longest_datagram() {
    let (src, dst) = (SocketAddr::from(([10, 0, 0, 1], 49152)), SocketAddr::from(([10, 0, 0, 2], 4791)));
    let path = PseudoHeader::new(src, dst).unwrap();
    let longest = 65_535 - 20 - 8 - 4;
    for len in [12, 1036, 4108, 4136, 32_768, longest - 1, longest] {
        let bytes = datagram(&path, 0xabcd, len, &mut rng());
        let icrc = by_description(src, dst, 0xabcd, &bytes[..len]);
        assert_eq!(bytes[len..], icrc.to_le_bytes());
        assert_eq!(path.verify(0, &bytes).unwrap().id, Some(0xabcd), "{len}");
    }
}

#[test]
fn an_address_that_maps_ipv4_means_ipv4() {
    let plain = |last, port| SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), port));
    let mapped = |last, port| SocketAddr::from((Ipv4Addr::new(192, 0, 2, last).to_ipv6_mapped(), port));
    let expected = PseudoHeader::new(plain(1, 5), plain(2, 4791)).unwrap();
    assert_eq!(PseudoHeader::new(mapped(1, 5), mapped(2, 4791)), Ok(expected));
    assert_eq!(PseudoHeader::new(plain(1, 5), mapped(2, 4791)), Ok(expected));
}

#[test]
fn addresses_of_two_families_are_refused() {
    let (src, dst) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from((Ipv6Addr::LOCALHOST, 2)));
    assert_eq!(PseudoHeader::new(src, dst), Err(MixedFamilies { src, dst }));
    assert_eq!(PseudoHeader::new(dst, src), Err(MixedFamilies { src: dst, dst: src }));
}

#[test]
fn the_identification_is_found_for_every_length_up_to_a_full_packet() {
    let mut rng = rng();
    for len in 12..=4200 {
        let id = rng.next_u32().to_le_bytes();
        for id in [0, 1, 0x00ff, 0x0100, 0x8000, 0xffff, u16::from_le_bytes([id[0], id[1]])] {
            let bytes = datagram(&v4(), id, len, &mut rng);
            for hint in [id, 0, !id] {
                let verified = v4().verify(hint, &bytes).unwrap();
                assert_eq!(verified.id, Some(id), "length {len}, hint {hint}");
                assert_eq!(verified.packet, &bytes[..len]);
            }
        }
    }
}

#[test]
fn every_identification_is_found() {
    let mut rng = rng();
    for len in [28, 1052] {
        for id in 0..=u16::MAX {
            let bytes = datagram(&v4(), id, len, &mut rng);
            assert_eq!(v4().verify(7, &bytes).unwrap().id, Some(id));
        }
    }
}

#[test]
fn the_hint_means_nothing_over_ipv6() {
    let bytes = datagram(&v6(), 3, 100, &mut rng());
    for hint in [0, 3, 0xffff] {
        let verified = v6().verify(hint, &bytes).unwrap();
        assert_eq!((verified.packet, verified.id), (&bytes[..100], None));
    }
}

/// Whether an identification can explain a flip depends on the flip's place alone, not on the data or on what
/// follows: so the longest packet here stands for all shorter ones, as far as flips before the ICRC go.
#[test]
fn one_flipped_bit_is_always_found_whether_the_identification_is_known_or_not() {
    let mut rng = rng();
    for len in [12, 28, 68, 1052, 4124] {
        for (path, hint) in [(v4(), 0x5a5a), (v4(), 0), (v6(), 0)] {
            let mut bytes = datagram(&path, 0x5a5a, len, &mut rng);
            for bit in (0..8 * bytes.len()).filter(|bit| bit / 8 != 4) {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(path.verify(hint, &bytes), Err(IcrcError::Mismatch), "length {len}, bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            assert!(path.verify(hint, &bytes).is_ok());
        }
    }
}

#[test]
fn the_congestion_bits_may_change_on_the_way() {
    for path in [v4(), v6()] {
        let mut bytes = datagram(&path, 9, 60, &mut rng());
        let expected = path.verify(9, &bytes).unwrap().id;
        for value in 0..=u8::MAX {
            bytes[4] = value;
            assert_eq!(path.verify(9, &bytes).unwrap().id, expected);
        }
    }
}

#[test]
fn a_random_datagram_passes_about_once_in_65536_and_never_with_the_known_identification() {
    let mut rng = rng();
    let mut passed = 0;
    for _ in 0..200_000 {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        if let Ok(verified) = v4().verify(0, &bytes) {
            assert_ne!(verified.id, Some(0));
            passed += 1;
        }
        assert_eq!(v6().verify(0, &bytes), Err(IcrcError::Mismatch));
    }
    // 3.05 expected; more than 12 would come by chance once in 30,000 sequences, and this sequence is fixed.
    assert!(passed <= 12, "{passed} of 200,000 passed");
}

#[test]
fn a_datagram_without_room_for_bth_and_icrc_is_truncated() {
    for path in [v4(), v6()] {
        for have in 0..16 {
            let mut bytes = vec![0x55; have];
            assert_eq!(path.verify(0, &bytes), Err(IcrcError::Truncated { need: 16, have }));
            assert_eq!(path.write(0, &mut bytes), Err(IcrcError::Truncated { need: 16, have }));
            assert!(bytes.iter().all(|byte| *byte == 0x55));
        }
    }
}

#[test]
fn lengths_that_no_packet_has_do_not_panic() {
    for path in [v4(), v6()] {
        for len in [0, 1, 4, 5, 11, 65_503, 65_504, 65_535, 65_536, 70_000] {
            let packet = vec![0xa5; len];
            core::hint::black_box(path.icrc(1, &packet));
        }
        assert_eq!(path.verify(0, &vec![0xa5; 70_000]), Err(IcrcError::Mismatch));
    }
}
