//! The same attacks on sessions whose packets are sealed.
//!
//! | file | what it holds |
//! |---|---|
//! | `forged` | packets in clear whose numbers are all right: the attacker is told those that it can't see |
//! | `changed`, `replayed`, `withheld` | what an attacker on the path does to packets that it can't open |
//! | `rekeyed` | recordings that are older than the keys |
//!
//! Each returns what is said of it on the page.

mod changed;
mod forged;
mod rekeyed;
mod replayed;
mod withheld;

pub(crate) use changed::{changed, eavesdropping, exchanged, readdressed, response_changed};
pub(crate) use forged::{forged, forged_on_the_way, write};
pub(crate) use rekeyed::{PACKETS, after_new_keys, labels_exchanged, new_keys_withheld};
pub(crate) use replayed::{
    as_it_was, into_another_client, into_another_session, made_up, old_session, reflected, relabelled,
    response,
};
pub(crate) use withheld::{
    Then, nak_instead, naks_while_busy, read_answered, send_acknowledged, write_acknowledged,
};

use crate::lab::{PATIENCE, Side, goodbye, message, silence, within};
use crate::middle::{Sealed, Way};
use crate::path::Path;
use rdma_verbs::Device;
use rdma_verbs::esp::Spi;
use secure_rdma::Session;
use std::time::Duration;

/// Requests and answers are forged with each PSN that the session may be at.
const PSNS: u32 = 16;

/// What a device has refused on account of ESP, by reason.
fn refusals(device: &Device) -> Vec<(String, u64)> {
    let counters = device.counters().into_iter().map(|(name, count)| (name.into_owned(), count));
    let refused = |name: &str| name.starts_with("esp_") && name != "esp_rekeyed";
    counters.filter(|(name, count)| refused(name) && *count > 0).collect()
}

/// The device refuses this much, by reason, and no more.
async fn refuses(device: &Device, expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    let sum = |rows: &[(String, u64)]| rows.iter().map(|row| row.1).sum::<u64>();
    let arrived = tokio::time::timeout(PATIENCE, async {
        while sum(&refusals(device)) < sum(&expected) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let _ = arrived.await;
    assert_eq!(refusals(device), expected);
}

/// Nothing was delivered at either end, every operation does what it did before, and both sides end in good order.
pub(crate) async fn unharmed(mut client: Session, mut server: Session) {
    tokio::join!(silence(&mut client), silence(&mut server));
    within(client.send(b"genuine")).await.unwrap();
    assert_eq!(message(&mut server).await, b"genuine");
    within(server.send(b"genuine, too")).await.unwrap();
    assert_eq!(message(&mut client).await, b"genuine, too");
    within(client.write(8192, b"written")).await.unwrap();
    assert_eq!(within(client.read(8192, 7)).await.unwrap(), b"written");
    assert_eq!(within(server.read_local(8192, 7)).await.unwrap(), b"written");
    // Nobody else has added anything.
    assert_eq!(within(client.fetch_add(1, 1)).await.unwrap(), 0);
    let (left, stayed) = goodbye(client, server).await;
    left.unwrap();
    stayed.unwrap();
}

/// What went to one side.
fn sent(path: &Path, to: Way) -> Vec<Sealed> {
    assert_eq!(path.middle.seen().len(), 0, "something left in clear");
    path.middle.sealed().into_iter().filter(|sealed| sealed.way == to).collect()
}

/// The newest packet that went to one side.
fn newest(path: &Path, to: Way) -> Sealed {
    sent(path, to).pop().expect("a packet")
}

/// The SPI by which that side takes packets.
fn spi(path: &Path, to: Way) -> Spi {
    Spi::of(&newest(path, to).bytes).expect("it is sealed")
}

/// The ends of a session (client and server), by the way that messages go.
fn sender_and_receiver(ends: &mut (Session, Session), way: Way) -> (&mut Session, &mut Session) {
    match way {
        Way::ToServer => (&mut ends.0, &mut ends.1),
        Way::ToClient => (&mut ends.1, &mut ends.0),
    }
}

/// Whom a packet reaches.
const fn receiver(way: Way) -> Side {
    match way {
        Way::ToServer => Side::Server,
        Way::ToClient => Side::Client,
    }
}
