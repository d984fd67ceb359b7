//! The control channel: a man in the middle, replay, downgrade. What is agreed there comes before any data
//! path, sealed or not.

use crate::attack::{Attack, Outcome, Played};
use crate::lab::{BOTH, options, quote, run, within};
use crate::proxy::Proxy;
use crate::world::World;
use secure_rdma::control::SealPolicy::{self, Off, Optional, Required};
use secure_rdma::{Arrival, Report, Session, SessionError};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) static IMPERSONATION: Attack = Attack::new(
    "a man in the middle with a certificate of another authority",
    "T3",
    "the control channel's bytes",
    impersonation,
);
pub(crate) static BIT: Attack =
    Attack::new("one bit of the control channel changed", "T3", "the control channel's bytes", bit);
pub(crate) static REPLAY: Attack = Attack::new(
    "replay: a whole session's control channel, to the same server",
    "T3",
    "the control channel's bytes",
    replay,
);
pub(crate) static TLS_1_2: Attack = Attack::new(
    "downgrade: the client's offer changed to TLS 1.2",
    "T3",
    "the control channel's bytes",
    // supported_versions (RFC 8446, section 4.2.1) of a client that has TLS 1.3 only.
    || offered(&[0, 43, 0, 3, 2, 3, 4], &[0, 43, 0, 3, 2, 3, 3]),
);
pub(crate) static PROTOCOL: Attack = Attack::new(
    "downgrade: the client's offer changed to another version of the session protocol",
    "T3",
    "the control channel's bytes",
    || offered(b"secure-rdma/1", b"secure-rdma/0"),
);
pub(crate) static UNSEALED: Attack =
    Attack::new("downgrade: a server that offers unsealed sessions only", "the peer", "–", unsealed);

async fn world(seal: SealPolicy) -> World {
    World::with("::1", options(seal), options(seal), |_| {}).await
}

async fn connect(world: &World, to: SocketAddr) -> Result<Session, SessionError> {
    let name = "localhost".parse().unwrap();
    within(world.client.connect(&to.ip().to_string(), to.port(), &name)).await
}

async fn refused(world: &mut World) -> SessionError {
    match within(world.server.next()).await {
        Arrival::Refused { error, .. } => error,
        Arrival::Session(session) => panic!("a session: {session:?}"),
    }
}

/// Both kinds of session end alike.
fn alike(words: &[String]) -> Outcome {
    assert_eq!(words[0], words[1]);
    Outcome::new(&*words[0], &*words[1])
}

fn impersonation() -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in BOTH {
            let (mut others, world) = (world(seal).await, world(seal).await);
            let error = connect(&world, others.server.local_addr()).await.unwrap_err();
            assert!(matches!(error, SessionError::Tls(_)), "{error}");
            let at_impostor = refused(&mut others).await;
            // The client says too whom it trusts, and where it looked: that is this run's.
            let text = Report::new(&error).to_string();
            let reason = text.split([';', ':']).next().unwrap();
            words
                .push(format!("no session. The client: “{reason} …”; the impostor: {}", quote(&at_impostor)));
        }
        Ok(alike(&words))
    })
}

/// A bit of what is next on its way to the server is another, and nothing behind it.
fn flip_next(proxy: &Proxy) {
    let mut done = false;
    proxy.change(move |bytes| {
        if !core::mem::replace(&mut done, true)
            && let Some(last) = bytes.last_mut()
        {
            *last ^= 1;
        }
    });
}

fn bit() -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in BOTH {
            let mut world = world(seal).await;
            let proxy = Proxy::new(world.server.local_addr()).await;
            let client = connect(&world, proxy.address).await.unwrap();
            let mut server = world.arrival().await;
            flip_next(&proxy);
            let (at_client, at_server) = within(async { tokio::join!(client.close(), server.ended()) }).await;
            let at_send = within(server.send(b"more")).await.unwrap_err();
            let at_server = at_server.expect("not an orderly end");
            assert_eq!(at_send.to_string(), at_server.to_string());
            words.push(format!(
                "ended. The server: {}; the client: {}",
                quote(&at_server),
                quote(&at_client.unwrap_err())
            ));
        }
        Ok(alike(&words))
    })
}

