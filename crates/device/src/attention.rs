//! Who looks at a socket: threads of the application that poll, or the helper.

use rocev2::Time;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is known of a socket's lookers.
#[derive(Debug)]
pub(crate) struct Attention {
    /// Somebody polled since the helper last asked, and doesn't wait on a completion channel now.
    polled: AtomicBool,
    /// Whether the helper is woken by packets. Otherwise it looks in now and then.
    watched: AtomicBool,
    /// When the helper last asked, in nanoseconds.
    asked: AtomicU64,
}

impl Attention {
    /// Nobody has polled: the helper watches.
    pub(crate) fn new() -> Self {
        Self { polled: AtomicBool::new(false), watched: AtomicBool::new(true), asked: AtomicU64::new(0) }
    }

    /// Somebody looks at the socket, and will again.
    pub(crate) fn polled(&self) {
        // Read first: a poller shouldn't take the cache line from others every time.
        if !self.polled.load(Ordering::Relaxed) {
            self.polled.store(true, Ordering::Relaxed);
        }
    }

    /// When the helper last asked whether somebody polled.
    pub(crate) fn asked(&self) -> Time {
        Time::from_nanos(self.asked.load(Ordering::Relaxed))
    }

    /// Whether somebody polled since the last call, or since somebody last [waited](Self::waits).
    pub(crate) fn take_polled(&self, now: Time) -> bool {
        self.asked.store(now.as_nanos(), Ordering::Relaxed);
        self.polled.swap(false, Ordering::SeqCst)
    }

    /// Whoever polled is about to wait for a completion channel.
    pub(crate) fn waits(&self) {
        self.polled.store(false, Ordering::SeqCst);
    }

    /// Whether the helper is woken by packets.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::SeqCst)
    }

    /// Sets it; returns what it was.
    pub(crate) fn set_watched(&self, on: bool) -> bool {
        self.watched.swap(on, Ordering::SeqCst)
    }
}
