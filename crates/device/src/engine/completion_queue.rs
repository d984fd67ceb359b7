//! Completion queues.

use super::sync::{AtomicBool, AtomicU8, Mutex, lock};
use super::{EventChannel, Port};
use rocev2::Qpn;
use rocev2::work::Completion;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::Waker;

/// A completion with the queue pair that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkCompletion {
    /// The queue pair.
    pub qpn: Qpn,
    /// What became of the request.
    pub completion: Completion,
}

/// What an armed completion queue waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Arm {
    /// Any completion.
    Any = 1,
    /// A solicited one, or an error.
    Solicited = 2,
}

/// The queue overflowed: a completion had no room.
///
/// As IBA 11.2.8 has it, that is an error of the whole queue: what it already holds may be polled, what came
/// after is lost with the queue pairs, which go to the error state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the completion queue overflowed: it was made for {capacity} entries; create it with room for every \
     request that may be outstanding on all its queue pairs"
)]
pub struct Overflow {
    /// How many entries it was made for.
    pub capacity: usize,
}

/// Whom an armed completion queue tells of its next completion.
pub(crate) enum Bell {
    /// Who waits at a channel, perhaps for other queues too.
    Channel(Arc<EventChannel>),
    /// A task.
    Task(Waker),
}

struct Entries {
    capacity: usize,
    entries: VecDeque<WorkCompletion>,
    overflowed: bool,
}

/// A completion queue.
pub(crate) struct CompletionQueue {
    number: u64,
    entries: Mutex<Entries>,
    /// 0, or what an [`Arm`] says.
    armed: AtomicU8,
    /// An event is due, for the next [`CompletionQueue::ring`].
    due: AtomicBool,
    bell: Option<Bell>,
    /// Where packets for its queue pairs arrive: what a poll drains.
    ports: RwLock<Arc<[Arc<Port>]>>,
}

impl CompletionQueue {
    pub(crate) fn new(number: u64, capacity: usize, bell: Option<Bell>) -> Self {
        let entries = Entries { capacity, entries: VecDeque::with_capacity(capacity), overflowed: false };
        Self {
            number,
            entries: Mutex::new(entries),
            armed: AtomicU8::new(0),
            due: AtomicBool::new(false),
            bell,
            ports: RwLock::new(Arc::new([])),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        lock(&self.entries).capacity
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.entries).entries.len()
    }

    /// Makes room for `capacity` entries instead, unless it holds more than that: then it says how many.
    pub(crate) fn resize(&self, capacity: usize) -> Result<(), usize> {
        let mut ring = lock(&self.entries);
        if ring.entries.len() > capacity {
            return Err(ring.entries.len());
        }
        let more = capacity - ring.entries.len();
        ring.entries.reserve(more);
        ring.capacity = capacity;
        Ok(())
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn add_port(&self, port: &Arc<Port>) {
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        if !ports.iter().any(|other| Arc::ptr_eq(other, port)) {
            *ports = ports.iter().chain([port]).cloned().collect();
        }
    }

    pub(crate) fn remove_port(&self, port: &Arc<Port>) {
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        *ports = ports.iter().filter(|other| !Arc::ptr_eq(other, port)).cloned().collect();
    }

    /// Calls `visit` for each port, without any lock.
    pub(crate) fn each_port(&self, visit: impl FnMut(&Arc<Port>)) {
        let ports = Arc::clone(&self.ports.read().unwrap_or_else(PoisonError::into_inner));
        ports.iter().for_each(visit);
    }

    /// Keeps every thread from its entries as long as what it returns lives.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> impl Sized {
        lock(&self.entries)
    }

    /// Adds an entry. Who waits, if it is armed for it, is told by [`Self::ring`], which has to follow.
    pub(crate) fn push(&self, entry: WorkCompletion) -> Result<(), Overflow> {
        {
            let mut ring = lock(&self.entries);
            let capacity = ring.capacity;
            if ring.overflowed || ring.entries.len() >= capacity {
                ring.overflowed = true;
                drop(ring);
                self.notice(true);
                return Err(Overflow { capacity });
            }
            ring.entries.push_back(entry);
        }
        let completion = &entry.completion;
        self.notice(completion.solicited || completion.status != rocev2::work::Status::Success);
        Ok(())
    }

    fn notice(&self, solicited: bool) {
        let wanted = match self.armed.load(Ordering::SeqCst) {
            armed if armed == Arm::Any as u8 => true,
            armed if armed == Arm::Solicited as u8 => solicited,
            _ => false,
        };
        if wanted && self.armed.swap(0, Ordering::SeqCst) != 0 {
            self.due.store(true, Ordering::SeqCst);
        }
    }

