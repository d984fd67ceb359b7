//! The TLS 1.3 handshake that a session begins with.
//!
//! [`ClientTls`] and [`ServerTls`] hold what both sides promise, and nothing weaker can be configured:
//!
//! - TLS 1.3 and nothing older; key exchange with ML-KEM-768 and X25519 together where the peer can.
//! - The server's name is always verified, up to a CA that the client trusts ([`Trust`]). There is no switch
//!   that turns that off.
//! - Both sides insist on the application protocol [`ALPN`], so that no other TLS service is taken for this
//!   one (RFC 7301; ALPACA, 2021).
//! - No early data (it could be replayed) and no resumption: each session does the whole handshake and has
//!   keys of its own.
//! - No secrets are logged: the environment variable SSLKEYLOGFILE is not read.
//! - The whole handshake has one time limit.
//!
//! Certificates can be checked against revocation lists in files ([`ClientTrust`],
//! [`ClientTls::with_revocations`]); strictly: a list that has ended, or that is missing for a CA, lets
//! nobody pass. Nothing is fetched over the network.

mod client;
mod clients;
mod error;
mod negotiated;
mod scrub;
mod server;
mod trust;
mod verifier;

pub use client::ClientTls;
pub use clients::{Allowed, ClientAuth, ClientTrust};
pub(crate) use clients::{Shown, Vetting};
pub use error::{Peer, TlsError};
pub use negotiated::{Negotiated, Secured};
pub(crate) use server::Rules;
pub use server::ServerTls;
pub use trust::Trust;

/// The application protocol that both sides insist on.
pub const ALPN: &[u8] = b"secure-rdma/1";
