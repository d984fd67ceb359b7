//! The game itself: whoever gets the message sends it back.

use super::args::Args;
use super::check;
use super::endpoint::Endpoint;
use crate::common::{Failure, PATIENCE};
use rdma_verbs::{Completion, Connected, QueuePair, ReadyToSend, RecvRequest, SendRequest, Slice, Status};
use std::time::{Duration, Instant};

/// The state of the game at one end.
///
/// The stock program receives all messages into the buffer that it sends from. Here a buffer belongs to one
/// request at a time: the one that a message came in is sent back, and is free when that has arrived.
pub(crate) struct Rounds<'a> {
    args: &'a Args,
    endpoint: &'a mut Endpoint,
    /// How many receives are posted.
    posted: u32,
    /// Came in and wasn't sent back yet.
    ball: Option<Slice>,
    sending: bool,
    sent: u64,
    received: u64,
    /// With `-c`: what each message has to be.
    expected: Option<Vec<u8>>,
}

impl<'a> Rounds<'a> {
    pub(crate) fn new(args: &'a Args, endpoint: &'a mut Endpoint) -> Self {
        let expected = args.chk.then(|| check::content(args.size as usize, true));
        Self { args, endpoint, posted: 0, ball: None, sending: false, sent: 0, received: 0, expected }
    }

    /// The client has the ball first. Receives have to be posted before the peer can send.
    pub(crate) fn start<T: Connected>(&mut self, qp: &mut QueuePair<ReadyToSend, T>) -> Result<(), Failure> {
        if self.args.host.is_some() {
            self.ball = self.endpoint.buffers.pop();
        }
        self.receive(qp)
    }

    /// Plays to the end; how long it took.
    pub(crate) fn play<T: Connected>(
        &mut self,
        qp: &mut QueuePair<ReadyToSend, T>,
    ) -> Result<Duration, Failure> {
        let start = Instant::now();
        self.send(qp)?;
        let mut done = Vec::with_capacity(2);
        while self.received < self.args.iters || self.sent < self.args.iters || self.sending {
            let queue = &self.endpoint.queue;
            let count = if self.args.events {
                queue.wait(&mut done, 2, PATIENCE)?
            } else {
                queue.spin(&mut done, 2, PATIENCE)?
            };
            if count == 0 {
                return Err(format!("nothing was heard of the peer for {} s", PATIENCE.as_secs()).into());
            }
            for completion in done.drain(..) {
                self.complete(qp, completion)?;
            }
        }
        Ok(start.elapsed())
    }

    fn complete<T: Connected>(
        &mut self,
        qp: &mut QueuePair<ReadyToSend, T>,
        mut completion: Completion,
    ) -> Result<(), Failure> {
        let what = if completion.kind.is_recv() { "receive" } else { "send" };
        if completion.status != Status::Success {
            return Err(format!("a {what} ended with {:?}", completion.status).into());
        }
        let slice = completion.slice().ok_or("a completion came without its buffer")?;
        if completion.kind.is_recv() {
            self.posted -= 1;
            self.received += 1;
            self.look_at(&slice, completion.len)?;
            if self.ball.replace(slice).is_some() {
                return Err("the peer sent a message before it got the last one back".into());
            }
        } else {
            self.sending = false;
            self.endpoint.buffers.push(slice);
        }
        self.receive(qp)?;
        self.send(qp)
    }

    /// Sends the message back if it is here and the last one has arrived.
    fn send<T: Connected>(&mut self, qp: &mut QueuePair<ReadyToSend, T>) -> Result<(), Failure> {
        if self.sending || self.sent == self.args.iters {
            return Ok(());
        }
        if let Some(slice) = self.ball.take() {
            qp.post_send(SendRequest::send([slice]))?;
            (self.sending, self.sent) = (true, self.sent + 1);
        }
        Ok(())
    }

    /// Posts a receive for every free buffer.
    fn receive<T: Connected>(&mut self, qp: &mut QueuePair<ReadyToSend, T>) -> Result<(), Failure> {
        while self.posted < self.args.depth()
            && let Some(slice) = self.endpoint.buffers.pop()
        {
            qp.post_recv(RecvRequest::new([slice]))?;
            self.posted += 1;
        }
        Ok(())
    }

    fn look_at(&self, slice: &Slice, len: u32) -> Result<(), Failure> {
        let size = self.args.size;
        if len != size {
            return Err(format!("the peer sent {len} bytes, not {size}: give both ends the same -s").into());
        }
        let Some(expected) = &self.expected else { return Ok(()) };
        let mut got = vec![0; expected.len()];
        slice.read(0, &mut got)?;
        match check::invalid_page(&got, expected) {
            Some(page) => Err(format!("invalid data in page {page} of message {}", self.received).into()),
            None => Ok(()),
        }
    }
}
