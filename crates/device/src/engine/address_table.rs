//! Address handles: the ways that datagrams take.

use super::Path;
use crate::memory::KeyTable;
use rocev2::work::AddressId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// All address handles of a device, by the number that requests name them by.
#[derive(Default)]
pub(crate) struct AddressTable {
    handles: RwLock<HashMap<AddressId, Handle>>,
}

/// A way, for the queue pairs of one protection domain.
struct Handle {
    path: Arc<Path>,
    domain: Arc<KeyTable>,
}

impl AddressTable {
    /// Adds a way; `None` if there are `limit` already. No other handle of this process ever has its number.
    pub(crate) fn add(&self, path: Path, domain: &Arc<KeyTable>, limit: usize) -> Option<AddressId> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = AddressId(NEXT.fetch_add(1, Ordering::Relaxed));
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        if handles.len() >= limit {
            return None;
        }
        handles.insert(id, Handle { path: Arc::new(path), domain: Arc::clone(domain) });
        Some(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.handles.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn remove(&self, id: AddressId) {
        let removed = self.handles.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        // What it kept ends without the lock.
        drop(removed);
    }

    /// The way that a request of a queue pair in `domain` names (IBA 11.2.2.1: handle and queue pair belong to the
    /// same domain).
    pub(crate) fn get(&self, id: AddressId, domain: &Arc<KeyTable>) -> Option<Arc<Path>> {
        let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        handles.get(&id).filter(|handle| Arc::ptr_eq(&handle.domain, domain)).map(|it| Arc::clone(&it.path))
    }
}
