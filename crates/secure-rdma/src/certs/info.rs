//! What a certificate says, for people.

use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

use super::{CertsError, Fingerprint, Serial, SubjectNames, Timestamp, files};
use crate::text::printable;

/// The most characters of a subject or issuer that are shown.
const MAX_SHOWN: usize = 200;

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To vouch for others.
    Authority,
    /// To prove a server's name to its clients.
    Server,
    /// To prove a client's name to its server.
    Client,
    /// To prove a host's address to other hosts' agents: as a server and as a client.
    Agent,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The file that it is in; empty for one that came over the network.
    pub file: PathBuf,
    /// What it is for; `None` for none of the kinds known here.
    pub kind: Option<Kind>,
    /// Whose it is: a distinguished name such as `CN=localhost`. Printable ASCII.
    pub subject: String,
    /// Who issued it. Printable ASCII.
    pub issuer: String,
    /// The DNS names and IP addresses that it is for. Printable ASCII.
    pub names: Vec<String>,
    /// The same and the further names that it is for, with their kinds: whose it is to a server's allow-list.
    pub subject_names: SubjectNames,
    /// Its number among those of its issuer.
    pub serial: Serial,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// The SHA-256 of its DER.
    pub fingerprint: Fingerprint,
}

impl CertificateInfo {
    /// What `der`, which came over the network, says.
    ///
    /// # Errors
    /// It is no certificate, or more than one.
    pub fn from_der(der: &[u8]) -> Result<Self, CertsError> {
        Self::read(PathBuf::new(), &CertificateDer::from(der))
    }

    /// What `der`, from `file`, says.
    pub(crate) fn read(file: PathBuf, der: &CertificateDer<'_>) -> Result<Self, CertsError> {
        let certificate = match files::parse(der) {
            Ok(certificate) => certificate,
            Err(reason) => return Err(CertsError::NotACertificate { path: file, reason }),
        };
        let usage = certificate.extended_key_usage().ok().flatten().map(|extension| extension.value);
        let kind = match usage {
            _ if certificate.is_ca() => Some(Kind::Authority),
            Some(usage) if usage.server_auth && usage.client_auth => Some(Kind::Agent),
            Some(usage) if usage.server_auth => Some(Kind::Server),
            Some(usage) if usage.client_auth => Some(Kind::Client),
            _ => None,
        };
        let names = certificate.subject_alternative_name().ok().flatten();
        Ok(Self {
            kind,
            subject: printable(&certificate.subject().to_string(), MAX_SHOWN),
            issuer: printable(&certificate.issuer().to_string(), MAX_SHOWN),
            names: names
                .map(|names| names.value.general_names.iter().filter_map(show).collect())
                .unwrap_or_default(),
            subject_names: SubjectNames::of(der),
            serial: Serial::new(certificate.raw_serial()),
            not_before: moment(certificate.validity().not_before),
            not_after: moment(certificate.validity().not_after),
            fingerprint: Fingerprint::of(der),
            file,
        })
    }
}

/// A name that a client can ask for; the other kinds of names play no part here.
fn show(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(printable(name, MAX_SHOWN)),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|v4| std::net::IpAddr::from(v4).to_string());
            let v6 = <[u8; 16]>::try_from(*bytes).map(|v6| std::net::IpAddr::from(v6).to_string());
            v4.or(v6).ok()
        }
        _ => None,
    }
}

/// When the certificate `der` ends, if it is one.
pub(crate) fn end_of(der: &CertificateDer<'_>) -> Option<Timestamp> {
    files::parse(der).ok().map(|certificate| moment(certificate.validity().not_after))
}

/// A certificate's date; the beginning of 1970 for whatever is earlier.
pub(super) fn moment(time: ASN1Time) -> Timestamp {
    Timestamp::from_unix(u64::try_from(time.timestamp()).unwrap_or_default())
}
