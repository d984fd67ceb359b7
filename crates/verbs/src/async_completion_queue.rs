//! Completion queues for tokio.

use crate::{AsyncChannel, Completion, CompletionQueue, Device, Error};
use std::sync::Arc;
use std::task::{Wake, Waker};
use tokio::sync::Notify;

/// A completion queue that a task of tokio's waits for. On the embedded device it takes no file descriptor; on others
/// it has a channel of its own.
#[derive(Debug)]
pub struct AsyncCompletionQueue {
    queue: Arc<CompletionQueue>,
    events: Events,
}

#[derive(Debug)]
enum Events {
    /// The device wakes the task.
    Task(Arc<Woken>),
    Channel(AsyncChannel),
}

#[derive(Debug, Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

impl Device {
    /// A completion queue with room for at least `capacity` entries, for tasks: as many as requests may be
    /// outstanding on all its queue pairs.
    ///
    /// # Errors
    /// The device has no queue of that size, or the process no descriptor where one is needed.
    ///
    /// # Panics
    /// On a libibverbs device, outside a tokio runtime with I/O, as tokio does.
    pub fn async_completion_queue(&self, capacity: usize) -> Result<AsyncCompletionQueue, Error> {
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        Ok(match self.provider().waking_completion_queue(capacity, waker)? {
            Some(queue) => {
                AsyncCompletionQueue { queue: CompletionQueue::new(queue, None), events: Events::Task(woken) }
            }
            None => {
                let channel = self.completion_channel()?;
                let queue = self.completion_queue(capacity, Some(&channel))?;
                AsyncCompletionQueue { queue, events: Events::Channel(AsyncChannel::new(channel)?) }
            }
        })
    }
}

impl AsyncCompletionQueue {
    /// The queue itself, for queue pairs.
    #[must_use]
    pub fn queue(&self) -> &Arc<CompletionQueue> {
        &self.queue
    }

    /// As [`CompletionQueue::poll`].
    ///
    /// # Errors
    /// The queue overflowed.
    pub fn poll(&self, out: &mut Vec<Completion>, max: usize) -> Result<usize, Error> {
        self.queue.poll(out, max)
    }

    /// Waits until there are completions, and moves up to `max` to the end of `out`. One task waits at a time.
    /// Cancelling loses nothing.
    ///
    /// # Errors
    /// The queue overflowed, or the reactor is gone.
    pub async fn completions(&self, out: &mut Vec<Completion>, max: usize) -> Result<usize, Error> {
        loop {
            let count = self.queue.poll_or_arm(out, max)?;
            if count > 0 {
                return Ok(count);
            }
            match &self.events {
                // What has come since the queue was armed is remembered.
                Events::Task(woken) => woken.0.notified().await,
                Events::Channel(channel) => {
                    channel.event().await?;
                }
            }
        }
    }
}
