//! Who agrees on keys: above this crate, which knows no TLS.

use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// What agrees on keys with peers, for processes whose packets are sealed.
pub trait KeyManager {
    /// Serves a process from here on, by its own threads. On the connection the two speak
    /// [`protocol`](super::protocol); when it ends, the process has.
    ///
    /// # Errors
    /// It can't.
    fn adopt(&mut self, process: OwnedFd) -> Result<(), Errno>;

    /// Whether it serves anybody.
    fn is_idle(&self) -> bool;
}

/// Nobody: an agent that can't have packets sealed.
#[derive(Clone, Copy, Debug)]
pub struct NoKeys;

impl KeyManager for NoKeys {
    fn adopt(&mut self, _: OwnedFd) -> Result<(), Errno> {
        Err(Errno::OPNOTSUPP)
    }

    fn is_idle(&self) -> bool {
        true
    }
}
