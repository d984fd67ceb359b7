//! What a user can do about an error, by this program's options, which the libraries don't know.

use core::fmt;
use secure_rdma::certs::CertsError;
use secure_rdma::rustls::AlertDescription;
use secure_rdma::tls::{Peer, TlsError};
use secure_rdma::{AllowError, Report, SealPolicy, SessionError};
use std::borrow::Cow;

type Advice = Option<Cow<'static, str>>;

/// A session's error with its causes, and what to do.
pub(crate) struct Told<'a>(pub(crate) &'a SessionError);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Report::new(self.0).fmt(f)?;
        match session(self.0) {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

/// For an error of a session.
pub(crate) fn session(error: &SessionError) -> Advice {
    let advice = match error {
        SessionError::Resolve { .. } => "check the name, or give an IP address",
        SessionError::Connect { .. } => "is the server running there, and does the network let TCP through?",
        SessionError::Listen { .. } => "is another server running there? choose another --listen",
        SessionError::Tls(error) => return tls(error),
        SessionError::Device(error) => return device(error),
        SessionError::Withdrawn(reason) => return session(reason),
        SessionError::Seal { own: SealPolicy::Off, .. } => {
            "start this side without --seal off, or, if the data may travel in clear, the peer with --seal optional"
        }
        SessionError::Seal { .. } => {
            "start the peer without --seal off, or, if the data may travel in clear, this side with --seal optional"
        }
        SessionError::NoPackets { .. } => {
            "use the embedded device on both sides (--device embedded), or, on the side that has the kernel's, --seal \
             packets and CAP_NET_ADMIN, or take sealed messages too (--seal required)"
        }
        SessionError::Kernel(_) => "take sealed messages too (--seal required), or use --device embedded",
        SessionError::ForeignAddress { connected, .. } => {
            let advice = format!(
                "on the peer: --device embedded:{connected}, or NAME:PORT:GID_INDEX with the GID of {connected}"
            );
            return Some(advice.into());
        }
        SessionError::Retired(_) => "--max-session-age says so",
        SessionError::Stale => "--on-reload-failure close says so",
        SessionError::Full { .. } => "--max-clients says how many it serves",
        SessionError::Quota { .. } => {
            "or raise `sessions` in its entry of the list of allowed clients, or --max-clients-per-identity or \
             --max-clients-per-address"
        }
        SessionError::Crowded => "--max-handshakes says how many it does",
        SessionError::NoCounters => {
            "start the server with --counters on if they may travel in clear, or use the embedded device on both \
             sides; a list of allowed clients has to allow this one \"atomic\""
        }
        _ => return None,
    };
    Some(advice.into())
}

/// For an error of a TLS handshake.
fn tls(error: &TlsError) -> Advice {
    use AlertDescription as Alert;
    let advice = match error {
        TlsError::Certificates(error) | TlsError::AllowList(AllowError::Read(error)) => {
            return certificates(error);
        }
        TlsError::AllowList(AllowError::Region { .. }) => "raise --region, or lower this",
        TlsError::NotTrusted { peer: Peer::Server, .. } => {
            "if it is the right server, give its CA: --ca FILE or --pin sha256:… (the server prints it at its start)"
        }
        TlsError::RevocationUnknown { .. } => "add it to the file of --crl",
        TlsError::RevocationsExpired { .. } => {
            "get a new one from that CA for --crl (of a private CA: secure-rdma certs revoke)"
        }
        TlsError::BadRevocations { .. } => "see --crl",
        TlsError::Refused { peer: Peer::Server, alert: Alert::CertificateRequired } => {
            "have its CA issue one (secure-rdma certs issue NAME --client --bundle FILE) and connect with that \
             (--identity FILE)"
        }
        TlsError::Refused { peer: Peer::Client, alert: Alert::UnknownCA | Alert::DecryptError } => {
            "it needs --ca FILE or --pin with the fingerprint that this server printed at its start"
        }
        _ => return None,
    };
    Some(advice.into())
}

/// For an error of certificates and their files.
pub(crate) fn certificates(error: &CertsError) -> Advice {
    let advice = match error {
        CertsError::NoHome => "give --certs DIR",
        CertsError::NoAuthority { .. } => {
            "start a server on this account first, or say whom to trust with --ca FILE or --pin sha256:… (the server \
             prints it at its start)"
        }
        CertsError::RevocationsExpired { .. } => {
            "get a new one from that CA for --crl (of a private CA: secure-rdma certs revoke)"
        }
        CertsError::NothingToRevoke { .. } => {
            "secure-rdma certs show lists them; one that isn't listed is revoked by its file or its serial number"
        }
        CertsError::CannotRevoke { .. } => {
            "make another with `secure-rdma certs init` in a new directory, or do without revocation"
        }
        _ => return None,
    };
    Some(advice.into())
}

/// For an error of an RDMA device.
pub(crate) fn device(error: &rdma_verbs::Error) -> Advice {
    use rdma_verbs::Error;
    let advice = match error {
        Error::NoLibrary { .. } => "or use --device embedded, which needs no library",
        Error::NoDevices { .. } => {
            "or use --device embedded, which needs neither hardware nor a kernel module"
        }
        Error::NoSuchDevice { .. } => "`secure-rdma devices` shows them all; or use --device embedded",
        Error::NoGid { .. } => {
            "let the peer connect by one of these addresses, or choose a GID yourself: --device NAME:PORT:GID_INDEX"
        }
        Error::Unreachable { .. } => {
            "choose devices and GIDs that can reach each other: --device NAME:PORT:GID_INDEX, --device embedded:ADDR"
        }
        _ => return None,
    };
    Some(advice.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::SecureRdma;
    use clap::{Command, CommandFactory};
    use std::collections::BTreeSet;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::time::Duration;

    /// Every option of the program.
    fn options(command: &Command, found: &mut BTreeSet<String>) {
        found.extend(command.get_arguments().filter_map(|argument| argument.get_long()).map(str::to_owned));
        command.get_subcommands().for_each(|command| options(command, found));
    }

    fn refused(peer: Peer, alert: AlertDescription) -> SessionError {
        SessionError::Tls(Arc::new(TlsError::Refused { peer, alert }))
    }

    /// A sample of what has advice.
    fn errors() -> Vec<SessionError> {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, 4433).into();
        let io = || Arc::new(std::io::Error::from(std::io::ErrorKind::AddrInUse));
        let host: IpAddr = address.ip();
        let certificates = |error: CertsError| SessionError::Tls(Arc::new(error.into()));
        vec![
            SessionError::Resolve { host: "nowhere".into(), source: io() },
            SessionError::Connect { address, source: io() },
            SessionError::Listen { address, source: io() },
            SessionError::Seal { own: SealPolicy::Off, peer: SealPolicy::Required },
            SessionError::Seal { own: SealPolicy::Required, peer: SealPolicy::Off },
            SessionError::NoPackets { who: "the peer" },
            SessionError::ForeignAddress { connected: host, named: host },
            SessionError::Withdrawn(Arc::new(SessionError::Retired(Duration::ZERO))),
            SessionError::Stale,
            SessionError::Full { max: 1 },
            SessionError::Quota { client: "one".into(), max: 1 },
            SessionError::Crowded,
            SessionError::NoCounters,
            SessionError::Tls(Arc::new(TlsError::RevocationUnknown { peer: Peer::Client })),
            SessionError::Tls(Arc::new(TlsError::NotTrusted { peer: Peer::Server, found: String::new() })),
            refused(Peer::Server, AlertDescription::CertificateRequired),
            refused(Peer::Client, AlertDescription::UnknownCA),
            certificates(CertsError::NoHome),
            certificates(CertsError::NoAuthority { dir: "state".into() }),
            certificates(CertsError::NothingToRevoke { name: "x".into(), dir: "state".into() }),
            certificates(CertsError::CannotRevoke { authority: "x".into() }),
        ]
    }

    #[test]
    fn every_option_that_is_advised_is_there() {
        let mut known = BTreeSet::new();
        options(&SecureRdma::command(), &mut known);
        for error in errors() {
            let told = Told(&error).to_string();
            let advice = session(&error).expect("advice");
            assert!(told.ends_with(&*advice) && told.len() > advice.len() + 2, "{told}");
            for word in advice.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
                if let Some(option) = word.strip_prefix("--") {
                    assert!(known.contains(option), "{advice}");
                }
            }
        }
    }

    #[test]
    fn a_library_says_nothing_of_a_programs_options() {
        for error in errors() {
            let report = Report::new(&error).to_string();
            assert!(!report.contains("--"), "{report}");
        }
    }
}
