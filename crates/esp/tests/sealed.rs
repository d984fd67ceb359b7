//! What one side seals the other opens, once, and nobody else's bytes: over a link that loses, reorders, duplicates
//! and corrupts, near the numbers where the low half wraps, and for every bit of a datagram.

use netem::{Corrupt, Link, LinkConfig, Loss, Reorder};
use proptest::prelude::*;
use rocev2_esp::replay::ReplayWindow;
use rocev2_esp::{Algorithm, DropReason, Inbound, Inner, Key, Outbound, Spi, layout};
use std::collections::HashSet;

const INNER: Inner = Inner { source_port: 0xc123, checksum: None };

fn spi() -> Spi {
    Spi::for_shared_port(0x0102_0304, 7)
}

fn key(algorithm: Algorithm, seed: u8) -> Key {
    let material: Vec<u8> = (0..36).map(|place| place ^ seed).collect();
    Key::new(algorithm, &material[..algorithm.material_len()]).expect("the right length")
}

fn pair(algorithm: Algorithm, first: u64, window: u32) -> (Outbound, Inbound) {
    let out = Outbound::with_numbers(spi(), key(algorithm, 1), INNER, first, u64::MAX);
    (out, Inbound::new(spi(), key(algorithm, 1), window))
}

fn sealed(out: &Outbound, packet: &[u8], len: usize) -> Vec<u8> {
    let mut datagram = vec![0; len];
    datagram[layout::HEADROOM..][..packet.len()].copy_from_slice(packet);
    out.sealer().seal(&mut datagram, packet.len()).expect("numbers are left");
    datagram
}

#[test]
fn no_bit_of_a_datagram_can_be_changed() {
    let (out, mut into) = pair(Algorithm::Aes256Gcm, 1, 64);
    let packet: Vec<u8> = (0..40).collect();
    let datagram = sealed(&out, &packet, layout::sealed_len(packet.len()) + 8);
    for bit in 0..datagram.len() * 8 {
        let mut changed = datagram.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let reason = into.open(&mut changed).expect_err("a changed datagram");
        match bit / 8 {
            0..4 => assert_eq!(reason, DropReason::UnknownSpi),
            4..8 => assert!(matches!(reason, DropReason::NotAuthentic | DropReason::BelowWindow), "{reason}"),
            _ => {
                assert_eq!(reason, DropReason::NotAuthentic);
                assert!(changed[16..changed.len() - 16].iter().all(|byte| *byte == 0), "something was shown");
            }
        }
    }
    let opened = into.open(&mut datagram.clone()).map(|opened| (opened.packet.to_vec(), opened.source_port));
    assert_eq!(opened, Ok((packet, INNER.source_port)), "none of that has used the number up");
}

#[test]
fn every_other_length_of_a_datagram_is_refused() {
    let (out, mut into) = pair(Algorithm::Aes128Gcm, 1, 64);
    let datagram = sealed(&out, &[5; 64], layout::sealed_len(64));
    for len in 0..datagram.len() {
        assert!(into.open(&mut datagram[..len].to_vec()).is_err(), "cut off at {len}");
        assert!(into.open(&mut datagram[len..].to_vec()).is_err() || len == 0, "from {len} on");
        let longer = [&datagram[..], &vec![0; len + 1]].concat();
        assert!(into.open(&mut longer.clone()).is_err(), "longer by {}", len + 1);
        // That of another datagram, and this one opened before: start anew.
        (_, into) = pair(Algorithm::Aes128Gcm, 1, 64);
    }
}

#[test]
fn another_key_or_direction_opens_nothing() {
    let (out, _) = pair(Algorithm::Aes256Gcm, 1, 64);
    let datagram = sealed(&out, &[5; 64], layout::sealed_len(64));
    for (algorithm, seed) in [(Algorithm::Aes256Gcm, 2), (Algorithm::Aes128Gcm, 1)] {
        let mut into = Inbound::new(spi(), key(algorithm, seed), 64);
        assert_eq!(into.open(&mut datagram.clone()).map(|_| ()), Err(DropReason::NotAuthentic));
    }
    // The same key under another SPI: the SPI is authentic too.
    let mut relabelled = datagram.clone();
    let other = Spi::for_shared_port(0x9999_9999, 7);
    relabelled[..4].copy_from_slice(&other.number().to_be_bytes());
    let mut into = Inbound::new(other, key(Algorithm::Aes256Gcm, 1), 64);
    assert_eq!(into.open(&mut relabelled).map(|_| ()), Err(DropReason::NotAuthentic));
}

