//! RDMA that is safe on a network that isn't: sessions whose queue pairs are agreed on inside TLS 1.3, and whose
//! messages, writes and reads are sealed from end to end. They run over whichever RDMA device there is, or over plain
//! UDP where there is none.
//!
//! A server proves who it is by an [`Identity`] and says whom it lets in; a client says whom it trusts:
//!
//! ```
//! use secure_rdma::{Client, ClientAuth, Server, certs::Store};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("state");
//! // A private CA, and what it has issued to a server and to this account's clients.
//! let (store, names) = (Store::open(dir)?, ["localhost".parse()?]);
//! let identity = store.ensure_server(&names)?;
//! let clients = ClientAuth::Required(store.authority()?.into());
//! let server = Server::builder(identity, clients).bind("127.0.0.1:0").await?;
//! let port = server.local_addr().port();
//!
//! tokio::spawn(async move {
//!     let mut session = server.accept().await;
//!     while let Ok(Some(message)) = session.recv().await {
//!         session.send(&message).await?;
//!     }
//!     session.close().await
//! });
//!
//! let own = store.ensure_account(&names)?.ok_or("the CA's key is elsewhere")?;
//! let client = Client::builder(store.authority()?).identity(own);
//! let mut session = client.connect("127.0.0.1", port, &names[0]).await?;
//! session.send(b"hello").await?;
//! assert_eq!(session.recv().await?.as_deref(), Some(&b"hello"[..]));
//!
//! // Into the server's memory, and out of it: the server's program has no part in it.
//! session.write(100, b"one-sided").await?;
//! assert_eq!(session.read(104, 5).await?, b"sided");
//! session.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | to | see |
//! |---|---|
//! | serve | [`Server::builder`], [`Server::accept`], [`ServerOptions`]; [`Server::reload`] and [`ReloadSchedule`] |
//! | connect | [`Client::builder`], [`Client::connect`] |
//! | send, write, read | [`Session`]; [`Session::split`] for two tasks |
//! | run what runs on TCP | [`Session::into_stream`] |
//! | say who is who | [`Identity`], [`Trust`], [`Authorities`], [`RevocationLists`]; [`certs`] for a private CA |
//! | say who may do what | [`ClientAuth`], [`AllowList`] |
//! | tell failures apart | [`SessionError::kind`], [`Report`] |
//! | choose a device | [`Device`], [`DeviceSelector`]; [`xfrm`] to have the kernel seal packets for it |
//!
//! It needs a tokio runtime. [`tls`] says what can't be turned off. Its modules `control` and `seal` are the protocol
//! itself, for those who test it.
#![forbid(unsafe_code)]

pub mod allow;
pub mod certs;
pub mod control;
pub mod pair;
pub mod seal;
pub mod tls;

mod accepting;
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
mod transport;
mod watch;

pub use admission::SessionQuota;
pub use allow::{AllowError, AllowList};
pub use certs::{Authorities, Identity, Name, RevocationLists};
pub use client::{Client, ClientBuilder};
pub use control::{Access, PacketPolicy, SealPolicy};
pub use error::{SessionError, SessionErrorKind};
pub use reload::{ReloadCause, ReloadFailed, ReloadSchedule};
pub use report::Report;
pub use seal::Limits;
#[cfg(feature = "testing")]
pub use server::Held;
pub use server::{Arrival, NewRules, Reloaded, Server, ServerBuilder, ServerOptions};
pub use session::{
    Buffers, CounterPolicy, End, RecvHalf, ReuniteError, SealedBy, SendHalf, Session, SessionInfo,
    SessionOptions, SessionStream, Timeouts,
};
pub use size::{ParseSizeError, Size};
pub use tls::{Allowed, ClientAuth, ClientTrust, Trust};
#[cfg(feature = "testing")]
pub use transport::{Connection, Listener};
pub use watch::{FileWatch, FilesChanging};

// What this crate's own items take and return of others.
pub use rdma_verbs::{
    Device, DeviceSelector, MemoryRegion, Mtu, OwnPsn, PeerPsn, Qpn, RemoteRegion, Snapshot, Status,
};
pub use rustls;
/// Sealing by the kernel, for devices that can't seal packets.
pub use secure_rdma_xfrm as xfrm;
