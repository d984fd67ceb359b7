//! Whole sessions: a server and its clients in one process, over a real device. That is the embedded one, unless
//! `SECURE_RDMA_TEST_DEVICE` names another.

mod allowed;
mod cancelled;
mod club;
mod departed;
mod hostile;
mod joins;
mod manifests;
mod packets;
mod policy;
mod posted;
mod reads;
mod sealed;
mod split;
mod stream;
mod tampering;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod world;

use rdma_verbs::{State, Status};
use secure_rdma::control::SealPolicy;
use secure_rdma::{Arrival, SealedBy, SessionError, SessionOptions};
use std::time::Duration;
use world::{REGION, World, bytes, is_embedded, messages};

#[tokio::test]
async fn both_sides_hold_the_negotiated_numbers() {
    let mut world = World::new("127.0.0.1", 4, SessionOptions::default()).await;
    let (client, server) = world.session().await;
    let (at_client, at_server) = (client.info(), server.info());
    assert_eq!(at_client.own.psn.get(), at_server.remote.psn.get());
    assert_eq!(at_client.remote.psn.get(), at_server.own.psn.get());
    assert_eq!(at_client.own.qpn, at_server.remote.qpn);
    assert_eq!(at_client.remote.qpn, at_server.own.qpn);
    assert_eq!(at_client.tls.version, "TLSv1.3");
    assert_eq!(at_client.tls.group, "X25519MLKEM768");
    for (session, own, peer) in [
        (&client, at_client.own.psn.get(), at_server.own.psn.get()),
        (&server, at_server.own.psn.get(), at_client.own.psn.get()),
    ] {
        let query = session.queue_pair().expect("the device answers");
        assert_eq!(query.state, State::ReadyToSend);
        assert_eq!(query.send.expect("RTS").sq_psn, own);
        assert_eq!(query.receive.expect("RTR").rq_psn, peer);
        assert_eq!(session.info().queue_pair, query, "nothing has happened since");
    }
}

#[tokio::test]
async fn every_operation_moves_the_right_bytes_over_ipv4_and_ipv6() {
    for address in ["127.0.0.1", "::1"] {
        let open = SessionOptions::default().seal(SealPolicy::Off);
        for (options, sealed) in [
            (SessionOptions::default(), SealedBy::Packets),
            (messages(), SealedBy::Messages),
            (open, SealedBy::Nothing),
        ] {
            every_operation_moves_the_right_bytes(address, options, sealed).await;
        }
    }
}

async fn every_operation_moves_the_right_bytes(address: &str, options: SessionOptions, sealed: SealedBy) {
    // A device of libibverbs can't seal packets.
    let least = |by| if by == SealedBy::Packets && !is_embedded() { SealedBy::Messages } else { by };
    let mut world = World::with(address, options, options, |_| {}).await;
    let (mut client, mut server) = world.session().await;
    assert_eq!((client.info().sealed, server.info().sealed), (least(sealed), least(sealed)));
    for len in [0, 1, 4095, 4096, 4097, 100_000, 1 << 20] {
        let message = bytes(len);
        let echo = async {
            let got = server.recv().await.expect("received").expect("a message");
            server.send(&got).await.expect("echoed");
        };
        let ask = async {
            client.send(&message).await.expect("sent");
            client.recv().await.expect("received").expect("an echo")
        };
        assert!(tokio::join!(echo, ask).1 == message, "{len} bytes");
    }
    for (offset, len) in [(0, 1), (5, 70_000), (0, 1 << 20), ((1 << 20) - 3, 3)] {
        let data = bytes(len);
        client.write(offset, &data).await.expect("written");
        assert!(server.read_local(offset, len).await.expect("read there") == data);
        assert!(client.read(offset, len).await.expect("read") == data);
    }
    assert_eq!(client.fetch_add(0, 5).await.expect("added"), 0);
    assert_eq!(client.compare_swap(0, 5, 9).await.expect("swapped"), 5);
    assert_eq!(client.compare_swap(0, 5, 1).await.expect("not swapped"), 9);
    assert_eq!(client.fetch_add(7, 1).await.expect("added"), 0);
    let goodbye = async {
        assert!(server.recv().await.expect("an orderly end").is_none());
        server.close().await
    };
    let (at_server, at_client) = tokio::join!(goodbye, client.close());
    at_server.expect("closed");
    at_client.expect("closed");
}

#[tokio::test]
async fn another_clients_region_is_refused() {
    let mut world = World::new("127.0.0.1", 4, SessionOptions::default()).await;
    let (mut victim, _served) = world.session().await;
    victim.write(0, b"mine").await.expect("written");
    let target = victim.remote_region().expect("a region");
    for write in [true, false] {
        let (mut intruder, _served) = world.session().await;
        let result = match write {
            true => intruder.write_raw(&target, 0, b"gone").await,
            false => intruder.read_raw(&target, 0, 4).await.map(|_| ()),
        };
        assert!(
            matches!(result, Err(SessionError::Operation { status: Status::RemoteAccess, .. })),
            "{result:?}"
        );
    }
    assert_eq!(victim.read(0, 4).await.expect("still served"), b"mine");
}

#[tokio::test]
async fn limits_hold_and_say_so() {
    let options = SessionOptions::default().max_message(1000);
    let mut world = World::new("127.0.0.1", 1, options).await;
    let (mut client, server) = world.session().await;
    let error = client.send(&bytes(1001)).await.expect_err("too long");
    assert!(matches!(error, SessionError::MessageTooLong { len: 1001, limit: 1000, .. }), "{error}");
    let error = client.write(REGION - 1, b"ab").await.expect_err("outside");
    assert!(matches!(error, SessionError::OutOfRegion { .. }), "{error}");
    let error = client.fetch_add(8, 1).await.expect_err("no such counter");
    assert!(matches!(error, SessionError::OutOfRegion { .. }), "{error}");

    let error = world.connect().await.expect_err("full");
    assert!(error.to_string().contains("full"), "{error}");
    assert!(matches!(
        world.server.next().await,
        Arrival::Refused { error: SessionError::Full { max: 1 }, .. }
    ));
    drop((client, server));
    let (_client, _server) = world.session().await;
}

#[tokio::test]
async fn a_session_that_is_dropped_ends_the_other_side() {
    let mut world = World::new("127.0.0.1", 1, SessionOptions::default()).await;
    let (client, mut server) = world.session().await;
    drop(client);
    let error = tokio::time::timeout(Duration::from_secs(60), server.recv())
        .await
        .expect("in time")
        .expect_err("over");
    assert!(matches!(error, SessionError::Control { .. }), "{error}");
}

/// That silence is noticed, the keeper's own tests show, where no machine is too slow for a heartbeat.
#[tokio::test]
async fn heartbeats_keep_a_session_in_which_nothing_happens() {
    let heartbeat = Duration::from_secs(2);
    let mut world = World::new("127.0.0.1", 1, SessionOptions::default().heartbeat(heartbeat)).await;
    let (_client, mut server) = world.session().await;
    // Silence would have ended it after three.
    let heard = tokio::time::timeout(heartbeat * 7 / 2, server.recv()).await;
    assert!(heard.is_err(), "{heard:?}");
}
