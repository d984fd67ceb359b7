//! Why a session didn't come to be, or came to an end.

use crate::certs::{Fingerprint, SubjectNames};
use crate::control::{ControlError, ErrorCode, ErrorKind, Invalid, SealPolicy, Text};
use crate::report::Report;
use crate::seal::SealError;
use crate::tls::TlsError;
use rdma_verbs::Status;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Why a session didn't come to be, or came to an end.
///
/// Each says what failed, and leaves the rest to its [`source`](std::error::Error::source): [`Report`] shows both.
/// Causes that can't be cloned are in an [`Arc`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The host's name means no address.
    #[error("{host}: no such host")]
    Resolve {
        /// What was asked for.
        host: String,
        /// What the resolver said.
        source: Arc<io::Error>,
    },
    /// Nobody could be reached there.
    #[error("can't connect to {address}")]
    Connect {
        /// What was tried.
        address: SocketAddr,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The server can't have its address.
    #[error("can't listen at {address}")]
    Listen {
        /// What was tried.
        address: SocketAddr,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The TLS handshake failed.
    #[error(transparent)]
    Tls(#[from] Arc<TlsError>),
    /// The control channel failed.
    #[error("{step}")]
    Control {
        /// What was being done.
        step: &'static str,
        /// What happened.
        source: Arc<ControlError>,
    },
    /// The peer sent another record than the protocol has there.
    #[error("{step}: the peer sent a {found} record; it speaks another protocol, or is broken")]
    Unexpected {
        /// What was being done.
        step: &'static str,
        /// What came.
        found: &'static str,
    },
    /// Another version of the protocol.
    #[error(
        "the peer speaks version {peer} of the session protocol, this side version {own}; update the older one"
    )]
    Version {
        /// This side's.
        own: u16,
        /// The peer's.
        peer: u16,
    },
    /// One side insists on a sealed data path, the other on an open one.
    #[error("the data path can't be agreed on: {}", disagreement(*.own))]
    Seal {
        /// This side's policy.
        own: SealPolicy,
        /// The peer's.
        peer: SealPolicy,
    },
    /// One side insists on sealed packets, and a device can't seal them.
    #[error(
        "packets are to be sealed, and {who} can't: its device isn't the embedded one and the kernel doesn't seal for \
         it, or its software is too old"
    )]
    NoPackets {
        /// Whose.
        who: &'static str,
    },
    /// Packets are to be sealed by this host's kernel, and it doesn't.
    #[error("having the kernel seal packets")]
    Kernel(#[source] Arc<secure_rdma_xfrm::Error>),
    /// A kernel has one security association for each pair of addresses, and there is one that isn't this session's.
    #[error(
        "a kernel seals packets for one program at each of two addresses at a time, and between this host and {peer} \
         it does so for others, or for sessions that are ending"
    )]
    OtherAssociation {
        /// The peer's address.
        peer: IpAddr,
    },
    /// What came over the sealed data path isn't what the peer sealed.
    #[error("the data path is under attack, or broken")]
    Forged(#[source] SealError),
    /// Not what one side sent has arrived, although the network said so.
    #[error(
        "{who} sent {sent} fragments of messages and manifests, but {arrived} arrived: on the way some were left out, \
         or put in; the data path is under attack, or broken"
    )]
    Truncated {
        /// Whose.
        who: &'static str,
        /// How many it sent.
        sent: u64,
        /// How many arrived.
        arrived: u64,
    },
    /// The data path can't be sealed, or not any more.
    #[error("sealing the data path")]
    Sealing(#[source] SealError),
    /// The peer wants RDMA packets sent to an address that isn't its own.
    #[error(
        "the peer is connected from {connected} but names {named} as its RDMA address: packets are only \
         sent to the host that was authenticated; connect by the address that the RDMA device has"
    )]
    ForeignAddress {
        /// Where the control connection comes from.
        connected: IpAddr,
        /// What the peer named.
        named: IpAddr,
    },
    /// Packets that go where the peer says would reach somebody else, or nobody.
    #[error("no packets are sent to {peer}: {reason}")]
    Path {
        /// Where the peer's queue pair is, by the peer's word.
        peer: IpAddr,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The server doesn't allow this client to do that. Nothing was done.
    #[error(
        "the server doesn't allow this client the operation {operation:?}: its list of allowed clients says \
         what each may do"
    )]
    NotAllowed {
        /// What was tried, as the list calls it.
        operation: &'static str,
    },
    /// A client that may not read wants to change a part of a slot that it has written before. Nothing was done.
    #[error(
        "a part of a sealed slot that was written before can be changed only by a client that may read the \
         rest of it: write whole slots of 4096 bytes, or have the server allow \"read\" too"
    )]
    PartOfSlot,
    /// The client did what it may not; its own library would have told it.
    #[error("the client {what}, which its entry in the list of allowed clients doesn't allow")]
    Overstepped {
        /// What it did.
        what: &'static str,
    },
    /// An operation arrived that sessions don't use.
    #[error(
        "{what} arrived, which no session sends: the peer breaks the protocol, or a packet was forged in its name"
    )]
    Protocol {
        /// Which one.
        what: &'static str,
    },
    /// Whoever sent a message was cancelled in its middle.
    #[error(
        "a message was cut short: what sent it was cancelled when a part of it was on its way, and the peer \
         would take the next message for its rest; let sending come to its end"
    )]
    CutShort,
    /// The client isn't on the server's list.
    #[error("the client is not on the list of allowed clients: {}", shown(.names, .fingerprint.as_ref()))]
    NotListed {
        /// The names in its certificate.
        names: SubjectNames,
        /// Its certificate's fingerprint, if it has one.
        fingerprint: Option<Fingerprint>,
    },
    /// The server has ended the session, because by its rules the client isn't let in any more, or not to
    /// do as much.
    #[error("ended by the server's rules as they are now")]
    Withdrawn(#[source] Arc<Self>),
    /// The session has lasted for as long as the server lets sessions last.
    #[error("sessions here last for {0:?} at most: the client may connect again")]
    Retired(Duration),
    /// The client may do less than it could when it came.
    #[error("the client may do less now: it came with {had}, and is allowed {now}; it may connect again")]
    Curtailed {
        /// What it could do.
        had: String,
        /// What it may do now.
        now: String,
    },
    /// The server lets nobody in until it can read its files.
    #[error(
        "the server lets no new client in: its certificates or lists have changed and can't be read; its log says \
         what is wrong with them"
    )]
    Stale,
    /// The peer ended the session and said why.
    #[error("the peer ended the session: {text}")]
    Peer {
        /// Its code.
        code: ErrorCode,
        /// Its words.
        text: Text<512>,
    },
    /// The server has no room.
    #[error("the server is full: it serves {max} clients at most; try again later")]
    Full {
        /// Its limit.
        max: usize,
    },
    /// This client has all the sessions that one may have.
    #[error("{client} has {max} sessions, all that one client may have; close one of them")]
    Quota {
        /// Who: an identity or an address.
        client: String,
        /// Its limit.
        max: usize,
    },
    /// The connection lost its place to another: there were too many unfinished handshakes.
    #[error(
        "its handshake was dropped: there were more than the server does at a time, or than one address may have \
         of them, and it was the oldest of the most numerous address"
    )]
    Crowded,
    /// Nothing at all came over the connection.
    #[error("not a byte came within {0:?}: it isn't a client, or the network is very slow")]
    NoHello(Duration),
    /// Nothing was heard for too long.
    #[error("nothing was heard from the peer for {0:?}: its process, its host or the network is gone")]
    Silent(Duration),
    /// The peer's heartbeat is a flood.
    #[error(
        "the peer sends more than {limit} records of the heartbeat a second: it is broken, or an attacker"
    )]
    Flooded {
        /// How many it may send in the long run.
        limit: u32,
    },
    /// A step took too long.
    #[error("{step}: it was not done within {limit:?}")]
    TimedOut {
        /// What was being done.
        step: &'static str,
        /// The time allowed.
        limit: Duration,
    },
    /// The session was closed before.
    #[error("the session is closed")]
    Closed,
    /// A message that the other side doesn't take.
    #[error("a message of {len} bytes is longer than the {limit} that {who} takes")]
    MessageTooLong {
        /// Its length, as far as known.
        len: u64,
        /// The limit.
        limit: u64,
        /// Whose limit.
        who: &'static str,
    },
    /// A one-sided operation outside the region.
    #[error("{len} bytes at offset {offset} reach outside the region, whose {part} has {size} bytes")]
    OutOfRegion {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
        /// Which part of the region.
        part: &'static str,
        /// Its size.
        size: u64,
    },
    /// The server gives this client no region.
    #[error("the peer has no region for one-sided operations")]
    NoRegion,
    /// The server withholds counters.
    #[error(
        "the server gives this client no counters for atomic operations (only sealed packets seal these)"
    )]
    NoCounters,
    /// An RDMA operation failed.
    #[error("{operation} failed with {status}: {}", meaning(*.status))]
    Operation {
        /// What was tried.
        operation: &'static str,
        /// How it completed.
        status: Status,
    },
    /// The device refused.
    #[error("RDMA device")]
    Device(#[source] Arc<rdma_verbs::Error>),
    /// The device took no work request.
    #[error("posting a work request")]
    Post(#[source] Arc<rdma_verbs::PostError>),
    /// What this side is can't be told in the protocol's records.
    #[error("describing this side to the peer")]
    Describe(#[source] Invalid),
    /// The system refused.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: Arc<io::Error>,
    },
}

/// What kind of failure it is: what a program goes by that wants to try again, or to tell its own user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionErrorKind {
    /// Nobody answers there: no such host, no connection.
    Unreachable,
    /// It took too long, or nothing was heard for too long.
    TimedOut,
    /// One side doesn't let the other in, or not any more, or not to do that: it isn't who it should be, isn't
    /// allowed, or there is no room for it.
    Refused,
    /// The session is over, or the connection under it.
    Closed,
    /// What came isn't what the peer sealed, or isn't all of it: somebody is at work on the path, or something is
    /// broken. Nothing that was carried may be used any more.
    NotAuthentic,
    /// The two sides don't speak the same protocol, can't agree on what they need, or one breaks its rules.
    Protocol,
    /// The caller asked for what can't be; nothing was done.
    InvalidInput,
    /// The device or the system failed.
    System,
}

