//! Every opcode: fields to bytes and back, against a second, plain description of the format.

use proptest::prelude::*;

use rocev2::wire::{
    Aeth, AtomicEth, Bth, Deth, EncodeError, Header, Headers, NakCode, Opcode, Operation, Packet, Reth,
    Syndrome, Transport,
};
use rocev2::{Psn, Qpn, Srqn};

/// Which extension headers an opcode byte carries, in order, and whether a payload follows: rxe's opcode
/// table, written down once more, and IBA's (Annex A14) for XRC, which rxe lacks.
const TABLE: [(u8, &[Header], bool); 61] = {
    use Header::{Aeth, AtomicAckEth, AtomicEth, CnpReserved, Deth, Ieth, ImmDt, Reth, XrcEth};
    [
        (0x00, &[], true),
        (0x01, &[], true),
        (0x02, &[], true),
        (0x03, &[ImmDt], true),
        (0x04, &[], true),
        (0x05, &[ImmDt], true),
        (0x06, &[Reth], true),
        (0x07, &[], true),
        (0x08, &[], true),
        (0x09, &[ImmDt], true),
        (0x0a, &[Reth], true),
        (0x0b, &[Reth, ImmDt], true),
        (0x0c, &[Reth], false),
        (0x0d, &[Aeth], true),
        (0x0e, &[], true),
        (0x0f, &[Aeth], true),
        (0x10, &[Aeth], true),
        (0x11, &[Aeth], false),
        (0x12, &[Aeth, AtomicAckEth], false),
        (0x13, &[AtomicEth], false),
        (0x14, &[AtomicEth], false),
        (0x16, &[Ieth], true),
        (0x17, &[Ieth], true),
        (0x20, &[], true),
        (0x21, &[], true),
        (0x22, &[], true),
        (0x23, &[ImmDt], true),
        (0x24, &[], true),
        (0x25, &[ImmDt], true),
        (0x26, &[Reth], true),
        (0x27, &[], true),
        (0x28, &[], true),
        (0x29, &[ImmDt], true),
        (0x2a, &[Reth], true),
        (0x2b, &[Reth, ImmDt], true),
        (0x64, &[Deth], true),
        (0x65, &[Deth, ImmDt], true),
        (0x81, &[CnpReserved], false),
        (0xa0, &[XrcEth], true),
        (0xa1, &[XrcEth], true),
        (0xa2, &[XrcEth], true),
        (0xa3, &[XrcEth, ImmDt], true),
        (0xa4, &[XrcEth], true),
        (0xa5, &[XrcEth, ImmDt], true),
        (0xa6, &[XrcEth, Reth], true),
        (0xa7, &[XrcEth], true),
        (0xa8, &[XrcEth], true),
        (0xa9, &[XrcEth, ImmDt], true),
        (0xaa, &[XrcEth, Reth], true),
        (0xab, &[XrcEth, Reth, ImmDt], true),
        (0xac, &[XrcEth, Reth], false),
        (0xad, &[Aeth], true),
        (0xae, &[], true),
        (0xaf, &[Aeth], true),
        (0xb0, &[Aeth], true),
        (0xb1, &[Aeth], false),
        (0xb2, &[Aeth, AtomicAckEth], false),
        (0xb3, &[XrcEth, AtomicEth], false),
        (0xb4, &[XrcEth, AtomicEth], false),
        (0xb6, &[XrcEth, Ieth], true),
        (0xb7, &[XrcEth, Ieth], true),
    ]
};

/// A packet as its parts, and the bytes that they should be.
#[derive(Debug)]
struct Case {
    headers: Headers,
    payload: Vec<u8>,
    bytes: Vec<u8>,
}

fn syndrome() -> impl Strategy<Value = Syndrome> {
    any::<u8>().prop_map(Syndrome::from_byte)
}

prop_compose! {
    fn bth()(
        flags in any::<[bool; 5]>(), pkey in any::<u16>(), dest_qp in 0u32..1 << 24, psn in 0u32..1 << 24,
    ) -> Bth {
        let [solicited, mig_req, fecn, becn, ack_req] = flags;
        let (dest_qp, psn) = (Qpn::truncate(dest_qp), Psn::truncate(psn));
        Bth { opcode: Opcode::Cnp, solicited, mig_req, pad: 0, tver: 0, pkey, fecn, becn, dest_qp, ack_req, psn }
    }
}

