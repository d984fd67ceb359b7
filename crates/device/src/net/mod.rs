//! The network as the device needs it: addresses, GIDs, and UDP sockets that a strict RoCEv2 receiver accepts.
//!
//! | module | what it holds |
//! |---|---|
//! | [`gid`] | GIDs: 16 bytes that name an address and, for IPv4, a UDP port |
//! | [`interfaces`](mod@interfaces) | this host's addresses, and the route to a peer |
//! | [`counters`] | what was sent and received, and what wasn't and why |
//! | [`socket`] | one bound socket and its options |
//! | [`recv`] | receiving a batch, split into datagrams again |
//! | [`batch`] | sending a batch, with as few system calls as possible |
//!
//! Lower modules use higher ones in this table, never the other way round. `unsafe` stands in `sys` only.

pub mod batch;
pub mod counters;
pub mod gid;
pub mod interfaces;
pub mod recv;
pub mod socket;
mod sys;

pub use batch::TxBatch;
pub use counters::{NetCounters, SendFailure};
pub use gid::{Gid, GidError};
pub use interfaces::{Interface, InterfacesError, Route, RouteError, interfaces, route};
pub use recv::{Datagram, Received, RecvBuffers};
pub use socket::{BindError, Socket};

#[cfg(test)]
pub(crate) mod testing;
