//! `secure-rdma bench server`: the other side.

use super::clear::worked;
use super::queue_pairs::{self, Connected, Prepared};
use super::request::DEPTH;
use super::run::Course;
use super::task::{self, Operation, Plan, Rate, Reply, Task, Word};
use crate::advice::Told;
use crate::args::LogFormat;
use crate::args::bench::BenchServerArgs;
use crate::failure::Failure;
use crate::runtime::{self, Interruption};
use crate::server::refusals::{Refusals, SUMMARY_EVERY};
use crate::server::{canonical, take_ports};
use crate::trust::ensure_own;
use crate::{logging, output};
use core::time::Duration;
use rdma_verbs::Device;
use secure_rdma::certs::host_names;
use secure_rdma::control::SealPolicy;
use secure_rdma::{Arrival, Buffers, Server, ServerOptions, Session, SessionOptions, SessionQuota};
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Sessions at a time, if there is memory for them: those of one client with as many queue pairs as it can
/// have, and one more.
const CLIENTS: usize = 257;

/// Handshakes at a time.
const HANDSHAKES: usize = 64;

/// The longest message beside those that are measured: what a client wants.
const SHORTEST: u64 = 64 << 10;

/// How often one looks whether something has ended.
const TICK: Duration = Duration::from_millis(2);

/// What all clients together may have.
#[derive(Debug)]
struct Budget {
    /// For queue pairs in clear, in units of [`Budget::UNIT`].
    memory: Arc<Semaphore>,
    /// Measurements of these.
    runs: Arc<Semaphore>,
}

/// A measurement's part of it, given back when this is dropped.
#[derive(Debug)]
struct Share(#[expect(dead_code, reason = "held, not looked at")] [OwnedSemaphorePermit; 2]);

impl Budget {
    const UNIT: u64 = 1 << 20;

    fn new(memory: u64, runs: usize) -> Self {
        let units = usize::try_from(memory / Self::UNIT).unwrap_or(usize::MAX);
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self { memory: semaphore(units), runs: semaphore(runs) }
    }

    /// What `plan` needs, if it is there.
    fn share(&self, plan: &Plan) -> Result<Share, String> {
        let run = Arc::clone(&self.runs).try_acquire_owned();
        let run = run.map_err(|_| "others measure here; try again when they are done (--max-runs)")?;
        let units = u32::try_from(plan.memory().div_ceil(Self::UNIT)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(units);
        let memory = memory.map_err(|_| {
            "others measure here with what memory this server has; ask for less, or try again when they are \
             done (--memory)"
        })?;
        Ok(Share([run, memory]))
    }
}

/// How many sessions there may be with regions of `region` bytes in `memory`.
fn sessions(memory: u64, region: u64) -> usize {
    usize::try_from(memory / region.max(1)).unwrap_or(usize::MAX).clamp(1, CLIENTS)
}

pub(super) fn run(args: &BenchServerArgs) -> Result<(), Failure> {
    logging::start(args.verbose);
    output::detach(LogFormat::Text)?;
    let store = args.certs.store()?;
    let mut names = host_names()?;
    names.extend(args.names.iter().cloned());
    let identity = ensure_own(&store, &names)?;
    let fingerprint = store.authority_fingerprint()?;
    if args.until_input_ends {
        std::thread::spawn(|| {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            std::process::exit(0);
        });
    }
    let session = SessionOptions::default()
        .seal(SealPolicy::Required)
        .max_message(args.region.0.max(SHORTEST))
        // Who sends more at a time than there are receive requests is told to wait, which is slower than
        // sending less.
        .buffers(Buffers { receives: DEPTH, ..Buffers::DEFAULT });
    let options = ServerOptions::default()
        .max_clients(sessions(args.memory.0 / 2, args.region.0))
        .quota(SessionQuota::UNLIMITED)
        .max_handshakes(HANDSHAKES)
        .region_len(args.region.0)
        .session(session);
    let server = Server::builder(identity, args.client_auth.client_auth(&store, None, None)).options(options);
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let runs = args.max_runs.map_or(2 * processors, NonZeroUsize::get);
    let budget = Arc::new(Budget::new(args.memory.0 / 2, runs));
    let runtime = runtime::start()?;
    let result = runtime.block_on(async {
        let mut interruption = Interruption::watch()?;
        let device = Device::open(&args.device.device)?;
        let name = device.name().to_string();
        take_ports(&device, args.listen.ip());
        let server = server.device(Arc::clone(&device)).bind(args.listen).await?;
        output::line(format_args!("listening on {}, device {name}, for benchmarks", server.local_addr()))?;
        output::line(format_args!("CA fingerprint: {fingerprint}"))?;
        output::line(format_args!("clients: {}", args.client_auth.promise()))?;
        let mut guests = JoinSet::new();
        let mut refusals = Refusals::new(Instant::now());
        let mut second = tokio::time::interval(SUMMARY_EVERY);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = interruption.arrived() => return Ok(()),
                arrival = server.next() => match arrival {
                    Arrival::Session(session) => {
                        guests.spawn(entertain(*session, Arc::clone(&device), Arc::clone(&budget)));
                    }
                    Arrival::Refused { peer, error } => {
                        let peer = canonical(peer);
                        if refusals.tells(peer.ip(), Instant::now()) {
                            output::line(format_args!("refused {peer}: {}", Told(&error)))?;
                        }
                    }
                },
                _ = second.tick() => {
                    if let Some(summary) = refusals.summary(server.untold()) {
                        output::line(format_args!("{summary}"))?;
                    }
                }
                Some(ended) = guests.join_next() => {
                    output::line(format_args!("{}", worked(ended.map(Ok))?))?;
                }
            }
        }
    });
    runtime.shutdown_background();
    result
}