impl SessionError {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> SessionErrorKind {
        use SessionErrorKind as Kind;
        match self {
            Self::Connect { source, .. } | Self::Resolve { source, .. } if is_late(source) => Kind::TimedOut,
            Self::Resolve { .. } | Self::Connect { .. } | Self::Path { .. } | Self::ForeignAddress { .. } => {
                Kind::Unreachable
            }
            Self::Tls(error) => kind_of_tls(error),
            Self::Control { source, .. } => kind_of_control(source),
            Self::Forged(_) | Self::Truncated { .. } => Kind::NotAuthentic,
            Self::TimedOut { .. } | Self::Silent(_) | Self::NoHello(_) => Kind::TimedOut,
            Self::Operation { status: Status::RetryExceeded | Status::RnrRetryExceeded, .. } => {
                Kind::TimedOut
            }
            Self::Operation { status: Status::Flushed, .. } | Self::Closed => Kind::Closed,
            Self::NotListed { .. }
            | Self::NotAllowed { .. }
            | Self::Overstepped { .. }
            | Self::Withdrawn(_)
            | Self::Retired(_)
            | Self::Curtailed { .. }
            | Self::Stale
            | Self::Full { .. }
            | Self::Quota { .. }
            | Self::Crowded
            | Self::Operation { .. } => Kind::Refused,
            Self::Peer { code, .. } => kind_of_peer(*code),
            Self::Unexpected { .. }
            | Self::Version { .. }
            | Self::Seal { .. }
            | Self::NoPackets { .. }
            | Self::OtherAssociation { .. }
            | Self::Protocol { .. }
            | Self::Flooded { .. }
            | Self::CutShort
            | Self::Sealing(SealError::Manifest(_) | SealError::Overused { .. }) => Kind::Protocol,
            Self::PartOfSlot
            | Self::MessageTooLong { .. }
            | Self::OutOfRegion { .. }
            | Self::NoRegion
            | Self::NoCounters => Kind::InvalidInput,
            Self::Listen { .. }
            | Self::Sealing(_)
            | Self::Device(_)
            | Self::Kernel(_)
            | Self::Post(_)
            | Self::Describe(_)
            | Self::System { .. } => Kind::System,
        }
    }

