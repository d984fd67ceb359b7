//! Files that hold certificates and keys: what may be read, and how they are replaced.

use core::time::Duration;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::{CertsError, Timestamp, info, way};
use crate::text::printable;

/// Far more than any certificate chain or bundle of CAs takes.
const MAX_FILE: u64 = 1 << 20;

/// How long to wait for another process, which needs milliseconds.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    Public,
    Secret,
}

impl Secrecy {
    const fn mode(self) -> u32 {
        match self {
            Self::Public => 0o644,
            Self::Secret => 0o600,
        }
    }
}

/// Who names a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// The state directory: its files are there themselves, and no links.
    Here,
    /// The user, who may name a link, as secrets are mounted in containers.
    ByUser,
}

/// Makes `dir`, for its owner alone, if it doesn't exist.
pub(super) fn create_directory(dir: &Path) -> Result<(), CertsError> {
    if way::is_there(dir)? {
        return Ok(());
    }
    let write_error = |source| CertsError::Write { path: dir.into(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(write_error)?;
    // Somebody else may have been faster, with a directory of his own.
    match way::is_there(dir)? {
        true => Ok(()),
        false => Err(write_error(io::ErrorKind::NotFound.into())),
    }
}

/// Opens a regular file. What has another kind isn't waited for: to open a FIFO takes until somebody writes to it.
pub(super) fn open(
    path: &Path,
    options: &mut OpenOptions,
    named: Named,
) -> Result<Option<(File, Metadata)>, CertsError> {
    let flags = match named {
        Named::Here => OFlags::NONBLOCK | OFlags::NOFOLLOW,
        Named::ByUser => OFlags::NONBLOCK,
    };
    let read_error = |source| CertsError::Read { path: path.into(), source };
    let file = match options.custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if named == Named::Here && error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(CertsError::Link { path: path.into() });
        }
        Err(source) => return Err(read_error(source)),
    };
    // Of the file that was opened, not of whatever has its name by now.
    let found = file.metadata().map_err(read_error)?;
    if found.is_file() { Ok(Some((file, found))) } else { Err(CertsError::NotAFile { path: path.into() }) }
}

/// Keeps other processes (and other threads of this one) from changing `dir` until the file is dropped.
pub(super) fn lock(dir: &Path) -> Result<File, CertsError> {
    let path = dir.join(".lock");
    let write_error = |source| CertsError::Write { path: path.clone(), source };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let (file, _) = open(&path, &mut options, Named::Here)?.ok_or_else(|| CertsError::missing(&path))?;
    let give_up = Instant::now() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(write_error(source)),
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(CertsError::Busy { path }),
        }
    }
}

/// Puts `bytes` into `dir/name`, so that whoever looks, at whatever moment, even after a power failure, finds
/// the old file or the new one. Only under the lock: the temporary file's name is always the same, so that
/// one left behind is reused and not collected.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8], secrecy: Secrecy) -> Result<(), CertsError> {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.new"));
    let write = || {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(secrecy.mode()).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| CertsError::Write { path: path.clone(), source })
}

/// The bytes of a file, unless it is far too long or, for a secret one, somebody else's or open to others. `None`
/// if there is no such file.
pub(super) fn read(
    path: &Path,
    secrecy: Secrecy,
    named: Named,
) -> Result<Option<Zeroizing<Vec<u8>>>, CertsError> {
    read_limited(path, secrecy, named, MAX_FILE)
}

/// The same with a limit of the caller's.
pub(super) fn read_limited(
    path: &Path,
    secrecy: Secrecy,
    named: Named,
    limit: u64,
) -> Result<Option<Zeroizing<Vec<u8>>>, CertsError> {
    let Some((file, found)) = open(path, OpenOptions::new().read(true), named)? else { return Ok(None) };
    if secrecy == Secrecy::Secret {
        check_secret(path, &found)?;
    }
    // Room for all of it at once, so that a secret isn't moved and left behind.
    let room = usize::try_from(found.len().min(limit)).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    let read_error = |source| CertsError::Read { path: path.into(), source };
    file.take(limit + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() as u64 > limit {
        return Err(CertsError::TooLong { path: path.into(), limit });
    }
    Ok(Some(bytes))
}

/// Refuses a key that others can read, or that somebody else has put there: he knows it.
fn check_secret(path: &Path, found: &Metadata) -> Result<(), CertsError> {
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(CertsError::KeyForeign { path: path.into(), owner });
    }
    if mode & 0o077 != 0 {
        return Err(CertsError::KeyOpen { path: path.into(), mode });
    }
    Ok(())
}

/// The same, if the file has to be there.
pub(crate) fn read_existing(
    path: &Path,
    secrecy: Secrecy,
    named: Named,
) -> Result<Zeroizing<Vec<u8>>, CertsError> {
    read(path, secrecy, named)?.ok_or_else(|| CertsError::missing(path))
}

/// The certificates that a PEM file holds, one at least; each of them parses.
pub(super) fn parse_certificates(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CertsError> {
    let refuse = |reason| CertsError::NotACertificate { path: path.into(), reason };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| refuse(error.to_string()))?;
    if certificates.is_empty() {
        return Err(refuse("it has no section BEGIN CERTIFICATE".into()));
    }
    for certificate in &certificates {
        parse(certificate).map_err(refuse)?;
    }
    Ok(certificates)
}

/// A certificate's fields, or what is wrong with its DER.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("bytes follow the certificate".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Checks that a certificate from `path` is that of a CA whose time isn't over `now`.
pub(super) fn check_authority(
    path: &Path,
    authority: &CertificateDer<'_>,
    now: Timestamp,
) -> Result<(), CertsError> {
    let certificate =
        parse(authority).map_err(|reason| CertsError::NotACertificate { path: path.into(), reason })?;
    if !certificate.is_ca() {
        let subject = printable(&certificate.subject().to_string(), 200);
        return Err(CertsError::NotAnAuthority { path: path.into(), subject });
    }
    let not_after = info::moment(certificate.validity().not_after);
    if not_after < now {
        return Err(CertsError::AuthorityExpired { path: path.into(), not_after });
    }
    Ok(())
}
