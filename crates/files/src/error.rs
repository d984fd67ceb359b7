//! Why files couldn't be moved.

use crate::message::Malformed;
use crate::path::FilePath;
use crate::refusal::{Refusal, RefusalCode};
use secure_rdma::SessionError;
use std::time::Duration;

/// Why a transfer, or all of a session's, failed. [`Report`](secure_rdma::Report) shows it with its cause.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The session is over.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The server says no.
    #[error("{path}: the server refuses")]
    Refused {
        /// The path there.
        path: FilePath,
        /// Why.
        source: Refusal,
    },
    /// This side can't.
    #[error("{path}, here")]
    Local {
        /// The path below the directory here.
        path: FilePath,
        /// Why.
        source: Refusal,
    },
    /// What is asked for can't be.
    #[error("{name}")]
    Name {
        /// What the user, or the peer, has called it.
        name: String,
        /// Why.
        source: Refusal,
    },
    /// The server doesn't want this client's requests at all.
    #[error("the server moves no files for this client")]
    NotServed(#[source] Refusal),
    /// The server has said what isn't an answer.
    #[error("the server breaks the protocol for files: {0}")]
    Protocol(&'static str),
    /// The server has said nothing for too long.
    #[error("the server hasn't answered within {0:?}")]
    TimedOut(Duration),
    /// A folder has more in it than is moved at once.
    #[error("{path} holds more than {limit} files and folders: move its folders one by one")]
    TooMany {
        /// The folder.
        path: FilePath,
        /// How many there may be.
        limit: usize,
    },
}

impl FilesError {
    /// Whether nothing more can be asked of the session.
    #[must_use]
    pub const fn ends_session(&self) -> bool {
        matches!(self, Self::Session(_) | Self::Protocol(_) | Self::TimedOut(_) | Self::NotServed(_))
    }

    /// What kind of reason either side has given, if one has.
    #[must_use]
    pub const fn code(&self) -> Option<RefusalCode> {
        match self {
            Self::Refused { source, .. }
            | Self::Local { source, .. }
            | Self::Name { source, .. }
            | Self::NotServed(source) => Some(source.code()),
            _ => None,
        }
    }
}

impl From<Malformed> for FilesError {
    fn from(_: Malformed) -> Self {
        Self::Protocol("it sends what isn't a message of it")
    }
}
