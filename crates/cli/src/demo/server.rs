//! The demo's server: what `secure-rdma server` does, and it remembers what it saw of each client.

use crate::echo::{self, Echoed};
use crate::failure::Failure;
use crate::place::Place;
use rdma_verbs::{Device, Qpn};
use secure_rdma::certs::Identity;
use secure_rdma::tls::ClientAuth;
use secure_rdma::{
    Arrival, CounterPolicy, Report, Server, ServerOptions, Session, SessionInfo, SessionOptions, SessionQuota,
};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// How long the last clients' tasks have to finish.
const FINISH: Duration = Duration::from_secs(30);

/// A client's end of a queue pair: what both sides know it by.
pub(super) type Key = (SocketAddr, Qpn);

/// Bytes of each client's region.
const REGION: u64 = 256 << 10;

/// What the server saw of a session.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) info: SessionInfo,
    /// Requests that its queue pair refused, where the device counts them.
    pub(super) naks: Option<u64>,
}

/// The sessions that the server had, by their clients' ends.
pub(super) type Guests = HashMap<Key, Guest>;

/// The running server.
#[derive(Debug)]
pub(super) struct Host {
    address: SocketAddr,
    /// Sessions that it has at the moment.
    present: Arc<AtomicUsize>,
    finish: oneshot::Sender<()>,
    serving: JoinHandle<Guests>,
}

impl Host {
    /// Starts a server for so many clients, at any free port.
    pub(super) async fn start(
        device: Arc<Device>,
        identity: Identity,
        client_auth: ClientAuth,
        address: IpAddr,
        clients: u32,
        session: SessionOptions,
    ) -> Result<Self, Failure> {
        // Each client comes as itself and twice as an attacker; the server may notice late that the first
        // attacker has gone.
        let sessions = 3 * clients as usize;
        let options = ServerOptions::default()
            .max_clients(sessions)
            .quota(SessionQuota::UNLIMITED)
            // All of one address, which may have half.
            .max_handshakes(2 * sessions)
            // They come all at once, and share this machine's processors with the server.
            .first_byte(session.timeouts.step)
            .handshake(session.timeouts.step)
            .region_len(REGION)
            // Every operation is tried, atomic ones too, which other devices can't seal.
            .counters(CounterPolicy::On)
            .session(session);
        let server = Server::builder(identity, client_auth).device(device).options(options);
        let server = server.bind((address, 0)).await?;
        let (finish, finished) = oneshot::channel();
        let (address, present) = (server.local_addr(), Arc::default());
        let serving = tokio::spawn(serve(server, finished, Arc::clone(&present)));
        Ok(Self { address, present, finish, serving })
    }

    /// Where it listens.
    pub(super) fn place(&self) -> Place {
        Place { host: self.address.ip().to_string(), port: self.address.port() }
    }

    /// Sessions that it has at the moment.
    pub(super) fn present(&self) -> usize {
        self.present.load(Ordering::Acquire)
    }

    /// Ends it, after its clients have left; returns what it saw.
    pub(super) async fn finish(self) -> Guests {
        let _ = self.finish.send(());
        self.serving.await.unwrap_or_default()
    }
}

async fn serve(server: Server, mut finished: oneshot::Receiver<()>, present: Arc<AtomicUsize>) -> Guests {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut finished => break,
            arrival = server.next() => match arrival {
                Arrival::Session(session) => {
                    present.fetch_add(1, Ordering::AcqRel);
                    let present = Arc::clone(&present);
                    sessions.spawn(async move {
                        let guest = entertain(*session).await;
                        present.fetch_sub(1, Ordering::AcqRel);
                        guest
                    });
                }
                Arrival::Refused { peer, error } => tracing::warn!("refused {peer}: {}", Report::new(&error)),
            },
        }
    }
    let mut guests = Guests::new();
    let collect = async {
        while let Some(guest) = sessions.join_next().await {
            guests.extend(guest.map(|guest| ((guest.info.remote.address, guest.info.remote.qpn), guest)));
        }
    };
    let _ = tokio::time::timeout(FINISH, collect).await;
    guests
}

async fn entertain(mut session: Session) -> Guest {
    let served = echo::serve(&mut session, &mut Echoed::default()).await;
    let guest = Guest { info: session.info().clone(), naks: echo::refused(&session) };
    match served {
        Ok(()) => {
            let _ = session.close().await;
        }
        Err(error) => session.abort(error).await,
    }
    guest
}
