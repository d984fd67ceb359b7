//! Where certificates are, and whom a client trusts.

use crate::args::{CertsDir, ClientAuthArgs, ClientAuthMode, TrustArgs};
use crate::failure::Failure;
use crate::output;
use crate::place::Place;
use secure_rdma::Report;
use secure_rdma::certs::{Bundle, CertsError, Identity, Name, Store};
use secure_rdma::tls::{ClientAuth, ClientTrust, Trust};
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
        self.ca.is_some()
            || self.pin.is_some()
            || self.identity.is_some()
            || self.cert.is_some()
            || self.certs.certs.is_some()
    }

    /// Whom a client trusts.
    pub(crate) fn trust(&self) -> Result<Trust, CertsError> {
        Ok(match (&self.ca, self.pin, &self.identity) {
            (Some(file), _, _) => Trust::from(file.clone()),
            (None, Some(pin), _) => Trust::Pin(pin),
            (None, None, Some(bundle)) => Trust::Bundle(bundle.clone()),
            (None, None, None) => Trust::State(self.certs.path()?),
        })
    }

    /// The client's own certificate: the one that was given, else this account's.
    pub(crate) fn own(&self) -> Result<Option<Identity>, CertsError> {
        if let Some(bundle) = &self.identity {
            return Ok(Some(Bundle::load(bundle)?.identity));
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            return Ok(Some(Identity::load(cert, key)?));
        }
        let account = self.certs.store().and_then(|store| store.account_identity());
        match account {
            // Who trusts others than this account's CA may have no use for its certificate.
            Err(error) if self.ca.is_some() || self.pin.is_some() => {
                tracing::debug!("this account's certificate isn't shown: {}", Report::new(&error));
                Ok(None)
            }
            account => account,
        }
    }

    /// Where it is remembered which revocation lists were gone by, if there is such a place.
    pub(crate) fn revocations_seen(&self) -> Option<PathBuf> {
        let store = self.certs.store().ok()?;
        store.dir().is_dir().then(|| store.revocations_seen())
    }
}

impl ClientAuthArgs {
    /// What a server with these certificates asks of its clients.
    pub(crate) fn client_auth(
        &self,
        store: &Store,
        crl: Option<&PathBuf>,
        allow: Option<&PathBuf>,
    ) -> ClientAuth {
        let trust = || {
            let authorities = self.client_ca.clone().unwrap_or_else(|| store.certificate_file("ca"));
            let mut trust = ClientTrust::new(authorities).remembered(store.revocations_seen());
            trust.revocations = crl.cloned().map(Into::into);
            trust.allowed = allow.cloned().map(Into::into);
            trust
        };
        match self.mode {
            ClientAuthMode::Off => ClientAuth::Off,
            ClientAuthMode::Optional => ClientAuth::Optional(trust()),
            ClientAuthMode::Required => ClientAuth::Required(trust()),
        }
    }

    /// The same for the user of a server.
    pub(crate) fn promise(&self) -> String {
        let by = match &self.client_ca {
            Some(file) => format!("by a CA in {}", file.display()),
            None => "by this CA".to_owned(),
        };
        match self.mode {
            ClientAuthMode::Off => {
                "ANYONE who reaches this port (--client-auth off): each is lent memory, may write and read \
                 it, and takes one of the places"
                    .to_owned()
            }
            ClientAuthMode::Optional => {
                format!("with a certificate {by}, or ANYONE without one (--client-auth optional)")
            }
            ClientAuthMode::Required => format!("only with a certificate {by}"),
        }
    }
}

/// This server's own certificate, and that of this account's clients, made where they are missing. A CA that is
/// made for them is told of: clients elsewhere don't know it, and there may have been another one before.
pub(crate) fn ensure_own(store: &Store, names: &[Name]) -> Result<Identity, CertsError> {
    let is_new = matches!(store.authority(), Err(CertsError::NoAuthority { .. }));
    let identity = store.ensure_server(names)?;
    if is_new {
        output::note(format_args!(
            "made a NEW private CA in {}: clients that trusted another one before won't trust this server",
            store.dir().display()
        ));
    }
    // Those that can be asked for and told, not the addresses of the moment.
    let hosts: Vec<Name> = names.iter().filter(|name| name.ip().is_none()).cloned().collect();
    let hosts = if hosts.is_empty() { names } else { &hosts };
    if store.ensure_account(hosts)?.is_none() {
        tracing::info!("there is no certificate for this account's clients: the CA's key isn't here");
    }
    Ok(identity)
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
