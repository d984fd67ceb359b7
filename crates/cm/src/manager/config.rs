//! Limits: what peers may take, and how long they are waited for.

use core::time::Duration;

use crate::Exponent;

/// A manager's limits. They bound memory and time whatever peers send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The channel adapter's GUID, which REQ and REP carry.
    pub ca_guid: u64,
    /// Connections, those in TIME-WAIT included, and SIDR requests: of peers and of the caller's together.
    pub max_connections: usize,
    /// Of these, how many may be peers' that aren't established yet.
    pub max_half_open: usize,
    /// And how many of them from one source.
    pub max_half_open_per_source: usize,
    /// Datagrams that wait for [`Manager::poll_transmit`](crate::Manager::poll_transmit). One more is dropped, as if
    /// lost on the way.
    pub max_transmits: usize,
    /// The longest that is waited for an answer, whatever a peer's REQ or MRA asks for.
    pub max_response_timeout: Duration,
    /// How long the caller may take to answer a peer: to accept or reject a request, to establish a connection, to
    /// follow a disconnection. Then the manager answers by itself.
    pub answer_within: Duration,
    /// What an MRA tells the peer of that: sent when it repeats a message that the caller hasn't answered yet.
    pub service_timeout: Exponent,
    /// The longest time in TIME-WAIT, whatever the path's packet lifetime is said to be.
    pub max_time_wait: Duration,
}

impl Default for Config {
    /// The kernel's times where it has some; 16,384 connections, 1,024 of them half open, 128 for one source.
    fn default() -> Self {
        Self {
            ca_guid: 0,
            max_connections: 16_384,
            max_half_open: 1024,
            max_half_open_per_source: 128,
            max_transmits: 4096,
            max_response_timeout: Duration::from_secs(20),
            answer_within: Duration::from_secs(60),
            // 69 s, CMA_CM_MRA_SETTING.
            service_timeout: Exponent::truncate(24),
            max_time_wait: Duration::from_secs(10),
        }
    }
}
