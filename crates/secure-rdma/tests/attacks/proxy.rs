//! A man in the middle of the control channel: a TCP proxy that sees and may change every byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Changes the bytes that are on their way to the server, as they come.
type Change = Box<dyn FnMut(&mut Vec<u8>) + Send>;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    change: Arc<Mutex<Option<Change>>>,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    /// For one connection to the server at `server`.
    pub(crate) async fn new(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((server.ip(), 0)).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (change, sent) = (Arc::<Mutex<Option<Change>>>::default(), Arc::<Mutex<Vec<u8>>>::default());
        let (changing, noting) = (Arc::clone(&change), Arc::clone(&sent));
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.expect("a client");
            let server = tokio::net::TcpStream::connect(server).await.expect("the server");
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(pass(from_server, to_client, |_| {}));
            let meddle = move |bytes: &mut Vec<u8>| {
                if let Some(change) = &mut *changing.lock().expect("no panic") {
                    change(bytes);
                }
                noting.lock().expect("no panic").extend(&*bytes);
            };
            pass(from_client, to_server, meddle).await;
        });
        Self { address, change, sent }
    }

    pub(crate) fn change(&self, change: impl FnMut(&mut Vec<u8>) + Send + 'static) {
        *self.change.lock().expect("no panic") = Some(Box::new(change));
    }

    /// What the client has sent.
    pub(crate) fn sent(&self) -> Vec<u8> {
        self.sent.lock().expect("no panic").clone()
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut meddle: impl FnMut(&mut Vec<u8>) + Send) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        let mut bytes = buffer[..len].to_vec();
        meddle(&mut bytes);
        if to.write_all(&bytes).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