fn replay() -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in BOTH {
            let mut world = world(seal).await;
            let proxy = Proxy::new(world.server.local_addr()).await;
            let client = connect(&world, proxy.address).await.unwrap();
            let mut server = world.arrival().await;
            let answer = async {
                assert!(server.recv().await.unwrap().is_none());
                server.close().await
            };
            let (left, stayed) = within(async { tokio::join!(client.close(), answer) }).await;
            left.unwrap();
            stayed.unwrap();
            let mut stream = TcpStream::connect(world.server.local_addr()).await.unwrap();
            stream.write_all(&proxy.sent()).await.unwrap();
            let mut answer = Vec::new();
            let _ = within(stream.read_to_end(&mut answer)).await;
            let error = refused(&mut world).await;
            assert!(matches!(error, SessionError::Tls(_)), "{error}");
            words.push(format!("no session. The server: {}", quote(&error)));
        }
        Ok(alike(&words))
    })
}

/// Nobody authenticates the client's first message before the handshake ends: who changes it is found out
/// then at the latest.
fn offered(genuine: &'static [u8], instead: &'static [u8]) -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in BOTH {
            let mut world = world(seal).await;
            let proxy = Proxy::new(world.server.local_addr()).await;
            proxy.change(move |bytes| {
                if let Some(at) = bytes.windows(genuine.len()).position(|window| window == genuine) {
                    bytes[at..at + instead.len()].copy_from_slice(instead);
                }
            });
            let at_client = connect(&world, proxy.address).await.unwrap_err();
            let at_server = refused(&mut world).await;
            words.push(format!(
                "no session. The server: {}; the client: {}",
                quote(&at_server),
                quote(&at_client)
            ));
        }
        Ok(alike(&words))
    })
}

/// The policies are said inside TLS, so that only the peer itself can offer less.
fn unsealed() -> Played {
    run(async {
        let mut open = World::with("::1", options(Off), options(Optional), |_| {}).await;
        let (client, server) = open.session().await;
        assert!(!client.info().sealed.is_sealed() && !server.info().sealed.is_sealed());
        let world = World::with("::1", options(Off), options(Required), |_| {}).await;
        let at_client = world.connect().await.unwrap_err();
        let at_server = world.server.next().await;
        assert!(matches!(at_client, SessionError::Seal { own: Required, peer: Off }), "{at_client}");
        assert!(
            matches!(
                at_server,
                Arrival::Refused { error: SessionError::Seal { own: Off, peer: Required }, .. }
            ),
            "{at_server:?}"
        );
        Ok(Outcome::new(
            "a client with `--seal optional` agrees, and says so: `data path: NOT sealed`",
            format!("a client with `--seal required`, the default, refuses: {}", quote(&at_client)),
        ))
    })
}

#[test]
fn a_server_with_another_authoritys_certificate_is_refused() {
    IMPERSONATION.play().as_ref().unwrap();
}

#[test]
fn a_changed_bit_of_the_control_channel_ends_the_session() {
    BIT.play().as_ref().unwrap();
}

#[test]
fn a_recorded_control_channel_makes_no_session() {
    REPLAY.play().as_ref().unwrap();
}

#[test]
fn an_offer_of_tls_1_2_in_the_clients_place_makes_no_session() {
    TLS_1_2.play().as_ref().unwrap();
}

#[test]
fn an_offer_of_another_protocol_in_the_clients_place_makes_no_session() {
    PROTOCOL.play().as_ref().unwrap();
}

#[test]
fn a_server_that_offers_less_than_the_client_requires_is_refused() {
    UNSEALED.play().as_ref().unwrap();
}
