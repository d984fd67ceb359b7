//! What client and server of a benchmark tell each other, in messages of a session. These are always sealed:
//! the numbers of the queue pairs to be measured, those in clear too, are nobody else's to know before these
//! are used.
//!
//! ```text
//!   in clear   client ── Task::Verbs ──► server    makes queue pairs, connects them, posts receive requests
//!              client ◄── Reply::Ready ── server
//!              client ── Go ──────────► server     the client's are connected too
//!                  … the measurement …
//!              client ── Done ────────► server     all that the client had to send has completed
//!              client ◄── Reply::Done ── server    the same of the server; both may end
//!
//!   sealed     client ── Task::Sink, Echo or Idle ──► server; what follows in the session is the measurement
//!              client ◄── Reply::Ready ── server
//! ```

use crate::failure::Failure;
use core::time::Duration;
use rdma_verbs::{Mtu, Psn, Qpn, RemoteRegion};
use secure_rdma::{Session, SessionError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of these messages: there are no two yet that could do with each other.
const VERSION: u32 = 1;

/// The longest message to be parsed: that of as many queue pairs as there may be.
const LONGEST: usize = 64 << 10;

/// How long a side may take for its next word while nothing is measured.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a session's thread looks for the answer before it sleeps, where a latency is measured: perftest polls,
/// too.
pub(super) const POLLED: Duration = Duration::from_millis(1);

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Operation {
    Send,
    Write,
    Read,
    Atomic,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Write => "write",
            Self::Read => "read",
            Self::Atomic => "atomic",
        }
    }
}

/// When a measurement is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Limit {
    /// After so many messages of each queue pair.
    Messages(u64),
    /// After that time.
    Time(Duration),
}

/// What queue pairs in clear are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) operation: Operation,
    /// One message at a time, sent back.
    pub(crate) latency: bool,
    pub(crate) bidirectional: bool,
    pub(crate) size: u32,
    pub(crate) queue_pairs: u32,
    pub(crate) depth: u32,
    pub(crate) inline: u32,
    /// In bytes.
    pub(crate) mtu: u32,
    pub(crate) limit: Limit,
}

/// A side's queue pairs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ends {
    /// Reads and atomics of the peer that each answers at a time.
    pub(crate) reads: u8,
    pub(crate) ends: Vec<End>,
}

/// A queue pair and its memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct End {
    qpn: u32,
    psn: u32,
    addr: u64,
    rkey: u32,
    len: u64,
}

impl End {
    pub(crate) fn new(qpn: Qpn, psn: Psn, region: RemoteRegion) -> Self {
        Self { qpn: qpn.get(), psn: psn.get(), addr: region.addr, rkey: region.rkey, len: region.len }
    }

    /// What the peer said, if it can be.
    pub(crate) fn read(&self) -> Result<(Qpn, Psn, RemoteRegion), Failure> {
        match (Qpn::new(self.qpn), Psn::new(self.psn)) {
            (Some(qpn), Some(psn)) => {
                Ok((qpn, psn, RemoteRegion { addr: self.addr, rkey: self.rkey, len: self.len }))
            }
            _ => Err(Failure::Other("the other side told of a queue pair that can't be".into())),
        }
    }
}

/// What a client wants of a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Take messages.
    Sink,
    /// Send messages back.
    Echo,
    /// Do nothing: the client reads and writes.
    Idle,
    /// Make queue pairs in clear.
    Verbs(Plan, Ends),
}

/// What the server says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// It has done its part.
    Ready(Option<Ends>),
    /// It won't.
    Refused(String),
    /// The measurement has ended: the bandwidth that the server had, if it was to have one.
    Done(Option<Rate>),
    /// It failed on the server's side.
    Failed(String),
}

/// The client says so.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    Go,
    Done,
}

/// A bandwidth, of all queue pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rate {
    pub(crate) messages: u64,
    /// Messages a second.
    pub(crate) peak: f64,
    pub(crate) average: f64,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    content: T,
}

/// Tells the other side.
pub(crate) async fn tell(session: &mut Session, content: &impl Serialize) -> Result<(), Failure> {
    let envelope = Envelope { version: VERSION, content };
    let text = serde_json::to_vec(&envelope)
        .map_err(|error| Failure::Other(format!("writing what the other side is to know: {error}")))?;
    Ok(session.send(&text).await?)
}

/// What the other side tells; `None` if it has left.
pub(crate) async fn hear<T: DeserializeOwned>(session: &mut Session) -> Result<Option<T>, Failure> {
    let Some(text) = session.recv().await? else { return Ok(None) };
    let read = || -> Option<Envelope<T>> {
        let version = serde_json::from_slice::<Envelope<serde::de::IgnoredAny>>(&text).ok()?.version;
        if version == VERSION { serde_json::from_slice(&text).ok() } else { None }
    };
    match Some(&text).filter(|text| text.len() <= LONGEST).and_then(|_| read()) {
        Some(envelope) => Ok(Some(envelope.content)),
        None => Err(Failure::Other(
            "the other side didn't say what a benchmark's does: is it `secure-rdma bench`, of the same version?"
                .into(),
        )),
    }
}

/// The same where the other side has to say something, soon.
pub(crate) async fn hear_soon<T: DeserializeOwned>(session: &mut Session) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, hear(session)).await {
        Ok(Ok(Some(content))) => Ok(content),
        Ok(Ok(None)) => Err(SessionError::Closed.into()),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::Other(format!("the other side said nothing for {PATIENCE:?}"))),
    }
}

impl Plan {
    /// The path MTU, if there is such a one.
    pub(crate) fn path_mtu(&self) -> Option<Mtu> {
        Mtu::from_bytes(self.mtu)
    }

    /// Whether the server posts messages too.
    pub(crate) fn server_sends(&self) -> bool {
        self.bidirectional || (self.latency && matches!(self.operation, Operation::Send | Operation::Write))
    }
}