    /// Whether it took too long, or nothing was heard for too long. To try again may help.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == SessionErrorKind::TimedOut
    }

    /// Whether the session, or the connection under it, has ended. To connect again may help.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.kind() == SessionErrorKind::Closed
    }

    /// Whether one side doesn't let the other in, or not to do that. To try again at once doesn't help.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.kind() == SessionErrorKind::Refused
    }

    /// Whether nobody answers there.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.kind() == SessionErrorKind::Unreachable
    }

    /// Whether what came isn't what the peer sealed: an attack, or something broken on the path.
    #[must_use]
    pub fn is_not_authentic(&self) -> bool {
        self.kind() == SessionErrorKind::NotAuthentic
    }

    /// Whether the caller asked for what can't be. Nothing was done, and the session goes on.
    #[must_use]
    pub fn is_invalid_input(&self) -> bool {
        self.kind() == SessionErrorKind::InvalidInput
    }

    /// For `map_err`.
    pub(crate) fn control(step: &'static str, limit: Duration) -> impl FnOnce(ControlError) -> Self {
        move |error| match error {
            ControlError::TimedOut => Self::TimedOut { step, limit },
            error => Self::Control { step, source: error.into() },
        }
    }

    /// For `map_err`.
    pub(crate) fn kernel(error: secure_rdma_xfrm::Error) -> Self {
        Self::Kernel(Arc::new(error))
    }

    /// For `map_err`.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, source: error.into() }
    }

    /// Whether nothing that the data path carries may be used any more.
    pub(crate) fn is_of_sealing(&self) -> bool {
        matches!(self, Self::Forged(_) | Self::Truncated { .. } | Self::Sealing(_))
    }

    /// Whether the peer did what it may not, so that the session has to end.
    pub(crate) fn is_violation(&self) -> bool {
        matches!(self, Self::Overstepped { .. } | Self::Protocol { .. })
    }

    /// What the peer is told of it: the code and the words of an error record. Nothing secret is in them.
    pub(crate) fn for_peer(&self) -> Option<(ErrorKind, Text<512>)> {
        let kind = match self {
            Self::Control { source, .. } => match **source {
                ControlError::TooLong(_) | ControlError::Decode(_) | ControlError::Truncated { .. } => {
                    ErrorKind::Malformed
                }
                ControlError::Overdue(_) => ErrorKind::TimedOut,
                _ => return None,
            },
            Self::Unexpected { .. } | Self::Protocol { .. } => ErrorKind::Unexpected,
            Self::Version { .. } => ErrorKind::Version,
            Self::Seal { .. } | Self::NoPackets { .. } | Self::Kernel(_) | Self::OtherAssociation { .. } => {
                ErrorKind::Seal
            }
            Self::Forged(_) | Self::Truncated { .. } => ErrorKind::Forged,
            Self::ForeignAddress { .. } | Self::Path { .. } => ErrorKind::Path,
            Self::Full { .. } | Self::Quota { .. } => ErrorKind::Full,
            Self::Sealing(SealError::Manifest(_) | SealError::Overused { .. }) => ErrorKind::Malformed,
            Self::Overstepped { .. }
            | Self::NotListed { .. }
            | Self::Withdrawn(_)
            | Self::Retired(_)
            | Self::Stale => ErrorKind::NotAllowed,
            Self::TimedOut { .. } | Self::Silent(_) => ErrorKind::TimedOut,
            Self::CutShort => ErrorKind::Internal,
            Self::Flooded { .. } | Self::MessageTooLong { .. } | Self::OutOfRegion { .. } => ErrorKind::Limit,
            Self::Operation { .. } => ErrorKind::QueuePair,
            Self::Device(_) | Self::Post(_) | Self::Describe(_) | Self::System { .. } | Self::Sealing(_) => {
                ErrorKind::Internal
            }
            _ => return None,
        };
        Some((kind, Text::lossy(&Report::new(self).to_string())))
    }
}

