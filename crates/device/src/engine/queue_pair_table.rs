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
        if table.len() >= MAX_QUEUE_PAIRS {
            return Err(io::Error::other(format!(
                "the device has all {MAX_QUEUE_PAIRS} queue pairs that it can have"
            )));
        }
        loop {
            let mut bytes = [0; 4];
            host.random(&mut bytes)?;
            let qpn = Qpn::truncate(u32::from_ne_bytes(bytes));
            if qpn.is_ordinary()
                && let Entry::Vacant(place) = table.entry(qpn)
            {
                return Ok(Arc::clone(place.insert(Arc::new(make(qpn)))));
            }
        }
    }

    pub(crate) fn remove(&self, qpn: Qpn) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&qpn);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}
