//! What is known of each session from both of its ends, and whether it is right.

use crate::plan::{COUNTERS, REGION};
use secure_rdma::{Report, SessionError, SessionErrorKind};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How an end of a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// As it wanted to.
    Well,
    Failed(SessionErrorKind, String),
    /// Its process was killed.
    Killed,
}

impl From<Result<(), SessionError>> for Ended {
    fn from(result: Result<(), SessionError>) -> Self {
        result.map_or_else(|error| Self::failed(&error), |()| Self::Well)
    }
}

impl Ended {
    pub(crate) fn failed(error: &SessionError) -> Self {
        Self::Failed(error.kind(), Report::new(error).to_string())
    }

    /// Its kind, for the trace.
    pub(crate) fn number(&self) -> (&'static str, u64) {
        let number = match self {
            Self::Well => 0,
            Self::Killed => 1,
            Self::Failed(kind, _) => 2 + *kind as u64,
        };
        ("how", number)
    }
}

/// A session, as far as it is known.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) client: usize,
    pub(crate) server: usize,
    pub(crate) identity: usize,
    /// One of its ends lies.
    pub(crate) lies: bool,
    /// The client means to leave without a goodbye.
    pub(crate) rude: bool,
    /// The server means to say goodbye when it has taken so many messages: later ones are lost.
    pub(crate) server_leaves: Option<usize>,
    /// Its control connection was asked for.
    pub(crate) dialed: bool,
    /// When its client was taken from the server's list.
    pub(crate) withdrawn_at: Option<u64>,
    /// The client has it.
    pub(crate) opened: bool,
    pub(crate) client_end: Option<Ended>,
    /// The server has it.
    pub(crate) served: bool,
    pub(crate) server_end: Option<Ended>,
    /// Messages that the client has posted.
    pub(crate) sent: Vec<Vec<u8>>,
    /// Of them, so many are acknowledged.
    pub(crate) acknowledged: usize,
    /// And so many the server has taken.
    pub(crate) received: usize,
    /// What the client has written.
    pub(crate) region: Vec<u8>,
    pub(crate) counters: [u64; COUNTERS],
}

impl Entry {
    /// A session of the client on machine `client`, who shows that certificate to the server on machine `server`.
    pub(crate) fn new(client: usize, server: usize, identity: usize) -> Self {
        Self {
            client,
            server,
            identity,
            lies: false,
            rude: false,
            server_leaves: None,
            dialed: false,
            withdrawn_at: None,
            opened: false,
            client_end: None,
            served: false,
            server_end: None,
            sent: Vec::new(),
            acknowledged: 0,
            received: 0,
            region: vec![0; REGION],
            counters: [0; COUNTERS],
        }
    }

    /// The server has taken a message.
    pub(crate) fn receive(&mut self, message: &[u8]) -> Result<(), String> {
        match self.sent.get(self.received) {
            None => return Err(format!("message {} was never sent", self.received)),
            Some(sent) if sent != message => {
                let at = sent.iter().zip(message).position(|(a, b)| a != b);
                let (sent, came) = (sent.len(), message.len());
                return Err(format!(
                    "message {}: {came} of {sent} bytes, first wrong at {at:?}",
                    self.received
                ));
            }
            Some(_) => self.received += 1,
        }
        Ok(())
    }

    /// What the server finds in the region when the client has said goodbye.
    pub(crate) fn check_region(&self, found: &[u8]) -> Result<(), String> {
        match found.iter().zip(&self.region).position(|(found, written)| found != written) {
            Some(at) => Err(format!("byte {at} of the region isn't what was written")),
            None => Ok(()),
        }
    }

    /// What the server finds in the counters then.
    pub(crate) fn check_counters(&self, found: [u64; COUNTERS]) -> Result<(), String> {
        match found == self.counters {
            true => Ok(()),
            false => Err(format!("the counters are {found:?}, not {:?}", self.counters)),
        }
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Book>);

#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) entries: Vec<Entry>,
    /// By the client's end of the control connection.
    pub(crate) by_peer: BTreeMap<SocketAddr, usize>,
    /// Clients that servers don't let in at the moment.
    pub(crate) absent: BTreeSet<(usize, usize)>,
    /// What isn't as it should be.
    pub(crate) violations: Vec<String>,
    /// Connections that servers have refused, by kind.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Operations that were acknowledged.
    pub(crate) operations: u64,
}

impl Ledger {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that a client is about to open; its number.
    pub(crate) fn enter(&self, entry: Entry) -> usize {
        let mut book = self.lock();
        book.entries.push(entry);
        book.entries.len() - 1
    }

    pub(crate) fn with<T>(&self, number: usize, act: impl FnOnce(&mut Entry) -> T) -> T {
        act(&mut self.lock().entries[number])
    }

    /// Notes what isn't as it should be.
    pub(crate) fn check(&self, number: usize, act: impl FnOnce(&mut Entry) -> Result<(), String>) {
        let result = self.with(number, act);
        if let Err(what) = result {
            self.lock().violations.push(format!("session {number}: {what}"));
        }
    }

    /// A client has its session.
    pub(crate) fn opened(&self, number: usize) {
        let mut book = self.lock();
        let Book { entries, absent, violations, .. } = &mut *book;
        let entry = &mut entries[number];
        entry.opened = true;
        if !entry.lies && entry.withdrawn_at.is_none() && absent.contains(&(entry.server, entry.identity)) {
            violations.push(format!("session {number}: its client isn't on the list, and was let in"));
        }
    }

    /// A client's operation that began at `begun` has succeeded, if it is one that the server's device has a part in.
    pub(crate) fn succeeded(&self, number: usize, begun: u64) {
        let mut book = self.lock();
        book.operations += 1;
        let entry = &book.entries[number];
        if !entry.lies && entry.withdrawn_at.is_some_and(|at| begun > at) {
            let what = format!("session {number}: it went on after its client was taken from the list");
            book.violations.push(what);
        }
    }

    /// From now on, `now`, the server lets in all but these.
    pub(crate) fn reloaded(&self, server: usize, absent: &[usize], now: u64) {
        let mut book = self.lock();
        book.absent.retain(|(other, _)| *other != server);
        book.absent.extend(absent.iter().map(|client| (server, *client)));
        for entry in book.entries.iter_mut().filter(|entry| entry.server == server && entry.dialed) {
            if absent.contains(&entry.identity) {
                entry.withdrawn_at.get_or_insert(now);
            } else if !entry.opened {
                // Its handshake may not have begun, and goes by these rules then.
                entry.withdrawn_at = None;
            }
        }
    }

    /// A machine's processes were killed.
    pub(crate) fn killed(&self, machine: usize) {
        let mut book = self.lock();
        for entry in &mut book.entries {
            if entry.client == machine {
                entry.client_end.get_or_insert(Ended::Killed);
            }
            if entry.server == machine && entry.served {
                entry.server_end.get_or_insert(Ended::Killed);
            }
        }
    }

    /// Whether all sessions have ended, at both ends.
    pub(crate) fn is_over(&self) -> bool {
        let book = self.lock();
        book.entries
            .iter()
            .all(|entry| entry.client_end.is_some() && (!entry.served || entry.server_end.is_some()))
    }
}
