use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::control::Irregular;

fn hello() -> Hello {
    Hello {
        version: VERSION,
        role: Role::Client,
        seal: SealPolicy::Required,
        max_message: 1 << 31,
        heartbeat_ms: 5000,
        software: Text::new("secure-rdma/0.1.0").unwrap(),
        packets: None,
    }
}

fn endpoint() -> Endpoint {
    Endpoint {
        qpn: Qpn::truncate(0x12_3456),
        psn: Redacted::new(Psn::truncate(0xab_cdef)),
        gid: "::ffff:127.0.0.1".parse::<Ipv6Addr>().unwrap().octets(),
        udp_port: NonZeroU16::new(4791).unwrap(),
        mtu: Mtu::B4096,
        max_rd_atomic: 16,
        recv_depth: 64,
        recv_size: 4096,
        min_rnr_timer: 12,
        ack_timeout: 14,
        retry_count: 7,
        rnr_retry: 6,
        lid: None,
        spi: None,
        esp_port: None,
        joins: None,
    }
}

fn region() -> Region {
    Region {
        addr: 0x7f00_0000_1000,
        rkey: Redacted::new(0xdead_beef),
        len: 4096,
        data_len: 4096,
        counters: Some(counters()),
        access: Access::READ | Access::WRITE | Access::ATOMIC,
    }
}

fn counters() -> Counters {
    Counters { addr: 0x7f00_0002_0000, rkey: Redacted::new(0xc0ff_ee00), len: 64 }
}

/// One of each.
fn every_record() -> Vec<Record> {
    vec![
        Record::Hello(hello()),
        Record::Hello(Hello { packets: Some(PacketPolicy::Offered), ..hello() }),
        Record::Endpoint(endpoint()),
        Record::Endpoint(Endpoint { lid: Lid::new(0x1234), ..endpoint() }),
        Record::Endpoint(Endpoint { spi: Spi::new(0xc1c2_c3c4), ..endpoint() }),
        Record::Endpoint(Endpoint { esp_port: NonZeroU16::new(4500), ..endpoint() }),
        Record::Endpoint(Endpoint { joins: Some(Joins), ..endpoint() }),
        Record::Region(region()),
        Record::Region(Region { counters: None, ..region() }),
        Record::Ready,
        Record::Ping { n: 7 },
        Record::Pong { n: u64::MAX },
        Record::Error { code: ErrorKind::Full.into(), text: Text::new("11 of 10").unwrap() },
        Record::Bye(Fragments { sent: 7, arrived: u64::MAX }),
        Record::ByeAck(Fragments::default()),
        Record::Fin,
        Record::Spi { epoch: 1, spi: Spi::new(0xffee_ddcc).unwrap() },
        Record::Joined { proof: [7; 32] },
    ]
}

fn encode(record: &Record) -> Vec<u8> {
    record.encode().unwrap().to_vec()
}

/// What both ways say to a record with that value in it.
fn refusal(record: &Record) -> Invalid {
    let on_the_way_out = match record.encode() {
        Err(EncodeError::Invalid(invalid)) => invalid,
        other => panic!("{record:?} was encoded: {other:?}"),
    };
    let bytes = minicbor::to_vec(record).unwrap();
    match Record::decode(&bytes) {
        Err(DecodeError::Invalid { source, .. }) => assert_eq!(source, on_the_way_out),
        other => panic!("{record:?} was decoded: {other:?}"),
    }
    on_the_way_out
}

