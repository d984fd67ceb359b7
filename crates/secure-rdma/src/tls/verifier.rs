//! Verifying a server's certificate.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore, SignatureScheme,
};

use super::trust::Anchors;
use crate::certs::{CertificateInfo, Fingerprint, Kind, Revocations, Timestamp};

/// What rustls' own verifier does, against trust anchors that a pin may choose from what the server sent.
/// Made for one connection: it keeps what the server sent, so that an error can say what was found.
#[derive(Debug)]
pub(super) struct Verifier {
    anchors: Anchors,
    revocations: Revocations,
    provider: Arc<CryptoProvider>,
    presented: OnceLock<Vec<CertificateDer<'static>>>,
}

impl Verifier {
    pub(super) const fn new(
        anchors: Anchors,
        revocations: Revocations,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self { anchors, revocations, provider, presented: OnceLock::new() }
    }

    /// The certificates that the server sent, its own first; none if it didn't come to that.
    pub(super) fn presented(&self) -> &[CertificateDer<'static>] {
        self.presented.get().map_or(&[], Vec::as_slice)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.presented.get_or_init(|| {
            [end_entity].into_iter().chain(intermediates).map(|der| der.clone().into_owned()).collect()
        });
        let roots = match &self.anchors {
            Anchors::Roots(anchors) => Arc::clone(&anchors.roots),
            Anchors::Pin(pin) => Arc::new(pinned(pin, intermediates, now)?),
        };
        let mut builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider));
        if !self.revocations.is_empty() {
            // The whole chain is checked, and what no list tells of is refused: rustls' defaults.
            builder = builder.with_crls(self.revocations.lists()).enforce_revocation_expiration();
        }
        builder
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| match error {
                // Signed by another key than that of the CA whose name it gives: another CA's. It is told
                // here from a server that can't prove its own certificate, for which rustls has the same
                // error later.
                Error::InvalidCertificate(CertificateError::BadSignature) => {
                    CertificateError::UnknownIssuer.into()
                }
                error => error,
            })
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Only TLS 1.3 is configured: no handshake comes here.
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The trust anchor that `pin` names, from among the certificates that the server sent behind its own.
///
/// A trust anchor's dates and basic constraints aren't looked at in path validation (RFC 5280, section 6.1.1
/// d), so they are here. That it is there proves nothing, since anyone can send it along: what proves
/// something is the signature on the server's own certificate, which is verified next, with this as the only
/// anchor.
fn pinned(
    pin: &Fingerprint,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<RootCertStore, Error> {
    let authority = intermediates
        .iter()
        .find(|der| Fingerprint::of(der) == *pin)
        .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
    let bad_encoding = || Error::InvalidCertificate(CertificateError::BadEncoding);
    let info = CertificateInfo::read("".into(), authority).map_err(|_| bad_encoding())?;
    if info.kind != Some(Kind::Authority) {
        return Err(CertificateError::UnknownIssuer.into());
    }
    let (not_before, not_after) = (info.not_before.to_unix_time(), info.not_after.to_unix_time());
    if Timestamp::from(now) > info.not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    if Timestamp::from(now) < info.not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    Ok(roots)
}
