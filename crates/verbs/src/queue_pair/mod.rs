//! Queue pairs, whose state is part of their type.

mod states;

use crate::completion::CompletionQueue;
use crate::domain::ProtectionDomain;
use crate::in_flight::InFlight;
use crate::options::{Peer, QueuePairLimits, ReceiveOptions, SendOptions, Snapshot};
use crate::provider::{self, PreparedSend, Work};
use crate::psn::OwnPsn;
use crate::request::{Kept, RecvRequest, SendRequest};
use crate::{Error, PostError, PostReason};
use core::fmt;
use core::marker::PhantomData;
use rocev2::Qpn;
use rocev2::work::{self, PeerRights, SendAttributes};
use std::sync::{Arc, Weak};

pub use states::{Draining, Init, QueuePairState, ReadyToReceive, ReadyToSend, Receives, Reset, Sends};

/// A queue pair of a reliable connection.
///
/// The type says how far it was driven. An error can end it at any time: its requests then complete with
/// [`crate::Status::Flushed`], and [`Self::query`] says so.
pub struct QueuePair<S: QueuePairState> {
    parts: Parts,
    state: PhantomData<S>,
}

struct Parts {
    core: Arc<Core>,
    limits: QueuePairLimits,
}

/// What the device has of a queue pair, and what it needs as long as the device has it.
struct Core {
    /// Destroyed before the slices of its requests are released.
    provider: provider::QueuePair,
    in_flight: Arc<InFlight>,
    /// Send queue, receive queue.
    queues: [Arc<CompletionQueue>; 2],
    /// Outlives the queue pair, as the completion queues do.
    _domain: Arc<ProtectionDomain>,
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

    /// The request as the device takes it.
    fn prepare(&self, work: Work, kept: &Kept) -> Result<PreparedSend, PostReason> {
        let elements = kept.slices.iter().map(|slice| slice.element(slice.len()));
        self.provider.prepare_send(work, elements)
    }

    /// The request that was kept last wasn't taken. Posting borrows the queue pair alone: no other was kept since.
    fn refused(&self, reason: PostReason) -> PostError {
        PostError { reason, slices: self.in_flight.sends().take_back() }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        for queue in &self.queues {
            queue.detach(self.qpn());
        }
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
        let in_flight = Arc::new(InFlight::new(Arc::default()));
        let provided = [send_queue, recv_queue].map(|queue| queue.provider());
        let kept = Arc::clone(&in_flight);
        let provider = self.provider().queue_pair(provided, &limits, kept)?;
        let queues = [send_queue, recv_queue].map(Arc::clone);
        let core = Arc::new(Core { provider, in_flight, queues, _domain: Arc::clone(self) });
        for queue in &core.queues {
            queue.attach(core.qpn(), &core.in_flight);
        }
        Ok(QueuePair { parts: Parts { core, limits }, state: PhantomData })
    }
}

impl QueuePair<Reset> {
    /// RESET → INIT; `rights` is what the peer may do, where its keys allow it too.
    ///
    /// # Errors
    /// The device refused.
    pub fn init(self, rights: PeerRights) -> Result<QueuePair<Init>, Error> {
        self.parts.core.provider.init(rights)?;
        Ok(self.become_state())
    }
}

impl QueuePair<Init> {
    /// INIT → RTR, towards `peer`.
    ///
    /// # Errors
    /// There is no path to the peer, or an option is out of range.
    pub fn ready_to_receive(
        self,
        peer: &Peer,
        options: &ReceiveOptions,
    ) -> Result<QueuePair<ReadyToReceive>, Error> {
        self.parts.core.provider.ready_to_receive(peer, options)?;
        Ok(self.become_state())
    }
}

impl QueuePair<ReadyToReceive> {
    /// RTR → RTS; the first packet will have the number `psn`.
    ///
    /// # Errors
    /// An option is out of range.
    pub fn ready_to_send(self, psn: OwnPsn, options: &SendOptions) -> Result<QueuePair<ReadyToSend>, Error> {
        let attributes = SendAttributes {
            sq_psn: psn.get(),
            timeout: options.timeout,
            retry_count: options.retry_count,
            rnr_retry: options.rnr_retry,
            max_rd_atomic: options.max_rd_atomic,
        };
        self.parts.core.provider.ready_to_send(&attributes)?;
        Ok(self.become_state())
    }
}

impl QueuePair<ReadyToSend> {
    /// RTS → SQD: requests that had begun are finished, no further one is begun. [`crate::Event`] tells when
    /// that is so. Further ones may be posted meanwhile; they wait for [`resume`](QueuePair::resume).
    ///
    /// Soft-RoCE (Linux 6.1) looks whether it has drained when it is asked to and when a request is posted,
    /// but not after the last acknowledgement: of a drain that begins while a request waits for its
    /// acknowledgement it tells only once something is posted, and until then refuses to resume.
    ///
    /// # Errors
    /// The queue pair has failed.
    pub fn drain(self) -> Result<QueuePair<Draining>, Error> {
        self.parts.core.provider.drain()?;
        Ok(self.become_state())
    }
}

