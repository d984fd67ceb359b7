//! Serving clients: accepting, limits, and one session for each.

use crate::SessionError;
use crate::certs::Identity;
use crate::control::ControlChannel;
use crate::session::{Local, Offer, STEP_LIMIT, Session, SessionOptions, as_server};
use crate::tls::{ClientAuth, ServerTls, TlsError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use verbs::Device;

/// What a server offers, and its limits.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to accept TCP connections.
    pub listen: SocketAddr,
    /// Clients at a time.
    pub max_clients: usize,
    /// Connections at a time that aren't sessions yet; further ones are closed at once.
    pub max_handshakes: usize,
    /// Bytes of the data area of each client's region, 1 or more; sealed, it is rounded up to whole slots.
    pub region_len: u64,
    /// Whether each client's region has eight counters for atomic operations. **Those travel in clear also where the data path is
    /// sealed**: a network card that adds can't open what is sealed.
    pub counters: bool,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
    /// What the server wants of its sessions.
    pub options: SessionOptions,
}

/// Who came.
#[derive(Debug)]
pub enum Arrival {
    /// A client whose session is open.
    Session(Box<Session>),
    /// A connection that didn't become a session.
    Refused {
        /// Where it came from.
        peer: SocketAddr,
        /// Why.
        error: SessionError,
    },
}

/// After the system had no descriptor or memory for a connection, this long passes before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Arrivals that wait to be taken.
const ARRIVALS: usize = 64;

/// A server. Handshakes go on in the background, concurrently; [`next`](Self::next) hands out who came.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    arrivals: mpsc::Receiver<Arrival>,
    accepting: JoinHandle<()>,
    tls: Arc<ServerTls>,
}

/// What every handshake needs.
struct Host {
    device: Arc<Device>,
    tls: Arc<ServerTls>,
    config: ServerConfig,
    places: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    arrivals: mpsc::Sender<Arrival>,
}

impl Server {
    /// Starts to listen.
    ///
    /// # Errors
    /// The address can't be had, or what is asked of clients can't be set up.
    pub async fn bind(
        device: Arc<Device>,
        identity: &Identity,
        config: ServerConfig,
    ) -> Result<Self, SessionError> {
        let tls = Arc::new(ServerTls::new(identity, &config.client_auth).map_err(Arc::new)?);
        let listener = TcpListener::bind(config.listen).await.map_err(|error| SessionError::System {
            what: "listening for clients",
            reason: format!(
                "{}: {error}; is another server running there? choose another --listen",
                config.listen
            ),
        })?;
        let address =
            listener.local_addr().map_err(SessionError::system("reading the server's own address"))?;
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let host = Arc::new(Host {
            device,
            tls: Arc::clone(&tls),
            places: Arc::new(Semaphore::new(config.max_clients)),
            handshakes: Arc::new(Semaphore::new(config.max_handshakes)),
            config,
            arrivals: sender,
        });
        let accepting = tokio::spawn(host.accept(listener));
        Ok(Self { address, arrivals, accepting, tls })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Proves itself with `identity` from the next handshake on.
    ///
    /// # Errors
    /// The identity can't be used; the old one stays.
    pub fn renew(&self, identity: &Identity) -> Result<(), SessionError> {
        Ok(self.tls.renew(identity).map_err(Arc::new)?)
    }

    /// Who came next. Cancelling loses nobody.
    pub async fn next(&mut self) -> Arrival {
        match self.arrivals.recv().await {
            Some(arrival) => arrival,
            // The accepting task holds the sender and never ends by itself.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Host {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!("accepting a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let since = Instant::now();
            let Ok(place) = Arc::clone(&self.handshakes).try_acquire_owned() else {
                tracing::warn!("{peer}: closed, {} handshakes are under way", self.config.max_handshakes);
                continue;
            };
            let host = Arc::clone(&self);
            tokio::spawn(async move {
                let arrival = match host.shake_hands(stream, peer, since).await {
                    Ok(session) => Arrival::Session(Box::new(session)),
                    Err(error) => Arrival::Refused { peer, error },
                };
                drop(place);
                // Where nobody takes arrivals any more, the session ends here.
                let _ = host.arrivals.send(arrival).await;
            });
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        since: Instant,
    ) -> Result<Session, SessionError> {
        let address =
            stream.local_addr().map_err(SessionError::system("reading the connection's own address"))?;
        stream.set_nodelay(true).map_err(SessionError::system("setting TCP_NODELAY"))?;
        let secured = self.tls.accept(stream, STEP_LIMIT).await.map_err(Arc::<TlsError>::new)?;
        let local = Local {
            device: &self.device,
            options: self.config.options,
            address,
            peer,
            tls: secured.negotiated,
            client_certificate: secured.client_certificate,
            since,
        };
        let offer = Offer {
            data_len: self.config.region_len,
            counters: self.config.counters,
            places: Arc::clone(&self.places),
            max_clients: self.config.max_clients,
        };
        as_server(ControlChannel::new(secured.stream), local, offer).await
    }
}
