//! What a failed handshake means.

use core::fmt;
use core::time::Duration;
use std::io;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{AlertDescription, CertificateError, PeerIncompatible};

use super::trust::Trust;
use crate::allow::AllowError;
use crate::certs::{CertificateInfo, CertsError, Fingerprint, Timestamp};

/// The most names of a certificate that an error lists.
const MAX_NAMES_SHOWN: usize = 12;

/// Whom an error is about: the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The client; the error is the server's.
    Client,
    /// The server; the error is the client's.
    Server,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// This side's certificates can't be used.
    #[error(transparent)]
    Certificates(#[from] CertsError),
    /// The list of allowed clients can't be used.
    #[error(transparent)]
    AllowList(#[from] AllowError),
    /// rustls refused this side's configuration.
    #[error("TLS can't be set up")]
    Configuration(#[source] rustls::Error),

    /// The peer's certificate isn't by a CA that is trusted.
    #[error("the {peer}'s certificate is not by a CA that is trusted here: {found}")]
    NotTrusted {
        /// Whose certificate.
        peer: Peer,
        /// What was expected and found, and what to do.
        found: String,
    },
    /// The server's certificate is for other names.
    #[error("the server's certificate is not for {expected} but for {names}: connect under one of those \
        names, or have the server's certificate issued for {expected} too", names = list(presented))]
    WrongName {
        /// The name that the client verifies.
        expected: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The peer's certificate, or its CA's, has ended.
    #[error(
        "the {peer}'s certificate ended on {not_after}; it is {now} now: {remedy}, unless this side's clock \
         is wrong", remedy = renewal(*peer)
    )]
    Expired {
        /// Whose certificate.
        peer: Peer,
        /// When it ended.
        not_after: Timestamp,
        /// When it was verified.
        now: Timestamp,
    },
    /// The peer's certificate, or its CA's, hasn't begun.
    #[error(
        "the {peer}'s certificate begins on {not_before}; it is {now} now: is one of the two clocks wrong?"
    )]
    NotYetValid {
        /// Whose certificate.
        peer: Peer,
        /// When it begins.
        not_before: Timestamp,
        /// When it was verified.
        now: Timestamp,
    },
    /// The peer's certificate, or its CA's, was revoked.
    #[error("the {peer}'s certificate has been revoked by its CA: {remedy}", remedy = reissue(*peer))]
    Revoked {
        /// Whose certificate.
        peer: Peer,
    },
    /// No revocation list tells of the peer's certificate.
    #[error(
        "whether the {peer}'s certificate has been revoked isn't known: there is no revocation list of the CA that \
         issued it, or issued a CA between"
    )]
    RevocationUnknown {
        /// Whose certificate.
        peer: Peer,
    },
    /// The revocation list that tells of the peer's certificate has ended.
    #[error(
        "whether the {peer}'s certificate has been revoked isn't known: its CA's revocation list \
         ended{when}", when = ended(*next_update)
    )]
    RevocationsExpired {
        /// Whose certificate.
        peer: Peer,
        /// When it ended, if that is known.
        next_update: Option<Timestamp>,
    },
    /// The revocation list that tells of the peer's certificate can't be used.
    #[error("the {peer}'s certificate can't be checked: its CA's revocation list is wrong: {reason}")]
    BadRevocations {
        /// Whose certificate.
        peer: Peer,
        /// rustls' words.
        reason: String,
    },
    /// A client's certificate used by a server, or the reverse.
    #[error("the {peer}'s certificate was not issued for a {peer}: issue one of that kind")]
    WrongPurpose {
        /// Whose certificate.
        peer: Peer,
    },
    /// The peer's certificate, or the proof that it is the peer's, is wrong in another way.
    #[error("the {peer}'s certificate is refused: {reason}")]
    BadCertificate {
        /// Whose certificate.
        peer: Peer,
        /// rustls' words.
        reason: String,
    },
    /// A client without the certificate that the server requires.
    #[error("the client showed no certificate, and this server requires one")]
    NoClientCertificate,

    /// The peer refused, and said why by an alert.
    #[error("the {peer} refused the connection: {meaning}", meaning = meaning(*peer, *alert))]
    Refused {
        /// Who refused.
        peer: Peer,
        /// TLS's code for the reason (RFC 8446, section 6.2).
        alert: AlertDescription,
    },
    /// The peer doesn't speak TLS.
    #[error(
        "the {peer} sent what is not TLS ({reason}): it is not a secure-rdma {peer}, or something on the \
         path changed its bytes"
    )]
    NotTls {
        /// Who sent it.
        peer: Peer,
        /// rustls' words.
        reason: String,
    },
    /// The peer speaks only older versions of TLS.
    #[error("the {peer} doesn't speak TLS 1.3, and nothing older is accepted")]
    Version {
        /// Who doesn't.
        peer: Peer,
    },
    /// The peer speaks TLS, but not this protocol inside it.
    #[error(
        "the {peer} speaks TLS but not secure-rdma/1 (ALPN): it is another service's {peer}, or another \
         version of this one's"
    )]
    Protocol {
        /// Who doesn't.
        peer: Peer,
    },
    /// The peer's and this side's cryptography have nothing in common.
    #[error("the {peer} and this side have no TLS 1.3 cryptography in common: {reason}")]
    Incompatible {
        /// Whose.
        peer: Peer,
        /// rustls' words.
        reason: String,
    },
    /// The peer closed the connection in the middle.
    #[error("the {peer} closed the connection before the TLS handshake was done")]
    Closed {
        /// Who closed it.
        peer: Peer,
    },
    /// The handshake took too long.
    #[error("the TLS handshake with the {peer} was not done in {limit:?}")]
    TimedOut {
        /// With whom.
        peer: Peer,
        /// The time allowed.
        limit: Duration,
    },
    /// The peer broke TLS's rules.
    #[error("TLS with the {peer} failed")]
    Failed {
        /// Who.
        peer: Peer,
        /// rustls' words.
        source: rustls::Error,
    },
    /// The connection failed.
    #[error("the connection to the {peer} failed")]
    Io {
        /// To whom.
        peer: Peer,
        /// How.
        source: io::Error,
    },
}

