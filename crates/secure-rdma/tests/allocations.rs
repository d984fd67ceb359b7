//! Allocations of whole sessions: of a thread that is both ends', and has nothing else to do.

use secure_rdma::certs::Store;
use secure_rdma::{Client, ClientAuth, Server, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

/// Bytes that are moved at a time: a message of the stream's.
const LEN: usize = 64 << 10;

/// So many times bytes are moved before it counts, and then so many times more.
const WARM_UP: usize = 50;
const TIMES: usize = 400;

type Failure = Box<dyn std::error::Error>;

/// How often both ends together allocate, for what `count` moves.
fn allocations(count: fn(&Runtime, Session, Session) -> Result<u64, Failure>) -> Result<u64, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (_server, client, served) = runtime.block_on(sessions())?;
    count(&runtime, client, served)
}

#[test]
fn a_sealed_message_of_64_kib_takes_four_allocations_of_both_ends() {
    let count = allocations(messages).unwrap();
    assert!(count <= 4, "{count}");
}

#[test]
fn as_many_bytes_through_a_stream_take_eight() {
    let count = allocations(stream).unwrap();
    assert!(count <= 8, "{count}");
}

/// A server, and both ends of a session with it, the client's first.
async fn sessions() -> Result<(Server, Session, Session), Failure> {
    let state = tempfile::tempdir()?;
    let (store, names) = (Store::open(state.path().join("certs"))?, ["localhost".parse()?]);
    let identity = store.ensure_server(&names)?;
    let clients = ClientAuth::Required(store.authority()?.into());
    let server = Server::builder(identity, clients).bind("127.0.0.1:0").await?;
    let own = store.ensure_account(&names)?.ok_or("the CA's key is elsewhere")?;
    let client = Client::builder(store.authority()?).identity(own);
    let connect = client.connect("127.0.0.1", server.local_addr().port(), &names[0]);
    let (client, served) = tokio::join!(connect, server.accept());
    Ok((server, client?, served))
}

/// How often `once` allocates where it doesn't wait. Whoever has to wait allocates too, and how often that is depends
/// on what else the machine does: the least of many times doesn't.
fn counted(mut once: impl FnMut() -> Result<(), Failure>) -> Result<u64, Failure> {
    for _ in 0..WARM_UP {
        once()?;
    }
    let mut least = u64::MAX;
    for _ in 0..TIMES {
        let mut result = Ok(());
        least = least.min(allocation_counter::measure(|| result = once()).count_total);
        result?;
    }
    Ok(least)
}

fn messages(runtime: &Runtime, mut client: Session, mut server: Session) -> Result<u64, Failure> {
    let message = vec![0x5a; LEN];
    counted(|| {
        runtime.block_on(async {
            let (sent, received) = tokio::join!(client.post_send(&message), server.recv());
            sent?;
            let received = received?.ok_or("the client has left")?;
            if received == message { Ok(()) } else { Err("another message has arrived".into()) }
        })
    })
}

fn stream(runtime: &Runtime, client: Session, server: Session) -> Result<u64, Failure> {
    let (mut client, mut server) = (client.into_stream(), server.into_stream());
    let (bytes, mut read) = (vec![0x5a; LEN], vec![0; LEN]);
    counted(|| {
        read.fill(0);
        runtime.block_on(async {
            let write = async {
                client.write_all(&bytes).await?;
                client.flush().await
            };
            let (written, got) = tokio::join!(write, server.read_exact(&mut read));
            written?;
            got?;
            if read == bytes { Ok(()) } else { Err("other bytes have arrived".into()) }
        })
    })
}
