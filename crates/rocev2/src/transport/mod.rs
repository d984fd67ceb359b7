//! Queue pairs, sans-IO.
//!
//! A [`QueuePair`] is driven from outside, in the manner of quinn's connections:
//!
//! - [`QueuePair::post_send`] and [`QueuePair::post_recv`] take work requests,
//! - [`QueuePair::handle_packet`] takes a packet whose ICRC and addresses were checked,
//! - [`QueuePair::handle_timeout`] is to be called when [`QueuePair::poll_timeout`] says so,
//!
//! and after each of them [`QueuePair::poll_transmit`] is to be called until it returns `None`, then
//! [`QueuePair::poll`] likewise. A caller that was held up must hand over the packets that wait before it
//! calls [`QueuePair::handle_timeout`].
//!
//! Time, memory, the receive queue and the congestion limit are inputs; the protocol decides everything else.
//! What a reliable connection promises: each work request is executed at most once, in order, and completes
//! exactly once. The unreliable transports promise that what arrives is whole.
//!
//! | file | what it holds |
//! |---|---|
//! | `queue_pair` | a queue pair of any transport |
//! | `limits`, `snapshot` | what it is made for, and what a query tells of it |
//! | `context`, `transmit`, `drop_reason` | what goes into its calls, and what comes out of them |
//! | [`rc`] | the reliable connection, and its extended one (XRC) |
//! | [`uc`] | the unreliable connection |
//! | [`ud`], `grh` | datagrams, and the 40 bytes before each |
//! | `message` | what connected transports share: messages cut into packets |
//! | `unreliable` | what UC and UD share: a send queue without answers |

mod context;
mod drop_reason;
mod grh;
mod limits;
mod message;
mod queue_pair;
pub mod rc;
mod snapshot;
mod transmit;
pub mod uc;
pub mod ud;
mod unreliable;

pub use context::{Context, Source};
pub use drop_reason::DropReason;
pub use limits::Limits;
pub use queue_pair::QueuePair;
pub use snapshot::Snapshot;
pub use transmit::{Burst, Destination, PacketKind, Transmit};
