//! Who is listened for, and the bounds on what peers begin.

use std::collections::BTreeMap;

use super::error::Refusal;
use super::{Config, Error};
use crate::Gid;

/// A service that is listened on, at one address or at all.
pub(super) type Listening = (u64, Option<Gid>);

/// The listeners, and how many requests wait at each and from each source.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    listeners: BTreeMap<Listening, Listener>,
    sources: BTreeMap<Gid, usize>,
    half_open: usize,
}

#[derive(Debug)]
struct Listener {
    backlog: usize,
    waiting: usize,
}

impl Listeners {
    pub(super) fn listen(&mut self, listening: Listening, backlog: usize) -> Result<(), Error> {
        if self.listeners.contains_key(&listening) {
            return Err(Error::InUse);
        }
        self.listeners.insert(listening, Listener { backlog, waiting: 0 });
        Ok(())
    }

    pub(super) fn close(&mut self, listening: Listening) -> Result<(), Error> {
        self.listeners.remove(&listening).map(|_| ()).ok_or(Error::UnknownId)
    }

    /// The listener for a request to that address: one there, or else one at all addresses.
    pub(super) fn find(&self, service_id: u64, address: Gid) -> Option<Listening> {
        [(service_id, Some(address)), (service_id, None)]
            .into_iter()
            .find(|listening| self.listeners.contains_key(listening))
    }

    /// Whether there is room for one more request.
    pub(super) fn room(&self, listening: Listening, source: Gid, config: &Config) -> Result<(), Refusal> {
        let listener = self.listeners.get(&listening).ok_or(Refusal::NoListener)?;
        if listener.waiting >= listener.backlog {
            return Err(Refusal::Backlog);
        }
        let of_source = self.sources.get(&source).copied().unwrap_or_default();
        if self.half_open >= config.max_half_open || of_source >= config.max_half_open_per_source {
            return Err(Refusal::NoRoom);
        }
        Ok(())
    }

    /// A request waits for the caller.
    pub(super) fn add_waiting(&mut self, listening: Listening) {
        if let Some(listener) = self.listeners.get_mut(&listening) {
            listener.waiting += 1;
        }
    }

    /// A request waits no more. Its listener may have been closed, and even opened again.
    pub(super) fn remove_waiting(&mut self, listening: Listening) {
        if let Some(listener) = self.listeners.get_mut(&listening) {
            listener.waiting = listener.waiting.saturating_sub(1);
        }
    }

    /// A peer's beginning.
    pub(super) fn add_half_open(&mut self, source: Gid) {
        self.half_open += 1;
        *self.sources.entry(source).or_default() += 1;
    }

    /// It is established, or gone.
    pub(super) fn remove_half_open(&mut self, source: Gid) {
        self.half_open = self.half_open.saturating_sub(1);
        if let Some(count) = self.sources.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }

    /// How many peers' beginnings there are.
    pub(super) const fn half_open(&self) -> usize {
        self.half_open
    }

    /// Whether nothing is counted.
    pub(super) fn is_idle(&self) -> bool {
        self.half_open == 0
            && self.sources.is_empty()
            && self.listeners.values().all(|listener| listener.waiting == 0)
    }
}
