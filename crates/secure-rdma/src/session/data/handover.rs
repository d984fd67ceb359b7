//! What the two tasks of a split session share beside it: received messages on their way from the task that makes
//! progress to the one that takes them, and the sending one's wish for the session.

use super::messages::{INBOX, cost};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use zeroize::Zeroize;

/// Messages that have come and that another task takes.
#[derive(Default)]
pub(crate) struct Handover {
    queue: Mutex<Queue>,
    /// Something has come.
    came: Notify,
    /// There is room again where there was none.
    room: Notify,
    /// How many sending tasks want the session, and that one does now: a task that only waits for messages lets go of
    /// it.
    wanted: AtomicUsize,
    wants: Notify,
}

/// A sending task's wish for the session.
pub(crate) struct Wish<'a>(&'a AtomicUsize);

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Vec<u8>>,
    /// What they count for.
    held: usize,
    /// Whether something waits for room.
    full: bool,
}

impl Handover {
    /// Hands a message over, unless too much waits to be taken: then it comes back.
    pub(super) fn put(&self, message: Vec<u8>) -> Result<(), Vec<u8>> {
        let mut queue = self.queue();
        if queue.held > INBOX {
            queue.full = true;
            return Err(message);
        }
        queue.held += cost(&message);
        queue.messages.push_back(message);
        drop(queue);
        self.came.notify_one();
        Ok(())
    }

    /// Takes the oldest message.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let mut queue = self.queue();
        let message = queue.messages.pop_front()?;
        queue.held -= cost(&message);
        let waits = core::mem::take(&mut queue.full);
        drop(queue);
        if waits {
            self.room.notify_one();
        }
        Some(message)
    }

    /// Waits until something has come.
    pub(crate) async fn came(&self) {
        self.came.notified().await;
    }

    /// Waits until there is room where there was none.
    pub(super) async fn room(&self) {
        self.room.notified().await;
    }

    /// Wishes for the session until the wish is dropped.
    pub(crate) fn wish(&self) -> Wish<'_> {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        self.wants.notify_one();
        Wish(&self.wanted)
    }

    /// Whether a sending task wants the session.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > 0
    }

    /// Waits until a sending task wants the session.
    pub(crate) async fn wanted(&self) {
        while !self.is_wanted() {
            self.wants.notified().await;
        }
    }

    /// Wipes what nobody has taken.
    pub(super) fn forget(&self) {
        let mut queue = self.queue();
        queue.messages.iter_mut().for_each(Zeroize::zeroize);
        *queue = Queue::default();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
