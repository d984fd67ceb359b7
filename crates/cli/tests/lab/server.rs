//! A server at one end of a network, and clients at the other.

use crate::network::{End, Network};
use crate::process::Process;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

pub(crate) const SECURE_RDMA: &str = env!("CARGO_BIN_EXE_secure-rdma");
pub(crate) const SECURE_SERVER: &str = env!("CARGO_BIN_EXE_secure_server");
pub(crate) const SECURE_CLIENT: &str = env!("CARGO_BIN_EXE_secure_client");

/// What the clients do that most tests start.
pub(crate) const LINES: &str = "send hello\nwrite some data\nread 9\nadd 5\nquit\n";

/// A `secure_server` in the server's namespace, on its default port, for IPv4 and IPv6.
#[derive(Debug)]
pub(crate) struct Server<'a> {
    pub(crate) process: Process,
    network: &'a Network,
    certs: TempDir,
}

impl<'a> Server<'a> {
    #[track_caller]
    pub(crate) fn start(network: &'a Network) -> Self {
        Self::start_with(network, &[])
    }

    /// The same with further arguments.
    #[track_caller]
    pub(crate) fn start_with(network: &'a Network, arguments: &[&str]) -> Self {
        let certs = TempDir::new().unwrap();
        let mut command = network.command(End::Server, SECURE_SERVER);
        let process = Process::start(
            command.args(["-v", "--handshake-limit", "60"]).args(arguments).arg("--certs").arg(certs.path()),
            "",
        );
        let line = process.says("listening on ");
        assert!(line.contains("[::]:4433"), "{line}");
        Self { process, network, certs }
    }

    /// A client at the other end that carries out these lines. It shows the PSNs.
    #[track_caller]
    pub(crate) fn client(&self, host: &str, lines: &str) -> Process {
        self.client_with(host, &[], lines)
    }

    /// The same with further arguments.
    #[track_caller]
    pub(crate) fn client_with(&self, host: &str, arguments: &[&str], lines: &str) -> Process {
        Process::start(&mut self.client_command(host, arguments), lines)
    }

    /// The same, whose lines come while it runs.
    #[track_caller]
    pub(crate) fn waiting_client(&self, host: &str, arguments: &[&str]) -> Process {
        Process::start_waiting(&mut self.client_command(host, arguments))
    }

    fn client_command(&self, host: &str, arguments: &[&str]) -> Command {
        let mut command = self.network.command(End::Client, SECURE_CLIENT);
        command.args([host, "localhost", "-v", "--certs"]).arg(self.certs.path()).args(arguments);
        command
    }
}

/// The open file descriptors of a process.
pub(crate) fn descriptors(process: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count()
}

/// The threads of a process.
pub(crate) fn threads(process: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/task", process.id())).unwrap().count()
}
