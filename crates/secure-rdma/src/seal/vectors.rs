//! The test vectors of `docs/sealing.md`.

use super::message::{MessageOpener, MessageSealer};
use super::schedule::{Chain, slot_secrets};
use super::secret::Secret;
use super::testing::{context, packet_context, pair, session, small};
use super::{Attempts, Limits, OVERHEAD, PacketKeys, SLOT_OVERHEAD, Suite};
use crate::control::Role;
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};
use core::fmt::Write;
use rdma_verbs::esp::{Inbound, Inner, Outbound, layout};

const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sealing.md"));

/// A key for every two fragments.
const LIMITS: Limits = Limits { records: 2, bytes: u64::MAX };

/// Lines of a name and up to 32 bytes.
fn line(out: &mut String, name: &str, bytes: &[u8]) {
    let mut name = name;
    for chunk in bytes.chunks(32) {
        write!(out, "{name:<24}").unwrap();
        for byte in chunk {
            write!(out, "{byte:02x}").unwrap();
        }
        out.push('\n');
        name = "";
    }
}

/// The key and IV of a secret, also as lines.
fn key(out: &mut String, name: &str, secret: &Secret) -> (Vec<u8>, [u8; 12]) {
    let (mut key, mut iv) = (vec![0; secret.suite().aead().key_len()], [0; 12]);
    secret.expand(b"key", b"", &mut key).unwrap();
    secret.expand(b"iv", b"", &mut iv).unwrap();
    line(out, &format!("{name} secret"), secret.bytes());
    line(out, &format!("{name} key"), &key);
    line(out, &format!("{name} iv"), &iv);
    (key, iv)
}

/// What the AEAD alone makes of these: ciphertext and tag.
fn aead(suite: Suite, (key, iv): &(Vec<u8>, [u8; 12]), number: u64, aad: &[u8], text: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(suite.aead(), key).unwrap());
    let number = [&[0; 4][..], &number.to_be_bytes()].concat();
    let nonce = core::array::from_fn(|at| iv[at] ^ number[at]);
    let mut sealed = text.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).unwrap();
    sealed
}

fn fragments(out: &mut String, suite: Suite, sealer: &mut MessageSealer, opener: &mut MessageOpener) {
    let mut chain = Chain::new(&session(suite, 0), Role::Client).unwrap();
    for (number, text) in (0_u64..).zip(["", "A message of ", "two fragments."]) {
        let last = number != 1;
        if number % 2 == 0 {
            if number > 0 {
                chain = chain.next().unwrap();
            }
            key(out, &format!("c message {}", chain.epoch()), chain.secret());
        }
        let mut record = vec![0; text.len() + OVERHEAD];
        sealer.seal(last, text.as_bytes(), &mut record).unwrap();
        let header = chain.epoch() | u32::from(last) << 31;
        let aad = [&[1, 0, 0, 0][..], &header.to_be_bytes(), &number.to_be_bytes()].concat();
        let key = key(&mut String::new(), "", chain.secret());
        assert_eq!(record[..4], header.to_be_bytes());
        assert_eq!(record[4..], aead(suite, &key, number, &aad, text.as_bytes()));
        line(out, &format!("fragment {number} plaintext"), text.as_bytes());
        line(out, &format!("fragment {number} aad"), &aad);
        line(out, &format!("fragment {number}"), &record);
        assert_eq!(opener.open_in_place(&mut record).unwrap().bytes, text.as_bytes());
    }
    manifest(out, suite, sealer, opener, &chain);
    key(out, "s message 0", Chain::new(&session(suite, 0), Role::Server).unwrap().secret());
}

/// The client's manifest of four slots that it has written, one of them twice: the next fragment, with the same key.
fn manifest(
    out: &mut String,
    suite: Suite,
    sealer: &mut MessageSealer,
    opener: &mut MessageOpener,
    chain: &Chain,
) {
    let (client, server) = pair(suite, LIMITS, Some(small()));
    let (mut client, mut server) = (client.slots.unwrap(), server.slots.unwrap());
    for slot in [2, 3, 4, 3] {
        client.seal(slot, &[0; 64], &mut [0; 64 + SLOT_OVERHEAD]).unwrap();
    }
    let mut record = [0; 3 * 16 + OVERHEAD];
    assert_eq!(client.announce(&mut record[4..][..3 * 16]), 3 * 16);
    let text = record[4..][..3 * 16].to_vec();
    let entry = |[slot, count, number]: [u8; 3]| [0, 0, 0, slot, 0, 0, 0, count, 0, 0, 0, 0, 0, 0, 0, number];
    assert_eq!(text, [[2, 1, 1], [4, 1, 3], [3, 1, 4]].map(entry).concat());
    sealer.seal_manifest(&mut record).unwrap();
    let header = chain.epoch() | 1 << 30;
    let aad = [&[1, 0, 0, 0][..], &header.to_be_bytes(), &3_u64.to_be_bytes()].concat();
    assert_eq!(record[..4], header.to_be_bytes());
    let key = key(&mut String::new(), "", chain.secret());
    assert_eq!(record[4..], aead(suite, &key, 3, &aad, &text));
    line(out, "manifest 3 plaintext", &text);
    line(out, "manifest 3 aad", &aad);
    line(out, "manifest 3", &record);
    let opened = opener.open_in_place(&mut record).unwrap();
    assert!(opened.manifest && !opened.last);
    server.apply(opened.bytes).unwrap();
    assert_eq!([1, 2, 3, 4, 5].map(|slot| server.newest(slot)), [None, Some(1), Some(4), Some(3), None]);
}

