//! The server's side of the handshake.

use core::fmt;
use core::time::Duration;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::ALPN;
use super::clients::{ClientAuth, Shown, Vetting};
use super::error::{Peer, TlsError};
use super::negotiated::{Negotiated, Secured};
use super::scrub::scrubbed;
use crate::certs::{Clock, Editions, Identity, SubjectNames};
use crate::crypto;

/// What a server needs for handshakes: its identity and what it asks of clients.
pub struct ServerTls {
    rules: RwLock<Arc<Rules>>,
}

/// One set of it, whole: a handshake goes by one set from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Rules {
    config: Arc<ServerConfig>,
    protocol: &'static [u8],
    pub(crate) vetting: Arc<Vetting>,
    /// The names in the server's own certificate.
    own: SubjectNames,
}

impl Rules {
    /// Reads everything that they need. No revocation list may be older than those of `before`.
    pub(crate) fn load(
        identity: &Identity,
        clients: &ClientAuth,
        before: &Editions,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        Self::of_protocol(ALPN, identity, clients, before, clock)
    }

    /// The same for handshakes that insist on another application protocol than [`ALPN`].
    pub(crate) fn of_protocol(
        protocol: &'static [u8],
        identity: &Identity,
        clients: &ClientAuth,
        before: &Editions,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        Self::new(protocol, identity, Arc::new(Vetting::load(clients, before, clock)?))
    }

    fn new(protocol: &'static [u8], identity: &Identity, vetting: Arc<Vetting>) -> Result<Self, TlsError> {
        let config = Arc::new(config(protocol, identity, &vetting)?);
        let own = identity.chain().first().map(SubjectNames::of).unwrap_or_default();
        Ok(Self { config, protocol, vetting, own })
    }

    /// Whether a client's certificate names nobody but this server's own host, as that of its account does.
    pub(crate) fn is_own_account(&self, client: &SubjectNames) -> bool {
        !client.names().is_empty() && client.names().iter().all(|name| self.own.names().contains(name))
    }
}

impl ServerTls {
    /// A server that proves itself with `identity`.
    ///
    /// # Errors
    /// If the CAs for clients, their revocation lists or the allow-list can't be read or used.
    pub fn new(identity: &Identity, clients: &ClientAuth) -> Result<Self, TlsError> {
        Self::with_clock(identity, clients, Clock::default())
    }

    /// The same, by another clock than the system's.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_clock(identity: &Identity, clients: &ClientAuth, clock: Clock) -> Result<Self, TlsError> {
        Rules::load(identity, clients, &Editions::default(), clock).map(Self::with)
    }

    pub(crate) fn with(rules: Rules) -> Self {
        rules.vetting.remember();
        Self { rules: RwLock::new(Arc::new(rules)) }
    }

    /// Proves itself with `identity` from the next handshake on: certificates end, and a server that runs for
    /// long has to follow.
    ///
    /// # Errors
    /// The identity can't be used; the old one then stays.
    pub fn renew(&self, identity: &Identity) -> Result<(), TlsError> {
        // Under the lock, or what another thread reloads meanwhile would be undone.
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        *rules = Arc::new(Rules::new(rules.protocol, identity, Arc::clone(&rules.vetting))?);
        Ok(())
    }

    /// Proves itself with `identity` and asks `clients` of its clients from the next handshake on; all of its
    /// files are read again.
    ///
    /// # Errors
    /// As [`new`](Self::new); everything then stays as it was.
    pub fn reload(&self, identity: &Identity, clients: &ClientAuth) -> Result<(), TlsError> {
        let rules = self.read(identity, clients)?;
        self.install(rules);
        Ok(())
    }

    /// The rules that `clients` say now, by the clock of those in use.
    pub(crate) fn read(&self, identity: &Identity, clients: &ClientAuth) -> Result<Rules, TlsError> {
        let before = self.rules();
        Rules::load(identity, clients, before.vetting.editions(), before.vetting.clock.clone())
    }

    /// What the next handshake goes by.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn install(&self, rules: Rules) {
        rules.vetting.remember();
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Does the handshake over `io`, within `limit`.
    ///
    /// Who may do what by the allow-list isn't looked at here, but by the session.
    ///
    /// # Errors
    /// If the peer isn't a client of this protocol, or one with the certificate that is asked for, or isn't
    /// done in time.
    pub async fn accept<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: T,
        limit: Duration,
    ) -> Result<Secured<T>, TlsError> {
        let rules = self.rules();
        let handshake = TlsAcceptor::from(Arc::clone(&rules.config)).accept(io).into_fallible();
        match timeout(limit, scrubbed(handshake)).await {
            Ok(Ok(stream)) => {
                let connection = stream.get_ref().1;
                let negotiated = Negotiated::read(connection, Peer::Client, rules.protocol)?;
                let (chain, names) = (connection.peer_certificates(), negotiated.peer_names.clone());
                let shown = Shown::new(chain, names, rules.vetting.clock.now());
                let client_certificate = negotiated.peer_certificate_sha256;
                let vetted = Some((shown, rules));
                Ok(Secured { stream: stream.into(), negotiated, client_certificate, vetted })
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

fn config(protocol: &[u8], identity: &Identity, vetting: &Vetting) -> Result<ServerConfig, TlsError> {
    let clock = Arc::new(vetting.clock.clone());
    let mut config = ServerConfig::builder_with_details(crypto::provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Configuration)?
        .with_client_cert_verifier(vetting.verifier())
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    config.alpn_protocols = vec![protocol.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// How long and for how much a failed handshake's connection is kept, so that its client can read why.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 64 * 1024;

/// Ends a connection so that its client can read the alert that was sent last. To close a TCP socket with
/// unread bytes in it is to reset the connection (RFC 1122, section 4.2.2.13): the client's next write fails,
/// and what it hasn't read may be lost.
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
        let vetting = Vetting::load(&ClientAuth::Off, &Editions::default(), Clock::default()).unwrap();
        let config = config(ALPN, &identity, &vetting).unwrap();
        assert!(!config.key_log.will_log("SERVER_TRAFFIC_SECRET_0"));
        assert_eq!((config.send_tls13_tickets, config.max_early_data_size), (0, 0));
        assert!(!config.session_storage.can_cache() && !config.ticketer.enabled());
        assert_eq!(config.alpn_protocols, [ALPN]);
        assert!(config.crypto_provider().cipher_suites.iter().all(|suite| suite.tls13().is_some()));
    }
}
