//! Which clients a server lets in.

use core::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::error::{Peer, TlsError};
use crate::allow::{AllowError, AllowList};
use crate::certs::{
    self, Anchors, Authorities, Clock, Editions, Fingerprint, RevocationLists, Revocations, SubjectNames,
    Timestamp, Used,
};
use crate::crypto;
use crate::report::Report;

/// What a server asks of its clients.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientAuth {
    /// Nothing: **anybody** who reaches the server may connect.
    Off,
    /// A certificate by one of these CAs, or none at all. Where there is an allow-list, a client without one
    /// isn't on it.
    Optional(ClientTrust),
    /// A certificate by one of these CAs.
    Required(ClientTrust),
}

impl ClientAuth {
    /// The files that it is read from: when one changes, the server has to be told to read it again.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let (Self::Optional(trust) | Self::Required(trust)) = self else { return Vec::new() };
        let authorities = match &trust.authorities {
            Authorities::File(path) => Some(path),
            _ => None,
        };
        let revocations = match &trust.revocations {
            Some(RevocationLists::File(path)) => Some(path),
            _ => None,
        };
        let allowed = match &trust.allowed {
            #[cfg(feature = "toml")]
            Some(Allowed::File(path)) => Some(path),
            _ => None,
        };
        [authorities, revocations, allowed].into_iter().flatten().cloned().collect()
    }
}

/// Whose certificates are good.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientTrust {
    /// The CAs that issue clients' certificates.
    pub authorities: Authorities,
    /// Their revocation lists. A client whose certificate's state isn't known from them is refused; so are all when
    /// one ends.
    pub revocations: Option<RevocationLists>,
    /// Who may come, and do what. Everybody with a good certificate without.
    pub allowed: Option<Allowed>,
    /// Where the newest revocation list of each CA is remembered, so that an older one isn't taken after a restart
    /// either: [`Store::revocations_seen`](crate::certs::Store::revocations_seen). Without it that is known as long
    /// as the server runs.
    pub remembered: Option<PathBuf>,
}

impl ClientTrust {
    /// All certificates by these CAs are good.
    #[must_use]
    pub fn new(authorities: impl Into<Authorities>) -> Self {
        Self { authorities: authorities.into(), revocations: None, allowed: None, remembered: None }
    }

    /// Checks them against these revocation lists.
    #[must_use]
    pub fn revocations(mut self, lists: impl Into<RevocationLists>) -> Self {
        self.revocations = Some(lists.into());
        self
    }

    /// Lets in only whom this list has.
    #[must_use]
    pub fn allowed(mut self, list: impl Into<Allowed>) -> Self {
        self.allowed = Some(list.into());
        self
    }

    /// Remembers the newest revocation lists in this file.
    #[must_use]
    pub fn remembered(mut self, path: impl Into<PathBuf>) -> Self {
        self.remembered = Some(path.into());
        self
    }
}

impl<T: Into<Authorities>> From<T> for ClientTrust {
    fn from(authorities: T) -> Self {
        Self::new(authorities)
    }
}

/// Where the list of allowed clients is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Allowed {
    /// In this file. A server reads it again when it reloads.
    #[cfg(feature = "toml")]
    File(PathBuf),
    /// Here.
    List(AllowList),
}

impl Allowed {
    fn load(&self) -> Result<AllowList, AllowError> {
        match self {
            #[cfg(feature = "toml")]
            Self::File(path) => AllowList::load(path),
            Self::List(list) => Ok(list.clone()),
        }
    }
}

