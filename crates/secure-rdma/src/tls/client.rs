//! The client's side of the handshake.

use core::fmt;
use core::time::Duration;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::SignatureScheme;
use rustls::client::{ClientConfig, ResolvesClientCert, Resumption};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::ALPN;
use super::error::{Attempt, Peer, TlsError};
use super::negotiated::{Negotiated, Secured};
use super::scrub::scrubbed;
use super::trust::{Anchors, Trust};
use super::verifier::Verifier;
use crate::certs::{Clock, Editions, Fingerprint, Identity, Name, RevocationLists, Revocations, Used};
use crate::crypto;
use crate::report::Report;

/// What a client needs for handshakes: whom it trusts and, if it has one, its own certificate.
#[derive(Clone)]
pub struct ClientTls {
    trust: Trust,
    anchors: Anchors,
    identity: Option<Identity>,
    revocations: Revocations,
    clock: Clock,
    protocol: &'static [u8],
}

impl ClientTls {
    /// A client that trusts `trust` and shows `identity` to servers that ask for a certificate.
    ///
    /// # Errors
    /// If what is to be trusted can't be read or is not a CA.
    pub fn new(trust: Trust, identity: Option<Identity>) -> Result<Self, TlsError> {
        Self::with_clock(trust, identity, Clock::default())
    }

    /// The same, by another clock than the system's.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_clock(trust: Trust, identity: Option<Identity>, clock: Clock) -> Result<Self, TlsError> {
        let anchors = Anchors::load(&trust, clock.now())?;
        Ok(Self { trust, anchors, identity, revocations: Revocations::default(), clock, protocol: ALPN })
    }

    /// Checks servers' certificates against revocation lists too. There has to be one of each CA that is trusted, and
    /// none may have ended; a server whose certificate's state isn't known from them is refused. So is a list that is
    /// older than the newest of the same CA that the file `remembered` knows of, if one is given; with a pin, whose
    /// CA isn't known yet, nothing is remembered.
    ///
    /// # Errors
    /// If the lists can't be read or aren't that.
    pub fn with_revocations(
        mut self,
        lists: impl Into<RevocationLists>,
        remembered: Option<&Path>,
    ) -> Result<Self, TlsError> {
        let editions = remembered.map(Editions::read).transpose()?.unwrap_or_default();
        let used = Used { editions, remembered: remembered.unwrap_or(Path::new("")).into() };
        self.revocations =
            Revocations::load(&lists.into(), self.anchors.authorities(), &used, self.clock.now())?;
        if let Some(remembered) = remembered
            && let Err(error) = self.revocations.editions.remember(remembered)
        {
            tracing::warn!(
                "an older revocation list than this one would be taken the next time: {}",
                Report::new(&error)
            );
        }
        Ok(self)
    }

    /// Insists on this application protocol instead of [`ALPN`].
    pub(crate) fn protocol(mut self, protocol: &'static [u8]) -> Self {
        self.protocol = protocol;
        self
    }

    /// Does the handshake over `io` with the server `name`, within `limit`.
    ///
    /// With TLS 1.3 the client is done before the server has seen the client's certificate. A server that
    /// refuses it says so where the client reads first: [`TlsError::from_io`] tells what such an error means.
    ///
    /// # Errors
    /// If the peer isn't the server `name` by a CA that is trusted, doesn't speak this protocol, or isn't done in time.
    pub async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: T,
        name: &Name,
        limit: Duration,
    ) -> Result<Secured<T>, TlsError> {
        let verifier = Arc::new(self.verifier());
        let shown = self.identity.as_ref().map(|identity| Arc::new(OnRequest::new(identity)));
        let config = Arc::new(self.config(Arc::clone(&verifier), shown.clone())?);
        let handshake = TlsConnector::from(config).connect(name.as_server_name().clone(), io);
        let stream = match timeout(limit, scrubbed(handshake)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let attempt = Attempt { trust: &self.trust, presented: verifier.presented() };
                return Err(TlsError::of_attempt(error, &attempt));
            }
            Err(_) => return Err(TlsError::TimedOut { peer: Peer::Server, limit }),
        };
        let negotiated = Negotiated::read(stream.get_ref().1, Peer::Server, self.protocol)?;
        let client_certificate = shown.and_then(|shown| shown.shown());
        Ok(Secured { stream: stream.into(), negotiated, client_certificate, vetted: None })
    }

    fn verifier(&self) -> Verifier {
        Verifier::new(self.anchors.clone(), self.revocations.clone(), crypto::provider())
    }

    fn config(
        &self,
        verifier: Arc<Verifier>,
        identity: Option<Arc<OnRequest>>,
    ) -> Result<ClientConfig, TlsError> {
        let clock = Arc::new(self.clock.clone());
        let builder = ClientConfig::builder_with_details(crypto::provider(), clock)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Configuration)?
            // rustls' word for a verifier that isn't its own. This one asks rustls' own: see there.
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![self.protocol.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(config)
    }
}

/// A certificate for one handshake that remembers whether it was shown: the keys of the sealed data path
/// depend on that, and rustls doesn't tell afterwards.
#[derive(Debug)]
struct OnRequest {
    identity: Identity,
    certificate: Arc<CertifiedKey>,
    shown: AtomicBool,
}

impl OnRequest {
    fn new(identity: &Identity) -> Self {
        let (identity, certificate) = (identity.clone(), identity.certified_key());
        Self { identity, certificate, shown: AtomicBool::new(false) }
    }

    /// Its fingerprint, if it was shown.
    fn shown(&self) -> Option<Fingerprint> {
        let first = self.certificate.cert.first().filter(|_| self.shown.load(Ordering::Acquire));
        first.map(|der| Fingerprint::of(der))
    }
}

impl ResolvesClientCert for OnRequest {
    /// rustls asks when the server requests a certificate, and shows what it gets if the key can sign as the
    /// server wants.
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        if !self.identity.is_for(issuers) {
            return None;
        }
        self.certificate.key.choose_scheme(schemes)?;
        self.shown.store(true, Ordering::Release);
        Some(Arc::clone(&self.certificate))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("trust", &self.trust).field("identity", &self.identity).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_weaker_than_promised_is_configured() {
        let client = ClientTls::new(Trust::Pin(Fingerprint::of(b"")), None).unwrap();
        let verifier = Arc::new(client.verifier());
        let config = client.config(verifier, None).unwrap();
        assert!(!config.key_log.will_log("CLIENT_TRAFFIC_SECRET_0"));
        assert!(!config.enable_early_data && config.enable_sni);
        assert_eq!(config.alpn_protocols, [ALPN]);
        let groups: Vec<_> =
            config.crypto_provider().kx_groups.iter().map(|group| format!("{:?}", group.name())).collect();
        assert_eq!(groups, ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"]);
        assert!(config.crypto_provider().cipher_suites.iter().all(|suite| suite.tls13().is_some()));
    }
}
