//! How many datagrams of one source are looked at.

use rocev2::Time;
use rocev2_cm::Gid;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Datagrams of one source a second, on average.
const PER_SECOND: u64 = 20_000;

/// And how many of them at once.
const BURST: u64 = 4_000;

/// The time that one of them takes.
const COST: Duration = Duration::from_nanos(1_000_000_000 / PER_SECOND);

/// Sources share as many places, by a hash whose key nobody else knows: what sources are made up takes no memory.
const PLACES: usize = 1024;

/// Token buckets of sources.
#[derive(Debug)]
pub(super) struct Rates {
    hasher: RandomState,
    /// When each bucket will be full again.
    full: Box<[Time]>,
}

impl Rates {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), full: vec![Time::ZERO; PLACES].into() }
    }

    /// Whether one more datagram of that source is to be looked at.
    pub(super) fn admit(&mut self, now: Time, source: Gid) -> bool {
        let place = self.hasher.hash_one(source) % PLACES as u64;
        let Some(full) = usize::try_from(place).ok().and_then(|place| self.full.get_mut(place)) else {
            return false;
        };
        let next = (*full).max(now) + COST;
        let room = next.since(now) <= COST * u32::try_from(BURST).unwrap_or(u32::MAX);
        if room {
            *full = next;
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_its_share_and_others_get_theirs() {
        let mut rates = Rates::new();
        let source = |last: u8| Gid::from(std::net::IpAddr::from([192, 0, 2, last]));
        let start = Time::ZERO + Duration::from_secs(1);
        let taken = (0..3 * BURST).filter(|_| rates.admit(start, source(1))).count() as u64;
        assert_eq!(taken, BURST);
        let others = (2..=21).filter(|&last| rates.admit(start, source(last))).count();
        assert!(others >= 16, "a few of twenty may share the place of the first one");
        let later = start + Duration::from_millis(100);
        let taken = (0..3 * BURST).filter(|_| rates.admit(later, source(1))).count() as u64;
        assert!(taken.abs_diff(PER_SECOND / 10) <= 1, "{taken}");
    }
}