#[test]
fn the_bytes_of_every_record_are_these() {
    // The wire format, once and for all: a change here is another protocol version.
    let bytes: Vec<Vec<u8>> = every_record().iter().map(encode).collect();
    let expected: [&[u8]; 18] = [
        b"\x82\x01\xa1\x00\xa6\x00\x04\x01\x00\x02\x02\x03\x1a\x80\x00\x00\x00\x04\x19\x13\x88\x05\x71\
          secure-rdma/0.1.0",
        b"\x82\x01\xa1\x00\xa7\x00\x04\x01\x00\x02\x02\x03\x1a\x80\x00\x00\x00\x04\x19\x13\x88\x05\x71\
          secure-rdma/0.1.0\x06\x01",
        b"\x82\x02\xa1\x00\xac\x00\x1a\x00\x12\x34\x56\x01\x1a\x00\xab\xcd\xef\x02\x50\0\0\0\0\0\0\0\0\0\0\xff\xff\
          \x7f\0\0\x01\
          \x03\x19\x12\xb7\x04\x05\x05\x10\x06\x18\x40\x07\x19\x10\x00\x08\x0c\x09\x0e\x0a\x07\x0b\x06",
        b"\x82\x02\xa1\x00\xad\x00\x1a\x00\x12\x34\x56\x01\x1a\x00\xab\xcd\xef\x02\x50\0\0\0\0\0\0\0\0\0\0\xff\xff\
          \x7f\0\0\x01\
          \x03\x19\x12\xb7\x04\x05\x05\x10\x06\x18\x40\x07\x19\x10\x00\x08\x0c\x09\x0e\x0a\x07\x0b\x06\x0c\x19\x12\x34",
        b"\x82\x02\xa1\x00\xad\x00\x1a\x00\x12\x34\x56\x01\x1a\x00\xab\xcd\xef\x02\x50\0\0\0\0\0\0\0\0\0\0\xff\xff\
          \x7f\0\0\x01\
          \x03\x19\x12\xb7\x04\x05\x05\x10\x06\x18\x40\x07\x19\x10\x00\x08\x0c\x09\x0e\x0a\x07\x0b\x06\
          \x0d\x1a\xc1\xc2\xc3\xc4",
        b"\x82\x02\xa1\x00\xad\x00\x1a\x00\x12\x34\x56\x01\x1a\x00\xab\xcd\xef\x02\x50\0\0\0\0\0\0\0\0\0\0\xff\xff\
          \x7f\0\0\x01\
          \x03\x19\x12\xb7\x04\x05\x05\x10\x06\x18\x40\x07\x19\x10\x00\x08\x0c\x09\x0e\x0a\x07\x0b\x06\
          \x0e\x19\x11\x94",
        b"\x82\x02\xa1\x00\xad\x00\x1a\x00\x12\x34\x56\x01\x1a\x00\xab\xcd\xef\x02\x50\0\0\0\0\0\0\0\0\0\0\xff\xff\
          \x7f\0\0\x01\
          \x03\x19\x12\xb7\x04\x05\x05\x10\x06\x18\x40\x07\x19\x10\x00\x08\x0c\x09\x0e\x0a\x07\x0b\x06\x0f\x01",
        b"\x82\x03\xa1\x00\xa6\x00\x1b\x00\x00\x7f\x00\x00\x00\x10\x00\x01\x1a\xde\xad\xbe\xef\x02\x19\x10\x00\
          \x03\x19\x10\x00\
          \x04\xa3\x00\x1b\x00\x00\x7f\x00\x00\x02\x00\x00\x01\x1a\xc0\xff\xee\x00\x02\x18\x40\x05\x07",
        b"\x82\x03\xa1\x00\xa5\x00\x1b\x00\x00\x7f\x00\x00\x00\x10\x00\x01\x1a\xde\xad\xbe\xef\x02\x19\x10\x00\
          \x03\x19\x10\x00\
          \x05\x07",
        b"\x82\x04\xa0",
        b"\x82\x05\xa1\x00\x07",
        b"\x82\x06\xa1\x00\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x82\x07\xa2\x00\x06\x01\x6811 of 10",
        b"\x82\x08\xa1\x00\xa2\x00\x07\x01\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x82\x09\xa1\x00\xa2\x00\x00\x01\x00",
        b"\x82\x0a\xa0",
        b"\x82\x0b\xa2\x00\x01\x01\x1a\xff\xee\xdd\xcc",
        b"\x82\x0c\xa1\x00\x58\x20\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\
          \x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07",
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn every_record_comes_back_as_it_was() {
    for record in every_record() {
        assert_eq!(Record::decode(&encode(&record)), Ok(record));
    }
}

#[test]
fn no_record_is_larger_than_the_buffers_made_for_it() {
    let largest = [
        Record::Hello(Hello {
            version: u16::MAX,
            max_message: u64::MAX,
            heartbeat_ms: *HEARTBEAT_MS.end(),
            software: Text::lossy(&"x".repeat(64)),
            ..hello()
        }),
        Record::Endpoint(Endpoint {
            recv_depth: u32::MAX,
            recv_size: u32::MAX,
            max_rd_atomic: u8::MAX,
            lid: Lid::new(0xbfff),
            ..endpoint()
        }),
        Record::Region(Region {
            addr: 1 << 63,
            len: 1 << 62,
            data_len: 1 << 61,
            counters: Some(Counters { addr: 1 << 62, len: 1 << 60, ..counters() }),
            ..region()
        }),
        Record::Error { code: ErrorCode(u16::MAX), text: Text::lossy(&"x".repeat(512)) },
    ];
    for record in largest {
        assert!(encode(&record).len() <= LARGEST, "{record:?}");
    }
}

#[test]
fn every_prefix_of_every_record_is_refused() {
    for record in every_record() {
        let bytes = encode(&record);
        for end in 0..bytes.len() {
            let refused = Record::decode(&bytes[..end]);
            assert_eq!(refused, Err(DecodeError::Irregular(Irregular::Truncated)), "{record:?} cut at {end}");
        }
    }
}

#[test]
fn bytes_behind_a_record_are_refused() {
    for record in every_record() {
        let mut bytes = encode(&record);
        bytes.push(0);
        assert_eq!(Record::decode(&bytes), Err(DecodeError::Irregular(Irregular::Trailing(1))), "{record:?}");
    }
}

#[test]
fn an_unknown_record_is_refused_with_its_number() {
    assert_eq!(Record::decode(&[0x82, 0, 0xa0]), Err(DecodeError::Unknown(0)));
    assert_eq!(Record::decode(&[0x82, 13, 0xa0]), Err(DecodeError::Unknown(13)));
    let widest = [&[0x82, 0x1b][..], &[0xff; 8], &[0xa0]].concat();
    assert_eq!(Record::decode(&widest), Err(DecodeError::Unknown(u64::MAX)));
}

#[test]
fn fields_of_a_later_version_are_skipped_at_every_level() {
    // A ping with fields 1 (a nested structure), 1000 and −1 beside its number.
    let ping = b"\x82\x05\xa4\x00\x07\x01\x82\xa1\x00\x61a\xf6\x19\x03\xe8\xf5\x20\x00";
    assert_eq!(Record::decode(ping), Ok(Record::Ping { n: 7 }));
    // A "ready" that isn't empty any more.
    assert_eq!(Record::decode(b"\x82\x04\xa1\x00\x07"), Ok(Record::Ready));

    // A region with a seventh field.
    let mut region_bytes = encode(&Record::Region(region()));
    assert_eq!(region_bytes[4], 0xa6);
    region_bytes[4] = 0xa7;
    region_bytes.extend_from_slice(&[0x06, 0x44, 1, 2, 3, 4]);
    assert_eq!(Record::decode(&region_bytes), Ok(Record::Region(region())));
}

#[test]
fn a_missing_field_is_named() {
    let error = Record::decode(&[0x82, 5, 0xa0]).unwrap_err();
    assert!(matches!(&error, DecodeError::Malformed { number: 5, .. }), "{error:?}");
    assert!(error.to_string().contains("Record::Ping::n"), "{error}");
}

#[test]
fn a_field_of_another_type_is_refused() {
    for value in [&[0x20][..], &[0x41, 0], &[0x61, b'7'], &[0x80], &[0xa0], &[0xf5], &[0xf6]] {
        let bytes = [&[0x82, 5, 0xa1, 0], value].concat();
        assert!(
            matches!(Record::decode(&bytes), Err(DecodeError::Malformed { number: 5, .. })),
            "{value:x?}"
        );
    }
}

/// The endpoint's encoding with field `field` (0 to 23, whose value was `old` bytes long) holding `value`.
fn endpoint_with(field: u8, value: &[u8]) -> Vec<u8> {
    let mut parts = split_fields(&encode(&Record::Endpoint(endpoint())));
    parts[usize::from(field)] = [&[field], value].concat();
    [&[0x82, 2, 0xa1, 0, 0xac][..], &parts.concat()].concat()
}

/// The fields of an endpoint, key and value together.
fn split_fields(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut decoder = minicbor::Decoder::new(bytes);
    decoder.set_position(5);
    let mut fields = Vec::new();
    while decoder.position() < bytes.len() {
        let start = decoder.position();
        decoder.skip().unwrap();
        decoder.skip().unwrap();
        fields.push(bytes[start..decoder.position()].to_vec());
    }
    fields
}

#[test]
fn numbers_outside_their_fields_are_refused_with_the_range() {
    let refused = |field, value: &[u8]| match Record::decode(&endpoint_with(field, value)) {
        Err(DecodeError::Invalid { number: 2, source }) => source,
        other => panic!("field {field} took {value:x?}: {other:?}"),
    };
    // QPNs 0, 1, the multicast one and 2^24.
    for qpn in
        [&[0][..], &[1], &[0x1a, 0, 0xff, 0xff, 0xff], &[0x1a, 1, 0, 0, 0], &[0x1b, 0, 0, 0, 1, 0, 0, 0, 2]]
    {
        assert!(
            matches!(refused(0, qpn), Invalid::Range { field: "the QPN", min: 2, max: 0xff_fffe, .. }),
            "{qpn:x?}"
        );
    }
    assert_eq!(refused(1, &[0x1a, 1, 0, 0, 0]), Invalid::TooWide { field: "the PSN", bits: 24 });
    for port in [&[0][..], &[0x1a, 0, 1, 0, 0]] {
        assert!(matches!(
            refused(3, port),
            Invalid::Range { field: "the UDP port", min: 1, max: 65_535, .. }
        ));
    }
    for mtu in [&[0][..], &[6], &[0x19, 1, 1]] {
        assert!(matches!(refused(4, mtu), Invalid::Range { min: 1, max: 5, .. }), "{mtu:x?}");
    }
    for (field, max) in [(8, 31_u8), (9, 31), (10, 7), (11, 7)] {
        let over = if max < 23 { vec![max + 1] } else { vec![0x18, max + 1] };
        assert!(
            matches!(refused(field, &over), Invalid::Range { max: m, .. } if m == u64::from(max)),
            "field {field}"
        );
    }
    // Field 12, the LID, isn't there on Ethernet: it is put behind the last one.
    for lid in [&[0][..], &[0x19, 0xc0, 0]] {
        let mut bytes = encode(&Record::Endpoint(endpoint()));
        bytes[4] = 0xad;
        bytes.extend([&[12], lid].concat());
        let refused = Record::decode(&bytes);
        assert!(
            matches!(
                refused,
                Err(DecodeError::Invalid { number: 2, source: Invalid::Range { min: 1, max: 0xbfff, .. } })
            ),
            "{refused:?}"
        );
    }
    for field in [6, 7] {
        assert!(matches!(refused(field, &[0]), Invalid::Range { min: 1, .. }), "field {field}");
    }
}

#[test]
fn a_gid_has_sixteen_bytes_and_names_one_host() {
    for gid in
        ["::", "ff02::1", "::ffff:0.0.0.0", "::ffff:0.1.2.3", "::ffff:224.0.0.1", "::ffff:255.255.255.255"]
    {
        let gid = gid.parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(refusal(&Record::Endpoint(Endpoint { gid, ..endpoint() })), Invalid::Gid);
    }
    for gid in ["::1", "fe80::1", "::ffff:10.0.0.1", "2001:db8::1"] {
        let gid = gid.parse::<Ipv6Addr>().unwrap().octets();
        let record = Record::Endpoint(Endpoint { gid, ..endpoint() });
        assert_eq!(Record::decode(&encode(&record)), Ok(record));
    }
    for length in [0, 15, 17] {
        let bytes = endpoint_with(2, &[&[0x40 + length][..], &vec![1; length.into()]].concat());
        assert!(matches!(Record::decode(&bytes), Err(DecodeError::Malformed { .. })), "{length} bytes");
    }
}

#[test]
fn a_hello_that_could_tie_up_its_receiver_is_refused() {
    for heartbeat_ms in [0, 99, 3_600_001, u32::MAX] {
        let invalid = refusal(&Record::Hello(Hello { heartbeat_ms, ..hello() }));
        assert!(matches!(invalid, Invalid::Range { min: 100, max: 3_600_000, .. }), "{invalid}");
    }
    assert!(matches!(refusal(&Record::Hello(Hello { version: 0, ..hello() })), Invalid::Range { .. }));
    assert!(matches!(refusal(&Record::Hello(Hello { max_message: 0, ..hello() })), Invalid::Range { .. }));
}

#[test]
fn a_hello_of_a_later_version_is_understood_so_that_its_version_can_be_named() {
    let later = Record::Hello(Hello { version: VERSION + 1, ..hello() });
    assert_eq!(Record::decode(&encode(&later)), Ok(later));
}

#[test]
fn a_region_lies_inside_the_address_space_and_its_parts_inside_it() {
    let check = |addr, len, data_len| {
        let region = Region { addr, len, data_len, ..region() };
        region.check().map(|()| {
            assert_eq!(Record::decode(&encode(&Record::Region(region.clone()))), Ok(Record::Region(region)));
        })
    };
    assert_eq!(check(0, u64::MAX, u64::MAX), Ok(()));
    assert_eq!(check(u64::MAX, 1, 1), Ok(()));
    assert_eq!(check(u64::MAX, 2, 1), Err(Invalid::RegionEnd { len: 2 }));
    assert_eq!(check(1, u64::MAX, 8), Ok(()));
    assert_eq!(check(2, u64::MAX, 8), Err(Invalid::RegionEnd { len: u64::MAX }));
    assert!(matches!(check(0, 0, 0), Err(Invalid::Range { .. })));
    assert!(matches!(check(0, 64, 65), Err(Invalid::RegionParts { .. })));
    assert_eq!(check(0, 64, 64), Ok(()));
    assert_eq!(check(0, 64, 0), Ok(()));
    assert!(matches!(refusal(&Record::Region(Region { len: 1, ..region() })), Invalid::RegionParts { .. }));
}

#[test]
fn counters_are_whole_words_under_a_key_of_their_own() {
    let check = |addr, len| {
        let counters = Some(Counters { addr, len, ..counters() });
        Region { counters, ..region() }.check()
    };
    assert_eq!(check(0, 8), Ok(()));
    assert_eq!(check(u64::MAX - 7, 8), Ok(()));
    assert_eq!(check(u64::MAX - 7, 16), Err(Invalid::RegionEnd { len: 16 }));
    assert!(matches!(check(0, 0), Err(Invalid::Range { .. })));
    assert_eq!(check(8, 9), Err(Invalid::CounterAlignment));
    assert_eq!(check(4, 8), Err(Invalid::CounterAlignment));
    let shared = Counters { rkey: region().rkey, ..counters() };
    assert_eq!(refusal(&Record::Region(Region { counters: Some(shared), ..region() })), Invalid::CounterKey);
}

#[test]
fn unknown_access_rights_roles_and_policies_are_refused() {
    let refused = |mut bytes: Vec<u8>, at: usize, value: u8| {
        bytes[at] = value;
        match Record::decode(&bytes) {
            Err(DecodeError::Invalid { source, .. }) => source,
            other => panic!("{other:?}"),
        }
    };
    let region = encode(&Record::Region(region()));
    let last = region.len() - 1;
    assert_eq!(refused(region, last, 0x10), Invalid::Access(0x10));
    let hello = encode(&Record::Hello(hello()));
    assert!(matches!(refused(hello.clone(), 8, 2), Invalid::Range { field: "the role", found: 2, .. }));
    assert!(matches!(refused(hello, 10, 3), Invalid::Range { field: "the seal policy", found: 3, .. }));
}

#[test]
fn text_that_is_too_long_or_could_confuse_a_terminal_is_refused() {
    let error = |text: &[u8]| {
        let length = u16::try_from(text.len()).unwrap();
        let head = match length {
            0..24 => vec![0x60 + u8::try_from(length).unwrap()],
            24..256 => vec![0x78, u8::try_from(length).unwrap()],
            _ => [&[0x79][..], &length.to_be_bytes()].concat(),
        };
        Record::decode(&[&[0x82, 7, 0xa2, 0, 1, 1], &head[..], text].concat())
    };
    assert!(error(&[b'x'; 512]).is_ok());
    let long = DecodeError::Invalid { number: 7, source: Invalid::TextLength { found: 513, max: 512 } };
    assert_eq!(error(&[b'x'; 513]), Err(long));
    assert_eq!(error(b"\x1b]0;x"), Err(DecodeError::Invalid { number: 7, source: Invalid::TextCharacter }));
    assert_eq!(error(b"\xff"), Err(DecodeError::Irregular(Irregular::NotUtf8)));
}

#[test]
fn an_error_code_of_a_later_version_is_kept() {
    let record = Record::Error { code: ErrorCode(999), text: Text::lossy("?") };
    assert_eq!(Record::decode(&encode(&record)), Ok(record));
    assert_eq!(ErrorCode(999).kind(), None);
    for kind in ErrorKind::ALL {
        assert_eq!(ErrorCode::from(kind).kind(), Some(kind));
    }
}

#[test]
fn neither_printing_a_record_nor_refusing_it_shows_a_psn_or_an_rkey() {
    let shown = format!("{:?} {:#?}", Record::Endpoint(endpoint()), Record::Region(region()));
    let (psn, rkey) = (endpoint().psn.expose().get(), region().rkey.expose());
    for secret in [psn.to_string(), format!("{psn:x}"), rkey.to_string(), format!("{rkey:x}")] {
        assert!(!shown.to_lowercase().contains(&secret), "{secret} in {shown}");
    }
    let refused = Record::decode(&endpoint_with(1, &[0x1a, 0xde, 0xad, 0xbe, 0xef])).unwrap_err().to_string();
    assert!(!refused.contains(&0xdead_beef_u32.to_string()) && !refused.contains("deadbeef"), "{refused}");
}

// Random records, and random damage to them.

fn any_text<const MAX: usize>() -> impl Strategy<Value = Text<MAX>> {
    vec(0x20_u8..0x7f, 0..=MAX).prop_map(|bytes| Text::new(core::str::from_utf8(&bytes).unwrap()).unwrap())
}

fn any_hello() -> impl Strategy<Value = Hello> {
    let role = prop_oneof![Just(Role::Client), Just(Role::Server)];
    let seal = prop_oneof![Just(SealPolicy::Off), Just(SealPolicy::Optional), Just(SealPolicy::Required)];
    let packets =
        prop_oneof![Just(None), Just(Some(PacketPolicy::Offered)), Just(Some(PacketPolicy::Required))];
    (1..=u16::MAX, role, seal, 1..=u64::MAX, HEARTBEAT_MS, any_text(), packets).prop_map(
        |(version, role, seal, max_message, heartbeat_ms, software, packets)| Hello {
            version,
            role,
            seal,
            max_message,
            heartbeat_ms,
            software,
            packets,
        },
    )
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let mtu = proptest::sample::select(&Mtu::ALL[..]);
    let gid = any::<[u8; 16]>().prop_filter("unicast", |gid| is_unicast((*gid).into()));
    let numbers = (2..0xff_ffff_u32, 0..=0xff_ffff_u32, gid, 1..=u16::MAX, mtu);
    let limits = (any::<u8>(), 1..=u32::MAX, 1..=u32::MAX, 0..=31_u8, 0..=31_u8, 0..=7_u8, 0..=7_u8);
    let lid = proptest::option::of((1..=0xbfff_u16).prop_map(|lid| Lid::new(lid).unwrap()));
    let spi = proptest::option::of(any_spi());
    let esp_port = proptest::option::of((1..=u16::MAX).prop_map(|port| NonZeroU16::new(port).unwrap()));
    let joins = any::<bool>();
    let parts = (numbers, limits, lid, spi, esp_port, joins);
    parts.prop_map(|(numbers, limits, lid, spi, esp_port, joins)| Endpoint {
        qpn: Qpn::truncate(numbers.0),
        psn: Redacted::new(Psn::truncate(numbers.1)),
        gid: numbers.2,
        udp_port: NonZeroU16::new(numbers.3).unwrap(),
        mtu: numbers.4,
        max_rd_atomic: limits.0,
        recv_depth: limits.1,
        recv_size: limits.2,
        min_rnr_timer: limits.3,
        ack_timeout: limits.4,
        retry_count: limits.5,
        rnr_retry: limits.6,
        lid,
        spi,
        esp_port,
        joins: joins.then_some(Joins),
    })
}

fn any_spi() -> impl Strategy<Value = Spi> {
    (256..=u32::MAX).prop_map(|number| Spi::new(number).unwrap())
}

fn any_region() -> impl Strategy<Value = Region> {
    let range = || (0..1_u64 << 40, 0..1_u64 << 32);
    let counters = proptest::option::of((range(), 1..u32::MAX));
    (range(), any::<u32>(), counters, 0..100_u64, 0..=Access::ALL.0).prop_map(
        |((words, data_words), rkey, counters, more, access)| Region {
            addr: words * 8,
            rkey: Redacted::new(rkey),
            len: data_words * 8 + more + 1,
            data_len: data_words * 8,
            counters: counters.map(|((words, more), other)| Counters {
                addr: words * 8,
                rkey: Redacted::new(rkey ^ other),
                len: (more + 1) * 8,
            }),
            access: Access(access),
        },
    )
}

fn any_fragments() -> impl Strategy<Value = Fragments> {
    any::<[u64; 2]>().prop_map(|[sent, arrived]| Fragments { sent, arrived })
}

fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        any_hello().prop_map(Record::Hello),
        any_endpoint().prop_map(Record::Endpoint),
        any_region().prop_map(Record::Region),
        Just(Record::Ready),
        any::<u64>().prop_map(|n| Record::Ping { n }),
        any::<u64>().prop_map(|n| Record::Pong { n }),
        (any::<u16>(), any_text()).prop_map(|(code, text)| Record::Error { code: ErrorCode(code), text }),
        any_fragments().prop_map(Record::Bye),
        any_fragments().prop_map(Record::ByeAck),
        Just(Record::Fin),
        (any::<u64>(), any_spi()).prop_map(|(epoch, spi)| Record::Spi { epoch, spi }),
        any::<[u8; 32]>().prop_map(|proof| Record::Joined { proof }),
    ]
}

