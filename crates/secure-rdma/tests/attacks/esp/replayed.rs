//! Sealed packets that were genuine once, or elsewhere.

use super::{newest, receiver, refuses, sender_and_receiver, sent, spi, unharmed};
use crate::lab::{Side, goodbye, message, within};
use crate::middle::{Sealed, Way};
use crate::path::Path;
use rdma_verbs::esp::Spi;

const TIMES: u64 = 100;

const NOT_AUTHENTIC: &str = "nothing: refused and counted (`esp_not_authentic`)";

/// With that SPI.
pub(super) fn labelled(sealed: &Sealed, way: Way, spi: Spi) -> Sealed {
    let mut bytes = sealed.bytes.clone();
    bytes[..4].copy_from_slice(&spi.number().to_be_bytes());
    Sealed { way, bytes }
}

/// The same, with a number that the receiver hasn't seen yet.
pub(super) fn numbered(mut sealed: Sealed, ahead: u32) -> Sealed {
    let number: &mut [u8; 4] = (&mut sealed.bytes[4..8]).try_into().unwrap();
    *number = (u32::from_be_bytes(*number) + ahead).to_be_bytes();
    // The IV is the number, too.
    let iv: &mut [u8; 4] = (&mut sealed.bytes[12..16]).try_into().unwrap();
    *iv = (u32::from_be_bytes(*iv) + ahead).to_be_bytes();
    sealed
}

/// Packets that nobody has sealed, with the SPI and the next numbers.
pub(crate) fn made_up(path: &Path) -> String {
    let (mut client, mut server) = path.session();
    path.run(async {
        client.send(b"genuine").await.unwrap();
        assert_eq!(message(&mut server).await, b"genuine");
        let last = newest(path, Way::ToServer);
        for (ahead, byte) in (1..=100).zip(0..) {
            let mut sealed = numbered(last.clone(), ahead);
            sealed.bytes[16..].fill(byte);
            path.middle.send_sealed(&sealed);
        }
        refuses(&path.device(Side::Server), &[("esp_not_authentic", TIMES)]).await;
        unharmed(client, server).await;
    });
    NOT_AUTHENTIC.into()
}

/// Packets that arrived are sent again as they were.
pub(crate) fn as_it_was(path: &Path) -> String {
    let (mut client, mut server) = path.session();
    path.run(async {
        client.send(b"once").await.unwrap();
        assert_eq!(message(&mut server).await, b"once");
        let old = newest(path, Way::ToServer);
        (0..TIMES).for_each(|_| path.middle.send_sealed(&old));
        refuses(&path.device(Side::Server), &[("esp_replayed", TIMES)]).await;
        unharmed(client, server).await;
    });
    "nothing: refused and counted (`esp_replayed`), not even acknowledged".into()
}

/// An old packet takes the number of one that is expected.
pub(crate) fn relabelled(path: &Path) -> String {
    let (mut client, mut server) = path.session();
    path.run(async {
        client.send(b"pay 100").await.unwrap();
        assert_eq!(message(&mut server).await, b"pay 100");
        let old = newest(path, Way::ToServer);
        let mut replaced = false;
        path.middle.on_sealed(move |mut sealed, out| {
            if sealed.way == Way::ToServer && !replaced {
                replaced = true;
                let number: [u8; 12] = sealed.bytes[4..16].try_into().unwrap();
                sealed.bytes.clone_from(&old.bytes);
                sealed.bytes[4..16].copy_from_slice(&number);
            }
            out.push(sealed);
        });
        within(client.send(b"goodbye")).await.unwrap();
        assert_eq!(message(&mut server).await, b"goodbye");
        refuses(&path.device(Side::Server), &[("esp_not_authentic", 1)]).await;
        unharmed(client, server).await;
    });
    "nothing: refused and counted (`esp_not_authentic`), and the genuine packet is sent again".into()
}

/// A whole session's packets, in a later session of the same two devices.
pub(crate) fn old_session(path: &Path) -> String {
    let (recorded, (client, server)) = earlier(path);
    recorded.iter().for_each(|sealed| path.middle.send_sealed(sealed));
    path.run(async {
        refuses(&path.device(Side::Server), &[("esp_unknown_spi", recorded.len() as u64)]).await;
        unharmed(client, server).await;
    });
    "nothing: the keys and the SPI are others; every packet is refused and counted (`esp_unknown_spi`)".into()
}

