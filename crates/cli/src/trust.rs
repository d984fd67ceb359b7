//! Where certificates are, and whom a client trusts.

use crate::args::{CertsDir, ClientArgs};
use crate::failure::Failure;
use secure_rdma::certs::{CertsError, Identity, Store};
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

impl ClientArgs {
    /// Whom this client trusts.
    pub(crate) fn trust(&self) -> Result<Trust, CertsError> {
        Ok(match (&self.ca, self.pin) {
            (Some(file), _) => Trust::CaFile(file.clone()),
            (None, Some(pin)) => Trust::Pin(pin),
            (None, None) => Trust::State(self.certs.path()?),
        })
    }

    /// Its own certificate.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, Failure> {
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Ok(Some(Identity::load(cert, key)?)),
            _ => Ok(None),
        }
    }
}
