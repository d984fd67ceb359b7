//! Whether segmentation offload serves a path: found out by trying.
//!
//! The ICRC covers the IPv4 identification. Linux numbers the segments of a run 0, 1, 2, …, and packets are
//! sealed for that. Hardware that segments by itself may number otherwise, and nothing tells. A strict peer
//! (a kernel, a network card) then silently drops every packet of a run but the first, and the connection
//! crawls from timeout to timeout. So the second packets of runs are watched: once the peer acknowledged one
//! that was sent a single time, runs arrive. If none of the first few is, this path gets no runs.
//!
//! Only requests are acknowledged and so can be watched: a queue pair that does nothing but answer READs
//! doesn't find out. Unreliable transports never do: to other hosts over IPv4 they send their packets one by one.

use rocev2::Psn;
use std::net::IpAddr;

/// So many have to be lost on end. On a path that loses a fifth of all packets it happens to one queue pair
/// in 500, which then sends its packets one by one.
const LOST: u8 = 6;

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segmentation {
    /// Nothing yet.
    Trial {
        /// A packet that isn't the first of its run, sent once, and how many losses the queue pair had noticed by then.
        witness: Option<(Psn, u64)>,
        /// How many before it had to be sent again.
        lost: u8,
    },
    /// Runs arrive.
    Works,
    /// They don't.
    Fails,
}

impl Segmentation {
    /// IPv6 has no identification: nothing can be wrong with it.
    pub(crate) fn new(peer: IpAddr) -> Self {
        if peer.is_ipv6() { Self::Works } else { Self::Trial { witness: None, lost: 0 } }
    }

    /// A path whose packets nobody acknowledges. On this host it is Linux that numbers the segments.
    pub(crate) fn unwatched(peer: IpAddr, is_here: bool) -> Self {
        if is_here || peer.is_ipv6() { Self::Works } else { Self::Fails }
    }

    /// Runs are known to arrive.
    pub(crate) fn vouch(&mut self) {
        *self = Self::Works;
    }

    pub(crate) fn is_on_trial(self) -> bool {
        matches!(self, Self::Trial { .. })
    }

    /// A request packet was sent as number `place`, from 0, of its run, by a queue pair that has noticed so
    /// many `losses`. Returns whether this ends the trial badly.
    pub(crate) fn sent(&mut self, psn: Psn, place: usize, losses: u64) -> bool {
        let Self::Trial { witness, lost } = self else { return false };
        if let Some((_, before)) = witness.take_if(|(witness, _)| *witness == psn)
            // Otherwise it was sent again to ask for an acknowledgement, or because the peer wasn't ready.
            && losses > before
        {
            *lost += 1;
            if *lost == LOST {
                *self = Self::Fails;
                return true;
            }
        }
        if place > 0 && witness.is_none() {
            *witness = Some((psn, losses));
        }
        false
    }

    /// Everything before `psn` was acknowledged.
    pub(crate) fn acknowledged(&mut self, psn: Psn) {
        if let Self::Trial { witness: Some((witness, _)), .. } = self
            && witness.is_before(psn)
        {
            *self = Self::Works;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn psn(number: u32) -> Psn {
        // Around the wrap.
        Psn::truncate(number.wrapping_sub(3))
    }

    fn trial() -> Segmentation {
        Segmentation::new([10, 0, 0, 1].into())
    }

    #[test]
    fn a_packet_acknowledged_from_within_a_run_is_proof() {
        let mut path = trial();
        for number in 0..5 {
            assert!(!path.sent(psn(number), number as usize, 0));
        }
        path.acknowledged(psn(1));
        assert!(path.is_on_trial(), "the first of a run proves nothing");
        path.acknowledged(psn(2));
        assert_eq!(path, Segmentation::Works);
    }

    #[test]
    fn only_the_first_of_each_run_arriving_is_a_failure() {
        let mut path = trial();
        let mut runs = 0;
        while path.is_on_trial() {
            for place in 0..4 {
                path.sent(psn(runs + place), place as usize, u64::from(runs));
            }
            runs += 1;
            path.acknowledged(psn(runs));
        }
        assert_eq!(
            (path, runs),
            (Segmentation::Fails, u32::from(LOST) + 1),
            "the last was stopped at its first packet"
        );
    }

    #[test]
    fn single_packets_prove_nothing() {
        let mut path = trial();
        for number in 0..1000 {
            path.sent(psn(number), 0, 0);
            path.sent(psn(number), 0, 0);
            path.acknowledged(psn(number + 1));
        }
        assert_eq!(path, trial());
    }

    #[test]
    fn a_packet_that_is_sent_again_without_a_loss_speaks_for_neither() {
        let mut path = trial();
        for number in 0..1000 {
            path.sent(psn(number), 1, 7);
            path.sent(psn(number), 0, 7);
            path.acknowledged(psn(number + 1));
        }
        assert_eq!(path, trial());
    }

    #[test]
    fn ipv6_needs_no_trial() {
        assert_eq!(Segmentation::new("fd00::1".parse().unwrap()), Segmentation::Works);
    }
}
