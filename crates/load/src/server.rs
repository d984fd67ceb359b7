//! The server's process.

use crate::Result;
use crate::args::ServerArg;
use crate::usage::Usage;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// A `secure-rdma server` on the loopback interface. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    departed: Arc<AtomicU64>,
}

impl ServerArg {
    /// The program, which has to be there.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        let path = match &self.program {
            Some(path) => path.clone(),
            None => {
                let own = std::env::current_exe()?;
                // Tests are a directory further down.
                let places = own.ancestors().skip(1).take(2).map(|directory| directory.join("secure-rdma"));
                places
                    .clone()
                    .find(|place| place.is_file())
                    .or_else(|| places.clone().next())
                    .unwrap_or_default()
            }
        };
        if path.is_file() {
            Ok(path)
        } else {
            Err(format!("{} isn't there: cargo build --release, or --program FILE", path.display()).into())
        }
    }
}

impl Server {
    /// Starts it with these options beside the place of its certificates.
    ///
    /// # Errors
    /// It can't be started, or ends before it listens: why, it says on standard error itself.
    pub(crate) fn start(program: &Path, certs: &Path, listen: &str, options: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .args(["server", "--listen", listen, "--log-format", "json", "--certs"])
            .arg(certs)
            .args(options);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let Some(address) = listening(&mut lines) else {
            let _ = child.kill();
            let status = child.wait()?;
            return Err(format!("the server didn't start: {status}").into());
        };
        let departed = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&departed);
        // What nobody reads would be left out.
        thread::spawn(move || {
            for line in lines.map_while(std::result::Result::ok) {
                if serde_json::from_str::<Value>(&line).is_ok_and(|event| event["event"] == "left") {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { child, address, departed })
    }

    /// How many sessions have ended, as it says.
    pub(crate) fn departed(&self) -> u64 {
        self.departed.load(Ordering::Relaxed)
    }

    /// What it has now.
    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where it listens, as it says.
fn listening(lines: &mut Lines<impl BufRead>) -> Option<SocketAddr> {
    lines.map_while(std::result::Result::ok).find_map(|line| {
        let event: Value = serde_json::from_str(&line).ok()?;
        (event["event"] == "listening").then(|| event["address"].as_str()?.parse().ok())?
    })
}

/// Gives this process, and those that it starts, as many descriptors as there may be: `need` at least, if that is
/// allowed. What there are then.
pub(crate) fn raise_descriptors(need: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.map_or(need, |maximum| maximum.max(need));
    for maximum in [Some(maximum), limit.maximum] {
        if setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
            break;
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
