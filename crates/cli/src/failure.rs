//! Why a command failed, and the exit code that says so.

use crate::advice;
use rdma_verbs::Error;
use secure_rdma::certs::CertsError;
use secure_rdma::{Report, SessionError};
use std::borrow::Cow;
use std::io;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Certificates(#[from] CertsError),
    #[error("RDMA device")]
    Device(#[from] Error),
    #[error("{what}")]
    System { what: &'static str, source: io::Error },
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

impl Failure {
    /// For `map_err`.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }

    /// What the user can do.
    fn advice(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Device(error) => advice::device(error),
            Self::Session(error) => advice::session(error),
            Self::Certificates(error) => advice::certificates(error),
            _ => None,
        }
    }
}

/// Tells the user of a failure; returns the exit code.
pub(crate) fn finish(result: Result<(), Failure>) -> ExitCode {
    let code = match &result {
        // Who closes the output, as `head` does, has seen enough.
        Ok(()) | Err(Failure::OutputClosed) => 0,
        Err(Failure::Usage(_)) => 2,
        Err(_) => 1,
    };
    if let Err(failure) = result
        && !matches!(failure, Failure::Told | Failure::OutputClosed)
    {
        tell(&failure);
    }
    crate::output::finish();
    ExitCode::from(code)
}

/// Writes a failure to standard error, with what to do about it. If nobody reads that, nobody can be told.
pub(crate) fn tell(failure: &Failure) {
    let report = Report::new(failure);
    match failure.advice() {
        Some(advice) => crate::output::note(format_args!("error: {report}; {advice}")),
        None => crate::output::note(format_args!("error: {report}")),
    }
}
