//! A clock that some programs go by and that can be set while they run: libfaketime. Only the wall clock jumps, as when
//! a machine's is set; `CLOCK_MONOTONIC` and the files' dates stay as they are.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

pub(crate) struct Clock {
    library: PathBuf,
    dir: TempDir,
}

impl Clock {
    /// One that is right. `None` without the library; in CI that is a failure.
    pub(crate) fn new(promise: &str) -> Option<Self> {
        let Some(library) = library() else {
            let message = format!("NOT PROVED: {promise}; missing here: libfaketime");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
            let _ = writeln!(std::io::stderr(), "\n{message}\n");
            return None;
        };
        let clock = Self { library, dir: TempDir::new().unwrap() };
        clock.set("+0");
        Some(clock)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("clock")
    }

    /// Sets it to so much later or earlier than the right time: `+3h`, `-40d`.
    pub(crate) fn set(&self, offset: &str) {
        let new = self.dir.path().join("new");
        fs::write(&new, format!("{offset}\n")).unwrap();
        // Programs read it all the time, never half of it.
        fs::rename(new, self.file()).unwrap();
    }

    /// A program that goes by it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", self.file());
        for switch in ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"] {
            command.env(switch, "1");
        }
        command
    }
}

/// Where Debian has it.
fn library() -> Option<PathBuf> {
    let places = fs::read_dir("/usr/lib").ok()?.flatten();
    let library = |entry: fs::DirEntry| entry.path().join("faketime/libfaketimeMT.so.1");
    places.map(library).find(|library| library.is_file())
}
