//! Why there are no keys for a pair.

use crate::SessionError;
use crate::certs::{CertsError, SubjectNames};
use crate::seal::SealError;
use crate::tls::TlsError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Why there are no keys for a pair, or not any more.
///
/// Each says what failed, and leaves the rest to its [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PairError {
    /// This side's certificates can't be used.
    #[error(transparent)]
    Certificates(#[from] CertsError),
    /// The handshake failed, or this side's TLS can't be set up, from files that are wrong as a rule.
    #[error(transparent)]
    Tls(#[from] Arc<TlsError>),
    /// A connection that came didn't get through its handshake, or none can be accepted.
    #[error(transparent)]
    Accepting(#[from] SessionError),
    /// The peer's agent can't be reached.
    #[error(
        "no agent answers at TCP {address}: is a program there that was started by `secure-rdma run --seal`, or \
         `secure-rdma agent --kernel`, and does the firewall let the port through?"
    )]
    Reach {
        /// Where it should be.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The peer's certificate is good, and not for the address that was named.
    #[error("the certificate of the agent at {address} is for {names}, not for {expected}")]
    Address {
        /// The address that a program named, or that the peer claims.
        address: IpAddr,
        /// The name that the certificate has to have.
        expected: String,
        /// Those that it has.
        names: SubjectNames,
    },
    /// The peer isn't on the list of those that are allowed.
    #[error("the agent of {names} is not on this side's list of who is allowed")]
    NotListed {
        /// The names in its certificate.
        names: SubjectNames,
    },
    /// The list allows the peer less than a program can do.
    #[error(
        "this side's list allows the agent of {names} only {operations}: packets of programs can't be told apart, so \
         it needs send, write, read and atomic"
    )]
    Limited {
        /// The names in its certificate.
        names: SubjectNames,
        /// What it may do.
        operations: String,
    },
    /// The peer's agent says no.
    #[error("the peer's agent refuses: {0}")]
    Refused(Refusal),
    /// The peer has said what nobody says there, or too much.
    #[error(
        "the peer's agent said something that makes no sense here: it speaks another protocol, or is broken"
    )]
    Protocol,
    /// It took too long.
    #[error("the peer's agent didn't answer within {0:?}")]
    TimedOut(Duration),
    /// The connection has ended: the peer's program or its agent has.
    #[error(
        "the connection to the peer's agent has ended: its program has ended, or its agent, or the network"
    )]
    Closed(#[source] Option<io::Error>),
    /// Deriving keys failed.
    #[error("deriving keys")]
    Keys(#[from] SealError),
}

/// Why an agent refuses a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such device, or its program isn't sealed.
    #[error(
        "no program there was started with --seal and has that queue pair number or, for connections, uses librdmacm"
    )]
    NoDevice,
    /// Both have begun at the same time: this handshake gives way to the other.
    #[error("both sides began at the same time")]
    Crossed,
    /// It speaks another version.
    #[error("it speaks another version of the agents' protocol: update the older one")]
    Version,
    /// By its rules the peer may not.
    #[error(
        "its rules don't allow this host: its list of who is allowed, or the address in this host's certificate"
    )]
    NotAllowed,
    /// The program there didn't get ready in time.
    #[error("the program there didn't answer its agent in time")]
    NotReady,
    /// A kernel is there, and its agent wasn't started for the asking side's address.
    #[error(
        "its kernel seals for the addresses alone that its agent was started with (--peer), not for this one"
    )]
    NotNamed,
    /// A kernel is there, which seals for another device of the asking side's address already.
    #[error(
        "its kernel seals for another program at this host's address already, and can for one at a time: end that one"
    )]
    Busy,
}

impl Refusal {
    const ALL: [Self; 7] = [
        Self::NoDevice,
        Self::Crossed,
        Self::Version,
        Self::NotAllowed,
        Self::NotReady,
        Self::NotNamed,
        Self::Busy,
    ];

    pub(super) fn code(self) -> u8 {
        match self {
            Self::NoDevice => 1,
            Self::Crossed => 2,
            Self::Version => 3,
            Self::NotAllowed => 4,
            Self::NotReady => 5,
            Self::NotNamed => 6,
            Self::Busy => 7,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.code() == code)
    }
}
