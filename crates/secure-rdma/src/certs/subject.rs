//! Whose a certificate is: the names in its subject alternative name (RFC 5280, section 4.2.1.6).
//!
//! What a certificate says is its holder's to choose as far as its CA lets it, so these names are taken
//! strictly: one that isn't what its kind should be is no name. What is left is short, printable, and equal
//! only if it means the same.

use core::fmt;
use core::str::FromStr;
use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, DnsName};
use x509_parser::extensions::GeneralName;

use super::files;
use crate::text::is_printable;

/// The longest URI or mail address: as long as a SPIFFE ID may be (SPIFFE-ID, section 2.3).
const MAX_LEN: usize = 2048;

/// The most names of a certificate that count.
const MAX_NAMES: usize = 64;

/// The most names, and characters of each, that are shown.
const MAX_SHOWN: usize = 8;
const MAX_SHOWN_LEN: usize = 200;

/// One name of a certificate's holder. It reads and prints with its kind: `dns:worker-7.example`, `ip:10.0.0.7`,
/// `uri:spiffe://example/worker/7`, `email:ops@example`.
///
/// Two are equal if they mean the same: DNS names in whatever case, addresses in whatever spelling. Nothing
/// stands for several names: there are no wildcards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SubjectName {
    /// A DNS name, in lower case.
    Dns(String),
    /// An IP address; an IPv4-mapped one as IPv4.
    Ip(IpAddr),
    /// A URI, such as a SPIFFE ID, as it is: compared byte by byte.
    Uri(String),
    /// A mail address; what follows the `@` in lower case.
    Email(String),
}

impl SubjectName {
    fn dns(text: &str) -> Option<Self> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        DnsName::try_from(name.as_str()).is_ok().then_some(Self::Dns(name))
    }

    fn ip(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }

    fn uri(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        // RFC 3986, section 3.1.
        let mut letters = scheme.chars();
        let named = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        (named && !rest.is_empty() && is_plain(text)).then(|| Self::Uri(text.to_owned()))
    }

    fn email(text: &str) -> Option<Self> {
        let (local, host) = text.rsplit_once('@')?;
        let address = || Self::Email(format!("{local}@{}", host.to_ascii_lowercase()));
        (!local.is_empty() && !host.is_empty() && is_plain(text)).then(address)
    }

    fn read(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(text) => Self::dns(text),
            GeneralName::URI(text) => Self::uri(text),
            GeneralName::RFC822Name(text) => Self::email(text),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                v4.or(v6).ok().map(Self::ip)
            }
            _ => None,
        }
    }
}

/// Whether every character can be shown, and is none of those that separate names.
fn is_plain(text: &str) -> bool {
    text.len() <= MAX_LEN && text.chars().all(|c| is_printable(c) && !matches!(c, ' ' | '"' | ',' | ';'))
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Ip(address) => write!(f, "ip:{address}"),
            Self::Uri(uri) => write!(f, "uri:{uri}"),
            Self::Email(address) => write!(f, "email:{address}"),
        }
    }
}

/// Text that is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no name: {reason}")]
pub struct ParseSubjectNameError {
    text: String,
    reason: &'static str,
}

impl FromStr for SubjectName {
    type Err = ParseSubjectNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| ParseSubjectNameError { text: text.chars().take(80).collect(), reason };
        let (kind, name) = text.split_once(':').unwrap_or(("", text));
        match kind {
            "dns" if name.contains('*') => Err(refuse("there are no wildcards, each name stands for itself")),
            "dns" => Self::dns(name).ok_or_else(|| refuse("what follows dns: is not a DNS name")),
            "ip" => name.parse().map(Self::ip).map_err(|_| refuse("what follows ip: is not an IP address")),
            "uri" => Self::uri(name)
                .ok_or_else(|| refuse("what follows uri: is not a URI, such as spiffe://example/worker")),
            "email" => Self::email(name).ok_or_else(|| refuse("what follows email: is not a mail address")),
            _ => Err(refuse("it begins with its kind: dns:, ip:, uri: or email:")),
        }
    }
}

/// The names in a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectNames {
    names: Vec<SubjectName>,
    others: usize,
}

impl SubjectNames {
    /// The names that the certificate `der` holds.
    pub(crate) fn of(der: &CertificateDer<'_>) -> Self {
        let Ok(certificate) = files::parse(der) else { return Self::default() };
        let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Self::default() };
        let mut found = Self::default();
        for name in &extension.value.general_names {
            match SubjectName::read(name) {
                Some(name) if found.names.contains(&name) => {}
                Some(name) if found.names.len() < MAX_NAMES => found.names.push(name),
                _ => found.others += 1,
            }
        }
        found
    }

    /// Those that can be used, in their order.
    #[must_use]
    pub fn names(&self) -> &[SubjectName] {
        &self.names
    }

    /// How many further ones there are: of other kinds, or not what their kind should be (control characters,
    /// wildcards, too long), or too many.
    #[must_use]
    pub const fn others(&self) -> usize {
        self.others
    }
}