#[test]
fn equal_packets_never_look_alike_and_tell_no_lengths_but_their_own() {
    let (out, _) = pair(Algorithm::Aes256Gcm, 1, 64);
    let len = layout::sealed_len(64);
    let seen: HashSet<Vec<u8>> = (0..100).map(|_| sealed(&out, &[0; 64], len)[8..].to_vec()).collect();
    assert_eq!(seen.len(), 100);
    assert_eq!(sealed(&out, &[0; 40], len).len(), sealed(&out, &[0; 64], len).len());
}

#[test]
fn what_is_looked_at_before_the_tag_allocates_nothing_and_neither_does_opening() {
    let (out, mut into) = pair(Algorithm::Aes256Gcm, 1, 16_384);
    let packet = [5; 4096 + 16];
    let mut datagrams: Vec<Vec<u8>> =
        (0..10).map(|_| sealed(&out, &packet, layout::sealed_len(packet.len()))).collect();
    // The first call may set the library up.
    into.open(&mut datagrams[0]).expect("authentic");
    let mut replay = sealed(&out, &packet, layout::sealed_len(packet.len()));
    into.open(&mut replay.clone()).expect("authentic");
    let allocated = allocation_counter::measure(|| {
        for datagram in &mut datagrams[1..] {
            into.open(datagram).expect("authentic");
        }
        into.open(&mut replay).expect_err("a replay");
        into.open(&mut [0xc0; 2000]).expect_err("an unknown SPI");
    });
    assert_eq!(allocated.count_total, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Over a bad link, across the places where the low half of the number wraps.
    #[test]
    fn each_packet_is_opened_at_most_once_and_only_as_it_was_sealed(
        seed: u64,
        first in prop_oneof![Just(1u64), Just((1 << 32) - 300), Just(5 << 32), 1u64..1 << 60],
        lengths in prop::collection::vec(0usize..60, 1..600),
        size in prop_oneof![Just(64u32), Just(1024)],
        aes256: bool,
    ) {
        let algorithm = if aes256 { Algorithm::Aes256Gcm } else { Algorithm::Aes128Gcm };
        let out = Outbound::with_numbers(spi(), key(algorithm, 1), INNER, first, u64::MAX);
        let window = ReplayWindow::after(size, first - 1);
        let mut into = Inbound::with_window(spi(), key(algorithm, 1), window);
        let config = LinkConfig {
            latency_ns: 1000,
            loss: Loss::Bernoulli(0.1),
            reorder: Reorder { probability: 0.2, extra_delay_ns: 20_000 },
            duplicate: 0.2,
            corrupt: Corrupt { probability: 0.1, max_bits: 4 },
            ..LinkConfig::default()
        };
        let mut link = Link::new(config, seed);
        let mut sealer = out.sealer();
        let (mut sent, mut got) = (Vec::new(), HashSet::new());
        let mut dropped = 0;
        for (now, words) in (0..).step_by(500).zip(&lengths) {
            let packet = vec![words.to_le_bytes()[0]; words * 4];
            // All of one length, as a run of segmentation offload wants them.
            let mut datagram = vec![0; layout::sealed_len(60 * 4)];
            datagram[layout::HEADROOM..][..packet.len()].copy_from_slice(&packet);
            let number = sealer.seal(&mut datagram, packet.len()).expect("numbers are left");
            prop_assert_eq!(number, first + sent.len() as u64);
            sent.push(packet);
            link.send(now, datagram);
        }
        while let Some(now) = link.next_delivery() {
            while let Some(mut datagram) = link.recv(now) {
                match into.open(&mut datagram) {
                    Ok(opened) => {
                        let place = usize::try_from(opened.number - first).expect("one of those sealed");
                        prop_assert_eq!(&*opened.packet, &sent[place][..]);
                        prop_assert!(got.insert(opened.number), "number {} twice", opened.number);
                    }
                    Err(reason) => {
                        prop_assert!(reason != DropReason::Format, "authentic bytes that nobody sealed");
                        dropped += 1;
                    }
                }
            }
        }
        // The link delays by 20 µs at most, 40 packets: the window is wide enough, so all that is intact is taken.
        let counters = link.counters();
        let arrived = sent.len() as u64 + counters.duplicated - counters.lost;
        prop_assert_eq!(got.len() as u64 + dropped, arrived);
        prop_assert!(dropped <= counters.duplicated + counters.corrupted);
    }
}
