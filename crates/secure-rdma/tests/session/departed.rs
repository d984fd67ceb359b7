//! What is left of a session whose peer has gone without a goodbye.

use crate::world::{World, messages};
use secure_rdma::SessionOptions;
use secure_rdma::control::SealPolicy::{Off, Required};
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
