//! The sending end of a link: its bandwidth and the queue before it.

use std::collections::VecDeque;

/// What waits or is being transmitted. It doesn't hold the packets themselves: when each leaves is known as
/// it comes in.
#[derive(Debug, Default)]
pub(crate) struct Transmitter {
    /// When each packet's last bit leaves, and its length in bytes; in order.
    queue: VecDeque<(u64, u64)>,
    /// The lengths' sum.
    backlog: u64,
}

impl Transmitter {
    /// Takes a packet of `len` bytes at `now` and says when its last bit leaves; `None` if the queue has no room.
    pub(crate) fn accept(
        &mut self,
        now: u64,
        len: u64,
        bandwidth: Option<u64>,
        queue_bytes: Option<u64>,
    ) -> Option<u64> {
        while let Some(&(leaves, len)) = self.queue.front()
            && leaves <= now
        {
            self.queue.pop_front();
            self.backlog -= len;
        }
        let idle_at = self.queue.back().map_or(now, |&(leaves, _)| leaves);
        let full = queue_bytes.is_some_and(|limit| self.backlog.saturating_add(len) > limit);
        if full && !self.queue.is_empty() {
            return None;
        }
        let leaves = idle_at.saturating_add(bandwidth.map_or(0, |rate| transmission_ns(len, rate)));
        if leaves > now {
            self.queue.push_back((leaves, len));
            self.backlog += len;
        }
        Some(leaves)
    }
}

/// How long `len` bytes take at `rate` bits a second, in nanoseconds, rounded up.
fn transmission_ns(len: u64, rate: u64) -> u64 {
    let bit_nanoseconds = u128::from(len) * 8 * 1_000_000_000;
    u64::try_from(bit_nanoseconds.div_ceil(u128::from(rate))).unwrap_or(u64::MAX)
}
