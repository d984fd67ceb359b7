//! The list of allowed clients: who may come, and what each may do.
//!
//! It is put together by a program ([`AllowList::new`]) or, with the feature `toml`, read from a TOML file, one entry a
//! client:
//!
//! ```toml
//! sessions = 4
//!
//! [[client]]
//! identity = "dns:worker-7.example"
//! operations = ["send", "write", "read", "atomic"]
//! region = "1M"
//! sessions = 16
//!
//! [[client]]
//! identity = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
//! operations = ["send"]
//! ```
//!
//! - `identity`: a name in the client's certificate (`dns:`, `ip:`, `uri:`, `email:`, see [`SubjectName`]),
//!   or the certificate's fingerprint. It has to be the same: nothing stands for several.
//! - `operations`: of `send` (messages to the server), `write` and `read` (of the client's region, one-sided)
//!   and `atomic` (its counters, if the server has them; a program of the client's own making reaches the
//!   whole of its region by atomics), one at least.
//! - `region`: how many bytes the client's region has; the server's usual number without, which is also the most.
//! - `sessions`: how many sessions it may have at a time; before all entries, what those may have that don't
//!   say so. Without either, the server's own limit for one identity.
//!
//! A client with several names has the first entry that fits one of them, by the order of the file.

#[cfg(feature = "toml")]
mod file;

use core::fmt;
use std::collections::HashMap;
use std::path::PathBuf;

use crate::certs::{self, Fingerprint, SubjectName, SubjectNames};
use crate::control::Access;

/// Who a client is to the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientIdentity {
    /// Whoever has a certificate with this name.
    Name(SubjectName),
    /// Whoever has this certificate.
    Certificate(Fingerprint),
}

impl ClientIdentity {
    fn fits(&self, names: &SubjectNames, fingerprint: &Fingerprint) -> bool {
        match self {
            Self::Name(name) => names.names().contains(name),
            Self::Certificate(certificate) => certificate == fingerprint,
        }
    }
}

impl fmt::Display for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Certificate(fingerprint) => fingerprint.fmt(f),
        }
    }
}

/// What one client may do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllowedClient {
    /// Who it is.
    pub identity: ClientIdentity,
    /// What it may do.
    pub operations: Access,
    /// How many bytes its region has; the server's usual number without.
    pub region: Option<u64>,
    /// How many sessions it may have at a time; the server's usual number without.
    pub sessions: Option<usize>,
    /// The line that says so, if a file does.
    line: Option<usize>,
}

impl AllowedClient {
    /// A client that may do these `operations`, of which there has to be one at least.
    #[must_use]
    pub const fn new(identity: ClientIdentity, operations: Access) -> Self {
        Self { identity, operations, region: None, sessions: None, line: None }
    }

    /// Gives it a region of so many bytes: at most as many as the server gives.
    #[must_use]
    pub const fn region(mut self, bytes: u64) -> Self {
        self.region = Some(bytes);
        self
    }

    /// Lets it have so many sessions at a time.
    #[must_use]
    pub const fn sessions(mut self, count: usize) -> Self {
        self.sessions = Some(count);
        self
    }

    /// What is wrong with it by itself.
    fn check(&self) -> Result<(), &'static str> {
        match (self.operations, self.region, self.sessions) {
            (Access::NONE, ..) => Err("a client that may do nothing: leave it out, or name operations"),
            (Access::SEND, Some(_), _) => Err("a client that may only send needs no region: leave it out"),
            (_, Some(0), _) => Err("a region has one byte at least"),
            (.., Some(0)) => Err("a client that may have no session: leave it out"),
            _ => Ok(()),
        }
    }
}

/// The clients that are let in. See the [module](self) for its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList {
    path: PathBuf,
    clients: Vec<AllowedClient>,
}

/// Why a list of allowed clients can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllowError {
    /// Its file can't be read.
    #[error("the list of allowed clients")]
    Read(#[from] certs::CertsError),
    /// It isn't one.
    #[error("the list of allowed clients {path}{at}: {reason}", path = path.display(), at = place(*line))]
    Wrong {
        /// Its file.
        path: PathBuf,
        /// The line that is wrong, if it is one.
        line: Option<usize>,
        /// What was found and what is needed.
        reason: String,
    },
    /// It gives a client more than the server has for one.
    #[error(
        "the list of allowed clients {path}{at}: {identity} has a region of {len} bytes; the server gives {limit} at \
         most", path = path.display(), at = place(*line)
    )]
    Region {
        /// Its file.
        path: PathBuf,
        /// The line that says so, if a file does.
        line: Option<usize>,
        /// Whose region it is.
        identity: String,
        /// Its bytes.
        len: u64,
        /// The most that the server gives.
        limit: u64,
    },
}

fn place(line: Option<usize>) -> String {
    line.map(|line| format!(", line {line}")).unwrap_or_default()
}

impl AllowList {
    /// A list of these clients. One with several names has the first entry that fits one of them.
    ///
    /// # Errors
    /// There is none, one is there twice, or one can't be: it may do nothing, or has a region that it has no use for.
    pub fn new(clients: impl IntoIterator<Item = AllowedClient>) -> Result<Self, AllowError> {
        Self::checked("that was given".into(), clients.into_iter().collect())
    }

    fn checked(path: PathBuf, clients: Vec<AllowedClient>) -> Result<Self, AllowError> {
        let wrong = |line, reason: String| AllowError::Wrong { path: path.clone(), line, reason };
        if clients.is_empty() {
            return Err(wrong(None, "nobody is on it, so nobody could connect".into()));
        }
        let mut seen: HashMap<String, Option<usize>> = HashMap::new();
        for client in &clients {
            client.check().map_err(|reason| wrong(client.line, format!("{}: {reason}", client.identity)))?;
            if let Some(first) = seen.insert(client.identity.to_string(), client.line) {
                let first = first.map(|line| format!(", in line {line}")).unwrap_or_default();
                let reason = format!("{} is there already{first}", client.identity);
                return Err(wrong(client.line, reason));
            }
        }
        Ok(Self { path, clients })
    }

    /// Checks that no client's region is longer than `limit` bytes.
    pub(crate) fn check_regions(&self, limit: u64) -> Result<(), AllowError> {
        match self.clients.iter().find_map(|client| Some((client, client.region.filter(|&len| len > limit)?)))
        {
            None => Ok(()),
            Some((client, len)) => Err(AllowError::Region {
                path: self.path.clone(),
                line: client.line,
                identity: client.identity.to_string(),
                len,
                limit,
            }),
        }
    }

    /// Everybody on it, in its order.
    #[must_use]
    pub fn clients(&self) -> &[AllowedClient] {
        &self.clients
    }

    /// What the client with that certificate may do; `None` if it isn't on the list.
    #[must_use]
    pub fn find(&self, names: &SubjectNames, fingerprint: &Fingerprint) -> Option<&AllowedClient> {
        self.clients.iter().find(|client| client.identity.fits(names, fingerprint))
    }
}
