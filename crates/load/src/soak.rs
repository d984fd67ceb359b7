//! A server under mixed load and faults for a long time: what it has may not grow.
//!
//! In each round processes of clients are busy, and check all their data; one of them is killed in the middle
//! of it, one stands still until the server has given its clients up, connections are opened that never say
//! anything, and some that talk nonsense. When all of them are gone the server's memory, descriptors and
//! threads are noted.

use crate::Result;
use crate::args::{MemberArgs, SoakArgs};
use crate::member::{Outcome, READY};
use crate::process::{Member, members};
use crate::server::{Server, raise_descriptors};
use crate::usage::Usage;
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Clients of each process.
const CLIENTS: u32 = 40;

/// Processes of a round: one is killed, one stands still, the others finish.
const PROCESSES: u32 = 4;

/// How long they are busy in a round, in seconds.
const BUSY: u32 = 6;

/// Connections of a round that say nothing or nonsense.
const STRANGERS: usize = 200;

/// How long a process stands still: longer than three heartbeats, after which its sessions are over.
const STILL: Duration = Duration::from_secs(17);

/// How long the server may take to see that all have left.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rounds before the first that counts: the allocator's arenas and the runtime's threads find their size.
const WARM_UP: u32 = 1;

/// By how much the memory may grow from the first round that counts to the last.
const GROWTH: u64 = 8 << 20;

pub(crate) fn run(args: &SoakArgs) -> Result<()> {
    let program = args.server.path()?;
    raise_descriptors(4096);
    let state = tempfile::tempdir()?;
    let certs = state.path().join("certs");
    // A client that doesn't get its turn for a while, since there is so much else to do, isn't what this is about.
    let options = ["--region", "64K", "--max-clients", "256", "--handshake-limit", "60"];
    let server = Server::start(&program, &certs, "127.0.0.1:0", &options)?;
    let end = Instant::now() + Duration::from_secs(args.seconds.into());
    let (mut first, mut last): (Option<Usage>, Option<Usage>) = (None, None);
    let (mut round, mut arrived) = (0, 0);
    while round <= WARM_UP + 1 || Instant::now() < end {
        let rounds = play(
            &server,
            &MemberArgs {
                server: server.address,
                certs: certs.clone(),
                first: 0,
                clients: CLIENTS,
                seconds: BUSY,
            },
        )?;
        arrived += u64::from(PROCESSES * CLIENTS);
        let deadline = Instant::now() + PATIENCE;
        while server.departed() < arrived {
            if Instant::now() > deadline {
                return Err(format!(
                    "round {round}: the server has seen {} of {arrived} leave",
                    server.departed()
                )
                .into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        let usage = at_rest(&server, first.as_ref())?;
        println!(
            "round {round}: {rounds} rounds of clients; the server has {:.1} MiB, {} descriptors, {} threads",
            mib(usage.memory),
            usage.descriptors,
            usage.threads
        );
        if round >= WARM_UP {
            first.get_or_insert(usage);
            last = Some(usage);
        }
        round += 1;
    }
    let (Some(first), Some(last)) = (first, last) else { return Err("there was no round".into()) };
    if last.descriptors != first.descriptors || last.threads != first.threads {
        return Err("descriptors or threads are others than after the first round".into());
    }
    if last.memory > first.memory + GROWTH {
        return Err(format!("memory has grown by {:.1} MiB", mib(last.memory - first.memory)).into());
    }
    println!("{round} rounds, {arrived} clients; flat: ok");
    Ok(())
}

/// One round; how many rounds the clients have finished that were left alone.
fn play(server: &Server, each: &MemberArgs) -> Result<u64> {
    let mut all = members(PROCESSES, |at| MemberArgs { first: at * CLIENTS, ..each.clone() })?;
    for member in &mut all {
        match member.lines.next().transpose()? {
            Some(line) if line == READY => {}
            other => return Err(format!("clients didn't connect: {other:?}").into()),
        }
    }
    for member in &mut all {
        writeln!(member.child.stdin.as_mut().ok_or("no input")?)?;
    }
    let strangers = strangers(server.address);
    thread::sleep(Duration::from_secs(u64::from(BUSY) / 2));
    // In the middle of what they do.
    drop(all.pop());
    let still = all.pop().ok_or("no process")?;
    signal(&still, Signal::STOP)?;
    let stopped = Instant::now();
    let mut rounds = 0;
    for mut member in all {
        let line = member.lines.next().transpose()?.ok_or("a process of clients ended early")?;
        for outcome in serde_json::from_str::<Vec<Outcome>>(&line)? {
            if let Some(failure) = outcome.failure {
                return Err(format!("client {}: {failure}", outcome.client).into());
            }
            rounds += outcome.rounds;
        }
    }
    thread::sleep(STILL.saturating_sub(stopped.elapsed()));
    signal(&still, Signal::CONT)?;
    drop((still, strangers));
    Ok(rounds)
}

/// Connections that are no clients: every other one says nothing.
fn strangers(server: SocketAddr) -> Vec<TcpStream> {
    let connect = |at: usize| {
        let mut stream = TcpStream::connect(server).ok()?;
        if at.is_multiple_of(2) {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        }
        Some(stream)
    };
    (0..STRANGERS).filter_map(connect).collect()
}

fn signal(member: &Member, signal: Signal) -> Result<()> {
    let id = Pid::from_raw(member.child.id().try_into()?).ok_or("no process")?;
    Ok(kill_process(id, signal)?)
}

/// What the server has when the last connections are closed, which it is given some time for.
fn at_rest(server: &Server, expected: Option<&Usage>) -> Result<Usage> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let usage = server.usage()?;
        let settled = expected
            .is_none_or(|first| usage.descriptors <= first.descriptors && usage.threads <= first.threads);
        if (expected.is_some() && settled) || Instant::now() > deadline {
            return Ok(usage);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
