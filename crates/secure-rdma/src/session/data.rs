//! The data path: a queue pair, its buffers, and what they carry.
//!
//! A message travels as fragments of at most the peer's receive size, each one SEND; the last one has an immediate. So messages of
//! any length need only small receive buffers, and an empty message is one empty fragment. Everything that leaves or enters does so
//! through [`DataPath::fill`] and [`DataPath::empty`]: the places where sealing will happen.

use super::memory::{RECV_DEPTH, RECV_SIZE, SEND_SLOTS};
use crate::SessionError;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use verbs::{
    AsyncChannel, Completion, CompletionQueue, MemoryRegion, QueuePair, ReadyToSend, RecvRequest,
    RemoteRegion, SendRequest, Slice, Status,
};

/// The immediate of a message's last fragment.
const LAST: u32 = 1;

/// Messages that wait to be taken hold at most so many bytes beside the longest one; beyond, nothing more is received until the
/// application takes some, and the peer's sends wait.
const INBOX: usize = 1 << 20;

/// Completions taken at a time.
const BATCH: usize = 16;

/// Without any progress for so long, an operation has failed, whatever the queue pair's retries say.
pub(crate) const STALL_LIMIT: Duration = Duration::from_secs(30);

/// What arrives.
struct Inbox {
    /// The message whose last fragment hasn't come yet.
    partial: Vec<u8>,
    messages: VecDeque<Vec<u8>>,
    /// Bytes in `messages`.
    held: usize,
    /// Receive buffers that aren't posted while too much is held.
    parked: Vec<Slice>,
    /// The longest message that this side takes.
    limit: usize,
    /// How receiving ended.
    failed: Option<Status>,
}

/// A connected queue pair with its buffers.
pub(crate) struct DataPath {
    qp: QueuePair<ReadyToSend>,
    queue: Arc<CompletionQueue>,
    channel: AsyncChannel,
    /// Holds the buffers; never read as a whole.
    _buffers: MemoryRegion,
    slots: Vec<Slice>,
    slot_size: u32,
    /// Send requests that haven't completed.
    outstanding: usize,
    /// Their completions that nobody has taken yet.
    finished: VecDeque<Completion>,
    taken: Vec<Completion>,
    inbox: Inbox,
    /// The longest fragment that the peer takes.
    fragment: u32,
    /// The longest message that the peer takes.
    peer_limit: u64,
}

/// What a data path is made of.
pub(crate) struct Parts {
    pub(crate) qp: QueuePair<ReadyToSend>,
    pub(crate) queue: Arc<CompletionQueue>,
    pub(crate) channel: AsyncChannel,
    pub(crate) buffers: MemoryRegion,
    pub(crate) slot_size: u32,
    pub(crate) fragment: u32,
    pub(crate) message_limit: u64,
    pub(crate) peer_limit: u64,
}

/// How many bytes of registered buffers a data path with slots of that size needs.
pub(crate) fn buffer_bytes(slot_size: u32) -> usize {
    (RECV_DEPTH * RECV_SIZE + SEND_SLOTS * slot_size) as usize
}

/// The receive buffers, to be posted before the peer may send.
pub(crate) fn receives(buffers: &MemoryRegion) -> Result<Vec<RecvRequest>, SessionError> {
    (0..u64::from(RECV_DEPTH))
        .map(|at| Ok(RecvRequest::new([buffers.slice(at * u64::from(RECV_SIZE), RECV_SIZE)?])))
        .collect()
}

impl DataPath {
    pub(crate) fn new(parts: Parts) -> Result<Self, SessionError> {
        let Parts { qp, queue, channel, buffers, slot_size, fragment, message_limit, peer_limit } = parts;
        let first = u64::from(RECV_DEPTH * RECV_SIZE);
        let slots = (0..u64::from(SEND_SLOTS))
            .map(|at| buffers.slice(first + at * u64::from(slot_size), slot_size))
            .collect::<Result<_, _>>()?;
        let inbox = Inbox {
            partial: Vec::new(),
            messages: VecDeque::new(),
            held: 0,
            parked: Vec::new(),
            limit: usize::try_from(message_limit).unwrap_or(usize::MAX),
            failed: None,
        };
        Ok(Self {
            qp,
            queue,
            channel,
            _buffers: buffers,
            slots,
            slot_size,
            outstanding: 0,
            finished: VecDeque::new(),
            taken: Vec::new(),
            inbox,
            fragment: fragment.min(slot_size),
            peer_limit,
        })
    }

