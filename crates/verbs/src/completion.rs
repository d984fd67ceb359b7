//! Completion queues, and completions that give back what was posted.

use crate::channel::CompletionChannel;
use crate::in_flight::{InFlight, Receives};
use crate::provider::{self, Ended, Source};
use crate::request::{Released, Slices};
use crate::status::Status;
use crate::{Device, Error, Slice};
use rocev2::Qpn;
use rocev2::work::CompletionKind;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
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
    /// Where a datagram came from.
    pub source: Option<Source>,
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

/// A completion queue.
pub struct CompletionQueue {
    provider: provider::CompletionQueue,
    channel: Option<Arc<CompletionChannel>>,
    attached: Mutex<Attached>,
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
        Ok(CompletionQueue::new(provider, channel.cloned()))
    }
}

impl CompletionQueue {
    pub(crate) fn new(
        provider: provider::CompletionQueue,
        channel: Option<Arc<CompletionChannel>>,
    ) -> Arc<Self> {
        Arc::new(Self { provider, channel, attached: Mutex::default() })
    }

    pub(crate) fn provider(&self) -> &provider::CompletionQueue {
        &self.provider
    }

    pub(crate) fn attach(&self, qpn: Qpn, in_flight: &Arc<InFlight>) {
        lock(&self.attached).queue_pairs.insert(qpn, Arc::clone(in_flight));
    }

    /// Its requests complete here as well, whichever queue pair takes them.
    pub(crate) fn attach_shared(&self, receives: &Arc<Receives>) {
        let mut attached = lock(&self.attached);
        attached.shared.retain(|other| other.strong_count() > 0);
        let known = attached.shared.iter().any(|other| core::ptr::eq(other.as_ptr(), Arc::as_ptr(receives)));
        if !known {
            attached.shared.push(Arc::downgrade(receives));
        }
    }

    pub(crate) fn detach(&self, qpn: Qpn) {
        lock(&self.attached).queue_pairs.remove(&qpn);
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
        let mut attached = None;
        self.provider.poll(max, |ended| {
            // Locked for the first one: an empty queue is polled without.
            let attached = attached.get_or_insert_with(|| lock(&self.attached));
            out.extend(attached.finish(&ended));
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

/// Whose requests complete in a queue.
#[derive(Default)]
struct Attached {
    queue_pairs: HashMap<Qpn, Arc<InFlight>>,
    /// Shared receive queues, which outlive the queue pairs that take from them.
    shared: Vec<Weak<Receives>>,
}

impl Attached {
    /// Puts together what the device reports and what was kept; `None` for what is of no use to anybody:
    /// completions of a queue pair that is gone, but for receives of a shared queue that is not.
    fn finish(&self, ended: &Ended) -> Option<Completion> {
        let in_flight = self.queue_pairs.get(&ended.qpn);
        let (released, own) = match in_flight {
            Some(in_flight) if !ended.recv => in_flight.sends().complete(ended.number)?,
            Some(in_flight) => (Vec::new(), in_flight.receives().take(ended.number)?),
            None if ended.recv => {
                let mut shared = self.shared.iter().filter_map(Weak::upgrade);
                (Vec::new(), shared.find_map(|receives| receives.take(ended.number))?)
            }
            None => return None,
        };
        Some(Completion {
            id: own.id,
            qpn: ended.qpn,
            status: ended.status,
            kind: ended.kind.unwrap_or(own.kind),
            len: if ended.recv { ended.len } else { own.len },
            immediate: ended.immediate,
            invalidated: ended.invalidated,
            source: ended.source.filter(|_| in_flight.is_some_and(|in_flight| in_flight.datagrams())),
            slices: own.slices,
            released,
        })
    }
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
    use crate::request::{Kept, Needs};

    fn recv(qpn: u32, number: u64) -> Ended {
        Ended {
            number,
            qpn: Qpn::truncate(qpn),
            recv: true,
            status: Status::Success,
            kind: Some(CompletionKind::Recv),
            len: 0,
            immediate: None,
            invalidated: None,
            source: None,
        }
    }

    #[test]
    fn queue_pairs_that_share_a_receive_queue_complete_its_requests_in_any_order() {
        let receives = Arc::<Receives>::default();
        let keep = |id| {
            let kept =
                Kept { id, kind: CompletionKind::Recv, len: 0, needs: Needs::Nothing, slices: Slices::new() };
            receives.keep(kept).unwrap()
        };
        let numbers = [10, 20, 30, 40].map(keep);
        let in_flight = || Arc::new(InFlight::new(Arc::clone(&receives), false));
        let mut attached = Attached {
            queue_pairs: HashMap::from([1, 2].map(|qpn| (Qpn::truncate(qpn), in_flight()))),
            shared: vec![Arc::downgrade(&receives)],
        };
        // The first queue pair has taken request 10 for a message that isn't complete yet.
        for (qpn, at) in [(2, 1), (2, 2)] {
            let completion = attached.finish(&recv(qpn, numbers[at])).unwrap();
            assert_eq!(completion.id, 10 * (at as u64 + 1));
            assert!(completion.released.is_empty(), "request 10 is still with the device");
        }
        assert_eq!(attached.finish(&recv(1, numbers[0])).unwrap().id, 10);
        // A queue pair that is gone had taken the last one: it comes back nevertheless.
        attached.queue_pairs.clear();
        assert_eq!(attached.finish(&recv(2, numbers[3])).unwrap().id, 40);
        assert!(attached.finish(&recv(2, numbers[3])).is_none(), "it completes once");
    }
}
