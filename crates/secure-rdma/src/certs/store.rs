//! The state directory.

use core::time::Duration;
use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::files::{self, Named, Secrecy};
use super::issue::{self, Authority};
use super::revocation::NextList;
use super::{
    CertificateInfo, CertsError, Fingerprint, Identity, IssueRecord, Issues, Kind, Name, RevocationInfo,
    Revoke, Serial, Timestamp, Validity, index, revocation, way,
};
use crate::crypto;

/// How long the server's and the account's certificates last.
const OWN_DAYS: u32 = 365;

/// How long before their ends they are replaced.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

const SERVER: &str = "server";
const ACCOUNT: &str = "account";
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

/// What [`Store::issue`] made.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What the certificate says, and its file.
    pub certificate: CertificateInfo,
    /// The file that its key is in.
    pub key: PathBuf,
    /// What was issued under the same name before and is good still, as far as it is known.
    pub earlier: Vec<IssueRecord>,
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
        let path = self.certificate_path(AUTHORITY);
        let pem = files::read(&path, Secrecy::Public, Named::Here)?
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
                let mut validity = Validity::days(OWN_DAYS);
                validity.not_after = validity.not_after.min(issuer.not_after());
                self.write(&issuer, SERVER, names, Kind::Server, validity)?;
                self.identity(SERVER)
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

    /// The identity that clients of this account show to its own servers, issued by the private CA where there is
    /// none that is good for 30 days more. `None` without one and without the CA's key to issue it with.
    ///
    /// # Errors
    /// As [`ensure_server`](Self::ensure_server).
    pub fn ensure_account(&self, names: &[Name]) -> Result<Option<Identity>, CertsError> {
        let authority = self.ensure_authority()?;
        if let Some(identity) = self.account(&authority, RENEW_BEFORE)? {
            return Ok(Some(identity));
        }
        let Some(issuer) = Authority::load(&self.certificate_path(AUTHORITY), &self.key_path(AUTHORITY))?
        else {
            return self.account(&authority, Duration::ZERO);
        };
        let _lock = self.lock()?;
        if let Some(identity) = self.account(&authority, RENEW_BEFORE)? {
            return Ok(Some(identity));
        }
        let mut validity = Validity::days(OWN_DAYS);
        validity.not_after = validity.not_after.min(issuer.not_after());
        self.write(&issuer, ACCOUNT, names, Kind::Client, validity)?;
        self.identity(ACCOUNT).map(Some)
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

    /// The same, if it is good for so long.
    fn account(
        &self,
        authority: &CertificateDer<'_>,
        time: Duration,
    ) -> Result<Option<Identity>, CertsError> {
        let Ok(Some(identity)) = self.account_identity() else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        let failed = |error: &dyn ToString| CertsError::Make(error.to_string());
        roots.add(authority.clone().into_owned()).map_err(|error| failed(&error))?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto::provider()).build();
        let verifier = verifier.map_err(|error| failed(&error))?;
        let accepts = |moment: Timestamp| {
            verifier.verify_client_cert(identity.certificate(), &[], moment.to_unix_time()).is_ok()
        };
        let now = Timestamp::now();
        let good = accepts(now) && accepts(now.plus(time)) && !self.has_revoked(identity.certificate());
        Ok(good.then_some(identity))
    }

    /// Whether this CA has revoked a certificate of its own.
    fn has_revoked(&self, certificate: &CertificateDer<'_>) -> bool {
        let list = files::read(&self.certificate_path(REVOCATIONS), Secrecy::Public, Named::Here);
        match (list, files::parse(certificate)) {
            (Ok(Some(list)), Ok(parsed)) => revocation::revokes(&list, &Serial::new(parsed.raw_serial())),
            _ => false,
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
        let (issuer, earlier) = self.issuer(file, validity)?;
        self.write(&issuer, file, names, kind, validity)?;
        let identity = self.identity(file)?;
        let certificate = CertificateInfo::read(self.certificate_path(file), identity.certificate())?;
        Ok(Issued { certificate, key: self.key_path(file), earlier })
    }

    /// Issues a client's certificate and a new key into one file, `bundle`, with the CA's certificate: a
    /// [`Bundle`](super::Bundle). Nothing but that file has the key; this directory remembers what was issued,
    /// under the name `file`.
    ///
    /// # Errors
    /// As [`issue`](Self::issue).
    pub fn issue_bundle(
        &self,
        file: &str,
        names: &[Name],
        validity: Validity,
        bundle: &Path,
    ) -> Result<Issued, CertsError> {
        check_file_name(file)?;
        let _lock = self.lock()?;
        let (issuer, earlier) = self.issuer(file, validity)?;
        let key = issue::new_key()?;
        let pem = issuer.issue(&key, names, Kind::Client, validity)?;
        let info = self.enter(file, Kind::Client, bundle, &pem)?;
        let secret = Zeroizing::new(key.serialize_pem());
        let all = Zeroizing::new([&pem, secret.as_bytes()].concat());
        let no_name = || CertsError::NotAFile { path: bundle.into() };
        let name = bundle.file_name().and_then(|name| name.to_str()).ok_or_else(no_name)?;
        let dir = bundle.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        files::replace(dir, name, &all, Secrecy::Secret)?;
        Ok(Issued { certificate: info, key: bundle.into(), earlier })
    }

    /// The CA, to issue with, and what it has issued under that name that is good still. Only under the lock.
    fn issuer(&self, file: &str, validity: Validity) -> Result<(Authority, Vec<IssueRecord>), CertsError> {
        self.make_authority()?;
        let key = self.key_path(AUTHORITY);
        let Some(issuer) = Authority::load(&self.certificate_path(AUTHORITY), &key)? else {
            let certificate = self.certificate_path(file);
            return Err(CertsError::NoAuthorityKey { certificate, reason: "it was asked for".into(), key });
        };
        if validity.not_after > issuer.not_after() {
            return Err(CertsError::Dates {
                not_before: validity.not_before,
                not_after: validity.not_after,
                reason: format!("the CA itself ends on {}", issuer.not_after()),
            });
        }
        let now = Timestamp::now();
        let mut earlier = self.issues()?.records;
        earlier.retain(|record| record.file == file && record.not_after > now);
        Ok((issuer, earlier))
    }

    /// What this CA has issued, as far as it is known.
    ///
    /// # Errors
    /// If there is no CA, or the record can't be read.
    pub fn issues(&self) -> Result<Issues, CertsError> {
        index::read(&self.dir, &self.authority_fingerprint()?)
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
        let mut serials = BTreeSet::new();
        for what in revoke {
            match what {
                Revoke::Serial(serial) => {
                    serials.insert(serial.clone());
                }
                Revoke::File(path) => {
                    serials.insert(self.serial_of_issued(&issuer, path)?);
                }
                Revoke::Name(name) => serials.extend(self.serials_of_name(&issuer, name)?),
            }
        }
        let file = self.certificate_path(REVOCATIONS);
        let old = files::read(&file, Secrecy::Public, Named::Here)?;
        let Validity { not_before: this_update, not_after: next_update } =
            Validity::days(validity_days.max(1));
        let dates = [this_update, next_update];
        let NextList { pem, revoked, added } =
            revocation::next_list(&issuer, &file, old.as_ref().map(|old| &old[..]), &serials, dates)?;
        self.put(&format!("{REVOCATIONS}.pem"), &pem, Secrecy::Public)?;
        info!(file = %file.display(), count = revoked.len(), "made a revocation list");
        Ok(RevocationInfo { file, revoked, added, this_update, next_update })
    }

    /// The numbers of all certificates that were issued under the name `name`, or for it, and haven't ended, and of
    /// the one in that file.
    fn serials_of_name(&self, issuer: &Authority, name: &str) -> Result<Vec<Serial>, CertsError> {
        let now = Timestamp::now();
        let mut records = self.issues()?.records;
        records.retain(|record| {
            record.kind != Kind::Authority && record.not_after > now && record.is_called(name)
        });
        let mut serials: Vec<Serial> = records.into_iter().map(|record| record.serial).collect();
        let file = self.certificate_path(name);
        if check_file_name(name).is_ok() || [SERVER, ACCOUNT].contains(&name) {
            match self.serial_of_issued(issuer, &file) {
                Ok(serial) => serials.push(serial),
                Err(CertsError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if serials.is_empty() {
            return Err(CertsError::NothingToRevoke { name: name.into(), dir: self.dir.clone() });
        }
        Ok(serials)
    }

    /// The number of the certificate in the file `path`, if `issuer` has issued it.
    fn serial_of_issued(&self, issuer: &Authority, path: &Path) -> Result<Serial, CertsError> {
        let pem = files::read_existing(path, Secrecy::Public, Named::ByUser)?;
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

    /// The CA, made if it isn't there. Only under the lock.
    fn make_authority(&self) -> Result<CertificateDer<'static>, CertsError> {
        match self.authority() {
            Err(CertsError::NoAuthority { .. }) => {}
            found => return found,
        }
        // A key without a certificate is what is left when the process ended between the two. No client knows
        // it yet, unless someone took the certificate away: to use it again is right either way.
        let path = self.key_path(AUTHORITY);
        let key = match files::read(&path, Secrecy::Secret, Named::Here)? {
            Some(pem) => issue::parse_key(&path, &pem)?,
            None => self.make_key(AUTHORITY)?,
        };
        let certificate = issue::authority(&key)?;
        self.enter(
            AUTHORITY,
            Kind::Authority,
            &self.certificate_path(AUTHORITY),
            certificate.pem().as_bytes(),
        )?;
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
        self.enter(file, kind, &self.certificate_path(file), &pem)?;
        self.put_key(file, &key)?;
        self.put(&format!("{file}.pem"), &pem, Secrecy::Public)
    }

    /// Enters the first certificate in `pem`, which will be in the file `path`, in the record of what was issued,
    /// before anybody can have it. Only under the lock.
    fn enter(&self, file: &str, kind: Kind, path: &Path, pem: &[u8]) -> Result<CertificateInfo, CertsError> {
        let certificate = files::parse_certificates(path, pem)?.swap_remove(0);
        let info = CertificateInfo::read(path.into(), &certificate)?;
        index::append(&self.dir, &IssueRecord::new(file, kind, &info))?;
        Ok(info)
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
        let identity = match self.identity(SERVER) {
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
    if fits
        && !lower.ends_with("-key")
        && ![AUTHORITY, SERVER, ACCOUNT, REVOCATIONS].contains(&lower.as_str())
    {
        Ok(())
    } else {
        Err(CertsError::FileName(file.into()))
    }
}

#[cfg(test)]
mod tests;
