//! When queue pairs want to be woken.

use super::sync::{AtomicU64, Mutex, lock};
use rocev2::{Qpn, Time};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;

/// Deadlines of all queue pairs. A queue pair announces one only when it has none that is earlier, so under
/// steady traffic, where deadlines move into the future with each ACK, it comes here once a deadline and not
/// once a packet.
#[derive(Debug)]
pub(crate) struct Deadlines {
    heap: Mutex<BinaryHeap<Reverse<(Time, Qpn)>>>,
    /// The earliest, in nanoseconds; `u64::MAX` for none.
    earliest: AtomicU64,
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self { heap: Mutex::new(BinaryHeap::new()), earliest: AtomicU64::new(u64::MAX) }
    }

    /// Adds a deadline; returns whether it is now the earliest.
    pub(crate) fn add(&self, at: Time, qpn: Qpn) -> bool {
        let mut heap = lock(&self.heap);
        heap.push(Reverse((at, qpn)));
        at.as_nanos() < self.earliest.fetch_min(at.as_nanos(), Ordering::SeqCst)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        lock(&self.heap).len()
    }

    /// The earliest deadline.
    pub(crate) fn earliest(&self) -> Option<Time> {
        match self.earliest.load(Ordering::SeqCst) {
            u64::MAX => None,
            nanos => Some(Time::from_nanos(nanos)),
        }
    }

    /// Takes a queue pair whose deadline has passed, with that deadline.
    pub(crate) fn take_due(&self, now: Time) -> Option<(Time, Qpn)> {
        if self.earliest().is_none_or(|earliest| earliest > now) {
            return None;
        }
        let mut heap = lock(&self.heap);
        let due = match heap.peek() {
            Some(&Reverse((at, _))) if at <= now => heap.pop().map(|Reverse(due)| due),
            _ => None,
        };
        let next = heap.peek().map_or(u64::MAX, |Reverse((at, _))| at.as_nanos());
        self.earliest.store(next, Ordering::SeqCst);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_due_in_order() {
        let deadlines = Deadlines::new();
        let at = Time::from_nanos;
        assert_eq!(deadlines.earliest(), None);
        assert!(deadlines.add(at(20), Qpn::truncate(2)));
        assert!(deadlines.add(at(10), Qpn::truncate(1)));
        assert!(!deadlines.add(at(30), Qpn::truncate(3)));
        assert_eq!(deadlines.earliest(), Some(at(10)));
        assert_eq!(deadlines.take_due(at(9)), None);
        assert_eq!(deadlines.take_due(at(25)), Some((at(10), Qpn::truncate(1))));
        assert_eq!(deadlines.take_due(at(25)), Some((at(20), Qpn::truncate(2))));
        assert_eq!(deadlines.take_due(at(25)), None);
        assert_eq!(deadlines.earliest(), Some(at(30)));
    }
}
