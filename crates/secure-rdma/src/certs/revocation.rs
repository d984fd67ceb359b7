//! Revocation lists (X.509 CRLs, RFC 5280, section 5) that certificates are checked against.
//!
//! A list that is given is meant to be used: one that has ended, isn't by the CA that it names, or is missing
//! for a CA whose certificates are checked, is an error when it is read, not a hole that nobody notices.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::editions::{Edition, Editions};
use super::files::{self, Named, Secrecy};
use super::{CertsError, Timestamp, info};
use crate::text::printable;

/// Far more than any list takes: half a million certificates.
const MAX_FILE: u64 = 16 << 20;

/// The most characters of a CA's name that are shown.
pub(super) const MAX_SHOWN: usize = 200;

/// The most bytes of a serial number (RFC 5280, section 4.1.2.2).
const MAX_SERIAL: usize = 20;

/// A certificate's serial number: names it among those of its CA. It reads and prints as `serial:` and
/// hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial(pub(super) Vec<u8>);

impl Serial {
    /// `bytes`, big-endian, whatever zeros they begin with.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Self(bytes[zeros..].to_vec())
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("serial:")?;
        if self.0.is_empty() {
            return f.write_str("00");
        }
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that isn't a serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a serial number is serial: and 2 to 40 hexadecimal digits, an even number of them, as it \
     prints"
)]
pub struct ParseSerialError;

impl FromStr for Serial {
    type Err = ParseSerialError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("serial:").ok_or(ParseSerialError)?;
        let fits = digits.bytes().all(|digit| digit.is_ascii_hexdigit())
            && digits.len().is_multiple_of(2)
            && (2..=2 * MAX_SERIAL).contains(&digits.len());
        if !fits {
            return Err(ParseSerialError);
        }
        let bytes: Result<Vec<u8>, _> =
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16)).collect();
        bytes.map(|bytes| Self::new(&bytes)).map_err(|_| ParseSerialError)
    }
}

/// Where the revocation lists are that certificates are checked against. There has to be one of each CA whose
/// certificates are checked, and none may have ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RevocationLists {
    /// In this file, PEM or DER, one or several. A server reads it again when it reloads.
    File(PathBuf),
    /// These bytes, PEM or DER, one or several.
    Bytes(Vec<u8>),
    /// These, as rustls takes them.
    Der(Vec<CertificateRevocationListDer<'static>>),
}

impl RevocationLists {
    /// The lists, and what errors call them.
    fn read(&self) -> Result<(&Path, Vec<CertificateRevocationListDer<'static>>), CertsError> {
        let given = Path::new("what was given");
        match self {
            Self::File(path) => {
                let bytes = files::read_limited(path, Secrecy::Public, Named::ByUser, MAX_FILE)?
                    .ok_or_else(|| CertsError::missing(path))?;
                Ok((path, split(path, &bytes)?))
            }
            Self::Bytes(bytes) => Ok((given, split(given, bytes)?)),
            Self::Der(lists) => Ok((given, lists.clone())),
        }
    }
}

impl From<PathBuf> for RevocationLists {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for RevocationLists {
    fn from(path: &Path) -> Self {
        Self::File(path.into())
    }
}

impl From<Vec<CertificateRevocationListDer<'static>>> for RevocationLists {
    fn from(lists: Vec<CertificateRevocationListDer<'static>>) -> Self {
        Self::Der(lists)
    }
}

/// Revocation lists that were checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Revocations {
    lists: Vec<CertificateRevocationListDer<'static>>,
    /// When the first of them ends.
    pub(crate) next_update: Option<Timestamp>,
    /// Which of the authorities' lists they are.
    pub(crate) editions: Editions,
}

/// The lists that were used before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Used {
    /// Which.
    pub(crate) editions: Editions,
    /// Where they are remembered.
    pub(crate) remembered: PathBuf,
}

impl Revocations {
    /// Reads and checks lists. For each of `authorities`, which are all whose certificates are to be checked, there
    /// has to be one, signed by it, none older than was `used`, and none that has ended by `now`.
    pub(crate) fn load(
        lists: &RevocationLists,
        authorities: &[CertificateDer<'_>],
        used: &Used,
        now: Timestamp,
    ) -> Result<Self, CertsError> {
        let (path, lists) = lists.read()?;
        // Of several by one CA the newest is the one that is looked at.
        let mut dated = Vec::with_capacity(lists.len());
        let mut next_update: Option<Timestamp> = None;
        for list in lists {
            let parsed = parse(path, &list)?;
            let ends = ending(path, &parsed)?;
            let issuer = || printable(&parsed.issuer().to_string(), MAX_SHOWN);
            if ends < now {
                let path = path.into();
                return Err(CertsError::RevocationsExpired { path, issuer: issuer(), next_update: ends });
            }
            for authority in authorities {
                let authority = certificate(path, authority)?;
                if authority.subject().as_raw() == parsed.issuer().as_raw() {
                    parsed
                        .verify_signature(authority.public_key())
                        .map_err(|_| CertsError::RevocationsForged { path: path.into(), issuer: issuer() })?;
                }
            }
            next_update = Some(next_update.map_or(ends, |earlier| earlier.min(ends)));
            dated.push((Edition::of(&parsed), list));
        }
        dated.sort_by(|(one, _), (other, _)| other.order(one));
        let lists: Vec<_> = dated.into_iter().map(|(_, list)| list).collect();
        let editions = editions(path, &lists, authorities, used)?;
        for authority in authorities {
            let authority = certificate(path, authority)?;
            let subject = || printable(&authority.subject().to_string(), MAX_SHOWN);
            let usage = authority.key_usage().ok().flatten();
            if usage.is_some_and(|usage| !usage.value.crl_sign()) {
                return Err(CertsError::CannotRevoke { authority: subject() });
            }
            let covers = |list: &CertificateRevocationListDer<'_>| {
                parse(path, list).is_ok_and(|list| list.issuer().as_raw() == authority.subject().as_raw())
            };
            if !lists.iter().any(covers) {
                return Err(CertsError::RevocationsMissing { path: path.into(), authority: subject() });
            }
        }
        Ok(Self { lists, next_update, editions })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// As rustls takes them.
    pub(crate) fn lists(&self) -> impl Iterator<Item = CertificateRevocationListDer<'static>> {
        self.lists.clone().into_iter()
    }
}

