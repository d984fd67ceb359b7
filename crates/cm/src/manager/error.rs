//! Why a call fails, and why a datagram changes nothing.

use super::State;
use crate::ip::IpError;
use crate::wire::ParseError;

/// Why a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// There is no such connection or request (any more).
    #[error("no such connection")]
    UnknownId,
    /// The connection's state doesn't allow the call.
    #[error("not possible in state {0:?}")]
    State(State),
    /// Somebody listens there already.
    #[error("the service is listened on already")]
    InUse,
    /// The tables are full: [`Config::max_connections`](super::Config::max_connections).
    #[error("too many connections")]
    Full,
    /// The queue pair's number is none of an ordinary queue pair.
    #[error("not the number of an ordinary queue pair")]
    QueuePairNumber,
    /// More additional information than the 72 bytes that a REJ has room for.
    #[error("{0} bytes of additional information, there is room for 72")]
    AdditionalInformation(usize),
}

/// Why a datagram changed nothing here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Dropped {
    /// It is no message.
    #[error("malformed: {0}")]
    Malformed(#[from] ParseError),
    /// It names no connection of this side's.
    #[error("no such connection")]
    UnknownId,
    /// It names a connection of other ends, another id of the peer's, or another queue pair.
    #[error("it names a connection, but not all that belongs to it")]
    WrongInstance,
    /// It isn't an answer to what was sent: another transaction.
    #[error("another transaction")]
    Transaction,
    /// The connection's state doesn't expect it: a duplicate, or it came too late.
    #[error("not expected in state {0:?}")]
    State(State),
    /// The request was refused for the reason that the answer gives.
    #[error("refused: {0}")]
    Refused(Refusal),
}

/// Why a request was refused by the manager itself, without asking the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody listens there.
    #[error("nobody listens there")]
    NoListener,
    /// Too many connections, too many half open, or too many from this source.
    #[error("no room")]
    NoRoom,
    /// The listener's backlog is full.
    #[error("the backlog is full")]
    Backlog,
    /// A transport other than RC and UC.
    #[error("not RC or UC")]
    Transport,
    /// There is no such path MTU.
    #[error("no path MTU")]
    PathMtu,
    /// The addresses in the request aren't those that it was sent from and to.
    #[error("other addresses than the datagram's")]
    Addresses,
    /// The queue pair's number is none of an ordinary queue pair.
    #[error("no ordinary queue pair")]
    QueuePairNumber,
    /// The peer's queue pair is connected already, or its id is in use.
    #[error("the queue pair or the id is in use")]
    Stale,
    /// The service is a port, and the private data doesn't begin with IP addressing.
    #[error("{0}")]
    IpAddressing(#[from] IpError),
    /// Alternate paths aren't supported.
    #[error("alternate paths aren't supported")]
    AlternatePath,
}
