//! READs, of which several may be under way, between writes and messages. What has arrived goes into memory
//! of this side's own as soon as any operation looks: no registered buffer waits for somebody to take what is
//! in it.
//!
//! A reliable connection carries out requests in their order, so a READ finds what was written before it.
//! What comes after a READ isn't held back by it: its data may be fetched late, or once more if the answer
//! was lost. So a write to the same place waits until the data are here; otherwise they could be newer than
//! what was asked for, or older than what this side knows to be there.

use super::protection::{Clear, Protection, Units};
use crate::SessionError;
use core::ops::Range;
use rdma_verbs::{Slice, Status};
use std::collections::VecDeque;
use zeroize::Zeroizing;

/// What was asked for, in this order.
#[derive(Default)]
pub(super) struct Reads {
    queue: VecDeque<Read>,
    /// How many requests were posted, and how many of them have ended.
    posted: u64,
    ended: u64,
}

/// Bytes that were asked for, in one request or several.
struct Read {
    /// Which bytes.
    bytes: Range<u64>,
    /// How they are packed.
    units: Units,
    /// Whether they are taken as they are, whatever protects the session.
    raw: bool,
    /// Where they are in the peer's memory.
    addresses: Range<u64>,
    /// Room for them; the first `here` are there.
    text: Zeroizing<Vec<u8>>,
    here: usize,
    /// Its requests are those behind so many.
    from: u64,
    /// It is done when so many requests have ended.
    until: u64,
    whose: Whose,
    /// What became of a request that failed.
    failed: Option<Status>,
}

/// Who takes what was read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The operation that is under way. Where another one begins, whatever it does, this one was cancelled.
    Operation,
    /// The program, when it asks for the next one.
    Program,
    Nobody,
}

/// The oldest of what a program has asked for.
pub(super) enum Oldest {
    None,
    /// It is here when so many requests have ended.
    Coming(u64),
    Here(Result<Vec<u8>, SessionError>),
}

impl Reads {
    /// Wipes what nobody has taken; what is still on its way won't be looked at.
    pub(super) fn forget(&mut self) {
        self.queue.clear();
    }

    /// A new operation begins, whatever it does: one that was cancelled takes nothing any more.
    pub(super) fn begin(&mut self) {
        let Some(read) = self.queue.back_mut().filter(|read| read.whose == Whose::Operation) else { return };
        read.whose = Whose::Nobody;
        read.text = Zeroizing::default();
        if read.until <= self.ended || read.until == read.from {
            self.queue.pop_back();
        }
    }

    /// How many requests were posted, and how many have ended.
    pub(super) const fn posted(&self) -> u64 {
        self.posted
    }

    pub(super) const fn ended(&self) -> u64 {
        self.ended
    }

    /// How many requests have to end before the last byte of `addresses` is here that was asked for.
    pub(super) fn before(&self, addresses: &Range<u64>) -> u64 {
        let under_way = self.queue.iter().rev().take_while(|read| read.until > self.ended);
        let overlaps =
            |read: &&Read| read.addresses.start < addresses.end && addresses.start < read.addresses.end;
        under_way.filter(overlaps).map(|read| read.until).next().unwrap_or(0)
    }

    /// The operation that is under way asks for the bytes from `offset` on that `text` has room for, which are packed
    /// like that, and are at those addresses.
    pub(super) fn ask(&mut self, offset: u64, text: Vec<u8>, units: Units, raw: bool, addresses: Range<u64>) {
        self.queue.push_back(Read {
            bytes: offset..offset.saturating_add(text.len() as u64),
            units,
            raw,
            addresses,
            text: Zeroizing::new(text),
            here: 0,
            from: self.posted,
            until: self.posted,
            whose: Whose::Operation,
            failed: None,
        });
    }

    /// One more request of what was asked for last was posted.
    pub(super) fn request_posted(&mut self) {
        self.posted += 1;
        if let Some(read) = self.queue.back_mut() {
            read.until = self.posted;
        }
    }

    /// Whether what was asked for last is still wanted: a data path that has failed meanwhile has forgotten it.
    pub(super) fn is_wanted(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What was asked for last is for the program to take, with [`oldest`](Self::oldest).
    pub(super) fn leave_to_program(&mut self) {
        if let Some(read) = self.queue.back_mut() {
            read.whose = Whose::Program;
        }
    }

    /// What was asked for last, if it is here.
    pub(super) fn take_last(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        self.queue.pop_back().map(|mut read| core::mem::take(&mut read.text))
    }

    /// The oldest of what the program has asked for.
    pub(super) fn oldest(&mut self) -> Oldest {
        let Some(at) = self.queue.iter().position(|read| read.whose == Whose::Program) else {
            return Oldest::None;
        };
        match self.queue.get(at).map(|read| read.until) {
            Some(until) if until > self.ended => return Oldest::Coming(until),
            _ => {}
        }
        let Some(mut read) = self.queue.remove(at) else { return Oldest::None };
        Oldest::Here(match read.failed {
            Some(status) => Err(SessionError::Operation { operation: super::READ, status }),
            None => Ok(core::mem::take(&mut *read.text)),
        })
    }

    /// A request has ended; `buffer`, of `size` bytes as all are, holds what has come.
    ///
    /// # Errors
    /// It isn't authentic.
    pub(super) fn take(
        &mut self,
        buffer: &mut Slice,
        size: u32,
        status: Status,
        protection: &mut dyn Protection,
    ) -> Result<(), SessionError> {
        let number = self.ended;
        self.ended += 1;
        // They end in their order.
        let at = self.queue.partition_point(|read| read.until <= number);
        let Some(read) = self.queue.get_mut(at) else { return Ok(()) };
        if read.whose == Whose::Nobody {
            if read.until == self.ended {
                self.queue.remove(at);
            }
            return Ok(());
        }
        if status != Status::Success {
            read.failed.get_or_insert(status);
            return Ok(());
        }
        match read.raw {
            true => read.take(buffer, size, &mut Clear::default()),
            false => read.take(buffer, size, protection),
        }
    }
}

impl Read {
    /// Takes the next part, which is in `buffer`.
    fn take(
        &mut self,
        buffer: &mut Slice,
        size: u32,
        protection: &mut dyn Protection,
    ) -> Result<(), SessionError> {
        let at = self.bytes.start + self.here as u64;
        let part = self.units.part(&(at..self.bytes.end), size);
        let end = self.here + usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
        let Some(out) = self.text.get_mut(self.here..end) else { return Err(SessionError::Closed) };
        protection.get(buffer, at, out)?;
        self.here = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(reads: &mut Reads, requests: u64, whose: Whose) {
        reads.ask(0, vec![0], Units::PLAIN, false, 0..1);
        for _ in 0..requests {
            reads.request_posted();
        }
        if whose == Whose::Program {
            reads.leave_to_program();
        }
    }

    #[test]
    fn of_a_cancelled_read_nothing_stays_when_the_next_operation_begins() {
        let mut reads = Reads::default();
        asked(&mut reads, 1, Whose::Program);
        for requests in [0, 1, 0] {
            asked(&mut reads, requests, Whose::Operation);
            reads.begin();
            reads.begin();
            assert!(reads.queue.iter().skip(1).all(|read| read.text.is_empty()));
        }
        assert_eq!(reads.queue.len(), 2, "what the program wants, and what is still on its way");
        reads.ended = reads.posted;
        asked(&mut reads, 0, Whose::Operation);
        reads.begin();
        assert_eq!(reads.queue.front().map(|read| read.text.len()), Some(1));
    }
}
