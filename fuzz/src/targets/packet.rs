//! RoCE headers: what parses is written back as the same bytes, with reserved bits and pad cleared. Nothing
//! reads in two ways.

use rocev2::wire::{Opcode, Packet};

pub(super) fn run(bytes: &[u8]) {
    let packet = match Packet::parse(bytes) {
        Ok(packet) => packet,
        Err(error) => {
            assert!(!error.to_string().is_empty() && !error.reason().is_empty());
            return;
        }
    };
    let mut out = vec![0x55; bytes.len()];
    let frame = packet.headers.frame(&mut out, packet.payload.len()).expect("what was read can be written");
    frame.payload.copy_from_slice(packet.payload);
    assert_eq!(frame.len, bytes.len());
    assert_eq!(out, canonical(bytes, &packet), "{packet:?}");
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
