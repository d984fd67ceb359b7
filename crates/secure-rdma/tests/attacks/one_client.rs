//! Two sessions of one client, which shows the same certificate in both: what belongs to one is put into the other.

use crate::attack::{Attack, Outcome, Played};
use crate::lab::{ALL, options, quote, run, until, within};
use crate::memory::anothers_slot;
use crate::messages::spliced;
use crate::path::Path;
use crate::proxy::Proxy;
use crate::world::{self, World};
use secure_rdma::certs::{Identity, Store};
use secure_rdma::tls::ClientAuth;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

pub(crate) static MESSAGE: Attack = Attack::new(
    "splicing: a message of one session in another of the same client",
    "T3",
    "every packet",
    || spliced(Path::of_one_client),
);
pub(crate) static SLOT: Attack = Attack::new(
    "splicing: a part of the region of one session in that of another of the same client, by a forged WRITE",
    "T3",
    "every packet",
    || anothers_slot(Path::of_one_client, "the client reads what it wrote in the other session"),
);
pub(crate) static RECORDS: Attack = Attack::new(
    "splicing: the end of one session's control channel in another of the same client",
    "T3",
    "the control channel's bytes",
    records,
);

/// A certificate for clients, and a server's demand for it.
pub(crate) fn certificate() -> (ClientAuth, Identity) {
    let state = TempDir::new().unwrap();
    let store = Store::open(state.path().join("state")).unwrap();
    let identity = store.ensure_account(&["client.example".parse().unwrap()]).unwrap().unwrap();
    (ClientAuth::Required(store.authority().unwrap().into()), identity)
}

/// What one session's client says at its end is withheld there, and sent in another's place.
fn records() -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in ALL {
            let (auth, identity) = certificate();
            let shown = Some(identity.fingerprint());
            let config = |config: &mut world::ServerConfig| config.client_auth = auth;
            let mut world = World::with("::1", options(seal), options(seal), config).await;
            world.client = world::client(&world.dir, Some(identity), options(seal));
            let (first_way, (first, mut at_first)) = by_proxy(&mut world).await;
            let (second_way, (second, mut at_second)) = by_proxy(&mut world).await;
            for served in [&at_first, &at_second] {
                assert_eq!(served.info().tls.peer_certificate_sha256, shown);
            }
            let taken = Arc::new(Mutex::new(Vec::new()));
            let take = Arc::clone(&taken);
            first_way.change(move |bytes| take.lock().unwrap().append(bytes));
            let leaving = tokio::spawn(first.close());
            until(|| !taken.lock().unwrap().is_empty()).await;
            second_way.change(move |bytes| *bytes = core::mem::take(&mut taken.lock().unwrap()));
            let (at_client, at_server) =
                within(async { tokio::join!(second.close(), at_second.ended()) }).await;
            words.push(format!(
                "ended. The server: {}; the client: {}",
                quote(&at_server.expect("not an orderly end")),
                quote(&at_client.unwrap_err())
            ));
            // The other one hasn't heard of any of it.
            within(at_first.send(b"served?")).await.unwrap();
            leaving.abort();
        }
        assert!(words.iter().all(|other| *other == words[0]), "{words:?}");
        Ok(Outcome::alike(&words[0]))
    })
}

/// Both ends of a session whose control channel goes through a proxy.
async fn by_proxy(world: &mut World) -> (Proxy, (secure_rdma::Session, secure_rdma::Session)) {
    let proxy = Proxy::new(world.server.local_addr()).await;
    let name = "localhost".parse().unwrap();
    let client = within(world.client.connect("::1", proxy.address.port(), &name)).await.unwrap();
    (proxy, (client, world.arrival().await))
}

#[test]
fn a_message_of_another_session_of_ones_own_is_delivered_in_an_open_session_and_ends_a_sealed_one() {
    let _ = MESSAGE.play();
}

#[test]
fn a_slot_of_another_session_of_ones_own_is_noticed_where_it_is_sealed() {
    let _ = SLOT.play();
}

#[test]
fn records_of_another_session_of_ones_own_end_the_session() {
    RECORDS.play().as_ref().unwrap();
}
