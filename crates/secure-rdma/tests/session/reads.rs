//! Several reads under way at a time.

use crate::tampering::within;
use crate::world::{REGION, World, bytes, messages};
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use secure_rdma::control::SealPolicy::{self, Off, Required};
use secure_rdma::{Buffers, Session, SessionError};
use std::collections::VecDeque;

/// One buffer to send from and to read into.
const ONE: Buffers = Buffers { size: 256, receives: 2, sends: 1, ..Buffers::DEFAULT };

async fn session(seal: SealPolicy, buffers: Buffers) -> (World, Session, Session) {
    let options = messages().seal(seal).buffers(buffers);
    let mut world = World::with("127.0.0.1", options, options, |_| {}).await;
    let (client, server) = world.session().await;
    (world, client, server)
}

/// What becomes of `future` if it is dropped when it has waited so often.
async fn waiting<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut left) = (pin!(future), times);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Places in the region: nothing, parts of slots, slots, and what takes several buffers.
const PLACES: [(usize, usize); 9] = [
    (0, 0),
    (0, 1),
    (4095, 2),
    (100, 4096),
    (8192, 4096),
    (5, 65_536),
    (12_288, 65_536),
    (1, 300_000),
    (0, 1 << 20),
];

#[tokio::test]
async fn reads_between_writes_and_messages_find_what_was_written_before_them_and_nothing_newer() {
    for buffers in [Buffers::DEFAULT, ONE] {
        for seal in [Off, Required] {
            let (_world, mut client, mut server) = session(seal, buffers).await;
            let mut model = vec![0; usize::try_from(REGION).unwrap()];
            let mut expected = VecDeque::new();
            let ask = async {
                // Many more than there are buffers, and nobody takes any.
                for round in 0..4_u8 {
                    for (at, len) in PLACES {
                        let place = at as u64;
                        client.post_read(place, len).await.unwrap();
                        expected.push_back(model[at..at + len].to_vec());
                        // To the same place, so that it overtakes the read if nothing sees to it.
                        let data: Vec<u8> = bytes(len).iter().map(|byte| byte ^ (round + 1)).collect();
                        client.post_write(place, &data).await.unwrap();
                        model[at..at + len].copy_from_slice(&data);
                        client.post_send(b"a message").await.unwrap();
                        client.post_read(place, len).await.unwrap();
                        expected.push_back(data);
                    }
                    let (at, len) = PLACES[3];
                    let read = client.read(at as u64, len).await.unwrap();
                    assert!(read == model[at..at + len], "it takes none of those that were posted");
                }
                let mut taken = 0;
                while let Some(bytes) = client.next_read().await.unwrap() {
                    assert!(Some(bytes) == expected.pop_front(), "the one at {taken}");
                    taken += 1;
                }
                assert_eq!(taken, 4 * 2 * PLACES.len());
            };
            let take = async {
                for _ in 0..4 * PLACES.len() {
                    assert_eq!(server.recv().await.unwrap().unwrap(), b"a message");
                }
            };
            within(async { tokio::join!(ask, take) }).await;
            assert!(client.next_read().await.unwrap().is_none());
        }
    }
}

