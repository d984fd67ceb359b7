//! Thousands of clients at once.

use crate::Result;
use crate::args::{CrowdArgs, MemberArgs};
use crate::fairness::jain;
use crate::member::{Outcome, READY};
use crate::process::{Member, members};
use crate::server::{Server, raise_descriptors};
use crate::usage::Usage;
use serde::Serialize;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of each client's region.
const REGION: &str = "64K";

/// Unfinished handshakes, half of them of one address: more than connect at a time.
const HANDSHAKES: u64 = 512;

/// Descriptors that the server wants beside those of its clients.
const BESIDE: u64 = 128 + 2 * HANDSHAKES;

/// How long the server may take to see that all have left.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Debug, Serialize)]
struct Verdict {
    clients: u32,
    processes: u32,
    /// Until all were connected, in seconds.
    connected_s: f64,
    /// How long they were busy, in seconds.
    busy_s: u32,
    rounds: u64,
    /// Of one client: the fewest, the median, the most.
    fewest: u64,
    median: u64,
    most: u64,
    /// Jain's index of the clients' rounds.
    fairness: f64,
    /// The longest round of any client, in milliseconds.
    longest_ms: u64,
    /// The server before the first client, with all of them, and when they had left.
    server: [Usage; 3],
    /// What went wrong, the first few.
    failures: Vec<String>,
    ok: bool,
}

pub(crate) fn run(args: &CrowdArgs) -> Result<()> {
    let program = args.server.path()?;
    // Whatever is still missing, the server names.
    raise_descriptors(u64::from(args.clients) + BESIDE);
    let state = tempfile::tempdir()?;
    let certs = state.path().join("certs");
    let (clients, handshakes) = (args.clients.to_string(), HANDSHAKES.to_string());
    let options = ["--max-clients", &clients, "--max-handshakes", &handshakes, "--region", REGION];
    let server = Server::start(&program, &certs, "127.0.0.1:0", &options)?;
    let before = server.usage()?;
    let since = Instant::now();
    let mut members = gather(args, &server, &certs)?;
    for member in &mut members {
        match member.lines.next().transpose()? {
            Some(line) if line == READY => {}
            other => return Err(format!("clients didn't connect: {other:?}").into()),
        }
    }
    let connected = since.elapsed();
    let crowded = server.usage()?;
    for member in &mut members {
        writeln!(member.child.stdin.as_mut().ok_or("no input")?)?;
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    for member in &mut members {
        let line = member.lines.next().transpose()?.ok_or("a process of clients ended early")?;
        outcomes.extend(serde_json::from_str::<Vec<Outcome>>(&line)?);
    }
    drop(members);
    let deadline = Instant::now() + PATIENCE;
    while server.departed() < args.clients.into() {
        if Instant::now() > deadline {
            return Err(format!("the server has seen {} of {} leave", server.departed(), args.clients).into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let verdict = verdict(args, connected, &outcomes, [before, crowded, server.usage()?]);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&verdict)?);
    } else {
        verdict.print();
    }
    if verdict.ok { Ok(()) } else { Err("not everything was right".into()) }
}

/// Starts the processes, each with its part of the clients.
fn gather(args: &CrowdArgs, server: &Server, certs: &Path) -> Result<Vec<Member>> {
    let processes = args.processes.min(args.clients);
    let begin = |at: u32| {
        let clients = u64::from(args.clients) * u64::from(at) / u64::from(processes);
        u32::try_from(clients).unwrap_or(u32::MAX)
    };
    members(processes, |at| MemberArgs {
        server: server.address,
        certs: certs.to_owned(),
        first: begin(at),
        clients: begin(at + 1) - begin(at),
        seconds: args.seconds,
    })
}

fn verdict(args: &CrowdArgs, connected: Duration, outcomes: &[Outcome], server: [Usage; 3]) -> Verdict {
    let mut rounds: Vec<u64> = outcomes.iter().map(|outcome| outcome.rounds).collect();
    rounds.sort_unstable();
    let told = |outcome: &Outcome| Some(format!("client {}: {}", outcome.client, outcome.failure.as_ref()?));
    let failures: Vec<_> = outcomes.iter().filter_map(told).take(10).collect();
    let at = |index: usize| rounds.get(index).copied().unwrap_or(0);
    Verdict {
        clients: args.clients,
        processes: args.processes,
        connected_s: connected.as_secs_f64(),
        busy_s: args.seconds,
        rounds: rounds.iter().sum(),
        fewest: at(0),
        median: at(rounds.len() / 2),
        most: at(rounds.len().saturating_sub(1)),
        fairness: jain(&rounds),
        longest_ms: outcomes.iter().map(|outcome| outcome.longest_ms).max().unwrap_or(0),
        // The allocator keeps memory; descriptors and threads come back.
        ok: failures.is_empty()
            && rounds.len() == args.clients as usize
            && at(0) > 0
            && server[0].descriptors == server[2].descriptors
            && server[0].threads == server[2].threads,
        server,
        failures,
    }
}

impl Verdict {
    /// For a person, and as a row of a table in `docs/operating.md`.
    fn print(&self) {
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let [before, crowded, after] = self.server;
        println!(
            "{} clients in {} processes, connected in {:.1} s",
            self.clients, self.processes, self.connected_s
        );
        println!(
            "{} rounds in {} s; of one client {} to {}, median {}; the longest took {} ms",
            self.rounds, self.busy_s, self.fewest, self.most, self.median, self.longest_ms
        );
        println!("Jain's index: {:.4}", self.fairness);
        for (when, usage) in [("before", before), ("with all", crowded), ("after", after)] {
            println!(
                "the server {when}: {:.1} MiB, {} descriptors, {} threads",
                mib(usage.memory),
                usage.descriptors,
                usage.threads
            );
        }
        self.failures.iter().for_each(|failure| println!("FAILED: {failure}"));
        println!("{}", if self.ok { "ok" } else { "FAILED" });
    }
}
