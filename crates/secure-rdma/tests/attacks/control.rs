//! The control channel: a man in the middle, replay, downgrade. What is agreed there comes before any data
//! path, sealed or not.

use crate::attack::{Attack, Outcome, Played};
use crate::lab::{ALL, options, quote, run, within};
use crate::proxy::Proxy;
use crate::world::{World, messages};
use secure_rdma::control::PacketPolicy;
use secure_rdma::control::SealPolicy::{self, Off, Optional, Required};
use secure_rdma::{Arrival, Report, SealedBy, Session, SessionError, SessionOptions};
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

pub(crate) static NO_PACKETS: Attack =
    Attack::new("downgrade: a server that offers no sealed packets", "the peer", "–", no_packets);
pub(crate) static OFFER: Attack = Attack::new(
    "downgrade: what the client offers of sealing changed, inside TLS",
    "T3",
    "the control channel's bytes",
    offer,
);

async fn world(seal: SealedBy) -> World {
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

/// All kinds of session end alike.
fn alike(words: &[String]) -> Outcome {
    assert!(words.iter().all(|other| *other == words[0]), "{words:?}");
    Outcome::alike(&words[0])
}

fn impersonation() -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in ALL {
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
        for seal in ALL {
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
        for seal in ALL {
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
        for seal in ALL {
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

fn by_messages(seal: SealPolicy) -> SessionOptions {
    messages().seal(seal)
}

/// `--seal packets`.
fn by_packets(seal: SealPolicy) -> SessionOptions {
    SessionOptions::default().seal(seal).packets(Some(PacketPolicy::Required))
}

/// The policies are said inside TLS, so that only the peer itself can offer less.
fn unsealed() -> Played {
    run(async {
        let mut open = World::with("::1", by_messages(Off), by_messages(Optional), |_| {}).await;
        let (client, server) = open.session().await;
        assert!(!client.info().sealed.is_sealed() && !server.info().sealed.is_sealed());
        let world = World::with("::1", by_messages(Off), by_messages(Required), |_| {}).await;
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
        let world = World::with("::1", by_messages(Off), by_packets(Required), |_| {}).await;
        let at_packets = world.connect().await.unwrap_err();
        assert!(matches!(at_packets, SessionError::Seal { own: Required, peer: Off }), "{at_packets}");
        Ok(Outcome::new(
            "a client with `--seal optional` agrees, and says so: `data path: NOT sealed`",
            format!("a client with `--seal required`, the default, refuses: {}", quote(&at_client)),
            format!("a client with `--seal packets` refuses: {}", quote(&at_packets)),
        ))
    })
}

/// Whoever wants packets sealed gets that or nothing; whoever doesn't insist is told what it got.
fn no_packets() -> Played {
    run(async {
        for (seal, expected) in
            [(Off, SealedBy::Nothing), (Optional, SealedBy::Messages), (Required, SealedBy::Messages)]
        {
            let server = if seal == Off { messages().seal(Off) } else { messages() };
            let client = SessionOptions::default().seal(seal).packets(Some(PacketPolicy::Offered));
            let mut world = World::with("::1", server, client, |_| {}).await;
            let (client, server) = world.session().await;
            assert_eq!((client.info().sealed, server.info().sealed), (expected, expected));
        }
        let world = World::with("::1", messages(), by_packets(Required), |_| {}).await;
        let at_client = world.connect().await.unwrap_err();
        assert!(matches!(at_client, SessionError::NoPackets { who: "the peer" }), "{at_client}");
        let at_server = world.server.next().await;
        assert!(
            matches!(at_server, Arrival::Refused { error: SessionError::NoPackets { who: "this side" }, .. }),
            "{at_server:?}"
        );
        Ok(Outcome::new(
            "a client with `--seal off` wants none",
            "a client with `--seal required`, the default, or `optional` agrees to messages and slots, and says so",
            format!("a client with `--seal packets` refuses: {}", quote(&at_client)),
        ))
    })
}

/// The client's offer comes right behind its part of the handshake.
fn offer() -> Played {
    run(async {
        for seal in ALL {
            let mut world = world(seal).await;
            let proxy = Proxy::new(world.server.local_addr()).await;
            let mut chunks = 0;
            proxy.change(move |bytes| {
                // The first one is the client's hello.
                chunks += 1;
                if chunks == 2
                    && let Some(last) = bytes.last_mut()
                {
                    *last ^= 1;
                }
            });
            connect(&world, proxy.address).await.unwrap_err();
            refused(&mut world).await;
        }
        Ok(Outcome::alike("no session: a record that was changed isn't authentic"))
    })
}

#[test]
fn a_server_that_seals_no_packets_is_refused_by_who_requires_them() {
    NO_PACKETS.play().as_ref().unwrap();
}

#[test]
fn an_offer_that_was_changed_inside_tls_makes_no_session() {
    OFFER.play().as_ref().unwrap();
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
