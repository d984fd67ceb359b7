//! The data path: a queue pair, its buffers, and what they carry.
//!
//! | part | its job |
//! |---|---|
//! | `buffers` | the registered buffers that aren't posted |
//! | `requests` | the send queue: what was posted, and how it ended |
//! | `completions` | waiting for completions |
//! | `messages` | messages, cut into fragments and put together again |
//! | `handover` | messages on their way to the task that takes them, if that is another one |
//! | `reads` | what is being read, several at a time |
//! | `protection` | whether and how all of this is sealed |
//!
//! The parts don't know each other; [`DataPath`] makes them work together.

mod buffers;
mod completions;
mod handover;
mod messages;
mod protection;
mod reads;
mod requests;

use super::memory::Buffers;
use super::{STEP_LIMIT, Timeouts};
use crate::SessionError;
use crate::control::Fragments;
use crate::seal::{Attempts, SealError, SessionKeys};
use buffers::SendBuffers;
use completions::{BATCH, Completions};
use core::convert::Infallible;
use core::ops::Range;
pub(crate) use handover::Handover;
use messages::{Inbox, Outbox};
use protection::{Arrived, Clear, MessagesAndSlots, Protection, Received, Units};
use rdma_verbs::{
    AsyncCompletionQueue, Completion, CompletionKind, LocalMemory, MemoryRegion, QueuePair, ReadyToSend,
    RecvRequest, RemoteRegion, SendRequest, Slice, Status,
};
use reads::{Oldest, Reads};
use requests::Requests;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// The bytes of fragments that are posted together: longer lists gain nothing, and the first fragment would wait.
const TOGETHER: usize = 16 << 10;

/// How long slots that are being written may stay torn, in all that is read at a time: as long as a step may take. A
/// lost packet is retransmitted within that time.
const TORN_LIMIT: Duration = STEP_LIMIT;

/// The pauses between two looks at a torn slot, at first and at most: as a rule it is whole again at once.
const TORN_PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(10)];

/// What a pause counts for at most, however long it was: who has no turn for a while, as the peer may not have, looks
/// often enough all the same.
const TORN_COUNTED: Duration = Duration::from_millis(100);

// What operations are called in errors.
const SEND: &str = "send";
const WRITE: &str = "write";
const READ: &str = "read";

/// A connected queue pair with its buffers.
pub(crate) struct DataPath {
    requests: Requests,
    completions: Completions,
    inbox: Inbox,
    outbox: Outbox,
    reads: Reads,
    protection: Box<dyn Protection>,
    /// Whether the peer may send messages.
    takes_messages: bool,
    /// How many receive buffers there are.
    receives: usize,
    /// Whether the last fragment was a manifest.
    announced: bool,
    /// Why the data path may not be used any more.
    broken: Option<SessionError>,
    timeouts: Timeouts,
    /// The memory that the buffers are slices of.
    _memory: LocalMemory,
}

/// What a data path is made of.
pub(crate) struct Parts {
    pub(crate) qp: QueuePair<ReadyToSend>,
    pub(crate) queue: AsyncCompletionQueue,
    pub(crate) memory: LocalMemory,
    pub(crate) buffers: Buffers,
    /// Bytes of each buffer to send from.
    pub(crate) send_size: u32,
    /// Bytes of each of the peer's receive buffers.
    pub(crate) fragment: u32,
    pub(crate) message_limit: u64,
    pub(crate) peer_limit: u64,
    /// The keys, if the session is sealed.
    pub(crate) keys: Option<SessionKeys>,
    pub(crate) takes_messages: bool,
    pub(crate) busy_poll: Duration,
    pub(crate) timeouts: Timeouts,
}

/// The receive buffers, at the beginning of `memory`, to be posted before the peer may send.
pub(crate) fn receives(memory: &LocalMemory, buffers: Buffers) -> Result<Vec<RecvRequest>, SessionError> {
    (0..u64::from(buffers.receives))
        .map(|at| Ok(RecvRequest::new([memory.slice(at * u64::from(buffers.size), buffers.size)?])))
        .collect()
}

