//! The queue pairs of a port that delay an ACK.

use super::sync::{AtomicBool, Mutex, lock};
use std::sync::atomic::Ordering;

/// Queue pairs whose programs were given messages, and may answer them before they look for more.
pub(super) struct DelayedAcks<T> {
    some: AtomicBool,
    queue_pairs: Mutex<Vec<T>>,
}

impl<T> DelayedAcks<T> {
    pub(super) fn new() -> Self {
        Self { some: AtomicBool::new(false), queue_pairs: Mutex::new(Vec::new()) }
    }

    pub(super) fn add(&self, queue_pairs: impl IntoIterator<Item = T>) {
        let mut all = lock(&self.queue_pairs);
        all.extend(queue_pairs);
        self.some.store(true, Ordering::Relaxed);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        lock(&self.queue_pairs).len()
    }

    /// Takes all of them.
    pub(super) fn take(&self) -> Option<Vec<T>> {
        if !self.some.load(Ordering::Relaxed) {
            return None;
        }
        let mut queue_pairs = lock(&self.queue_pairs);
        self.some.store(false, Ordering::Relaxed);
        Some(core::mem::take(&mut *queue_pairs))
    }
}
