//! How many sessions there may be.

use super::source::{Block, Source};
use crate::SessionError;
use core::fmt;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many of a server's sessions one client may have, so that it leaves some to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionQuota {
    /// Of one identity: a client with a certificate, unless its entry in the allow-list has `sessions`. A
    /// quarter of all without, four at least; the server's own account, whose certificate names only the server's
    /// host, may then have all.
    pub per_identity: Option<usize>,
    /// Of one address without a certificate: an IPv4 address, or an IPv6 /64; a /48 may have twice as many. A
    /// quarter of all without, sixteen at least; loopback addresses may then have all.
    pub per_address: Option<usize>,
}

impl SessionQuota {
    /// One client may have them all.
    pub const UNLIMITED: Self = Self { per_identity: Some(usize::MAX), per_address: Some(usize::MAX) };
}

/// The sessions of a server, counted.
pub(crate) struct Sessions {
    max: usize,
    quota: SessionQuota,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    sources: HashMap<Source, usize>,
    blocks: HashMap<Block, usize>,
}

/// A session's seat; free again when this is dropped.
pub(crate) struct Seat {
    sessions: Arc<Sessions>,
    source: Source,
}

impl Sessions {
    pub(crate) fn new(max: usize, quota: SessionQuota) -> Self {
        Self { max, quota, taken: Mutex::default() }
    }

    /// A seat for a client that comes from `source`, which may have `own` sessions if anything says so.
    ///
    /// # Errors
    /// [`SessionError::Full`] if there are as many as there may be in all, [`SessionError::Quota`] if there are of it.
    pub(crate) fn take(self: &Arc<Self>, source: Source, own: Option<usize>) -> Result<Seat, SessionError> {
        let block = source.block();
        let max = own.unwrap_or_else(|| self.share(&source));
        let quota = |max| SessionError::Quota { client: source.to_string(), max };
        let mut taken = self.taken();
        if count(&taken.sources, &source) >= max {
            return Err(quota(max));
        }
        let block_max = max.saturating_mul(2);
        if matches!(block, Block::V6(_)) && count(&taken.blocks, &block) >= block_max {
            return Err(quota(block_max));
        }
        if taken.all >= self.max {
            return Err(SessionError::Full { max: self.max });
        }
        taken.all += 1;
        *taken.sources.entry(source.clone()).or_default() += 1;
        *taken.blocks.entry(block).or_default() += 1;
        drop(taken);
        Ok(Seat { sessions: Arc::clone(self), source })
    }

    /// How many sessions `source` may have if nothing is said of it in particular.
    fn share(&self, source: &Source) -> usize {
        let quarter = self.max / 4;
        match source {
            Source::Identity(_) => self.quota.per_identity.unwrap_or_else(|| quarter.max(4)),
            _ if self.quota.per_address.is_none() && source.is_loopback() => usize::MAX,
            _ => self.quota.per_address.unwrap_or_else(|| quarter.max(16)),
        }
    }

    /// How many there are.
    #[cfg(feature = "testing")]
    pub(crate) fn open(&self) -> usize {
        self.taken().all
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.sessions.taken();
        taken.all -= 1;
        give_back(&mut taken.sources, &self.source);
        give_back(&mut taken.blocks, &self.source.block());
    }
}

fn count<K: Hash + Eq>(counts: &HashMap<K, usize>, key: &K) -> usize {
    counts.get(key).copied().unwrap_or_default()
}

fn give_back<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("max", &self.max).field("quota", &self.quota).finish_non_exhaustive()
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("source", &self.source).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn address(address: &str) -> Source {
        Source::of(address.parse::<IpAddr>().unwrap())
    }

    fn identity(name: &str) -> Source {
        Source::Identity(name.into())
    }

    /// How many seats it gets, which it keeps.
    fn greedy(sessions: &Arc<Sessions>, source: &Source, own: Option<usize>) -> (Vec<Seat>, SessionError) {
        let mut seats = Vec::new();
        loop {
            match sessions.take(source.clone(), own) {
                Ok(seat) => seats.push(seat),
                Err(error) => return (seats, error),
            }
        }
    }

    #[test]
    fn one_client_has_its_share_and_the_others_find_room() {
        for source in [identity("dns:greedy"), address("10.0.0.1"), address("2001:db8::1")] {
            let sessions = Arc::new(Sessions::new(100, SessionQuota::default()));
            let (seats, error) = greedy(&sessions, &source, None);
            assert_eq!(seats.len(), 25, "{source}");
            assert!(matches!(error, SessionError::Quota { max: 25, .. }), "{error}");
            sessions.take(identity("dns:modest"), None).unwrap();
            sessions.take(address("10.0.0.2"), None).unwrap();
            drop(seats);
            sessions.take(source, None).unwrap();
        }
    }

    #[test]
    fn a_site_has_twice_what_a_network_of_its_own_has() {
        let sessions = Arc::new(Sessions::new(100, SessionQuota::default()));
        let nets = ["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:1:4::1"];
        let seats = nets.map(|net| greedy(&sessions, &address(net), None).0);
        assert_eq!(seats.each_ref().map(Vec::len), [25, 25, 0, 0]);
        sessions.take(address("2001:db8:2:1::1"), None).unwrap();
    }

    #[test]
    fn an_entry_of_its_own_and_the_servers_options_go_before_the_usual_share() {
        let sessions = Arc::new(Sessions::new(100, SessionQuota::default()));
        assert_eq!(greedy(&sessions, &identity("dns:a"), Some(2)).0.len(), 2);
        assert_eq!(greedy(&sessions, &identity("dns:b"), Some(60)).0.len(), 60);
        let quota = SessionQuota { per_identity: Some(3), per_address: Some(5) };
        let sessions = Arc::new(Sessions::new(100, quota));
        assert_eq!(greedy(&sessions, &identity("dns:a"), None).0.len(), 3);
        assert_eq!(greedy(&sessions, &address("127.0.0.1"), None).0.len(), 5);
    }

    #[test]
    fn this_machine_may_have_them_all_unless_told_otherwise_and_nobody_more() {
        for source in ["127.0.0.1", "::1"] {
            let sessions = Arc::new(Sessions::new(100, SessionQuota::default()));
            let (seats, error) = greedy(&sessions, &address(source), None);
            assert_eq!(seats.len(), 100);
            assert!(matches!(error, SessionError::Full { max: 100 }), "{error}");
        }
    }

    #[test]
    fn of_few_seats_a_client_may_have_some() {
        let sessions = Arc::new(Sessions::new(10, SessionQuota::default()));
        assert_eq!(greedy(&sessions, &identity("dns:a"), None).0.len(), 4);
        assert_eq!(greedy(&sessions, &address("10.0.0.1"), None).0.len(), 10);
    }

    #[test]
    fn nothing_is_kept_of_who_has_left() {
        let sessions = Arc::new(Sessions::new(10, SessionQuota::default()));
        drop(
            (0..10)
                .map(|n| sessions.take(address(&format!("10.0.0.{n}")), None).unwrap())
                .collect::<Vec<_>>(),
        );
        let taken = sessions.taken();
        assert_eq!((taken.all, taken.sources.len(), taken.blocks.len()), (0, 0, 0));
    }
}