fn is_late(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

fn kind_of_tls(error: &TlsError) -> SessionErrorKind {
    use SessionErrorKind as Kind;
    match error {
        TlsError::Certificates(_) | TlsError::AllowList(_) | TlsError::Configuration(_) => Kind::System,
        TlsError::TimedOut { .. } => Kind::TimedOut,
        TlsError::Closed { .. } | TlsError::Io { .. } => Kind::Closed,
        TlsError::NotTls { .. }
        | TlsError::Version { .. }
        | TlsError::Protocol { .. }
        | TlsError::Incompatible { .. }
        | TlsError::Failed { .. } => Kind::Protocol,
        _ => Kind::Refused,
    }
}

fn kind_of_control(error: &ControlError) -> SessionErrorKind {
    match error {
        ControlError::Closed
        | ControlError::BrokenOff
        | ControlError::Io(_)
        | ControlError::Truncated { .. } => SessionErrorKind::Closed,
        ControlError::TimedOut | ControlError::Overdue(_) => SessionErrorKind::TimedOut,
        _ => SessionErrorKind::Protocol,
    }
}

/// What the peer's reason to end the session is to this side.
fn kind_of_peer(code: ErrorCode) -> SessionErrorKind {
    match code.kind() {
        Some(ErrorKind::NotAllowed | ErrorKind::Full) => SessionErrorKind::Refused,
        Some(ErrorKind::TimedOut) => SessionErrorKind::TimedOut,
        Some(ErrorKind::Forged) => SessionErrorKind::NotAuthentic,
        Some(ErrorKind::Internal | ErrorKind::QueuePair | ErrorKind::ShuttingDown) => {
            SessionErrorKind::Closed
        }
        _ => SessionErrorKind::Protocol,
    }
}

impl From<SealError> for SessionError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Message { .. }
            | SealError::Torn { .. }
            | SealError::Slot { .. }
            | SealError::RolledBack { .. }
            | SealError::Withheld { .. } => Self::Forged(error),
            error => Self::Sealing(error),
        }
    }
}

