//! What a queue pair was made for.

/// What a queue pair was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Send requests that may be outstanding.
    pub max_send_requests: usize,
    /// Bytes that the requester may have in flight at most: what sockets on the path can hold.
    pub window: u64,
}
