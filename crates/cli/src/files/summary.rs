//! What became of what was to be moved.

use crate::exit::tell;
use crate::failure::Failure;
use crate::output;
use secure_rdma::Report;
use secure_rdma_files::{FilePath, FilesError, Kind, Outcome};
use serde::Serialize;
use std::time::Duration;

/// What became of all files.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) outcomes: Vec<Outcome>,
    /// What couldn't even be begun.
    pub(super) failures: Vec<FilesError>,
    pub(super) left_out: Vec<(FilePath, Kind)>,
    pub(super) directories: usize,
}

/// The same, for programs.
#[derive(Debug, Serialize)]
struct Document {
    files: usize,
    directories: usize,
    bytes: u64,
    /// Of `bytes`, those that were there already.
    resumed_bytes: u64,
    seconds: f64,
    left_out: Vec<String>,
    failed: Vec<String>,
}

impl Summary {
    /// Says it, after so long. Failures are told of one by one.
    pub(super) fn tell(self, took: Duration, json: bool) -> Result<(), Failure> {
        let Self { outcomes, mut failures, left_out, directories } = self;
        let (mut files, mut bytes, mut resumed) = (0, 0, 0);
        for Outcome { size, resumed: there, result, .. } in outcomes {
            match result {
                Ok(()) => {
                    files += 1;
                    bytes += size;
                    resumed += there;
                }
                Err(error) => failures.push(error),
            }
        }
        for (path, kind) in &left_out {
            output::note(format_args!("left out: {path}: {kind}"));
        }
        let failed: Vec<_> = failures.iter().map(|error| Report::new(error).to_string()).collect();
        let failures: Vec<_> = failures.into_iter().map(Failure::from).collect();
        failures.iter().for_each(tell);
        if json {
            let left_out = left_out.iter().map(|(path, kind)| format!("{path}: {kind}")).collect();
            let seconds = took.as_secs_f64();
            let document =
                Document { files, directories, bytes, resumed_bytes: resumed, seconds, left_out, failed };
            output::json(&document)?;
        } else {
            output::line(format_args!(
                "{files} files, {bytes} bytes, {resumed} of them there already; folders: {directories}; left out: {}; \
                 failed: {}; {:.2} s",
                left_out.len(),
                failures.len(),
                took.as_secs_f64()
            ))?;
        }
        if failures.is_empty() { Ok(()) } else { Err(Failure::Told) }
    }
}
