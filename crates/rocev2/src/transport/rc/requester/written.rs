//! Where the peer is known to take WRITEs.
//!
//! The first packet of a WRITE tells the peer how long it is, and a peer that refuses it has written nothing. Where
//! each packet is a message of its own, those before the refused one are done. So a WRITE is split only where the peer
//! has taken every byte before: programs write to the same places again and again.

use crate::work::RemoteAddress;

/// The addresses under one key to which everything that was written has arrived, without a gap.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    rkey: u32,
    start: u64,
    /// One past the last.
    end: u64,
}

impl Written {
    /// The peer has taken a WRITE of `len` bytes.
    pub(super) fn add(&mut self, to: RemoteAddress, len: u32) {
        let (start, end) = (to.va, to.va.saturating_add(len.into()));
        if self.rkey == to.rkey && start <= self.end && self.start <= end {
            (self.start, self.end) = (self.start.min(start), self.end.max(end));
        } else {
            *self = Self { rkey: to.rkey, start, end };
        }
    }

    /// Whether the peer has taken all of these bytes before.
    #[inline]
    pub(super) fn contains(&self, to: RemoteAddress, len: u32) -> bool {
        self.rkey == to.rkey
            && self.start <= to.va
            && to.va.checked_add(len.into()).is_some_and(|end| end <= self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(va: u64) -> RemoteAddress {
        RemoteAddress { va, rkey: 7 }
    }

    #[test]
    fn what_was_written_without_a_gap_is_known_as_a_whole() {
        let mut written = Written::default();
        assert!(!written.contains(at(100), 1));
        written.add(at(100), 50);
        written.add(at(150), 50);
        written.add(at(90), 20);
        assert!(written.contains(at(90), 110));
        assert!(!written.contains(at(89), 10) && !written.contains(at(199), 2));
        assert!(!written.contains(RemoteAddress { rkey: 8, ..at(100) }, 1), "another key");
        written.add(at(300), 10);
        assert!(written.contains(at(300), 10) && !written.contains(at(100), 1), "behind a gap");
    }

    #[test]
    fn the_end_of_all_addresses_is_no_beginning() {
        let mut written = Written::default();
        written.add(at(u64::MAX - 9), 10);
        assert!(!written.contains(at(u64::MAX - 3), 8));
        assert!(!written.contains(at(0), 4));
    }
}
