//! What sessions cost that do nothing.

use crate::churn::Server;
use crate::process::{PATIENCE, Process};
use crate::server::SECURE_CLIENT;
use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::certs::{Name, Store};
use secure_rdma::tls::Trust;
use secure_rdma::{Client, Session};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// How long nothing is done.
const REST: Duration = Duration::from_secs(5);

/// What a process may use of the processor meanwhile, in clock ticks of 10 ms: one is what a single
/// measurement can be off by.
const TICKS: u64 = 2;

const SESSIONS: usize = 40;

/// What part of what it takes to open them idle sessions may cost, where that is more than [`TICKS`]: on a slow machine
/// both take longer. Here it is as much.
const SHARE: u64 = 2;

/// Bytes of the server's memory for each, beside its region.
const EACH: usize = 64 << 10;

/// Clock ticks that a process has had of the processor, in user and kernel mode (proc(5): fields 14 and 15 of `stat`).
fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The second field, the program's name, may have blanks; it ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// Opens so many sessions.
async fn open(server: &Server, count: usize) -> Vec<Session> {
    let trust = Trust::State(server.certs.path().into());
    let identity = Store::open(server.certs.path()).unwrap().account_identity().unwrap();
    let device = Device::open(&DeviceSelector::Embedded { address: None, port: None }).unwrap();
    let client = Client::builder(trust).identity(identity.unwrap()).device(device).build().unwrap();
    let name: Name = "localhost".parse().unwrap();
    let (host, port) = (server.address.ip().to_string(), server.address.port());
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(client.connect(&host, port, &name).await.unwrap());
    }
    sessions
}

#[test]
fn idle_sessions_use_neither_processor_nor_much_memory() {
    let server = Server::start(&[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // What is there once for all clients.
    let first = runtime.block_on(open(&server, 4));
    server.reports(": arrived from ", first.len());
    let (before, process) = (server.resident(), server.process.id());
    let closed = ticks(process);
    let sessions = runtime.block_on(open(&server, SESSIONS));
    let all = first.len() + sessions.len();
    server.reports(": arrived from ", all);
    let each = server.resident().saturating_sub(before) / SESSIONS;
    let begin = ticks(process);
    std::thread::sleep(REST);
    let (opening, used) = (begin - closed, ticks(process) - begin);
    println!(
        "{all} idle sessions: {each} bytes each, {used} ticks in {REST:?}, {opening} to open {SESSIONS}"
    );
    assert!(each <= EACH, "{each} bytes of the server's memory for each idle session");
    let most = TICKS.max(opening / SHARE);
    assert!(used <= most, "the server of idle sessions used {used} ticks of the processor in {REST:?}");
}

#[test]
fn an_idle_client_uses_no_processor() {
    let server = Server::start(&[]);
    let mut command = Command::new(SECURE_CLIENT);
    command.arg(server.address.to_string()).args(["localhost", "--certs"]).arg(server.certs.path());
    let client = Process::start_waiting(&mut command);
    client.wait_until("session", PATIENCE, |client| client.err().contains("connected"));
    let begin = ticks(client.id());
    std::thread::sleep(REST);
    let used = ticks(client.id()) - begin;
    assert!(used <= TICKS, "an idle client used {used} ticks of the processor in {REST:?}");
}