/// What a client knows when its handshake fails.
pub(super) struct Attempt<'a> {
    pub(super) trust: &'a Trust,
    /// The certificates that the server sent, its own first.
    pub(super) presented: &'a [CertificateDer<'static>],
}

impl TlsError {
    /// What an I/O error on a TLS connection with `peer` means: during the handshake, and also after it,
    /// since with TLS 1.3 a server's refusal of its client's certificate comes to the client where it first
    /// reads.
    #[must_use]
    pub fn from_io(error: io::Error, peer: Peer) -> Self {
        Self::classify(error, peer, None)
    }

    /// The same for a client that tried something.
    pub(super) fn of_attempt(error: io::Error, attempt: &Attempt<'_>) -> Self {
        Self::classify(error, Peer::Server, Some(attempt))
    }

    fn classify(error: io::Error, peer: Peer, attempt: Option<&Attempt<'_>>) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (tls, error.kind()) {
            (Some(tls), _) => Self::of_rustls(tls.clone(), peer, attempt),
            (None, UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe) => Self::Closed { peer },
            (None, _) => Self::Io { peer, source: error },
        }
    }

    pub(super) fn of_rustls(error: rustls::Error, peer: Peer, attempt: Option<&Attempt<'_>>) -> Self {
        use PeerIncompatible as P;
        use rustls::Error as E;
        match error {
            E::InvalidCertificate(error) => Self::of_certificate(&error, peer, attempt),
            E::InvalidCertRevocationList(reason) => {
                Self::BadRevocations { peer, reason: format!("{reason:?}") }
            }
            E::NoCertificatesPresented => Self::NoClientCertificate,
            E::AlertReceived(alert) => Self::Refused { peer, alert },
            E::NoApplicationProtocol => Self::Protocol { peer },
            E::InvalidMessage(reason) => Self::NotTls { peer, reason: format!("{reason:?}") },
            E::PeerIncompatible(
                P::SupportedVersionsExtensionRequired
                | P::Tls12NotOffered
                | P::Tls12NotOfferedOrEnabled
                | P::ServerDoesNotSupportTls12Or13
                | P::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::Version { peer },
            E::PeerIncompatible(reason) => Self::Incompatible { peer, reason: format!("{reason:?}") },
            source => Self::Failed { peer, source },
        }
    }

    fn of_certificate(error: &CertificateError, peer: Peer, attempt: Option<&Attempt<'_>>) -> Self {
        use CertificateError as C;
        let presented = attempt.and_then(|attempt| attempt.presented.first());
        let info = presented.and_then(|der| CertificateInfo::read("".into(), der).ok());
        match error {
            C::UnknownIssuer => Self::NotTrusted { peer, found: not_trusted(attempt, info.as_ref()) },
            C::NotValidForNameContext { expected, presented } => Self::WrongName {
                expected: expected.to_str().into_owned(),
                // The certificate's own words are clearer than rustls' rendering of them.
                presented: info.map_or_else(|| presented.clone(), |info| info.names),
            },
            C::ExpiredContext { time, not_after } => {
                Self::Expired { peer, not_after: moment(not_after), now: moment(time) }
            }
            C::NotValidYetContext { time, not_before } => {
                Self::NotYetValid { peer, not_before: moment(not_before), now: moment(time) }
            }
            C::Revoked => Self::Revoked { peer },
            C::UnknownRevocationStatus => Self::RevocationUnknown { peer },
            C::ExpiredRevocationListContext { next_update, .. } => {
                Self::RevocationsExpired { peer, next_update: Some(moment(next_update)) }
            }
            C::ExpiredRevocationList => Self::RevocationsExpired { peer, next_update: None },
            C::InvalidPurpose | C::InvalidPurposeContext { .. } => Self::WrongPurpose { peer },
            other => Self::BadCertificate { peer, reason: other.to_string() },
        }
    }
}

