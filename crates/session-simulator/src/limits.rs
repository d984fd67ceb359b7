//! What both sides of the simulated sessions have, and agree on.

use secure_rdma::{Buffers, Timeouts};
use std::time::Duration;

/// The first byte of a message that the server sends back.
pub(crate) const ECHO: u8 = 1;

/// What both sides wait for at most.
pub(crate) const TIMEOUTS: Timeouts = Timeouts::DEFAULT
    .connect(Duration::from_secs(2))
    .step(Duration::from_secs(2))
    .stall(Duration::from_secs(10))
    .missing(Duration::from_secs(2));

/// Few and small, so that they run out.
pub(crate) const BUFFERS: Buffers =
    Buffers { size: 2 * 4096 + 200, receives: 6, sends: 4, ..Buffers::DEFAULT };
