//! Whether packets wait for others to leave with.
//!
//! A packet that leaves alone costs its sender a system call, as many others together do. So while much is in flight
//! and an answer is due, what isn't enough waits for more, or for that answer, as by Nagle's algorithm (RFC 896). That
//! serves a program that goes on posting. One that waits for the end of what it has posted is kept waiting for
//! nothing, and so it is found out: where nothing was posted meanwhile, the next packets don't wait.

use crate::transport::Burst;

/// How often not to wait where it was of no use, the first time and at most: it doubles each time on end.
const SKIPPED: [u32; 2] = [16, 4096];

/// What is known of a requester's program.
#[derive(Debug, Default)]
pub(super) struct Bursts {
    /// What the next packet begins, for those who send it.
    next: Option<Burst>,
    /// Packets wait.
    waiting: bool,
    /// More was posted since.
    joined: bool,
    /// How often not to wait, and how often it was the last time.
    skip: u32,
    skipped: u32,
}

impl Bursts {
    /// Says what the next packet begins.
    #[inline]
    pub(super) fn begins(&mut self, burst: Option<Burst>) {
        self.next = burst;
    }

    /// What the next packet begins.
    #[inline]
    pub(super) fn next(&self) -> Option<Burst> {
        self.next
    }

    /// The program posted something.
    #[inline]
    pub(super) fn posted(&mut self) {
        self.joined = self.waiting;
    }

    /// There isn't enough to send. Returns whether it waits.
    pub(super) fn wait(&mut self) -> bool {
        if !self.waiting {
            if let Some(left) = self.skip.checked_sub(1) {
                self.skip = left;
                return false;
            }
            (self.waiting, self.joined) = (true, false);
        }
        true
    }

    /// A packet leaves for the first time.
    #[inline]
    pub(super) fn sent(&mut self) {
        if core::mem::take(&mut self.waiting) {
            self.skipped = if self.joined { 0 } else { (self.skipped * 2).clamp(SKIPPED[0], SKIPPED[1]) };
            self.skip = self.skipped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often in `times` tries packets wait, if nothing else is posted meanwhile.
    fn waits_in_vain(bursts: &mut Bursts, times: u32) -> u32 {
        let waits = (0..times).filter(|_| {
            bursts.posted();
            let waits = bursts.wait();
            bursts.sent();
            waits
        });
        u32::try_from(waits.count()).expect("no more than there are tries")
    }

    #[test]
    fn a_program_that_posts_nothing_more_is_kept_waiting_more_and_more_rarely() {
        let mut bursts = Bursts::default();
        assert_eq!(waits_in_vain(&mut bursts, 1), 1);
        assert_eq!(waits_in_vain(&mut bursts, 16), 0);
        assert_eq!(waits_in_vain(&mut bursts, 1 + 32), 1);
        assert!(waits_in_vain(&mut bursts, 100_000) < 40);
    }

    #[test]
    fn where_more_is_posted_packets_always_wait() {
        let mut bursts = Bursts::default();
        waits_in_vain(&mut bursts, 17);
        for _ in 0..100 {
            bursts.posted();
            assert!(bursts.wait());
            assert!(bursts.wait(), "an answer has come, and there is still not enough");
            bursts.posted();
            bursts.sent();
        }
    }
}