fn slots(out: &mut String, suite: Suite) {
    let (client, server) = pair(suite, LIMITS, Some(small()));
    let (mut client, mut server) = (client.slots.unwrap(), server.slots.unwrap());
    let secrets = slot_secrets(&session(suite, 0)).unwrap();
    let text: Vec<u8> = (0..64).collect();
    let (mut sealed, mut opened) = ([0; 64 + SLOT_OVERHEAD], [0; 64]);
    for (author, slot, number, name) in [(0_u8, 5_u32, 1_u64, "c"), (1, 6, 2, "s"), (0, 5, 4, "c")] {
        let (writer, reader) =
            if author == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
        if number == 4 {
            // The client's next number is 3, and the one after it begins an epoch: numbers have two bits below it here.
            writer.seal(5, &text, &mut sealed).unwrap();
        }
        writer.seal(slot, &text, &mut sealed).unwrap();
        let stamp = number | u64::from(author) << 63;
        let aad = [&[2, author, 0, 0][..], &slot.to_be_bytes(), &stamp.to_be_bytes()].concat();
        let epoch = number >> 2;
        let secret = secrets[usize::from(author)].derive(b"epoch", &epoch.to_be_bytes()).unwrap();
        let key = key(out, &format!("{name} slot epoch {epoch}"), &secret);
        assert_eq!(sealed[64 + 16..], stamp.to_be_bytes());
        assert_eq!(sealed[..64 + 16], aead(suite, &key, number, &aad, &text));
        line(out, &format!("slot {slot} aad"), &aad);
        line(out, &format!("slot {slot}"), &sealed);
        reader.open(slot, &sealed, &mut opened, &mut Attempts::once()).unwrap();
        assert_eq!(opened[..], text);
    }
}

fn vectors() -> String {
    let mut out = String::new();
    for suite in Suite::ALL {
        let name = match suite {
            Suite::Aes128Gcm => "TLS_AES_128_GCM_SHA256",
            Suite::Aes256Gcm => "TLS_AES_256_GCM_SHA384",
            Suite::ChaCha20Poly1305 => "TLS_CHACHA20_POLY1305_SHA256",
        };
        writeln!(out, "# {name}").unwrap();
        line(&mut out, "context", &context().encode(suite));
        line(&mut out, "session secret", session(suite, 0).bytes());
        let (mut client, mut server) = pair(suite, LIMITS, None);
        fragments(&mut out, suite, &mut client.sealer, &mut server.opener);
        slots(&mut out, suite);
        out.push('\n');
    }
    out.pop();
    out
}

#[test]
fn the_documents_vectors_are_what_the_code_makes() {
    let vectors = vectors();
    assert!(
        DOCUMENT.contains(&format!("```text\n{vectors}```\n")),
        "docs/sealing.md should have:\n{vectors}"
    );
}

/// A client's first packet of 20 bytes, under its first key and under its second.
fn packet_vectors() -> String {
    let mut out = String::new();
    for suite in Suite::ALL {
        let name = match suite {
            Suite::Aes128Gcm => "TLS_AES_128_GCM_SHA256",
            Suite::Aes256Gcm => "TLS_AES_256_GCM_SHA384",
            Suite::ChaCha20Poly1305 => "TLS_CHACHA20_POLY1305_SHA256",
        };
        writeln!(out, "# {name}").unwrap();
        line(&mut out, "packet context", &packet_context().encode(suite));
        line(&mut out, "packets secret", session(suite, 0).bytes());
        let keys = |own| PacketKeys::from_secret(&session(suite, 0), own).unwrap();
        let (mut client, mut server) = (keys(Role::Client), keys(Role::Server));
        line(&mut out, "s packet 0 secret", server.own.secret().bytes());
        line(&mut out, "s packet 0 key, salt", &server.own.material().unwrap());
        for epoch in 0..2 {
            line(&mut out, &format!("c packet {epoch} secret"), client.own.secret().bytes());
            line(&mut out, &format!("c packet {epoch} key, salt"), &client.own.material().unwrap());
            let spi = packet_context().server.spi;
            let inner = Inner { source_port: 4791, checksum: None };
            let sa = Outbound::new(spi, client.own.next_key().unwrap(), inner);
            let packet: Vec<u8> = (0..20).collect();
            let mut datagram = vec![0; layout::sealed_len(packet.len())];
            datagram[layout::HEADROOM..][..packet.len()].copy_from_slice(&packet);
            assert_eq!(sa.sealer().seal(&mut datagram, packet.len()), Ok(1));
            line(&mut out, "datagram", &datagram);
            let mut into = Inbound::new(spi, server.peer.next_key().unwrap(), 64);
            assert_eq!(*into.open(&mut datagram).unwrap().packet, packet);
        }
        out.push('\n');
    }
    out.pop();
    out
}

#[test]
fn the_documents_vectors_of_packets_are_what_the_code_makes() {
    let vectors = packet_vectors();
    assert!(
        DOCUMENT.contains(&format!("```text\n{vectors}```\n")),
        "docs/sealing.md should have:\n{vectors}"
    );
}
