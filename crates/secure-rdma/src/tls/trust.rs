//! Whom a client trusts.

use core::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::TlsError;
use crate::certs::{self, Bundle, Fingerprint, Store};

/// Whom a client trusts to say who the server is.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The private CA in this state directory: for clients and servers on one account.
    State(PathBuf),
    /// The CAs in this PEM file.
    CaFile(PathBuf),
    /// The CAs in this file of a client's, which has its certificate and key too: a [`Bundle`].
    Bundle(PathBuf),
    /// The CA with this fingerprint, whose certificate the server has to send along.
    Pin(Fingerprint),
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(dir) => write!(f, "the private CA in {}", dir.display()),
            Self::CaFile(path) | Self::Bundle(path) => write!(f, "the CAs in {}", path.display()),
            Self::Pin(fingerprint) => write!(f, "the CA {fingerprint}"),
        }
    }
}

/// The same, read and ready to verify with.
#[derive(Debug, Clone)]
pub(super) enum Anchors {
    Roots { roots: Arc<RootCertStore>, authorities: Arc<[CertificateDer<'static>]> },
    Pin(Fingerprint),
}

impl Anchors {
    pub(super) fn load(trust: &Trust) -> Result<Self, TlsError> {
        let authorities = match trust {
            Trust::State(dir) => vec![Store::open(dir)?.authority()?],
            Trust::CaFile(path) => certs::read_authorities(path)?,
            Trust::Bundle(path) => Bundle::load(path)?.authorities,
            Trust::Pin(fingerprint) => return Ok(Self::Pin(*fingerprint)),
        };
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.clone()).map_err(TlsError::Configuration)?;
        }
        Ok(Self::Roots { roots: Arc::new(roots), authorities: authorities.into() })
    }

    /// The CAs, as far as they are known before the handshake.
    pub(super) fn authorities(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Roots { authorities, .. } => authorities,
            Self::Pin(_) => &[],
        }
    }
}
