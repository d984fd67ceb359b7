//! Queue pairs by number.

use crate::queue_pair::QueuePairCore;
use rocev2::Qpn;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

/// All queue pairs of a device. Numbers are random, so that knowing one tells nothing of another (ReDMArk's V5).
#[derive(Default)]
pub(crate) struct QueueTable(RwLock<HashMap<Qpn, Arc<QueuePairCore>>>);

/// Half of all numbers: beyond it, drawing a free one would take long.
pub(crate) const MAX_QUEUE_PAIRS: usize = 1 << 23;

impl QueueTable {
    pub(crate) fn get(&self, qpn: Qpn) -> Option<Arc<QueuePairCore>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&qpn).map(Arc::clone)
    }

    /// Adds the queue pair that `make` makes for a free number drawn from the operating system's generator.
    pub(crate) fn add(&self, make: impl FnOnce(Qpn) -> QueuePairCore) -> io::Result<Arc<QueuePairCore>> {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MAX_QUEUE_PAIRS {
            return Err(io::Error::other(format!(
                "the device has all {MAX_QUEUE_PAIRS} queue pairs that it can have"
            )));
        }
        loop {
            let qpn = Qpn::truncate(getrandom::u32()?);
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
