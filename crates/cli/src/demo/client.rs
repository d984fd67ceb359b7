//! A client of the demo: what it does, and what came of it.

use super::server::Key;
use crate::place::Place;
use rdma_verbs::{Device, DeviceSelector, RemoteRegion, Status};
use secure_rdma::certs::{Identity, Name};
use secure_rdma::control::ErrorKind;
use secure_rdma::tls::Trust;
use secure_rdma::{Client, Report, Session, SessionError, SessionInfo, SessionOptions};
use std::sync::Arc;
use std::time::Duration;

/// Lengths of the messages that are sent: none, one byte, a full packet, one more, and many packets.
const MESSAGES: [usize; 5] = [0, 1, 4096, 4097, 100_000];

/// Lengths of what is written and read back, beside the whole region.
const WRITES: [usize; 4] = [1, 4095, 4096, 65_537];

/// No step of one operation takes so long, unless something is stuck.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What the clients need to reach the server.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) server: Place,
    pub(super) server_name: Name,
    pub(super) trust: Trust,
    /// Who all of them are.
    pub(super) identity: Option<Identity>,
    pub(super) options: SessionOptions,
    pub(super) devices: Devices,
}

/// The clients' devices.
#[derive(Debug)]
pub(super) enum Devices {
    /// Each client opens one of its own, as processes of their own would.
    Own(DeviceSelector),
    /// All use this one: devices that aren't embedded send to one UDP port only, which only one embedded
    /// device of a host can have.
    Shared(Arc<Device>),
}

/// What came of an operation: how, or why not.
pub(super) type Outcome = Result<(), String>;

/// What came of every operation.
#[derive(Clone, Debug)]
pub(super) struct Outcomes {
    pub(super) send: Outcome,
    pub(super) write: Outcome,
    pub(super) read: Outcome,
    pub(super) fetch_add: Outcome,
    pub(super) compare_swap: Outcome,
    /// Whether another client's region was refused, and one's own was left alone by the others.
    pub(super) foreign_region: Outcome,
}

/// An attack, as its client saw it.
#[derive(Clone, Debug)]
pub(super) struct Attack {
    /// Its end of the queue pair, to ask the server about.
    pub(super) key: Key,
}

/// One client.
#[derive(Debug)]
pub(super) struct Participant {
    id: u32,
    client: Option<Client>,
    session: Option<Session>,
    /// What its session was, also when it is over.
    info: Option<SessionInfo>,
    /// Whether the server has given it counters.
    has_counters: bool,
    outcomes: Outcomes,
    /// What its region holds.
    content: Vec<u8>,
    /// The region that it is going to attack.
    target: Option<RemoteRegion>,
    attacks: Vec<Attack>,
}

