//! Why a command failed, and the exit code that says so.

use secure_rdma::SessionError;
use secure_rdma::certs::CertsError;
use std::io;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Certificates(#[from] CertsError),
    #[error("RDMA device: {0}")]
    Device(#[from] rdma_verbs::Error),
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    /// The user asked for what can't be.
    #[error("{0}")]
    Usage(String),
    /// A client's line can't be carried out; nothing was done.
    #[error("{0}")]
    Line(String),
    #[error("{0}")]
    Other(String),
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
}

/// Tells the user of a failure; returns the exit code.
pub(crate) fn finish(result: Result<(), Failure>) -> ExitCode {
    let code = match &result {
        // Who closes the output, as `head` does, has seen enough.
        Ok(()) | Err(Failure::OutputClosed) => return ExitCode::SUCCESS,
        Err(Failure::Usage(_)) => 2,
        Err(_) => 1,
    };
    if let Err(failure) = result
        && !matches!(failure, Failure::Told)
    {
        tell(&failure);
    }
    ExitCode::from(code)
}

/// Writes an error to standard error. If nobody reads that, nobody can be told.
pub(crate) fn tell(error: &dyn std::error::Error) {
    crate::output::note(format_args!("error: {error}"));
}
