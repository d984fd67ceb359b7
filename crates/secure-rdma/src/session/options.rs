//! What a side wants of its sessions.

use super::Buffers;
use crate::control::{HEARTBEAT_MS, PacketPolicy, SealPolicy};
use crate::seal::Limits;
use std::time::Duration;

/// The time that each step of the bootstrap and of closing may take, unless the options say otherwise.
pub(crate) const STEP_LIMIT: Duration = Duration::from_secs(10);

/// What a side wants of its sessions. It begins with the defaults:
///
/// ```
/// use secure_rdma::SessionOptions;
/// use std::time::Duration;
///
/// let options = SessionOptions::default().max_message(64 << 10).heartbeat(Duration::from_secs(1));
/// assert_eq!(options.max_message, 65536);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionOptions {
    /// The longest message taken, in bytes. By default 1 MiB.
    pub max_message: u64,
    /// How often the peer is to be heard; after three times as long without a word the session is over. By default
    /// 5 s; from 100 ms to an hour.
    pub heartbeat: Duration,
    /// Whether the data path is to be sealed. By default it is, or there is no session.
    pub seal: SealPolicy,
    /// Whether packets are to be sealed, where the data path is. By default they are, if both sides' devices can;
    /// `None` has messages and slots sealed all the same.
    pub packets: Option<PacketPolicy>,
    /// How much of this side's messages one key seals; where packets are sealed, how many of the peer's. It can be
    /// lowered, not raised.
    pub key_limits: Limits,
    /// This side's buffers.
    pub buffers: Buffers,
    /// How long a thread that waits for the peer looks for completions before it sleeps, at most 1 ms at a
    /// time. It is busy all that time; what else its runtime has to do waits. By default it sleeps at once.
    pub busy_poll: Duration,
    /// How long what takes part in a session is waited for.
    pub timeouts: Timeouts,
}

impl SessionOptions {
    /// Takes messages of so many bytes at most.
    #[must_use]
    pub const fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = bytes;
        self
    }

    /// Wants to hear from the peer so often.
    #[must_use]
    pub const fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
        self
    }

    /// Wants the data path sealed, or not.
    #[must_use]
    pub const fn seal(mut self, policy: SealPolicy) -> Self {
        self.seal = policy;
        self
    }

    /// Wants packets sealed, if the data path is, or not.
    #[must_use]
    pub const fn packets(mut self, policy: Option<PacketPolicy>) -> Self {
        self.packets = policy;
        self
    }

    /// Seals so much with one key, at most.
    #[must_use]
    pub const fn key_limits(mut self, limits: Limits) -> Self {
        self.key_limits = limits;
        self
    }

    /// Has these buffers.
    #[must_use]
    pub const fn buffers(mut self, buffers: Buffers) -> Self {
        self.buffers = buffers;
        self
    }

    /// Looks for completions for so long before it sleeps.
    #[must_use]
    pub const fn busy_poll(mut self, time: Duration) -> Self {
        self.busy_poll = time;
        self
    }

    /// Waits for so long.
    #[must_use]
    pub const fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// `heartbeat` in the protocol's unit and range.
    pub(super) fn heartbeat_ms(self) -> u32 {
        let ms = u32::try_from(self.heartbeat.as_millis()).unwrap_or(u32::MAX);
        ms.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end())
    }
}

impl Default for SessionOptions {
    /// Messages of 1 MiB, a heartbeat every 5 s, a sealed data path or none, by packets where both sides can, and no
    /// busy polling.
    fn default() -> Self {
        Self {
            max_message: 1 << 20,
            heartbeat: Duration::from_secs(5),
            seal: SealPolicy::Required,
            packets: Some(PacketPolicy::Offered),
            key_limits: Limits::DEFAULT,
            buffers: Buffers::DEFAULT,
            busy_poll: Duration::ZERO,
            timeouts: Timeouts::DEFAULT,
        }
    }
}

/// How long what takes part in a session is waited for. What isn't there by then is an error that
/// [`is_timeout`](crate::SessionError::is_timeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// For each address of a server's name to be found and connected to by TCP. By default 10 s.
    pub connect: Duration,
    /// For each step of opening a session, TLS's handshake being the first one at the client, and for each step of
    /// closing it. By default 10 s.
    pub step: Duration,
    /// For the oldest request of an operation, whatever the queue pair's retries allow: a peer that posts no receive
    /// buffers. By default 30 s.
    pub stall: Duration,
    /// For a fragment that the peer has counted: what stays away for longer was cut off on the way. By default
    /// 5 s.
    pub missing: Duration,
}

impl Timeouts {
    /// The usual ones.
    pub const DEFAULT: Self = Self {
        connect: STEP_LIMIT,
        step: STEP_LIMIT,
        stall: Duration::from_secs(30),
        // An acknowledged SEND is already in this side's completion queue.
        missing: Duration::from_secs(5),
    };

    /// Waits for so long to be connected.
    #[must_use]
    pub const fn connect(mut self, time: Duration) -> Self {
        self.connect = time;
        self
    }

    /// Waits for so long for each step.
    #[must_use]
    pub const fn step(mut self, time: Duration) -> Self {
        self.step = time;
        self
    }

    /// Waits for so long for an operation's oldest request.
    #[must_use]
    pub const fn stall(mut self, time: Duration) -> Self {
        self.stall = time;
        self
    }

    /// Waits for so long for a fragment that the peer has counted.
    #[must_use]
    pub const fn missing(mut self, time: Duration) -> Self {
        self.missing = time;
        self
    }

    /// How long a session that is being closed takes at most: each of the three steps has its limit.
    pub(super) fn close(self) -> Duration {
        self.step.saturating_mul(3)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::DEFAULT
    }
}