impl Participant {
    pub(super) fn new(id: u32) -> Self {
        let open = || Err("not tried".to_owned());
        let outcomes = Outcomes {
            send: open(),
            write: open(),
            read: open(),
            fetch_add: open(),
            compare_swap: open(),
            foreign_region: open(),
        };
        let (content, attacks) = (Vec::new(), Vec::new());
        Self {
            id,
            client: None,
            session: None,
            info: None,
            outcomes,
            content,
            target: None,
            attacks,
            has_counters: true,
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn info(&self) -> Option<&SessionInfo> {
        self.info.as_ref()
    }

    /// Whether the server has given it counters; as long as there was no session, nothing says that it hasn't.
    pub(super) fn has_counters(&self) -> bool {
        self.has_counters
    }

    pub(super) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    pub(super) fn attacks(&self) -> &[Attack] {
        &self.attacks
    }

    /// Opens a device and a session.
    pub(super) async fn connect(&mut self, stage: &Stage) {
        match open(stage).await {
            Ok((client, session)) => {
                self.info = Some(session.info().clone());
                self.has_counters = session.counters() > 0;
                self.client = Some(client);
                self.session = Some(session);
            }
            Err(reason) => self.outcomes.send = Err(format!("no session: {reason}")),
        }
    }

    /// Does everything that a client may do, and checks it.
    pub(super) async fn work(&mut self) {
        let Some(session) = &mut self.session else { return };
        self.outcomes.send = patiently(send(session)).await;
        let (write, read) = match patiently(write_and_read(session)).await {
            Ok(content) => {
                self.content = content;
                (Ok(()), Ok(()))
            }
            Err(Unequal::Write(reason)) => (Err(reason), Err("not tried".into())),
            Err(Unequal::Read(reason)) => (Ok(()), Err(reason)),
        };
        (self.outcomes.write, self.outcomes.read) = (write, read);
        if self.has_counters {
            self.outcomes.fetch_add = patiently(fetch_add(session)).await;
            self.outcomes.compare_swap = patiently(compare_swap(session)).await;
        } else {
            (self.outcomes.fetch_add, self.outcomes.compare_swap) = (Ok(()), Ok(()));
        }
    }

    /// Tries to read and to write another client's region, each with a session of its own: a refusal ends the session.
    pub(super) async fn attack(&mut self, stage: &Stage) {
        let (Some(client), Some(target)) = (&self.client, self.target) else { return };
        self.outcomes.foreign_region = Ok(());
        for attempt in [Attempt::Read, Attempt::Write] {
            match patiently(attack(client, stage, &target, attempt)).await {
                Ok(attack) => self.attacks.push(attack),
                Err(reason) => self.outcomes.foreign_region = Err(reason),
            }
        }
    }

    /// Looks whether its region still holds what it wrote, after all attacks, and says goodbye.
    pub(super) async fn leave(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        let intact = patiently(async {
            let found = session
                .read(0, self.content.len())
                .await
                .map_err(|error| format!("reading back: {}", Report::new(&error)))?;
            if found == self.content {
                Ok(())
            } else {
                Err("another client changed this one's region".to_owned())
            }
        });
        if let Err(reason) = intact.await {
            self.outcomes.foreign_region = Err(reason);
        }
        if let Err(reason) =
            patiently(async { session.close().await.map_err(|error| Report::new(&error).to_string()) }).await
        {
            self.outcomes.send = Err(format!("closing the session: {reason}"));
        }
    }
}

/// Tells each client the address and the key of the next one's region, as to an attacker who saw them.
pub(super) fn introduce(clients: &mut [Participant]) {
    let regions: Vec<_> =
        clients.iter().map(|client| client.session.as_ref().and_then(Session::remote_region)).collect();
    // The only client attacks its own region: from another session that is as foreign as any.
    for (client, region) in clients.iter_mut().zip(regions.iter().cycle().skip(1)) {
        client.target = *region;
    }
}

/// What isn't done in time has failed.
async fn patiently<T, E: From<String>>(operation: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    match tokio::time::timeout(PATIENCE, operation).await {
        Ok(result) => result,
        Err(_) => Err(format!("not done within {PATIENCE:?}").into()),
    }
}

async fn open(stage: &Stage) -> Result<(Client, Session), String> {
    let text = |error: &(dyn std::error::Error + 'static)| Report::new(error).to_string();
    let device = match &stage.devices {
        Devices::Own(selector) => Device::open(selector).map_err(|error| text(&error))?,
        Devices::Shared(device) => Arc::clone(device),
    };
    let (trust, identity) = (stage.trust.clone(), stage.identity.clone());
    let mut client = Client::builder(trust).device(device).options(stage.options);
    if let Some(identity) = identity {
        client = client.identity(identity);
    }
    let client = client.build().map_err(|error| text(&error))?;
    let session = connect(&client, stage).await.map_err(|error| text(&error))?;
    Ok((client, session))
}

async fn connect(client: &Client, stage: &Stage) -> Result<Session, SessionError> {
    client.connect(&stage.server.host, stage.server.port, &stage.server_name).await
}

fn random(len: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; len];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(bytes)
}

fn random_word() -> Result<u64, String> {
    getrandom::u64().map_err(|error| format!("the system gives no random numbers: {error}"))
}

async fn send(session: &mut Session) -> Outcome {
    for len in MESSAGES {
        echo(session, &random(len)?).await?;
    }
    Ok(())
}

async fn echo(session: &mut Session, message: &[u8]) -> Outcome {
    let len = message.len();
    session.send(message).await.map_err(|error| format!("{len} bytes: {}", Report::new(&error)))?;
    match session.recv().await {
        Ok(Some(echo)) if echo == message => Ok(()),
        Ok(Some(_)) => Err(format!("{len} bytes: the echo differs")),
        Ok(None) => Err(format!("{len} bytes: the server left")),
        Err(error) => Err(format!("the echo of {len} bytes: {}", Report::new(&error))),
    }
}

/// Which of two operations failed.
enum Unequal {
    Write(String),
    Read(String),
}

impl From<String> for Unequal {
    fn from(reason: String) -> Self {
        Self::Write(reason)
    }
}

/// Writes and reads back pieces of the region at its beginning and at its end; returns what it holds at last.
async fn write_and_read(session: &mut Session) -> Result<Vec<u8>, Unequal> {
    let mut content = Vec::new();
    let region = usize::try_from(session.data_len()).unwrap_or(usize::MAX);
    for len in WRITES.into_iter().chain([region]) {
        for offset in [region.saturating_sub(len), 0] {
            let bytes = random(len)?;
            let place = format!("{len} bytes at {offset}");
            session
                .write(offset as u64, &bytes)
                .await
                .map_err(|error| Unequal::Write(format!("{place}: {}", Report::new(&error))))?;
            let found = session
                .read(offset as u64, len)
                .await
                .map_err(|error| Unequal::Read(format!("{place}: {}", Report::new(&error))))?;
            if found != bytes {
                return Err(Unequal::Read(format!("{place}: what was read differs from what was written")));
            }
            content = bytes;
        }
    }
    Ok(content)
}

/// Adds twice to the first counter, the second time over the end of the 64 bits.
async fn fetch_add(session: &mut Session) -> Outcome {
    let first = random_word()? | 1;
    let second = first.wrapping_neg().wrapping_add(7);
    for (add, expected) in [(first, 0), (second, first), (0, 7)] {
        let before = session.fetch_add(0, add).await.map_err(|error| Report::new(&error).to_string())?;
        if before != expected {
            return Err(format!("the counter held {before}, not {expected}"));
        }
    }
    Ok(())
}

/// Swaps the second counter, once where it holds what is compared and once where it doesn't.
async fn compare_swap(session: &mut Session) -> Outcome {
    let value = random_word()? | 1;
    for (compare, swap, expected) in [(0, value, 0), (0, 1, value), (value, 2, value), (2, 2, 2)] {
        let before =
            session.compare_swap(1, compare, swap).await.map_err(|error| Report::new(&error).to_string())?;
        if before != expected {
            return Err(format!("the counter held {before}, not {expected}"));
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Attempt {
    Read,
    Write,
}

/// Tries to reach a foreign region from a session of its own.
async fn attack(
    client: &Client,
    stage: &Stage,
    target: &RemoteRegion,
    attempt: Attempt,
) -> Result<Attack, String> {
    let mut session = connect(client, stage)
        .await
        .map_err(|error| format!("the attacker's session: {}", Report::new(&error)))?;
    let key = (session.info().own.address, session.info().own.qpn);
    // The session is good, whatever comes.
    echo(&mut session, b"attacker").await?;
    let result = match attempt {
        Attempt::Read => session.read_raw(target, 0, 64).await.map(drop),
        Attempt::Write => session.write_raw(target, 0, &[0xee; 64]).await,
    };
    match result {
        Ok(()) => Err(format!("a foreign region let a {} through", name(attempt))),
        Err(error) if is_refusal(&error) => Ok(Attack { key }),
        Err(error) => Err(format!(
            "the {} of a foreign region was not refused, but failed: {}",
            name(attempt),
            Report::new(&error)
        )),
    }
}

fn name(attempt: Attempt) -> &'static str {
    match attempt {
        Attempt::Read => "read",
        Attempt::Write => "write",
    }
}

/// The queue pair's own refusal, or the news of it that was faster on the control channel. The report asks
/// the server too.
fn is_refusal(error: &SessionError) -> bool {
    match error {
        SessionError::Operation { status, .. } => *status == Status::RemoteAccess,
        SessionError::Peer { code, .. } => code.kind() == Some(ErrorKind::QueuePair),
        _ => false,
    }
}
