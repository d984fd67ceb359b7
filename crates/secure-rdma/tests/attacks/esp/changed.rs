//! Sealed packets that are read, changed, exchanged or sent on from another address.

use super::{receiver, refuses, sent, spi, unharmed};
use crate::lab::{Side, message, silence, until, within};
use crate::middle::Way;
use crate::path::Path;

/// Packets that are changed one after the other, before one passes.
const CHANGED: u64 = 3;

pub(crate) fn eavesdropping(path: &Path) -> String {
    const SECRETS: [&[u8]; 2] = [b"a message for nobody else", b"written for nobody else"];
    let (mut client, mut server) = path.session();
    let region = client.remote_region().unwrap();
    path.run(async {
        client.send(SECRETS[0]).await.unwrap();
        assert_eq!(message(&mut server).await, SECRETS[0]);
        client.write(0, SECRETS[1]).await.unwrap();
        assert_eq!(client.read(0, SECRETS[1].len()).await.unwrap(), SECRETS[1]);
        assert_eq!(client.fetch_add(0, 7).await.unwrap(), 0);
    });
    let (key, address) = (region.rkey.to_be_bytes(), region.addr.to_be_bytes());
    for way in [Way::ToServer, Way::ToClient] {
        let seen = sent(path, way);
        assert!(seen.len() >= 3, "{}", seen.len());
        for sealed in seen {
            for hidden in [SECRETS[0], SECRETS[1], &key, &address] {
                assert!(!sealed.bytes.windows(hidden.len()).any(|window| window == hidden));
            }
        }
    }
    path.run(refuses(&path.device(Side::Server), &[]));
    path.run(unharmed(client, server));
    "not a byte of it is in the packets, and no key or address".into()
}

const REFUSED: &str =
    "nothing: what was changed is refused and counted (`esp_not_authentic`), and the packet is sent again";

/// A bit of what goes that way is another, in a few packets.
fn change(path: &Path, which: Way) {
    let mut done = 0;
    path.middle.on_sealed(move |mut sealed, out| {
        if sealed.way == which && done < CHANGED {
            done += 1;
            // In the tag, in what is encrypted, and in the number.
            let at = [sealed.bytes.len() - 1, sealed.bytes.len() / 2, 7];
            sealed.bytes[at[usize::try_from(done).unwrap() % at.len()]] ^= 1;
        }
        out.push(sealed);
    });
}

/// A message is changed on its way.
pub(crate) fn changed(path: &Path) -> String {
    let (mut client, mut server) = path.session();
    change(path, Way::ToServer);
    path.run(async {
        within(client.send(b"pay 100")).await.unwrap();
        assert_eq!(message(&mut server).await, b"pay 100");
        refuses(&path.device(Side::Server), &[("esp_not_authentic", CHANGED)]).await;
        unharmed(client, server).await;
    });
    REFUSED.into()
}

/// What a READ is answered with is changed on its way.
pub(crate) fn response_changed(path: &Path) -> String {
    let (mut client, server) = path.session();
    path.run(async {
        client.write(0, &[b'A'; 4096]).await.unwrap();
        change(path, Way::ToClient);
        assert_eq!(within(client.read(0, 4096)).await.unwrap(), [b'A'; 4096]);
        refuses(&path.device(Side::Client), &[("esp_not_authentic", CHANGED)]).await;
        unharmed(client, server).await;
    });
    REFUSED.into()
}

/// What two packets hold is exchanged; and then two packets are exchanged as they are.
pub(crate) fn exchanged(path: &Path) -> String {
    let (mut client, mut server) = path.session();
    let (mut held, mut exchanged) = (None, 0);
    path.middle.on_sealed(move |mut sealed, out| {
        if sealed.way != Way::ToServer || exchanged == 2 {
            return out.push(sealed);
        }
        let Some(mut first) = held.take() else {
            held = Some(sealed);
            return;
        };
        if exchanged == 0 {
            // Behind the SPI, the number and the IV.
            let (one, other): (&mut Vec<u8>, &mut Vec<u8>) = (&mut first.bytes, &mut sealed.bytes);
            let [own, others] = [one.split_off(16), other.split_off(16)];
            one.extend(others);
            other.extend(own);
        }
        exchanged += 1;
        out.extend([sealed, first]);
    });
    let halves = [vec![b'A'; 4096], vec![b'B'; 4096]].concat();
    path.run(async {
        within(client.send(&halves)).await.unwrap();
        assert_eq!(message(&mut server).await, halves);
        within(client.send(&halves)).await.unwrap();
        assert_eq!(message(&mut server).await, halves);
        refuses(&path.device(Side::Server), &[("esp_not_authentic", 2)]).await;
        unharmed(client, server).await;
    });
    "nothing: both are refused and counted (`esp_not_authentic`) and sent again; whole packets that were exchanged \
     arrive as they left"
        .into()
}

/// Packets arrive from another address than the peer's.
pub(crate) fn readdressed(path: &Path) -> String {
    let (mut client, mut server) = path.session();
    let before = path.counted("wrong_address");
    path.middle.readdress(true);
    path.run(async {
        client.post_send(b"from elsewhere").await.unwrap();
        until(|| path.counted("wrong_address") > before).await;
        silence(&mut server).await;
        path.middle.readdress(false);
        assert_eq!(message(&mut server).await, b"from elsewhere");
    });
    let _ = spi(path, Way::ToServer);
    path.run(refuses(&path.device(receiver(Way::ToServer)), &[]));
    path.run(unharmed(client, server));
    "nothing: opened, refused and counted (`wrong_address`); sent again, it arrives".into()
}
