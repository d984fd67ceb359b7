//! Completion queues, and completions that give back what was posted.

use crate::channel::CompletionChannel;
use crate::provider::{self, Ended};
use crate::request::{Kept, Slices};
use crate::status::Status;
use crate::{Device, Error, Slice};
use rocev2::Qpn;
use rocev2::work::CompletionKind;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use rocev2_device::Arm;

/// How often [`CompletionQueue::spin`] polls before it lets others have the core between two polls: some tens
/// of microseconds, in which a peer with a core of its own answers.
const POLLS: u32 = 64;

/// How many of them there are from one look at the clock to the next.
const POLLS_A_LOOK: u32 = 8;

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
pub struct CompletionQueue {
    provider: provider::CompletionQueue,
    channel: Option<Arc<CompletionChannel>>,
    /// Where the slices of each queue pair's requests are kept.
    queue_pairs: Mutex<HashMap<Qpn, Arc<InFlight>>>,
}

impl Device {
    /// A completion queue with room for at least `capacity` entries: as many as requests may be outstanding
    /// on all its queue pairs.
    ///
    /// # Errors
    /// The device has no queue of that size, or the channel is another device's.
    pub fn completion_queue(
        &self,
        capacity: usize,
        channel: Option<&Arc<CompletionChannel>>,
    ) -> Result<Arc<CompletionQueue>, Error> {
        let own = channel.map(|channel| channel.provider());
        let provider = self.provider().completion_queue(capacity, own)?;
        let channel = channel.cloned();
        Ok(Arc::new(CompletionQueue { provider, channel, queue_pairs: Mutex::default() }))
    }
}

impl CompletionQueue {
    pub(crate) fn provider(&self) -> &provider::CompletionQueue {
        &self.provider
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
        self.provider.capacity()
    }

    /// Moves up to `max` completions to the end of `out` and returns how many. On the embedded device, where
    /// there are none yet, it looks at the network itself, so that a thread that polls needs no other.
    ///
    /// There, a message that this returns may not be acknowledged yet, if the program promptly answered the
    /// last one: its acknowledgement leaves behind the answer, or when the program polls or arms the queue
    /// again or drops the queue pair, or after about a millisecond. A process that ends before has to drop
    /// its queue pairs, or the peer doesn't learn that it got the message.
    ///
    /// # Errors
    /// The embedded device's queue overflowed; that a libibverbs one did, only
    /// [`Event::CompletionQueueOverflow`](crate::Event) tells.
    pub fn poll(&self, out: &mut Vec<Completion>, max: usize) -> Result<usize, Error> {
        let before = out.len();
        // Completions of queue pairs that are gone are taken and dropped: behind them there may be others,
        // which no event announces.
        while self.poll_once(out, max)? > 0 && out.len() == before {}
        Ok(out.len() - before)
    }

    /// Takes up to `max` entries from the device and returns how many.
    fn poll_once(&self, out: &mut Vec<Completion>, max: usize) -> Result<usize, Error> {
        let mut queue_pairs = None;
        self.provider.poll(max, |ended| {
            // Locked for the first one: an empty queue is polled without.
            let queue_pairs = queue_pairs.get_or_insert_with(|| lock(&self.queue_pairs));
            out.extend(finish(&ended, queue_pairs));
        })
    }

    /// Asks for one event on the channel at the next completion. One that came before isn't announced: poll
    /// once more after this.
    pub fn arm(&self, arm: Arm) {
        self.provider.arm(arm);
    }

    /// Polls without sleeping until there is a completion or `timeout` has passed, give or take some polls:
    /// the fastest way, for one core. Where others wait for that core, perhaps the very peer, they get it
    /// after a while.
    ///
    /// # Errors
    /// The queue overflowed.
    pub fn spin(&self, out: &mut Vec<Completion>, max: usize, timeout: Duration) -> Result<usize, Error> {
        let mut begun = None;
        let mut polls = 0;
        loop {
            let count = self.poll(out, max)?;
            if count > 0 || timeout.is_zero() {
                return Ok(count);
            }
            // A look at the clock takes a tenth of the time that a poll does: a few polls go before the
            // first, and between two.
            if polls == POLLS || polls % POLLS_A_LOOK == POLLS_A_LOOK - 1 {
                let now = Instant::now();
                if now.duration_since(*begun.get_or_insert(now)) >= timeout {
                    return Ok(0);
                }
            }
            if polls < POLLS {
                polls += 1;
                core::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// Sleeps on the channel until there is a completion or `timeout` has passed. A queue without a channel
    /// polls instead. The channel must be this queue's alone.
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

/// Puts together what the device reports and what was kept; `None` for completions of a queue pair that is
/// gone, which are of no use to anybody.
fn finish(ended: &Ended, queue_pairs: &HashMap<Qpn, Arc<InFlight>>) -> Option<Completion> {
    let mut kept = queue_pairs.get(&ended.qpn)?.queue(ended.recv);
    // Numbers ascend, and what is unknown gives nothing back: it belongs to an earlier queue pair of the same number.
    let at = kept.iter().position(|kept| kept.number >= ended.number)?;
    if kept.get(at)?.number != ended.number {
        return None;
    }
    // Unsignaled ones before it succeeded.
    let released = kept.drain(..at).map(|kept| Released { id: kept.id, slices: kept.slices }).collect();
    let own = kept.pop_front()?;
    Some(Completion {
        id: own.id,
        qpn: ended.qpn,
        status: ended.status,
        kind: ended.kind.unwrap_or(own.kind),
        len: if ended.recv { ended.len } else { own.len },
        immediate: ended.immediate,
        invalidated: ended.invalidated,
        slices: own.slices,
        released,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl core::fmt::Debug for CompletionQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CompletionQueue").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(number: u64) -> Ended {
        Ended {
            number,
            qpn: Qpn::truncate(77),
            recv: false,
            status: Status::Success,
            kind: None,
            len: 0,
            immediate: None,
            invalidated: None,
        }
    }

    #[test]
    fn only_a_request_that_is_known_gives_anything_back() {
        let in_flight = Arc::<InFlight>::default();
        for number in [5, 7, 8] {
            let kept =
                Kept { number, id: number * 10, kind: CompletionKind::Write, len: 0, slices: Slices::new() };
            in_flight.queue(false).push_back(kept);
        }
        let queue_pairs = HashMap::from([(Qpn::truncate(77), Arc::clone(&in_flight))]);
        // Before the first, in a gap, and behind the last.
        for unknown in [4, 6, 9] {
            assert!(finish(&ended(unknown), &queue_pairs).is_none());
            assert_eq!(in_flight.queue(false).len(), 3, "{unknown}");
        }
        let completion = finish(&ended(7), &queue_pairs).unwrap();
        assert_eq!(completion.id, 70);
        assert_eq!(completion.released.iter().map(|released| released.id).collect::<Vec<_>>(), [50]);
        assert!(finish(&ended(7), &queue_pairs).is_none(), "it completes once");
        assert_eq!(finish(&ended(8), &queue_pairs).unwrap().id, 80);
    }
}
