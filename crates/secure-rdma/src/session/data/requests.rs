//! The send queue: what was posted, and how it ended.

use super::buffers::SendBuffers;
use crate::SessionError;
use rdma_verbs::{
    Completion, CompletionKind, QueuePair, ReadyToSend, RecvRequest, SendRequest, Slice, Status,
};
use std::collections::VecDeque;

/// A queue pair with its send buffers.
pub(super) struct Requests {
    qp: QueuePair<ReadyToSend>,
    pub(super) buffers: SendBuffers,
    /// The number of requests that haven't completed.
    outstanding: usize,
    /// The number of requests that have completed since the beginning.
    ended: u64,
    /// Failures not reported yet, oldest first. The next operation that waits reports one.
    failures: VecDeque<SessionError>,
    /// The first of all failures, for good: what became of its request at the peer, and of what was posted after it,
    /// isn't known.
    unknown: Option<SessionError>,
    /// The result of the last atomic operation.
    word: Option<u64>,
}

impl Requests {
    pub(super) fn new(qp: QueuePair<ReadyToSend>, buffers: SendBuffers) -> Self {
        Self { qp, buffers, outstanding: 0, ended: 0, failures: VecDeque::new(), unknown: None, word: None }
    }

    pub(super) const fn queue_pair(&self) -> &QueuePair<ReadyToSend> {
        &self.qp
    }

    /// Ends the connection; whatever is outstanding is flushed.
    pub(super) fn fail(&mut self) {
        self.qp.fail();
    }

    pub(super) const fn outstanding(&self) -> usize {
        self.outstanding
    }

    pub(super) const fn ended(&self) -> u64 {
        self.ended
    }

    /// Reports the oldest failure not reported yet.
    ///
    /// # Errors
    /// That failure.
    pub(super) fn check(&mut self) -> Result<(), SessionError> {
        self.failures.pop_front().map_or(Ok(()), Err)
    }

    /// What became of an operation, a part of which may have been carried out, isn't known for this reason.
    pub(super) fn leave_unknown(&mut self, reason: &SessionError) {
        self.unknown.get_or_insert_with(|| reason.clone());
    }

    /// Checks that it is known of all requests that they were carried out.
    ///
    /// # Errors
    /// Why it isn't.
    pub(super) fn check_known(&self) -> Result<(), SessionError> {
        self.unknown.clone().map_or(Ok(()), Err)
    }

    pub(super) fn post(&mut self, request: SendRequest) -> Result<(), SessionError> {
        match self.qp.post_send(request) {
            Ok(()) => {
                self.outstanding += 1;
                Ok(())
            }
            Err(mut error) => {
                self.buffers.give_back(error.slices.drain(..));
                Err(error.into())
            }
        }
    }

    /// Posts several requests, which share system calls if they are short. If this fails, some of them may
    /// have been posted.
    pub(super) fn post_list(&mut self, requests: Vec<SendRequest>) -> Result<(), SessionError> {
        let mut requests = requests.into_iter();
        let mut taken = 0;
        let mut counted = requests.by_ref().inspect(|_| taken += 1);
        match self.qp.post_send_list(&mut counted) {
            Ok(()) => {
                self.outstanding += taken;
                Ok(())
            }
            Err(mut error) => {
                // The last one that was looked at wasn't taken.
                self.outstanding += taken.saturating_sub(1);
                self.buffers.give_back(error.slices.drain(..));
                self.buffers.give_back(requests.flat_map(SendRequest::into_slices));
                Err(error.into())
            }
        }
    }

    pub(super) fn post_receive(&mut self, buffer: Slice) -> Result<(), SessionError> {
        Ok(self.qp.post_recv(RecvRequest::new([buffer]))?)
    }

    /// Handles a request's completion. The caller gives the returned buffer back when it has taken what a READ put
    /// into it.
    pub(super) fn complete(&mut self, mut completion: Completion) -> Result<Slice, SessionError> {
        self.outstanding -= 1;
        self.ended += 1;
        let buffer = completion.slice().ok_or(SessionError::Closed)?;
        if completion.status != Status::Success {
            let operation = name(completion.kind);
            let failure = SessionError::Operation { operation, status: completion.status };
            self.leave_unknown(&failure);
            self.failures.push_back(failure);
        } else if is_atomic(completion.kind) {
            let mut word = [0; 8];
            buffer.read(0, &mut word)?;
            self.word = Some(u64::from_ne_bytes(word));
        }
        Ok(buffer)
    }

    /// Takes the result of the atomic operation that has completed.
    pub(super) fn take_word(&mut self) -> Option<u64> {
        self.word.take()
    }
}

const fn is_atomic(kind: CompletionKind) -> bool {
    matches!(kind, CompletionKind::CompareSwap | CompletionKind::FetchAdd)
}

const fn name(kind: CompletionKind) -> &'static str {
    match kind {
        CompletionKind::Send => "send",
        CompletionKind::Write => "write",
        CompletionKind::Read => "read",
        CompletionKind::CompareSwap => "compare-swap",
        CompletionKind::FetchAdd => "fetch-add",
        _ => "request",
    }
}