/// A few changed, inserted and removed bytes. Half of the changes prefer bytes that mean something to CBOR.
fn damage() -> impl Strategy<Value = Vec<(u8, proptest::sample::Index, u8)>> {
    let telling = [
        0, 1, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x20, 0x40, 0x60, 0x80, 0x82, 0x9f, 0xa0, 0xa1, 0xbf, 0xc0, 0xf6,
        0xff,
    ];
    let byte = prop_oneof![any::<u8>(), proptest::sample::select(telling.to_vec())];
    vec((0..4_u8, any::<proptest::sample::Index>(), byte), 1..5)
}

fn apply(damage: &[(u8, proptest::sample::Index, u8)], bytes: &mut Vec<u8>) {
    for (how, at, byte) in damage {
        if bytes.is_empty() {
            return;
        }
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = *byte,
            1 => bytes[at] ^= 1 << (byte % 8),
            2 => bytes.insert(at, *byte),
            _ => drop(bytes.remove(at)),
        }
    }
}

/// `bytes`, a record that was accepted, without the fields that this version doesn't know: what a reader and
/// writer of this version should make of it.
fn without_unknown_fields(bytes: &[u8]) -> Vec<u8> {
    let number = bytes[1];
    let known: &[u8] = match number {
        1..=3 | 5 | 6 | 8 | 9 | 12 => &[0],
        7 | 11 => &[0, 1],
        _ => &[],
    };
    let inner = match number {
        1 => Some(7),
        2 => Some(16),
        3 => Some(6),
        8 | 9 => Some(2),
        _ => None,
    };
    let mut out = vec![0x82, number];
    let mut decoder = minicbor::Decoder::new(bytes);
    decoder.set_position(2);
    copy_known(&mut decoder, bytes, &known.iter().copied().map(u64::from).collect(), inner, &mut out);
    out
}

