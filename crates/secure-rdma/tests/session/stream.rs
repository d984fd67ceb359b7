//! Sessions as streams of bytes.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use crate::world::{World, bytes, messages};
use secure_rdma::control::SealPolicy::{Off, Required};
use secure_rdma::{SessionError, SessionOptions, SessionStream};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(60);

/// More than either side keeps.
const LONG: usize = 20 << 20;

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

async fn streams(options: SessionOptions) -> (World, SessionStream, SessionStream) {
    let mut world = World::with("127.0.0.1", options, options, |_| {}).await;
    let (client, server) = world.session().await;
    (world, client.into_stream(), server.into_stream())
}

/// Sealed by packets, where the device can, by messages, and in clear.
fn ways() -> [SessionOptions; 3] {
    [SessionOptions::default().seal(Required), messages().seal(Required), SessionOptions::default().seal(Off)]
}

/// Writes and reads as much at the same time, in two tasks, and returns what has come.
async fn exchange(stream: SessionStream, own: Vec<u8>) -> (SessionStream, Vec<u8>) {
    let (mut reads, mut writes) = tokio::io::split(stream);
    let writing = tokio::spawn(async move {
        // Pieces that are no messages.
        for piece in own.chunks(100_003) {
            writes.write_all(piece).await.unwrap();
        }
        writes.shutdown().await.unwrap();
        writes
    });
    let mut received = Vec::new();
    reads.read_to_end(&mut received).await.unwrap();
    (reads.unsplit(writing.await.unwrap()), received)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_carry_their_bytes_at_once_and_end_one_by_one() {
    for options in ways() {
        let (_world, client, server) = streams(options).await;
        let (long, short) = (bytes(LONG), bytes(12_345));
        let at_client = tokio::spawn(exchange(client, long.clone()));
        let at_server = tokio::spawn(exchange(server, short.clone()));
        let (client, came) = within(at_client).await.unwrap();
        assert!(came == short, "{options:?}");
        let (server, came) = within(at_server).await.unwrap();
        assert!(came == long, "{options:?}");
        let (one, other) = within(async { tokio::join!(client.close(), server.close()) }).await;
        one.and(other).unwrap();
    }
}

/// In one task for each side, on one thread: whoever waits to read lets go of the session for what is to be written.
#[tokio::test]
async fn one_task_reads_and_writes_by_turns() {
    let (_world, mut client, mut server) = streams(SessionOptions::default()).await;
    let asks = async {
        for number in 0..200_u32 {
            client.write_all(&number.to_be_bytes()).await.unwrap();
            assert_eq!(client.read_u32().await.unwrap(), number + 1);
        }
        client.shutdown().await.unwrap();
        assert_eq!(client.read_u8().await.unwrap_err().kind(), ErrorKind::UnexpectedEof, "its end");
    };
    let answers = async {
        while let Ok(number) = server.read_u32().await {
            server.write_u32(number + 1).await.unwrap();
        }
        server.shutdown().await.unwrap();
    };
    within(async { tokio::join!(asks, answers) }).await;
}

#[tokio::test]
async fn what_is_written_leaves_without_a_flush() {
    let (_world, mut client, mut server) = streams(SessionOptions::default()).await;
    client.write_all(b"at once").await.unwrap();
    let mut came = [0; 7];
    within(server.read_exact(&mut came)).await.unwrap();
    assert_eq!(&came, b"at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_is_waited_for() {
    for options in ways() {
        let (_world, client, mut server) = streams(options).await;
        let (_reads, mut writes) = tokio::io::split(client);
        let all = bytes(LONG);
        let own = all.clone();
        let writing = tokio::spawn(async move {
            let mut written = 0;
            for piece in own.chunks(64 << 10) {
                let Ok(result) =
                    tokio::time::timeout(Duration::from_millis(500), writes.write_all(piece)).await
                else {
                    break;
                };
                result.unwrap();
                written += piece.len();
            }
            (writes, written)
        });
        // It stops in the middle of a piece.
        let (mut writes, written) = within(writing).await.unwrap();
        assert!(
            (1..LONG).contains(&written),
            "{written} bytes were taken of a writer whose peer doesn't read"
        );
        let mut came = vec![0; written];
        let (read, flushed) =
            within(async { tokio::join!(server.read_exact(&mut came), writes.flush()) }).await;
        read.and(flushed.map(|()| 0)).unwrap();
        assert!(came == all[..written], "{options:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_error_and_no_end() {
    for options in ways() {
        let (_world, mut client, mut server) = streams(options).await;
        client.write_all(b"half of it").await.unwrap();
        client.flush().await.unwrap();
        let mut came = [0; 10];
        within(server.read_exact(&mut came)).await.unwrap();
        drop(client);
        let error = within(server.read(&mut came)).await.unwrap_err();
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<SessionError>());
        assert!(inner.is_some_and(SessionError::is_closed), "{error}");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        within(server.read(&mut came)).await.expect_err("it stays so");
        within(async {
            while server.write(b"more").await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_session_that_is_closed_as_one_is_no_end_of_the_stream() {
    let mut world = World::new("127.0.0.1", 4, SessionOptions::default()).await;
    let (mut client, server) = world.session().await;
    let mut server = server.into_stream();
    client.send(b"a message").await.unwrap();
    let closing = tokio::spawn(client.close());
    let mut came = [0; 9];
    within(server.read_exact(&mut came)).await.unwrap();
    assert_eq!(&came, b"a message");
    let error = within(server.read(&mut came)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    drop(server);
    let _ = within(closing).await;
}

#[tokio::test]
async fn nothing_is_written_behind_the_end() {
    let (_world, mut client, _server) = streams(SessionOptions::default()).await;
    within(client.shutdown()).await.unwrap();
    within(client.shutdown()).await.unwrap();
    assert_eq!(within(client.write(b"late")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}
