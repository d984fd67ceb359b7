//! Accepting connections, and their TLS handshakes, within the limits of places and time.

use crate::SessionError;
use crate::admission::{Dismissal, Place, Pool, Source};
use crate::tls::{Secured, ServerTls, TlsError};
use crate::transport::{Connection, Listener};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, ToSocketAddrs, lookup_host};
use tokio::time::Instant;

/// After the system had no descriptor or memory for a connection, this long passes before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// So much at most is said of connections that can't be accepted.
const ACCEPT_WARNING: Duration = Duration::from_secs(1);

/// How long a connection's handshake may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandshakeLimits {
    /// How soon it has to bring its first byte: a client speaks first.
    pub(crate) first_byte: Duration,
    /// How soon all of it has to be done.
    pub(crate) whole: Duration,
}

/// A listener at the first address that can be had.
pub(crate) async fn listen(address: impl ToSocketAddrs) -> Result<TcpListener, SessionError> {
    let found = lookup_host(address).await;
    let addresses: Vec<SocketAddr> =
        found.map_err(SessionError::system("looking up the address to listen at"))?.collect();
    let mut last =
        SessionError::system("looking up the address to listen at")(std::io::ErrorKind::NotFound.into());
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(source) => last = SessionError::Listen { address, source: Arc::new(source) },
        }
    }
    Err(last)
}

/// Accepts connections for ever, and hands each out with its place in `pool`.
pub(crate) async fn accept_each<L: Listener>(
    listener: L,
    pool: &Arc<Pool>,
    mut hand_out: impl FnMut(L::Connection, SocketAddr, (Place, Dismissal)),
) {
    let mut warned: Option<Instant> = None;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                if warned.is_none_or(|at| at.elapsed() >= ACCEPT_WARNING) {
                    warned = Some(Instant::now());
                    tracing::warn!("accepting a connection: {error}");
                }
                // What the system has too little of, an unfinished handshake may give back.
                pool.shed();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if stream.is_among_the_last() {
            if warned.is_none_or(|at| at.elapsed() >= ACCEPT_WARNING) {
                warned = Some(Instant::now());
                tracing::warn!("{peer}: closed, hardly any file descriptors are left");
            }
            drop(stream);
            pool.shed();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        }
        let held = pool.enter(&Source::of(peer.ip()));
        hand_out(stream, peer, held);
    }
}

/// The server's side of a TLS handshake, for which the connection has `held` since `since`.
pub(crate) async fn secure<T: Connection>(
    tls: &ServerTls,
    stream: T,
    since: Instant,
    held: (Place, Dismissal),
    limits: HandshakeLimits,
) -> Result<Secured<T>, SessionError> {
    let (place, mut dismissal) = held;
    let handshake = async {
        match tokio::time::timeout(limits.first_byte, stream.spoken()).await {
            Err(_) => return Err(SessionError::NoHello(limits.first_byte)),
            // What is wrong with the connection, TLS says.
            Ok(()) => place.spoken(),
        }
        let left = limits.whole.saturating_sub(since.elapsed());
        Ok(tls.accept(stream, left).await.map_err(Arc::<TlsError>::new)?)
    };
    tokio::select! {
        biased;
        secured = handshake => secured,
        () = dismissal.lost() => Err(SessionError::Crowded),
    }
}
