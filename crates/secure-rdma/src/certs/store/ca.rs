//! The private CA in a state directory: issuing and revoking.

use core::time::Duration;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::{ACCOUNT, AGENT, AUTHORITY, RENEW_BEFORE, REVOCATIONS, SERVER, Standing, Store};
use crate::certs::files::{self, Named, Secrecy};
use crate::certs::host::MAX_NAMES;
use crate::certs::issue::{self, Authority};
use crate::certs::revoke::{self, NextList};
use crate::certs::{
    CertificateInfo, CertsError, Fingerprint, Identity, IssueRecord, Issues, Kind, Name, RevocationInfo,
    Revoke, Serial, SubjectName, SubjectNames, Timestamp, Validity, index,
};
use crate::crypto;

/// How long the server's and the account's certificates last.
const OWN_DAYS: u32 = 365;

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
        self.ensure(SERVER, Kind::Server, names)
    }

    /// The same for this host's agent, whose certificate proves the host's addresses to other hosts' agents, as a
    /// server and as a client. Loopback addresses that are in it already stay.
    ///
    /// # Errors
    /// As [`ensure_server`](Self::ensure_server).
    pub fn ensure_agent(&self, names: &[Name]) -> Result<Identity, CertsError> {
        let mut names = names.to_vec();
        let before = self.identity(AGENT).map(|before| SubjectNames::of(before.certificate()));
        for name in before.unwrap_or_default().names() {
            if let SubjectName::Ip(address) = name
                && address.is_loopback()
                && !names.contains(&Name::from(*address))
                && names.len() < MAX_NAMES
            {
                names.push((*address).into());
            }
        }
        self.ensure(AGENT, Kind::Agent, &names)
    }

    fn ensure(&self, file: &'static str, kind: Kind, names: &[Name]) -> Result<Identity, CertsError> {
        match self.standing(file, names) {
            Ok(Standing::Good(identity)) => return Ok(identity),
            Ok(Standing::Stale { .. }) | Err(CertsError::NoAuthority { .. }) => {}
            Err(error) => return Err(error),
        }
        let _lock = self.lock()?;
        // What another process made while this one waited counts.
        self.make_authority()?;
        let (reason, usable) = match self.standing(file, names)? {
            Standing::Good(identity) => return Ok(identity),
            Standing::Stale { reason, usable } => (reason, usable),
        };
        let key = self.key_path(AUTHORITY);
        match (Authority::load(&self.certificate_path(AUTHORITY), &key)?, usable) {
            (Some(issuer), _) => {
                info!(%reason, "issuing a certificate for the {file}");
                let mut validity = Validity::days(OWN_DAYS);
                validity.not_after = validity.not_after.min(issuer.not_after());
                self.write(&issuer, file, names, kind, validity)?;
                self.identity(file)
            }
            (None, Some(identity)) => {
                warn!(%reason, key = %key.display(), "the certificate of the {file} should be replaced, but \
                    the CA's key is not there");
                Ok(identity)
            }
            (None, None) => {
                Err(CertsError::NoAuthorityKey { certificate: self.certificate_path(file), reason, key })
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
    /// [`Bundle`](crate::certs::Bundle). Nothing but that file has the key; this directory remembers what was issued,
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

    /// Adds certificates of the private CA's to its revocation list, `crl.pem`, and dates it anew, also
    /// without any; made if it isn't there. It is then good for `validity_days`, 1 or more: whoever checks
    /// certificates against it refuses all of them afterwards.
    ///
    /// # Errors
    /// If a certificate can't be read or isn't this CA's, if there is no CA, its key isn't there or it may
    /// not revoke, or if the file can't be used or written.
    pub fn revoke(&self, certificates: &[Revoke], validity_days: u32) -> Result<RevocationInfo, CertsError> {
        // There has to be something to revoke with, and no CA is made for that.
        self.authority()?;
        let _lock = self.lock()?;
        let key = self.key_path(AUTHORITY);
        let Some(issuer) = Authority::load(&self.certificate_path(AUTHORITY), &key)? else {
            return Err(CertsError::NoRevocationKey { key });
        };
        let mut serials = BTreeSet::new();
        for what in certificates {
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
        let Validity { not_before, not_after } = Validity::days(validity_days.max(1));
        let dates = [not_before, not_after];
        let NextList { pem, revoked, added, dates: [this_update, next_update] } =
            revoke::next_list(&issuer, &file, old.as_ref().map(|old| &old[..]), &serials, dates)?;
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
    pub(super) fn write(
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

    pub(super) fn make_key(&self, file: &str) -> Result<issue::SecretKey, CertsError> {
        let key = issue::new_key()?;
        self.put_key(file, &key)?;
        Ok(key)
    }

    fn put_key(&self, file: &str, key: &issue::SecretKey) -> Result<(), CertsError> {
        let pem = Zeroizing::new(key.serialize_pem());
        self.put(&format!("{file}-key.pem"), pem.as_bytes(), Secrecy::Secret)
    }

    pub(super) fn put(&self, name: &str, bytes: &[u8], secrecy: Secrecy) -> Result<(), CertsError> {
        files::replace(&self.dir, name, bytes, secrecy)
    }

    pub(super) fn lock(&self) -> Result<fs::File, CertsError> {
        files::create_directory(&self.dir)?;
        files::lock(&self.dir)
    }
}

/// Names that stay in the directory and can't be taken for another certificate's key.
fn check_file_name(file: &str) -> Result<(), CertsError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (1..=100).contains(&file.len()) && file.chars().all(allowed) && !file.starts_with(['.', '-']);
    // In whatever case: not every file system tells them apart.
    let lower = file.to_ascii_lowercase();
    if fits
        && !lower.ends_with("-key")
        && ![AUTHORITY, SERVER, ACCOUNT, AGENT, REVOCATIONS].contains(&lower.as_str())
    {
        Ok(())
    } else {
        Err(CertsError::FileName(file.into()))
    }
}

#[cfg(test)]
mod tests;
