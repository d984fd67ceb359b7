//! Packets that other people published, byte for byte: a CNP captured on a ConnectX-4 Lx and a UC SEND, both
//! facts from scapy's RoCE tests. The CNP is the only evidence here that comes from hardware.

use core::net::Ipv4Addr;

use rocev2::icrc::{IcrcError, PseudoHeader};
use rocev2::wire::{Bth, Headers, Opcode, Operation, Packet, Transport};
use rocev2::{Psn, Qpn, UDP_PORT};

/// 10.0.17.1:0 to 10.0.18.1:4791, IP identification 0x718c: UDP payload with ICRC.
const CNP: [u8; 32] = [
    0x81, 0x00, 0xff, 0xff, 0x40, 0x00, 0x01, 0x18, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x82, 0xfd, 0x00, 0x2a,
];
const CNP_ID: u16 = 0x718c;

/// 192.168.0.7:49152 to itself, port 4791, IP identification 1144: a SEND of 18 bytes and 2 of pad.
const UC_SEND: [u8; 36] = [
    0x24, 0x60, 0xff, 0xff, 0x00, 0x00, 0x00, 0xd3, 0x00, 0xcf, 0x17, 0x10, 0x46, 0x30, 0x81, 0x8b, 0xe2,
    0x89, 0x35, 0xd9, 0x0e, 0x9a, 0x95, 0x50, 0x54, 0x01, 0xbe, 0x88, 0x5e, 0x50, 0x00, 0x00, 0x78, 0xf3,
    0x53, 0xf3,
];
const UC_SEND_ID: u16 = 1144;

fn cnp_route() -> PseudoHeader {
    PseudoHeader::v4(Ipv4Addr::new(10, 0, 17, 1), Ipv4Addr::new(10, 0, 18, 1), 0, UDP_PORT)
}

fn uc_route() -> PseudoHeader {
    let host = Ipv4Addr::new(192, 168, 0, 7);
    PseudoHeader::v4(host, host, 49152, UDP_PORT)
}

#[test]
fn the_cnp_from_hardware_has_the_fields_that_the_specification_asks_for() {
    let packet = Packet::parse(&CNP[..28]).unwrap();
    let expected = Bth {
        opcode: Opcode::Cnp,
        mig_req: false,
        becn: true,
        ..Bth::new(Opcode::Cnp, Qpn::truncate(0x118), Psn::truncate(0))
    };
    assert_eq!(packet.headers, Headers::new(expected));
    assert!(packet.payload.is_empty());
}

#[test]
fn the_cnp_from_hardware_is_written_as_hardware_wrote_it() {
    let mut out = [0x55; 32];
    let len = Packet::parse(&CNP[..28]).unwrap().headers.frame(&mut out, 0).unwrap().len;
    assert_eq!(len, 28);
    cnp_route().write(CNP_ID, &mut out).unwrap();
    assert_eq!(out, CNP);
}

#[test]
fn the_icrc_from_hardware_is_right_and_its_identification_is_found() {
    assert_eq!(cnp_route().icrc(CNP_ID, &CNP[..28]).to_le_bytes(), CNP[28..]);
    for hint in [CNP_ID, 0, 1, 0xffff] {
        assert_eq!(cnp_route().verify(hint, &CNP).unwrap().id, Some(CNP_ID));
    }
}

#[test]
fn the_icrc_from_hardware_is_wrong_on_every_other_path() {
    let (src, dst) = (Ipv4Addr::new(10, 0, 17, 1), Ipv4Addr::new(10, 0, 18, 1));
    for other in [
        PseudoHeader::v4(dst, src, 0, UDP_PORT),
        PseudoHeader::v4(src, dst, 1, UDP_PORT),
        PseudoHeader::v4(src, dst, 0, UDP_PORT + 1),
        PseudoHeader::v4(src, Ipv4Addr::new(10, 0, 18, 2), 0, UDP_PORT),
    ] {
        assert_eq!(other.verify(CNP_ID, &CNP), Err(IcrcError::Mismatch));
    }
}

#[test]
fn the_uc_send_has_its_published_fields() {
    let packet = Packet::parse(&UC_SEND[..32]).unwrap();
    let opcode = Opcode::Known { transport: Transport::Uc, operation: Operation::SendOnly };
    let bth = Bth { pad: 2, ..Bth::new(opcode, Qpn::truncate(211), Psn::truncate(13_571_856)) };
    assert_eq!(packet.headers, Headers::new(bth));
    assert_eq!(packet.payload, &UC_SEND[12..30]);
}

#[test]
fn the_uc_send_is_written_as_published() {
    let mut out = [0x55; 36];
    let packet = Packet::parse(&UC_SEND[..32]).unwrap();
    let frame = packet.headers.frame(&mut out, packet.payload.len()).unwrap();
    frame.payload.copy_from_slice(packet.payload);
    assert_eq!(frame.len, 32);
    uc_route().write(UC_SEND_ID, &mut out).unwrap();
    assert_eq!(out, UC_SEND);
    assert_eq!(uc_route().verify(0, &out).unwrap().id, Some(UC_SEND_ID));
}
