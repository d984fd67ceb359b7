//! Bandwidth of queue pairs in clear: as many requests under way as were asked for.

use super::queue_pairs::Connected;
use super::run::{BATCH, Course, Patience};
use super::statistics::Meter;
use super::task::{Limit, Operation, Plan, Rate};
use crate::failure::Failure;
use rdma_verbs::SendRequest;
use std::sync::atomic::Ordering;

/// Of so many requests, one is reported when it succeeds; the others come back with it.
const SIGNAL: u32 = 16;

/// What a lane has posted and what has completed.
#[derive(Clone, Debug, Default)]
struct Count {
    posted: u64,
    completed: u64,
}

impl Connected {
    /// Sends this side's share, if it has one, and takes what comes, until the course is over. Without a
    /// share there is no rate.
    pub(super) fn bandwidth(mut self, course: &Course) -> Result<Option<Rate>, Failure> {
        let Plan { queue_pairs, depth, limit, .. } = self.plan;
        let sends = !self.server || self.plan.bidirectional;
        if !sends && !self.plan.receives(self.server) {
            // Written to and read from, as one-sided operations have it: this side's program sleeps.
            course.sleep();
            return Ok(None);
        }
        if !sends {
            course.sent.store(true, Ordering::Release);
        }
        let mut counts = vec![Count::default(); self.lanes.len()];
        let inline = self.plan.is_inline().then(|| vec![0x7b; self.plan.size as usize]);
        let mut meter = Meter::new(u64::from(depth) * u64::from(queue_pairs));
        let mut rate = None;
        let mut taken = Vec::with_capacity(BATCH);
        let mut patience = Patience::new();
        while !course.stopped() {
            if sends && rate.is_none() {
                let done = match limit {
                    Limit::Messages(limit) => counts.iter().all(|count| count.completed >= limit),
                    Limit::Time(_) => limit.reached(meter.rate().messages, meter.elapsed()),
                };
                if done {
                    rate = Some(meter.rate());
                    course.sent.store(true, Ordering::Release);
                    if !self.server && !self.plan.bidirectional {
                        break;
                    }
                } else {
                    for (lane, count) in counts.iter_mut().enumerate() {
                        self.post(lane, count, inline.as_deref())?;
                    }
                }
            }
            let count = self.look(&mut taken, course)?;
            // Who only waits to be written to sees nothing, and who has finished waits for the other side.
            if sends && rate.is_none() {
                patience.saw(count)?;
            }
            let mut completed = 0;
            for mut completion in taken.drain(..) {
                let lane = self.lane_of(&completion)?;
                if completion.kind.is_recv() {
                    self.post_again(lane, completion)?;
                    continue;
                }
                let free = &mut self.lanes[lane].free;
                let messages = completion.released.len() as u64 + 1;
                free.extend(completion.slice());
                free.extend(completion.released.into_iter().flat_map(|released| released.slices));
                counts[lane].completed += messages;
                completed += messages;
            }
            if completed > 0 && rate.is_none() {
                meter.completed(completed);
                course.set(meter.rate().messages);
            }
        }
        Ok(rate)
    }

    /// Posts as much as may be under way, in one list: on the embedded device short messages then share system calls.
    fn post(&mut self, lane: usize, count: &mut Count, inline: Option<&[u8]>) -> Result<(), Failure> {
        let Plan { operation, size, depth, limit, .. } = self.plan;
        // At a quarter of the depth, so that there is always something to do while something is reported.
        let signal = u64::from(SIGNAL.min(depth.div_ceil(4)));
        let mut requests = Vec::new();
        while count.posted - count.completed < u64::from(depth) && !limit.reached_by_number(count.posted) {
            let number = count.posted + 1;
            let remote = self.lanes[lane].remote;
            let range = || remote.range(0, size.into()).map_err(rdma_verbs::Error::from);
            let request = match (operation, inline) {
                (Operation::Send, Some(bytes)) => SendRequest::send_inline(bytes),
                (Operation::Write, Some(bytes)) => SendRequest::write_inline(bytes, range()?),
                (Operation::Send, None) => SendRequest::send([self.free(lane)?]),
                (Operation::Write, None) => SendRequest::write([self.free(lane)?], range()?),
                (Operation::Read, _) => SendRequest::read([self.free(lane)?], range()?),
                (Operation::Atomic, _) => SendRequest::fetch_add(self.free(lane)?, range()?, 1),
            };
            let reported = number.is_multiple_of(signal) || limit.reached_by_number(number);
            let request = if reported { request } else { request.unsignaled() };
            requests.push(request);
            count.posted = number;
        }
        self.lanes[lane].queue_pair.post_send_list(requests).map_err(|error| Failure::posting(&error))
    }
}

impl Limit {
    /// Whether so many messages are all.
    fn reached_by_number(self, messages: u64) -> bool {
        matches!(self, Self::Messages(limit) if messages >= limit)
    }
}
