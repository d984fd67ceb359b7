//! Why a command failed.

use crate::advice;
use rdma_verbs::{Error, PostError};
use secure_rdma::SessionError;
use secure_rdma::certs::CertsError;
use secure_rdma_files::FilesError;
use std::borrow::Cow;
use std::io;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Certificates(#[from] CertsError),
    #[error(transparent)]
    Files(FilesError),
    #[error("RDMA device")]
    Device(#[from] Error),
    #[error("{what}")]
    System { what: &'static str, source: io::Error },
    /// Packets have to be sealed, and nothing here seals them.
    #[error("packets are to be sealed, {device} can't, and the kernel doesn't for it: {reason}")]
    NoKernel { device: String, reason: String },
    /// The user asked for what can't be.
    #[error("{0}")]
    Usage(String),
    /// A client's line can't be carried out; nothing was done.
    #[error("{0}")]
    Line(String),
    #[error("{0}")]
    Other(String),
    /// A client's server has said goodbye.
    #[error("the server has closed the session")]
    Left,
    /// The user has been told already.
    #[error("it failed")]
    Told,
    /// Nobody reads the output any more.
    #[error("standard output is closed")]
    OutputClosed,
}

impl From<FilesError> for Failure {
    fn from(error: FilesError) -> Self {
        match error {
            // With the advice that there is for sessions.
            FilesError::Session(error) => Self::Session(error),
            error => Self::Files(error),
        }
    }
}

impl Failure {
    /// For `map_err`.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }

    /// A request that the device didn't take.
    pub(crate) fn posting(error: &PostError) -> Self {
        Self::Other(format!("posting a request: {error}"))
    }

    /// The user wants it to end.
    pub(crate) fn interrupted() -> Self {
        Self::Other("interrupted".into())
    }

    /// What the user can do.
    pub(crate) fn advice(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Device(error) => advice::device(error),
            Self::Session(error) => advice::session(error),
            Self::Certificates(error) => advice::certificates(error),
            Self::NoKernel { .. } => {
                Some("take sealed messages too (--seal required), or use --device embedded".into())
            }
            _ => None,
        }
    }
}
