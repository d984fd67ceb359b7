//! A certificate with its key: what one side of a connection proves itself with.

use core::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use zeroize::Zeroizing;

use super::files::{self, Named, Secrecy};
use super::{CertsError, Fingerprint, Timestamp};

/// What errors call a certificate and a key that came from no file.
const GIVEN_CERTIFICATE: &str = "the certificate that was given";
const GIVEN_KEY: &str = "the key that was given";

/// A certificate, those behind it up to the CA's, and its private key, which never leaves the cryptographic library.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    /// The name (DER) of the CA without whose mention it isn't shown.
    only_for: Option<Arc<[u8]>>,
}

/// An identity, and whom it trusts: all that a client needs, from one file.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Who it is.
    pub identity: Identity,
    /// The CAs whose servers it trusts.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl Bundle {
    /// What the PEM file `path` holds: a certificate with its CA's behind it, and its key, in whatever order.
    ///
    /// # Errors
    /// As [`Identity::load`], and if there is no CA's certificate that is good now.
    pub fn load(path: &Path) -> Result<Self, CertsError> {
        Self::load_at(path, Timestamp::now())
    }

    /// The same, if the CA's certificate is good `now`.
    pub(crate) fn load_at(path: &Path, now: Timestamp) -> Result<Self, CertsError> {
        let pem = files::read_existing(path, Secrecy::Secret, Named::ByUser)?;
        let is_authority = |der: &CertificateDer<'_>| files::parse(der).is_ok_and(|parsed| parsed.is_ca());
        let (authorities, own): (Vec<_>, Vec<_>) =
            files::parse_certificates(path, &pem)?.into_iter().partition(is_authority);
        let Some(first) = authorities.first() else {
            let reason = "it has no CA's certificate beside the own one".into();
            return Err(CertsError::NotACertificate { path: path.into(), reason });
        };
        files::check_authority(path, first, now)?;
        if own.is_empty() {
            let reason = "it has no certificate but CAs'".into();
            return Err(CertsError::NotACertificate { path: path.into(), reason });
        }
        let chain = [own, authorities.clone()].concat();
        Ok(Self { identity: Identity::new(chain, path, path, &pem)?, authorities })
    }
}

impl Identity {
    /// The identity in two PEM files: the certificate first in its own, with the rest of its chain behind it,
    /// and the key.
    ///
    /// # Errors
    /// If one can't be read or isn't what it should be, if others can read the key, or if the two don't
    /// belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CertsError> {
        Self::read(certificate, key, Named::ByUser)
    }

    /// The identity in two PEM texts, such as a secret store hands out: the certificate first in its own, with the
    /// rest of its chain behind it, and the key. Both may be one text that has all of it.
    ///
    /// # Errors
    /// If one isn't what it should be, or if the two don't belong together.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, CertsError> {
        Self::parse(Path::new(GIVEN_CERTIFICATE), certificate, Path::new(GIVEN_KEY), key)
    }

    /// The identity of a certificate, with the rest of its chain behind it, and its key: as
    /// [`rustls::ConfigBuilder::with_single_cert`] takes them.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertsError> {
        let signer = signer(Path::new(GIVEN_KEY), &Zeroizing::new(key))?;
        Self::from_signer(chain, signer)
    }

    /// The identity of a certificate, with the rest of its chain behind it, whose key is elsewhere, in a hardware
    /// module or another process: `signer` signs with it.
    ///
    /// # Errors
    /// If there is no certificate, one can't be parsed, or `signer` tells its public key and it is another one's.
    pub fn from_signer(
        chain: Vec<CertificateDer<'static>>,
        signer: Arc<dyn SigningKey>,
    ) -> Result<Self, CertsError> {
        let path = Path::new(GIVEN_CERTIFICATE);
        let refuse = |reason| CertsError::NotACertificate { path: path.into(), reason };
        if chain.is_empty() {
            return Err(refuse("there is none".into()));
        }
        for certificate in &chain {
            files::parse(certificate).map_err(refuse)?;
        }
        match CertifiedKey::new(chain, signer) {
            key if key.key.public_key().is_none() => Ok(Self { certified: Arc::new(key), only_for: None }),
            key => Self::matched(key, path, Path::new(GIVEN_KEY)),
        }
    }

    pub(super) fn read(certificate: &Path, key: &Path, named: Named) -> Result<Self, CertsError> {
        let chain = files::read_existing(certificate, Secrecy::Public, named)?;
        let secret = files::read_existing(key, Secrecy::Secret, named)?;
        Self::parse(certificate, &chain, key, &secret)
    }

    /// The same from the files' contents.
    pub(super) fn parse(
        certificate: &Path,
        chain: &[u8],
        key: &Path,
        secret: &[u8],
    ) -> Result<Self, CertsError> {
        Self::new(files::parse_certificates(certificate, chain)?, certificate, key, secret)
    }

    /// From a chain that isn't empty.
    fn new(
        chain: Vec<CertificateDer<'static>>,
        certificate: &Path,
        key: &Path,
        secret: &[u8],
    ) -> Result<Self, CertsError> {
        let not_a_key = |reason: String| CertsError::NotAKey { path: key.into(), reason };
        let secret = PrivateKeyDer::from_pem_slice(secret).map_err(|error| not_a_key(error.to_string()))?;
        let secret = Zeroizing::new(secret);
        Self::matched(CertifiedKey::new(chain, signer(key, &secret)?), certificate, key)
    }

    /// If the key is the certificate's.
    fn matched(certified: CertifiedKey, certificate: &Path, key: &Path) -> Result<Self, CertsError> {
        // The keys of every kind that `any_supported_type` knows can be compared: anything but agreement is a mismatch.
        certified
            .keys_match()
            .map_err(|_| CertsError::KeyMismatch { certificate: certificate.into(), key: key.into() })?;
        Ok(Self { certified: Arc::new(certified), only_for: None })
    }

    /// The certificate and those behind it.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The fingerprint of the certificate itself, not of its CA's.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.certificate())
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        // `new` got no empty chain.
        &self.certified.cert[0]
    }

    /// The same, to be shown only to servers that ask for certificates of its own CA: others learn nothing of it.
    #[must_use]
    pub fn only_for_its_authority(self) -> Self {
        let issuer = files::parse(self.certificate()).map(|parsed| parsed.issuer().as_raw().into());
        Self { only_for: Some(issuer.unwrap_or_else(|_| Arc::from([]))), ..self }
    }

    /// Whether it may be shown to a server that asks for certificates of the CAs with these names.
    pub(crate) fn is_for(&self, authorities: &[&[u8]]) -> bool {
        self.only_for.as_ref().is_none_or(|only| authorities.contains(&&**only))
    }

    /// The same as rustls has it.
    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

/// What signs with a key.
fn signer(path: &Path, key: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, CertsError> {
    any_supported_type(key)
        .map_err(|error| CertsError::NotAKey { path: path.into(), reason: error.to_string() })
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint())
    }
}
