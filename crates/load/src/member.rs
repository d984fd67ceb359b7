//! A process that has many clients. It says when all of them are connected, waits for a line, has them busy for some
//! time, and says what came of it.

use crate::Result;
use crate::args::MemberArgs;
use crate::pages::{Pages, text};
use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::certs::Store;
use secure_rdma::{Buffers, Client, Name, Report, SealedBy, Session, SessionError, SessionOptions};
use serde::{Deserialize, Serialize};
use std::io::{Write as _, stdin, stdout};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a process says when its clients are connected.
pub(crate) const READY: &str = "ready";

/// Clients of a process that connect at a time.
const TOGETHER: usize = 8;

/// Bytes of a message.
const MESSAGE: usize = 1000;

/// What became of a client.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Outcome {
    pub(crate) client: u32,
    /// Rounds that it has finished, each checked: a message and its echo, a write, a read, and an atomic operation.
    pub(crate) rounds: u64,
    /// The longest of them, in milliseconds.
    pub(crate) longest_ms: u64,
    /// What went wrong.
    pub(crate) failure: Option<String>,
}

/// Small: each client has one message under way at a time.
const BUFFERS: Buffers = Buffers { size: 4096, receives: 4, sends: 2, ..Buffers::DEFAULT };

pub(crate) fn run(args: &MemberArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcomes = runtime.block_on(all(args))?;
    serde_json::to_writer(stdout(), &outcomes)?;
    println!();
    Ok(())
}

async fn all(args: &MemberArgs) -> Result<Vec<Outcome>> {
    let store = Store::open(&args.certs)?;
    let identity = store.account_identity()?.ok_or("no client's certificate")?;
    let client = Client::builder(store.authority()?)
        .identity(identity)
        .device(Device::open(&DeviceSelector::Embedded { address: None, port: None })?)
        .options(SessionOptions::default().buffers(BUFFERS))
        .build()?;
    let (client, places) = (Arc::new(client), Arc::new(Semaphore::new(TOGETHER)));
    let name: Name = "localhost".parse()?;
    let mut connecting = JoinSet::new();
    for number in args.first..args.first.saturating_add(args.clients) {
        let (client, places, name, server) =
            (Arc::clone(&client), Arc::clone(&places), name.clone(), args.server);
        connecting.spawn(async move {
            let _place = places.acquire_owned().await?;
            let session = client.connect(&server.ip().to_string(), server.port(), &name).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((number, session))
        });
    }
    // Those that are connected keep their sessions alive meanwhile.
    let sessions = connecting.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    let (go, begun) = watch::channel(None);
    let mut busy = JoinSet::new();
    for (number, session) in sessions {
        busy.spawn(keep_busy(number, session, begun.clone()));
    }
    drop(begun);
    writeln!(stdout(), "{READY}")?;
    stdout().flush()?;
    tokio::task::spawn_blocking(|| stdin().read_line(&mut String::new())).await??;
    go.send_replace(Some(Instant::now() + Duration::from_secs(args.seconds.into())));
    Ok(busy.join_all().await)
}

/// One client, from the time on that `begun` says, until the one that it says.
async fn keep_busy(number: u32, session: Session, mut begun: watch::Receiver<Option<Instant>>) -> Outcome {
    let mut outcome = Outcome { client: number, rounds: 0, longest_ms: 0, failure: None };
    let until = match begun.wait_for(Option::is_some).await {
        Ok(until) => until.unwrap_or_else(Instant::now),
        Err(_) => return outcome,
    };
    if let Err(failure) = rounds(session, until, &mut outcome).await {
        outcome.failure = Some(failure);
    }
    outcome
}

/// Rounds until that time, a look at the whole region, and the goodbye.
async fn rounds(
    mut session: Session,
    until: Instant,
    outcome: &mut Outcome,
) -> std::result::Result<(), String> {
    let said = |error: SessionError| Report::new(&error).to_string();
    if session.info().sealed != SealedBy::Packets {
        return Err(format!("sealed by {}", session.info().sealed));
    }
    let mut pages = Pages::new(outcome.client, session.data_len());
    let mut since = Instant::now();
    while since < until {
        round(&mut session, outcome.client, outcome.rounds, &mut pages).await?;
        outcome.rounds += 1;
        let took = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        outcome.longest_ms = outcome.longest_ms.max(took);
        since = Instant::now();
    }
    for (at, expected) in pages.all() {
        if session.read(at, expected.len()).await.map_err(said)? != expected {
            return Err(format!("in the end, other bytes at {at}"));
        }
    }
    session.close().await.map_err(said)
}

async fn round(
    session: &mut Session,
    client: u32,
    round: u64,
    pages: &mut Pages,
) -> std::result::Result<(), String> {
    let said = |what: &'static str| {
        move |error: SessionError| format!("round {round}, {what}: {}", Report::new(&error))
    };
    let message = text(client, round, MESSAGE);
    session.send(&message).await.map_err(said("send"))?;
    match session.recv().await.map_err(said("recv"))? {
        Some(echo) if echo == message => {}
        Some(_) => return Err(format!("round {round}: another echo")),
        None => return Err(format!("round {round}: the server has left")),
    }
    let (at, bytes) = pages.write(round);
    session.write(at, &bytes).await.map_err(said("write"))?;
    let (at, expected) = pages.expect(round);
    if session.read(at, expected.len()).await.map_err(said("read"))? != expected {
        return Err(format!("round {round}: other bytes at {at}"));
    }
    let before = session.fetch_add(0, 1).await.map_err(said("fetch-add"))?;
    if before != round {
        return Err(format!("round {round}: the counter held {before}"));
    }
    Ok(())
}
