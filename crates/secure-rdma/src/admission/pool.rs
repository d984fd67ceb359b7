//! Places for handshakes that are tasks.

use super::handshakes::{Handshakes, Limits};
use super::source::Source;
use core::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Places for handshakes.
pub(crate) struct Pool {
    handshakes: Mutex<Handshakes<oneshot::Sender<()>>>,
}

/// A handshake's place; it is free again when this is dropped.
pub(crate) struct Place {
    pool: Arc<Pool>,
    number: u64,
}

/// Comes when a handshake has lost its place to another.
pub(crate) struct Dismissal(oneshot::Receiver<()>);

impl Pool {
    /// So many places.
    pub(crate) fn new(total: usize) -> Self {
        Self { handshakes: Mutex::new(Handshakes::new(Limits::of(total))) }
    }

    /// A place for a handshake with `source`: there always is one, and somebody may lose theirs for it.
    pub(crate) fn enter(self: &Arc<Self>, source: &Source) -> (Place, Dismissal) {
        let (sender, receiver) = oneshot::channel();
        // Those that are dropped are told outside of the lock: by dropping their senders.
        let (number, _dropped) = self.handshakes().admit(source, sender);
        (Place { pool: Arc::clone(self), number }, Dismissal(receiver))
    }

    /// Takes the place of the handshake that would be the next to lose it. False if there is none.
    pub(crate) fn shed(&self) -> bool {
        let dropped = self.handshakes().shed();
        dropped.is_some()
    }

    /// How many places are taken.
    #[cfg(feature = "testing")]
    pub(crate) fn taken(&self) -> usize {
        self.handshakes().len()
    }

    fn handshakes(&self) -> MutexGuard<'_, Handshakes<oneshot::Sender<()>>> {
        self.handshakes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The peer has sent its first bytes.
    pub(crate) fn spoken(&self) {
        self.pool.handshakes().spoken(self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.handshakes().leave(self.number);
    }
}

impl Dismissal {
    /// Waits until the place is lost.
    pub(crate) async fn lost(&mut self) {
        // Nothing is ever sent: the sender is dropped.
        let _ = (&mut self.0).await;
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn source(address: &str) -> Source {
        Source::of(address.parse::<IpAddr>().unwrap())
    }

    #[tokio::test]
    async fn who_loses_its_place_is_told_and_who_keeps_it_is_not() {
        let pool = Arc::new(Pool::new(4));
        let (honest, mut kept) = pool.enter(&source("10.0.0.1"));
        let mut others: Vec<_> = (0..10).map(|_| pool.enter(&source("10.0.0.2"))).collect();
        for (_, dismissal) in &mut others[..8] {
            dismissal.lost().await;
        }
        let still = |dismissal: &mut Dismissal| {
            matches!(dismissal.0.try_recv(), Err(oneshot::error::TryRecvError::Empty))
        };
        assert!(still(&mut kept) && others[8..].iter_mut().all(|(_, dismissal)| still(dismissal)));
        drop(others);
        drop(honest);
        assert!(!pool.shed());
    }
}
