//! What a test needs of the machine. Where it is missing nothing is proved, and that is said; in CI it is a failure.

use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// The system's Python: the one that Debian's scapy is installed for.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// What tests of network namespaces need.
pub(crate) const NETWORK: [Need; 2] = [Need::Root, Need::Tool("ip")];

/// One thing that a test needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    Root,
    /// A program in `PATH`.
    Tool(&'static str),
    /// A module of the system's Python.
    Module(&'static str),
}

impl Need {
    fn is_met(self) -> bool {
        match self {
            Self::Root => rustix::process::geteuid().is_root(),
            Self::Tool(name) => {
                let path = env::var_os("PATH").unwrap_or_default();
                env::split_paths(&path).any(|place| place.join(name).is_file())
            }
            Self::Module(name) => {
                let mut command = Command::new(PYTHON);
                let command = command.args(["-c", &format!("import {name}")]).stderr(Stdio::null());
                Path::new(PYTHON).is_file() && command.status().is_ok_and(|status| status.success())
            }
        }
    }
}

/// Whether all of it is there.
///
/// # Panics
///
/// In CI (`CI=true`), if something is missing: there, a test that isn't carried out has failed.
pub(crate) fn provides(needs: &[Need], promise: &str) -> bool {
    let missing: Vec<_> = needs.iter().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return true;
    }
    let message = format!("NOT PROVED: {promise}; missing here: {missing:?}");
    assert!(env::var("CI").as_deref() != Ok("true"), "{message}");
    // Not `eprintln!`: the test harness hides what that prints in tests that pass.
    let _ = writeln!(io::stderr(), "\n{message}\n");
    false
}
