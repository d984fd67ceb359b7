//! What a client that does nothing costs the server's process in memory. The server is a process of its own:
//! this program, started once more.

use super::server;
use crate::credentials::Credentials;
use crate::failure::{Failure, While};
use crate::runtime;
use crate::sample::Sample;
use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::certs::Store;
use secure_rdma::{Arrival, Client, SessionOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Clients that come first, for what the server needs once.
const FIRST: usize = 8;

/// Clients whose memory is measured.
const CLIENTS: u32 = 64;

/// Bytes of each one's region: as little as can be, since it isn't to be counted.
const REGION: u64 = 1;

/// The server's process, which ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Its standard input closes, which ends it; what is left to do is the system's.
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures it with some clients of this process.
pub(super) fn measure(device: &DeviceSelector, credentials: &Credentials) -> Result<Sample, Failure> {
    let program = std::env::current_exe().during("finding this program's file")?;
    let mut command = Command::new(program);
    command.arg("--idle-server").arg(device.to_string()).arg(credentials.store().dir());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process(command.spawn().during("starting a server")?);
    let mut lines = BufReader::new(process.0.stdout.take().ok_or("a server without output")?).lines();
    let mut line = || -> Result<String, Failure> {
        Ok(lines.next().ok_or("the server ended; its own output above may say why")??)
    };
    let port = line()?.parse().during("reading the server's port")?;
    let status = format!("/proc/{}/status", process.0.id());
    runtime::block_on(async {
        let client = Client::builder(credentials.trust()).device(Device::open(device)?).build()?;
        let name = Credentials::name()?;
        let mut sessions = Vec::new();
        let mut before = 0;
        for at in 0..FIRST + CLIENTS as usize {
            if at == FIRST {
                before = memory(&status)?;
            }
            sessions.push(client.connect("127.0.0.1", port, &name).await?);
            // The server has it, too.
            line()?;
        }
        let after = memory(&status)?;
        Ok(Sample::memory((after.saturating_sub(before) * 1024) as f64 / f64::from(CLIENTS)))
    })
}

/// A process's memory of its own, in KiB: `RssAnon` leaves out its program's pages and shared ones.
fn memory(status: &str) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(status).during(status)?;
    let value = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok());
    number.ok_or_else(|| format!("{status} tells no RssAnon").into())
}

/// Serves clients that do nothing, until standard input ends. Prints its port, and a line for each client.
pub(crate) fn serve(device: &DeviceSelector, state: &Path) -> Result<(), Failure> {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    runtime::block_on(async {
        let identity = Store::open(state)?.ensure_server(&[Credentials::name()?])?;
        let server = server(identity, Device::open(device)?, REGION, SessionOptions::default())
            .bind((Ipv4Addr::LOCALHOST, 0))
            .await?;
        let mut out = std::io::stdout();
        writeln!(out, "{}", server.local_addr().port())?;
        let mut sessions = Vec::new();
        loop {
            match server.next().await {
                Arrival::Session(session) => sessions.push(session),
                Arrival::Refused { error, .. } => return Err(error.into()),
            }
            writeln!(out, "client {}", sessions.len())?;
        }
    })
}
