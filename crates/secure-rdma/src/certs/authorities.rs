//! The CAs whose certificates are good, from wherever they come.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::files::{self, Named, Secrecy};
use super::{CertsError, Timestamp};

/// The CAs whose certificates are good. One at least; none may have ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Authorities {
    /// Those whose certificates are in this PEM file. A server reads it again when it reloads.
    File(PathBuf),
    /// Those whose certificates are in this PEM text.
    Pem(Vec<u8>),
    /// Those with these certificates.
    Der(Vec<CertificateDer<'static>>),
    /// rustls' trust anchors, such as an operating system's. Their certificates' dates can't be looked at, nor
    /// whether there is a revocation list of each; a peer whose CA has none is refused all the same.
    Roots(Arc<RootCertStore>),
}

impl Authorities {
    /// Reads and checks them: none may have ended by `now`.
    pub(crate) fn load(&self, now: Timestamp) -> Result<Anchors, CertsError> {
        let given = Path::new("what was given");
        match self {
            Self::File(path) => {
                let pem = files::read_existing(path, Secrecy::Public, Named::ByUser)?;
                Anchors::new(path, files::parse_certificates(path, &pem)?, now)
            }
            Self::Pem(pem) => Anchors::new(given, files::parse_certificates(given, pem)?, now),
            Self::Der(certificates) => Anchors::new(given, certificates.clone(), now),
            Self::Roots(roots) => Ok(Anchors { roots: Arc::clone(roots), certificates: Arc::default() }),
        }
    }
}

impl fmt::Display for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the CAs in {}", path.display()),
            _ => f.write_str("the CAs that were given"),
        }
    }
}

impl From<PathBuf> for Authorities {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for Authorities {
    fn from(path: &Path) -> Self {
        Self::File(path.into())
    }
}

impl From<CertificateDer<'static>> for Authorities {
    fn from(certificate: CertificateDer<'static>) -> Self {
        Self::Der(vec![certificate])
    }
}

impl From<Vec<CertificateDer<'static>>> for Authorities {
    fn from(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self::Der(certificates)
    }
}

impl From<Arc<RootCertStore>> for Authorities {
    fn from(roots: Arc<RootCertStore>) -> Self {
        Self::Roots(roots)
    }
}

/// The same, ready to verify with.
#[derive(Debug, Clone)]
pub(crate) struct Anchors {
    pub(crate) roots: Arc<RootCertStore>,
    /// Their certificates, where these are known.
    pub(crate) certificates: Arc<[CertificateDer<'static>]>,
}

impl Anchors {
    /// What becomes a trust anchor is trusted without a look at its dates and at whether it may vouch for others, so
    /// that is looked at here. `path` is where the certificates come from.
    pub(crate) fn new(
        path: &Path,
        certificates: Vec<CertificateDer<'static>>,
        now: Timestamp,
    ) -> Result<Self, CertsError> {
        let refuse = |reason: String| CertsError::NotACertificate { path: path.into(), reason };
        if certificates.is_empty() {
            return Err(refuse("there is none".into()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            files::check_authority(path, certificate, now)?;
            roots.add(certificate.clone()).map_err(|error| refuse(error.to_string()))?;
        }
        Ok(Self { roots: Arc::new(roots), certificates: certificates.into() })
    }
}
