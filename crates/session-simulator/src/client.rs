//! A client's program: sessions, each a task that does what its plan says and knows what has to come of it.

use crate::ledger::{Ended, Entry, Ledger};
use crate::liar;
use crate::limits::{BUFFERS, ECHO, TIMEOUTS};
use crate::pki::{Certificates, server_name, trusted};
use crate::plan::{COUNTERS, ClientPlan, Ending, MS, Operation, SessionPlan};
use crate::process::Host;
use crate::wire::Stream;
use secure_rdma::control::PacketPolicy;
use secure_rdma::{Client, Identity, Limits, Session, SessionError, SessionOptions};
use simulator::Rng;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Starts the sessions of a client's plan.
pub(crate) fn start(
    host: &Host,
    plan: &ClientPlan,
    servers: &[bool],
    (ledger, certificates): (&Arc<Ledger>, &Arc<Certificates>),
    rng: &mut Rng,
) {
    let begun = host.network.now();
    for session in &plan.sessions {
        let lies = session.lies.is_some() || servers[session.server];
        let rude = session.end == Ending::Drop;
        let server_leaves = session.server_leaves;
        let entry = Entry::new(host.machine, session.server, plan.identity);
        let number = ledger.enter(Entry { lies, rude, server_leaves, ..entry });
        let (host, ledger) = (host.clone(), Arc::clone(ledger));
        let certificates = Arc::clone(certificates);
        let member = Member { host, number, ledger, certificates, identity: plan.identity };
        let (session, rng) = (session.clone(), rng.fork());
        tokio::spawn(async move {
            // Clocks of processes that start anew go on.
            let wait = (session.begins_ms * MS).saturating_sub(begun);
            tokio::time::sleep(Duration::from_nanos(wait)).await;
            let end = member.run(session, rng).await;
            member.host.network.note("client ends", &[("session", member.number as u64), end.number()]);
            member.ledger.with(member.number, |entry| entry.client_end = Some(end));
        });
    }
}

/// What a session's task works with.
struct Member {
    host: Host,
    number: usize,
    ledger: Arc<Ledger>,
    certificates: Arc<Certificates>,
    identity: usize,
}

/// How long a client waits before it tries again: at first, and at most.
const AGAIN: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(1_500)];

impl Member {
    async fn run(&self, plan: SessionPlan, mut rng: Rng) -> Ended {
        let mut pause = AGAIN[0];
        // Who has met a liar has enough.
        let mut left = if self.ledger.with(self.number, |entry| entry.lies) { 1 } else { plan.tries };
        loop {
            left -= 1;
            let edition = self.ledger.begins(self.number, self.host.network.now());
            let end = self.attempt(&plan, edition, rng.fork()).await;
            self.ledger.over(self.number, self.host.network.now(), &end);
            let had_it = |entry: &mut Entry| entry.last().is_some_and(|last| last.opened.is_some());
            let opened = self.ledger.with(self.number, had_it);
            if left == 0 || opened || end == Ended::Well {
                return end;
            }
            self.host.network.note("client fails", &[("session", self.number as u64), end.number()]);
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(AGAIN[1]);
        }
    }

    /// Tries to open the session, and uses it.
    async fn attempt(&self, plan: &SessionPlan, edition: usize, rng: Rng) -> Ended {
        let stream = match self.dial(plan.server).await {
            Ok(stream) => stream,
            Err(error) => return Ended::failed(&error),
        };
        let identity = self.certificates.client(self.identity, edition).clone();
        if let Some(lie) = plan.lies {
            let tls = liar::client_tls(&self.host, identity);
            liar::as_client(stream, &tls, plan.server, lie).await;
            return Ended::Well;
        }
        let mut options = SessionOptions::default()
            .seal(plan.seal)
            .heartbeat(Duration::from_millis(plan.heartbeat_ms))
            .buffers(BUFFERS)
            .key_limits(Limits { records: plan.key_records, ..Limits::DEFAULT })
            .timeouts(TIMEOUTS);
        if !plan.packets {
            options = options.packets(None);
        } else if plan.seal == secure_rdma::control::SealPolicy::Required {
            options = options.packets(Some(PacketPolicy::Offered));
        }
        match self.open(stream, identity, plan, options).await {
            Ok(session) => {
                self.ledger.opened(self.number, self.host.network.now());
                self.host.network.note("client opens", &[("session", self.number as u64)]);
                self.use_it(session, plan, rng).await.into()
            }
            Err(error) => Ended::failed(&error),
        }
    }

    async fn dial(&self, server: usize) -> Result<Stream, SessionError> {
        let address = simulator::address(server);
        let refused = |source: io::Error| SessionError::Connect {
            address: (address, crate::wire::PORT).into(),
            source: Arc::new(source),
        };
        let asks = |from| self.ledger.asks(self.number, from);
        let connect = self.host.wires.connect(self.host.machine, server, asks);
        let connected = tokio::time::timeout(TIMEOUTS.connect, connect).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(refused)
    }