#[cfg(feature = "toml")]
impl From<PathBuf> for Allowed {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<AllowList> for Allowed {
    fn from(list: AllowList) -> Self {
        Self::List(list)
    }
}

/// The same, read and checked.
pub(crate) struct Vetting {
    verifier: Arc<dyn ClientCertVerifier>,
    required: bool,
    pub(crate) allowed: Option<AllowList>,
    /// When the first of the revocation lists ends.
    pub(crate) next_update: Option<Timestamp>,
    /// The newest revocation lists, those before included.
    editions: Editions,
    /// Where they are remembered.
    remembered: Option<PathBuf>,
    /// What says when certificates and lists have ended.
    pub(crate) clock: Clock,
}

impl Vetting {
    /// Reads everything. No revocation list may be older than those of `before`.
    pub(super) fn load(clients: &ClientAuth, before: &Editions, clock: Clock) -> Result<Self, TlsError> {
        let (ClientAuth::Optional(trust) | ClientAuth::Required(trust)) = clients else {
            let verifier = WebPkiClientVerifier::no_client_auth();
            let (editions, remembered) = (before.clone(), None);
            return Ok(Self {
                verifier,
                required: false,
                allowed: None,
                next_update: None,
                editions,
                remembered,
                clock,
            });
        };
        let Anchors { roots, certificates } = trust.authorities.load(clock.now())?;
        let mut editions = before.clone();
        let revocations = match &trust.revocations {
            Some(lists) => {
                if let Some(remembered) = &trust.remembered {
                    editions = editions.with(&Editions::read(remembered)?);
                }
                let remembered = trust.remembered.clone().unwrap_or_default();
                let used = Used { editions, remembered };
                let found = Revocations::load(lists, &certificates, &used, clock.now())?;
                editions = used.editions.with(&found.editions);
                found
            }
            None => Revocations::default(),
        };
        let allowed = trust.allowed.as_ref().map(Allowed::load).transpose()?;
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots, crypto::provider());
        if !revocations.is_empty() {
            // rustls' other defaults are what is wanted: the whole chain is checked, and what no list tells
            // of is refused.
            builder = builder.with_crls(revocations.lists()).enforce_revocation_expiration();
        }
        let required = matches!(clients, ClientAuth::Required(_));
        if !required {
            builder = builder.allow_unauthenticated();
        }
        let general =
            |error: &dyn ToString| TlsError::Configuration(rustls::Error::General(error.to_string()));
        let verifier = builder.build().map_err(|error| general(&error))?;
        let remembered = trust.remembered.clone().filter(|_| !revocations.is_empty());
        let next_update = revocations.next_update;
        Ok(Self { verifier, required, allowed, next_update, editions, remembered, clock })
    }

    /// The newest revocation lists that were gone by, for whoever reads the next ones.
    pub(crate) const fn editions(&self) -> &Editions {
        &self.editions
    }

    /// Remembers them beyond this process. Where that can't be, these rules are good all the same.
    pub(crate) fn remember(&self) {
        if let Some(path) = &self.remembered
            && let Err(error) = self.editions.remember(path)
        {
            tracing::warn!(
                "after a restart older revocation lists than now would be taken: {}",
                Report::new(&error)
            );
        }
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// Whether a client that was let in would be by these rules too.
    pub(crate) fn check(&self, client: &Shown) -> Result<(), TlsError> {
        match client.chain.split_first() {
            None if self.required => Err(TlsError::NoClientCertificate),
            // Where nobody asks for certificates any more, none is wrong.
            Some((own, rest)) if self.verifier.offer_client_auth() => {
                let verify = |at| {
                    let verified = self.verifier.verify_client_cert(own, rest, at);
                    verified.map(drop).map_err(|error| TlsError::of_rustls(error, Peer::Client, None))
                };
                match verify(self.clock.now().to_unix_time()) {
                    // Its certificate had begun when it was shown: since then the clock was set back.
                    Err(TlsError::NotYetValid { .. }) => verify(client.since.to_unix_time()),
                    verified => verified,
                }
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Vetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vetting")
            .field("required", &self.required)
            .field("allowed", &self.allowed)
            .field("next_update", &self.next_update)
            .finish_non_exhaustive()
    }
}

/// What a client has shown of itself, kept so that it can be judged again by other rules.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// Its certificate and those behind it; nothing if it had none.
    chain: Vec<CertificateDer<'static>>,
    /// When it was shown.
    since: Timestamp,
    /// When its certificate ends.
    pub(crate) not_after: Option<Timestamp>,
    /// The names in the certificate.
    pub(crate) names: SubjectNames,
    /// The certificate's fingerprint.
    pub(crate) fingerprint: Option<Fingerprint>,
}

impl Shown {
    /// What was shown, at that time, on a connection whose handshake is done.
    pub(crate) fn new(chain: Option<&[CertificateDer<'_>]>, names: SubjectNames, since: Timestamp) -> Self {
        let chain = chain.unwrap_or_default();
        let fingerprint = chain.first().map(|der| Fingerprint::of(der));
        let not_after = chain.first().and_then(certs::end_of);
        let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        Self { chain, since, not_after, names, fingerprint }
    }
}
