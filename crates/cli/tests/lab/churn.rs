//! A server that clients come to and leave, over and over: what it holds doesn't grow.

use crate::process::{PATIENCE, Process};
use crate::server::{LINES, SECURE_CLIENT, SECURE_SERVER, descriptors};
use rdma_verbs::{Device, DeviceSelector};
use rustix::process::Signal;
use secure_rdma::Client;
use secure_rdma::certs::{Name, Store};
use secure_rdma::tls::Trust;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Clients that are there at once.
const TOGETHER: usize = 4;

/// By how much the server's memory may grow from the 1,000th client to the 10,000th. The allocator's arenas grow
/// a little for as long as the worker threads find new peaks; a leak of one session's smallest buffer (4 KiB)
/// would be 35 MiB.
const GROWTH: usize = 2 << 20;

/// How long all the sessions may take. On two idle cores it is half a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// A server on the loopback interface.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) certs: TempDir,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let certs = TempDir::new().unwrap();
        let mut command = Command::new(SECURE_SERVER);
        command.args(["--listen", "127.0.0.1:0", "--handshake-limit", "60", "--certs"]).arg(certs.path());
        command.args(arguments);
        let process = Process::start(&mut command, "");
        let line = process.says("listening on ");
        Self { process, address: line.split([' ', ',']).nth(2).unwrap().parse().unwrap(), certs }
    }

    fn client(&self, lines: &str) -> Process {
        let mut command = Command::new(SECURE_CLIENT);
        command.arg(self.address.to_string()).args(["localhost", "--certs"]).arg(self.certs.path());
        Process::start(&mut command, lines)
    }

    /// Waits until so many clients have gone in one way.
    #[track_caller]
    pub(crate) fn reports(&self, how: &str, times: usize) {
        let what = format!("{times} clients that {how}");
        self.process.wait_until(&what, PATIENCE, |server| server.out().matches(how).count() >= times);
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident(&self) -> usize {
        self.status("VmRSS:") * 1024
    }

    fn threads(&self) -> usize {
        self.status("Threads:")
    }

    /// A number of proc(5)'s `status`.
    fn status(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// Opens so many sessions, a few at a time, each with a message and a write, and closes them.
async fn come_and_go(client: &Arc<Client>, address: SocketAddr, sessions: usize) {
    let mut tasks = JoinSet::new();
    for first in 0..TOGETHER {
        let client = Arc::clone(client);
        tasks.spawn(async move {
            let name: Name = "localhost".parse().unwrap();
            for _ in (first..sessions).step_by(TOGETHER) {
                let host = address.ip().to_string();
                let mut session = client.connect(&host, address.port(), &name).await.unwrap();
                session.send(&[7; 10_000]).await.unwrap();
                assert_eq!(session.recv().await.unwrap(), Some(vec![7; 10_000]));
                session.write(0, &[9; 10_000]).await.unwrap();
                session.close().await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[test]
fn a_server_holds_no_more_after_10_000_clients_than_after_1000() {
    let server = Server::start(&[]);
    let trust = Trust::State(server.certs.path().into());
    let identity = Store::open(server.certs.path()).unwrap().account_identity().unwrap();
    let device = Device::open(&DeviceSelector::Embedded { address: None, port: None }).unwrap();
    let client = Arc::new(Client::builder(trust).identity(identity.unwrap()).device(device).build().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sessions = |count, total| {
        let all = async { tokio::time::timeout(LIMIT, come_and_go(&client, server.address, count)).await };
        runtime.block_on(all).unwrap();
        server.reports(": left; ", total);
        ([descriptors(&server.process), server.threads()], server.resident())
    };
    let (early_counts, early) = sessions(1000, 1000);
    let (late_counts, late) = sessions(9000, 10_000);
    println!(
        "descriptors and threads after 1,000: {early_counts:?}, {early} bytes; after 10,000: {late_counts:?}, {late}"
    );
    assert_eq!(late_counts, early_counts, "descriptors and threads after 10,000 clients, after 1,000");
    assert!(late < early + GROWTH, "{late} bytes after 10,000 clients, {early} after 1,000");
}

#[test]
fn clients_killed_in_mid_transfer_leave_their_descriptors_and_places() {
    const KILLED: usize = 20;
    let server = Server::start(&["--max-clients", "20"]);
    server.client(LINES).end_within(PATIENCE).succeeded();
    server.reports(": left; ", 1);
    let before = descriptors(&server.process);
    // More than they can ever carry out before they are killed.
    let busy = format!("send {}\n", "x".repeat(2000)).repeat(20_000);
    let clients = [(); KILLED].map(|()| server.client(&busy));
    for client in &clients {
        client.wait_until("first echo", PATIENCE, |client| client.out().contains('x'));
    }
    assert!(descriptors(&server.process) >= before + KILLED, "they are not all there");
    for client in clients {
        client.signal(Signal::KILL);
    }
    server.reports(": lost: ", KILLED);
    assert_eq!(
        descriptors(&server.process),
        before,
        "open file descriptors after all were killed, before they came"
    );
    // Every place is free: as many as there may be are there at once.
    let waiting = "send here\n".to_owned() + &"add 1\n".repeat(50);
    let clients = [(); KILLED].map(|()| server.client(&waiting));
    for client in clients {
        let ended = client.end_within(PATIENCE).succeeded();
        assert!(
            ended.out.starts_with("here\n0 + 1 = 1\n") && ended.out.ends_with("49 + 1 = 50\n"),
            "{ended:?}"
        );
    }
}
