//! Queue pairs, whose state, transport and receive queue are part of their type.
//!
//! | module | what it holds |
//! |---|---|
//! | `states` | the states that the type may say; [`kinds`](crate::kinds) has what else it may |
//! | `builder` | making queue pairs |
//! | `connect` | driving them through their states |
//! | `post` | their requests |

mod builder;
mod connect;
mod post;
mod states;

use crate::completion::CompletionQueue;
use crate::domain::ProtectionDomain;
use crate::in_flight::InFlight;
use crate::options::{QueuePairLimits, Snapshot};
use crate::psn::OwnPsn;
use crate::shared_receive_queue::SharedReceiveQueue;
use crate::{Error, provider};
use core::fmt;
use core::marker::PhantomData;
use rocev2::Qpn;
use std::any::Any;
use std::sync::{Arc, OnceLock, Weak};

use crate::kinds::{Connected, Own, Rc, ReceiveQueue, Shared, Transport, Uc, Ud};
pub use builder::QueuePairBuilder;
pub use states::{Draining, Init, QueuePairState, ReadyToReceive, ReadyToSend, Receives, Reset, Sends};

/// A queue pair.
///
/// The type says how far it was driven, which transport it has, and whether its receive queue is its own. An
/// error can end it at any time: its requests then complete with [`crate::Status::Flushed`], and
/// [`Self::query`] says so.
pub struct QueuePair<S: QueuePairState, T: Transport = Rc, R: ReceiveQueue = Own> {
    parts: Parts,
    kind: PhantomData<(S, T, R)>,
}

struct Parts {
    core: Arc<Core>,
    limits: QueuePairLimits,
    signal_all: bool,
    psn: OwnPsn,
}

/// What the device has of a queue pair, and what it needs as long as the device has it.
struct Core {
    /// Destroyed before the slices of its requests are released.
    provider: provider::QueuePair,
    in_flight: Arc<InFlight>,
    /// Send queue, receive queue.
    queues: [Arc<CompletionQueue>; 2],
    /// These outlive the queue pair, as the completion queues do.
    shared: Option<Arc<SharedReceiveQueue>>,
    domain: Arc<ProtectionDomain>,
    /// What its user wants kept as long.
    kept: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// Ends a queue pair's connection from elsewhere than where it is used. It doesn't keep the queue pair.
#[derive(Clone)]
pub struct Breaker(Weak<Core>);

impl Breaker {
    /// Ends the connection as [`QueuePair::fail`] does, from the state that it is in; nothing if the queue
    /// pair is gone.
    pub fn fail(&self) {
        // For as long as this takes, everything that the queue pair needs is kept with it.
        if let Some(core) = self.0.upgrade() {
            core.fail();
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Breaker")
    }
}

impl Core {
    fn qpn(&self) -> Qpn {
        self.provider.qpn()
    }

    fn fail(&self) {
        // ERR can be reached from every state that a queue pair's type may have.
        let _ = self.provider.fail();
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        for queue in &self.queues {
            queue.detach(self.qpn());
        }
    }
}

impl<S: QueuePairState, T: Transport, R: ReceiveQueue> QueuePair<S, T, R> {
    /// Its number.
    #[must_use]
    pub fn qpn(&self) -> Qpn {
        self.parts.core.qpn()
    }

    /// What the device tells of it, its real state among it.
    ///
    /// # Errors
    /// A libibverbs device can't be asked any more.
    pub fn query(&self) -> Result<Snapshot, Error> {
        self.parts.core.provider.query()
    }

    /// Keeps `what` until the device has destroyed the queue pair. Only the first call does.
    pub fn keep(&self, what: Arc<dyn Any + Send + Sync>) {
        let _ = self.parts.core.kept.set(what);
    }

    fn become_state<N: QueuePairState>(self) -> QueuePair<N, T, R> {
        QueuePair { parts: self.parts, kind: PhantomData }
    }
}

impl<S: Receives, T: Transport, R: ReceiveQueue> QueuePair<S, T, R> {
    /// Ends the connection: every request completes with [`crate::Status::Flushed`]. The peer isn't told; it
    /// notices by silence.
    pub fn fail(&mut self) {
        self.parts.core.fail();
    }

    /// What ends the connection from elsewhere: another thread, or whoever isn't allowed to borrow this.
    #[must_use]
    pub fn breaker(&self) -> Breaker {
        Breaker(Arc::downgrade(&self.parts.core))
    }
}

impl<S: QueuePairState, T: Transport, R: ReceiveQueue> fmt::Debug for QueuePair<S, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuePair")
            .field("transport", &T::KIND)
            .field("qpn", &self.qpn())
            .finish_non_exhaustive()
    }
}
