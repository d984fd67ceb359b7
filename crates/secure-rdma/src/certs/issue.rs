//! Making certificates.

use core::time::Duration;
use std::path::Path;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::files::{self, Named, Secrecy};
use super::{CertsError, Fingerprint, Identity, Kind, Name, Timestamp, info};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a CA lasts: 10 years.
const AUTHORITY_DAYS: u32 = 3653;

/// How far before its making a certificate begins, for peers whose clocks are behind.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: Timestamp,
    /// The last moment.
    pub not_after: Timestamp,
}

impl Validity {
    /// From now (an hour ago, for peers whose clocks are behind) for so many days.
    #[must_use]
    pub fn days(days: u32) -> Self {
        let now = Timestamp::now();
        Self { not_before: now.minus(CLOCK_SKEW), not_after: now.plus(DAY * days) }
    }

    fn apply(self, params: &mut CertificateParams) -> Result<(), CertsError> {
        let Self { not_before, not_after } = self;
        let refuse = |reason: &str| CertsError::Dates { not_before, not_after, reason: reason.into() };
        if not_before >= not_after {
            return Err(refuse("it ends before it begins"));
        }
        let beyond = || refuse("dates end with the year 9999");
        params.not_before = not_before.to_date().ok_or_else(beyond)?;
        params.not_after = not_after.to_date().ok_or_else(beyond)?;
        Ok(())
    }
}

/// A private key just made, or read to sign with. Erased when dropped.
pub(super) type SecretKey = Zeroizing<KeyPair>;

/// A new ECDSA P-256 key: what every TLS stack takes.
pub(super) fn new_key() -> Result<SecretKey, CertsError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map(Zeroizing::new).map_err(failed)
}

/// The key that the PEM file `path` holds, to sign with.
pub(super) fn parse_key(path: &Path, pem: &[u8]) -> Result<SecretKey, CertsError> {
    let refuse = |reason: String| CertsError::NotAKey { path: path.into(), reason };
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|error| refuse(error.to_string()))?;
    let der = Zeroizing::new(der);
    KeyPair::try_from(&*der).map(Zeroizing::new).map_err(|error| refuse(error.to_string()))
}

/// The certificate of a CA that has that key: for nothing but to issue certificates to servers and clients, not to
/// other CAs, and to revoke them.
pub(super) fn authority(key: &KeyPair) -> Result<Certificate, CertsError> {
    let mut params = CertificateParams::default();
    // The key's hash in the name keeps two CAs, of two accounts or two machines, from being called the same.
    let key_hash = Fingerprint::of(key.der_bytes()).to_string();
    params.distinguished_name =
        common_name(&format!("secure-rdma private CA {}", &key_hash["sha256:".len()..][..12]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial_number()?);
    Validity::days(AUTHORITY_DAYS).apply(&mut params)?;
    params.self_signed(key).map_err(failed)
}

/// A CA that can issue.
pub(super) struct Authority {
    certificate: CertificateDer<'static>,
    /// The file that the certificate is in: what goes behind each certificate that it issues.
    pem: Zeroizing<Vec<u8>>,
    key: SecretKey,
}

impl Authority {
    /// The CA in two PEM files; `None` if its key isn't there.
    pub(super) fn load(certificate: &Path, key: &Path) -> Result<Option<Self>, CertsError> {
        let Some(secret) = files::read(key, Secrecy::Secret, Named::Here)? else {
            return Ok(None);
        };
        let pem = files::read_existing(certificate, Secrecy::Public, Named::Here)?;
        // Parses both, and refuses a key of another certificate.
        let identity = Identity::parse(certificate, &pem, key, &secret)?;
        files::check_authority(certificate, identity.certificate(), Timestamp::now())?;
        Ok(Some(Self { certificate: identity.certificate().clone(), pem, key: parse_key(key, &secret)? }))
    }

    /// A certificate for the holder of `key`, with those behind it, in PEM form.
    pub(super) fn issue(
        &self,
        key: &KeyPair,
        names: &[Name],
        kind: Kind,
        validity: Validity,
    ) -> Result<Vec<u8>, CertsError> {
        let first = names.first().ok_or(CertsError::NoNames)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&first.to_string());
        params.subject_alt_names = names.iter().map(san).collect::<Result<_, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match kind {
            Kind::Authority => return Err(CertsError::Make("a CA here issues none for other CAs".into())),
            Kind::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Kind::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Kind::Agent => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial_number()?);
        validity.apply(&mut params)?;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &*self.key).map_err(failed)?;
        let certificate = params.signed_by(key, &issuer).map_err(failed)?;
        Ok([certificate.pem().as_bytes(), &self.pem].concat())
    }

    /// Its own certificate.
    pub(super) const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A revocation list, signed, in PEM form.
    pub(super) fn sign_revocations(
        &self,
        list: &CertificateRevocationListParams,
    ) -> Result<Vec<u8>, CertsError> {
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &*self.key).map_err(failed)?;
        Ok(list.signed_by(&issuer).and_then(|list| list.pem()).map_err(failed)?.into_bytes())
    }

    /// Until when it is valid: a certificate that it issues shouldn't last longer.
    pub(super) fn not_after(&self) -> Timestamp {
        files::parse(&self.certificate)
            .map_or(Timestamp::from_unix(0), |ca| info::moment(ca.validity().not_after))
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    // RFC 5280, appendix A.1: a common name has at most 64 characters. The full names are in the subject
    // alternative name.
    subject.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    subject
}

fn san(name: &Name) -> Result<SanType, CertsError> {
    match name.ip() {
        Some(ip) => Ok(SanType::IpAddress(ip)),
        None => name.to_string().try_into().map(SanType::DnsName).map_err(failed),
    }
}

/// 126 random bits behind a leading 1: positive and of one length (RFC 5280, section 4.1.2.2).
fn serial_number() -> Result<SerialNumber, CertsError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| CertsError::Make(error.to_string()))?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

// One error type for all of them, so it may be passed where a function is due.
#[allow(clippy::needless_pass_by_value)]
fn failed(error: rcgen::Error) -> CertsError {
    CertsError::Make(error.to_string())
}