impl QueuePair<Draining> {
    /// SQD → RTS. Soft-RoCE (Linux 6.1) goes on with requests that wait only when a further one is posted.
    ///
    /// # Errors
    /// The queue pair has failed.
    pub fn resume(self) -> Result<QueuePair<ReadyToSend>, Error> {
        self.parts.core.provider.resume()?;
        Ok(self.become_state())
    }
}

impl<S: Sends> QueuePair<S> {
    /// Queues a send request and sends what may be sent, on this thread; nothing while the send queue drains.
    ///
    /// # Errors
    /// The request wasn't taken; its slices come back.
    pub fn post_send(&mut self, request: SendRequest) -> Result<(), PostError> {
        match request.check(&self.parts.limits) {
            Ok(len) => {
                let (work, kept) = request.split(len);
                self.parts.post_send(work, kept)
            }
            Err(reason) => Err(PostError { reason, slices: request.into_slices() }),
        }
    }

    /// Queues several send requests, in order, before any of them is sent: on the embedded device the packets
    /// of short ones share system calls. libibverbs' devices are given one after the other. The iterator must
    /// not use this queue pair's completion queues or its
    /// [`Breaker`]: the queue pair is locked while it runs.
    ///
    /// # Errors
    /// One wasn't taken, and its slices come back. Those before it were taken; those after it are still in
    /// the iterator, if the caller kept that (`&mut iterator`).
    pub fn post_send_list(
        &mut self,
        requests: impl IntoIterator<Item = SendRequest>,
    ) -> Result<(), PostError> {
        self.parts.post_send_list(&mut requests.into_iter())
    }
}

impl<S: Receives> QueuePair<S> {
    /// Queues a receive request.
    ///
    /// # Errors
    /// The request wasn't taken; its slices come back.
    pub fn post_recv(&mut self, request: RecvRequest) -> Result<(), PostError> {
        match request.check(&self.parts.limits) {
            Ok(()) => self.parts.post_recv(request.keep()),
            Err(reason) => Err(PostError { reason, slices: request.into_slices() }),
        }
    }

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

impl<S: QueuePairState> QueuePair<S> {
    /// Its number.
    #[must_use]
    pub fn qpn(&self) -> Qpn {
        self.parts.qpn()
    }

    /// What the device tells of it, its real state among it.
    ///
    /// # Errors
    /// A libibverbs device can't be asked any more.
    pub fn query(&self) -> Result<Snapshot, Error> {
        self.parts.core.provider.query()
    }

    fn become_state<T: QueuePairState>(self) -> QueuePair<T> {
        QueuePair { parts: self.parts, state: PhantomData }
    }
}

impl Parts {
    fn qpn(&self) -> Qpn {
        self.core.qpn()
    }

    /// What a request needs back is kept before the device has it: its completion may come at once, on
    /// another thread.
    fn post_send(&mut self, work: Work, kept: Kept) -> Result<(), PostError> {
        let request = match self.core.prepare(work, &kept) {
            Ok(request) => request,
            Err(reason) => return Err(PostError { reason, slices: kept.slices }),
        };
        let number = self.core.in_flight.sends().keep(kept);
        self.core.provider.post_send(number, request).map_err(|reason| self.core.refused(reason))
    }

    fn post_send_list(&mut self, requests: &mut dyn Iterator<Item = SendRequest>) -> Result<(), PostError> {
        let Self { core, limits } = self;
        let mut refused = None;
        let taken = core::iter::from_fn(|| {
            let request = requests.next()?;
            let len = match request.check(limits) {
                Ok(len) => len,
                Err(reason) => {
                    refused = Some(PostError { reason, slices: request.into_slices() });
                    return None;
                }
            };
            let (work, kept) = request.split(len);
            match core.prepare(work, &kept) {
                Ok(request) => Some((core.in_flight.sends().keep(kept), request)),
                Err(reason) => {
                    refused = Some(PostError { reason, slices: kept.slices });
                    None
                }
            }
        });
        core.provider.post_send_list(taken).map_err(|reason| core.refused(reason))?;
        refused.map_or(Ok(()), Err)
    }

    fn post_recv(&mut self, kept: Kept) -> Result<(), PostError> {
        let elements = kept.slices.iter().map(|slice| slice.element(slice.capacity()));
        let request = match self.core.provider.prepare_recv(elements) {
            Ok(request) => request,
            Err(reason) => return Err(PostError { reason, slices: kept.slices }),
        };
        let receives = self.core.in_flight.receives();
        let number = receives.keep(kept).map_err(|kept| PostError {
            reason: PostReason::QueuePair(work::PostError::QueueFull(self.limits.max_recv_requests)),
            slices: kept.slices,
        })?;
        self.core.provider.post_recv(number, request).map_err(|reason| {
            let slices = receives.take(number).map(|kept| kept.slices).unwrap_or_default();
            PostError { reason, slices }
        })
    }
}

impl<S: QueuePairState> fmt::Debug for QueuePair<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuePair").field("qpn", &self.qpn()).finish_non_exhaustive()
    }
}
