//! Why something could not be sealed or opened.

use super::slot::ManifestError;
use rustls::CipherSuite;

/// Why something could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// A fragment of a message isn't what the peer sealed next. The session has to end.
    #[error(
        "fragment {counter} of the peer's sealed messages is not authentic: it was forged, changed, \
         replayed, left out or reordered on the way"
    )]
    Message {
        /// How many fragments were authentic before it.
        counter: u64,
    },
    /// A slot isn't authentic, but it may have been read while it was written. Read it again, then open that.
    #[error("slot {slot} is not authentic; it may have been read while it was written")]
    Torn {
        /// Which slot.
        slot: u32,
    },
    /// A slot isn't authentic, however often it is read. The session has to end.
    #[error("slot {slot} of the sealed region is not authentic: it was forged, changed or moved")]
    Slot {
        /// Which slot.
        slot: u32,
    },
    /// A slot holds what was there before, or nothing any more. The session has to end.
    #[error("slot {slot} of the sealed region was rolled back: it holds older data than this side knows of")]
    RolledBack {
        /// Which slot.
        slot: u32,
    },
    /// A slot doesn't hold what the peer has said that it wrote there. The session has to end.
    #[error(
        "slot {slot} of the sealed region is older than what the peer said it has written there: a WRITE \
         was withheld though it was acknowledged, or older data was put back"
    )]
    Withheld {
        /// Which slot.
        slot: u32,
    },
    /// A manifest of the peer's can't be true. The session has to end.
    #[error("the peer's manifest of what it has written into the sealed region {0}; the peer is broken")]
    Manifest(ManifestError),
    /// The peer has sealed more with one key than the limits allow. The session has to end.
    #[error(
        "the peer has sealed more with the key of epoch {epoch} than one key may seal; the peer is broken"
    )]
    Overused {
        /// Which key.
        epoch: u32,
    },
    /// More was sealed than the counters count. The session has to end.
    #[error("this session's sealing counters are used up: open a new session")]
    Exhausted,
    /// The process is a copy of the one that the session was made in.
    #[error(
        "this process is a child of the one that opened the session (fork): both would seal under the same \
         numbers; open a session of its own in the child"
    )]
    Forked,
    /// The caller's buffer doesn't have the size that it must have.
    #[error("a buffer of {found} bytes where sealing needs {expected}")]
    Size {
        /// The size it must have; the least, if more will do.
        expected: usize,
        /// The size it has.
        found: usize,
    },
    /// The caller named a slot that the region doesn't have.
    #[error("there is no slot {slot}: the sealed region has {slots}")]
    NoSuchSlot {
        /// Which slot.
        slot: u32,
        /// How many there are.
        slots: u32,
    },
    /// The server is to write a slot where only the client writes.
    #[error("in this sealed region only the client writes")]
    NotWriter,
    /// The caller asked for bytes that the region doesn't have.
    #[error("{len} bytes at offset {offset} reach outside the sealed region, which holds {capacity}")]
    OutOfRegion {
        /// The first byte.
        offset: u64,
        /// How many.
        len: u64,
        /// How many there are.
        capacity: u64,
    },
    /// A region can't be divided into slots like that.
    #[error("a sealed region can't be divided like that: {0}")]
    Layout(&'static str),
    /// TLS negotiated a cipher suite without a known AEAD.
    #[error("the data path can't be sealed with TLS's cipher suite {0:?}")]
    Suite(Option<CipherSuite>),
    /// TLS gave no key material.
    #[error("TLS gave no key material: {0}")]
    Export(rustls::Error),
    /// The cryptographic library refused something that it shouldn't.
    #[error("the cryptographic library failed")]
    Library,
}

impl From<aws_lc_rs::error::Unspecified> for SealError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Library
    }
}
