//! The virtual machine's network, and the programs at its two ends.

use crate::process::{Ended, PATIENCE, Process};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const SECURE_RDMA: &str = env!("CARGO_BIN_EXE_secure-rdma");
pub(crate) const SECURE_SERVER: &str = env!("CARGO_BIN_EXE_secure_server");
pub(crate) const SECURE_CLIENT: &str = env!("CARGO_BIN_EXE_secure_client");

/// Everything is slow under software emulation, TLS handshakes most of all.
pub(crate) const SLOW: Duration = Duration::from_secs(120);

/// An end of the cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// This network namespace, where the kernel's Soft-RoCE is.
    Near,
    /// The namespace `peer`, where only the embedded device can be used.
    Peer,
}

impl End {
    pub(crate) fn ipv4(self) -> &'static str {
        match self {
            Self::Near => "10.77.0.1",
            Self::Peer => "10.77.0.2",
        }
    }

    pub(crate) fn ipv6(self) -> &'static str {
        match self {
            Self::Near => "fd77::1",
            Self::Peer => "fd77::2",
        }
    }

    /// The device that is used there.
    pub(crate) fn device(self) -> &'static str {
        match self {
            Self::Near => "rxe0",
            Self::Peer => "embedded",
        }
    }

    /// A program there.
    pub(crate) fn command(self, program: &str) -> Command {
        match self {
            Self::Near => Command::new(program),
            Self::Peer => {
                let mut command = Command::new("ip");
                // `ip` becomes the program: the process that is started is the program itself.
                command.args(["netns", "exec", "peer", program]);
                command
            }
        }
    }
}

/// `secure-rdma server` at one end, on its default port, for IPv4 and IPv6.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Process,
    certs: TempDir,
}

impl Server {
    #[track_caller]
    pub(crate) fn start(end: End, device: &str) -> Self {
        // On the kernel's device messages are sealed, and counters aren't.
        Self::start_with(end, device, &["--counters", "on"])
    }

    #[track_caller]
    pub(crate) fn start_with(end: End, device: &str, arguments: &[&str]) -> Self {
        let mut command = end.command(SECURE_SERVER);
        // A handshake may take seconds there, and others go on at the same time.
        command.args(["-v", "--device", device, "--handshake-limit", "60"]).args(arguments);
        Self::start_by(command, |_| ())
    }

    /// By a command, which is told its directory of certificates, after `prepare` has seen to that.
    #[track_caller]
    pub(crate) fn start_by(mut command: Command, prepare: impl FnOnce(&Path)) -> Self {
        let certs = TempDir::new().unwrap();
        prepare(certs.path());
        command.arg("--certs").arg(certs.path());
        let process = Process::start(&mut command, "");
        let listening = |process: &Process| process.out().lines().any(|line| line.starts_with("data path: "));
        process.wait_until("start of the server", SLOW, listening);
        Self { process, certs }
    }

    /// Makes a client trust it, and be trusted.
    pub(crate) fn trusted<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.arg("--certs").arg(self.certs.path())
    }

    /// Runs `secure_client` to its end.
    #[track_caller]
    pub(crate) fn client(&self, end: End, host: &str, device: &str, lines: &str) -> Ended {
        Process::start(&mut self.client_with(end, host, device, &[]), lines).end_within(SLOW)
    }

    /// `secure_client` with these arguments too.
    pub(crate) fn client_with(&self, end: End, host: &str, device: &str, arguments: &[&str]) -> Command {
        let mut command = end.command(SECURE_CLIENT);
        command.args([host, "localhost", "-v", "--device", device]).args(arguments);
        self.trusted(&mut command);
        command
    }
}

/// A Soft-RoCE device of a test's own, on an interface that is made for it; both are gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Extra {
    interface: &'static str,
}

impl Extra {
    pub(crate) fn new(device: &str, interface: &'static str) -> Self {
        run("ip", &["link", "add", interface, "type", "dummy"]);
        let extra = Self { interface };
        run("rdma", &["link", "add", device, "type", "rxe", "netdev", interface]);
        extra
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        // The device goes with its interface.
        let _ = Command::new("ip").args(["link", "delete", self.interface]).output();
    }
}

#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    Process::start(Command::new(program).args(arguments), "").end_within(PATIENCE).succeeded().out
}
