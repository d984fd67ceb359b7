//! The reliable connection (RC).
//!
//! | file | what it holds |
//! |---|---|
//! | `queue_pair` | the queue pair: states, and what goes to requester or responder |
//! | `requester` | send requests → packets, answers → completions; retransmission |
//! | `responder` | the peer's requests: checked, executed, answered |
//! | `recovery` | what may be under way, what counts as lost, when to ask again |
//! | `congestion`, `window` | the seam for congestion control; the window, and the round-trip time |
//! | `timing` | timer codes |

mod congestion;
mod queue_pair;
mod recovery;
mod requester;
mod responder;
mod timing;
mod window;

pub use queue_pair::QueuePair;
pub use requester::RequesterCounters;
pub use responder::ResponderCounters;
pub use timing::{ack_timeout, rnr_delay};