impl fmt::Display for SubjectNames {
    /// In one line, of bounded length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.is_empty() {
            f.write_str("no usable name")?;
        }
        for (at, name) in self.names.iter().take(MAX_SHOWN).enumerate() {
            let name = name.to_string();
            f.write_str(if at == 0 { "" } else { ", " })?;
            // ASCII: every place is a character's.
            match name.get(..MAX_SHOWN_LEN).filter(|_| name.len() > MAX_SHOWN_LEN) {
                Some(start) => write!(f, "{start}...")?,
                None => f.write_str(&name)?,
            }
        }
        match self.names.len().saturating_sub(MAX_SHOWN) {
            0 => {}
            more => write!(f, " and {more} more")?,
        }
        match self.others {
            0 => Ok(()),
            others => write!(f, " ({others} unusable)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn name(text: &str) -> SubjectName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_reads_as_it_prints() {
        for text in [
            "dns:worker-7.example",
            "ip:10.0.0.7",
            "ip:fd00::7",
            "uri:spiffe://example/worker/7",
            "uri:urn:uuid:1",
            "email:Ops@example",
        ] {
            assert_eq!(name(text).to_string(), text);
        }
    }

    #[test]
    fn spellings_of_one_name_are_equal_and_kinds_differ() {
        assert_eq!(name("dns:Worker.Example."), name("dns:worker.example"));
        assert_eq!(name("ip:::ffff:10.0.0.7"), name("ip:10.0.0.7"));
        assert_eq!(name("ip:fd00:0::7"), name("ip:fd00::7"));
        assert_eq!(name("email:ops@EXAMPLE"), name("email:ops@example"));
        assert_ne!(name("email:Ops@example"), name("email:ops@example"));
        assert_ne!(name("uri:spiffe://Example/a"), name("uri:spiffe://example/a"));
        assert_ne!(name("uri:dns:a"), name("dns:a"));
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        for (text, reason) in [
            ("worker", "begins with its kind"),
            ("host:worker", "begins with its kind"),
            ("", "begins with its kind"),
            ("DNS:worker", "begins with its kind"),
            ("dns:", "not a DNS name"),
            ("dns:a b", "not a DNS name"),
            ("dns:*.example", "no wildcards"),
            ("ip:10.0.0", "not an IP address"),
            ("ip:10.0.0.0/8", "not an IP address"),
            ("uri:", "not a URI"),
            ("uri:no-scheme", "not a URI"),
            ("uri:1a:b", "not a URI"),
            ("uri:spiffe://a b", "not a URI"),
            ("uri:spiffe://é", "not a URI"),
            ("email:nobody", "not a mail address"),
            ("email:@example", "not a mail address"),
        ] {
            let error = text.parse::<SubjectName>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
        let long = format!("uri:spiffe://{}", "x".repeat(MAX_LEN));
        assert!(long.parse::<SubjectName>().unwrap_err().to_string().len() < 300);
    }

    fn certificate(names: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn the_names_of_a_certificate_are_found_by_their_kinds() {
        let names = SubjectNames::of(&certificate(vec![
            SanType::DnsName("Worker-7.example".try_into().unwrap()),
            SanType::IpAddress("10.0.0.7".parse().unwrap()),
            SanType::URI("spiffe://example/worker/7".try_into().unwrap()),
            SanType::Rfc822Name("ops@example".try_into().unwrap()),
            SanType::DnsName("worker-7.EXAMPLE".try_into().unwrap()),
        ]));
        let expected =
            ["dns:worker-7.example", "ip:10.0.0.7", "uri:spiffe://example/worker/7", "email:ops@example"];
        assert_eq!(names.names(), expected.map(name));
        assert_eq!(names.to_string(), expected.join(", "));
    }

    #[test]
    fn hostile_names_are_counted_and_never_shown() {
        let hostile = [
            SanType::DnsName("a\x1b[2J.example".try_into().unwrap()),
            SanType::DnsName("*.example".try_into().unwrap()),
            SanType::DnsName("a\n2026 INFO all is well".try_into().unwrap()),
            SanType::URI("spiffe://a\r\nb".try_into().unwrap()),
            SanType::URI(format!("spiffe://{}", "x".repeat(MAX_LEN)).as_str().try_into().unwrap()),
            SanType::Rfc822Name("a@b, dns:admin.example".try_into().unwrap()),
        ];
        let count = hostile.len();
        let names = SubjectNames::of(&certificate(hostile.into()));
        assert_eq!((names.names(), names.others()), (&[][..], count));
        assert_eq!(names.to_string(), "no usable name (6 unusable)");
    }

    #[test]
    fn what_is_shown_is_bounded_however_many_and_long_the_names_are() {
        let long = |n: usize| {
            let uri = format!("spiffe://{n}/{}", "x".repeat(1000));
            SanType::URI(uri.as_str().try_into().unwrap())
        };
        let names = SubjectNames::of(&certificate((0..100).map(long).collect()));
        assert_eq!((names.names().len(), names.others()), (MAX_NAMES, 100 - MAX_NAMES));
        let shown = names.to_string();
        assert!(shown.len() < 2000 && shown.ends_with(" and 56 more (36 unusable)"), "{shown}");
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_names() {
        assert_eq!(SubjectNames::of(&CertificateDer::from(vec![0x30, 0x80])), SubjectNames::default());
    }
}