/// Does what a client wants; returns what there is to tell of it.
async fn entertain(mut session: Session, device: Arc<Device>, budget: Arc<Budget>) -> String {
    let peer = canonical(session.info().peer);
    match serve(&mut session, &device, &budget).await {
        Ok(what) => {
            // The client closes it; if it doesn't, there is nothing to be done.
            let _ = session.close().await;
            format!("{peer}: {what}")
        }
        Err(failure) => {
            let _ = task::tell(&mut session, &Reply::Failed(failure.to_string())).await;
            format!("{peer}: failed: {failure}")
        }
    }
}

async fn serve(session: &mut Session, device: &Arc<Device>, budget: &Budget) -> Result<String, Failure> {
    match task::hear_soon(session).await? {
        Task::Verbs(plan, ends) => {
            let share = check(&plan, session.data_len()).and_then(|()| budget.share(&plan));
            // Until the measurement is over.
            let _share = match share {
                Ok(share) => share,
                Err(reason) => {
                    task::tell(session, &Reply::Refused(reason.clone())).await?;
                    return Ok(format!("refused: {reason}"));
                }
            };
            let prepared = Prepared::new(device, session.info(), plan, true)?;
            let own = prepared.ends();
            let connected = prepared.connect(session.info(), &ends)?;
            task::tell(session, &Reply::Ready(Some(own))).await?;
            verbs(session, connected, plan).await?;
            let Plan { operation, latency, size, queue_pairs, .. } = plan;
            let what = if latency { "lat" } else { "bw" };
            Ok(format!("{} {what}, {size} bytes, {queue_pairs} queue pairs in clear", operation.name()))
        }
        Task::Sink => {
            task::tell(session, &Reply::Ready(None)).await?;
            let mut messages: u64 = 0;
            while session.recv().await?.is_some() {
                messages += 1;
            }
            Ok(format!("took {messages} sealed messages"))
        }
        Task::Echo => {
            session.set_busy_poll(task::POLLED);
            task::tell(session, &Reply::Ready(None)).await?;
            let mut messages: u64 = 0;
            while let Some(message) = session.recv().await? {
                session.post_send(&message).await?;
                messages += 1;
            }
            Ok(format!("sent back {messages} sealed messages"))
        }
        Task::Idle => {
            task::tell(session, &Reply::Ready(None)).await?;
            while session.recv().await?.is_some() {}
            Ok("was written to and read from, sealed".into())
        }
    }
}