fn copy_known(
    decoder: &mut minicbor::Decoder<'_>,
    bytes: &[u8],
    known: &BTreeSet<u64>,
    inner: Option<u64>,
    out: &mut Vec<u8>,
) {
    let count = decoder.map().unwrap().unwrap();
    let mut kept = Vec::new();
    let mut body = Vec::new();
    for _ in 0..count {
        let key = decoder.probe().u64().ok();
        let key_start = decoder.position();
        decoder.skip().unwrap();
        let value_start = decoder.position();
        decoder.skip().unwrap();
        if let Some(key) = key.filter(|key| known.contains(key)) {
            body.extend_from_slice(&bytes[key_start..value_start]);
            match inner {
                Some(fields) => {
                    let mut value = minicbor::Decoder::new(bytes);
                    value.set_position(value_start);
                    copy_known(&mut value, bytes, &(0..fields).collect(), None, &mut body);
                }
                None => body.extend_from_slice(&bytes[value_start..decoder.position()]),
            }
            kept.push(key);
        }
    }
    out.push(0xa0 + u8::try_from(kept.len()).unwrap());
    out.extend_from_slice(&body);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_record_comes_back_as_it_was_and_fits(record in any_record()) {
        let bytes = encode(&record);
        prop_assert!(bytes.len() <= LARGEST);
        prop_assert_eq!(Record::decode(&bytes), Ok(record));
    }

    #[test]
    fn damaged_bytes_are_refused_or_encode_back_to_the_same_bytes(record in any_record(), damage in damage()) {
        let mut bytes = encode(&record);
        apply(&damage, &mut bytes);
        if let Ok(read) = Record::decode(&bytes) {
            prop_assert_eq!(encode(&read), without_unknown_fields(&bytes), "{:?} from {:x?}", read, bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_encode_back_to_the_same_bytes(bytes in vec(any::<u8>(), 0..64)) {
        // Behind a plausible beginning, or nearly all would end at the first byte.
        for start in [&[][..], &[0x82], &[0x82, 0x05, 0xa1], &[0x82, 0x01, 0xa1, 0x00, 0xa6]] {
            let bytes = [start, &bytes].concat();
            if let Ok(read) = Record::decode(&bytes) {
                prop_assert_eq!(encode(&read), without_unknown_fields(&bytes), "{:?} from {:x?}", read, bytes);
            }
        }
    }
}