impl From<rdma_verbs::Error> for SessionError {
    fn from(error: rdma_verbs::Error) -> Self {
        Self::Device(error.into())
    }
}

impl From<rdma_verbs::PostError> for SessionError {
    fn from(error: rdma_verbs::PostError) -> Self {
        Self::Post(error.into())
    }
}

impl From<rdma_verbs::SliceError> for SessionError {
    fn from(error: rdma_verbs::SliceError) -> Self {
        Self::Device(rdma_verbs::Error::from(error).into())
    }
}

impl From<Invalid> for SessionError {
    fn from(error: Invalid) -> Self {
        Self::Describe(error)
    }
}

/// Who wants what of the data path.
fn disagreement(own: SealPolicy) -> String {
    let (insists, refuses) = match own {
        SealPolicy::Off => ("the peer", "this side"),
        SealPolicy::Optional | SealPolicy::Required => ("this side", "the peer"),
    };
    format!("{insists} requires it to be sealed, {refuses} has sealing off")
}

/// Who a client is that isn't on the list, and how to put it there. What a certificate says is its holder's:
/// it is shown as [`SubjectNames`] shows it.
fn shown(names: &SubjectNames, fingerprint: Option<&Fingerprint>) -> String {
    match fingerprint {
        Some(fingerprint) => format!("its certificate has {names}; {fingerprint}"),
        None => "it has no certificate".into(),
    }
}

/// What a completion status means for a user, and what to do.
fn meaning(status: Status) -> &'static str {
    match status {
        Status::RemoteAccess => "the peer's key doesn't allow it",
        Status::RemoteInvalidRequest => "the peer found the request invalid, or had no room for the message",
        Status::RemoteOperation => "the peer couldn't carry it out",
        Status::RetryExceeded => {
            "the peer's queue pair didn't answer; its process may be gone, or UDP may be blocked between the hosts"
        }
        Status::RnrRetryExceeded => "the peer posts no receive requests",
        Status::Flushed => {
            "the connection had failed before: a request of this side's failed, or one in the peer's name \
             was refused (the device counts those by reason)"
        }
        _ => "the connection is unusable; open a new session",
    }
}
