//! Revocation lists (X.509 CRLs, RFC 5280, section 5): those that certificates are checked against, and the
//! private CA's own.
//!
//! A list that is given is meant to be used: one that has ended, isn't by the CA that it names, or is missing
//! for a CA whose certificates are checked, is an error when it is read, not a hole that nobody notices.

use core::fmt;
use core::str::FromStr;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};

use super::editions::{Edition, Editions};
use super::files::{self, Named, Secrecy};
use super::issue::Authority;
use super::{CertsError, Timestamp, info};
use crate::text::printable;

/// Far more than any list takes: half a million certificates.
const MAX_FILE: u64 = 16 << 20;

/// The most characters of a CA's name that are shown.
const MAX_SHOWN: usize = 200;

/// The most bytes of a serial number (RFC 5280, section 4.1.2.2).
const MAX_SERIAL: usize = 20;

/// A certificate's serial number: names it among those of its CA. It reads and prints as `serial:` and
/// hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial(Vec<u8>);

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
    "a serial number is serial: and 2 to 40 hexadecimal digits, an even number of them, as `secure-rdma \
     certs show` prints it"
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

/// What is to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoke {
    /// The certificate in this file, the first one if there are several.
    File(PathBuf),
    /// The certificate with this number, whose file isn't there any more.
    Serial(Serial),
    /// All that were issued under this name or for it, and haven't ended; and the one in the file of this name.
    Name(String),
}

/// What [`Store::revoke`](super::Store::revoke) made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationInfo {
    /// The list's file.
    pub file: PathBuf,
    /// Who is not to be trusted any more, all of them.
    pub revoked: Vec<Serial>,
    /// Those of them that weren't on the list before.
    pub added: Vec<Serial>,
    /// When the list was made.
    pub this_update: Timestamp,
    /// When it ends: there has to be another one before.
    pub next_update: Timestamp,
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
    /// The lists in the file `path`: PEM or DER, one or several. For each of `authorities`, which are all
    /// whose certificates are to be checked, there has to be one, signed by it, and none older than was `used`.
    pub(crate) fn load(
        path: &Path,
        authorities: &[CertificateDer<'_>],
        used: &Used,
    ) -> Result<Self, CertsError> {
        let bytes = files::read_limited(path, Secrecy::Public, Named::ByUser, MAX_FILE)?
            .ok_or_else(|| CertsError::missing(path))?;
        let lists = split(path, &bytes)?;
        let now = Timestamp::now();
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
fn split(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, CertsError> {
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

fn parse<'a>(path: &Path, der: &'a [u8]) -> Result<CertificateRevocationList<'a>, CertsError> {
    let refuse = |reason: String| CertsError::NotRevocations { path: path.into(), reason };
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        Ok(_) => Err(refuse("bytes follow the list".into())),
        Err(error) => Err(refuse(error.to_string())),
    }
}

fn certificate<'a>(path: &Path, der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertsError> {
    files::parse(der).map_err(|reason| CertsError::NotACertificate { path: path.into(), reason })
}

/// When a list ends. RFC 5280, section 5.1.2.5: every list has to say so.
fn ending(path: &Path, list: &CertificateRevocationList<'_>) -> Result<Timestamp, CertsError> {
    let reason = "it doesn't say when the next one comes (nextUpdate)".into();
    let refuse = || CertsError::NotRevocations { path: path.into(), reason };
    list.next_update().map(info::moment).ok_or_else(refuse)
}

/// A list that was made to follow another.
pub(super) struct NextList {
    /// In PEM form.
    pub(super) pem: Vec<u8>,
    /// Who is on it.
    pub(super) revoked: Vec<Serial>,
    /// Who of them wasn't on the other.
    pub(super) added: Vec<Serial>,
}

/// The list that follows what is in `old`, the file's bytes if there are any, with `revoke` added.
pub(super) fn next_list(
    authority: &Authority,
    path: &Path,
    old: Option<&[u8]>,
    revoke: &BTreeSet<Serial>,
    [this_update, next_update]: [Timestamp; 2],
) -> Result<NextList, CertsError> {
    let date = |moment: Timestamp| moment.to_date().ok_or(CertsError::Make("no such date".into()));
    let issuer = certificate(path, authority.certificate())?;
    let usage = issuer.key_usage().ok().flatten();
    if usage.is_some_and(|usage| !usage.value.crl_sign()) {
        return Err(CertsError::CannotRevoke {
            authority: printable(&issuer.subject().to_string(), MAX_SHOWN),
        });
    }
    let (mut number, mut revoked_certs) = (1_u8.into(), Vec::new());
    if let Some(old) = old {
        let lists = split(path, old)?;
        let [list] = &lists[..] else {
            let reason = "it holds several lists: the private CA keeps one".into();
            return Err(CertsError::NotRevocations { path: path.into(), reason });
        };
        let list = parse(path, list)?;
        // What isn't by this CA must not be made its own.
        if list.verify_signature(issuer.public_key()).is_err() {
            let issuer = printable(&list.issuer().to_string(), MAX_SHOWN);
            return Err(CertsError::RevocationsForged { path: path.into(), issuer });
        }
        number = list.crl_number().map_or(number, |number| number + 1_u8);
        for entry in list.iter_revoked_certificates() {
            revoked_certs.push(carry_over(entry, &date)?);
        }
    }
    let known: BTreeSet<Serial> =
        revoked_certs.iter().map(|entry| Serial::new(entry.serial_number.as_ref())).collect();
    let added: Vec<Serial> = revoke.difference(&known).cloned().collect();
    for serial in &added {
        revoked_certs.push(RevokedCertParams {
            serial_number: serial.0.clone().into(),
            revocation_time: date(this_update)?,
            reason_code: None,
            invalidity_date: None,
        });
    }
    let key_id = issuer.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    let revoked = revoked_certs.iter().map(|entry| Serial::new(entry.serial_number.as_ref())).collect();
    let list = CertificateRevocationListParams {
        this_update: date(this_update)?,
        next_update: date(next_update)?,
        crl_number: number.to_bytes_be().into(),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: key_id.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified),
    };
    Ok(NextList { pem: authority.sign_revocations(&list)?, revoked, added })
}

fn carry_over(
    entry: &RevokedCertificate<'_>,
    date: &impl Fn(Timestamp) -> Result<time::OffsetDateTime, CertsError>,
) -> Result<RevokedCertParams, CertsError> {
    let reasons = [
        RevocationReason::KeyCompromise,
        RevocationReason::CaCompromise,
        RevocationReason::AffiliationChanged,
        RevocationReason::Superseded,
        RevocationReason::CessationOfOperation,
        RevocationReason::CertificateHold,
        RevocationReason::PrivilegeWithdrawn,
        RevocationReason::AaCompromise,
    ];
    let code = entry.reason_code().map(|(_, reason)| reason.0);
    Ok(RevokedCertParams {
        serial_number: entry.serial().to_bytes_be().into(),
        revocation_time: date(info::moment(entry.revocation_date))?,
        reason_code: code.and_then(|code| reasons.into_iter().find(|reason| *reason as u8 == code)),
        invalidity_date: entry.invalidity_date().map(|(_, at)| date(info::moment(at))).transpose()?,
    })
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
