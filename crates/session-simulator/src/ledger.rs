//! What is known of each session from both of its ends, and whether it is right.

use crate::chronicle::{Chronicle, Visitor};
use crate::pki::CLIENTS;
use crate::plan::{COUNTERS, REGION, Rules};
use secure_rdma::{Report, SessionError, SessionErrorKind};
use std::collections::BTreeMap;
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

/// Why a server didn't let somebody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There are so many sessions.
    Full(usize),
    /// That client has so many.
    Quota(usize),
    /// Others needed its place.
    Crowded,
    /// For what it showed or said before it could have a seat.
    Early,
    Other,
}

impl Refusal {
    pub(crate) fn of(error: &SessionError) -> Self {
        match error {
            SessionError::Full { max } => Self::Full(*max),
            SessionError::Quota { max, .. } => Self::Quota(*max),
            SessionError::Crowded => Self::Crowded,
            SessionError::Tls(_)
            | SessionError::NotListed { .. }
            | SessionError::NoHello(_)
            | SessionError::Stale => Self::Early,
            _ => Self::Other,
        }
    }

    /// There was no room for it.
    pub(crate) const fn for_room(self) -> bool {
        matches!(self, Self::Full(_) | Self::Quota(_) | Self::Crowded)
    }
}

/// A try to open a session: a control connection.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The client's certificate.
    pub(crate) edition: usize,
    /// When it began, and when the client knew that it was over: the session, if there was one.
    pub(crate) begun: u64,
    pub(crate) over: Option<u64>,
    /// When the client had the session.
    pub(crate) opened: Option<u64>,
    /// How it failed, for the client.
    pub(crate) failed: Option<(SessionErrorKind, String)>,
    /// When the server had the session.
    pub(crate) served: Option<u64>,
    pub(crate) server_end: Option<Ended>,
    /// Why there was none.
    pub(crate) refusal: Option<Refusal>,
    /// When nothing of it was left there.
    pub(crate) left: Option<u64>,
    /// When its client's right was withdrawn.
    pub(crate) withdrawn_at: Option<u64>,
}

impl Attempt {
    fn new(edition: usize, begun: u64) -> Self {
        Self {
            edition,
            begun,
            over: None,
            opened: None,
            failed: None,
            served: None,
            server_end: None,
            refusal: None,
            left: None,
            withdrawn_at: None,
        }
    }

    /// There was no room for it.
    pub(crate) fn was_refused_for_room(&self) -> bool {
        self.refusal.is_some_and(Refusal::for_room)
    }

    /// From its beginning until nobody knows it any more.
    pub(crate) fn span(&self) -> [u64; 2] {
        let left = self.left.into_iter().chain(self.over).max();
        [self.begun, left.unwrap_or(self.begun)]
    }
}

