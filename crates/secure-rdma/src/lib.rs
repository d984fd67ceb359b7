//! Secure RDMA: what two machines need to agree on before one may touch the other's memory.
//!
//! | module | what it holds |
//! |---|---|
//! | [`certs`] | who is who: a private CA, certificates and keys in files, fingerprints |
//! | [`tls`] | the TLS 1.3 handshake that proves it, and what a failed one means |
//! | [`allow`] | the list of allowed clients, and what each may do |
//! | [`control`] | the records that client and server exchange inside TLS |
//! | [`seal`] | end-to-end encryption of messages and of memory for one-sided access |
//! | `session` | bootstrap of a queue pair inside TLS; the open session: messages, one-sided operations |
//! | `client`, `server` | opening sessions: one at a time, or many |
//! | `admission` | who may begin a handshake and who may have a session: no source keeps others out |
//! | `guests`, `reload`, `watch` | a server's rules have changed: noticing, reading, ending what they don't allow |
#![forbid(unsafe_code)]

pub mod allow;
pub mod certs;
pub mod control;
pub mod seal;
pub mod tls;

mod admission;
mod client;
mod crypto;
mod error;
mod guests;
mod reload;
mod report;
mod server;
mod session;
mod size;
mod text;
mod watch;

pub use admission::SessionQuota;
pub use allow::{AllowError, AllowList};
pub use certs::{Authorities, Identity, Name, RevocationLists};
pub use client::{Client, ClientBuilder};
pub use control::{Access, SealPolicy};
pub use error::{SessionError, SessionErrorKind};
pub use reload::{ReloadCause, ReloadFailed, ReloadSchedule};
pub use report::Report;
pub use seal::Limits;
pub use server::{Arrival, NewRules, Reloaded, Server, ServerBuilder, ServerOptions};
pub use session::{
    Buffers, End, RecvHalf, ReuniteError, SendHalf, Session, SessionInfo, SessionOptions, Timeouts,
};
pub use size::{ParseSizeError, Size};
pub use tls::{Allowed, ClientAuth, ClientTrust, Trust};
pub use watch::{FileWatch, FilesChanging};

// What this crate's own items take and return of others.
pub use rdma_verbs::{
    Device, DeviceSelector, MemoryRegion, Mtu, OwnPsn, PeerPsn, Qpn, RemoteRegion, Snapshot, Status,
};
pub use rustls;
