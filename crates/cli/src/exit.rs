//! How a command ends: what the user is told of a failure, and the exit code that says so.

use crate::failure::Failure;
use crate::output;
use secure_rdma::Report;
use std::process::ExitCode;

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
    output::finish();
    ExitCode::from(code)
}

/// Writes a failure to standard error, with what to do about it. If nobody reads that, nobody can be told.
pub(crate) fn tell(failure: &Failure) {
    let report = Report::new(failure);
    match failure.advice() {
        Some(advice) => output::note(format_args!("error: {report}; {advice}")),
        None => output::note(format_args!("error: {report}")),
    }
}
