//! Who is who: a private CA, the certificates that it issues, and the files that hold them.
//!
//! A [`Store`] is a directory:
//!
//! | file | what it holds |
//! |---|---|
//! | `ca.pem` | the private CA's certificate: what a client has to trust, by file or by [`Fingerprint`] |
//! | `ca-key.pem` | the CA's key (mode 0600). Only issuing needs it: it may be kept elsewhere |
//! | `server.pem`, `server-key.pem` | the server's certificate, with the CA's behind it, and its key (0600) |
//! | `NAME.pem`, `NAME-key.pem` | the same for whatever else was issued |
//! | `account.pem`, `account-key.pem` | a client's, which the clients of this account show |
//! | `crl.pem` | the CA's revocation list: who isn't to be trusted any more |
//! | `issued.jsonl` | what was issued, a line each: an [`IssueRecord`] |
//! | `revocations-seen` | the newest revocation lists that a server here has gone by |
//!
//! What makes certificates, keys and revocation lists needs the feature `ca`; what uses them doesn't.
//!
//! Keys are ECDSA P-256. Files are replaced whole, never written in place (`issued.jsonl` grows), by one process at
//! a time. A key that others can read or have made, a directory that others could write to or exchange, links and
//! what is no file are refused rather than used.

mod authorities;
mod clock;
mod editions;
mod error;
mod files;
mod fingerprint;
#[cfg(feature = "ca")]
mod host;
mod identity;
#[cfg(feature = "ca")]
mod index;
mod info;
#[cfg(feature = "ca")]
mod issue;
mod name;
mod revocation;
#[cfg(feature = "ca")]
mod revoke;
mod store;
mod subject;
mod timestamp;
mod way;

pub use authorities::Authorities;
pub use clock::Clock;
pub use error::CertsError;
pub use fingerprint::{Fingerprint, ParseFingerprintError};
#[cfg(feature = "ca")]
pub use host::{MAX_NAMES, host_names};
pub use identity::{Bundle, Identity};
#[cfg(feature = "ca")]
pub use index::{IssueRecord, Issues};
pub use info::{CertificateInfo, Kind};
#[cfg(feature = "ca")]
pub use issue::Validity;
pub use name::{Name, ParseNameError};
pub use revocation::{ParseSerialError, RevocationLists, Serial};
#[cfg(feature = "ca")]
pub use revoke::{RevocationInfo, Revoke};
#[cfg(feature = "ca")]
pub use store::Issued;
pub use store::Store;
pub use subject::{ParseSubjectNameError, SubjectName, SubjectNames};
pub use timestamp::Timestamp;

pub(crate) use authorities::Anchors;
pub(crate) use editions::Editions;
#[cfg(feature = "toml")]
pub(crate) use files::{Named, Secrecy, read_existing};
pub(crate) use info::end_of;
pub(crate) use revocation::{Revocations, Used};
