//! Where certificates are, and whom a client trusts.

use crate::args::{CertsDir, ClientArgs, TrustArgs};
use crate::failure::Failure;
use crate::place::Place;
use secure_rdma::certs::{CertsError, Identity, Name, Store};
use secure_rdma::tls::Trust;
use std::path::PathBuf;

impl CertsDir {
    /// The directory of certificates.
    pub(crate) fn path(&self) -> Result<PathBuf, CertsError> {
        self.certs.clone().map_or_else(Store::default_dir, Ok)
    }

    /// The same, opened.
    pub(crate) fn store(&self) -> Result<Store, CertsError> {
        Store::open(self.path()?)
    }
}

impl TrustArgs {
    /// Whether anything was given.
    pub(crate) fn is_given(&self) -> bool {
        self.ca.is_some() || self.pin.is_some() || self.certs.certs.is_some()
    }

    /// Whom a client trusts.
    pub(crate) fn trust(&self) -> Result<Trust, CertsError> {
        Ok(match (&self.ca, self.pin) {
            (Some(file), _) => Trust::CaFile(file.clone()),
            (None, Some(pin)) => Trust::Pin(pin),
            (None, None) => Trust::State(self.certs.path()?),
        })
    }
}

/// The name that the certificate of a server at `place` must carry: the one that was given, or the host's.
pub(crate) fn server_name(given: Option<&Name>, place: &Place) -> Result<Name, Failure> {
    match given {
        Some(name) => Ok(name.clone()),
        None => place.host.parse().map_err(|error| {
            Failure::Usage(format!("{error}: give the name in the server's certificate as SERVER_NAME"))
        }),
    }
}

impl ClientArgs {
    /// Its own certificate.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, Failure> {
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Ok(Some(Identity::load(cert, key)?)),
            _ => Ok(None),
        }
    }
}
