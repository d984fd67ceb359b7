//! Recordings that are older than the keys, and what happens at the moment when keys change.

use super::replayed::{labelled, numbered};
use super::withheld::{ACK, Asker};
use super::{newest, refusals, refuses, sent, spi, unharmed};
use crate::lab::{Side, message, until, within};
use crate::middle::{Sealed, Way};
use crate::path::Path;
use crate::world::counted;
use rdma_verbs::esp::Spi;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How many packets a key is for, at the least.
pub(crate) const PACKETS: u64 = 50;

/// What was recorded is sent again when both directions have new keys: while packets under the old ones may still be
/// under way, and after that.
pub(crate) fn after_new_keys(path: &Path) -> String {
    let (mut client, mut server) = path.session();
    let at_server = path.device(Side::Server);
    let recorded = path.run(async {
        client.send(b"pay 100").await.unwrap();
        assert_eq!(message(&mut server).await, b"pay 100");
        let recorded = sent(path, Way::ToServer);
        // The client's device seals by a new key when the server has given it one, and the server's the other way. As
        // soon as the client's does, the old one is good for a few seconds more.
        within(async {
            while counted(&path.device(Side::Client), "esp_rekeyed") == 0 {
                client.send(b"go on").await.unwrap();
                assert_eq!(message(&mut server).await, b"go on");
            }
        })
        .await;
        recorded
    });
    let is_new = || counted(&at_server, "esp_rekeyed") > 0 && counted(&at_server, "esp_unknown_spi") > 0;
    path.run(within(async {
        while !is_new() {
            recorded.iter().for_each(|sealed| path.middle.send_sealed(sealed));
            client.send(b"go on").await.unwrap();
            assert_eq!(message(&mut server).await, b"go on");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }));
    let reasons: Vec<_> = refusals(&at_server).into_iter().map(|(name, _)| name).collect();
    // Whether the recording is still within the old key's window, or behind it, depends on how many packets have passed
    // since: behind it, its number is taken for one of the next 2^32 (RFC 4303, appendix A).
    let old: Vec<_> = reasons.iter().filter(|name| *name != "esp_unknown_spi").collect();
    assert!(!old.is_empty() && old.len() < reasons.len(), "{reasons:?}");
    let by_the_old_key = |name: &str| matches!(name, "esp_replayed" | "esp_not_authentic");
    assert!(old.iter().all(|name| by_the_old_key(name)), "{reasons:?}");
    path.run(unharmed(client, server));
    "nothing: refused and counted, as `esp_replayed`, or `esp_not_authentic` behind its window, while packets under \
     the old key may be on their way, as `esp_unknown_spi` from then on"
        .into()
}

/// Whether it goes to the server by another SPI than the one before.
fn is_under_new_key(sealed: &Sealed, before: Spi) -> bool {
    sealed.way == Way::ToServer && Spi::of(&sealed.bytes) != Some(before)
}

/// Everything of the client's under its second key is withheld, and acknowledged.
pub(crate) fn new_keys_withheld(path: &Path) -> String {
    let (mut client, mut server) = path.session();
    let held = Arc::new(AtomicBool::new(false));
    path.run(async {
        client.send(b"first").await.unwrap();
        assert_eq!(message(&mut server).await, b"first");
        let (before, note) = (spi(path, Way::ToServer), Arc::clone(&held));
        path.middle.on_sealed(move |sealed, out| {
            if is_under_new_key(&sealed, before) {
                note.store(true, Ordering::Release);
            } else {
                out.push(sealed);
            }
        });
        let is_held = || held.load(Ordering::Acquire);
        let (mut posted, mut arrived) = (1, 1);
        while !is_held() {
            within(client.post_send(b"go on")).await.unwrap();
            posted += 1;
            tokio::select! {
                text = message(&mut server) => {
                    assert_eq!(text, b"go on");
                    arrived += 1;
                }
                () = until(is_held) => {}
            }
        }
        // The one before may have left by the old one, too.
        within(client.post_send(b"go on")).await.unwrap();
        posted += 1;
        let asker = Asker { session: &mut client, way: Way::ToServer, before: posted - 2 };
        asker.withheld(path, ACK, posted).await;
        for _ in arrived..posted {
            assert_eq!(message(&mut server).await, b"go on");
        }
        assert_eq!(counted(&path.device(Side::Client), "esp_rekeyed"), 1);
        unharmed(client, server).await;
    });
    "nothing: the answer is refused and counted (`esp_clear`); the client waits until the request has arrived"
        .into()
}

/// Packets that get another SPI, in either direction.
const RELABELLED: u64 = 3;

/// What is under the second key goes by the SPI of the first, and the other way round, with numbers that are expected.
pub(crate) fn labels_exchanged(path: &Path) -> String {
    let (mut client, mut server) = path.session();
    let done = Arc::new(AtomicU64::new(0));
    path.run(async {
        client.send(b"first").await.unwrap();
        assert_eq!(message(&mut server).await, b"first");
        let (old, count) = (newest(path, Way::ToServer), Arc::clone(&done));
        let before = spi(path, Way::ToServer);
        path.middle.on_sealed(move |sealed, out| {
            let earlier = u32::try_from(count.load(Ordering::Relaxed)).unwrap();
            if !is_under_new_key(&sealed, before) || u64::from(earlier) == RELABELLED {
                return out.push(sealed);
            }
            let after = Spi::of(&sealed.bytes).unwrap();
            out.push(numbered(labelled(&sealed, Way::ToServer, before), 1_000_000));
            out.push(numbered(labelled(&old, Way::ToServer, after), 1000 + earlier));
            count.fetch_add(1, Ordering::Release);
        });
        while done.load(Ordering::Acquire) < RELABELLED {
            within(client.send(b"go on")).await.unwrap();
            assert_eq!(message(&mut server).await, b"go on");
        }
        refuses(&path.device(Side::Server), &[("esp_not_authentic", 2 * RELABELLED)]).await;
        unharmed(client, server).await;
    });
    "nothing: what goes by the other key's SPI is refused and counted (`esp_not_authentic`), and sent again"
        .into()
}
