//! Files and folders over sessions of `secure-rdma`: sealed, moved by one-sided operations, resumed where they were
//! broken off, and verified.
//!
//! A server offers a directory ([`Service`]); a client lists, gets and puts ([`FilesClient`]):
//!
//! ```
//! use secure_rdma::{Client, ClientAuth, Server, certs::Store};
//! use secure_rdma_files::{Batch, FilePath, FilesClient, Moved, Pace, Root, Service, ServiceOptions, Transfer};
//! use std::sync::Arc;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let (state, there, here) = (dir.path().join("state"), dir.path().join("there"), dir.path().join("here"));
//! # std::fs::create_dir(&there)?;
//! # std::fs::create_dir(&here)?;
//! # let (store, names) = (Store::open(state)?, ["localhost".parse()?]);
//! # let identity = store.ensure_server(&names)?;
//! # let clients = ClientAuth::Required(store.authority()?.into());
//! # let server = Server::builder(identity, clients).bind("127.0.0.1:0").await?;
//! # let port = server.local_addr().port();
//! # let own = store.ensure_account(&names)?.ok_or("the CA's key is elsewhere")?;
//! # let client = Client::builder(store.authority()?).identity(own);
//! std::fs::write(there.join("a file"), "some bytes")?;
//! let service = Service::open(&there, ServiceOptions::default())?;
//! tokio::spawn(async move {
//!     let mut session = server.accept().await;
//!     let greeting = session.recv().await?.unwrap_or_default();
//!     service.serve(&mut session, &greeting, &mut Moved::default()).await?;
//!     session.close().await
//! });
//!
//! let session = client.connect("127.0.0.1", port, &names[0]).await?;
//! let mut files = FilesClient::open(session).await?;
//! let path = FilePath::parse(b"a file")?;
//! let mut batch = Batch::new([Transfer { from: path.clone(), to: path }]);
//! files.get(&Arc::new(Root::open(&here)?), &mut batch, &mut Pace::unlimited(), &()).await?;
//! batch.outcomes.remove(0).result?;
//! assert_eq!(std::fs::read_to_string(here.join("a file"))?, "some bytes");
//! files.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `path`, `root` | names that don't lead out of a directory, and the directory |
//! | `chunk`, `source`, `partial` | pieces of files, files that are read, and those that aren't whole yet |
//! | `listing` | what is in a folder |
//! | [`message`] | what is said |
//! | `service` | the server's side |
//! | `client` | the client's side |
//! | `refusal`, `error` | why something can't be |
//!
//! # How a file is moved
//!
//! In chunks, each with its BLAKE3 hash. The client's region of the server is divided into windows of a chunk each.
//! To get a file, the client asks for chunks, the server puts them into windows, and the client reads these by
//! one-sided reads. Where messages are sealed and packets aren't, what is in the region is sealed by the client, so
//! that the server can't write there: chunks come in messages then. To put a file, the client writes chunks into
//! windows by one-sided writes, and tells the server, which takes them from there. Several chunks, of several files,
//! are under way at a time.
//!
//! What isn't whole yet lies beside the file's place as `.secure-rdma-….part`. Whoever resumes a transfer hashes
//! each chunk that is there and asks the other side for it only if its chunk has another hash: what was damaged on
//! the disk, or has changed at its source since, is moved anew. When all is there it is written through to the disk
//! and gets its name, in place of the file that had it.
#![forbid(unsafe_code)]

pub mod message;

mod chunk;
mod client;
mod error;
mod listing;
mod partial;
mod path;
mod refusal;
mod root;
mod service;
mod source;

pub use client::{Batch, FilesClient, Found, Observer, Outcome, Pace, Transfer, find_local};
pub use error::FilesError;
pub use listing::{Entry, Kind, Listing};
pub use partial::Partial;
pub use path::{FilePath, MAX_DEPTH, MAX_NAME, MAX_PATH, shown};
pub use refusal::{Refusal, RefusalCode};
pub use root::Root;
pub use service::{Moved, Service, ServiceOptions, decline};
pub use source::Source;