    /// Rings the bell if an event is due.
    pub(crate) fn ring(&self) {
        if self.due.load(Ordering::SeqCst) && self.due.swap(false, Ordering::SeqCst) {
            match &self.bell {
                Some(Bell::Channel(channel)) => channel.notify(self.number),
                Some(Bell::Task(waker)) => waker.wake_by_ref(),
                None => {}
            }
        }
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed) != 0
    }

    /// Whoever waits for any completion goes on waiting for any, though somebody asks for solicited ones alone
    /// (IBA 11.4.2.2).
    pub(crate) fn arm(&self, arm: Arm) {
        match arm {
            Arm::Any => self.armed.store(arm as u8, Ordering::SeqCst),
            // Where it is armed, it is so for one of the two.
            Arm::Solicited => {
                let _ = self.armed.compare_exchange(0, arm as u8, Ordering::SeqCst, Ordering::SeqCst);
            }
        }
    }

    /// Moves up to `max` entries to the end of `out` and returns how many.
    pub(crate) fn take(&self, out: &mut Vec<WorkCompletion>, max: usize) -> Result<usize, Overflow> {
        let mut ring = lock(&self.entries);
        let count = ring.entries.len().min(max);
        if count == 0 {
            return if ring.overflowed && max > 0 {
                Err(Overflow { capacity: ring.capacity })
            } else {
                Ok(0)
            };
        }
        out.extend(ring.entries.drain(..count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Signal;
    use rocev2::work::{CompletionKind, Status};
    use std::sync::atomic::AtomicUsize;

    fn entry(id: u64, solicited: bool) -> WorkCompletion {
        let completion =
            Completion { solicited, ..Completion::new(id, Status::Success, CompletionKind::Recv) };
        WorkCompletion { qpn: Qpn::truncate(77), completion }
    }

    #[test]
    fn an_overflow_is_reported_after_what_had_room() {
        let queue = CompletionQueue::new(0, 2, None);
        assert!(queue.push(entry(1, false)).is_ok());
        assert!(queue.push(entry(2, false)).is_ok());
        assert_eq!(queue.push(entry(3, false)), Err(Overflow { capacity: 2 }));
        let mut out = Vec::new();
        assert_eq!(queue.take(&mut out, 10), Ok(2));
        assert_eq!(out.iter().map(|entry| entry.completion.id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(queue.take(&mut out, 10), Err(Overflow { capacity: 2 }));
        assert!(queue.push(entry(4, false)).is_err(), "an overflowed queue stays so");
    }

    #[test]
    fn a_resized_queue_keeps_its_entries_and_never_has_room_for_fewer() {
        let queue = CompletionQueue::new(0, 2, None);
        queue.push(entry(1, false)).unwrap();
        queue.push(entry(2, false)).unwrap();
        assert_eq!(queue.resize(1), Err(2));
        assert_eq!(queue.capacity(), 2);
        assert_eq!(queue.resize(3), Ok(()));
        assert_eq!(queue.capacity(), 3);
        queue.push(entry(3, false)).unwrap();
        assert_eq!(queue.push(entry(4, false)), Err(Overflow { capacity: 3 }));
        let mut out = Vec::new();
        assert_eq!(queue.take(&mut out, 10), Ok(3));
        assert_eq!(out.iter().map(|entry| entry.completion.id).collect::<Vec<_>>(), [1, 2, 3]);
    }

    /// Counts how often it was raised.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Signal for Count {
        fn raise(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn lower(&self) -> bool {
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1)).is_ok()
        }
    }

    #[test]
    fn arming_is_one_shot_and_knows_solicited_events() {
        let channel = Arc::new(EventChannel::new(Arc::new(Count::default())));
        let queue = CompletionQueue::new(9, 10, Some(Bell::Channel(Arc::clone(&channel))));
        let push = |entry| {
            queue.push(entry).unwrap();
            queue.ring();
        };
        push(entry(1, true));
        assert_eq!(channel.try_event(), None, "not armed");
        queue.arm(Arm::Solicited);
        push(entry(2, false));
        assert_eq!(channel.try_event(), None, "not solicited");
        push(entry(3, true));
        push(entry(4, true));
        assert_eq!(channel.try_event(), Some(9));
        assert_eq!(channel.try_event(), None, "one event for one arming");
        queue.arm(Arm::Any);
        push(entry(5, false));
        assert_eq!(channel.try_event(), Some(9));
        assert_eq!(channel.try_event(), None);
    }

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.raise();
        }
    }

    #[test]
    fn a_task_is_woken_once_for_each_time_that_its_queue_was_armed() {
        let woken = Arc::new(Count::default());
        let queue = CompletionQueue::new(9, 10, Some(Bell::Task(Waker::from(Arc::clone(&woken)))));
        let push = |id| {
            queue.push(entry(id, false)).unwrap();
            queue.ring();
        };
        push(1);
        assert!(!woken.lower(), "not armed");
        for id in [2, 4] {
            queue.arm(Arm::Any);
            push(id);
            push(id + 1);
            assert!(woken.lower());
            assert!(!woken.lower(), "once for one arming");
        }
    }

    #[test]
    fn who_waits_for_any_completion_still_does_when_another_asks_for_solicited_ones() {
        let channel = Arc::new(EventChannel::new(Arc::new(Count::default())));
        let queue = CompletionQueue::new(9, 10, Some(Bell::Channel(Arc::clone(&channel))));
        for arms in [[Arm::Any, Arm::Solicited], [Arm::Solicited, Arm::Any]] {
            arms.into_iter().for_each(|arm| queue.arm(arm));
            queue.push(entry(1, false)).unwrap();
            queue.ring();
            assert_eq!(channel.try_event(), Some(9), "{arms:?}");
            assert_eq!(channel.try_event(), None, "{arms:?}");
        }
    }
}
