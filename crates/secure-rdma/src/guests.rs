//! The open sessions of a server, so that they can be judged again when its rules change.

use crate::SessionError;
use crate::admission::Source;
use crate::certs::Timestamp;
use crate::control::Access;
use crate::session::AbortHandle;
use crate::tls::{Shown, Vetting};
use core::fmt;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What a client may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) operations: Access,
    /// Bytes of its region.
    pub(crate) region: u64,
}

impl Grant {
    /// What `client` may have by these rules, of `most`, what the server has to give.
    ///
    /// # Errors
    /// It isn't on the list of allowed clients.
    pub(crate) fn of(client: &Shown, rules: &Vetting, most: Self) -> Result<Self, SessionError> {
        let Some(list) = &rules.allowed else { return Ok(most) };
        let entry = client.fingerprint.as_ref().and_then(|own| list.find(&client.names, own));
        let entry = entry.ok_or_else(|| SessionError::NotListed {
            names: client.names.clone(),
            fingerprint: client.fingerprint,
        })?;
        let operations = entry.operations & most.operations;
        // A region has a byte at least; whoever may neither write nor read it needs no more.
        let reaches = operations & (Access::READ | Access::WRITE) != Access::NONE;
        let region = if reaches { entry.region.unwrap_or(most.region).min(most.region) } else { 1 };
        Ok(Self { operations, region })
    }

    /// Whom a session of `client`'s is counted for, who comes from `address`, and how many it may have by these
    /// rules, if they say so.
    pub(crate) fn counted(client: &Shown, rules: &Vetting, address: IpAddr) -> (Source, Option<usize>) {
        let Some(fingerprint) = &client.fingerprint else { return (Source::of(address), None) };
        if let Some(entry) = rules.allowed.as_ref().and_then(|list| list.find(&client.names, fingerprint)) {
            return (Source::Identity(entry.identity.to_string()), entry.sessions);
        }
        // Who has several certificates with the same names is one client all the same.
        let names: Vec<_> = client.names.names().iter().map(ToString::to_string).collect();
        let name = if names.is_empty() { fingerprint.to_string() } else { names.join(", ") };
        (Source::Identity(name), None)
    }

    /// Whether `client`, who has this, would be let in by these rules too, and have as much.
    ///
    /// # Errors
    /// It would not: [`SessionError::Withdrawn`].
    pub(crate) fn holds(self, client: &Shown, rules: &Vetting, most: Self) -> Result<(), SessionError> {
        let judge = || {
            rules.check(client).map_err(Arc::new)?;
            let now = Self::of(client, rules, most)?;
            match now.covers(self) {
                true => Ok(()),
                false => Err(SessionError::Curtailed { had: self.to_string(), now: now.to_string() }),
            }
        };
        judge().map_err(|reason: SessionError| SessionError::Withdrawn(reason.into()))
    }

    /// Whether everything in `other` is in this too.
    fn covers(self, other: Self) -> bool {
        self.operations.allows(other.operations) && self.region >= other.region
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, a region of {} bytes", self.operations, self.region)
    }
}

/// Those who are there.
#[derive(Default)]
pub(crate) struct Guests(Mutex<Book>);

#[derive(Default)]
struct Book {
    next: u64,
    /// The oldest first.
    present: BTreeMap<u64, Present>,
}

struct Present {
    shown: Shown,
    grant: Grant,
    handle: AbortHandle,
    since: Instant,
}

/// A session's entry; crossed out when it is dropped.
pub(crate) struct Guest {
    guests: Arc<Guests>,
    number: u64,
}

impl Guests {
    /// Enters a session.
    pub(crate) fn enter(self: &Arc<Self>, shown: Shown, grant: Grant, handle: AbortHandle) -> Guest {
        let mut book = self.book();
        let number = book.next;
        book.next += 1;
        book.present.insert(number, Present { shown, grant, handle, since: Instant::now() });
        Guest { guests: Arc::clone(self), number }
    }

    /// Ends the session of whoever would not be let in by `rules`, or not to do as much; returns how many that are.
    pub(crate) fn judge(&self, rules: &Vetting, most: Grant) -> usize {
        self.end(|present| present.grant.holds(&present.shown, rules, most).err())
    }

    /// Ends the sessions that are older than `age`.
    pub(crate) fn retire(&self, age: Duration) {
        self.end(|present| (present.since.elapsed() > age).then_some(SessionError::Retired(age)));
    }

    /// How many are there.
    #[cfg(feature = "testing")]
    pub(crate) fn present(&self) -> usize {
        self.book().present.len()
    }

    /// Whether the certificate of somebody present has ended by `now`.
    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        self.book().present.values().any(|present| present.shown.not_after.is_some_and(|end| end < now))
    }

    /// Ends the session of each for whom there is a reason to; returns how many that are.
    fn end(&self, reason: impl Fn(&Present) -> Option<SessionError>) -> usize {
        let mut book = self.book();
        let before = book.present.len();
        // Once is enough, also if their sessions stay for a while.
        book.present.retain(|_, present| match reason(present) {
            None => true,
            Some(reason) => {
                present.handle.abort(reason);
                false
            }
        });
        before - book.present.len()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.book().present.remove(&self.number);
    }
}
