//! Completion queues, and completions that give back what was posted.

use crate::channel::CompletionChannel;
use crate::request::{Kept, Slices};
use crate::{Error, Slice};
use device::WorkCompletion;
use rocev2::Qpn;
use rocev2::rc::{CompletionKind, Status};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use device::Arm;

/// The end of a work request.
#[derive(Debug)]
pub struct Completion {
    /// The number that the request was posted with.
    pub id: u64,
    /// The queue pair it was posted to.
    pub qpn: Qpn,
    /// How it ended. Unless this is success, only `id`, `qpn`, which queue it was, and the slices mean anything.
    pub status: Status,
    /// What it was.
    pub kind: CompletionKind,
    /// Bytes received or read.
    pub len: u32,
    /// The number that came with the message.
    pub immediate: Option<u32>,
    /// The remote key that the message withdrew.
    pub invalidated: Option<u32>,
    /// The request's slices.
    pub slices: Slices,
    /// Unsignaled requests before it that are done with it.
    pub released: Vec<Released>,
}

impl Completion {
    /// The request's only slice, if it had exactly one.
    pub fn slice(&mut self) -> Option<Slice> {
        if self.slices.len() == 1 { self.slices.pop() } else { None }
    }
}

/// An unsignaled request that succeeded.
#[derive(Debug)]
pub struct Released {
    /// The number that it was posted with.
    pub id: u64,
    /// Its slices.
    pub slices: Slices,
}

/// The requests that a queue pair has with the device, in the order in which they will complete.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    send: Mutex<VecDeque<Kept>>,
    recv: Mutex<VecDeque<Kept>>,
}

impl InFlight {
    pub(crate) fn queue(&self, recv: bool) -> MutexGuard<'_, VecDeque<Kept>> {
        let queue = if recv { &self.recv } else { &self.send };
        queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A completion queue.
#[derive(Debug)]
pub struct CompletionQueue {
    embedded: device::CompletionQueue,
    channel: Option<Arc<CompletionChannel>>,
    /// Where the slices of each queue pair's requests are kept.
    queue_pairs: Mutex<HashMap<Qpn, Arc<InFlight>>>,
    /// Reused from poll to poll.
    scratch: Mutex<Vec<WorkCompletion>>,
}

impl CompletionQueue {
    pub(crate) fn new(embedded: device::CompletionQueue, channel: Option<Arc<CompletionChannel>>) -> Self {
        Self { embedded, channel, queue_pairs: Mutex::default(), scratch: Mutex::default() }
    }

    pub(crate) fn embedded(&self) -> &device::CompletionQueue {
        &self.embedded
    }

    pub(crate) fn attach(&self, qpn: Qpn, in_flight: &Arc<InFlight>) {
        lock(&self.queue_pairs).insert(qpn, Arc::clone(in_flight));
    }

    pub(crate) fn detach(&self, qpn: Qpn) {
        lock(&self.queue_pairs).remove(&qpn);
    }

    /// The channel that was given when it was made.
    #[must_use]
    pub fn channel(&self) -> Option<&Arc<CompletionChannel>> {
        self.channel.as_ref()
    }

    /// How many entries it has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.embedded.capacity()
    }

    /// Moves up to `max` completions to the end of `out` and returns how many. Where there are none yet it looks at the network
    /// itself, so that a thread that polls needs no other.
    ///
    /// # Errors
    /// The queue overflowed.
    pub fn poll(&self, out: &mut Vec<Completion>, max: usize) -> Result<usize, Error> {
        let mut scratch = lock(&self.scratch);
        scratch.clear();
        if self.embedded.poll(&mut scratch, max)? == 0 {
            return Ok(0);
        }
        let queue_pairs = lock(&self.queue_pairs);
        let before = out.len();
        out.extend(scratch.drain(..).filter_map(|entry| {
            // Completions of a queue pair that is gone are of no use to anybody.
            Some(finish(&entry, queue_pairs.get(&entry.qpn)?))
        }));
        Ok(out.len() - before)
    }

    /// Asks for one event on the channel at the next completion. One that came before isn't announced: poll once more after this.
    pub fn arm(&self, arm: Arm) {
        self.embedded.arm(arm);
    }

    /// Polls without sleeping until there is a completion or `timeout` has passed: the fastest way, for one core.
    ///
    /// # Errors
    /// The queue overflowed.
    pub fn spin(&self, out: &mut Vec<Completion>, max: usize, timeout: Duration) -> Result<usize, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            let count = self.poll(out, max)?;
            if count > 0 || Instant::now() >= deadline {
                return Ok(count);
            }
            core::hint::spin_loop();
        }
    }

    /// Sleeps on the channel until there is a completion or `timeout` has passed. A queue without a channel polls instead.
    /// The channel must be this queue's alone.
    ///
    /// # Errors
    /// The queue overflowed, or the operating system refused to wait.
    pub fn wait(&self, out: &mut Vec<Completion>, max: usize, timeout: Duration) -> Result<usize, Error> {
        let Some(channel) = &self.channel else { return self.spin(out, max, timeout) };
        let deadline = Instant::now() + timeout;
        loop {
            let count = self.poll_or_arm(out, max)?;
            if count > 0 {
                return Ok(count);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || channel.wait(Some(left))?.is_none() {
                return self.poll(out, max);
            }
        }
    }

    /// Polls; where there is nothing, arms the queue and polls once more.
    ///
    /// # Errors
    /// The queue overflowed.
    pub fn poll_or_arm(&self, out: &mut Vec<Completion>, max: usize) -> Result<usize, Error> {
        match self.poll(out, max)? {
            0 => {
                self.arm(Arm::Any);
                self.poll(out, max)
            }
            count => Ok(count),
        }
    }
}

/// Puts together what the device reports and what was kept.
fn finish(entry: &WorkCompletion, in_flight: &InFlight) -> Completion {
    let done = &entry.completion;
    let mut kept = in_flight.queue(done.kind.is_recv());
    let mut released = Vec::new();
    let mut own = None;
    while let Some(front) = kept.pop_front() {
        if front.number == done.id {
            own = Some(front);
            break;
        }
        released.push(Released { id: front.id, slices: front.slices });
    }
    let (id, slices) = own.map_or((0, Slices::new()), |kept| (kept.id, kept.slices));
    Completion {
        id,
        qpn: entry.qpn,
        status: done.status,
        kind: done.kind,
        len: done.len,
        immediate: done.immediate,
        invalidated: done.invalidated,
        slices,
        released,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
