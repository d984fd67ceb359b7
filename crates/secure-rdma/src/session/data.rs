//! The data path: a queue pair, its buffers, and what they carry.
//!
//! A message travels as fragments of at most the peer's receive size, each one SEND. So messages of any
//! length fit buffers of any size, and an empty message is one empty fragment. Sealed, a fragment says itself
//! whether it is its message's last; in clear the last one has an immediate. READs are in [`super::reads`],
//! writes of a sealed session in [`super::sealed`].

use super::memory::Buffers;
use super::notes;
use super::reads::Reads;
use super::sealed::{Sealing, make_room, move_to};
use crate::SessionError;
use crate::control::Fragments;
use crate::seal::{OVERHEAD, SealError, SessionKeys};
use core::convert::Infallible;
use rdma_verbs::{
    AsyncChannel, Completion, CompletionKind, CompletionQueue, MemoryRegion, QueuePair, ReadyToSend,
    RecvRequest, RemoteRegion, SendRequest, Slice, Status,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use zeroize::Zeroize;

/// The immediate of a message's last fragment that isn't sealed.
const LAST: u32 = 1;

/// Messages that wait to be taken hold at most so many bytes beside the longest one; beyond, nothing more is
/// received until the application takes some, and the peer's sends wait.
const INBOX: usize = 1 << 20;

/// What a message that waits to be taken counts for beside its bytes: many short ones take memory too.
const MESSAGE_COST: usize = 64;

/// Fragments are posted together until they have so many bytes: longer ones gain nothing by it, and wait meanwhile.
const TOGETHER: usize = 16 << 10;

/// Completions taken at a time.
const BATCH: usize = 16;

/// What a side has acknowledged is in the other's completion queue. If the other doesn't find it there for so
/// long, it was cut off.
pub(crate) const MISSING_LIMIT: Duration = Duration::from_secs(5);

/// If its oldest request takes longer than this, an operation has failed, whatever the queue pair's retries say.
pub(crate) const STALL_LIMIT: Duration = Duration::from_secs(30);

/// What arrives.
struct Inbox {
    /// The message whose last fragment hasn't come yet.
    partial: Vec<u8>,
    messages: VecDeque<Vec<u8>>,
    /// The length of the message that came last: the next one is often as long.
    previous: usize,
    /// Bytes in `messages`, and [`MESSAGE_COST`] for each.
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
    _memory: MemoryRegion,
    pub(super) slots: Vec<Slice>,
    pub(super) slot_size: u32,
    /// Send requests that haven't completed.
    outstanding: usize,
    /// Their completions that nobody has taken yet.
    finished: VecDeque<Completion>,
    taken: Vec<Completion>,
    inbox: Inbox,
    /// What was asked to be read.
    pub(super) reads: Reads,
    /// Bytes of a message in its longest fragment.
    pub(super) fragment: usize,
    /// The longest message that the peer takes.
    peer_limit: u64,
    /// Where the data path is sealed.
    pub(super) sealing: Option<Sealing>,
    /// Whether the peer may send messages.
    takes_messages: bool,
    /// Whether a message has been sent in part: whoever was sending it was cancelled, or is at it.
    midway: bool,
    /// How many receive buffers there are.
    receives: usize,
    /// A note came last.
    noted: bool,
    /// Why nothing may be used any more that comes over it.
    broken: Option<SessionError>,
    /// How long a thread looks for completions before it sleeps.
    busy_poll: Duration,
}

/// What a data path is made of.
pub(crate) struct Parts {
    pub(crate) qp: QueuePair<ReadyToSend>,
    pub(crate) queue: Arc<CompletionQueue>,
    pub(crate) channel: AsyncChannel,
    pub(crate) memory: MemoryRegion,
    pub(crate) buffers: Buffers,
    pub(crate) slot_size: u32,
    pub(crate) fragment: u32,
    pub(crate) message_limit: u64,
    pub(crate) peer_limit: u64,
    /// If it is sealed.
    pub(crate) keys: Option<SessionKeys>,
    pub(crate) takes_messages: bool,
    pub(crate) busy_poll: Duration,
}

/// The receive buffers, at the beginning of `memory`, to be posted before the peer may send.
pub(crate) fn receives(memory: &MemoryRegion, buffers: Buffers) -> Result<Vec<RecvRequest>, SessionError> {
    (0..u64::from(buffers.receives))
        .map(|at| Ok(RecvRequest::new([memory.slice(at * u64::from(buffers.size), buffers.size)?])))
        .collect()
}

impl DataPath {
    pub(crate) fn new(parts: Parts) -> Result<Self, SessionError> {
        let Parts { qp, queue, channel, memory, buffers, slot_size, .. } = parts;
        let Parts { fragment, message_limit, peer_limit, keys, takes_messages, busy_poll, .. } = parts;
        let (overhead, shortest) = keys.as_ref().map_or((0, 1), |_| (OVERHEAD, notes::SHORTEST));
        let longest = fragment.min(slot_size) as usize;
        let fragment = longest
            .checked_sub(overhead)
            .filter(|bytes| *bytes >= shortest)
            .ok_or(SealError::Size { expected: overhead + shortest, found: longest })?;
        let first = u64::from(buffers.receives) * u64::from(buffers.size);
        let slots = (0..u64::from(buffers.sends))
            .map(|at| memory.slice(first + at * u64::from(slot_size), slot_size))
            .collect::<Result<_, _>>()?;
        let inbox = Inbox {
            partial: Vec::new(),
            messages: VecDeque::new(),
            previous: 0,
            held: 0,
            parked: Vec::new(),
            limit: usize::try_from(message_limit).unwrap_or(usize::MAX),
            failed: None,
        };
        Ok(Self {
            qp,
            queue,
            channel,
            _memory: memory,
            slots,
            slot_size,
            outstanding: 0,
            finished: VecDeque::new(),
            taken: Vec::new(),
            inbox,
            reads: Reads::default(),
            fragment,
            peer_limit,
            sealing: keys.map(|keys| Sealing::new(keys, slot_size.max(buffers.size))),
            takes_messages,
            midway: false,
            receives: usize::try_from(buffers.receives).unwrap_or(usize::MAX),
            noted: false,
            broken: None,
            busy_poll,
        })
    }

    pub(crate) fn queue_pair(&self) -> &QueuePair<ReadyToSend> {
        &self.qp
    }

    /// Sends messages; waits for nothing but free buffers. What is short is posted together, as far as there
    /// are buffers.
    pub(crate) async fn post_sends<'a>(
        &mut self,
        messages: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), SessionError> {
        const OPERATION: &str = "send";
        self.reads.begin();
        self.check_whole()?;
        let mut messages = messages.into_iter();
        // What is left of the message whose turn it is.
        let mut rest = self.next_to_send(&mut messages)?;
        if rest.is_some() {
            self.tell(OPERATION).await?;
        }
        while let Some(message) = rest {
            self.take_finished()?;
            let mut free = match self.slots.pop() {
                Some(slot) => Some(slot),
                // Whoever is woken for each short one alone is woken more often than anything is done.
                None if message.len() < TOGETHER => Some(self.half_of_the_slots(OPERATION).await?),
                None => Some(self.slot(OPERATION).await?),
            };
            // From here to posting there is no `await`: the peer expects the next what was sealed next.
            let (mut requests, mut bytes, mut whole, mut refused) = (Vec::new(), 0, true, None);
            while let Some(message) = rest
                && bytes < TOGETHER
                && let Some(slot) = free.take().or_else(|| self.slots.pop())
            {
                let (fragment, after) = message.split_at(message.len().min(self.fragment));
                let last = after.is_empty();
                requests.push(self.fragment_request(slot, fragment, last)?);
                whole = last;
                bytes += fragment.len();
                rest = Some(after);
                if last {
                    match self.next_to_send(&mut messages) {
                        Ok(next) => rest = next,
                        Err(error) => {
                            // Those before it are sent.
                            (rest, refused) = (None, Some(error));
                        }
                    }
                }
            }
            // Where only some of them are taken, nobody knows which.
            self.midway = true;
            self.post_list(requests)?;
            self.midway = !whole;
            refused.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// The next of `messages`, unless the peer doesn't take so long ones.
    fn next_to_send<'a>(
        &self,
        messages: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<&'a [u8]>, SessionError> {
        match messages.next() {
            Some(message) if message.len() as u64 > self.peer_limit => {
                let (len, limit) = (message.len() as u64, self.peer_limit);
                Err(SessionError::MessageTooLong { len, limit, who: "the peer" })
            }
            next => Ok(next),
        }
    }

    /// What sends a fragment, sealed if that is agreed on, from `slot`.
    fn fragment_request(
        &mut self,
        slot: Slice,
        fragment: &[u8],
        last: bool,
    ) -> Result<SendRequest, SessionError> {
        match &mut self.sealing {
            Some(sealing) => match sealing.seal_message(last, fragment) {
                Ok(sealed) => Ok(SendRequest::send([Self::fill(slot, sealed)?])),
                Err(error) => Err(self.condemn(error.into())),
            },
            None => {
                let request = SendRequest::send([Self::fill(slot, fragment)?]);
                Ok(if last { request.immediate(LAST) } else { request })
            }
        }
    }

    /// The next message; waits for it as long as it takes.
    pub(crate) async fn recv(&mut self) -> Result<Vec<u8>, SessionError> {
        self.reads.begin();
        loop {
            if let Some(message) = self.next_message()? {
                return Ok(message);
            }
            self.progress().await?;
        }
    }

    /// The next message of those that the peer sent before it said goodbye; `None` after the last one.
    pub(crate) async fn rest(&mut self, peer: Fragments) -> Result<Option<Vec<u8>>, SessionError> {
        if self.sealing.is_none() {
            // All has arrived that will: the peer's sends had completed.
            return match tokio::time::timeout(Duration::ZERO, self.recv()).await {
                Ok(message) => message.map(Some),
                Err(_) => Ok(None),
            };
        }
        let deadline = Instant::now() + MISSING_LIMIT;
        loop {
            if let Some(message) = self.next_message()? {
                return Ok(Some(message));
            }
            if self.fragments().opened == peer.sealed {
                return Ok(None);
            }
            self.progress_of(peer, deadline).await?;
        }
    }

    /// The same as [`Self::progress`] until `deadline`: what `peer` has sealed, and this side hasn't opened
    /// by then, is missing.
    pub(super) async fn progress_of(
        &mut self,
        peer: Fragments,
        deadline: Instant,
    ) -> Result<(), SessionError> {
        // An acknowledgement can be forged: what the peer takes for delivered may never have come.
        match by(deadline, self.progress()).await {
            Some(result) => result,
            None => {
                let (sealed, opened) = (peer.sealed, self.fragments().opened);
                let who = "the peer";
                Err(self.condemn(SessionError::Truncated { who, sealed, opened }))
            }
        }
    }

    /// Goes on opening what the peer sends, for nobody but `count` to know, until it fails.
    pub(crate) async fn drain(&mut self, count: &watch::Sender<Tally>) -> Infallible {
        loop {
            self.inbox.forget();
            let result = match self.unpark() {
                Ok(()) => self.progress().await,
                Err(error) => Err(error),
            };
            count.send_replace(self.tally());
            if result.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// What has been sealed and opened; zeros where nothing is.
    pub(crate) fn fragments(&self) -> Fragments {
        self.sealing.as_ref().map(Sealing::fragments).unwrap_or_default()
    }

    /// The same, with what became of it.
    pub(crate) fn tally(&self) -> Tally {
        Tally { fragments: self.fragments(), broken: self.broken.clone() }
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealing.is_some()
    }

    fn next_message(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        self.check()?;
        if let Some(message) = self.inbox.messages.pop_front() {
            self.inbox.held -= message.len() + MESSAGE_COST;
            self.unpark()?;
            return Ok(Some(message));
        }
        match self.inbox.failed {
            Some(status) => Err(SessionError::Operation { operation: "receive", status }),
            None => Ok(None),
        }
    }

    /// Nothing is taken from this data path any more, nor put into it, because of `reason`, which is returned.
    pub(super) fn condemn(&mut self, reason: SessionError) -> SessionError {
        self.inbox.forget();
        self.inbox.partial.zeroize();
        self.reads.forget();
        self.broken.get_or_insert(reason).clone()
    }

    /// That no message was left in the middle: the peer would take the next one for its rest.
    pub(crate) fn check_whole(&mut self) -> Result<(), SessionError> {
        self.check()?;
        if self.midway { Err(self.condemn(SessionError::CutShort)) } else { Ok(()) }
    }

    pub(super) fn check(&self) -> Result<(), SessionError> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// Writes `data` to `remote`, in pieces of a slot, several under way at a time; waits for nothing but
    /// free buffers, and for what is being read there.
    pub(crate) async fn post_write(
        &mut self,
        remote: &RemoteRegion,
        offset: u64,
        data: &[u8],
    ) -> Result<(), SessionError> {
        const OPERATION: &str = "write";
        self.reads.begin();
        self.check()?;
        self.let_reads_pass(remote, offset..offset.saturating_add(data.len() as u64)).await?;
        let mut at = offset;
        for piece in data.chunks(self.slot_size as usize) {
            let range = remote.range(at, piece.len() as u64)?;
            let slot = self.slot(OPERATION).await?;
            self.post(SendRequest::write([Self::fill(slot, piece)?], range))?;
            at += piece.len() as u64;
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
        self.reads.begin();
        self.check()?;
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
    pub(super) fn fill(mut slot: Slice, bytes: &[u8]) -> Result<Slice, SessionError> {
        slot.fill(bytes)?;
        Ok(slot)
    }

    /// Takes incoming bytes out of a slot.
    pub(super) fn empty(slot: &Slice, out: &mut [u8]) -> Result<(), SessionError> {
        Ok(slot.read(0, out)?)
    }

    pub(super) fn post(&mut self, request: SendRequest) -> Result<(), SessionError> {
        match self.qp.post_send(request) {
            Ok(()) => {
                self.outstanding += 1;
                Ok(())
            }
            Err(mut error) => {
                self.slots.extend(error.slices.drain(..));
                let error = SessionError::from(error);
                // What was sealed and isn't sent would be missed.
                Err(if self.is_sealed() { self.condemn(error) } else { error })
            }
        }
    }

    /// Posts several requests, which share system calls if they are short.
    fn post_list(&mut self, requests: Vec<SendRequest>) -> Result<(), SessionError> {
        let mut requests = requests.into_iter();
        let mut taken = 0;
        let mut counted = requests.by_ref().inspect(|_| taken += 1);
        match self.qp.post_send_list(&mut counted) {
            Ok(()) => {
                self.outstanding += taken;
                Ok(())
            }
            Err(mut error) => {
                // The last one that was looked at wasn't taken.
                self.outstanding += taken.saturating_sub(1);
                self.slots.extend(error.slices.drain(..));
                self.slots.extend(requests.flat_map(SendRequest::into_slices));
                let error = SessionError::from(error);
                // What was sealed and isn't sent would be missed.
                Err(if self.is_sealed() { self.condemn(error) } else { error })
            }
        }
    }

    /// A slot, when at most half of them are under way.
    async fn half_of_the_slots(&mut self, operation: &'static str) -> Result<Slice, SessionError> {
        loop {
            let slot = self.finish(operation).await?;
            if self.outstanding <= self.slots.len() + 1 {
                return Ok(slot);
            }
            self.slots.push(slot);
        }
    }

    /// Takes back the slots of requests that have succeeded.
    fn take_finished(&mut self) -> Result<(), SessionError> {
        while self.finished.front().is_some_and(|completion| completion.status == Status::Success)
            && let Some(completion) = self.finished.pop_front()
        {
            let slot = self.take_back("request", completion)?;
            self.slots.push(slot);
        }
        Ok(())
    }

    /// Takes back the slot of a request that has ended, and what it has read.
    fn take_back(
        &mut self,
        operation: &'static str,
        mut completion: Completion,
    ) -> Result<Slice, SessionError> {
        self.outstanding -= 1;
        let slot = completion.slice().ok_or(SessionError::Closed)?;
        let (kind, status) = (completion.kind, completion.status);
        let read = match kind {
            CompletionKind::Read => self.read_ended(&slot, status),
            _ => Ok(()),
        };
        // It may be another one's that was posted before.
        let operation = match kind {
            CompletionKind::Send => "send",
            CompletionKind::Write => "write",
            CompletionKind::Read => "read",
            _ => operation,
        };
        let result = match status {
            Status::Success => read,
            status => Err(SessionError::Operation { operation, status }),
        };
        match result {
            Ok(()) => Ok(slot),
            Err(error) => {
                self.slots.push(slot);
                Err(error)
            }
        }
    }

    /// A free slot; waits for one if need be.
    pub(super) async fn slot(&mut self, operation: &'static str) -> Result<Slice, SessionError> {
        match self.slots.pop() {
            Some(slot) => Ok(slot),
            None => self.finish(operation).await,
        }
    }

    /// Waits for the oldest outstanding request and returns its slot. What it has read is where it belongs.
    pub(super) async fn finish(&mut self, operation: &'static str) -> Result<Slice, SessionError> {
        let completion = match self.finished.pop_front() {
            Some(completion) => completion,
            // In a box, as all that sleeps: an operation's future is moved several times before it is begun,
            // and most never come here.
            None => Box::pin(self.next_finished(operation)).await?,
        };
        self.take_back(operation, completion)
    }

    /// Waits for the completion of the oldest outstanding request.
    async fn next_finished(&mut self, operation: &'static str) -> Result<Completion, SessionError> {
        // What the peer sends meanwhile doesn't extend it.
        let deadline = Instant::now() + STALL_LIMIT;
        loop {
            if let Some(completion) = self.finished.pop_front() {
                return Ok(completion);
            }
            by(deadline, self.progress())
                .await
                .ok_or(SessionError::TimedOut { step: operation, limit: STALL_LIMIT })??;
        }
    }

    /// Waits for completions and sorts them.
    pub(super) async fn progress(&mut self) -> Result<(), SessionError> {
        // A peer that sends without pause must not keep this thread from its other tasks. Notes take the
        // longest, and nobody has to take them before the next ones come.
        if core::mem::take(&mut self.noted) {
            tokio::task::yield_now().await;
        } else {
            tokio::task::coop::consume_budget().await;
        }
        // Kept in the structure, not on the stack: a cancelled wait loses nothing.
        if self.poll_for(self.busy_poll)? {
            return self.sort_taken();
        }
        Box::pin(self.channel.completions(&self.queue, &mut self.taken, BATCH)).await?;
        self.sort_taken()
    }

    /// Looks for completions for so long; whether there are any.
    fn poll_for(&mut self, long: Duration) -> Result<bool, SessionError> {
        if long.is_zero() {
            return Ok(false);
        }
        let since = Instant::now();
        loop {
            if self.queue.poll(&mut self.taken, BATCH)? > 0 {
                return Ok(true);
            }
            if since.elapsed() >= long {
                return Ok(false);
            }
        }
    }

    /// Takes in what has arrived, without waiting. That is no more than there were receive buffers; the peer
    /// may go on sending.
    pub(super) fn hear(&mut self) -> Result<(), SessionError> {
        for _ in 0..=self.receives / BATCH {
            let found = self.queue.poll(&mut self.taken, BATCH)?;
            self.sort_taken()?;
            if found == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Whether nothing more is received until the application takes something.
    pub(super) const fn is_full(&self) -> bool {
        self.inbox.held > INBOX
    }

    fn sort_taken(&mut self) -> Result<(), SessionError> {
        let mut taken = core::mem::take(&mut self.taken);
        let result = taken.drain(..).try_for_each(|completion| self.sort(completion));
        self.taken = taken;
        result?;
        self.unpark()
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
        let immediate = match check_received(&completion, self.is_sealed()) {
            Ok(()) => completion.immediate,
            Err(what) => return Err(self.condemn(SessionError::Protocol { what })),
        };
        let Some(slot) = completion.slice() else { return Ok(()) };
        let note = match &mut self.sealing {
            Some(sealing) => sealing.take_note(&slot, completion.len as usize),
            None => Ok(false),
        };
        match note {
            Ok(false) if self.takes_messages => {}
            Ok(false) => return Err(self.condemn(SessionError::Overstepped { what: "sent a message" })),
            Ok(true) => {
                self.noted = true;
                self.inbox.parked.push(slot);
                return self.unpark();
            }
            Err(error) => return Err(self.condemn(error)),
        }
        let last = immediate == Some(LAST);
        let taken = self.inbox.take(&slot, completion.len as usize, last, self.sealing.as_mut());
        self.inbox.parked.push(slot);
        // What comes after it would be taken for its continuation.
        taken.map_err(|error| self.condemn(error))
    }

    /// Posts receive buffers again, unless too much waits to be taken.
    fn unpark(&mut self) -> Result<(), SessionError> {
        if self.is_full() {
            return Ok(());
        }
        while let Some(slot) = self.inbox.parked.pop() {
            self.qp.post_recv(RecvRequest::new([slot]))?;
        }
        Ok(())
    }
}

/// Checks that what was received is a fragment at all; what it is if it isn't. An RDMA WRITE with immediate has
/// put nothing into the buffer that it completes: that still holds an earlier message.
fn check_received(completion: &Completion, sealed: bool) -> Result<(), &'static str> {
    match (completion.kind, completion.immediate) {
        (CompletionKind::Recv, _) if completion.invalidated.is_some() => Err("a SEND with invalidate"),
        (CompletionKind::Recv, None) => Ok(()),
        (CompletionKind::Recv, Some(LAST)) if !sealed => Ok(()),
        (CompletionKind::Recv, _) => Err("a message with an immediate that means nothing"),
        _ => Err("an RDMA WRITE with immediate"),
    }
}

/// What becomes of `future` until `deadline`. Looks at the clock even if `future` never has to wait.
async fn by<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    if Instant::now() >= deadline {
        return None;
    }
    tokio::time::timeout_at(deadline, future).await.ok()
}

impl Inbox {
    /// Takes a fragment of `len` bytes, which is its message's last if it isn't sealed and `last` says so.
    fn take(
        &mut self,
        slot: &Slice,
        len: usize,
        last: bool,
        sealing: Option<&mut Sealing>,
    ) -> Result<(), SessionError> {
        let start = self.partial.len();
        let last = match sealing {
            Some(sealing) => sealing.open_message(slot, len, &mut self.partial, self.previous)?,
            None => {
                self.check(start + len)?;
                make_room(&mut self.partial, len, if last { 0 } else { self.previous });
                slot.append_to(0, len, &mut self.partial)?;
                last
            }
        };
        let end = self.partial.len();
        self.check(end)?;
        if last {
            if self.partial.capacity() > 2 * end {
                // More was expected. A message that waits takes little more memory than it counts for.
                move_to(&mut self.partial, end);
            }
            self.previous = end;
            self.held += end + MESSAGE_COST;
            self.messages.push_back(core::mem::take(&mut self.partial));
        }
        Ok(())
    }

    fn check(&self, len: usize) -> Result<(), SessionError> {
        if len <= self.limit {
            return Ok(());
        }
        Err(SessionError::MessageTooLong { len: len as u64, limit: self.limit as u64, who: "this side" })
    }

    /// Wipes the messages that nobody has taken.
    fn forget(&mut self) {
        self.messages.iter_mut().for_each(Zeroize::zeroize);
        self.messages.clear();
        self.held = 0;
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.forget();
        self.partial.zeroize();
    }
}

/// How far a data path has come.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) fragments: Fragments,
    /// Why nothing more will come.
    pub(crate) broken: Option<SessionError>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdma_verbs::Qpn;

    #[test]
    fn what_is_received_is_a_fragment_or_a_breach_of_the_protocol() {
        let received = |kind, immediate, invalidated| Completion {
            id: 0,
            qpn: Qpn::new(2).unwrap(),
            status: Status::Success,
            kind,
            len: 10,
            immediate,
            invalidated,
            slices: Default::default(),
            released: Vec::new(),
        };
        let recv = CompletionKind::Recv;
        for (completion, in_clear, sealed) in [
            (received(recv, None, None), true, true),
            (received(recv, Some(LAST), None), true, false),
            (received(recv, Some(0), None), false, false),
            (received(recv, Some(2), None), false, false),
            (received(recv, None, Some(7)), false, false),
            (received(CompletionKind::RecvWriteImmediate, Some(LAST), None), false, false),
            (received(CompletionKind::RecvWriteImmediate, None, None), false, false),
        ] {
            assert_eq!(check_received(&completion, false).is_ok(), in_clear, "{completion:?}");
            assert_eq!(check_received(&completion, true).is_ok(), sealed, "{completion:?}");
        }
    }
}
