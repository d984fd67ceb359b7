//! Recordings that are older than the keys.

use super::{refusals, sent, unharmed};
use crate::lab::{Side, message, within};
use crate::middle::Way;
use crate::path::Path;
use crate::world::counted;
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
