//! Whom a client trusts.

use core::fmt;
use std::path::PathBuf;

use rustls::pki_types::CertificateDer;

use super::TlsError;
use crate::certs::{self, Authorities, Bundle, Fingerprint, Store, Timestamp};

/// Whom a client trusts to say who the server is. Whoever it is, the server's name is always verified.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Trust {
    /// The private CA in this state directory: for clients and servers on one account.
    State(PathBuf),
    /// These CAs.
    Authorities(Authorities),
    /// The CAs in this file of a client's, which has its certificate and key too: a [`Bundle`].
    Bundle(PathBuf),
    /// The CA with this fingerprint, whose certificate the server has to send along.
    Pin(Fingerprint),
}

impl<T: Into<Authorities>> From<T> for Trust {
    fn from(authorities: T) -> Self {
        Self::Authorities(authorities.into())
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(dir) => write!(f, "the private CA in {}", dir.display()),
            Self::Authorities(authorities) => authorities.fmt(f),
            Self::Bundle(path) => write!(f, "the CAs in {}", path.display()),
            Self::Pin(fingerprint) => write!(f, "the CA {fingerprint}"),
        }
    }
}

/// The same, read and ready to verify with.
#[derive(Debug, Clone)]
pub(super) enum Anchors {
    Roots(certs::Anchors),
    Pin(Fingerprint),
}

impl Anchors {
    /// Reads and checks them: none may have ended by `now`.
    pub(super) fn load(trust: &Trust, now: Timestamp) -> Result<Self, TlsError> {
        Ok(Self::Roots(match trust {
            Trust::State(dir) => certs::Anchors::new(dir, vec![Store::open(dir)?.authority_at(now)?], now)?,
            Trust::Authorities(authorities) => authorities.load(now)?,
            Trust::Bundle(path) => certs::Anchors::new(path, Bundle::load_at(path, now)?.authorities, now)?,
            Trust::Pin(fingerprint) => return Ok(Self::Pin(*fingerprint)),
        }))
    }

    /// The CAs' certificates, as far as they are known before the handshake.
    pub(super) fn authorities(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Roots(anchors) => &anchors.certificates,
            Self::Pin(_) => &[],
        }
    }
}
