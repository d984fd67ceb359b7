//! Sealed sessions: all sizes and places, re-keys, and an end that misses nothing.

use crate::world::{REGION, World, bytes, messages};
use secure_rdma::seal::{Limits, OVERHEAD};
use secure_rdma::{Buffers, SealedBy, Session};

async fn session() -> (World, Session, Session) {
    let mut world = World::new("127.0.0.1", 4, messages()).await;
    let (client, server) = world.session().await;
    assert_eq!((client.info().sealed, server.info().sealed), (SealedBy::Messages, SealedBy::Messages));
    (world, client, server)
}

/// Both say goodbye, and neither misses anything.
async fn goodbye(client: Session, mut server: Session) {
    let leave = async {
        assert!(server.recv().await.expect("an orderly end").is_none());
        server.close().await
    };
    let (there, here) = tokio::join!(leave, client.close());
    there.expect("closed");
    here.expect("closed");
}

#[tokio::test]
async fn messages_of_every_length_around_the_fragments_arrive() {
    let (_world, mut client, mut server) = session().await;
    let fragment = Buffers::DEFAULT.size as usize - OVERHEAD;
    let around = [fragment - 1, fragment, fragment + 1, 2 * fragment, 2 * fragment + 1];
    let lengths = [0, 1, 15, 16, 4096, 65_536, (1 << 20) - 1, 1 << 20].into_iter().chain(around);
    for len in lengths {
        let message = bytes(len);
        let (sent, received) = tokio::join!(client.send(&message), server.recv());
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message, "{len} bytes");
    }
    goodbye(client, server).await;
}

#[tokio::test]
async fn writes_and_reads_of_any_part_of_the_region_are_those_of_plain_memory() {
    let (_world, mut client, mut server) = session().await;
    let mut model = vec![0; usize::try_from(REGION).unwrap()];
    assert_eq!(client.data_len(), REGION);
    // Slots have 4096 bytes, and 16 of them travel at a time.
    let places = [
        (0, 0),
        (0, 1),
        (4095, 1),
        (4095, 2),
        (1, 4095),
        (4096, 4096),
        (100, 4096),
        (8191, 8194),
        (12_288, 65_536),
        (12_289, 65_536),
        (12_287, 65_538),
        (REGION - 1, 1),
        (REGION - 70_001, 70_001),
        (5, 300_000),
        (0, 1 << 20),
        (500_000, 33),
    ];
    for (number, (offset, len)) in places.into_iter().enumerate() {
        let at = usize::try_from(offset).unwrap();
        let data: Vec<u8> = bytes(len).iter().map(|byte| byte ^ u8::try_from(number).unwrap()).collect();
        client.write(offset, &data).await.unwrap();
        model[at..at + len].copy_from_slice(&data);
        // A little more than was written, on both sides of it.
        let (from, to) = (at.saturating_sub(10), (at + len + 10).min(model.len()));
        let read = client.read(from as u64, to - from).await.unwrap();
        assert!(read == model[from..to], "{len} bytes at {offset}");
        let there = server.read_local(from as u64, to - from).await.unwrap();
        assert!(there == model[from..to], "{len} bytes at {offset}, at the server");
    }
    assert!(client.read(0, model.len()).await.unwrap() == model);
    // What lies in the server's memory is none of it.
    let region = server.region().unwrap();
    let mut raw = vec![0; usize::try_from(region.len()).unwrap()];
    region.read(0, &mut raw).unwrap();
    assert!(!raw.windows(32).any(|window| window == &model[600_000..600_032]));
    goodbye(client, server).await;
}

#[tokio::test]
async fn a_region_is_as_large_as_was_asked_for_or_a_slot_more() {
    for (asked, given) in [(1, 4096), (4096, 4096), (4097, 8192)] {
        let options = messages();
        let mut world =
            World::with("127.0.0.1", options, options, |config| config.options.region_len = asked).await;
        let (mut client, _server) = world.session().await;
        assert_eq!(client.data_len(), given);
        client.write(given - 1, b"x").await.unwrap();
        client.write(given, b"x").await.unwrap_err();
        assert_eq!(client.fetch_add(7, 1).await.unwrap(), 0, "the counters are behind it");
        assert_eq!(client.read(given - 1, 1).await.unwrap(), b"x");
    }
}

#[tokio::test]
async fn keys_change_under_traffic_in_both_directions_and_nobody_notices() {
    let options = messages()
        .key_limits(Limits { records: 3, bytes: 9000 })
        .buffers(Buffers { size: 4096, ..Buffers::DEFAULT });
    let mut world = World::with("127.0.0.1", options, options, |_| {}).await;
    let (mut client, mut server) = world.session().await;
    // Some 600 fragments each way: hundreds of keys.
    for len in (0..200).map(|number| number * 61) {
        let message = bytes(len);
        let echo = async {
            let got = server.recv().await.unwrap().unwrap();
            server.send(&got).await.unwrap();
        };
        let ask = async {
            client.send(&message).await.unwrap();
            client.recv().await.unwrap().unwrap()
        };
        assert!(tokio::join!(echo, ask).1 == message, "{len} bytes");
    }
    goodbye(client, server).await;
}

#[tokio::test]
async fn messages_that_nobody_has_taken_yet_when_the_peer_says_goodbye_are_still_there() {
    let (_world, mut client, mut server) = session().await;
    for number in 0..5_u8 {
        client.send(&[number]).await.unwrap();
    }
    let take = async {
        for number in 0..5_u8 {
            assert_eq!(server.recv().await.unwrap().unwrap(), [number]);
        }
        assert!(server.recv().await.unwrap().is_none());
        server.close().await
    };
    let (there, here) = tokio::join!(take, client.close());
    there.unwrap();
    here.unwrap();
}

#[tokio::test]
async fn a_side_that_leaves_without_taking_what_was_sent_ends_in_an_orderly_way() {
    let (_world, mut client, mut server) = session().await;
    for _ in 0..20 {
        client.send(b"for nobody").await.unwrap();
        server.send(b"nor this").await.unwrap();
    }
    // Both at once.
    let (there, here) = tokio::join!(server.close(), client.close());
    there.unwrap();
    here.unwrap();
}
