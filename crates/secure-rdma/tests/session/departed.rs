//! What is left of a session whose peer has gone without a goodbye, or can't say one.

use crate::world::{World, messages};
use rdma_verbs::RemoteRegion;
use secure_rdma::control::SealPolicy::{Off, Required};
use secure_rdma::{Session, SessionError, SessionOptions};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn ways() -> [SessionOptions; 3] {
    [SessionOptions::default().seal(Required), messages().seal(Required), SessionOptions::default().seal(Off)]
}

#[tokio::test]
async fn messages_that_were_acknowledged_are_received_after_their_sender_has_gone() {
    for options in ways() {
        let mut world = World::with("127.0.0.1", options, options, |_| {}).await;
        let (mut client, mut server) = world.session().await;
        for message in ["one", "two", "three"] {
            client.send(message.as_bytes()).await.unwrap();
        }
        drop(client);
        let ended = tokio::time::timeout(Duration::from_secs(30), server.ended()).await.expect("it notices");
        assert!(ended.is_some_and(|reason| reason.is_closed()));
        for message in ["one", "two", "three"] {
            assert_eq!(server.recv().await.unwrap().unwrap(), message.as_bytes(), "{options:?}");
        }
        assert!(server.recv().await.unwrap_err().is_closed(), "{options:?}");
    }
}

#[tokio::test]
async fn a_stream_that_was_shut_down_is_read_to_its_end_after_its_writer_has_gone() {
    for options in ways() {
        let mut world = World::with("127.0.0.1", options, options, |_| {}).await;
        let (client, mut server) = world.session().await;
        let mut client = client.into_stream();
        client.write_all(b"all of it").await.unwrap();
        client.shutdown().await.unwrap();
        drop(client);
        assert!(server.ended().await.is_some());
        let mut all = Vec::new();
        server.into_stream().read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"all of it", "{options:?}");
    }
}

/// Has one of a client's operations fail, which breaks the connection.
async fn fail(client: &mut Session) {
    let region = client.remote_region().expect("a client's");
    let wrong = RemoteRegion { rkey: !region.rkey, ..region };
    let refused = client.write_raw(&wrong, 0, b"where it may not").await;
    assert!(matches!(refused, Err(SessionError::Operation { .. })), "{refused:?}");
}

#[tokio::test]
async fn whose_operation_has_failed_says_no_goodbye_and_the_peer_is_told_why() {
    for options in ways() {
        let mut world = World::with("127.0.0.1", options, options, |_| {}).await;
        let (mut client, mut server) = world.session().await;
        client.send(b"before").await.unwrap();
        fail(&mut client).await;
        let closed = client.close().await;
        assert!(matches!(closed, Err(SessionError::Operation { .. })), "{options:?}: {closed:?}");
        // Told, not left to notice; and what had arrived isn't lost.
        let Some(SessionError::Peer { text, .. }) = server.ended().await else { panic!("{options:?}") };
        assert!(text.as_str().contains("write failed with REM_ACCESS_ERR"), "{text}");
        assert_eq!(server.recv().await.unwrap().unwrap(), b"before", "{options:?}");
        server.recv().await.unwrap_err();
        server.close().await.unwrap_err();
    }
}

#[tokio::test]
async fn a_server_whose_message_has_failed_says_no_goodbye_either() {
    for options in ways() {
        let mut world = World::with("127.0.0.1", options, options, |_| {}).await;
        let (mut client, mut server) = world.session().await;
        fail(&mut client).await;
        server.send(b"never arrives").await.unwrap_err();
        let (closed, told) = tokio::join!(server.close(), client.ended());
        assert!(matches!(closed, Err(SessionError::Operation { .. })), "{options:?}: {closed:?}");
        assert!(matches!(told, Some(SessionError::Peer { .. })), "{options:?}: {told:?}");
        client.close().await.unwrap_err();
    }
}
