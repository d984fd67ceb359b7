//! How Linux does it: epoll, a timer and eventfds, and sockets with segmentation offload.
//!
//! | module | what it holds |
//! |---|---|
//! | `reactor` | what wakes the progress thread: epoll, and one timer |
//! | `notifier` | descriptors that become readable: eventfds |
//! | [`group`] | sockets of several processes at one address and port |

pub mod group;
#[cfg(not(feature = "portable"))]
mod notifier;
#[cfg(not(feature = "portable"))]
mod reactor;

#[cfg(not(feature = "portable"))]
pub(crate) use {crate::link::udp::Socket, notifier::Notifier, reactor::Reactor};
