//! Sealing: end-to-end encryption of what a queue pair carries.
//!
//! No I/O here: bytes go in, bytes come out. The specification, byte by byte, with its limits, its security
//! argument and test vectors, is `docs/sealing.md` at the top of the repository.
//!
//! | file | what it holds |
//! |---|---|
//! | `suite` | the AEAD and the hash that TLS negotiated |
//! | `context` | what both sides must agree on for their keys to be the same |
//! | `exporter` | where the keys come from: the TLS connection |
//! | `secret` | a secret that is wiped, and what is derived from it |
//! | `schedule` | from the session's secret to the keys of each direction and use |
//! | `key` | an AEAD key with its IV |
//! | `message` | sealed fragments of messages, and manifests, in order, re-keyed under way |
//! | `packets`, `pair` | keys for packets that devices seal: a session's, and those of a pair of devices |
//! | `slot` | sealed memory for one-sided access |

mod context;
mod error;
mod exporter;
mod key;
mod message;
mod packets;
mod pair;
mod schedule;
mod secret;
mod slot;
mod suite;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod vectors;

pub use context::{Context, Endpoint, Region};
pub use error::SealError;
pub use exporter::{Exporter, LABEL};
pub use message::{Fragment, Limits, MessageOpener, MessageSealer, OVERHEAD};
pub use packets::{
    JoinSecret, PACKET_LABEL, PacketChain, PacketContext, PacketEnd, PacketKeys, PacketRegion, Proof,
};
pub use pair::{PAIR_LABEL, PairContext, PairEnd};
pub use schedule::SessionKeys;
pub use slot::{
    Attempts, Format, Layout, MANIFEST_ENTRY, ManifestError, Piece, SLOT_OVERHEAD, Slots, Writers,
};
pub use suite::Suite;