prop_compose! {
    fn case()(
        row in prop::sample::select(&TABLE[..]),
        mut bth in bth(),
        (va, rkey, len, swap_or_add, compare) in any::<(u64, u32, u32, u64, u64)>(),
        syndrome in syndrome(),
        msn in 0u32..1 << 24,
        (original, immediate, invalidate, qkey) in any::<(u64, u32, u32, u32)>(),
        src_qp in 0u32..1 << 24,
        mut payload in prop::collection::vec(any::<u8>(), 0..70),
    ) -> Case {
        let (opcode, extensions, carries_payload) = row;
        if !carries_payload {
            payload.clear();
        }
        bth.opcode = Opcode::from_byte(opcode);
        bth.pad = (0..4).find(|pad| (payload.len() + usize::from(*pad)).is_multiple_of(4)).expect("one of four fits");
        let bit = |set: bool, shift: u32| u8::from(set) << shift;
        let mut bytes = vec![opcode, bit(bth.solicited, 7) | bit(bth.mig_req, 6) | bth.pad << 4];
        bytes.extend(bth.pkey.to_be_bytes());
        bytes.extend((bth.dest_qp.get() | u32::from(bit(bth.fecn, 7) | bit(bth.becn, 6)) << 24).to_be_bytes());
        bytes.extend((bth.psn.get() | u32::from(bit(bth.ack_req, 7)) << 24).to_be_bytes());

        let mut headers = Headers::new(bth);
        for extension in extensions {
            match extension {
                Header::Bth => {}
                Header::Reth => {
                    headers.reth = Some(Reth { va, rkey, len });
                    bytes.extend(va.to_be_bytes());
                    bytes.extend(rkey.to_be_bytes());
                    bytes.extend(len.to_be_bytes());
                }
                Header::AtomicEth => {
                    headers.atomic = Some(AtomicEth { va, rkey, swap_or_add, compare });
                    bytes.extend(va.to_be_bytes());
                    bytes.extend(rkey.to_be_bytes());
                    bytes.extend(swap_or_add.to_be_bytes());
                    bytes.extend(compare.to_be_bytes());
                }
                Header::Aeth => {
                    headers.aeth = Some(Aeth { syndrome, msn });
                    bytes.extend((msn | u32::from(syndrome.to_byte()) << 24).to_be_bytes());
                }
                Header::AtomicAckEth => {
                    headers.atomic_ack = Some(original);
                    bytes.extend(original.to_be_bytes());
                }
                Header::Deth => {
                    headers.deth = Some(Deth { qkey, src_qp: Qpn::truncate(src_qp) });
                    bytes.extend(qkey.to_be_bytes());
                    bytes.extend(src_qp.to_be_bytes());
                }
                Header::XrcEth => {
                    headers.xrc_srq = Some(Srqn::truncate(src_qp));
                    bytes.extend(src_qp.to_be_bytes());
                }
                Header::ImmDt => {
                    headers.immediate = Some(immediate);
                    bytes.extend(immediate.to_be_bytes());
                }
                Header::Ieth => {
                    headers.invalidate = Some(invalidate);
                    bytes.extend(invalidate.to_be_bytes());
                }
                Header::CnpReserved => bytes.extend([0; 16]),
            }
        }
        bytes.extend(&payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        Case { headers, payload, bytes }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fields_become_the_bytes_of_the_format(case in case()) {
        let mut out = [0x55; 128];
        let frame = case.headers.frame(&mut out, case.payload.len()).unwrap();
        prop_assert_eq!(frame.payload.len(), case.payload.len());
        frame.payload.copy_from_slice(&case.payload);
        let len = frame.len;
        prop_assert_eq!(&out[..len], &case.bytes);
        prop_assert!(out[len..].iter().all(|byte| *byte == 0x55), "written beyond the packet");
    }

    #[test]
    fn bytes_of_the_format_become_the_fields(case in case()) {
        let packet = Packet::parse(&case.bytes).unwrap();
        prop_assert_eq!(packet.headers, case.headers);
        prop_assert_eq!(packet.payload, &case.payload);
    }

    #[test]
    fn headers_alone_have_the_announced_length(case in case()) {
        let mut out = [0x55; Headers::MAX_LEN];
        let len = case.headers.encode(&mut out).unwrap();
        prop_assert_eq!(len, Headers::len_for(case.headers.bth.opcode));
        prop_assert_eq!(&out[..len], &case.bytes[..len]);
    }

    #[test]
    fn a_buffer_too_short_is_an_error_that_says_how_much_is_needed(case in case()) {
        let need = case.bytes.len();
        for have in 0..need {
            let mut out = vec![0; have];
            match case.headers.frame(&mut out, case.payload.len()).unwrap_err() {
                EncodeError::NoRoom { need: said, have: had } => {
                    prop_assert_eq!(had, have);
                    prop_assert!(said > have && said <= need, "needs {}, says {}, has {}", need, said, have);
                }
                other => prop_assert!(false, "{}", other),
            }
        }
    }

    #[test]
    fn a_missing_header_is_an_error_that_names_it(case in case()) {
        let bare = Headers::new(case.headers.bth);
        let carried = carried(&case.headers);
        match bare.encode(&mut [0; Headers::MAX_LEN]) {
            Ok(_) => prop_assert!(carried.is_empty()),
            Err(error) => prop_assert_eq!(error, EncodeError::Missing(carried[0])),
        }
    }

    #[test]
    fn a_header_that_the_opcode_does_not_carry_is_an_error_that_names_it(case in case()) {
        let carried = carried(&case.headers);
        let whole = case.headers;
        let reth = Reth { va: 0, rkey: 0, len: 0 };
        let atomic = AtomicEth { va: 0, rkey: 0, swap_or_add: 0, compare: 0 };
        let aeth = Aeth { syndrome: Syndrome::Nak(NakCode::RemoteAccess), msn: 0 };
        let deth = Deth { qkey: 0, src_qp: Qpn::truncate(2) };
        for (header, changed) in [
            (Header::Reth, Headers { reth: Some(reth), ..whole }),
            (Header::AtomicEth, Headers { atomic: Some(atomic), ..whole }),
            (Header::Aeth, Headers { aeth: Some(aeth), ..whole }),
            (Header::AtomicAckEth, Headers { atomic_ack: Some(0), ..whole }),
            (Header::Deth, Headers { deth: Some(deth), ..whole }),
            (Header::XrcEth, Headers { xrc_srq: Some(Srqn::truncate(1)), ..whole }),
            (Header::ImmDt, Headers { immediate: Some(0), ..whole }),
            (Header::Ieth, Headers { invalidate: Some(0), ..whole }),
        ] {
            let result = changed.encode(&mut [0; Headers::MAX_LEN]);
            if carried.contains(&header) {
                prop_assert!(result.is_ok());
            } else {
                prop_assert_eq!(result, Err(EncodeError::Unexpected(header)));
            }
        }
    }
}

/// The extension headers with fields that `headers` has by the table.
fn carried(headers: &Headers) -> Vec<Header> {
    let byte = headers.bth.opcode.to_byte();
    let (_, extensions, _) = TABLE.iter().find(|row| row.0 == byte).expect("cases come from the table");
    extensions.iter().copied().filter(|header| *header != Header::CnpReserved).collect()
}

#[test]
fn header_lengths_are_those_of_the_table() {
    for byte in 0..=u8::MAX {
        let opcode = Opcode::from_byte(byte);
        let row = TABLE.iter().find(|row| row.0 == byte);
        assert_eq!(row.is_none(), matches!(opcode, Opcode::Unknown(_)), "{byte:#04x}");
        let (_, extensions, carries_payload) = row.unwrap_or(&(0, &[], false));
        let expected = 12 + extensions.iter().map(|header| header.len()).sum::<usize>();
        assert_eq!(Headers::len_for(opcode), expected, "{byte:#04x}");
        assert_eq!(opcode.carries_payload(), *carries_payload, "{byte:#04x}");
        assert!(Headers::len_for(opcode) <= Headers::MAX_LEN);
    }
    assert_eq!(Headers::MAX_LEN, 44);
}

#[test]
fn an_opcode_that_does_not_exist_is_not_written() {
    for opcode in [
        Opcode::Unknown(0x15),
        Opcode::Known { transport: Transport::Uc, operation: Operation::ReadRequest },
        Opcode::Known { transport: Transport::Ud, operation: Operation::WriteOnly },
    ] {
        let headers = Headers::new(Bth::new(opcode, Qpn::truncate(2), Psn::truncate(0)));
        let expected = EncodeError::UnknownOpcode(opcode.to_byte());
        assert_eq!(headers.encode(&mut [0; Headers::MAX_LEN]), Err(expected));
        assert_eq!(headers.frame(&mut [0; Headers::MAX_LEN], 0).unwrap_err(), expected);
    }
}

#[test]
fn a_payload_where_the_opcode_carries_none_is_not_written() {
    for (byte, _, carries_payload) in TABLE {
        let opcode = Opcode::from_byte(byte);
        let headers = Headers::new(Bth::new(opcode, Qpn::truncate(2), Psn::truncate(0)));
        if !carries_payload {
            let expected = EncodeError::UnexpectedPayload { opcode, len: 1 };
            assert_eq!(headers.frame(&mut [0; 64], 1).unwrap_err(), expected);
        }
    }
}

#[test]
fn a_payload_longer_than_memory_is_an_error() {
    let headers = Headers::new(Bth::new(Opcode::rc(Operation::SendOnly), Qpn::truncate(2), Psn::truncate(0)));
    let expected = EncodeError::NoRoom { need: usize::MAX, have: 64 };
    assert_eq!(headers.frame(&mut [0; 64], usize::MAX).unwrap_err(), expected);
}

#[test]
fn the_pad_count_follows_from_the_payload_whatever_the_caller_set() {
    let mut bth = Bth::new(Opcode::rc(Operation::SendOnly), Qpn::truncate(2), Psn::truncate(0));
    for (len, pad) in [(0, 0), (1, 3), (2, 2), (3, 1), (4, 0), (5, 3)] {
        bth.pad = 3 - pad;
        let mut out = [0x55; 64];
        let frame = Headers::new(bth).frame(&mut out, len).unwrap();
        let end = frame.len;
        assert_eq!(end, 12 + len + usize::from(pad));
        let packet = Packet::parse(&out[..end]).unwrap();
        assert_eq!((packet.headers.bth.pad, packet.payload.len()), (pad, len));
    }
}
