//! File descriptors: many clients need many, and some things have to work when all others are taken.

use crate::failure::Failure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;

/// Raises the soft limit of descriptors to the hard one; `need` of them have to be possible.
///
/// # Errors
/// The hard limit is lower, which `advice` says what to do about; or it can't be raised.
pub(crate) fn ensure(need: u64, advice: impl FnOnce(u64) -> String) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    // None is no limit.
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < need) {
        return Err(Failure::Other(advice(maximum)));
    }
    if limit.current == limit.maximum {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .map_err(|error| Failure::system("raising the limit of file descriptors")(error.into()))
}

/// Descriptors that are held so that others can't take them: given back for a moment, they let files be read
/// where there are none left.
#[derive(Debug)]
pub(crate) struct Reserve(Vec<File>);

impl Reserve {
    /// As many as reading a file takes, with the directories on its way, and writing one.
    const COUNT: usize = 4;

    /// Takes them, as far as there are any.
    pub(crate) fn hold() -> Self {
        let mut reserve = Self(Vec::new());
        reserve.fill();
        reserve
    }

    /// Does `work` with them, and takes them again afterwards.
    pub(crate) fn lend<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.0.clear();
        let done = work();
        self.fill();
        done
    }

    fn fill(&mut self) {
        while self.0.len() < Self::COUNT {
            let Ok(file) = File::open("/dev/null") else { return };
            self.0.push(file);
        }
    }
}