fn moment(time: &UnixTime) -> Timestamp {
    Timestamp::from(*time)
}

/// What was tried, what was found and what to do, where a certificate's CA isn't trusted.
///
/// The fingerprint of the CA that came along isn't shown: who copies it into a [`Trust::Pin`] trusts whoever answered.
fn not_trusted(attempt: Option<&Attempt<'_>>, found: Option<&CertificateInfo>) -> String {
    let issuer = found.map_or_else(|| "an unknown issuer".into(), |info| format!("\"{}\"", info.issuer));
    let Some(attempt) = attempt else {
        return "use one that the CA given for clients has issued".into();
    };
    match attempt.trust {
        Trust::Pin(pin) if attempt.presented.first().is_some_and(|der| Fingerprint::of(der) == *pin) => {
            format!(
                "{pin} is the fingerprint of the server's own certificate; give that of its CA, which the \
                 server prints at its start"
            )
        }
        Trust::Pin(pin) => {
            format!(
                "it is by {issuer}, and not by the CA {pin}. Compare that with the fingerprint that the \
                 server prints at its start"
            )
        }
        trust => {
            format!("it is by {issuer}; {trust} would be trusted")
        }
    }
}

fn renewal(peer: Peer) -> &'static str {
    match peer {
        Peer::Client => "the client needs a new one",
        Peer::Server => "start the server again, which then replaces its own",
    }
}

fn reissue(peer: Peer) -> &'static str {
    match peer {
        Peer::Client => "the client needs a new one",
        Peer::Server => "the server needs a new one",
    }
}

fn ended(moment: Option<Timestamp>) -> String {
    moment.map(|moment| format!(" on {moment}")).unwrap_or_default()
}

fn list(names: &[String]) -> String {
    let shown = names.iter().take(MAX_NAMES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES_SHOWN) {
        0 if names.is_empty() => "no name at all".into(),
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What an alert from `peer` means to this side.
fn meaning(peer: Peer, alert: AlertDescription) -> String {
    use AlertDescription as A;
    let meaning = match (peer, alert) {
        (_, A::ProtocolVersion) => "it doesn't speak TLS 1.3",
        (_, A::NoApplicationProtocol) => "it speaks TLS but not secure-rdma/1 (ALPN): is it another service?",
        (_, A::HandshakeFailure | A::InsufficientSecurity) => {
            "it has no TLS 1.3 cryptography in common with this side"
        }
        (Peer::Server, A::CertificateRequired) => "it requires a client certificate",
        (Peer::Server, A::UnknownCA | A::DecryptError) => {
            "it doesn't trust the CA of this client's certificate, or has no current revocation list of that CA"
        }
        (Peer::Server, A::CertificateRevoked) => {
            "this client's certificate has been revoked: have another one issued"
        }
        (Peer::Client, A::CertificateRevoked) => "this server's certificate has been revoked",
        (Peer::Server, A::CertificateExpired) => "this client's certificate has ended, or not begun",
        (Peer::Server, A::UnsupportedCertificate) => "this client's certificate was not issued for a client",
        (Peer::Client, A::UnknownCA | A::DecryptError) => "it doesn't trust this server's CA",
        (Peer::Client, A::BadCertificate) => {
            "this server's certificate is not for the name that it connects to"
        }
        (Peer::Client, A::CertificateExpired) => {
            "to its clock this server's certificate has ended, or not begun"
        }
        (Peer::Client, A::UnsupportedCertificate) => "this server's certificate was not issued for a server",
        (_, A::BadCertificate | A::CertificateUnknown | A::AccessDenied) => {
            "it doesn't accept this side's certificate"
        }
        _ => return format!("TLS alert {alert:?}"),
    };
    format!("{meaning} (TLS alert {alert:?})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_names_is_cut() {
        let names = |count: usize| (0..count).map(|n| format!("n{n}")).collect::<Vec<_>>();
        assert_eq!(list(&names(0)), "no name at all");
        assert_eq!(list(&names(2)), "n0, n1");
        assert!(list(&names(MAX_NAMES_SHOWN + 5)).ends_with("n11 and 5 more"));
    }
}
