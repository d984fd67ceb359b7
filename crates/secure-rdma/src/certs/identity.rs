//! A certificate with its key: what one side of a connection proves itself with.

use core::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::files::{self, Secrecy};
use super::{CertsError, Fingerprint};

/// A certificate, those behind it up to the CA's, and its private key, which never leaves the cryptographic library.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// The identity in two PEM files: the certificate first in its own, with the rest of its chain behind it,
    /// and the key.
    ///
    /// # Errors
    /// If one can't be read or isn't what it should be, if others can read the key, or if the two don't
    /// belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CertsError> {
        let chain = files::read_existing(certificate, Secrecy::Public)?;
        let secret = files::read_existing(key, Secrecy::Secret)?;
        Self::parse(certificate, &chain, key, &secret)
    }

    /// The same from the files' contents.
    pub(super) fn parse(
        certificate: &Path,
        chain: &[u8],
        key: &Path,
        secret: &[u8],
    ) -> Result<Self, CertsError> {
        let chain = files::parse_certificates(certificate, chain)?;
        let not_a_key = |reason: String| CertsError::NotAKey { path: key.into(), reason };
        let secret = PrivateKeyDer::from_pem_slice(secret).map_err(|error| not_a_key(error.to_string()))?;
        let secret = Zeroizing::new(secret);
        let signing = any_supported_type(&secret).map_err(|error| not_a_key(error.to_string()))?;
        let certified = CertifiedKey::new(chain, signing);
        // The keys of every kind that `any_supported_type` knows can be compared: anything but agreement is a mismatch.
        certified
            .keys_match()
            .map_err(|_| CertsError::KeyMismatch { certificate: certificate.into(), key: key.into() })?;
        Ok(Self(Arc::new(certified)))
    }

    /// The certificate and those behind it.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.cert
    }

    /// The fingerprint of the certificate itself, not of its CA's.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.certificate())
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        // `parse` took no empty chain.
        &self.0.cert[0]
    }

    /// The same as rustls has it.
    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint())
    }
}