    async fn open(
        &self,
        stream: Stream,
        identity: Identity,
        plan: &SessionPlan,
        options: SessionOptions,
    ) -> Result<Session, SessionError> {
        let client = Client::builder(trusted())
            .identity(identity)
            .device(Arc::clone(&self.host.device))
            .clock(self.host.clock.clone())
            .options(options)
            .build()?;
        let peer = stream.peer();
        client.connect_over(stream, peer, &server_name(plan.server)).await
    }

    async fn use_it(
        &self,
        mut session: Session,
        plan: &SessionPlan,
        mut rng: Rng,
    ) -> Result<(), SessionError> {
        for operation in &plan.operations {
            let begun = self.host.network.now();
            match self.operate(&mut session, *operation, &mut rng).await {
                Ok(true) => self.ledger.succeeded(self.number, begun),
                Ok(false) => {}
                Err(failure) => {
                    if plan.insists && matches!(failure, SessionError::Operation { .. }) {
                        self.insist(session).await;
                    }
                    return Err(failure);
                }
            }
        }
        match plan.end {
            Ending::Close => {
                let begun = self.host.network.now();
                session.close().await?;
                if plan.server_leaves.is_none() {
                    self.ledger.succeeded(self.number, begun);
                }
                Ok(())
            }
            Ending::Drop => Ok(()),
        }
    }

    /// Says goodbye, though nobody knows what became of an operation: that can't be in order.
    async fn insist(&self, session: Session) {
        let closed = session.close().await;
        self.ledger.check(self.number, |_| match closed {
            Ok(()) => Err("it was closed in order after an operation had failed".into()),
            Err(_) => Ok(()),
        });
    }

    /// Carries out an operation; whether the server's device had a part in it.
    async fn operate(
        &self,
        session: &mut Session,
        operation: Operation,
        rng: &mut Rng,
    ) -> Result<bool, SessionError> {
        match operation {
            Operation::Send { count, len } | Operation::Post { count, len } => {
                let messages: Vec<_> = (0..count).map(|_| message(rng, 0, len)).collect();
                self.ledger.with(self.number, |entry| entry.sent.extend(messages.iter().cloned()));
                session.post_sends(messages.iter().map(Vec::as_slice)).await?;
                if matches!(operation, Operation::Post { .. }) {
                    return Ok(false);
                }
                session.flush().await?;
                self.flushed();
            }
            Operation::Echo { len } => {
                let message = message(rng, ECHO, len);
                self.ledger.with(self.number, |entry| entry.sent.push(message.clone()));
                session.send(&message).await?;
                self.flushed();
                let echo = session.recv().await?.ok_or(SessionError::Closed)?;
                self.ledger.check(self.number, |_| {
                    if echo == message { Ok(()) } else { Err("another echo than what was sent".into()) }
                });
            }
            Operation::Write { at, len } | Operation::PostWrite { at, len } => {
                let bytes = rng.bytes(len);
                self.ledger.with(self.number, |entry| entry.region[at..at + len].copy_from_slice(&bytes));
                session.post_write(at as u64, &bytes).await?;
                if matches!(operation, Operation::PostWrite { .. }) {
                    return Ok(false);
                }
                session.flush().await?;
                self.flushed();
            }
            Operation::Read { at, len } => {
                let found = session.read(at as u64, len).await?;
                self.ledger.check(self.number, |entry| match found == entry.region[at..at + len] {
                    true => Ok(()),
                    false => Err(format!("{len} bytes read from {at} aren't what was written")),
                });
            }
            Operation::Add { .. } | Operation::Swap { .. } if session.counters() < COUNTERS as u64 => {
                return Ok(false);
            }
            Operation::Add { counter, add } => {
                let before = self.ledger.with(self.number, |entry| entry.counters[counter]);
                let after = before.wrapping_add(add);
                self.count(counter, after, before, session.fetch_add(counter as u64, add)).await?;
            }
            Operation::Swap { counter, fits, swap } => {
                let before = self.ledger.with(self.number, |entry| entry.counters[counter]);
                let (compare, after) = if fits { (before, swap) } else { (!before, before) };
                self.count(counter, after, before, session.compare_swap(counter as u64, compare, swap))
                    .await?;
            }
            Operation::Pause { ms } => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All that was posted has arrived.
    fn flushed(&self) {
        self.ledger.with(self.number, |entry| entry.acknowledged = entry.sent.len());
    }

    /// An atomic operation, which finds `before` and leaves `after`.
    async fn count(
        &self,
        counter: usize,
        after: u64,
        before: u64,
        operation: impl Future<Output = Result<u64, SessionError>>,
    ) -> Result<(), SessionError> {
        let found = operation.await?;
        self.ledger.check(self.number, |entry| {
            entry.counters[counter] = after;
            if found == before { Ok(()) } else { Err(format!("counter {counter} was {found}, not {before}")) }
        });
        Ok(())
    }
}

fn message(rng: &mut Rng, first: u8, len: usize) -> Vec<u8> {
    let mut message = rng.bytes(len + 1);
    message[0] = first;
    message
}
