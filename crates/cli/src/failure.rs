//! Why a command failed, and the exit code that says so.

use rdma_verbs::Error;
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
    Device(#[from] Error),
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

    /// What the user can do, by this program's options, which the libraries don't know.
    fn advice(&self) -> Option<&'static str> {
        let error = match self {
            Self::Device(error) => error,
            Self::Session(SessionError::Device(error)) => error,
            _ => return None,
        };
        match error {
            Error::NoLibrary { .. } => Some("or use --device embedded, which needs no library"),
            Error::NoDevices { .. } => {
                Some("or use --device embedded, which needs neither hardware nor a kernel module")
            }
            Error::NoSuchDevice { .. } => {
                Some("`secure-rdma devices` shows them all; or use --device embedded")
            }
            Error::NoGid { .. } => Some(
                "let the peer connect by one of these addresses, or choose a GID yourself: --device \
                 NAME:PORT:GID_INDEX",
            ),
            Error::Unreachable { .. } => Some(
                "choose devices and GIDs that can reach each other: --device NAME:PORT:GID_INDEX, --device \
                 embedded:ADDR",
            ),
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
    match failure.advice() {
        Some(advice) => crate::output::note(format_args!("error: {failure}; {advice}")),
        None => crate::output::note(format_args!("error: {failure}")),
    }
}
