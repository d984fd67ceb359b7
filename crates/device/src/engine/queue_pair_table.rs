//! Queue pairs by number.

use super::{Host, QueuePair};
use rocev2::Qpn;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

/// All queue pairs of a device. Numbers are random, so that knowing one tells nothing of another (ReDMArk's V5).
#[derive(Default)]
pub(crate) struct QueuePairTable(RwLock<HashMap<Qpn, Arc<QueuePair>>>);

/// Bits of a queue pair's number that name its slot, where several processes share a port. The others stay random.
const SLOT_BITS: u32 = 6;

/// How many processes share a port at most, and one slot more, 0, which has queue pair 1.
pub const SLOTS: usize = 1 << SLOT_BITS;

/// Bits of a queue pair's number.
const QPN_BITS: u32 = 24;

/// The number in that slot whose other bits are those of `random`.
fn in_slot(slot: u8, random: u32) -> Qpn {
    let rest = QPN_BITS - SLOT_BITS;
    Qpn::truncate((u32::from(slot) << rest) | (random & ((1 << rest) - 1)))
}

/// The slot of a number.
pub(super) fn slot_of(qpn: Qpn) -> u8 {
    (qpn.get() >> (QPN_BITS - SLOT_BITS)).to_le_bytes()[0]
}

/// Half of all numbers: beyond it, drawing a free one would take long.
pub(crate) const MAX_QUEUE_PAIRS: usize = 1 << 23;

impl QueuePairTable {
    pub(crate) fn get(&self, qpn: Qpn) -> Option<Arc<QueuePair>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&qpn).map(Arc::clone)
    }

    /// Adds the queue pair that `make` makes for a free number drawn from the host's generator.
    pub(crate) fn add(
        &self,
        host: &dyn Host,
        make: impl FnOnce(Qpn) -> QueuePair,
    ) -> io::Result<Arc<QueuePair>> {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let slot = host.slot();
        let limit = if slot.is_some() { MAX_QUEUE_PAIRS >> SLOT_BITS } else { MAX_QUEUE_PAIRS };
        if table.len() >= limit {
            return Err(io::Error::other(format!("the device has all {limit} queue pairs that it can have")));
        }
        loop {
            let mut bytes = [0; 4];
            host.random(&mut bytes)?;
            let random = u32::from_ne_bytes(bytes);
            let qpn = slot.map_or_else(|| Qpn::truncate(random), |slot| in_slot(slot, random));
            if qpn.is_ordinary()
                && let Entry::Vacant(place) = table.entry(qpn)
            {
                return Ok(Arc::clone(place.insert(Arc::new(make(qpn)))));
            }
        }
    }

    /// Adds queue pair 1; `None` if there is one, or if what arrives for it is another process's: of those that share a
    /// port it belongs to whoever has slot 0.
    pub(crate) fn add_gsi(
        &self,
        host: &dyn Host,
        make: impl FnOnce(Qpn) -> QueuePair,
    ) -> Option<Arc<QueuePair>> {
        if host.slot().is_some_and(|slot| slot != 0) {
            return None;
        }
        match self.0.write().unwrap_or_else(PoisonError::into_inner).entry(Qpn::GSI) {
            Entry::Vacant(place) => Some(Arc::clone(place.insert(Arc::new(make(Qpn::GSI))))),
            Entry::Occupied(_) => None,
        }
    }

    pub(crate) fn remove(&self, qpn: Qpn) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&qpn);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_their_slot_and_keep_their_random_bits() {
        for slot in 1..64 {
            let qpn = in_slot(slot, u32::MAX).get();
            assert_eq!(qpn >> 18, u32::from(slot));
            assert_eq!(slot_of(in_slot(slot, u32::MAX)), slot);
            assert_eq!(qpn & 0x3_ffff, 0x3_ffff);
        }
    }
}