/// The lists that the bytes of a file are.
pub(super) fn split(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, CertsError> {
    let refuse = |reason: String| CertsError::NotRevocations { path: path.into(), reason };
    // DER begins with a SEQUENCE; no PEM file does.
    if bytes.first() != Some(&0x30) {
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
        let lists = lists.map_err(|error| refuse(error.to_string()))?;
        if lists.is_empty() {
            return Err(refuse("it has no section BEGIN X509 CRL".into()));
        }
        return Ok(lists);
    }
    let (mut lists, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (after, list) =
            CertificateRevocationList::from_der(rest).map_err(|error| refuse(error.to_string()))?;
        lists.push(list.as_raw().to_vec().into());
        rest = after;
    }
    Ok(lists)
}

/// Which lists of the authorities these are, the newest first, whose signatures were verified; an error if one is
/// older than what was used. What others have signed isn't remembered: nobody has vouched for it yet.
fn editions(
    path: &Path,
    lists: &[CertificateRevocationListDer<'_>],
    authorities: &[CertificateDer<'_>],
    used: &Used,
) -> Result<Editions, CertsError> {
    let mut found: BTreeMap<String, Edition> = BTreeMap::new();
    for authority in authorities {
        let authority = certificate(path, authority)?;
        for list in lists {
            let list = parse(path, list)?;
            if list.issuer().as_raw() != authority.subject().as_raw() {
                continue;
            }
            let (key, edition) = (Editions::key(&authority, &list), Edition::of(&list));
            if found.contains_key(&key) {
                // Of several by one CA the newest is the one that is looked at.
                continue;
            }
            if let Some(newer) = used.editions.newer_than(&key, &edition) {
                return Err(CertsError::RevocationsRolledBack {
                    path: path.into(),
                    issuer: printable(&list.issuer().to_string(), MAX_SHOWN),
                    found: edition.to_string(),
                    used: newer.to_string(),
                    remembered: used.remembered.clone(),
                });
            }
            found.insert(key, edition);
        }
    }
    let mut editions = Editions::default();
    found.into_iter().for_each(|(key, edition)| editions.note(key, edition));
    Ok(editions)
}

/// Whether a list in `bytes` has that number on it; not if they are no lists.
pub(super) fn revokes(bytes: &[u8], serial: &Serial) -> bool {
    let path = Path::new("");
    split(path, bytes).is_ok_and(|lists| {
        lists.iter().any(|list| {
            parse(path, list).is_ok_and(|list| {
                list.iter_revoked_certificates().any(|entry| Serial::new(entry.raw_serial()) == *serial)
            })
        })
    })
}

pub(super) fn parse<'a>(path: &Path, der: &'a [u8]) -> Result<CertificateRevocationList<'a>, CertsError> {
    let refuse = |reason: String| CertsError::NotRevocations { path: path.into(), reason };
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        Ok(_) => Err(refuse("bytes follow the list".into())),
        Err(error) => Err(refuse(error.to_string())),
    }
}

pub(super) fn certificate<'a>(
    path: &Path,
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, CertsError> {
    files::parse(der).map_err(|reason| CertsError::NotACertificate { path: path.into(), reason })
}

/// When a list ends. RFC 5280, section 5.1.2.5: every list has to say so.
fn ending(path: &Path, list: &CertificateRevocationList<'_>) -> Result<Timestamp, CertsError> {
    let reason = "it doesn't say when the next one comes (nextUpdate)".into();
    let refuse = || CertsError::NotRevocations { path: path.into(), reason };
    list.next_update().map(info::moment).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_reads_as_it_prints_and_leading_zeros_do_not_count() {
        let serial: Serial = "serial:00ab01".parse().unwrap();
        assert_eq!(serial.to_string(), "serial:ab01");
        assert_eq!(serial, Serial::new(&[0, 0, 0xab, 1]));
        assert_eq!(Serial::new(&[0]).to_string(), "serial:00");
        for text in ["", "ab", "serial:", "serial:a", "serial:xy", "serial:+1", "serial:é"] {
            assert_eq!(text.parse::<Serial>(), Err(ParseSerialError), "{text}");
        }
        assert!(format!("serial:{}", "00".repeat(MAX_SERIAL + 1)).parse::<Serial>().is_err());
    }
}
