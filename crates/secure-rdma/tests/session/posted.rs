//! Several operations under way at a time, and buffers of other sizes.

use crate::world::{World, bytes, messages};
use secure_rdma::control::SealPolicy::{self, Off, Required};
use secure_rdma::{Buffers, Session, SessionError};
use std::time::Duration;

const SMALLEST: Buffers = Buffers { size: 256, receives: 2, sends: 1, ..Buffers::DEFAULT };

async fn session(seal: SealPolicy, at_server: Buffers, at_client: Buffers) -> (World, Session, Session) {
    let options = |buffers| messages().seal(seal).buffers(buffers);
    let mut world = World::with("127.0.0.1", options(at_server), options(at_client), |_| {}).await;
    let (client, server) = world.session().await;
    (world, client, server)
}

#[tokio::test]
async fn posted_messages_and_writes_arrive_in_the_order_in_which_they_were_posted() {
    for seal in [Off, Required] {
        let (_world, mut client, mut server) = session(seal, Buffers::DEFAULT, Buffers::DEFAULT).await;
        let message = |number: u8| vec![number; 40_000 + usize::from(number)];
        let data = |number: u8| vec![number; 100_000];
        let post = async {
            for number in 0..50 {
                client.post_write(3 + u64::from(number), &data(number)).await.unwrap();
                client.post_send(&message(number)).await.unwrap();
            }
            client.flush().await.unwrap();
        };
        let take = async {
            for number in 0..50 {
                assert!(server.recv().await.unwrap().unwrap() == message(number));
                // What was written before the message is there, and perhaps what was written after it.
                let there = server.read_local(3 + u64::from(number), 100_000).await.unwrap();
                assert!(there.iter().all(|byte| *byte >= number), "{number}");
            }
        };
        tokio::join!(post, take);
        let mut written: Vec<u8> = (0..49).collect();
        written.extend(data(49));
        assert!(client.read(3, written.len()).await.unwrap() == written, "a read finds what was posted");
    }
}

#[tokio::test]
async fn lists_of_messages_arrive_whole_and_in_order_whatever_their_lengths() {
    // The smallest take a round trip for every 256 bytes.
    for (buffers, times) in [(Buffers::DEFAULT, 60), (SMALLEST, 4)] {
        for seal in [Off, Required] {
            let (_world, mut client, mut server) = session(seal, buffers, buffers).await;
            // Short ones that go together, long ones between them, and many more than there are buffers.
            let lengths = |number: usize| [number % 7, 64, 0, 16 << 10, 64, 100_000 + number, 1];
            let messages: Vec<_> = (0..times).flat_map(lengths).map(bytes).collect();
            let post = async {
                client.post_sends([] as [&[u8]; 0]).await.unwrap();
                client.post_sends(messages.iter().map(Vec::as_slice)).await.unwrap();
                client.flush().await.unwrap();
            };
            let take = async {
                for (at, message) in messages.iter().enumerate() {
                    assert!(server.recv().await.unwrap().as_ref() == Some(message), "the one at {at}");
                }
            };
            tokio::join!(post, take);
        }
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_its_list_and_not_the_session() {
    for seal in [Off, Required] {
        let (_world, mut client, mut server) = session(seal, Buffers::DEFAULT, Buffers::DEFAULT).await;
        let long = bytes((1 << 20) + 1);
        let posted = client.post_sends([&b"first"[..], b"second", &long, b"not sent"]).await;
        assert!(matches!(posted, Err(SessionError::MessageTooLong { len, .. }) if len == long.len() as u64));
        client.post_send(b"afterwards").await.unwrap();
        client.flush().await.unwrap();
        for message in [&b"first"[..], b"second", b"afterwards"] {
            assert_eq!(server.recv().await.unwrap().as_deref(), Some(message));
        }
    }
}

#[tokio::test]
async fn messages_of_every_length_fit_buffers_of_any_size() {
    for (at_server, at_client) in
        [(SMALLEST, Buffers::DEFAULT), (Buffers::DEFAULT, SMALLEST), (SMALLEST, SMALLEST)]
    {
        for seal in [Off, Required] {
            let (_world, mut client, mut server) = session(seal, at_server, at_client).await;
            for len in [0, 1, 235, 236, 237, 255, 256, 257, 512, 10_000, 200_000] {
                let message = bytes(len);
                let echo = async {
                    let message = server.recv().await.unwrap().unwrap();
                    server.send(&message).await.unwrap();
                };
                let ask = async {
                    client.send(&message).await.unwrap();
                    client.recv().await.unwrap().unwrap()
                };
                assert!(tokio::join!(echo, ask).1 == message, "{len} bytes");
            }
            client.write(77, &bytes(200_000)).await.unwrap();
            assert!(client.read(77, 200_000).await.unwrap() == bytes(200_000));
        }
    }
}

#[tokio::test]
async fn settings_out_of_range_are_brought_into_it() {
    let none = Buffers { size: 0, receives: 0, sends: 0, one_sided: 0 };
    let (_world, mut client, mut server) = session(Required, none, none).await;
    let (sent, received) = tokio::join!(client.send(b"small"), server.recv());
    sent.unwrap();
    assert_eq!(received.unwrap().unwrap(), b"small");
}

#[tokio::test]
async fn a_side_that_polls_sees_what_one_that_sleeps_sees() {
    let options = messages().busy_poll(Duration::from_micros(100));
    for at_server in [options, messages()] {
        let mut world = World::with("127.0.0.1", at_server, options, |_| {}).await;
        let (mut client, mut server) = world.session().await;
        for pause in [0, 0, 0, 1, 20] {
            let echo = async {
                let message = server.recv().await.unwrap().unwrap();
                // Longer than anybody polls.
                tokio::time::sleep(Duration::from_millis(pause)).await;
                server.send(&message).await.unwrap();
            };
            let ask = async {
                client.send(&bytes(5000)).await.unwrap();
                client.recv().await.unwrap().unwrap()
            };
            assert!(tokio::join!(echo, ask).1 == bytes(5000));
        }
    }
}

/// Where a clock that was paused stands still, too; and what else its runtime has to do goes on meanwhile.
#[test]
fn a_side_that_polls_lets_others_run_and_stops_though_tokios_clock_stands_still() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = messages().busy_poll(Duration::from_millis(1));
            let mut world = World::with("127.0.0.1", options, options, |_| {}).await;
            let (_client, mut server) = world.session().await;
            tokio::time::pause();
            let others = async {
                for _ in 0..300 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                message = server.recv() => panic!("nobody sends anything: {message:?}"),
                () = others => {}
            }
        });
        done.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(60)).expect("polling ends");
}
