//! Whether the data path is sealed is agreed on inside TLS, and nobody gets less than he requires.

use crate::world::{World, client, is_embedded};
use secure_rdma::certs::{Identity, Kind, Store, Validity};
use secure_rdma::control::SealPolicy::{self, Off, Optional, Required};
use secure_rdma::tls::ClientAuth;
use secure_rdma::{Access, Arrival, CounterPolicy, SealedBy, SessionError, SessionOptions};

fn options(seal: SealPolicy) -> SessionOptions {
    SessionOptions::default().seal(seal)
}

#[tokio::test]
async fn both_policies_together_decide_and_neither_side_gets_less_than_it_requires() {
    for (at_client, at_server, sealed) in [
        (Required, Required, Some(true)),
        (Required, Optional, Some(true)),
        (Optional, Required, Some(true)),
        (Optional, Optional, Some(true)),
        (Optional, Off, Some(false)),
        (Off, Optional, Some(false)),
        (Off, Off, Some(false)),
        (Required, Off, None),
        (Off, Required, None),
    ] {
        let world = World::with("127.0.0.1", options(at_server), options(at_client), |_| {}).await;
        let (here, there) = (world.connect().await, world.server.next().await);
        match (here, there, sealed) {
            (Ok(mut client), Arrival::Session(mut server), Some(sealed)) => {
                assert_eq!(client.info().sealed, server.info().sealed);
                assert_eq!(client.info().sealed.is_sealed(), sealed);
                client.send(b"agreed").await.unwrap();
                assert_eq!(server.recv().await.unwrap().unwrap(), b"agreed");
            }
            (Err(client), Arrival::Refused { error: server, .. }, None) => {
                for (own, peer, error) in [(at_client, at_server, client), (at_server, at_client, server)] {
                    assert!(
                        matches!(error, SessionError::Seal { own: o, peer: p } if o == own && p == peer),
                        "{error}"
                    );
                    // Whoever has to change something is told what it is.
                    let refuses = if own == Off { "this side" } else { "the peer" };
                    let text = error.to_string();
                    assert!(text.contains(&format!("{refuses} has sealing off")), "{text}");
                }
            }
            (here, there, _) => panic!("{at_client:?} and {at_server:?}: {here:?}, {there:?}"),
        }
    }
}

/// The keys depend on the client's certificate, if it was shown: a client that has one can't know whether by having it.
#[tokio::test]
async fn a_client_with_a_certificate_has_a_sealed_session_whether_it_was_asked_for_it_or_not() {
    for (asks, shown) in [("off", false), ("optional", true), ("required", true)] {
        // Another store's certificate: whom it is by doesn't matter where nobody asks.
        let others = tempfile::tempdir().unwrap();
        let dir = others.path().join("state");
        let store = Store::open(&dir).unwrap();
        store.ensure_server(&["localhost".parse().unwrap()]).unwrap();
        store.issue("me", &["me.example".parse().unwrap()], Kind::Client, Validity::days(1)).unwrap();
        let identity = Identity::load(&dir.join("me.pem"), &dir.join("me-key.pem")).unwrap();
        let authority = dir.join("ca.pem");
        let mut world = World::with("127.0.0.1", options(Required), options(Required), |config| {
            config.client_auth = match asks {
                "off" => ClientAuth::Off,
                "optional" => ClientAuth::Optional(authority.into()),
                _ => ClientAuth::Required(authority.into()),
            };
        })
        .await;
        world.client = client(&world.dir, Some(identity), options(Required));
        let (mut here, mut there) = world.session().await;
        assert_eq!(there.info().tls.peer_certificate_sha256.is_some(), shown, "{asks}");
        here.send(b"both have the same keys").await.unwrap();
        assert_eq!(there.recv().await.unwrap().unwrap(), b"both have the same keys", "{asks}");
        here.write(0, b"here too").await.unwrap();
        assert_eq!(there.read_local(0, 8).await.unwrap(), b"here too", "{asks}");
    }
}

#[tokio::test]
async fn counters_are_offered_where_they_are_sealed_or_nothing_is_unless_the_server_says_otherwise() {
    for (policy, sealed, count) in [
        (CounterPolicy::Auto, SealedBy::Packets, 8),
        (CounterPolicy::Auto, SealedBy::Messages, 0),
        (CounterPolicy::Auto, SealedBy::Nothing, 8),
        (CounterPolicy::On, SealedBy::Packets, 8),
        (CounterPolicy::On, SealedBy::Messages, 8),
        (CounterPolicy::On, SealedBy::Nothing, 8),
        (CounterPolicy::Off, SealedBy::Packets, 0),
        (CounterPolicy::Off, SealedBy::Messages, 0),
        (CounterPolicy::Off, SealedBy::Nothing, 0),
    ] {
        // Other devices can't seal packets.
        if sealed == SealedBy::Packets && !is_embedded() {
            continue;
        }
        let mut options = options(if sealed.is_sealed() { Required } else { Off });
        if sealed == SealedBy::Messages {
            options = options.packets(None);
        }
        let mut world =
            World::with("127.0.0.1", options, options, |config| config.options.counters = policy).await;
        let (mut here, there) = world.session().await;
        assert_eq!((here.info().sealed, there.info().sealed), (sealed, sealed));
        assert_eq!((here.counters(), there.counters()), (count, count), "{policy:?}, {sealed}");
        assert_eq!(there.counter_region().is_some(), count > 0, "{policy:?}, {sealed}");
        for info in [here.info(), there.info()] {
            assert_eq!(info.allowed.allows(Access::ATOMIC), count > 0, "{policy:?}, {sealed}");
        }
        let outcome = here.fetch_add(7, 5).await;
        if count > 0 {
            assert_eq!(outcome.unwrap(), 0);
            assert_eq!(here.fetch_add(7, 0).await.unwrap(), 5);
        } else {
            assert!(matches!(outcome, Err(SessionError::NoCounters)), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn counters_are_there_only_if_the_server_offers_them() {
    for seal in [Required, Off] {
        let mut world = World::with("127.0.0.1", options(seal), options(seal), |config| {
            config.options.counters = CounterPolicy::Off;
        })
        .await;
        let (mut here, _there) = world.session().await;
        assert_eq!(here.counters(), 0);
        for error in [here.fetch_add(0, 1).await.unwrap_err(), here.compare_swap(0, 0, 1).await.unwrap_err()]
        {
            assert!(matches!(error, SessionError::NoCounters), "{error}");
            assert!(error.to_string().contains("no counters for atomic operations"), "{error}");
        }
        // The session goes on.
        here.write(0, b"fine").await.unwrap();
        assert_eq!(here.read(0, 4).await.unwrap(), b"fine");
    }
}
