//! Secure RDMA: what two machines need to agree on before one may touch the other's memory.
//!
//! | module | what it holds |
//! |---|---|
//! | [`certs`] | who is who: a private CA, certificates and keys in files, fingerprints |
//! | [`tls`] | the TLS 1.3 handshake that proves it, and what a failed one means |
//! | [`control`] | the records that client and server exchange inside TLS |
#![forbid(unsafe_code)]

pub mod certs;
pub mod control;
pub mod tls;

mod crypto;
mod text;