#[tokio::test]
async fn reads_that_are_cancelled_anywhere_lose_and_mix_up_nothing() {
    for buffers in [Buffers::DEFAULT, ONE] {
        for seal in [Off, Required] {
            let (_world, mut client, _server) = session(seal, buffers).await;
            let mut model = bytes(usize::try_from(REGION).unwrap());
            client.write(0, &model).await.unwrap();
            let (mut expected, mut cancelled) = (VecDeque::new(), 0);
            for times in (0..4).cycle().take(16) {
                for (number, (at, len)) in PLACES.into_iter().enumerate() {
                    match waiting(times, client.post_read(at as u64, len)).await {
                        Some(result) => {
                            result.unwrap();
                            expected.push_back(model[at..at + len].to_vec());
                        }
                        None => cancelled += 1,
                    }
                    match waiting(times, client.read(at as u64, len)).await {
                        Some(read) => assert!(read.unwrap() == model[at..at + len]),
                        None => cancelled += 1,
                    }
                    match waiting(times, client.next_read()).await {
                        Some(read) => assert!(read.unwrap() == expected.pop_front()),
                        None => cancelled += 1,
                    }
                    // Also over what somebody wanted to read.
                    let data = bytes(number * 1000);
                    within(client.post_write(at as u64, &data[..len.min(data.len())])).await.unwrap();
                    model[at..at + len.min(data.len())].copy_from_slice(&data[..len.min(data.len())]);
                }
            }
            // How many it is depends on how fast the answers come: on Soft-RoCE, with both ends on one host,
            // before anybody waits for them.
            if std::env::var_os("SECURE_RDMA_TEST_DEVICE").is_none() {
                assert!(cancelled > 0, "nothing was ever waited for");
            } else if cancelled == 0 {
                println!("nothing had to be waited for: NOT PROVED on this device");
            }
            while let Some(read) = within(client.next_read()).await.unwrap() {
                assert!(Some(read) == expected.pop_front());
            }
            assert!(expected.is_empty(), "{} are missing", expected.len());
            assert!(client.read(0, model.len()).await.unwrap() == model);
        }
    }
}

#[tokio::test]
async fn a_read_comes_in_the_buffer_that_was_given_for_it() {
    // Longer and shorter than what one request reads; the most that a buffer may have, and the least.
    for one_sided in [0, u32::MAX] {
        for seal in [Off, Required] {
            let (_world, mut client, _server) =
                session(seal, Buffers { one_sided, ..Buffers::DEFAULT }).await;
            let text = bytes(300_000);
            client.write(0, &text).await.unwrap();
            let mut buffer = vec![1; text.len()];
            let address = buffer.as_ptr();
            for len in [text.len(), 5000, 1] {
                buffer.truncate(len);
                within(client.post_read_into(0, buffer)).await.unwrap();
                buffer = within(client.next_read()).await.unwrap().unwrap();
                assert!(buffer == text[..len] && buffer.as_ptr() == address, "{len} bytes");
            }
        }
    }
}

#[tokio::test]
async fn what_may_not_be_read_is_not_posted() {
    for seal in [Off, Required] {
        let (_world, mut client, mut server) = session(seal, Buffers::DEFAULT).await;
        let outside = client.post_read_into(REGION - 1, vec![0; 2]).await.unwrap_err();
        assert!(matches!(outside, SessionError::OutOfRegion { .. }), "{outside}");
        let outside = client.post_read(REGION - 1, 2).await.unwrap_err();
        assert!(matches!(outside, SessionError::OutOfRegion { .. }), "{outside}");
        let none = server.post_read(0, 1).await.unwrap_err();
        assert!(matches!(none, SessionError::NoRegion), "{none}");
        assert!(client.next_read().await.unwrap().is_none());
        assert!(server.next_read().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn who_waits_for_reads_hears_of_the_sessions_end() {
    for seal in [Off, Required] {
        let (_world, mut client, server) = session(seal, Buffers::DEFAULT).await;
        client.write(0, &bytes(200_000)).await.unwrap();
        drop(server);
        let over = async {
            loop {
                for _ in 0..20 {
                    client.post_read(0, 200_000).await?;
                }
                while let Some(read) = client.next_read().await? {
                    assert!(read == bytes(200_000));
                }
            }
        };
        let error: Result<(), SessionError> = within(over).await;
        error.expect_err("over");
        within(client.next_read()).await.expect_err("also afterwards");
    }
}

#[tokio::test]
async fn a_read_at_the_end_of_the_largest_region_is_the_peers_to_refuse() {
    for seal in [Off, Required] {
        let (_world, mut client, _server) = session(seal, Buffers::DEFAULT).await;
        let region = rdma_verbs::RemoteRegion { addr: 0, rkey: 1, len: u64::MAX };
        let error = within(client.read_raw(&region, u64::MAX - 100, 100)).await.unwrap_err();
        assert!(matches!(error, SessionError::Operation { .. }), "{error}");
    }
}
