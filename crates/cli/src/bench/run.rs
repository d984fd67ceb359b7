//! What both kinds of measurement of queue pairs in clear have in common: looking for completions, and when to end.

use super::queue_pairs::Connected;
use super::task::Limit;
use crate::failure::Failure;
use rdma_verbs::{Completion, RecvRequest, Slice, Status};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long one looks for completions before one looks whether it is time to end.
const LOOK: Duration = Duration::from_millis(5);

/// How often one looks before one lets others have the core, as `rdma_verbs::CompletionQueue::spin` does.
pub(super) const POLLS: u32 = 64;

/// Completions that are taken at a time.
pub(super) const BATCH: usize = 64;

/// Without any completion for so long, the other side is gone, whatever the queue pair's retries say.
const STALLED: Duration = Duration::from_secs(30);

/// What a measurement shares with those who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// Messages so far, for a bar that shows progress.
    pub(crate) messages: AtomicU64,
    /// Everything that this side had to send has completed.
    pub(crate) sent: AtomicBool,
    /// It is to end.
    pub(crate) stop: AtomicBool,
}

impl Course {
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Sleeps until it is over; this side has nothing to send.
    pub(super) fn sleep(&self) {
        self.sent.store(true, Ordering::Release);
        while !self.stopped() {
            std::thread::sleep(LOOK);
        }
    }

    /// Whether everything has completed that this side had to send.
    pub(crate) fn has_sent(&self) -> bool {
        self.sent.load(Ordering::Acquire)
    }

    /// Ends it, from outside.
    pub(crate) fn end(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// So many messages have gone so far.
    pub(crate) fn set(&self, messages: u64) {
        self.messages.store(messages, Ordering::Relaxed);
    }
}

impl Limit {
    /// Whether it is reached. Without a single message nothing was measured, however late it is.
    pub(super) fn reached(self, messages: u64, elapsed: Duration) -> bool {
        match self {
            Self::Messages(limit) => messages >= limit,
            Self::Time(limit) => elapsed >= limit && messages > 0,
        }
    }
}

/// Watches that something happens.
#[derive(Debug)]
pub(super) struct Patience {
    silent_since: Option<Instant>,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { silent_since: None }
    }

    /// So many things were seen since it was asked last.
    pub(super) fn saw(&mut self, count: usize) -> Result<(), Failure> {
        if count > 0 {
            self.silent_since = None;
            return Ok(());
        }
        let now = Instant::now();
        if now.duration_since(*self.silent_since.get_or_insert(now)) < STALLED {
            return Ok(());
        }
        Err(Failure::Other(format!("nothing was heard of the other side for {} s", STALLED.as_secs())))
    }
}

impl Connected {
    /// Looks for completions, for a while. When the measurement is over, how requests end means nothing any more.
    pub(super) fn look(&self, taken: &mut Vec<Completion>, course: &Course) -> Result<usize, Failure> {
        self.queue.spin(taken, BATCH, LOOK)?;
        judge(taken, course)
    }

    /// The same, once.
    pub(super) fn glance(&self, taken: &mut Vec<Completion>, course: &Course) -> Result<usize, Failure> {
        self.queue.poll(taken, BATCH)?;
        judge(taken, course)
    }

    /// The lane of that completion.
    pub(super) fn lane_of(&self, completion: &Completion) -> Result<usize, Failure> {
        let of = |lane: &super::queue_pairs::Lane| lane.queue_pair.qpn() == completion.qpn;
        let lane = self.lanes.iter().position(of);
        lane.ok_or_else(|| Failure::Other("a completion came of no queue pair".into()))
    }

    /// Posts a receive request again.
    pub(super) fn post_again(&mut self, lane: usize, mut completion: Completion) -> Result<(), Failure> {
        let slice = completion.slice().ok_or_else(without_buffer)?;
        let posted = self.lanes[lane].queue_pair.post_recv(RecvRequest::new([slice]));
        posted.map_err(|error| Failure::posting(&error))
    }

    /// A free buffer.
    pub(super) fn free(&mut self, lane: usize) -> Result<Slice, Failure> {
        self.lanes[lane].free.pop().ok_or_else(without_buffer)
    }
}

fn without_buffer() -> Failure {
    Failure::Other("a completion came without its buffer".into())
}

/// How many have come, all of them well.
fn judge(taken: &mut Vec<Completion>, course: &Course) -> Result<usize, Failure> {
    if course.stopped() {
        taken.clear();
        return Ok(0);
    }
    match taken.iter().find(|completion| completion.status != Status::Success) {
        None => Ok(taken.len()),
        Some(completion) => Err(Failure::Other(format!(
            "a request ended with {:?}: the other side's output may say why",
            completion.status
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_not_over_before_something_was_measured() {
        let limit = Limit::Time(Duration::from_secs(1));
        assert!(!limit.reached(0, Duration::from_secs(9)) && limit.reached(1, Duration::from_secs(1)));
        assert!(!limit.reached(7, Duration::from_millis(999)));
        assert!(
            !Limit::Messages(7).reached(6, Duration::MAX) && Limit::Messages(7).reached(7, Duration::ZERO)
        );
    }
}
