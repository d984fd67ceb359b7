//! The private CA's own revocation list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams};
use x509_parser::extensions::ParsedExtension;
use x509_parser::revocation_list::RevokedCertificate;

use super::issue::Authority;
use super::revocation::{MAX_SHOWN, certificate, parse, split};
use super::{CertsError, Serial, Timestamp, info};
use crate::text::printable;

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

/// A list that was made to follow another.
pub(super) struct NextList {
    /// In PEM form.
    pub(super) pem: Vec<u8>,
    /// Who is on it.
    pub(super) revoked: Vec<Serial>,
    /// Who of them wasn't on the other.
    pub(super) added: Vec<Serial>,
    /// When it was made, and when it ends.
    pub(super) dates: [Timestamp; 2],
}

/// The list that follows what is in `old`, the file's bytes if there are any, with `revoke` added. It is never dated
/// before `old`: whoever goes by that, made by a clock that was ahead, would refuse it as the older one.
pub(super) fn next_list(
    authority: &Authority,
    path: &Path,
    old: Option<&[u8]>,
    revoke: &BTreeSet<Serial>,
    [mut this_update, mut next_update]: [Timestamp; 2],
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
        let ahead = info::moment(list.last_update()).since(this_update);
        (this_update, next_update) = (this_update.plus(ahead), next_update.plus(ahead));
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
    let dates = [this_update, next_update];
    Ok(NextList { pem: authority.sign_revocations(&list)?, revoked, added, dates })
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
