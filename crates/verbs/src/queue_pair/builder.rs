//! Making queue pairs.

use super::{Core, Own, Parts, QueuePair, Rc, ReceiveQueue, Reset, Shared, Transport, Uc, Ud};
use crate::Error;
use crate::completion::CompletionQueue;
use crate::domain::ProtectionDomain;
use crate::in_flight::InFlight;
use crate::options::{QueuePairLimits, TransportKind};
use crate::provider::QueuePairOptions;
use crate::psn::OwnPsn;
use crate::shared_receive_queue::SharedReceiveQueue;
use core::fmt;
use core::marker::PhantomData;
use std::sync::{Arc, OnceLock};

/// What a queue pair is to be, with defaults for what isn't said: [`QueuePair::builder`].
pub struct QueuePairBuilder<T: Transport = Rc, R: ReceiveQueue = Own> {
    domain: Arc<ProtectionDomain>,
    send_queue: Arc<CompletionQueue>,
    recv_queue: Arc<CompletionQueue>,
    shared: Option<Arc<SharedReceiveQueue>>,
    limits: QueuePairLimits,
    signal_all: bool,
    psn: Option<OwnPsn>,
    kind: PhantomData<(T, R)>,
}

impl QueuePair<Reset> {
    /// A queue pair of a reliable connection, unless another transport is chosen, whose requests complete in
    /// `queue`.
    #[must_use]
    pub fn builder(domain: &Arc<ProtectionDomain>, queue: &Arc<CompletionQueue>) -> QueuePairBuilder {
        QueuePairBuilder {
            domain: Arc::clone(domain),
            send_queue: Arc::clone(queue),
            recv_queue: Arc::clone(queue),
            shared: None,
            limits: QueuePairLimits::default(),
            signal_all: false,
            psn: None,
            kind: PhantomData,
        }
    }
}

impl<R: ReceiveQueue> QueuePairBuilder<Rc, R> {
    /// An unreliable connection.
    #[must_use]
    pub fn uc(self) -> QueuePairBuilder<Uc, R> {
        self.become_kind()
    }

    /// Unreliable datagrams.
    #[must_use]
    pub fn ud(self) -> QueuePairBuilder<Ud, R> {
        self.become_kind()
    }
}

impl<T: Transport> QueuePairBuilder<T> {
    /// Messages are received by the requests of `queue`.
    #[must_use]
    pub fn shared_receive_queue(self, queue: &Arc<SharedReceiveQueue>) -> QueuePairBuilder<T, Shared> {
        QueuePairBuilder { shared: Some(Arc::clone(queue)), ..self.become_kind() }
    }
}

impl<T: Transport, R: ReceiveQueue> QueuePairBuilder<T, R> {
    /// Receive requests complete in a queue of their own.
    #[must_use]
    pub fn recv_queue(mut self, queue: &Arc<CompletionQueue>) -> Self {
        self.recv_queue = Arc::clone(queue);
        self
    }

    /// How much is to fit.
    #[must_use]
    pub fn limits(mut self, limits: QueuePairLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Every send request is reported, [`unsignaled`](crate::SendRequest::unsignaled) or not (`sq_sig_all`).
    #[must_use]
    pub fn signal_all(mut self) -> Self {
        self.signal_all = true;
        self
    }

    /// The first PSN that the queue pair sends; a random one otherwise.
    #[must_use]
    pub fn psn(mut self, psn: OwnPsn) -> Self {
        self.psn = Some(psn);
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// The device hasn't this transport, the limits are more than it has, or something belongs to another
    /// device.
    pub fn build(self) -> Result<QueuePair<Reset, T, R>, Error> {
        let psn = self.psn.map_or_else(OwnPsn::random, Ok)?;
        let receives = self.shared.as_ref().map_or_else(Arc::default, |shared| Arc::clone(shared.receives()));
        let in_flight = Arc::new(InFlight::new(receives, T::KIND == TransportKind::Ud));
        let options = QueuePairOptions {
            transport: T::KIND,
            queues: [self.send_queue.provider(), self.recv_queue.provider()],
            shared: self.shared.as_ref().map(|shared| shared.provider()),
            limits: self.limits,
            signal_all: self.signal_all,
        };
        let kept = Arc::clone(&in_flight);
        let provider = self.domain.provider().queue_pair(&options, kept)?;
        let queues = [self.send_queue, self.recv_queue];
        let (shared, domain, kept) = (self.shared, self.domain, OnceLock::new());
        let core = Arc::new(Core { provider, in_flight, queues, shared, domain, kept });
        for queue in &core.queues {
            queue.attach(core.qpn(), &core.in_flight);
        }
        if core.shared.is_some() {
            core.queues[1].attach_shared(core.in_flight.receives());
        }
        let (limits, signal_all) = (self.limits, self.signal_all);
        Ok(QueuePair { parts: Parts { core, limits, signal_all, psn }, kind: PhantomData })
    }

    fn become_kind<U: Transport, Q: ReceiveQueue>(self) -> QueuePairBuilder<U, Q> {
        let Self { domain, send_queue, recv_queue, shared, limits, signal_all, psn, kind: _ } = self;
        let kind = PhantomData;
        QueuePairBuilder { domain, send_queue, recv_queue, shared, limits, signal_all, psn, kind }
    }
}

impl<T: Transport, R: ReceiveQueue> fmt::Debug for QueuePairBuilder<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuePairBuilder").field("transport", &T::KIND).finish_non_exhaustive()
    }
}

impl ProtectionDomain {
    /// A queue pair of a reliable connection.
    ///
    /// # Errors
    /// The limits are more than the device has, or a queue is another device's.
    pub fn queue_pair(
        self: &Arc<Self>,
        send_queue: &Arc<CompletionQueue>,
        recv_queue: &Arc<CompletionQueue>,
        limits: QueuePairLimits,
    ) -> Result<QueuePair<Reset>, Error> {
        QueuePair::builder(self, send_queue).recv_queue(recv_queue).limits(limits).build()
    }
}
