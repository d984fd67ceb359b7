//! What a server offers, and its limits.

use crate::admission::SessionQuota;
use crate::session::{CounterPolicy, SessionOptions};
use std::time::Duration;

/// What a server offers each client, and its limits. It begins with the defaults:
///
/// ```
/// use secure_rdma::{CounterPolicy, ServerOptions};
///
/// let options = ServerOptions::default().max_clients(16).region_len(64 << 20);
/// assert_eq!(options.counters, CounterPolicy::Auto);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Clients at a time. By default 1024.
    pub max_clients: usize,
    /// How many of these one client may be.
    pub quota: SessionQuota,
    /// TLS handshakes at a time, and as many more connections that are past these and aren't sessions yet. One
    /// address may have half of them. A newcomer always gets a place: where that makes too many, the oldest
    /// of the most numerous address is closed. By default 512.
    pub max_handshakes: usize,
    /// Bytes of the data area of each client's region, 1 or more; sealed, it is rounded up to whole slots. By
    /// default 1 MiB.
    pub region_len: u64,
    /// Whether each client has eight counters for atomic operations. By default it does where they are sealed, or
    /// nothing is.
    pub counters: CounterPolicy,
    /// How soon a connection has to bring its first byte: a client speaks first. By default 2 s.
    pub first_byte: Duration,
    /// How soon a connection's TLS handshake has to be done. By default 5 s.
    pub handshake: Duration,
    /// How long a session may last; its client may connect again, and has to show who it is. By default for ever.
    pub max_session_age: Option<Duration>,
    /// What the server wants of its sessions.
    pub session: SessionOptions,
}

impl ServerOptions {
    /// Serves so many clients at a time.
    #[must_use]
    pub const fn max_clients(mut self, count: usize) -> Self {
        self.max_clients = count;
        self
    }

    /// Lets one client have so many sessions.
    #[must_use]
    pub const fn quota(mut self, quota: SessionQuota) -> Self {
        self.quota = quota;
        self
    }

    /// Has so many unfinished handshakes at a time.
    #[must_use]
    pub const fn max_handshakes(mut self, count: usize) -> Self {
        self.max_handshakes = count;
        self
    }

    /// Gives each client a region of so many bytes.
    #[must_use]
    pub const fn region_len(mut self, bytes: u64) -> Self {
        self.region_len = bytes;
        self
    }

    /// Offers counters, also **where they aren't sealed**, or doesn't.
    #[must_use]
    pub const fn counters(mut self, policy: CounterPolicy) -> Self {
        self.counters = policy;
        self
    }

    /// Waits so long for a connection's first byte.
    #[must_use]
    pub const fn first_byte(mut self, time: Duration) -> Self {
        self.first_byte = time;
        self
    }

    /// Waits so long for a connection's TLS handshake.
    #[must_use]
    pub const fn handshake(mut self, time: Duration) -> Self {
        self.handshake = time;
        self
    }

    /// Ends sessions that have lasted for so long.
    #[must_use]
    pub const fn max_session_age(mut self, age: Duration) -> Self {
        self.max_session_age = Some(age);
        self
    }

    /// Wants this of its sessions.
    #[must_use]
    pub const fn session(mut self, options: SessionOptions) -> Self {
        self.session = options;
        self
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_clients: 1024,
            quota: SessionQuota::default(),
            max_handshakes: 512,
            region_len: 1 << 20,
            counters: CounterPolicy::Auto,
            first_byte: Duration::from_secs(2),
            handshake: Duration::from_secs(5),
            max_session_age: None,
            session: SessionOptions::default(),
        }
    }
}