/// Messages that are being sent. If the sender is cancelled in the middle of one, its rest is kept and sent later:
/// the peer would take the next message for that rest.
struct Sending<'path, 'text> {
    path: &'path mut DataPath,
    /// The rest of the current message.
    rest: Option<&'text [u8]>,
}

impl Drop for Sending<'_, '_> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest
            && self.path.outbox.is_begun()
        {
            self.path.outbox.keep(rest);
        }
    }
}

impl DataPath {
    pub(crate) fn new(parts: Parts) -> Result<Self, SessionError> {
        let Parts { qp, queue, memory, buffers, send_size, .. } = parts;
        let Parts { fragment, message_limit, peer_limit, keys, takes_messages, busy_poll, timeouts, .. } =
            parts;
        let protection: Box<dyn Protection> = match keys {
            Some(keys) => Box::new(MessagesAndSlots::new(keys)),
            None => Box::new(Clear::default()),
        };
        let (overhead, shortest) = (protection.overhead(), protection.shortest_text());
        let longest = fragment.min(send_size) as usize;
        let fragment = longest
            .checked_sub(overhead)
            .filter(|bytes| *bytes >= shortest)
            .ok_or(SealError::Size { expected: overhead + shortest, found: longest })?;
        let first = u64::from(buffers.receives) * u64::from(buffers.size);
        let free = (0..u64::from(buffers.sends))
            .map(|at| memory.slice(first + at * u64::from(send_size), send_size))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            requests: Requests::new(qp, SendBuffers::new(free, send_size)),
            completions: Completions::new(queue, busy_poll),
            inbox: Inbox::new(message_limit),
            outbox: Outbox::new(fragment, peer_limit),
            reads: Reads::default(),
            protection,
            takes_messages,
            receives: usize::try_from(buffers.receives).unwrap_or(usize::MAX),
            announced: false,
            broken: None,
            timeouts,
            _memory: memory,
        })
    }

    pub(crate) fn set_busy_poll(&mut self, time: Duration) {
        self.completions.set_busy_poll(time);
    }

    pub(crate) fn queue_pair(&self) -> &QueuePair<ReadyToSend> {
        self.requests.queue_pair()
    }

    /// Ends the connection; whatever is outstanding is flushed.
    pub(crate) fn fail(&mut self) {
        self.requests.fail();
    }

    // ---- Messages ----

    /// Posts messages; waits only for free buffers. Short ones are posted together, as far as there are buffers. If
    /// this is cancelled, each message is sent as a whole or not at all.
    pub(crate) async fn post_sends<'a>(
        &mut self,
        messages: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), SessionError> {
        self.check_whole()?;
        self.begin(SEND).await?;
        let mut messages = messages.into_iter();
        let rest = self.outbox.next_of(&mut messages)?;
        if rest.is_some() {
            self.announce(SEND).await?;
        }
        let mut sending = Sending { path: self, rest };
        let mut posted = false;
        while let Some(message) = sending.rest {
            let path = &mut *sending.path;
            path.requests.check()?;
            let free = match path.requests.buffers.take() {
                Some(buffer) => Ok(buffer),
                // Whoever is woken for each short one alone is woken more often than anything is done.
                None if message.len() < TOGETHER => path.half_of_the_buffers(SEND).await,
                None => path.buffer(SEND).await,
            };
            let mut free = Some(free.map_err(|reason| path.done_in_part(posted, reason))?);
            // From here to posting there is no `await`: the peer expects the next what was sealed next.
            let (mut requests, mut bytes, mut refused) = (Vec::new(), 0, None);
            while let Some(mut message) = sending.rest
                && bytes < TOGETHER
                && let Some(buffer) = free.take().or_else(|| sending.path.requests.buffers.take())
            {
                let path = &mut *sending.path;
                let (fragment, last) = path.outbox.cut(&mut message);
                requests.push(match path.protection.fragment(buffer, fragment, last) {
                    Ok(request) => request,
                    Err(error) => return Err(path.poison(error)),
                });
                path.outbox.set_begun(!last);
                bytes += fragment.len();
                sending.rest = Some(message);
                if last {
                    match path.outbox.next_of(&mut messages) {
                        Ok(next) => sending.rest = next,
                        Err(error) => {
                            // Those before it are sent.
                            (sending.rest, refused) = (None, Some(error));
                        }
                    }
                }
            }
            // Where only some of them are taken, nobody knows which.
            let path = &mut *sending.path;
            if let Err(error) = path.requests.post_list(requests) {
                path.outbox.set_begun(true);
                sending.rest = None;
                let path = &mut *sending.path;
                return Err(path.unsent(error));
            }
            refused.map_or(Ok(()), Err)?;
            posted = true;
        }
        Ok(())
    }

    /// Posts the rest of a message whose sender was cancelled, as far as there are buffers.
    fn go_on(&mut self) -> Result<(), SessionError> {
        while self.outbox.has_rest()
            && let Some(buffer) = self.requests.buffers.take()
        {
            let (fragment, last) = self.outbox.next_of_rest();
            let request = self.protection.fragment(buffer, fragment, last);
            let posted = request.and_then(|request| self.requests.post(request));
            posted.map_err(|error| self.poison(error))?;
        }
        Ok(())
    }

    /// Begins an operation: the rest of a message whose sender was cancelled goes first.
    async fn begin(&mut self, operation: &'static str) -> Result<(), SessionError> {
        self.reads.begin();
        self.check()?;
        self.go_on()?;
        while self.outbox.has_rest() {
            self.wait(operation).await?;
        }
        Ok(())
    }

    /// Checks that no message was left in the middle for good: the peer would take the next one for its rest.
    pub(crate) fn check_whole(&mut self) -> Result<(), SessionError> {
        self.check()?;
        if self.outbox.is_begun() { Err(self.poison(SessionError::CutShort)) } else { Ok(()) }
    }

    /// Checks that all that this side has posted, since the beginning, is known to have been carried out: an operation
    /// that failed may have been, in part or as a whole.
    pub(crate) fn check_known(&self) -> Result<(), SessionError> {
        self.requests.check_known()
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
        let deadline = Instant::now() + self.timeouts.missing;
        loop {
            if let Some(message) = self.next_message()? {
                return Ok(Some(message));
            }
            // More, in clear, is what somebody has put there: closing says so.
            if self.fragments().arrived >= peer.sent {
                return Ok(None);
            }
            self.progress_of(peer, deadline).await?;
        }
    }

    /// The next message of those that have arrived, where no more will. It doesn't wait, and gives no other task its
    /// turn: who takes that for a sign that nothing is left would lose what is.
    pub(crate) fn arrived(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        self.reads.begin();
        if let Some(message) = self.next_message()? {
            return Ok(Some(message));
        }
        self.hear()?;
        self.next_message()
    }

    fn next_message(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        self.check()?;
        let message = self.inbox.next()?;
        if message.is_some() {
            self.unpark()?;
        }
        Ok(message)
    }

    /// Sends manifests of what this side has written since the last one; waits only for free buffers. The writes
    /// were posted before, to the same queue pair: unless somebody interferes, they are carried out before the
    /// manifests arrive.
    pub(crate) async fn announce(&mut self, operation: &'static str) -> Result<(), SessionError> {
        while self.protection.has_pending() {
            let buffer = self.buffer(operation).await?;
            // From here to posting there is no `await`: what is taken for told is sent.
            match self.protection.announcement(buffer, self.outbox.fragment()) {
                Ok(request) => self.post(request)?,
                Err(error) => return Err(self.poison(error)),
            }
        }
        Ok(())
    }

    // ---- One-sided operations ----

    /// Writes `data` to `remote`, a buffer at a time, several under way; waits only for free buffers, for READs of
    /// the same place, and for the units at the edges to be read. If this side may not read, it knows a unit's
    /// contents only until it has written it.
    pub(crate) async fn post_write(
        &mut self,
        remote: &RemoteRegion,
        offset: u64,
        data: &[u8],
        may_read: bool,
    ) -> Result<(), SessionError> {
        self.begin(WRITE).await?;
        let units = self.protection.units();
        let bytes = offset..offset.saturating_add(data.len() as u64);
        // What is in the units of which only a part is written.
        let mut edges = Vec::new();
        for unit in units.edges(&bytes) {
            let len = usize::try_from(units.text).unwrap_or(usize::MAX);
            let text = if may_read {
                self.read(remote, unit * units.text, len).await?
            } else if self.protection.is_blank(unit) {
                Zeroizing::new(vec![0; len])
            } else {
                return Err(SessionError::PartOfSlot);
            };
            edges.push((unit, text));
        }
        self.check()?;
        // What is read is compared with what this side has written last.
        self.let_reads_pass(remote, units.place(&bytes)).await?;
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let part = units.part(&(at..bytes.end), self.requests.buffers.size());
            let range = within(remote, units.place(&part))?;
            let free = self.buffer(WRITE).await;
            let mut buffer = free.map_err(|reason| self.done_in_part(at > offset, reason))?;
            // From here to posting there is no `await`: what this side takes for written is sent.
            let len = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
            let piece = rest.split_off(..len).unwrap_or_default();
            if let Err(error) = self.protection.put(&mut buffer, at, piece, &mut edges) {
                return Err(self.poison(error));
            }
            let posted = self.post(SendRequest::write([buffer], range));
            posted.map_err(|reason| self.done_in_part(at > offset, reason))?;
            at = part.end;
        }
        Ok(())
    }

    /// Reads `len` bytes of `remote` from `offset` on.
    pub(crate) async fn read(
        &mut self,
        remote: &RemoteRegion,
        offset: u64,
        len: usize,
    ) -> Result<Zeroizing<Vec<u8>>, SessionError> {
        self.ask(remote, offset, vec![0; len], false).await?;
        self.take_last().await
    }

    /// Posts a READ of as many bytes as `buffer` has, in which [`Self::next_read`] will return them; waits only for
    /// free buffers.
    pub(crate) async fn post_read(
        &mut self,
        remote: &RemoteRegion,
        offset: u64,
        buffer: Vec<u8>,
    ) -> Result<(), SessionError> {
        self.ask(remote, offset, buffer, false).await?;
        self.reads.leave_to_program();
        Ok(())
    }

    /// The bytes of the oldest posted READ that wasn't taken; `None` if there is none.
    pub(crate) async fn next_read(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        loop {
            self.check()?;
            self.reads.begin();
            match self.reads.oldest() {
                Oldest::None => return Ok(None),
                Oldest::Here(read) => return read.map(Some),
                Oldest::Coming(until) => self.reads_end(until).await?,
            }
        }
    }

    async fn ask(
        &mut self,
        remote: &RemoteRegion,
        offset: u64,
        text: Vec<u8>,
        raw: bool,
    ) -> Result<(), SessionError> {
        self.begin(READ).await?;
        let units = if raw { Units::PLAIN } else { self.protection.units() };
        let bytes = offset..offset.saturating_add(text.len() as u64);
        let place = units.place(&bytes);
        within(remote, place.clone())?;
        self.reads.ask(offset, text, units, raw, addresses(remote, &place));
        let mut at = offset;
        while at < bytes.end {
            let part = units.part(&(at..bytes.end), self.requests.buffers.size());
            let range = within(remote, units.place(&part))?;
            let mut buffer = self.buffer(READ).await?;
            if !self.reads.is_wanted() {
                self.requests.buffers.give_back([buffer]);
                return Err(SessionError::Closed);
            }
            buffer.set_len(u32::try_from(range.len()).unwrap_or(u32::MAX))?;
            self.post(SendRequest::read([buffer], range))?;
            self.reads.request_posted();
            at = part.end;
        }
        Ok(())
    }

    /// Waits for the READ that was posted last, and returns its bytes.
    async fn take_last(&mut self) -> Result<Zeroizing<Vec<u8>>, SessionError> {
        self.reads_end(self.reads.posted()).await?;
        self.check()?;
        self.reads.take_last().ok_or(SessionError::Closed)
    }

    /// Waits until the READs of these bytes of `remote` have completed.
    async fn let_reads_pass(&mut self, remote: &RemoteRegion, place: Range<u64>) -> Result<(), SessionError> {
        self.reads_end(self.reads.before(&addresses(remote, &place))).await
    }

    /// Waits until `count` READ requests have completed since the beginning.
    async fn reads_end(&mut self, count: u64) -> Result<(), SessionError> {
        while self.reads.ended() < count {
            self.wait(READ).await?;
        }
        Ok(())
    }

    /// Adds to a word of `remote`, or swaps it; returns what was there.
    pub(crate) async fn atomic(
        &mut self,
        operation: &'static str,
        request: impl FnOnce(Slice) -> SendRequest,
    ) -> Result<u64, SessionError> {
        // One that was cancelled may have left something.
        self.settle(operation).await?;
        self.requests.take_word();
        let mut buffer = self.buffer(operation).await?;
        buffer.set_len(8)?;
        self.post(request(buffer))?;
        self.settle(operation).await?;
        self.requests.take_word().ok_or(SessionError::Closed)
    }

    /// Reads `out.len()` bytes from `offset` of this side's own `region`. A slot that the peer is writing is waited
    /// for.
    pub(crate) async fn read_local(
        &mut self,
        region: &MemoryRegion,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), SessionError> {
        self.open_local(region, offset, out, TORN_LIMIT).await
    }

    /// Reads and opens; slots that are torn are waited for, up to `limit` for all of them.
    async fn open_local(
        &mut self,
        region: &MemoryRegion,
        offset: u64,
        out: &mut [u8],
        limit: Duration,
    ) -> Result<(), SessionError> {
        // What the peer has said of its writes, if it has come.
        self.hear()?;
        self.check()?;
        let (mut at, mut rest) = (offset, out);
        let (mut waited, mut pause) = (Duration::ZERO, TORN_PAUSES[0]);
        while !rest.is_empty() {
            let mut attempts = if waited < limit { Attempts::again(1) } else { Attempts::once() };
            let taken = self.protection.get_local(region, at, rest, &mut attempts);
            let taken = taken.map_err(|error| self.poison(error))?;
            if taken > 0 {
                rest = rest.split_at_mut(taken.min(rest.len())).1;
                at += taken as u64;
                pause = TORN_PAUSES[0];
            } else {
                let since = Instant::now();
                tokio::time::sleep(pause).await;
                waited += since.elapsed().min(TORN_COUNTED);
                pause = (2 * pause).min(TORN_PAUSES[1]);
            }
        }
        Ok(())
    }

    // ---- The end ----

    /// Opens again the slots of `region` that this side's program has read and that the peer has announced newer
    /// contents of: a program that read too early, and never again, would not find out that a write was withheld. The
    /// peer has said goodbye, so it is writing nothing.
    pub(crate) async fn check_read(&mut self, region: &MemoryRegion) -> Result<(), SessionError> {
        let units = self.protection.units();
        let mut first = 0;
        while let Some(unit) = self.protection.outdated(first) {
            let mut text = Zeroizing::new(vec![0; usize::try_from(units.text).unwrap_or(usize::MAX)]);
            self.open_local(region, unit * units.text, &mut text, Duration::ZERO).await?;
            first = unit + 1;
            // There may be many of them.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Receives what the peer sent before it said goodbye, unless too much waits for the program.
    pub(crate) async fn hear_out(&mut self, peer: Fragments) -> Result<(), SessionError> {
        let deadline = Instant::now() + self.timeouts.missing;
        while self.fragments().arrived < peer.sent && !self.is_full() {
            self.check()?;
            self.progress_of(peer, deadline).await?;
        }
        Ok(())
    }

    /// Makes progress until `deadline`: fragments that `peer` has counted and that haven't arrived by then are missing.
    async fn progress_of(&mut self, peer: Fragments, deadline: Instant) -> Result<(), SessionError> {
        // An acknowledgement can be forged: what the peer takes for delivered may never have come.
        match by(deadline, self.progress()).await {
            Some(result) => result,
            None => {
                let (sent, arrived) = (peer.sent, self.fragments().arrived);
                let who = "the peer";
                Err(self.poison(SessionError::Truncated { who, sent, arrived }))
            }
        }
    }

    /// Keeps taking what the peer sends, and publishes the counts, until it fails.
    pub(crate) async fn drain(&mut self, count: &watch::Sender<RecordCounts>) -> Infallible {
        loop {
            self.inbox.forget();
            let result = match self.unpark() {
                Ok(()) => self.progress().await,
                Err(error) => Err(error),
            };
            count.send_replace(self.record_counts());
            if result.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// How many fragments were sent, and have arrived.
    fn fragments(&self) -> Fragments {
        self.protection.counts()
    }

    /// Those numbers, with the reason if the data path has failed.
    pub(crate) fn record_counts(&self) -> RecordCounts {
        RecordCounts { fragments: self.fragments(), broken: self.broken.clone() }
    }

    /// Ends all use of this data path because of `reason`, which is returned.
    fn poison(&mut self, reason: SessionError) -> SessionError {
        self.inbox.forget_all();
        self.reads.forget();
        self.broken.get_or_insert(reason).clone()
    }

    fn check(&self) -> Result<(), SessionError> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    // ---- Progress ----

    /// Waits until nothing is outstanding. An operation that was cancelled may have left something.
    pub(crate) async fn settle(&mut self, operation: &'static str) -> Result<(), SessionError> {
        self.begin(operation).await?;
        while self.requests.outstanding() > 0 {
            self.wait(operation).await?;
        }
        self.requests.check()
    }

    fn post(&mut self, request: SendRequest) -> Result<(), SessionError> {
        match self.requests.post(request) {
            // What was sealed and isn't sent would be missed.
            Err(error) => Err(self.unsent(error)),
            posted => posted,
        }
    }

    /// An operation fails because of `reason`, which is returned, perhaps when a part of it has been posted.
    fn done_in_part(&mut self, part: bool, reason: SessionError) -> SessionError {
        if part {
            self.requests.leave_unknown(&reason);
        }
        reason
    }

    /// A request couldn't be posted, because of `reason`, which is returned.
    fn unsent(&mut self, reason: SessionError) -> SessionError {
        if self.protection.numbers_requests() { self.poison(reason) } else { reason }
    }

    /// Takes a free buffer; waits until there is one.
    async fn buffer(&mut self, operation: &'static str) -> Result<Slice, SessionError> {
        self.requests.check()?;
        loop {
            match self.requests.buffers.take() {
                Some(buffer) => return Ok(buffer),
                None => self.wait(operation).await?,
            }
        }
    }

    /// Takes a buffer as soon as at most half of them are posted.
    async fn half_of_the_buffers(&mut self, operation: &'static str) -> Result<Slice, SessionError> {
        loop {
            self.wait(operation).await?;
            if self.requests.outstanding() <= self.requests.buffers.free()
                && let Some(buffer) = self.requests.buffers.take()
            {
                return Ok(buffer);
            }
        }
    }

    /// Waits until a request completes; there has to be one. Boxed, because an operation's future is moved several
    /// times before it begins, and most never sleep.
    async fn wait(&mut self, operation: &'static str) -> Result<(), SessionError> {
        self.requests.check()?;
        Box::pin(async {
            // What the peer sends meanwhile doesn't extend it.
            let limit = self.timeouts.stall;
            let deadline = Instant::now() + limit;
            let before = self.requests.ended();
            while self.requests.ended() == before {
                by(deadline, self.progress())
                    .await
                    .ok_or(SessionError::TimedOut { step: operation, limit })??;
            }
            self.requests.check()
        })
        .await
    }

    /// Waits for completions and takes in what they bring.
    pub(crate) async fn progress(&mut self) -> Result<(), SessionError> {
        // A peer that sends without pause must not keep this thread from its other tasks. Announcements take the
        // longest, and nobody has to take them before the next ones come.
        if core::mem::take(&mut self.announced) {
            tokio::task::yield_now().await;
        } else {
            tokio::task::coop::consume_budget().await;
        }
        self.go_on()?;
        if self.inbox.is_shared() {
            // Room for messages, too, is a reason to go on: there may be no other as long as the peer has to wait.
            tokio::select! {
                biased;
                completions = self.completions.wait(|| self.inbox.is_wanted()) => completions?,
                () = self.inbox.room() => {}
            }
        } else {
            self.completions.wait(|| false).await?;
        }
        self.sort()
    }

    /// Has another task take the messages, where it is returned.
    pub(crate) fn hand_over(&mut self) -> Arc<Handover> {
        let handover = self.inbox.share();
        self.inbox.hand_over();
        handover
    }

    /// Has no other task take them any more.
    pub(crate) fn take_back(&mut self) {
        self.inbox.unshare();
    }

    /// Handles what has arrived, without waiting: no more than there are receive buffers, since the peer may keep
    /// sending.
    fn hear(&mut self) -> Result<(), SessionError> {
        for _ in 0..=self.receives / BATCH {
            let found = self.completions.poll()?;
            self.sort()?;
            if !found {
                break;
            }
        }
        Ok(())
    }

    /// Whether nothing more is received until the application takes something.
    pub(crate) const fn is_full(&self) -> bool {
        self.inbox.is_full()
    }

    /// Handles the completions that were taken.
    fn sort(&mut self) -> Result<(), SessionError> {
        let mut taken = self.completions.take();
        let result = taken.drain(..).try_for_each(|completion| {
            if completion.kind.is_recv() { self.received(completion) } else { self.sent(completion) }
        });
        self.completions.put_back(taken);
        self.inbox.hand_over();
        result?;
        self.go_on()?;
        self.unpark()
    }

    /// Handles the completion of a request of this side's.
    fn sent(&mut self, completion: Completion) -> Result<(), SessionError> {
        let (kind, status) = (completion.kind, completion.status);
        let mut buffer = self.requests.complete(completion)?;
        let read = match kind {
            CompletionKind::Read => {
                self.reads.take(&mut buffer, self.requests.buffers.size(), status, &mut *self.protection)
            }
            _ => Ok(()),
        };
        self.requests.buffers.give_back([buffer]);
        read.map_err(|error| self.poison(error))
    }

    /// Handles a completed receive.
    fn received(&mut self, mut completion: Completion) -> Result<(), SessionError> {
        if completion.status != Status::Success {
            self.inbox.end(completion.status);
            return Ok(());
        }
        if let Err(what) = check_received(&completion) {
            return Err(self.poison(SessionError::Protocol { what }));
        }
        let (len, immediate) = (completion.len as usize, completion.immediate);
        let Some(mut buffer) = completion.slice() else { return Ok(()) };
        let received = Received { buffer: &mut buffer, len, immediate };
        let arrived = self.protection.take(received, &mut self.inbox.partial);
        self.inbox.parked.push(buffer);
        let taken = match arrived {
            Ok(Arrived::Fragment { last }) if self.takes_messages => self.inbox.arrived(last),
            Ok(Arrived::Fragment { .. }) => Err(SessionError::Overstepped { what: "sent a message" }),
            Ok(Arrived::Announcement) => {
                self.announced = true;
                return self.unpark();
            }
            Err(error) => Err(error),
        };
        // What comes after it would be taken for its continuation.
        taken.map_err(|error| self.poison(error))
    }

    /// Posts receive buffers again, unless too much waits to be taken.
    fn unpark(&mut self) -> Result<(), SessionError> {
        if self.is_full() {
            return Ok(());
        }
        while let Some(buffer) = self.inbox.parked.pop() {
            self.requests.post_receive(buffer)?;
        }
        Ok(())
    }
}

/// Unsealed access to any memory of the peer's whose key is known, for tests of what the peer's device refuses.
#[cfg(feature = "testing")]
impl DataPath {
    pub(crate) async fn write_raw(
        &mut self,
        remote: &RemoteRegion,
        offset: u64,
        data: &[u8],
    ) -> Result<(), SessionError> {
        self.begin(WRITE).await?;
        let mut at = offset;
        for piece in data.chunks(self.requests.buffers.size() as usize) {
            let range = remote.range(at, piece.len() as u64)?;
            let mut buffer = self.buffer(WRITE).await?;
            buffer.fill(piece)?;
            self.post(SendRequest::write([buffer], range))?;
            at += piece.len() as u64;
        }
        self.settle(WRITE).await
    }

    pub(crate) async fn read_raw(
        &mut self,
        remote: &RemoteRegion,
        offset: u64,
        len: usize,
    ) -> Result<Zeroizing<Vec<u8>>, SessionError> {
        self.ask(remote, offset, vec![0; len], true).await?;
        self.take_last().await
    }
}

/// The range `place` of the peer's region.
fn within(remote: &RemoteRegion, place: Range<u64>) -> Result<rdma_verbs::RemoteRange, SessionError> {
    Ok(remote.range(place.start, place.end - place.start)?)
}

/// The addresses of `place` in the peer's memory.
fn addresses(remote: &RemoteRegion, place: &Range<u64>) -> Range<u64> {
    remote.addr.wrapping_add(place.start)..remote.addr.wrapping_add(place.end)
}

/// Checks that a SEND has filled the buffer; the error says what else it was. An RDMA WRITE with immediate puts
/// nothing into the buffer of the receive that it completes, which still holds an earlier message.
fn check_received(completion: &Completion) -> Result<(), &'static str> {
    match completion.kind {
        CompletionKind::Recv if completion.invalidated.is_none() => Ok(()),
        CompletionKind::Recv => Err("a SEND with invalidate"),
        _ => Err("an RDMA WRITE with immediate"),
    }
}

/// Runs `future` until `deadline`. The clock is checked even if `future` never waits.
async fn by<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    if Instant::now() >= deadline {
        return None;
    }
    tokio::time::timeout_at(deadline, future).await.ok()
}

/// How many fragments were sent, and have arrived.
#[derive(Clone, Debug)]
pub(crate) struct RecordCounts {
    pub(crate) fragments: Fragments,
    /// Why the data path has failed, if it has.
    pub(crate) broken: Option<SessionError>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdma_verbs::Qpn;

    #[test]
    fn what_is_received_is_a_message_or_a_breach_of_the_protocol() {
        let received = |kind, immediate, invalidated| Completion {
            id: 0,
            qpn: Qpn::new(2).unwrap(),
            status: Status::Success,
            kind,
            len: 10,
            immediate,
            invalidated,
            source: None,
            slices: Default::default(),
            released: Vec::new(),
        };
        let (recv, write) = (CompletionKind::Recv, CompletionKind::RecvWriteImmediate);
        for (completion, is_message) in [
            (received(recv, None, None), true),
            (received(recv, Some(1), None), true),
            (received(recv, None, Some(7)), false),
            (received(write, Some(1), None), false),
            (received(write, None, None), false),
        ] {
            assert_eq!(check_received(&completion).is_ok(), is_message, "{completion:?}");
        }
    }
}
