//! Whether sessions came to what was to come of them.

use crate::ledger::{Attempt, Book, Ended, Entry, Refusal};
use crate::plan::Plan;
use secure_rdma::SessionErrorKind;
use std::collections::BTreeSet;

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Machines that something was done to.
    pub(crate) touched: BTreeSet<usize>,
    /// Machines that were refused memory.
    pub(crate) scarce: BTreeSet<usize>,
    /// Pairs that were parted, the smaller number first.
    pub(crate) parted: BTreeSet<[usize; 2]>,
}

/// Notes what isn't as it should be.
pub(crate) fn judge(book: &mut Book, plan: &Plan, done: &Done) {
    let judge = Judge { book, plan, done };
    let found = book.entries.iter().enumerate().filter_map(|(number, entry)| {
        let result = judge.attempts(number, entry).and_then(|()| judge.session(entry));
        result.err().map(|what| format!("session {number}: {what}"))
    });
    let found: Vec<_> = found.collect();
    book.violations.extend(found);
}

#[derive(Debug)]
struct Judge<'a> {
    book: &'a Book,
    plan: &'a Plan,
    done: &'a Done,
}

impl Judge<'_> {
    /// Whether something was done to one of its ends, or to what is between them.
    fn disturbed(&self, entry: &Entry) -> bool {
        let pair = [entry.client.min(entry.server), entry.client.max(entry.server)];
        self.done.touched.contains(&entry.client)
            || self.done.touched.contains(&entry.server)
            || self.done.parted.contains(&pair)
    }

    /// Whether its client wasn't good for the server, or the server for the client, at some time.
    fn refusable(&self, entry: &Entry, attempt: &Attempt) -> bool {
        attempt.withdrawn_at.is_some()
            || self.book.chronicle.ever_refuses(entry.visitor(attempt), attempt.span())
    }

    /// What came of each try to open it.
    fn attempts(&self, number: usize, entry: &Entry) -> Result<(), String> {
        let disturbed = self.disturbed(entry) || entry.lies;
        for (index, attempt) in entry.attempts.iter().enumerate() {
            let refusable = self.refusable(entry, attempt);
            let no_room = attempt.was_refused_for_room();
            if attempt.failed.is_some() && attempt.opened.is_none() && !(disturbed || refusable || no_room) {
                return Err(format!("nothing was wrong with try {index}, and it wasn't let in"));
            }
            if let Some(refusal) = attempt.refusal {
                self.check_room(number, index, attempt, refusal)?;
            }
            let told = matches!(attempt.failed, Some((SessionErrorKind::Refused, _)));
            if matches!(attempt.refusal, Some(Refusal::Full(_) | Refusal::Quota(_))) && !told && !disturbed {
                return Err(format!("try {index} found no room, and wasn't told so"));
            }
            let client = attempt.failed.clone().map(|(kind, text)| Ended::Failed(kind, text));
            let ends = [(entry.client, client.as_ref()), (entry.server, attempt.server_end.as_ref())];
            for (machine, end) in ends.into_iter().filter_map(|(machine, end)| Some((machine, end?))) {
                let Ended::Failed(kind, text) = end else { continue };
                let known = match kind {
                    SessionErrorKind::Unreachable | SessionErrorKind::TimedOut | SessionErrorKind::Closed => {
                        true
                    }
                    SessionErrorKind::Refused => refusable || no_room || entry.lies,
                    SessionErrorKind::Protocol | SessionErrorKind::NotAuthentic => entry.lies,
                    // Where the memory for it was refused: the other side is told that it's the peer's affair.
                    SessionErrorKind::System => self.done.scarce.contains(&machine),
                    _ => false,
                };
                if !known {
                    return Err(format!("no end that was to be expected: {kind:?}, {text}"));
                }
            }
        }
        Ok(())
    }

    /// Whether there was no room for who was refused for that.
    fn check_room(
        &self,
        number: usize,
        index: usize,
        attempt: &Attempt,
        refusal: Refusal,
    ) -> Result<(), String> {
        let entry = &self.book.entries[number];
        let [from, to] = [attempt.begun, attempt.left.unwrap_or(u64::MAX)];
        let all = self.book.entries.iter().enumerate();
        let others = all.flat_map(|(other, entry)| {
            entry.attempts.iter().enumerate().map(move |(index, attempt)| ((other, index), entry, attempt))
        });
        let others = others.filter(|(own, other, attempt)| {
            let there = attempt.begun <= to && attempt.left.is_none_or(|left| left >= from);
            *own != (number, index) && other.server == entry.server && there
        });
        let seated = |attempt: &Attempt| {
            !matches!(attempt.refusal, Some(Refusal::Full(_) | Refusal::Quota(_) | Refusal::Early))
        };
        let open = self.plan.servers[entry.server].open;
        let is_same = |other: &Entry| match open {
            true => other.client == entry.client,
            false => other.identity == entry.identity,
        };
        let (taken, least) = match refusal {
            Refusal::Full(max) => (others.filter(|(_, _, attempt)| seated(attempt)).count(), max),
            Refusal::Quota(max) => {
                (others.filter(|(_, other, attempt)| is_same(other) && seated(attempt)).count(), max)
            }
            // One source may have half of the places.
            Refusal::Crowded => (others.count(), self.plan.servers[entry.server].room.handshakes.div_ceil(2)),
            Refusal::Early | Refusal::Other => return Ok(()),
        };
        match taken < least {
            true => Err(format!("try {index} found no room ({refusal:?}) beside {taken} others")),
            false => Ok(()),
        }
    }

    /// What came of all of it.
    fn session(&self, entry: &Entry) -> Result<(), String> {
        let Some(client_end) = &entry.client_end else { return Err("its client has no end".into()) };
        let Some(last) = entry.last() else { return Ok(()) };
        let server_end = entry.server_end();
        let (sent, received) = (entry.sent.len(), entry.received);
        let disturbed = self.disturbed(entry) || self.refusable(entry, last) || last.was_refused_for_room();
        if !disturbed && !entry.lies && !entry.rude && entry.server_leaves.is_none() {
            let all = last.opened.is_some() && *client_end == Ended::Well && server_end == Some(&Ended::Well);
            if !all || received != sent {
                return Err("nothing was done to it, and it didn't end well".into());
            }
        }
        if entry.lies || entry.server_leaves.is_some() {
            return Ok(());
        }
        if *client_end == Ended::Well && !entry.rude && (received != sent || last.served.is_none()) {
            return Err(format!("it was closed, and {received} of {sent} messages were received"));
        }
        if server_end == Some(&Ended::Well) && !matches!(client_end, Ended::Well | Ended::Killed) {
            return Err("the server closed it, and its client knows nothing of that".into());
        }
        let acknowledged = entry.acknowledged;
        let closed = matches!(server_end, Some(Ended::Failed(SessionErrorKind::Closed, _)));
        if closed && received < acknowledged {
            return Err(format!("{acknowledged} messages are acknowledged, and {received} were received"));
        }
        Ok(())
    }
}
