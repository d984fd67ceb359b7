//! The requests of queue pairs.

use super::{Core, Own, Parts, QueuePair, ReceiveQueue, Receives, Sends, Transport};
use crate::PostReason;
use crate::provider::{PreparedSend, Work};
use crate::request::{Kept, PostError, RecvRequest, SendRequest};
use rocev2::work;

impl<S: Sends, T: Transport, R: ReceiveQueue> QueuePair<S, T, R> {
    /// Queues a send request and sends what may be sent, on this thread; nothing while the send queue drains.
    ///
    /// # Errors
    /// The request wasn't taken; its slices come back.
    pub fn post_send(&mut self, request: SendRequest<T>) -> Result<(), PostError> {
        match request.check(&self.parts.limits) {
            Ok(len) => {
                let (work, kept) = request.split(len, self.parts.signal_all);
                self.parts.post_send(work, kept)
            }
            Err(reason) => Err(PostError { reason, slices: request.into_slices() }),
        }
    }

    /// Queues several send requests, in order, before any of them is sent: on the embedded device the packets
    /// of short ones share system calls. libibverbs' devices are given one after the other. The iterator must
    /// not use this queue pair's completion queues or its [`Breaker`](crate::Breaker): the queue pair is
    /// locked while it runs.
    ///
    /// # Errors
    /// One wasn't taken, and its slices come back. Those before it were taken; those after it are still in
    /// the iterator, if the caller kept that (`&mut iterator`).
    pub fn post_send_list(
        &mut self,
        requests: impl IntoIterator<Item = SendRequest<T>>,
    ) -> Result<(), PostError> {
        self.parts.post_send_list(&mut requests.into_iter())
    }
}

impl<S: Receives, T: Transport> QueuePair<S, T, Own> {
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
}

impl Core {
    /// The request as the device takes it.
    fn prepare(&self, work: Work, kept: &Kept) -> Result<PreparedSend, PostReason> {
        let elements = kept.slices.iter().map(|slice| slice.element(slice.len()));
        self.provider.prepare_send(work, &kept.needs.provided(), elements)
    }

    /// The request that was kept last wasn't taken. Posting borrows the queue pair alone: no other was kept since.
    fn refused(&self, reason: PostReason) -> PostError {
        PostError { reason, slices: self.in_flight.sends().take_back() }
    }
}

impl Parts {
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

    fn post_send_list<T: Transport>(
        &mut self,
        requests: &mut dyn Iterator<Item = SendRequest<T>>,
    ) -> Result<(), PostError> {
        let Self { core, limits, signal_all, .. } = self;
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
            let (work, kept) = request.split(len, *signal_all);
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
        let provider = &self.core.provider;
        self.core.in_flight.receives().post(
            kept,
            || PostReason::QueuePair(work::PostError::QueueFull(self.limits.max_recv_requests)),
            |elements| provider.prepare_recv(elements),
            |number, request| provider.post_recv(number, request),
        )
    }
}