/// The same, with the SPI of the later session, and numbers that are its next ones.
pub(crate) fn into_another_session(path: &Path) -> String {
    let (recorded, (mut client, mut server)) = earlier(path);
    path.run(async {
        client.send(b"new").await.unwrap();
        assert_eq!(message(&mut server).await, b"new");
        let spi = spi(path, Way::ToServer);
        for sealed in &recorded {
            path.middle.send_sealed(&numbered(labelled(sealed, Way::ToServer, spi), 1000));
        }
        refuses(&path.device(Side::Server), &[("esp_not_authentic", recorded.len() as u64)]).await;
        unharmed(client, server).await;
    });
    NOT_AUTHENTIC.into()
}

/// One client's packets in another's session, while both are served.
pub(crate) fn into_another_client(path: &Path) -> String {
    let (mut first, mut at_first) = path.session();
    path.run(async {
        first.send(b"I am first").await.unwrap();
        assert_eq!(message(&mut at_first).await, b"I am first");
    });
    let firsts = newest(path, Way::ToServer);
    let (mut second, mut at_second) = path.session();
    path.run(async {
        second.send(b"I am second").await.unwrap();
        assert_eq!(message(&mut at_second).await, b"I am second");
        let spi = spi(path, Way::ToServer);
        path.middle.send_sealed(&numbered(labelled(&firsts, Way::ToServer, spi), 1000));
        refuses(&path.device(Side::Server), &[("esp_not_authentic", 1)]).await;
        unharmed(second, at_second).await;
        unharmed(first, at_first).await;
    });
    NOT_AUTHENTIC.into()
}

/// What went to the server in a session that is over, and a session after it.
fn earlier(path: &Path) -> (Vec<Sealed>, (secure_rdma::Session, secure_rdma::Session)) {
    let (mut client, mut server) = path.session();
    let recorded = path.run(async {
        client.send(b"pay 100").await.unwrap();
        assert_eq!(message(&mut server).await, b"pay 100");
        client.write(0, b"paid").await.unwrap();
        let (left, stayed) = goodbye(client, server).await;
        left.unwrap();
        stayed.unwrap();
        sent(path, Way::ToServer)
    });
    assert!(recorded.len() >= 2);
    (recorded, path.session())
}

/// What a side has sent that way is sent back to it, as it was and with its own SPI.
pub(crate) fn reflected(path: &Path, way: Way) -> String {
    let mut ends = path.session();
    let back = way.back();
    path.run(async {
        let (sender, other) = sender_and_receiver(&mut ends, way);
        sender.send(b"who are you?").await.unwrap();
        assert_eq!(message(other).await, b"who are you?");
        let own = newest(path, way);
        path.middle.send_sealed(&Sealed { way: back, bytes: own.bytes.clone() });
        let labelled = labelled(&own, back, spi(path, back));
        path.middle.send_sealed(&numbered(labelled, 1000));
        let device = path.device(receiver(back));
        refuses(&device, &[("esp_unknown_spi", 1), ("esp_not_authentic", 1)]).await;
        unharmed(ends.0, ends.1).await;
    });
    format!(
        "nothing: refused and counted (`esp_unknown_spi`; with the {}'s SPI, `esp_not_authentic`)",
        receiver(back)
    )
}

/// An older answer in a newer one's place.
pub(crate) fn response(path: &Path) -> String {
    let (mut client, server) = path.session();
    path.run(async {
        client.write(0, &[b'A'; 4096]).await.unwrap();
        client.read(0, 4096).await.unwrap();
        let old = newest(path, Way::ToClient);
        client.write(0, &[b'B'; 4096]).await.unwrap();
        let mut replaced = false;
        path.middle.on_sealed(move |sealed, out| {
            let replace = sealed.way == Way::ToClient && !core::mem::replace(&mut replaced, true);
            out.push(if replace { old.clone() } else { sealed });
        });
        assert_eq!(within(client.read(0, 4096)).await.unwrap(), [b'B'; 4096]);
        refuses(&path.device(Side::Client), &[("esp_replayed", 1)]).await;
        unharmed(client, server).await;
    });
    "nothing: refused and counted (`esp_replayed`), and the genuine answer is asked for again".into()
}
