//! Queue pairs, whose state is part of their type.

use crate::completion::{CompletionQueue, InFlight};
use crate::domain::ProtectionDomain;
use crate::psn::{OwnPsn, PeerPsn};
use crate::request::{Kept, RecvRequest, SendRequest, Slices};
use crate::{Error, Gid, PostError, PostReason};
use core::fmt;
use core::marker::PhantomData;
use rocev2::rc::{
    InitAttributes, PeerRights, ReceiveAttributes, SendAttributes, Snapshot, State, Transition,
};
use rocev2::{Mtu, Qpn};
use std::sync::Arc;

/// How many requests a queue pair may have outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePairLimits {
    /// Send requests.
    pub max_send_requests: usize,
    /// Receive requests.
    pub max_recv_requests: usize,
}

/// The peer's end, as it described it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its queue pair.
    pub qpn: Qpn,
    /// The first PSN that it sends.
    pub psn: PeerPsn,
    /// Its address.
    pub gid: Gid,
    /// Its UDP port where the GID doesn't tell it: IPv6 on another port than 4791.
    pub port: Option<u16>,
}

/// What this side offers the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveOptions {
    /// The index of the local GID that the peer was told.
    pub gid_index: usize,
    /// Payload bytes of a full packet; both sides need the same.
    pub path_mtu: Mtu,
    /// Reads and atomics of the peer that are answered at a time.
    pub max_dest_rd_atomic: u8,
    /// The delay that an RNR NAK asks for, a 5-bit code: 12 is 0.64 ms (IBA table "RNR NAK timer field encoding").
    pub min_rnr_timer: u8,
}

/// How this side sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendOptions {
    /// The local ACK timeout, 4.096 µs · 2^timeout: 14 is 67 ms; 0 is for ever.
    pub timeout: u8,
    /// ACK timeouts beyond the first that the peer may stay silent, 0 to 7.
    pub retry_count: u8,
    /// RNR NAKs in a row that are accepted, 0 to 6; 7 is for ever.
    pub rnr_retry: u8,
    /// Reads and atomics under way at a time, at most the peer's `max_dest_rd_atomic`.
    pub max_rd_atomic: u8,
}

mod sealed {
    pub trait Sealed {}
}

/// The states that a [`QueuePair`]'s type may say.
pub trait QueuePairState: sealed::Sealed {}

/// A state that takes receive requests.
pub trait Receives: QueuePairState {}

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;
        impl sealed::Sealed for $name {}
        impl QueuePairState for $name {}
    )*};
}

states! {
    /// Made; nothing works yet.
    Reset,
    /// Receive requests may be posted.
    Init,
    /// Packets are received and answered.
    ReadyToReceive,
    /// Everything works, until an error ends it.
    ReadyToSend,
    /// The send queue finishes what it had begun.
    Draining
}

impl Receives for Init {}
impl Receives for ReadyToReceive {}
impl Receives for ReadyToSend {}
impl Receives for Draining {}

/// A queue pair of a reliable connection.
///
/// The type says how far it was driven. An error can end it at any time: its requests then complete with
/// [`crate::Status::Flushed`], and [`Self::query`] says so.
pub struct QueuePair<S: QueuePairState> {
    parts: Parts,
    state: PhantomData<S>,
}

struct Parts {
    embedded: device::QueuePair,
    in_flight: Arc<InFlight>,
    /// Send queue, receive queue.
    queues: [Arc<CompletionQueue>; 2],
    posted: u64,
    /// Outlives the queue pair, as the completion queues do.
    _domain: Arc<ProtectionDomain>,
}

impl Drop for Parts {
    fn drop(&mut self) {
        for queue in &self.queues {
            queue.detach(self.embedded.qpn());
        }
    }
}

impl QueuePair<Reset> {
    pub(crate) fn new(
        embedded: device::QueuePair,
        in_flight: Arc<InFlight>,
        queues: [Arc<CompletionQueue>; 2],
        domain: Arc<ProtectionDomain>,
    ) -> Self {
        for queue in &queues {
            queue.attach(embedded.qpn(), &in_flight);
        }
        Self { parts: Parts { embedded, in_flight, queues, posted: 0, _domain: domain }, state: PhantomData }
    }