    pub(crate) fn queue_pair(&self) -> &QueuePair<ReadyToSend> {
        &self.qp
    }

    /// Sends a message and waits until the peer's queue pair has all of it.
    pub(crate) async fn send(&mut self, message: &[u8]) -> Result<(), SessionError> {
        const OPERATION: &str = "send";
        if message.len() as u64 > self.peer_limit {
            let (len, limit) = (message.len() as u64, self.peer_limit);
            return Err(SessionError::MessageTooLong { len, limit, who: "the peer" });
        }
        self.settle(OPERATION).await?;
        let mut rest = message;
        loop {
            let (fragment, after) = rest.split_at(rest.len().min(self.fragment as usize));
            let slot = self.slot(OPERATION).await?;
            let request = SendRequest::send([Self::fill(slot, fragment)?]);
            self.post(if after.is_empty() { request.immediate(LAST) } else { request })?;
            if after.is_empty() {
                return self.settle(OPERATION).await;
            }
            rest = after;
        }
    }

    /// The next message; waits for it as long as it takes.
    pub(crate) async fn recv(&mut self) -> Result<Vec<u8>, SessionError> {
        loop {
            if let Some(message) = self.inbox.messages.pop_front() {
                self.inbox.held -= message.len();
                self.unpark()?;
                return Ok(message);
            }
            if let Some(status) = self.inbox.failed {
                return Err(SessionError::Operation { operation: "receive", status });
            }
            self.progress().await?;
        }
    }

    /// Writes `data` to `remote`, in pieces of a slot, several under way at a time.
    pub(crate) async fn write(
        &mut self,
        remote: &RemoteRegion,
        offset: u64,
        data: &[u8],
    ) -> Result<(), SessionError> {
        const OPERATION: &str = "write";
        self.settle(OPERATION).await?;
        let mut at = offset;
        for piece in data.chunks(self.slot_size as usize) {
            let slot = self.slot(OPERATION).await?;
            let range = remote.range(at, piece.len() as u64)?;
            self.post(SendRequest::write([Self::fill(slot, piece)?], range))?;
            at += piece.len() as u64;
        }
        self.settle(OPERATION).await
    }

    /// Reads `out.len()` bytes of `remote`, in pieces of a slot, several under way at a time.
    pub(crate) async fn read(
        &mut self,
        remote: &RemoteRegion,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), SessionError> {
        const OPERATION: &str = "read";
        self.settle(OPERATION).await?;
        let size = self.slot_size as usize;
        let (mut asked, mut got) = (0, 0);
        while got < out.len() {
            let left = out.len() - asked;
            if left > 0
                && let Some(mut slot) = self.slots.pop()
            {
                let len = left.min(size);
                slot.set_len(u32::try_from(len).unwrap_or(u32::MAX))?;
                self.post(SendRequest::read([slot], remote.range(offset + asked as u64, len as u64)?))?;
                asked += len;
            } else {
                // Completions come in the order of the requests.
                let slot = self.finish(OPERATION).await?;
                let end = out.len().min(got + size);
                Self::empty(&slot, &mut out[got..end])?;
                self.slots.push(slot);
                got = end;
            }
        }
        Ok(())
    }

    /// Adds to a word of `remote`, or swaps it; returns what was there.
    pub(crate) async fn atomic(
        &mut self,
        operation: &'static str,
        request: impl FnOnce(Slice) -> SendRequest,
    ) -> Result<u64, SessionError> {
        self.settle(operation).await?;
        let mut slot = self.slot(operation).await?;
        slot.set_len(8)?;
        self.post(request(slot))?;
        let slot = self.finish(operation).await?;
        let mut word = [0; 8];
        Self::empty(&slot, &mut word)?;
        self.slots.push(slot);
        Ok(u64::from_ne_bytes(word))
    }

