//! Messages, cut into fragments and put together again.
//!
//! A message travels as fragments of at most the peer's receive size, each one SEND. So messages of any
//! length fit buffers of any size, and an empty message is one empty fragment.

use super::handover::Handover;
use crate::SessionError;
use rdma_verbs::{Slice, Status};
use std::collections::VecDeque;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// The most bytes of received messages that wait for the application, apart from the longest message. Beyond that
/// nothing is received until the application takes a message, and the peer's sends wait.
pub(super) const INBOX: usize = 1 << 20;

/// What a waiting message counts for beside its bytes, since many short ones take memory too.
const MESSAGE_COST: usize = 64;

/// What a waiting message counts for.
pub(super) fn cost(message: &[u8]) -> usize {
    message.len() + MESSAGE_COST
}

/// Received messages.
pub(super) struct Inbox {
    /// The message whose last fragment hasn't come yet.
    pub(super) partial: Partial,
    messages: VecDeque<Vec<u8>>,
    /// Where another task takes them, if one does. What is there came before all in `messages`.
    handover: Option<Arc<Handover>>,
    /// Bytes in `messages`, and [`MESSAGE_COST`] for each.
    held: usize,
    /// Receive buffers that aren't posted while too much is held.
    pub(super) parked: Vec<Slice>,
    /// The longest message that this side takes.
    limit: usize,
    /// The status with which receiving ended.
    failed: Option<Status>,
}

impl Inbox {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            partial: Partial { text: Vec::new(), previous: 0 },
            messages: VecDeque::new(),
            handover: None,
            held: 0,
            parked: Vec::new(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            failed: None,
        }
    }

    /// Takes the next message, if there is one.
    ///
    /// # Errors
    /// There is none, and receiving has ended.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        if let Some(message) = self.handover.as_ref().and_then(|handover| handover.take()) {
            return Ok(Some(message));
        }
        if let Some(message) = self.messages.pop_front() {
            self.held -= cost(&message);
            return Ok(Some(message));
        }
        match self.failed {
            Some(status) => Err(SessionError::Operation { operation: "receive", status }),
            None => Ok(None),
        }
    }

    /// Records that receiving has ended. `recv` reports it; other operations have completions of their own, which
    /// say more.
    pub(super) fn end(&mut self, status: Status) {
        self.failed.get_or_insert(status);
    }

    /// Handles a fragment whose text is at the end of `partial`; `last` says whether it ends its message.
    ///
    /// # Errors
    /// The message is too long.
    pub(super) fn arrived(&mut self, last: bool) -> Result<(), SessionError> {
        let len = self.partial.text.len();
        if len > self.limit {
            let (len, limit) = (len as u64, self.limit as u64);
            return Err(SessionError::MessageTooLong { len, limit, who: "this side" });
        }
        if last {
            let message = self.partial.finish();
            self.held += cost(&message);
            self.messages.push_back(message);
        }
        Ok(())
    }

    /// From now on another task takes the messages, where it is returned.
    pub(super) fn share(&mut self) -> Arc<Handover> {
        Arc::clone(self.handover.get_or_insert_default())
    }

    /// No other task takes messages any more.
    pub(super) fn unshare(&mut self) {
        let Some(handover) = self.handover.take() else { return };
        let mut before: VecDeque<_> = core::iter::from_fn(|| handover.take()).collect();
        self.held += before.iter().map(|message| cost(message)).sum::<usize>();
        before.append(&mut self.messages);
        self.messages = before;
    }

    /// Hands over what has come to the task that takes it, if there is one and as far as it has room.
    pub(super) fn hand_over(&mut self) {
        let Some(handover) = &self.handover else { return };
        while let Some(message) = self.messages.pop_front() {
            let counted = cost(&message);
            match handover.put(message) {
                Ok(()) => self.held -= counted,
                Err(message) => return self.messages.push_front(message),
            }
        }
    }

    /// Waits until the task that takes messages has room again; for ever if there is none.
    pub(super) async fn room(&self) {
        match &self.handover {
            Some(handover) => handover.room().await,
            None => core::future::pending().await,
        }
    }

    /// Whether the task that works on the session is to let go of it for another.
    pub(super) fn is_wanted(&self) -> bool {
        self.handover.as_ref().is_some_and(|handover| handover.is_wanted())
    }

    /// Whether another task takes messages.
    pub(super) const fn is_shared(&self) -> bool {
        self.handover.is_some()
    }

    /// Whether so much waits to be taken that nothing more is received until the application takes something.
    pub(super) const fn is_full(&self) -> bool {
        self.held > INBOX
    }

    /// Wipes the messages that nobody has taken.
    pub(super) fn forget(&mut self) {
        if let Some(handover) = &self.handover {
            handover.forget();
        }
        self.messages.iter_mut().for_each(Zeroize::zeroize);
        self.messages.clear();
        self.held = 0;
    }

    /// Wipes those, and the message that has come only in part.
    pub(super) fn forget_all(&mut self) {
        self.forget();
        self.partial.text.zeroize();
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.forget_all();
    }
}

/// A message whose last fragment hasn't come yet.
pub(super) struct Partial {
    text: Vec<u8>,
    /// The length of the previous message: the next one is often as long.
    previous: usize,
}

impl Partial {
    /// Makes room for a fragment's `len` bytes, and, unless it is the last one, for as many as the message
    /// will probably take. If the message has to move, its old place is wiped.
    pub(super) fn make_room(&mut self, len: usize, last: bool) {
        let end = self.text.len() + len;
        if end > self.text.capacity() {
            let expected = if last { 0 } else { self.previous };
            self.move_to(end.max(expected).max(2 * self.text.capacity()));
        }
    }

