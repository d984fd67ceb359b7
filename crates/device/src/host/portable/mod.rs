//! How any Unix does it: `poll` and pairs of stream sockets, and plain UDP sockets.
//!
//! | module | what it holds |
//! |---|---|
//! | `reactor` | what wakes the progress thread: `poll`, with a time limit |
//! | `notifier` | descriptors that become readable |

mod notifier;
mod reactor;

pub(crate) use {crate::link::plain::Socket, notifier::Notifier, reactor::Reactor};