    /// Waits until nothing is outstanding. An operation that was cancelled may have left something.
    pub(crate) async fn settle(&mut self, operation: &'static str) -> Result<(), SessionError> {
        while self.outstanding > 0 {
            let slot = self.finish(operation).await?;
            self.slots.push(slot);
        }
        Ok(())
    }

    /// Ends the connection; whatever is outstanding is flushed.
    pub(crate) fn fail(&mut self) {
        self.qp.fail();
    }

    /// Puts outgoing bytes into a slot.
    fn fill(mut slot: Slice, bytes: &[u8]) -> Result<Slice, SessionError> {
        slot.fill(bytes)?;
        Ok(slot)
    }

    /// Takes incoming bytes out of a slot.
    fn empty(slot: &Slice, out: &mut [u8]) -> Result<(), SessionError> {
        Ok(slot.read(0, out)?)
    }

    fn post(&mut self, request: SendRequest) -> Result<(), SessionError> {
        match self.qp.post_send(request) {
            Ok(()) => {
                self.outstanding += 1;
                Ok(())
            }
            Err(mut error) => {
                self.slots.extend(error.slices.drain(..));
                Err(error.into())
            }
        }
    }

    /// A free slot; waits for one if need be.
    async fn slot(&mut self, operation: &'static str) -> Result<Slice, SessionError> {
        match self.slots.pop() {
            Some(slot) => Ok(slot),
            None => self.finish(operation).await,
        }
    }

    /// Waits for the oldest outstanding request and returns its slot.
    async fn finish(&mut self, operation: &'static str) -> Result<Slice, SessionError> {
        let mut completion = loop {
            if let Some(completion) = self.finished.pop_front() {
                break completion;
            }
            tokio::time::timeout(STALL_LIMIT, self.progress())
                .await
                .map_err(|_| SessionError::TimedOut { step: operation, limit: STALL_LIMIT })??;
        };
        self.outstanding -= 1;
        let slot = completion.slice().ok_or(SessionError::Closed)?;
        if completion.status == Status::Success {
            return Ok(slot);
        }
        self.slots.push(slot);
        Err(SessionError::Operation { operation, status: completion.status })
    }

    /// Waits for completions and sorts them.
    async fn progress(&mut self) -> Result<(), SessionError> {
        // Kept in the structure, not on the stack: a cancelled wait loses nothing.
        self.channel.completions(&self.queue, &mut self.taken, BATCH).await?;
        self.sort_taken()
    }

    fn sort_taken(&mut self) -> Result<(), SessionError> {
        let mut taken = core::mem::take(&mut self.taken);
        let result = taken.drain(..).try_for_each(|completion| self.sort(completion));
        self.taken = taken;
        result
    }

    fn sort(&mut self, mut completion: Completion) -> Result<(), SessionError> {
        if !completion.kind.is_recv() {
            self.finished.push_back(completion);
            return Ok(());
        }
        if completion.status != Status::Success {
            // For whoever receives to hear; an operation under way has an end of its own, which says more.
            self.inbox.failed.get_or_insert(completion.status);
            return Ok(());
        }
        let Some(slot) = completion.slice() else { return Ok(()) };
        self.inbox.take(&slot, completion.len as usize, completion.immediate == Some(LAST))?;
        self.inbox.parked.push(slot);
        self.unpark()
    }

    /// Posts receive buffers again, unless too much waits to be taken.
    fn unpark(&mut self) -> Result<(), SessionError> {
        if self.inbox.held > INBOX {
            return Ok(());
        }
        while let Some(slot) = self.inbox.parked.pop() {
            self.qp.post_recv(RecvRequest::new([slot]))?;
        }
        Ok(())
    }
}

impl Inbox {
    /// Takes a fragment of `len` bytes.
    fn take(&mut self, slot: &Slice, len: usize, last: bool) -> Result<(), SessionError> {
        let start = self.partial.len();
        let end = start + len;
        if end > self.limit {
            let (len, limit) = (end as u64, self.limit as u64);
            return Err(SessionError::MessageTooLong { len, limit, who: "this side" });
        }
        self.partial.resize(end, 0);
        DataPath::empty(slot, &mut self.partial[start..])?;
        if last {
            self.held += end;
            self.messages.push_back(core::mem::take(&mut self.partial));
        }
        Ok(())
    }
}