/// Whether a client may have that. Its numbers are a stranger's: nothing is made by them before they were looked at.
fn check(plan: &Plan, region: u64) -> Result<(), String> {
    let Plan { operation, size, queue_pairs, depth, inline, .. } = *plan;
    let atomic = operation == Operation::Atomic;
    if size == 0 || u64::from(size) > region || (atomic && size != 8) {
        return Err(format!("messages of {size} bytes, where 1 to {region} are possible"));
    }
    if queue_pairs == 0 || depth == 0 || (plan.latency && (queue_pairs > 1 || plan.bidirectional)) {
        return Err(format!("{queue_pairs} queue pairs with {depth} requests"));
    }
    if plan.memory() > queue_pairs::MEMORY || inline > size.max(1 << 16) {
        return Err(format!(
            "{queue_pairs} queue pairs with {depth} requests of {size} bytes take too much memory"
        ));
    }
    if plan.path_mtu().is_none() {
        return Err(format!("a path MTU of {} bytes", plan.mtu));
    }
    Ok(())
}

/// The server's part of a measurement of queue pairs in clear.
async fn verbs(session: &mut Session, connected: Connected, plan: Plan) -> Result<(), Failure> {
    let Word::Go = task::hear_soon(session).await? else {
        return Err(Failure::Other("the client is done before it began".into()));
    };
    let course = Arc::new(Course::default());
    let shared = Arc::clone(&course);
    let mut work = tokio::task::spawn_blocking(move || play(connected, plan, &shared));
    let mut rate = None;
    let mut done = false;
    let mut tick = tokio::time::interval(TICK);
    let result = loop {
        if done && course.has_sent() {
            break Ok(());
        }
        tokio::select! {
            result = &mut work, if rate.is_none() => match worked(result) {
                Ok(own) => rate = Some(own),
                Err(failure) => break Err(failure),
            },
            word = task::hear(session), if !done => match word {
                Ok(Some(Word::Done)) => done = true,
                Ok(_) => break Err(Failure::Other("the client left in the middle".into())),
                Err(failure) => break Err(failure),
            },
            _ = tick.tick() => {}
        }
    };
    course.end();
    result?;
    let rate = match rate {
        Some(rate) => rate,
        None => worked(work.await)?,
    };
    task::tell(session, &Reply::Done(rate)).await?;
    // The client leaves.
    while session.recv().await?.is_some() {}
    Ok(())
}

fn play(connected: Connected, plan: Plan, course: &Course) -> Result<Option<Rate>, Failure> {
    if plan.latency { connected.pong(course).map(|()| None) } else { connected.bandwidth(course) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::task::Limit;

    fn plan() -> Plan {
        Plan {
            operation: Operation::Write,
            latency: false,
            bidirectional: false,
            size: 4096,
            queue_pairs: 4,
            depth: 128,
            inline: 0,
            mtu: 4096,
            limit: Limit::Messages(u64::MAX),
        }
    }

    #[test]
    fn strangers_together_get_no_more_than_there_is() {
        let plan = Plan { size: 1 << 20, queue_pairs: 64, ..plan() };
        let budget = Budget::new(3 * plan.memory(), 16);
        let shares: Vec<_> = (0..3).map(|_| budget.share(&plan).unwrap()).collect();
        assert!(budget.share(&plan).unwrap_err().contains("--memory"));
        drop(shares);
        let shares: Vec<_> = (0..16).map_while(|_| budget.share(&self::plan()).ok()).collect();
        assert_eq!(shares.len(), 16);
        assert!(budget.share(&self::plan()).unwrap_err().contains("--max-runs"));
        // Sessions have regions, whether anything is measured or not.
        assert_eq!(sessions(1 << 30, 8 << 20), 128);
        assert_eq!(sessions(2 << 30, 8 << 20), 256);
        assert_eq!(sessions(1 << 50, 8 << 20), CLIENTS);
        assert_eq!(sessions(1, 8 << 20), 1);
    }

    #[test]
    fn a_stranger_gets_only_what_fits() {
        let good = plan();
        let room = 8 << 20;
        assert_eq!(check(&good, room), Ok(()));
        for bad in [
            Plan { size: 0, ..good },
            Plan { size: (8 << 20) + 1, ..good },
            Plan { size: u32::MAX, ..good },
            Plan { queue_pairs: 0, ..good },
            Plan { depth: 0, ..good },
            Plan { queue_pairs: u32::MAX, ..good },
            Plan { depth: u32::MAX, ..good },
            Plan { queue_pairs: u32::MAX, depth: u32::MAX, ..good },
            Plan { mtu: 1500, ..good },
            Plan { inline: u32::MAX, ..good },
            Plan { operation: Operation::Atomic, ..good },
            Plan { latency: true, ..good },
        ] {
            assert!(check(&bad, room).is_err(), "{bad:?}");
        }
    }
}
