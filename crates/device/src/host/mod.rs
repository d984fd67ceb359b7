//! What a device needs of the system that it runs on, and how Linux gives it.
//!
//! A device whose [`Platform`] is a test's own runs in virtual time, on one thread, over links of the test's.
//!
//! | module | what it holds |
//! |---|---|
//! | `os` | this host: clock, randomness, sockets |
//! | [`group`] | sockets of several processes at one address and port |
//! | `reactor` | the thread that makes progress where nobody polls, epoll, and its timer |
//! | `notifier` | descriptors that become readable |
//! | [`interfaces`](mod@interfaces) | this host's addresses, and the route to a peer |

pub mod group;
pub mod interfaces;
mod notifier;
mod os;
mod reactor;
mod sys;

pub use interfaces::{Interface, InterfacesError, Route, RouteError, interfaces, route};
pub(crate) use notifier::Notifier;
pub(crate) use os::{Os, ProgressThread};

use crate::engine::Host;
use crate::link::{BindError, Link};
use std::net::SocketAddr;

/// What a device runs on.
pub trait Platform: Host {
    /// This host's addresses.
    ///
    /// # Errors
    /// The system doesn't tell.
    fn interfaces(&self) -> Result<Vec<Interface>, InterfacesError>;

    /// A link at that address and UDP port; port 0 lets the system choose one. When it is ready, the next step is
    /// made, and told so by `token`.
    ///
    /// # Errors
    /// It can't be had.
    fn bind(&self, address: SocketAddr, token: u64) -> Result<Box<dyn Link>, BindError>;
}
