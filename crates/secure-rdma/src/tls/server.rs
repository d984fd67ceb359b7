//! The server's side of the handshake.

use core::fmt;
use core::time::Duration;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::RootCertStore;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::ALPN;
use super::error::{Peer, TlsError};
use super::negotiated::{Negotiated, Secured};
use crate::certs::{self, Identity};
use crate::crypto;

/// What a server asks of its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing: any client may connect.
    Off,
    /// A certificate by one of the CAs in this file, or none at all.
    Optional(PathBuf),
    /// A certificate by one of the CAs in this file.
    Required(PathBuf),
}

/// What a server needs for handshakes: its identity and what it asks of clients.
pub struct ServerTls {
    clients: Arc<dyn ClientCertVerifier>,
    config: RwLock<Arc<ServerConfig>>,
}

impl ServerTls {
    /// A server that proves itself with `identity`.
    ///
    /// # Errors
    /// If the CAs for clients can't be read or are none.
    pub fn new(identity: &Identity, clients: &ClientAuth) -> Result<Self, TlsError> {
        let clients = client_verifier(clients)?;
        let config = RwLock::new(Arc::new(config(identity, &clients)?));
        Ok(Self { clients, config })
    }

    /// Proves itself with `identity` from the next handshake on: certificates end, and a server that runs for long has to follow.
    ///
    /// # Errors
    /// As [`new`](Self::new); the old identity then stays.
    pub fn renew(&self, identity: &Identity) -> Result<(), TlsError> {
        let config = Arc::new(config(identity, &self.clients)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Does the handshake over `io`, within `limit`.
    ///
    /// # Errors
    /// If the peer isn't a client of this protocol, or one with the certificate that is asked for, or isn't done in time.
    pub async fn accept<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: T,
        limit: Duration,
    ) -> Result<Secured<T>, TlsError> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        let handshake = TlsAcceptor::from(config).accept(io).into_fallible();
        match timeout(limit, handshake).await {
            Ok(Ok(stream)) => {
                let negotiated = Negotiated::read(stream.get_ref().1, Peer::Client)?;
                let client_certificate = negotiated.peer_certificate_sha256;
                Ok(Secured { stream: stream.into(), negotiated, client_certificate })
            }
            Ok(Err((error, io))) => {
                linger(io).await;
                Err(TlsError::from_io(error, Peer::Client))
            }
            Err(_) => Err(TlsError::TimedOut { peer: Peer::Client, limit }),
        }
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

fn config(identity: &Identity, clients: &Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Configuration)?
        .with_client_cert_verifier(Arc::clone(clients))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

fn client_verifier(clients: &ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let (ClientAuth::Optional(path) | ClientAuth::Required(path)) = clients else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for authority in certs::read_authorities(path)? {
        roots.add(authority).map_err(TlsError::Configuration)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto::provider());
    let builder = match clients {
        ClientAuth::Optional(_) => builder.allow_unauthenticated(),
        _ => builder,
    };
    builder.build().map_err(|error| TlsError::Configuration(rustls::Error::General(error.to_string())))
}

/// How long and for how much a failed handshake's connection is kept, so that its client can read why.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 64 * 1024;

/// Ends a connection so that its client can read the alert that was sent last. To close a TCP socket with unread bytes in it is to
/// reset the connection (RFC 1122, section 4.2.2.13): the client's next write fails, and what it hasn't read may be lost.
async fn linger<T: AsyncRead + AsyncWrite + Unpin>(mut io: T) {
    let drain = async {
        io.shutdown().await?;
        let mut left = LINGER_BYTES;
        let mut scrap = [0; 1024];
        while left > 0 {
            match io.read(&mut scrap).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        std::io::Result::Ok(())
    };
    // Nothing here can fail in a way that matters: the handshake has failed already.
    let _ = timeout(LINGER, drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::{Name, Store};

    #[test]
    fn nothing_weaker_than_promised_is_configured() {
        let dir = tempfile::TempDir::new().unwrap();
        let names: [Name; 1] = ["localhost".parse().unwrap()];
        let identity = Store::open(dir.path().join("state")).unwrap().ensure_server(&names).unwrap();
        let config = config(&identity, &client_verifier(&ClientAuth::Off).unwrap()).unwrap();
        assert!(!config.key_log.will_log("SERVER_TRAFFIC_SECRET_0"));
        assert_eq!((config.send_tls13_tickets, config.max_early_data_size), (0, 0));
        assert!(!config.session_storage.can_cache() && !config.ticketer.enabled());
        assert_eq!(config.alpn_protocols, [ALPN]);
        assert!(config.crypto_provider().cipher_suites.iter().all(|suite| suite.tls13().is_some()));
    }
}
