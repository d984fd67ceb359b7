//! What a process has.

use crate::Result;
use serde::Serialize;
use std::fs;

/// What a process has, as proc(5) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Usage {
    /// Resident memory, in bytes.
    pub(crate) memory: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

impl Usage {
    /// Of the process with that id.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
            Ok::<u64, Box<dyn std::error::Error + Send + Sync>>(line.trim().trim_end_matches(" kB").parse()?)
        };
        let descriptors = fs::read_dir(format!("/proc/{process}/fd"))?.count();
        Ok(Self {
            memory: number("VmRSS:")? * 1024,
            descriptors: u64::try_from(descriptors)?,
            threads: number("Threads:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_open_and_a_thread_that_runs_are_counted() {
        let before = Usage::of(std::process::id()).unwrap();
        let files: Vec<_> = (0..100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let after = Usage::of(std::process::id()).unwrap();
        assert!(after.descriptors >= before.descriptors + 100 && after.memory > 0, "{before:?}, {after:?}");
        drop(files);
    }
}
