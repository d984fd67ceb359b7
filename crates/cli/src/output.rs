//! Lines for people and programs. The macros of the standard library panic when the other end of a pipe is
//! closed; these don't.

use crate::failure::Failure;
use serde::Serialize;
use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// Writes a line of results to standard output, at once, even into a pipe.
pub(crate) fn line(text: Arguments<'_>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Writes `document` to standard output as JSON.
pub(crate) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|error| Failure::Other(format!("writing JSON: {error}")))?;
    line(format_args!("{text}"))
}

/// Writes a line that isn't a result to standard error.
pub(crate) fn note(text: Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|source| match source.kind() {
        ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::System { what: "writing to standard output", source },
    })
}
