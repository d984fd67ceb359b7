//! Packets sealed by ESP: which security association (SA) opens what arrives, and which one seals what leaves.
//!
//! | module | what it holds |
//! |---|---|
//! | `database` | SAs for packets that arrive, by SPI (RFC 4301, section 4.4.2, calls it the SAD) |
//! | `inbound` | one SA for packets that arrive, and whose it is |
//! | `association` | what two ends share: SAs in both directions, and their successors |
//! | `sealing` | what a queue pair seals its packets with |
//! | `peer`, `peers`, `datagrams` | which association seals datagrams for which peer |
//! | `refusal` | why a packet was refused, or not sent |
//!
//! A packet is opened before anything of RoCE in it is looked at. A queue pair that has an association takes packets
//! of that one only, and one that has none takes no sealed packets. Nothing here is ever answered.

mod association;
mod database;
mod datagrams;
mod inbound;
mod peer;
mod peers;
mod refusal;
mod sealing;

pub(crate) use association::Association;
pub use association::Receiver;
pub use database::SpiError;
pub(crate) use database::{Database, Opener};
pub(crate) use datagrams::SealedDatagrams;
pub(crate) use inbound::{AssociationId, InboundStatus};
pub use peer::Peer;
pub(crate) use peers::{Peers, Served};
pub(crate) use refusal::Refusal;
pub(crate) use sealing::Sealing;
