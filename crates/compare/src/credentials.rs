//! One certificate, for all contenders that prove themselves with one.

use crate::failure::{Failure, While};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use secure_rdma::certs::{Identity, Name, Store};
use secure_rdma::tls::Trust;
use std::sync::Arc;
use tempfile::TempDir;

/// The server's name.
pub(crate) const NAME: &str = "localhost";

/// A private CA with the server's certificate, as `secure-rdma server` makes them, in a directory that goes with it.
#[derive(Debug)]
pub(crate) struct Credentials {
    store: Store,
    identity: Identity,
    /// Removed with this.
    _directory: TempDir,
}

impl Credentials {
    pub(crate) fn new() -> Result<Self, Failure> {
        let directory = tempfile::tempdir().during("making a directory for certificates")?;
        let store = Store::open(directory.path().join("certs"))?;
        let identity = store.ensure_server(&[NAME.parse()?])?;
        Ok(Self { store, identity, _directory: directory })
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What a session's client trusts.
    pub(crate) fn trust(&self) -> Trust {
        Trust::State(self.store.dir().to_owned())
    }

    pub(crate) fn name() -> Result<Name, Failure> {
        Ok(NAME.parse()?)
    }

    /// The same for rustls.
    pub(crate) fn server_name() -> Result<ServerName<'static>, Failure> {
        Ok(ServerName::try_from(NAME)?)
    }

    /// A bare server of rustls', as the product's is set up: TLS 1.3, no client certificates, no tickets.
    pub(crate) fn server(&self) -> Result<ServerConfig, Failure> {
        let key = PrivateKeyDer::from_pem_file(self.store.dir().join("server-key.pem"))?;
        let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_no_client_auth()
            .with_single_cert(self.identity.chain().to_vec(), key)?;
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Its client, without resumption.
    pub(crate) fn client(&self) -> Result<ClientConfig, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority()?)?;
        let mut config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(Arc::new(roots))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    fn authority(&self) -> Result<CertificateDer<'static>, Failure> {
        Ok(self.store.authority()?)
    }

    /// Where the certificates are.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }
}
