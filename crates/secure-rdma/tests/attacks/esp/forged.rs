//! Packets in clear. Every number in them is the one that the session has, or one of them is.

use super::{PSNS, refuses, unharmed};
use crate::lab::{Side, session};
use crate::middle::{Caught, Way};
use crate::packets::{Injector, reth};
use crate::path::Path;
use rocev2::wire::{Headers, Operation};
use secure_rdma::{SealedBy, Session};

/// What is said of them.
const REFUSED: &str = "nothing: each is refused and counted (`esp_clear`)";

/// Sends each to those ends, in the other's name.
pub(crate) async fn forged(to: &[Side], forge: impl Fn(&Session) -> Vec<(Headers, Vec<u8>)>) -> String {
    for to in to {
        let (world, client, server) = session(SealedBy::Packets).await;
        let injector = Injector::new();
        // An end's requests, and its answers, are those that the other one expects.
        let (from, device) = match to {
            Side::Server => (&client, &world.device),
            Side::Client => (&server, world.client.device()),
        };
        let packets = forge(from);
        let address = from.info().remote.address;
        packets.iter().for_each(|(headers, payload)| injector.send(address, headers, payload));
        refuses(device, &[("esp_clear", packets.len() as u64)]).await;
        unharmed(client, server).await;
    }
    REFUSED.into()
}

/// Sends each to the server in the client's name, whatever PSN the session is at.
pub(crate) fn forged_on_the_way(
    path: &Path,
    (client, server): (Session, Session),
    forge: impl Fn(u32) -> (Headers, Vec<u8>),
) -> String {
    for ahead in 0..PSNS {
        let (headers, payload) = forge(ahead);
        path.middle.send(&Caught { way: Way::ToServer, headers, payload });
    }
    path.run(async {
        refuses(&path.device(Side::Server), &[("esp_clear", u64::from(PSNS))]).await;
        unharmed(client, server).await;
    });
    // No answer has left that isn't sealed.
    assert_eq!(path.middle.seen().len(), 0);
    REFUSED.into()
}

/// Such a WRITE.
pub(crate) fn write(client: &Session, bytes: &[u8]) -> impl Fn(u32) -> (Headers, Vec<u8>) + use<> {
    let region = client.remote_region().unwrap();
    let (qpn, psn) = (client.info().remote.qpn, client.info().own.psn.get());
    let bytes = bytes.to_vec();
    move |ahead| {
        let mut headers = crate::packets::packet(Operation::WriteOnly, qpn, psn.plus(ahead));
        headers.reth = reth(&region, 0, bytes.len());
        (headers, bytes.clone())
    }
}
