//! Sealed datagrams, tampered with on their way, replayed, and authentic ones whose inside is anything.
//!
//! Each intact datagram in the window is opened once, as what was sealed; nothing else is.

use crate::input::Input;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rocev2::wire::Packet;
use rocev2_esp::{Algorithm, DropReason, Inbound, Inner, Key, Outbound, Spi, layout};
use std::collections::HashSet;

const MATERIAL: [u8; 36] = [0x3c; 36];
const WINDOW: u32 = 64;
const MOST: usize = 32;

struct Sealed {
    datagram: Vec<u8>,
    number: u64,
    /// What is to come out, unless the inside isn't of the right format.
    packet: Option<Vec<u8>>,
}

pub(super) fn run(bytes: &[u8]) {
    let spi = Spi::for_shared_port(0x0102_0304, 5);
    let key = || Key::new(Algorithm::Aes256Gcm, &MATERIAL).expect("the right length");
    let out = Outbound::new(spi, key(), Inner { source_port: 0xc000, checksum: None });
    let mut into = Inbound::new(spi, key(), WINDOW);
    let mut sealer = out.sealer();
    let mut input = Input::new(bytes);
    let mut sealed: Vec<Sealed> = Vec::new();
    let (mut top, mut taken) = (0, HashSet::new());
    while !input.is_empty() {
        match input.u8() % 4 {
            0 if sealed.len() < MOST => {
                let packet = input.piece().to_vec();
                let padding = usize::from(input.u8() % 64) * 4;
                let mut datagram = vec![0; layout::sealed_len(packet.len()) + padding];
                datagram[layout::HEADROOM..][..packet.len()].copy_from_slice(&packet);
                match sealer.seal(&mut datagram, packet.len()) {
                    Ok(number) => sealed.push(Sealed { datagram, number, packet: Some(packet) }),
                    // More padding than one byte can count.
                    Err(_) => assert!(padding > 248),
                }
            }
            1 if sealed.len() < MOST => {
                // Far from the sealer's numbers, so that none is used twice.
                let number = u64::from(input.u16()) + (1 << 17);
                if sealed.iter().all(|other| other.number != number) {
                    sealed.push(Sealed {
                        datagram: around(spi, number, input.piece()),
                        number,
                        packet: None,
                    });
                }
            }
            2 => {
                let mut datagram = input.piece().to_vec();
                // Without the key nobody makes an authentic one.
                into.open(&mut datagram).expect_err("bytes that nobody sealed");
            }
            _ => {
                let Some(of) = sealed.get(usize::from(input.u8()) % sealed.len().max(1)) else { continue };
                let mut datagram = of.datagram.clone();
                let (at, change) = (usize::from(input.u16()) % datagram.len(), input.u8());
                datagram[at] ^= change;
                match into.open(&mut datagram) {
                    Ok(opened) => {
                        assert_eq!((change, opened.number), (0, of.number), "a changed datagram");
                        if let Some(packet) = &of.packet {
                            assert_eq!(opened.packet, packet);
                        }
                        // What RoCEv2 makes of it must be as harmless as in clear.
                        let _ = Packet::parse(opened.packet);
                        assert!(taken.insert(of.number), "a replay");
                        top = top.max(of.number);
                    }
                    Err(DropReason::Format) => {
                        assert!(change == 0 && of.packet.is_none(), "the sealer's own format");
                        assert!(taken.insert(of.number), "a replay");
                        top = top.max(of.number);
                    }
                    Err(reason) => {
                        let old = top >= of.number && top - of.number >= u64::from(WINDOW);
                        let seen = taken.contains(&of.number);
                        let short = of.packet.is_none() && reason == DropReason::Length;
                        assert!(change != 0 || old || seen || short, "{reason}");
                    }
                }
            }
        }
    }
}

/// An authentic datagram around `text`.
fn around(spi: Spi, number: u64, text: &[u8]) -> Vec<u8> {
    let (key, salt) = MATERIAL.split_at(32);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes"));
    let iv = number.to_be_bytes();
    let nonce: [u8; 12] = [salt, &iv[..]].concat().try_into().expect("4 and 8 bytes");
    let spi = spi.number().to_be_bytes();
    let mut text = text.to_vec();
    // The ICV stands at a multiple of four bytes.
    text.truncate(text.len() / 4 * 4);
    let aad = [&spi[..], &iv].concat();
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut text)
        .expect("short enough");
    [&spi[..], &iv[4..], &iv, &text, tag.as_ref()].concat()
}