    /// RESET → INIT; `rights` is what the peer may do, where its keys allow it too.
    ///
    /// # Errors
    /// The device refused.
    pub fn init(self, rights: PeerRights) -> Result<QueuePair<Init>, Error> {
        self.parts.embedded.modify(Transition::Init(InitAttributes { rights }))?;
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
        let attributes = ReceiveAttributes {
            path_mtu: options.path_mtu,
            peer_qpn: peer.qpn,
            rq_psn: peer.psn.get(),
            max_dest_rd_atomic: options.max_dest_rd_atomic,
            min_rnr_timer: options.min_rnr_timer,
        };
        let path =
            device::PathAttributes { gid_index: options.gid_index, peer_gid: peer.gid, peer_port: peer.port };
        self.parts.embedded.ready_to_receive(attributes, path)?;
        Ok(self.become_state())
    }
}

impl QueuePair<ReadyToReceive> {
    /// RTR → RTS; the first packet will have the number `psn`.
    ///
    /// # Errors
    /// An option is out of range.
    pub fn ready_to_send(self, psn: OwnPsn, options: &SendOptions) -> Result<QueuePair<ReadyToSend>, Error> {
        self.parts.embedded.modify(Transition::ReadyToSend(SendAttributes {
            sq_psn: psn.get(),
            timeout: options.timeout,
            retry_count: options.retry_count,
            rnr_retry: options.rnr_retry,
            max_rd_atomic: options.max_rd_atomic,
        }))?;
        Ok(self.become_state())
    }
}

impl QueuePair<ReadyToSend> {
    /// Queues a send request and sends what may be sent, on this thread.
    ///
    /// # Errors
    /// The request wasn't taken; its slices come back.
    pub fn post_send(&mut self, request: SendRequest) -> Result<(), PostError> {
        let (request, kept) = request.split(self.parts.number()).map_err(refused)?;
        let posted = self.parts.keep(false, kept, |embedded| embedded.post_send(request));
        posted.map_err(refused)
    }

    /// RTS → SQD: requests that had begun are finished, no further one is begun. [`crate::Event`] tells when that is so.
    ///
    /// # Errors
    /// The queue pair has failed.
    pub fn drain(self) -> Result<QueuePair<Draining>, Error> {
        self.parts.embedded.modify(Transition::Drain)?;
        Ok(self.become_state())
    }
}

impl QueuePair<Draining> {
    /// SQD → RTS.
    ///
    /// # Errors
    /// The queue pair has failed.
    pub fn resume(self) -> Result<QueuePair<ReadyToSend>, Error> {
        self.parts.embedded.modify(Transition::Resume)?;
        Ok(self.become_state())
    }
}

impl<S: Receives> QueuePair<S> {
    /// Queues a receive request.
    ///
    /// # Errors
    /// The request wasn't taken; its slices come back.
    pub fn post_recv(&mut self, request: RecvRequest) -> Result<(), PostError> {
        let (request, kept) = request.split(self.parts.number()).map_err(refused)?;
        let posted = self.parts.keep(true, kept, |embedded| embedded.post_recv(request));
        posted.map_err(refused)
    }

    /// Ends the connection: every request completes with [`crate::Status::Flushed`]. The peer isn't told; it notices by silence.
    pub fn fail(&mut self) {
        // ERR can be reached from every state that this type may have.
        let _ = self.parts.embedded.modify(Transition::Error);
    }
}

impl<S: QueuePairState> QueuePair<S> {
    /// Its number.
    #[must_use]
    pub fn qpn(&self) -> Qpn {
        self.parts.embedded.qpn()
    }

    /// Everything the device tells of it, its real state among it.
    #[must_use]
    pub fn query(&self) -> Snapshot {
        self.parts.embedded.query()
    }

    /// Its real state.
    #[must_use]
    pub fn real_state(&self) -> State {
        self.query().state
    }

    fn become_state<T: QueuePairState>(self) -> QueuePair<T> {
        QueuePair { parts: self.parts, state: PhantomData }
    }
}

impl Parts {
    fn number(&mut self) -> u64 {
        self.posted += 1;
        self.posted
    }

    /// Keeps what a request needs back before the device has it: its completion may come at once, on another thread.
    fn keep(
        &self,
        recv: bool,
        kept: Kept,
        post: impl FnOnce(&device::QueuePair) -> Result<(), rocev2::rc::PostError>,
    ) -> Result<(), (PostReason, Slices)> {
        self.in_flight.queue(recv).push_back(kept);
        post(&self.embedded).map_err(|reason| {
            // Posting takes `&mut self`: the last one kept is this one.
            let kept = self.in_flight.queue(recv).pop_back();
            (reason.into(), kept.map(|kept| kept.slices).unwrap_or_default())
        })
    }
}

fn refused((reason, slices): (PostReason, Slices)) -> PostError {
    PostError { reason, slices }
}

impl<S: QueuePairState> fmt::Debug for QueuePair<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.embedded.fmt(f)
    }
}
