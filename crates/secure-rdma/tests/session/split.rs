//! Sessions in two halves, each in a task of its own.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use crate::world::{World, bytes};
use secure_rdma::control::SealPolicy::{self, Off, Required};
use secure_rdma::{RecvHalf, SendHalf, Session, SessionOptions};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

async fn session(seal: SealPolicy) -> (World, Session, Session) {
    let options = SessionOptions::default().seal(seal);
    let mut world = World::with("127.0.0.1", options, options, |_| {}).await;
    let (client, server) = world.session().await;
    (world, client, server)
}

/// Takes so many messages.
async fn take(half: &mut RecvHalf, count: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(within(half.recv()).await.unwrap().unwrap());
    }
    all
}

/// Far more than what either side keeps, in one operation of each: neither could end if what comes meanwhile weren't
/// taken.
#[tokio::test(flavor = "multi_thread")]
async fn both_sides_send_more_at_once_than_is_kept_while_other_tasks_receive() {
    const COUNT: usize = 64;
    for seal in [Off, Required] {
        let (_world, client, server) = session(seal).await;
        let messages: Vec<Vec<u8>> = (0..COUNT).map(|n| bytes((64 << 10) + n)).collect();
        let mut tasks = Vec::new();
        for side in [client, server] {
            let (mut sender, mut receiver) = side.split();
            let own = messages.clone();
            tasks.push(tokio::spawn(async move {
                let sending = tokio::spawn(async move {
                    within(sender.post_sends(own.iter().map(Vec::as_slice))).await.unwrap();
                    within(sender.flush()).await.unwrap();
                    sender
                });
                let received = take(&mut receiver, COUNT).await;
                let session = sending.await.unwrap().reunite(receiver).unwrap();
                (received, session)
            }));
        }
        let mut sessions = Vec::new();
        for task in tasks {
            let (received, session) = within(task).await.unwrap();
            assert!(received == messages, "{seal:?}");
            sessions.push(session);
        }
        let [one, other] = <[Session; 2]>::try_from(sessions).unwrap();
        let (one, other) = tokio::join!(one.close(), other.close());
        one.unwrap();
        other.unwrap();
    }
}

/// On one thread, where nothing happens unless somebody is woken.
#[tokio::test]
async fn a_half_that_waits_for_messages_keeps_the_other_from_nothing() {
    for seal in [Off, Required] {
        let (_world, client, mut server) = session(seal).await;
        let (mut sender, mut receiver) = client.split();
        let receiving = tokio::spawn(async move {
            let all = take(&mut receiver, 20).await;
            (all, receiver)
        });
        let echo = tokio::spawn(async move {
            for _ in 0..20 {
                let message = within(server.recv()).await.unwrap().unwrap();
                within(server.send(&message)).await.unwrap();
            }
            server
        });
        for number in 0..20_u8 {
            within(sender.write(u64::from(number) * 5000, &bytes(5000))).await.unwrap();
            within(sender.send(&[number])).await.unwrap();
            assert_eq!(within(sender.read(u64::from(number) * 5000, 5000)).await.unwrap(), bytes(5000));
        }
        let (all, receiver) = within(receiving).await.unwrap();
        assert_eq!(all, (0..20).map(|number| vec![number]).collect::<Vec<_>>());
        let (client, server) = (sender.reunite(receiver).unwrap(), within(echo).await.unwrap());
        let (one, other) = tokio::join!(client.close(), server.close());
        one.unwrap();
        other.unwrap();
    }
}

/// What had come to the half and wasn't taken is not lost when it is given back.
#[tokio::test]
async fn halves_become_the_session_again_with_what_had_come() {
    let (_world, client, mut server) = session(Required).await;
    let (mut sender, receiver) = client.split();
    server.send(b"one").await.unwrap();
    server.send(b"two").await.unwrap();
    // The sender's work brings them in.
    within(sender.write(0, b"x")).await.unwrap();
    within(sender.read(0, 1)).await.unwrap();
    let mut client = sender.reunite(receiver).unwrap();
    assert_eq!(within(client.recv()).await.unwrap().unwrap(), b"one");
    assert_eq!(within(client.recv()).await.unwrap().unwrap(), b"two");
}

#[tokio::test]
async fn halves_of_two_sessions_are_given_back() {
    let (_world, client, server) = session(Off).await;
    let ((sender, receiver), (other_sender, other_receiver)) = (client.split(), server.split());
    let error = sender.reunite(other_receiver).unwrap_err();
    assert!(error.to_string().contains("one session"));
    let (sender, other_receiver): (SendHalf, RecvHalf) = (error.0, error.1);
    sender.reunite(receiver).unwrap();
    other_sender.reunite(other_receiver).unwrap();
}

#[tokio::test]
async fn the_end_is_told_to_both_halves_and_one_half_goes_on_without_the_other() {
    let (_world, client, mut server) = session(Required).await;
    let (mut sender, receiver) = client.split();
    drop(receiver);
    within(sender.send(b"still")).await.unwrap();
    assert_eq!(within(server.recv()).await.unwrap().unwrap(), b"still");
    drop(sender);
    assert!(within(server.recv()).await.is_err());

    let (_world, client, server) = session(Required).await;
    let (mut sender, mut receiver) = client.split();
    let waiting = tokio::spawn(async move { receiver.recv().await });
    drop(server);
    let error = within(waiting).await.unwrap().unwrap_err();
    assert!(error.is_closed(), "{error}");
    within(sender.send(b"to nobody")).await.unwrap_err();
}

/// Whoever gives up waiting loses nothing.
#[tokio::test]
async fn receiving_may_be_cancelled() {
    let (_world, client, mut server) = session(Required).await;
    let (mut sender, mut receiver) = client.split();
    for number in 0..50_u8 {
        let waiting = tokio::time::timeout(Duration::from_micros(u64::from(number) * 20), receiver.recv());
        let message = [number];
        let (early, sent) = tokio::join!(waiting, server.send(&message));
        sent.unwrap();
        let received = match early {
            Ok(message) => message,
            Err(_) => within(receiver.recv()).await,
        };
        assert_eq!(received.unwrap().unwrap(), [number]);
        within(sender.send(&[number])).await.unwrap();
        assert_eq!(within(server.recv()).await.unwrap().unwrap(), [number]);
    }
}