/// A session, as far as it is known.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) client: usize,
    pub(crate) server: usize,
    pub(crate) identity: usize,
    /// Each try to open it.
    pub(crate) attempts: Vec<Attempt>,
    /// One of its ends lies.
    pub(crate) lies: bool,
    /// The client means to leave without a goodbye.
    pub(crate) rude: bool,
    /// The server means to say goodbye when it has taken so many messages: later ones are lost.
    pub(crate) server_leaves: Option<usize>,
    pub(crate) client_end: Option<Ended>,
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
            attempts: Vec::new(),
            lies: false,
            rude: false,
            server_leaves: None,
            client_end: None,
            sent: Vec::new(),
            acknowledged: 0,
            received: 0,
            region: vec![0; REGION],
            counters: [0; COUNTERS],
        }
    }

    /// The last try to open it: that which came to something, if one did.
    pub(crate) fn last(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// How the server's end of it ended.
    pub(crate) fn server_end(&self) -> Option<&Ended> {
        self.last().and_then(|attempt| attempt.server_end.as_ref())
    }

    /// Who comes by it.
    pub(crate) fn visitor(&self, attempt: &Attempt) -> Visitor {
        let Self { client, server, identity, .. } = *self;
        Visitor { client, server, identity, edition: attempt.edition }
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
#[derive(Debug)]
pub(crate) struct Ledger(Mutex<Book>);

#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) entries: Vec<Entry>,
    /// By the client's end of the control connection: a session, and which try to open it.
    pub(crate) by_peer: BTreeMap<SocketAddr, (usize, usize)>,
    pub(crate) chronicle: Chronicle,
    /// Which of its certificates each client shows.
    pub(crate) editions: Vec<usize>,
    /// What isn't as it should be.
    pub(crate) violations: Vec<String>,
    /// Connections that servers have refused, by kind.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Operations that were acknowledged.
    pub(crate) operations: u64,
}

impl Ledger {
    pub(crate) fn new(chronicle: Chronicle) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Book {
            entries: Vec::new(),
            by_peer: BTreeMap::new(),
            chronicle,
            editions: vec![0; CLIENTS],
            violations: Vec::new(),
            refused: BTreeMap::new(),
            operations: 0,
        })))
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

    /// A client begins to open a session; by which of its certificates.
    pub(crate) fn begins(&self, number: usize, now: u64) -> usize {
        let mut book = self.lock();
        let edition = book.editions[book.entries[number].identity];
        book.entries[number].attempts.push(Attempt::new(edition, now));
        edition
    }

    /// It asks for a control connection, from that address.
    pub(crate) fn asks(&self, number: usize, from: SocketAddr) {
        let mut book = self.lock();
        let attempt = book.entries[number].attempts.len() - 1;
        book.by_peer.insert(from, (number, attempt));
    }

    /// It came to nothing, or has ended.
    pub(crate) fn over(&self, number: usize, now: u64, end: &Ended) {
        self.with(number, |entry| {
            let Some(attempt) = entry.attempts.last_mut() else { return };
            attempt.over = Some(now);
            if let Ended::Failed(kind, text) = end {
                attempt.failed = Some((*kind, text.clone()));
            }
        });
    }

    /// A client has its session.
    pub(crate) fn opened(&self, number: usize, now: u64) {
        let mut book = self.lock();
        if let Some(attempt) = book.entries[number].attempts.last_mut() {
            attempt.opened = Some(now);
        }
        book.admitted(number, None, now);
    }

    /// A server has a session from there; its number and that of the try to open it.
    pub(crate) fn served(&self, from: SocketAddr, now: u64) -> Option<(usize, usize)> {
        let mut book = self.lock();
        let Some((number, attempt)) = book.by_peer.get(&from).copied() else {
            book.violations.push("a session that no client has asked for".into());
            return None;
        };
        book.entries[number].attempts[attempt].served = Some(now);
        book.admitted(number, Some(attempt), now);
        Some((number, attempt))
    }

    /// A server's end of a session has ended.
    pub(crate) fn server_ended(&self, (number, attempt): (usize, usize), now: u64, end: Ended) {
        self.with(number, |entry| {
            let attempt = &mut entry.attempts[attempt];
            (attempt.server_end, attempt.left) = (Some(end), Some(now));
        });
    }

    /// A server has refused what came from there.
    pub(crate) fn refused(&self, from: SocketAddr, now: u64, error: &SessionError) {
        let mut book = self.lock();
        *book.refused.entry(format!("{:?}", error.kind())).or_default() += 1;
        if let Some((number, attempt)) = book.by_peer.get(&from).copied() {
            let attempt = &mut book.entries[number].attempts[attempt];
            (attempt.refusal, attempt.left) = (Some(Refusal::of(error)), Some(now));
        }
    }

    /// A client's operation that began at `begun` has succeeded, if it is one that the server's device has a part in.
    pub(crate) fn succeeded(&self, number: usize, begun: u64) {
        let mut book = self.lock();
        book.operations += 1;
        let Book { entries, chronicle, violations, .. } = &mut *book;
        let entry = &entries[number];
        let Some(attempt) = entry.last().filter(|_| !entry.lies) else { return };
        if attempt.withdrawn_at.is_some_and(|at| begun > at) {
            violations.push(format!("session {number}: it went on after its client's right was withdrawn"));
        }
        let overdue = attempt.served.and_then(|at| chronicle.overdue(entry.visitor(attempt), [at, begun]));
        if let Some(at) = overdue {
            let since = (begun - at) / 1_000_000;
            violations.push(format!("session {number}: it went on {since} ms after it had to be ended"));
        }
    }

    /// From now on, `now`, the server goes by these rules.
    pub(crate) fn reloaded(&self, server: usize, rules: &Rules, now: u64) {
        let mut book = self.lock();
        book.chronicle.set_rules(server, now, rules.clone());
        for entry in book.entries.iter_mut().filter(|entry| entry.server == server) {
            let identity = entry.identity;
            for attempt in entry.attempts.iter_mut().filter(|attempt| attempt.over.is_none()) {
                if !rules.name(identity, attempt.edition) {
                    attempt.withdrawn_at.get_or_insert(now);
                } else if attempt.opened.is_none() {
                    // Its handshake may not have begun, and goes by these rules then.
                    attempt.withdrawn_at = None;
                }
            }
        }
    }

    /// A machine's processes were killed.
    pub(crate) fn killed(&self, machine: usize, now: u64) {
        let mut book = self.lock();
        for entry in &mut book.entries {
            if entry.client == machine {
                entry.client_end.get_or_insert(Ended::Killed);
            }
            for attempt in &mut entry.attempts {
                if entry.client == machine {
                    attempt.over.get_or_insert(now);
                }
                if entry.server == machine {
                    attempt.left.get_or_insert(now);
                    if attempt.served.is_some() {
                        attempt.server_end.get_or_insert(Ended::Killed);
                    }
                }
            }
        }
    }

    /// Whether all sessions have ended, at both ends.
    pub(crate) fn is_over(&self) -> bool {
        let book = self.lock();
        let has_ended = |attempt: &Attempt| attempt.served.is_none() || attempt.server_end.is_some();
        book.entries.iter().all(|entry| entry.client_end.is_some() && entry.attempts.iter().all(has_ended))
    }
}

impl Book {
    /// A side has a session: there was a time at which a handshake could have come to it.
    fn admitted(&mut self, number: usize, attempt: Option<usize>, now: u64) {
        let entry = &self.entries[number];
        let attempt = attempt.map_or_else(|| entry.last(), |attempt| entry.attempts.get(attempt));
        let Some(attempt) = attempt.filter(|_| !entry.lies) else { return };
        if self.chronicle.always_refuses(entry.visitor(attempt), [attempt.begun, now]) {
            self.violations
                .push(format!("session {number}: it was let in by a certificate that wasn't good"));
        }
    }
}
