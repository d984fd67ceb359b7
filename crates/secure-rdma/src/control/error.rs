//! What can be wrong with a record, or with the channel that carries it.

use core::time::Duration;
use std::io;

use super::{Irregular, MAX_RECORD};

/// A value that its field may not have. Values of secret fields aren't shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// A number outside its field's range.
    #[error("{field} is {found}, allowed are {min} to {max}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it holds.
        found: u64,
        /// The smallest value allowed.
        min: u64,
        /// The largest value allowed.
        max: u64,
    },
    /// A secret number that needs more bits than its field has.
    #[error("{field} needs more than {bits} bits")]
    TooWide {
        /// The field.
        field: &'static str,
        /// How many bits it has.
        bits: u32,
    },
    /// A GID that isn't the address of one host.
    #[error("the GID is not a host's address (it is unspecified, multicast or broadcast)")]
    Gid,
    /// Access rights that this version doesn't know.
    #[error("the access rights {0:#x} hold a bit that this version doesn't know")]
    Access(u64),
    /// Text longer than its field.
    #[error("the text has {found} bytes, allowed are {max}")]
    TextLength {
        /// Its length in bytes.
        found: usize,
        /// The longest allowed.
        max: usize,
    },
    /// Text with a character that could confuse a terminal or a log.
    #[error("the text holds a character that is not printable ASCII")]
    TextCharacter,
    /// A region that runs past the end of the address space.
    #[error("a region of {len} bytes at its address runs past the end of the address space")]
    RegionEnd {
        /// The region's length in bytes.
        len: u64,
    },
    /// A region that its data doesn't fit.
    #[error("{data} bytes of data don't fit a region of {len} bytes")]
    RegionParts {
        /// Bytes of data.
        data: u64,
        /// Bytes of the region.
        len: u64,
    },
    /// Counters that atomic operations couldn't reach: these need addresses that are multiples of 8 (IBA 9.4.5).
    #[error("the counters are not whole 8-byte words at a multiple of 8")]
    CounterAlignment,
    /// Counters under the key of the data.
    #[error("the counters have the same key as the data")]
    CounterKey,
}

/// Why bytes aren't a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not a record in deterministic CBOR.
    #[error("the record is not deterministic CBOR")]
    Irregular(#[from] Irregular),
    /// A record number that this version doesn't know.
    #[error("record number {0} is not one of protocol version {version}", version = super::VERSION)]
    Unknown(u64),
    /// A field is missing or has a value of another type.
    #[error("record number {number} has a missing field or one of the wrong type: {reason}")]
    Malformed {
        /// The record's number.
        number: u64,
        /// The CBOR library's words.
        reason: String,
    },
    /// A field has a value that it may not have.
    #[error("record number {number} can't be")]
    Invalid {
        /// The record's number.
        number: u64,
        /// What is wrong with it.
        source: Invalid,
    },
}

/// Why a record can't be sent: a mistake on this side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A field has a value that the peer would refuse.
    #[error("this side tried to send a record that its peer would refuse")]
    Invalid(#[from] Invalid),
    /// The CBOR library failed.
    #[error("writing a record failed: {0}")]
    Cbor(String),
}

/// Why a control channel didn't do what it was asked to.
///
/// After any of these but [`TimedOut`](Self::TimedOut) and [`Encode`](Self::Encode) the channel is of no more use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The peer closed the channel between two records, as TLS says it should (`close_notify`).
    #[error("the peer closed the control channel")]
    Closed,
    /// The connection ended without TLS's closing alert: the peer died, or someone on the path cut it.
    #[error(
        "the control connection broke off without being closed: the peer's process ended, or the network cut it"
    )]
    BrokenOff,
    /// The stream ended inside a record.
    #[error("the control channel ended inside a record: {have} bytes came, {missing} or more are missing")]
    Truncated {
        /// How many bytes of the frame came, its length counted.
        have: usize,
        /// How many are known to be missing.
        missing: usize,
    },
    /// The peer announced a record longer than any may be. Nothing of it was read.
    #[error("the peer announced a record of {0} bytes, the most is {MAX_RECORD}")]
    TooLong(u32),
    /// A record began but wasn't complete in time.
    #[error("a record was not complete {0:?} after its first byte")]
    Overdue(Duration),
    /// A step wasn't done in the time that the caller gave it. The channel goes on working.
    #[error("nothing came (or could be sent) on the control channel in the time allowed")]
    TimedOut,
    /// What came isn't a record.
    #[error("the peer sent what is not a record of this protocol")]
    Decode(#[from] DecodeError),
    /// What was to be sent isn't a record that the peer would take. Nothing was sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The connection failed. [`TlsError::from_io`](crate::tls::TlsError::from_io) says more where TLS is the reason.
    #[error("the control connection failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ControlError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // What rustls reports when a stream ends without close_notify.
            io::ErrorKind::UnexpectedEof => Self::BrokenOff,
            _ => Self::Io(error),
        }
    }
}
