//! Operations that are dropped before they are done: at each point where they wait.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use crate::world::{World, bytes, messages};
use core::pin::pin;
use core::task::Poll;
use secure_rdma::control::SealPolicy::{self, Off, Required};
use secure_rdma::{Buffers, Session, SessionError};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// Few and small ones: a message waits for them many times.
const SMALLEST: Buffers = Buffers { size: 256, receives: 2, sends: 1, ..Buffers::DEFAULT };

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

async fn session(seal: SealPolicy) -> (World, Session, Session) {
    let options = messages().seal(seal).buffers(SMALLEST);
    // A client's send buffers are of 64 KiB, but no fragment is longer than the server takes.
    let mut world = World::with("127.0.0.1", options, options, |_| {}).await;
    let (client, server) = world.session().await;
    (world, client, server)
}

/// Polls `what` until it has had to wait so many times, and drops it then; what it came to, if it was done
/// before. The peer goes on meanwhile: each poll finds something to do.
async fn up_to<T>(pauses: usize, what: impl Future<Output = T>) -> Option<T> {
    let mut what = pin!(what);
    for _ in 0..pauses {
        if let Poll::Ready(result) = core::future::poll_fn(|cx| Poll::Ready(what.as_mut().poll(cx))).await {
            return Some(result);
        }
        // Until what it waits for has come.
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    None
}

/// A message that says which one it is.
fn message(number: u8, len: usize) -> Vec<u8> {
    let mut message = bytes(len);
    message[0] = number;
    message
}

/// What the server has received when the client says that this was all.
async fn received(server: &mut Session) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(message) = within(server.recv()).await.unwrap() {
        all.push(message);
    }
    all
}

/// Each message arrives as a whole or not at all, in order, and the session can be used, wherever sending stops.
#[tokio::test]
async fn a_send_may_be_dropped_wherever_it_waits() {
    for seal in [Off, Required] {
        let (mut whole, mut never) = (0, 0);
        for pauses in 0.. {
            let (_world, mut client, mut server) = session(seal).await;
            let first = message(1, 2500);
            let (done, all) = tokio::join!(
                async {
                    let done = up_to(pauses, client.send(&first)).await.map(Result::unwrap);
                    client.send(&message(2, 700)).await.unwrap();
                    client.send(&message(3, 10)).await.unwrap();
                    client.close().await.unwrap();
                    done
                },
                async {
                    let all = received(&mut server).await;
                    server.close().await.unwrap();
                    all
                }
            );
            let others = [message(2, 700), message(3, 10)];
            match &all[..] {
                [a, rest @ ..] if *a == first && rest == others => whole += 1,
                rest if rest == others => never += 1,
                wrong => {
                    panic!("{seal:?}, {pauses} pauses: {:?}", wrong.iter().map(Vec::len).collect::<Vec<_>>())
                }
            }
            if done.is_some() {
                break;
            }
        }
        assert!(
            never > 0 && whole > 3,
            "{seal:?}: {whole} arrived and {never} didn't: there was no middle to drop it in"
        );
    }
}

/// A list is cut between two messages.
#[tokio::test]
async fn a_list_of_sends_may_be_dropped_wherever_it_waits() {
    for seal in [Off, Required] {
        for pauses in 0.. {
            let (_world, mut client, mut server) = session(seal).await;
            let list: Vec<_> = (0..4).map(|number| message(number, 600)).collect();
            let (done, all) = tokio::join!(
                async {
                    let sends = client.post_sends(list.iter().map(|message| &message[..]));
                    let done = up_to(pauses, sends).await.map(Result::unwrap);
                    client.send(&message(9, 700)).await.unwrap();
                    client.close().await.unwrap();
                    done
                },
                async {
                    let all = received(&mut server).await;
                    server.close().await.unwrap();
                    all
                }
            );
            let (last, sent) = all.split_last().unwrap();
            assert_eq!(*last, message(9, 700), "{pauses} pauses");
            assert!(list.starts_with(sent), "{seal:?}, {pauses} pauses: {} messages", sent.len());
            if done.is_some() {
                assert_eq!(sent.len(), list.len());
                break;
            }
        }
    }
}

/// The rest of a message isn't kept back until the next one is sent.
#[tokio::test]
async fn the_rest_of_a_dropped_message_goes_out_while_its_sender_waits_for_something_else() {
    for seal in [Off, Required] {
        let (_world, mut client, mut server) = session(seal).await;
        let first = message(1, 3000);
        assert!(up_to(1, client.send(&first)).await.is_none());
        let echo = async {
            let message = within(server.recv()).await.unwrap().unwrap();
            within(server.send(&message)).await.unwrap();
        };
        let ((), heard) = tokio::join!(echo, within(client.recv()));
        assert_eq!(heard.unwrap().unwrap(), first);
    }
}

/// Other operations come behind it, and an orderly end does.
#[tokio::test]
async fn the_rest_of_a_dropped_message_comes_before_writes_reads_and_the_end() {
    for seal in [Off, Required] {
        let (_world, mut client, mut server) = session(seal).await;
        let first = message(1, 3000);
        assert!(up_to(1, client.send(&first)).await.is_none());
        let sending = async {
            client.write(5, b"written").await.unwrap();
            assert_eq!(client.read(5, 7).await.unwrap(), b"written");
            assert!(up_to(1, client.send(&message(2, 3000))).await.is_none());
            client.close().await.unwrap();
        };
        let ((), all) = tokio::join!(within(sending), async {
            let all = received(&mut server).await;
            server.close().await.unwrap();
            all
        });
        // The second may have been dropped when only what was written had been told.
        assert!(
            !all.is_empty() && [first, message(2, 3000)].starts_with(&all),
            "{seal:?}: {} messages",
            all.len()
        );
    }
}

/// Its rest can't be known then.
#[tokio::test]
async fn a_message_whose_sending_was_forgotten_in_its_middle_is_not_continued_by_the_next() {
    for seal in [Off, Required] {
        let (_world, mut client, mut server) = session(seal).await;
        let long = message(1, 100_000);
        // On the heap, so that forgetting it forgets what is in it.
        let mut sending = Box::pin(client.send(&long));
        let waits = core::future::poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_pending())).await;
        assert!(waits);
        core::mem::forget(sending);
        let error = client.send(b"the next").await.unwrap_err();
        assert!(matches!(error, SessionError::CutShort), "{error}");
        let told = within(server.recv()).await.unwrap_err().to_string();
        assert!(told.contains("cut short") || told.contains("WR_FLUSH_ERR"), "{told}");
    }
}
