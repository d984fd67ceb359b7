//! Latency of queue pairs in clear: one request at a time.
//!
//! A message or write is sent back, and half of the round trip is shown, as perftest does it. Who waits for a
//! write looks at its last byte in memory; the bytes of a write are there before. A read or an atomic is its
//! own round trip.

use super::queue_pairs::Connected;
use super::run::{BATCH, Course, POLLS, Patience};
use super::statistics::Times;
use super::task::{Operation, Plan};
use crate::failure::Failure;
use rdma_verbs::{Completion, SendRequest};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// There is but one.
const LANE: usize = 0;

/// A side of it.
struct Game<'a> {
    end: Connected,
    course: &'a Course,
    taken: Vec<Completion>,
    /// Messages that have arrived and aren't taken yet.
    arrived: Vec<Completion>,
    /// Reads and atomics that have completed.
    answered: usize,
    /// Requests that haven't.
    outstanding: u32,
    inline: Option<Vec<u8>>,
}

impl Connected {
    /// The client's part.
    pub(super) fn ping(self, course: &Course) -> Result<Times, Failure> {
        let Plan { operation, limit, .. } = self.plan;
        let part = if matches!(operation, Operation::Send | Operation::Write) { 0.5 } else { 1. };
        let mut times = Times::new(part)?;
        let mut game = Game::new(self, course);
        let begun = Instant::now();
        while !limit.reached(times.count(), begun.elapsed()) && !course.stopped() {
            let mark = mark(times.count());
            let since = Instant::now();
            game.request(operation, mark)?;
            if !game.answer(operation, mark)? {
                break;
            }
            times.add(since.elapsed());
            course.set(times.count());
        }
        course.sent.store(true, Ordering::Release);
        Ok(times)
    }

    /// The server's part: sends back what comes, until the course is over.
    pub(super) fn pong(self, course: &Course) -> Result<(), Failure> {
        let Plan { operation, .. } = self.plan;
        if !self.plan.server_sends() {
            // Reads and atomics need nobody here.
            course.sleep();
            return Ok(());
        }
        let mut game = Game::new(self, course);
        course.sent.store(true, Ordering::Release);
        let mut count = 0;
        while game.answer(operation, mark(count))? {
            game.request(operation, mark(count))?;
            count += 1;
        }
        Ok(())
    }
}

/// The last byte of a write, by which it is known that it has come: never what the one before had, nor what
/// was there first, 0.
fn mark(number: u64) -> u8 {
    u8::try_from(number % 255).unwrap_or(0) + 1
}

impl<'a> Game<'a> {
    fn new(end: Connected, course: &'a Course) -> Self {
        let inline = end.plan.is_inline().then(|| vec![0x7b; end.plan.size as usize]);
        Self {
            end,
            course,
            taken: Vec::with_capacity(BATCH),
            arrived: Vec::new(),
            answered: 0,
            outstanding: 0,
            inline,
        }
    }

    fn request(&mut self, operation: Operation, mark: u8) -> Result<(), Failure> {
        self.make_room()?;
        if self.course.stopped() {
            return Ok(());
        }
        let size = self.end.plan.size;
        let remote = self.end.lanes[LANE].remote;
        let range = || remote.range(0, size.into()).map_err(rdma_verbs::Error::from);
        let request = match (operation, &mut self.inline) {
            (Operation::Send, Some(bytes)) => SendRequest::send_inline(bytes),
            (Operation::Write, Some(bytes)) => {
                if let Some(last) = bytes.last_mut() {
                    *last = mark;
                }
                SendRequest::write_inline(bytes, range()?)
            }
            (Operation::Send, None) => SendRequest::send([self.end.free(LANE)?]),
            (Operation::Write, None) => {
                let mut slice = self.end.free(LANE)?;
                slice.write(size - 1, &[mark]).map_err(rdma_verbs::Error::from)?;
                SendRequest::write([slice], range()?)
            }
            (Operation::Read, _) => SendRequest::read([self.end.free(LANE)?], range()?),
            (Operation::Atomic, _) => SendRequest::fetch_add(self.end.free(LANE)?, range()?, 1),
        };
        self.end.lanes[LANE].queue_pair.post_send(request).map_err(|error| Failure::posting(&error))?;
        self.outstanding += 1;
        Ok(())
    }

    /// Waits until another request may be outstanding: the other side may have answered the last one before
    /// this side knew that it had completed.
    fn make_room(&mut self) -> Result<(), Failure> {
        let mut patience = Patience::new();
        while self.outstanding >= self.end.plan.depth && !self.course.stopped() {
            patience.saw(self.look()?)?;
        }
        Ok(())
    }

    /// Waits for the answer; false when the course is over.
    fn answer(&mut self, operation: Operation, mark: u8) -> Result<bool, Failure> {
        let place = u64::from(self.end.plan.size) - 1;
        let mut patience = Patience::new();
        let mut glances = 0_u32;
        while !self.course.stopped() {
            match operation {
                Operation::Send => {
                    if let Some(completion) = self.arrived.pop() {
                        self.end.post_again(LANE, completion)?;
                        return Ok(true);
                    }
                    let count = self.look()?;
                    self.wait(&mut patience, count)?;
                }
                Operation::Write => {
                    let mut last = [0];
                    self.end.lanes[LANE].region.read(place, &mut last).map_err(rdma_verbs::Error::from)?;
                    if last == [mark] {
                        return Ok(true);
                    }
                    // Looking at the queue is what has the embedded device look at the network.
                    let count = self.end.glance(&mut self.taken, self.course)?;
                    self.sort();
                    glances = glances.wrapping_add(1);
                    if glances.is_multiple_of(POLLS) {
                        self.wait(&mut patience, count)?;
                        std::thread::yield_now();
                    }
                }
                Operation::Read | Operation::Atomic => {
                    if self.answered > 0 {
                        self.answered -= 1;
                        return Ok(true);
                    }
                    let count = self.look()?;
                    self.wait(&mut patience, count)?;
                }
            }
        }
        Ok(false)
    }

    /// The client has an answer coming; the server may wait as long as the client likes.
    fn wait(&self, patience: &mut Patience, count: usize) -> Result<(), Failure> {
        if self.end.server { Ok(()) } else { patience.saw(count) }
    }

    fn look(&mut self) -> Result<usize, Failure> {
        let count = self.end.look(&mut self.taken, self.course)?;
        self.sort();
        Ok(count)
    }

    fn sort(&mut self) {
        for mut completion in self.taken.drain(..) {
            if completion.kind.is_recv() {
                self.arrived.push(completion);
                continue;
            }
            self.answered += 1;
            self.outstanding -= 1;
            self.end.lanes[LANE].free.extend(completion.slice());
        }
    }
}
