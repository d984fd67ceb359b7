//! The reliable connection (RC) transport, sans-IO.
//!
//! A [`QueuePair`] is driven from outside, in the manner of quinn's connections:
//!
//! - [`QueuePair::post_send`] and [`QueuePair::post_recv`] take work requests,
//! - [`QueuePair::handle_packet`] takes a packet whose ICRC and addresses were checked,
//! - [`QueuePair::handle_timeout`] is to be called when [`QueuePair::poll_timeout`] says so,
//!
//! and after each of them [`QueuePair::poll_transmit`] is to be called until it returns `None`, then
//! [`QueuePair::poll`] likewise. Who was held up hands over the packets that wait before it says that time
//! has passed.
//!
//! Time, memory and the congestion limit are inputs; the protocol decides everything else. What it promises:
//! each work request is executed at most once, in order, and completes exactly once.
//!
//! | file | what it holds |
//! |---|---|
//! | `queue_pair` | the queue pair: states, and what goes to requester or responder |
//! | `requester` | send requests → packets, answers → completions; retransmission |
//! | `responder` | the peer's requests: checked, executed, answered |
//! | `window`, `timing` | congestion window, round-trip time; timer codes |
//! | `memory` | what the protocol asks of memory |
//! | `request`, `completion`, `state`, `refusal` | the vocabulary |

mod completion;
mod memory;
mod queue_pair;
mod refusal;
mod request;
mod requester;
mod responder;
mod state;
mod timing;
mod window;

pub use completion::{AsyncEvent, Completion, CompletionKind, Event, Status};
pub use memory::{AtomicOperation, LocalFault, Memory, RemoteFault, RemoteRight};
pub use queue_pair::{Limits, QueuePair, Snapshot};
pub use refusal::Refusal;
pub use request::{MAX_MESSAGE, PostError, RecvRequest, RemoteAddress, SendOperation, SendRequest};
pub use requester::RequesterCounters;
pub use responder::ResponderCounters;
pub use state::{
    InitAttributes, MAX_RD_ATOMIC, ModifyError, PeerRights, ReceiveAttributes, SendAttributes, State,
    Transition,
};
pub use timing::{ack_timeout, rnr_delay};
