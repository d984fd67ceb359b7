//! The state directory, as whoever uses what is in it sees it.

#[cfg(feature = "ca")]
mod ca;

use core::time::Duration;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;

use super::files::{self, Named, Secrecy};
use super::{CertificateInfo, CertsError, Fingerprint, Identity, Name, Serial, Timestamp, revocation, way};
use crate::crypto;
#[cfg(feature = "ca")]
pub use ca::Issued;

/// How long before their ends they are replaced.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

const SERVER: &str = "server";
const ACCOUNT: &str = "account";
const AGENT: &str = "agent";
const AUTHORITY: &str = "ca";
const REVOCATIONS: &str = "crl";
const REVOCATIONS_SEEN: &str = "revocations-seen";

/// A directory of certificates and keys. See the [module](super) for its files.
///
/// Its methods read and write files and wait for other processes that do: from asynchronous code, call them
/// where blocking is allowed.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Where a user's state belongs: `$XDG_STATE_HOME/secure-rdma`, else `$HOME/.local/state/secure-rdma`
    /// (XDG Base Directory Specification 0.8).
    ///
    /// # Errors
    /// [`CertsError::NoHome`] if neither variable is set to an absolute path.
    pub fn default_dir() -> Result<PathBuf, CertsError> {
        default_dir(|name| env::var_os(name))
    }

    /// The store in `dir`, which need not exist yet.
    ///
    /// # Errors
    /// If it exists and isn't a directory, or if somebody else could put certificates into it, or another
    /// directory in its place.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, CertsError> {
        let dir = dir.into();
        way::is_there(&dir)?;
        Ok(Self { dir })
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The private CA's certificate.
    ///
    /// # Errors
    /// [`CertsError::NoAuthority`] if there is none yet; others if it can't be read, isn't a CA's or has ended.
    pub fn authority(&self) -> Result<CertificateDer<'static>, CertsError> {
        self.authority_at(Timestamp::now())
    }

    /// The same, if it is good `now`.
    pub(crate) fn authority_at(&self, now: Timestamp) -> Result<CertificateDer<'static>, CertsError> {
        let path = self.certificate_path(AUTHORITY);
        let pem = files::read(&path, Secrecy::Public, Named::Here)?
            .ok_or_else(|| CertsError::NoAuthority { dir: self.dir.clone() })?;
        let authority = files::parse_certificates(&path, &pem)?.swap_remove(0);
        files::check_authority(&path, &authority, now)?;
        Ok(authority)
    }

    /// The private CA's fingerprint, for clients elsewhere.
    ///
    /// # Errors
    /// As [`authority`](Self::authority).
    pub fn authority_fingerprint(&self) -> Result<Fingerprint, CertsError> {
        self.authority().map(|authority| Fingerprint::of(&authority))
    }

    /// The identity that clients of this account show to its own servers, if there is one.
    ///
    /// # Errors
    /// If its files are there and can't be used.
    pub fn account_identity(&self) -> Result<Option<Identity>, CertsError> {
        if !self.certificate_path(ACCOUNT).exists() || !self.key_path(ACCOUNT).exists() {
            return Ok(None);
        }
        self.identity(ACCOUNT).map(|identity| Some(identity.only_for_its_authority()))
    }

    /// Whether this CA has revoked a certificate of its own.
    fn has_revoked(&self, certificate: &CertificateDer<'_>) -> bool {
        let list = files::read(&self.certificate_path(REVOCATIONS), Secrecy::Public, Named::Here);
        match (list, files::parse(certificate)) {
            (Ok(Some(list)), Ok(parsed)) => revocation::revokes(&list, &Serial::new(parsed.raw_serial())),
            _ => false,
        }
    }

    /// The numbers on the CA's own revocation list.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn revoked(&self, serials: &[Serial]) -> Result<Vec<bool>, CertsError> {
        let list = files::read(&self.certificate_path(REVOCATIONS), Secrecy::Public, Named::Here)?;
        let is_on_it = |serial| list.as_ref().is_some_and(|list| revocation::revokes(list, serial));
        Ok(serials.iter().map(is_on_it).collect())
    }

    /// Where it is remembered which revocation lists a server or client here has gone by: for
    /// [`ClientTrust::remembered`](crate::tls::ClientTrust::remembered).
    #[must_use]
    pub fn revocations_seen(&self) -> PathBuf {
        self.dir.join(REVOCATIONS_SEEN)
    }

    /// The server's identity as it is in its files, where it is still good for one of `names` at least.
    /// Nothing is written: a file that is just being replaced isn't taken for one to be replaced.
    ///
    /// # Errors
    /// If there is none, or none that is good now.
    pub fn current_server(&self, names: &[Name]) -> Result<Identity, CertsError> {
        self.current(SERVER, names)
    }

    /// Where the server's certificate and key and the CA are.
    #[must_use]
    pub fn server_files(&self) -> [PathBuf; 3] {
        [self.certificate_path(SERVER), self.key_path(SERVER), self.certificate_path(AUTHORITY)]
    }

    /// The file of the certificate that was issued under the name `file`.
    #[must_use]
    pub fn certificate_file(&self, file: &str) -> PathBuf {
        self.certificate_path(file)
    }

    /// The identity that was issued under the name `file`.
    ///
    /// # Errors
    /// As [`Identity::load`].
    pub fn identity(&self, file: &str) -> Result<Identity, CertsError> {
        Identity::read(&self.certificate_path(file), &self.key_path(file), Named::Here)
    }

    /// What each certificate in the directory says, by the order of their files' names.
    ///
    /// # Errors
    /// If the directory or a certificate in it can't be read.
    pub fn show(&self) -> Result<Vec<CertificateInfo>, CertsError> {
        let read_error = |source| CertsError::Read { path: self.dir.clone(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(read_error)? {
            let path = entry.map_err(read_error)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_certificate = name.ends_with(".pem")
                && !name.ends_with("-key.pem")
                && !name.starts_with('.')
                && name != "crl.pem";
            if is_certificate {
                paths.push(path);
            }
        }
        paths.sort();
        let mut found = Vec::with_capacity(paths.len());
        for path in paths {
            let pem = files::read_existing(&path, Secrecy::Public, Named::Here)?;
            let certificate = files::parse_certificates(&path, &pem)?.swap_remove(0);
            found.push(CertificateInfo::read(path, &certificate)?);
        }
        Ok(found)
    }

    /// The agent's identity as it is in its files, where it is still good for one of `names` at least.
    ///
    /// # Errors
    /// If there is none, or none that is good now.
    pub fn current_agent(&self, names: &[Name]) -> Result<Identity, CertsError> {
        self.current(AGENT, names)
    }

    fn current(&self, file: &str, names: &[Name]) -> Result<Identity, CertsError> {
        // Says what is wrong with the files.
        self.identity(file)?;
        match self.standing(file, names)? {
            Standing::Good(identity) | Standing::Stale { usable: Some(identity), .. } => Ok(identity),
            Standing::Stale { reason, usable: None } => {
                Err(CertsError::NotUsable { path: self.certificate_path(file), reason })
            }
        }
    }

    /// The identity in `file`, which proves `names` to clients, and how good it is.
    fn standing(&self, file: &str, names: &[Name]) -> Result<Standing, CertsError> {
        let stale = |reason: &str, usable| Ok(Standing::Stale { reason: reason.into(), usable });
        let (certificate, key) = (self.certificate_path(file), self.key_path(file));
        if !certificate.exists() || !key.exists() {
            return stale("there is none yet", None);
        }
        let identity = match self.identity(file) {
            Err(CertsError::KeyMismatch { .. }) => return stale("it doesn't fit its key", None),
            identity => identity?,
        };
        let authority = self.authority()?;
        let judge = Judge::new(&authority)?;
        let now = Timestamp::now();
        let usable =
            || names.iter().any(|name| judge.accepts(&identity, name, now).is_ok()).then(|| identity.clone());
        if !identity.chain().contains(&authority) {
            return stale("the CA's certificate is not behind it", usable());
        }
        if self.has_revoked(identity.certificate()) {
            return stale("it was revoked", usable());
        }
        for name in names {
            for moment in [now, now.plus(RENEW_BEFORE)] {
                if let Err(reason) = judge.accepts(&identity, name, moment) {
                    return stale(&format!("for {name} on {moment}: {reason}"), usable());
                }
            }
        }
        Ok(Standing::Good(identity))
    }

    fn certificate_path(&self, file: &str) -> PathBuf {
        self.dir.join(format!("{file}.pem"))
    }

    fn key_path(&self, file: &str) -> PathBuf {
        self.dir.join(format!("{file}-key.pem"))
    }
}

/// How good a server's or an agent's identity is.
enum Standing {
    /// For all names, and for a while.
    Good(Identity),
    /// Not so; but where it is `usable`, for some name and now.
    Stale { reason: String, usable: Option<Identity> },
}

/// What a client that trusts the CA would say. It is asked rather than guessed at by reading the certificate.
struct Judge(Arc<WebPkiServerVerifier>);

impl Judge {
    fn new(authority: &CertificateDer<'_>) -> Result<Self, CertsError> {
        let failed = |error: &dyn ToString| CertsError::Make(error.to_string());
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).map_err(|error| failed(&error))?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crypto::provider()).build();
        verifier.map(Self).map_err(|error| failed(&error))
    }

    fn accepts(&self, identity: &Identity, name: &Name, moment: Timestamp) -> Result<(), String> {
        let verdict = self.0.verify_server_cert(
            identity.certificate(),
            &[],
            name.as_server_name(),
            &[],
            moment.to_unix_time(),
        );
        verdict.map(drop).map_err(|error| error.to_string())
    }
}

fn default_dir(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, CertsError> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    state.map(|state| state.join("secure-rdma")).ok_or(CertsError::NoHome)
}
