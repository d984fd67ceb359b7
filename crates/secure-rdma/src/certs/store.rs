//! The state directory.

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
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::files::{self, Secrecy};
use super::issue::{self, Authority};
use super::{
    CertificateInfo, CertsError, Fingerprint, Identity, Kind, Name, RevocationInfo, Revoke, Serial,
    Timestamp, Validity, revocation,
};
use crate::crypto;

/// How long a server's certificate lasts.
const SERVER_DAYS: u32 = 365;

/// How long before its end a server's certificate is replaced.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

const SERVER: &str = "server";
const AUTHORITY: &str = "ca";
const REVOCATIONS: &str = "crl";

/// A directory of certificates and keys. See the [module](super) for its files.
///
/// Its methods read and write files and wait for other processes that do: from asynchronous code, call them
/// where blocking is allowed.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// What [`Store::issue`] made.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What the certificate says, and its file.
    pub certificate: CertificateInfo,
    /// The file that its key is in.
    pub key: PathBuf,
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
    /// If it exists and isn't a directory, or is one that others could put certificates into.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, CertsError> {
        let dir = dir.into();
        files::check_directory(&dir)?;
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
        let path = self.certificate_path(AUTHORITY);
        let pem = files::read(&path, Secrecy::Public)?
            .ok_or_else(|| CertsError::NoAuthority { dir: self.dir.clone() })?;
        let authority = files::parse_certificates(&path, &pem)?.swap_remove(0);
        files::check_authority(&path, &authority)?;
        Ok(authority)
    }

    /// The private CA's fingerprint, for clients elsewhere.
    ///
    /// # Errors
    /// As [`authority`](Self::authority).
    pub fn authority_fingerprint(&self) -> Result<Fingerprint, CertsError> {
        self.authority().map(|authority| Fingerprint::of(&authority))
    }

    /// The private CA's certificate, made with its key if it isn't there. Once made it stays: clients rely on it.
    ///
    /// # Errors
    /// If what is there can't be used, or the directory can't be written.
    pub fn ensure_authority(&self) -> Result<CertificateDer<'static>, CertsError> {
        match self.authority() {
            Err(CertsError::NoAuthority { .. }) => {
                let _lock = self.lock()?;
                self.make_authority()
            }
            found => found,
        }
    }

    /// A server's identity that is good for all of `names`, issued anew by the private CA where what is there
    /// isn't: it is missing, ends within 30 days, doesn't fit its key or the CA, or lacks a name. The first
    /// call makes the CA too.
    ///
    /// Where nothing has to be made nothing is written: the directory may be read-only, and the CA's key
    /// elsewhere. Without that key a certificate that is still good for some of the names is used as it is,
    /// with a warning in the log.
    ///
    /// # Errors
    /// If a file can't be used or written, or the CA's key is needed and not there.
    pub fn ensure_server(&self, names: &[Name]) -> Result<Identity, CertsError> {
        match self.server(names) {
            Ok(Standing::Good(identity)) => return Ok(identity),
            Ok(Standing::Stale { .. }) | Err(CertsError::NoAuthority { .. }) => {}
            Err(error) => return Err(error),
        }
        let _lock = self.lock()?;
        // What another process made while this one waited counts.
        self.make_authority()?;
        let (reason, usable) = match self.server(names)? {
            Standing::Good(identity) => return Ok(identity),
            Standing::Stale { reason, usable } => (reason, usable),
        };
        let key = self.key_path(AUTHORITY);
        match (Authority::load(&self.certificate_path(AUTHORITY), &key)?, usable) {
            (Some(issuer), _) => {
                info!(%reason, "issuing a server certificate");
                let mut validity = Validity::days(SERVER_DAYS);
                validity.not_after = validity.not_after.min(issuer.not_after());
                self.write(&issuer, SERVER, names, Kind::Server, validity)?;
                Identity::load(&self.certificate_path(SERVER), &self.key_path(SERVER))
            }
            (None, Some(identity)) => {
                warn!(%reason, key = %key.display(), "the server certificate should be replaced, but the \
                    CA's key is not there");
                Ok(identity)
            }
            (None, None) => {
                Err(CertsError::NoAuthorityKey { certificate: self.certificate_path(SERVER), reason, key })
            }
        }
    }

    /// Issues a certificate and a new key, in `file.pem` and `file-key.pem`, in place of what was there under
    /// that name. Makes the CA if there is none.
    ///
    /// # Errors
    /// If `file` can't name files, `names` is empty, the dates are impossible or go beyond the CA's, or the
    /// files can't be written.
    pub fn issue(
        &self,
        file: &str,
        names: &[Name],
        kind: Kind,
        validity: Validity,
    ) -> Result<Issued, CertsError> {
        check_file_name(file)?;
        let _lock = self.lock()?;
        self.make_authority()?;
        let key = self.key_path(AUTHORITY);
        let certificate = self.certificate_path(file);
        let Some(issuer) = Authority::load(&self.certificate_path(AUTHORITY), &key)? else {
            return Err(CertsError::NoAuthorityKey { certificate, reason: "it was asked for".into(), key });
        };
        if validity.not_after > issuer.not_after() {
            return Err(CertsError::Dates {
                not_before: validity.not_before,
                not_after: validity.not_after,
                reason: format!("the CA itself ends on {}", issuer.not_after()),
            });
        }
        self.write(&issuer, file, names, kind, validity)?;
        let identity = self.identity(file)?;
        let certificate = CertificateInfo::read(certificate, identity.certificate())?;
        Ok(Issued { certificate, key: self.key_path(file) })
    }

    /// The server's identity as it is in its files, where it is still good for one of `names` at least.
    /// Nothing is written: a file that is just being replaced isn't taken for one to be replaced.
    ///
    /// # Errors
    /// If there is none, or none that is good now.
    pub fn current_server(&self, names: &[Name]) -> Result<Identity, CertsError> {
        // Says what is wrong with the files.
        self.identity(SERVER)?;
        match self.server(names)? {
            Standing::Good(identity) | Standing::Stale { usable: Some(identity), .. } => Ok(identity),
            Standing::Stale { reason, usable: None } => {
                Err(CertsError::NotUsable { path: self.certificate_path(SERVER), reason })
            }
        }
    }

    /// Where the server's certificate and key and the CA are.
    #[must_use]
    pub fn server_files(&self) -> [PathBuf; 3] {
        [self.certificate_path(SERVER), self.key_path(SERVER), self.certificate_path(AUTHORITY)]
    }

    /// Adds certificates of the private CA's to its revocation list, `crl.pem`, and dates it anew, also
    /// without any; made if it isn't there. It is then good for `validity_days`, 1 or more: whoever checks
    /// certificates against it refuses all of them afterwards.
    ///
    /// # Errors
    /// If a certificate can't be read or isn't this CA's, if there is no CA, its key isn't there or it may
    /// not revoke, or if the file can't be used or written.
    pub fn revoke(&self, revoke: &[Revoke], validity_days: u32) -> Result<RevocationInfo, CertsError> {
        // There has to be something to revoke with, and no CA is made for that.
        self.authority()?;
        let _lock = self.lock()?;
        let key = self.key_path(AUTHORITY);
        let Some(issuer) = Authority::load(&self.certificate_path(AUTHORITY), &key)? else {
            return Err(CertsError::NoRevocationKey { key });
        };
        let serials = revoke.iter().map(|what| match what {
            Revoke::Serial(serial) => Ok(serial.clone()),
            Revoke::File(path) => self.serial_of_issued(&issuer, path),
        });
        let serials = serials.collect::<Result<_, _>>()?;
        let file = self.certificate_path(REVOCATIONS);
        let old = files::read(&file, Secrecy::Public)?;
        let Validity { not_before: this_update, not_after: next_update } =
            Validity::days(validity_days.max(1));
        let dates = [this_update, next_update];
        let (pem, revoked) =
            revocation::next_list(&issuer, &file, old.as_ref().map(|old| &old[..]), &serials, dates)?;
        self.put(&format!("{REVOCATIONS}.pem"), &pem, Secrecy::Public)?;
        info!(file = %file.display(), count = revoked.len(), "made a revocation list");
        Ok(RevocationInfo { file, revoked, this_update, next_update })
    }

    /// The number of the certificate in the file `path`, if `issuer` has issued it.
    fn serial_of_issued(&self, issuer: &Authority, path: &Path) -> Result<Serial, CertsError> {
        let pem = files::read_existing(path, Secrecy::Public)?;
        let certificate = files::parse_certificates(path, &pem)?.swap_remove(0);
        let refuse = |reason| CertsError::NotACertificate { path: path.into(), reason };
        let parsed = files::parse(&certificate).map_err(refuse)?;
        let authority = files::parse(issuer.certificate()).map_err(refuse)?;
        if parsed.is_ca() || parsed.verify_signature(Some(authority.public_key())).is_err() {
            return Err(CertsError::NotIssuedHere { path: path.into(), dir: self.dir.clone() });
        }
        Ok(Serial::new(parsed.raw_serial()))
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
        Identity::load(&self.certificate_path(file), &self.key_path(file))
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
            let pem = files::read_existing(&path, Secrecy::Public)?;
            let certificate = files::parse_certificates(&path, &pem)?.swap_remove(0);
            found.push(CertificateInfo::read(path, &certificate)?);
        }
        Ok(found)
    }

    /// The CA, made if it isn't there. Only under the lock.
    fn make_authority(&self) -> Result<CertificateDer<'static>, CertsError> {
        match self.authority() {
            Err(CertsError::NoAuthority { .. }) => {}
            found => return found,
        }
        // A key without a certificate is what is left when the process ended between the two. No client knows
        // it yet, unless someone took the certificate away: to use it again is right either way.
        let path = self.key_path(AUTHORITY);
        let key = match files::read(&path, Secrecy::Secret)? {
            Some(pem) => issue::parse_key(&path, &pem)?,
            None => self.make_key(AUTHORITY)?,
        };
        let certificate = issue::authority(&key)?;
        self.put(&format!("{AUTHORITY}.pem"), certificate.pem().as_bytes(), Secrecy::Public)?;
        info!(fingerprint = %Fingerprint::of(certificate.der()), dir = %self.dir.display(), "made a private CA");
        self.authority()
    }

    /// Issues a certificate and a new key into their files. Only under the lock.
    fn write(
        &self,
        issuer: &Authority,
        file: &str,
        names: &[Name],
        kind: Kind,
        validity: Validity,
    ) -> Result<(), CertsError> {
        let key = issue::new_key()?;
        // First all that can fail without a trace.
        let pem = issuer.issue(&key, names, kind, validity)?;
        self.put_key(file, &key)?;
        self.put(&format!("{file}.pem"), &pem, Secrecy::Public)
    }

    fn make_key(&self, file: &str) -> Result<issue::SecretKey, CertsError> {
        let key = issue::new_key()?;
        self.put_key(file, &key)?;
        Ok(key)
    }

    fn put_key(&self, file: &str, key: &issue::SecretKey) -> Result<(), CertsError> {
        let pem = Zeroizing::new(key.serialize_pem());
        self.put(&format!("{file}-key.pem"), pem.as_bytes(), Secrecy::Secret)
    }

    fn put(&self, name: &str, bytes: &[u8], secrecy: Secrecy) -> Result<(), CertsError> {
        files::replace(&self.dir, name, bytes, secrecy)
    }

    /// The server's identity, and how good it is.
    fn server(&self, names: &[Name]) -> Result<Standing, CertsError> {
        let stale = |reason: &str, usable| Ok(Standing::Stale { reason: reason.into(), usable });
        let (certificate, key) = (self.certificate_path(SERVER), self.key_path(SERVER));
        if !certificate.exists() || !key.exists() {
            return stale("there is none yet", None);
        }
        let identity = match Identity::load(&certificate, &key) {
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
        for name in names {
            for moment in [now, now.plus(RENEW_BEFORE)] {
                if let Err(reason) = judge.accepts(&identity, name, moment) {
                    return stale(&format!("for {name} on {moment}: {reason}"), usable());
                }
            }
        }
        Ok(Standing::Good(identity))
    }

    fn lock(&self) -> Result<fs::File, CertsError> {
        files::create_directory(&self.dir)?;
        files::lock(&self.dir)
    }

    fn certificate_path(&self, file: &str) -> PathBuf {
        self.dir.join(format!("{file}.pem"))
    }

    fn key_path(&self, file: &str) -> PathBuf {
        self.dir.join(format!("{file}-key.pem"))
    }
}

/// How good a server's identity is.
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

/// Names that stay in the directory and can't be taken for another certificate's key.
fn check_file_name(file: &str) -> Result<(), CertsError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (1..=100).contains(&file.len()) && file.chars().all(allowed) && !file.starts_with(['.', '-']);
    // In whatever case: not every file system tells them apart.
    let lower = file.to_ascii_lowercase();
    if fits && !lower.ends_with("-key") && ![AUTHORITY, SERVER, REVOCATIONS].contains(&lower.as_str()) {
        Ok(())
    } else {
        Err(CertsError::FileName(file.into()))
    }
}

#[cfg(test)]
mod tests;
