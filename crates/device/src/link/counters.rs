//! What a socket sent and received, and what it couldn't send and why.

use core::sync::atomic::{AtomicU64, Ordering};
use std::io;

/// Why a datagram wasn't sent. The protocol sends it again as if it had been lost on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SendFailure {
    /// It doesn't fit the interface (EMSGSIZE).
    TooBig,
    /// No route, no neighbour, or the peer's host said that nobody listens.
    Unreachable,
    /// A local rule forbids it, mostly a firewall's (EPERM, EACCES).
    Denied,
    /// The system has no memory, or the interface's queue overflowed.
    NoMemory,
    /// Anything else.
    Other,
}

impl SendFailure {
    /// Every reason, in the order of their counters.
    pub const ALL: [Self; 5] = [Self::TooBig, Self::Unreachable, Self::Denied, Self::NoMemory, Self::Other];

    /// The counter's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooBig => "send_too_big",
            Self::Unreachable => "send_unreachable",
            Self::Denied => "send_denied",
            Self::NoMemory => "send_no_memory",
            Self::Other => "send_other",
        }
    }
}

impl From<&io::Error> for SendFailure {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => Self::TooBig,
            Some(
                libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ENETDOWN
                | libc::EADDRNOTAVAIL,
            ) => Self::Unreachable,
            Some(libc::EPERM | libc::EACCES) => Self::Denied,
            Some(libc::ENOBUFS | libc::ENOMEM) => Self::NoMemory,
            _ => Self::Other,
        }
    }
}

/// The counters of one socket. Each only grows; they are read one by one, not all at one moment.
#[derive(Debug, Default)]
pub struct LinkCounters {
    pub(crate) datagrams_sent: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) send_calls: AtomicU64,
    pub(crate) gso_runs: AtomicU64,
    pub(crate) gso_refused: AtomicU64,
    pub(crate) send_blocked: AtomicU64,
    not_sent: [AtomicU64; SendFailure::ALL.len()],
    pub(crate) datagrams_received: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) receive_calls: AtomicU64,
    pub(crate) receive_errors: AtomicU64,
}

impl LinkCounters {
    pub(crate) fn not_sent(&self, reason: SendFailure, datagrams: u64) {
        add(&self.not_sent[reason as usize], datagrams);
    }

    /// How many datagrams weren't sent for that reason.
    #[must_use]
    pub fn failures(&self, reason: SendFailure) -> u64 {
        self.not_sent[reason as usize].load(Ordering::Relaxed)
    }

    /// Every counter with its name. Bytes are those of UDP payloads, ICRC included. `gso_runs` are system
    /// calls that sent several datagrams, `gso_refused` those that the system refused and that were sent one
    /// by one, `send_blocked` those that found no room in the send buffer.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, u64)> {
        let plain = [
            ("datagrams_sent", &self.datagrams_sent),
            ("bytes_sent", &self.bytes_sent),
            ("send_calls", &self.send_calls),
            ("gso_runs", &self.gso_runs),
            ("gso_refused", &self.gso_refused),
            ("send_blocked", &self.send_blocked),
            ("datagrams_received", &self.datagrams_received),
            ("bytes_received", &self.bytes_received),
            ("receive_calls", &self.receive_calls),
            ("receive_errors", &self.receive_errors),
        ];
        let failures = SendFailure::ALL.iter().map(|reason| reason.name()).zip(&self.not_sent);
        plain
            .into_iter()
            .chain(failures)
            .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
            .collect()
    }
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_name_and_counter() {
        let counters = LinkCounters::default();
        for (reason, count) in SendFailure::ALL.into_iter().zip(1..) {
            counters.not_sent(reason, count);
        }
        for (reason, count) in SendFailure::ALL.into_iter().zip(1..) {
            assert_eq!(counters.failures(reason), count);
            assert!(counters.rows().contains(&(reason.name(), count)));
        }
    }

    #[test]
    fn system_errors_find_their_reason() {
        let reason = |code| SendFailure::from(&io::Error::from_raw_os_error(code));
        assert_eq!(reason(libc::EMSGSIZE), SendFailure::TooBig);
        assert_eq!(reason(libc::ECONNREFUSED), SendFailure::Unreachable);
        assert_eq!(reason(libc::EPERM), SendFailure::Denied);
        assert_eq!(reason(libc::ENOBUFS), SendFailure::NoMemory);
        assert_eq!(reason(libc::EBADF), SendFailure::Other);
    }
}
