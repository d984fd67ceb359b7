//! Where a user's agent is, and how it is started when nobody is there.

use crate::lease::{LeaseError, is_there};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io};

/// The environment variable that names the agent's socket.
pub const SOCKET: &str = "SECURE_RDMA_AGENT";

/// The environment variable that names the program that serves as the agent: others may begin long after it has ended.
pub const PROGRAM: &str = "SECURE_RDMA_AGENT_PROGRAM";

/// How long an agent may take to be there, and to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often one that isn't there is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// An agent's socket, and the program that serves there.
#[derive(Clone, Debug)]
pub struct Place {
    socket: PathBuf,
    program: Option<PathBuf>,
}

impl Place {
    /// The place with that socket. Where nobody serves, `program` is started, which is `secure-rdma`.
    #[must_use]
    pub fn new(socket: PathBuf, program: Option<PathBuf>) -> Self {
        Self { socket, program }
    }

    /// The place that the environment names; `None` if it names none.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        let named = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Some(Self::new(named(SOCKET)?, named(PROGRAM)))
    }

    /// The agent's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Starts the agent unless one is there. It is nobody's child, and has none of the caller's descriptors.
    ///
    /// # Errors
    /// No program is known, it can't be run, or it doesn't serve in time.
    pub fn start(&self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_there(&self.socket) {
            let program = self.program.as_ref().ok_or(io::ErrorKind::NotFound)?;
            // It ends as soon as it has started the agent: what the caller is or becomes must not find a child that it
            // doesn't know.
            let status = command(program, &self.socket).arg("--detach").status()?;
            if !status.success() {
                return Err(io::Error::other(status.to_string()));
            }
            // An agent that finds another one leaves the place to it, and that one may be about to end.
            let again = Instant::now() + Duration::from_secs(1);
            while !is_there(&self.socket) && Instant::now() < again {
                std::thread::sleep(LOOK);
            }
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// What `attempt` gets of the agent. If that one is gone, or goes meanwhile, the next one is started and asked.
    ///
    /// # Errors
    /// Those of `attempt`.
    pub fn ask<T>(&self, attempt: impl Fn(&Path) -> Result<T, LeaseError>) -> Result<T, LeaseError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match attempt(&self.socket) {
                Err(LeaseError::NoAgent { .. }) if self.program.is_some() && Instant::now() < deadline => {
                    self.start()
                        .map_err(|source| LeaseError::NoAgent { place: self.socket.clone(), source })?;
                    std::thread::sleep(LOOK);
                }
                other => return other,
            }
        }
    }
}

/// A command that runs the agent.
#[must_use]
pub fn command(program: &Path, socket: &Path) -> Command {
    let mut command = Command::new(program);
    command.args([OsStr::new("agent"), OsStr::new("--socket"), socket.as_os_str()]).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // What is under other programs shall not be under it.
    command.env_remove("LD_PRELOAD").env_remove("LD_LIBRARY_PATH");
    command
}
