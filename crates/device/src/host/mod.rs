//! What a device needs of the system that it runs on, and how that gives it: Linux in its own ways, any other in
//! portable ones, which the feature `portable` chooses on Linux, too.
//!
//! A device whose [`Platform`] is a test's own runs in virtual time, on one thread, over links of the test's.
//!
//! | module | what it holds |
//! |---|---|
//! | `os` | this host: clock, randomness, sockets |
//! | `linux`, `portable` | what wakes the progress thread, and descriptors that become readable |
//! | [`group`] | Linux: sockets of several processes at one address and port |
//! | [`interfaces`](mod@interfaces) | this host's addresses, and the route to a peer |

pub mod interfaces;
#[cfg(target_os = "linux")]
mod linux;
mod os;
#[cfg(any(not(target_os = "linux"), feature = "portable"))]
mod portable;
mod sys;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
use linux as system;
#[cfg(any(not(target_os = "linux"), feature = "portable"))]
use portable as system;

pub use interfaces::{Interface, InterfacesError, Route, RouteError, interfaces, route};
#[cfg(target_os = "linux")]
pub use linux::group;
pub(crate) use os::{Os, ProgressThread};
#[cfg(target_os = "linux")]
pub use sys::close_on_exec;
pub(crate) use system::Notifier;

use crate::engine::Host;
use crate::link::{BindError, Capture, Link};
use crate::memory::{Mapping, MappingError};
use std::net::{IpAddr, SocketAddr};

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

    /// `len` zeroed bytes of memory for a region.
    ///
    /// # Errors
    /// There are none.
    fn allocate(&self, len: usize) -> Result<Mapping, MappingError> {
        Mapping::new(len)
    }

    /// Has what passes by links that are made from now on written down, if it can: the first time that it is asked to.
    fn capture(&self, capture: Capture) {
        let _ = capture;
    }

    /// A link at which what is sent to the multicast group `group` arrives, joined where this host has the address
    /// `local`. Other processes may join it, too.
    ///
    /// # Errors
    /// It can't be had. A platform needn't have multicast.
    fn join(&self, group: SocketAddr, local: IpAddr, token: u64) -> Result<Box<dyn Link>, BindError> {
        let _ = (local, token);
        let source = std::io::ErrorKind::Unsupported.into();
        Err(BindError::System { what: "joining a multicast group", address: group, source })
    }
}