    /// Appends `text`.
    pub(super) fn append(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    /// Appends `len` zeros to be overwritten, and returns them.
    pub(super) fn grow(&mut self, len: usize) -> &mut [u8] {
        let start = self.text.len();
        self.text.resize(start + len, 0);
        &mut self.text[start..]
    }

    /// Takes the whole message.
    fn finish(&mut self) -> Vec<u8> {
        let len = self.text.len();
        if self.text.capacity() > 2 * len {
            // More was expected. A message that waits takes little more memory than it counts for.
            self.move_to(len);
        }
        self.previous = len;
        core::mem::take(&mut self.text)
    }

    /// Moves the message to a place with room for `capacity` bytes, and wipes the old one.
    fn move_to(&mut self, capacity: usize) {
        let mut moved = Vec::with_capacity(capacity);
        moved.extend_from_slice(&self.text);
        // As a slice: of a vector each byte is wiped by itself.
        self.text.as_mut_slice().zeroize();
        self.text = moved;
    }
}

/// Messages to send.
pub(super) struct Outbox {
    /// Bytes of a message in its longest fragment.
    fragment: usize,
    /// The longest message that the peer takes.
    limit: u64,
    /// The rest of a message whose sender was cancelled after some of its fragments had been posted. Its bytes from
    /// `at` on are sent before anything else.
    rest: Zeroizing<Vec<u8>>,
    at: usize,
    /// Whether some fragments of a message were posted while its rest is still with its sender. This stays true if
    /// the sender's future is leaked (`mem::forget`).
    begun: bool,
}

impl Outbox {
    pub(super) fn new(fragment: usize, limit: u64) -> Self {
        Self { fragment, limit, rest: Zeroizing::default(), at: 0, begun: false }
    }

    /// Bytes of text in the longest fragment.
    pub(super) const fn fragment(&self) -> usize {
        self.fragment
    }

    /// The next of `messages`.
    ///
    /// # Errors
    /// It is longer than the peer takes.
    pub(super) fn next_of<'a>(
        &self,
        messages: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<&'a [u8]>, SessionError> {
        match messages.next() {
            Some(message) if message.len() as u64 > self.limit => {
                let (len, limit) = (message.len() as u64, self.limit);
                Err(SessionError::MessageTooLong { len, limit, who: "the peer" })
            }
            next => Ok(next),
        }
    }

    /// Cuts the next fragment off `message`; returns it, and whether it is the last one.
    pub(super) fn cut<'a>(&self, message: &mut &'a [u8]) -> (&'a [u8], bool) {
        let (fragment, rest) = message.split_at(message.len().min(self.fragment));
        *message = rest;
        (fragment, rest.is_empty())
    }

    /// Records whether a message has been posted in part.
    pub(super) fn set_begun(&mut self, begun: bool) {
        self.begun = begun;
    }

    pub(super) const fn is_begun(&self) -> bool {
        self.begun
    }

    /// Keeps `rest`, which isn't empty, of a message that was posted in part: its sender was cancelled.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        self.begun = false;
        self.rest = Zeroizing::new(rest.to_vec());
        self.at = 0;
    }

    /// Whether the rest of a message waits to be posted.
    pub(super) fn has_rest(&self) -> bool {
        self.at < self.rest.len()
    }

    /// The next fragment of that rest, and whether it is the last one. It counts as posted.
    pub(super) fn next_of_rest(&mut self) -> (&[u8], bool) {
        let start = self.at;
        self.at = self.rest.len().min(start + self.fragment);
        (&self.rest[start..self.at], self.at == self.rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_into_fragments_and_an_empty_one_is_one() {
        let outbox = Outbox::new(3, 100);
        for (mut message, expected) in [
            (&b""[..], vec![(&b""[..], true)]),
            (b"abc", vec![(b"abc", true)]),
            (b"abcdefgh", vec![(b"abc", false), (b"def", false), (b"gh", true)]),
        ] {
            let mut found = Vec::new();
            while found.last().is_none_or(|(_, last)| !last) {
                found.push(outbox.cut(&mut message));
            }
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_rest_of_a_message_is_cut_as_the_message_would_have_been() {
        let mut outbox = Outbox::new(3, 100);
        assert!(!outbox.has_rest());
        outbox.set_begun(true);
        outbox.keep(b"defgh");
        assert!(!outbox.is_begun() && outbox.has_rest());
        assert_eq!(outbox.next_of_rest(), (&b"def"[..], false));
        assert!(outbox.has_rest());
        assert_eq!(outbox.next_of_rest(), (&b"gh"[..], true));
        assert!(!outbox.has_rest());
    }

    #[test]
    fn messages_that_are_taken_make_room_and_too_long_ones_are_refused() {
        let mut inbox = Inbox::new(4);
        for _ in 0..2 {
            inbox.partial.make_room(3, true);
            inbox.partial.grow(3).copy_from_slice(b"abc");
            inbox.arrived(true).unwrap();
        }
        assert_eq!(inbox.held, 2 * (3 + MESSAGE_COST));
        assert_eq!(inbox.next().unwrap().unwrap(), b"abc");
        assert_eq!(inbox.next().unwrap().unwrap(), b"abc");
        assert_eq!((inbox.held, inbox.next().unwrap()), (0, None));
        inbox.partial.grow(3);
        inbox.arrived(false).unwrap();
        inbox.partial.grow(2);
        let error = inbox.arrived(false).unwrap_err();
        assert!(matches!(error, SessionError::MessageTooLong { len: 5, limit: 4, .. }), "{error}");
        inbox.end(Status::Flushed);
        assert!(inbox.next().is_err());
    }
}
