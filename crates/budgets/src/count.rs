//! Counting, by valgrind.

use crate::error::Error;
use std::io::ErrorKind;
use std::process::Command;

/// So many times a path is carried out, and then so many times more: the difference has no beginnings and ends in it.
const TIMES: u64 = 100;
const MORE: u64 = 400;

/// Does `work`, whose instructions are counted. Valgrind switches counting on when this function begins and
/// off when it ends, so it may not be used within itself.
#[inline(never)]
pub(crate) fn counted<T>(work: impl FnOnce() -> T) -> T {
    core::hint::black_box(work())
}

/// Does `work`, whose instructions are counted if `yes`.
pub(crate) fn counted_if<T>(yes: bool, work: impl FnOnce() -> T) -> T {
    if yes { counted(work) } else { work() }
}

/// The instructions that one run of the path of that name takes.
pub(crate) fn instructions(path: &'static str) -> Result<u64, Error> {
    let (few, many) = (collect(path, TIMES)?, collect(path, TIMES + MORE)?);
    Ok(many.saturating_sub(few) / MORE)
}

fn collect(path: &'static str, times: u64) -> Result<u64, Error> {
    let program = std::env::current_exe()
        .map_err(|error| Error::File { file: "this program".into(), reason: error.to_string() })?;
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=*budgets*count*counted*",
        ])
        .arg(program)
        .args(["--carry-out", path, &times.to_string()])
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::NoValgrind(error),
            _ => Error::File { file: "valgrind".into(), reason: error.to_string() },
        })?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(count) if output.status.success() && count > 0 => Ok(count),
        _ => Err(Error::Valgrind { path, status: output.status, said }),
    }
}
