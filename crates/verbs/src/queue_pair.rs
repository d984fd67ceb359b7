//! Queue pairs, whose state is part of their type.

use crate::completion::{CompletionQueue, InFlight};
use crate::domain::ProtectionDomain;
use crate::ibv::request::{self as ibv_request, Elements, Flags};
use crate::psn::{OwnPsn, PeerPsn};
use crate::region::Slice;
use crate::request::{Kept, RecvRequest, SendRequest, Work};
use crate::{Attributes, Error, Gid, PostError, PostReason, ibv};
use core::fmt;
use core::marker::PhantomData;
use rocev2::rc::{self, InitAttributes, PeerRights, ReceiveAttributes, SendAttributes, State, Transition};
use rocev2::{Mtu, Qpn};
use rocev2_device::Buffers;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// What a queue pair is made for (`struct ibv_qp_cap`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePairLimits {
    /// Send requests that may be outstanding.
    pub max_send_requests: usize,
    /// Receive requests that may be outstanding.
    pub max_recv_requests: usize,
    /// Slices of one request.
    pub max_sge: usize,
    /// Bytes of an inline request.
    pub max_inline: usize,
}

impl QueuePairLimits {
    pub(crate) fn check_embedded(&self) -> Result<(), Error> {
        let limits = Attributes::EMBEDDED;
        let within = |what, asked: usize, limit: usize| {
            if asked <= limit {
                Ok(())
            } else {
                Err(Error::Embedded(rocev2_device::DeviceError::Limit { what, asked, limit }))
            }
        };
        within("elements of a scatter/gather list", self.max_sge, limits.max_sge)?;
        within("bytes of an inline request", self.max_inline, limits.max_inline.unwrap_or(0))
    }

    pub(crate) fn check_slices(&self, slices: &[Slice]) -> Result<(), PostReason> {
        match slices.len() {
            count if count > self.max_sge => Err(PostReason::TooManySlices { count, limit: self.max_sge }),
            _ => Ok(()),
        }
    }
}

/// What a device tells of a queue pair (`ibv_query_qp(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its state.
    pub state: State,
    /// What the peer may do.
    pub rights: PeerRights,
    /// What was given for INIT → RTR. A libibverbs device may tell where `rq_psn` has got to since.
    pub receive: Option<ReceiveAttributes>,
    /// What was given for RTR → RTS. A libibverbs device may tell where `sq_psn` has got to since.
    pub send: Option<SendAttributes>,
    /// What was counted; libibverbs doesn't tell.
    pub counters: Option<QueuePairCounters>,
}

/// What the embedded device counts of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePairCounters {
    /// As the one who asks.
    pub requester: rc::RequesterCounters,
    /// As the one who is asked.
    pub responder: rc::ResponderCounters,
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
    pub udp_port: Option<u16>,
    /// Its port's LID, on InfiniBand.
    pub lid: Option<u16>,
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

/// A state that takes send requests.
pub trait Sends: QueuePairState {}

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
    /// The send queue finishes what it had begun, and begins nothing else.
    Draining
}

impl Receives for Init {}
impl Receives for ReadyToReceive {}
impl Receives for ReadyToSend {}
impl Receives for Draining {}
impl Sends for ReadyToSend {}
impl Sends for Draining {}

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
    /// The number of the request posted last.
    number: u64,
}

/// What the device has of a queue pair, and what it needs as long as the device has it.
struct Core {
    /// Destroyed before the slices of its requests are released.
    side: Side,
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

pub(crate) enum Side {
    Embedded(rocev2_device::QueuePair),
    Ibv(ibv::queue_pair::QueuePair),
}

/// Where the next queue pair's request numbers begin: none is ever used twice, so that a completion of an
/// earlier queue pair that had the same QPN is recognised.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Requests that one queue pair may post before its numbers could meet the next one's: 68 billion.
const NUMBERS: u64 = 1 << 36;

/// Numbers have 63 bits: libibverbs needs one to tell receives.
const NUMBER_MASK: u64 = u64::MAX >> 1;

impl Core {
    fn qpn(&self) -> Qpn {
        match &self.side {
            Side::Embedded(embedded) => embedded.qpn(),
            Side::Ibv(queue_pair) => queue_pair.qpn(),
        }
    }

    fn fail(&self) {
        // ERR can be reached from every state that a queue pair's type may have.
        match &self.side {
            Side::Embedded(embedded) => drop(embedded.modify(Transition::Error)),
            Side::Ibv(queue_pair) => drop(queue_pair.fail()),
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        for queue in &self.queues {
            queue.detach(self.qpn());
        }
    }
}

impl QueuePair<Reset> {
    pub(crate) fn new(
        side: Side,
        limits: QueuePairLimits,
        in_flight: Arc<InFlight>,
        queues: [Arc<CompletionQueue>; 2],
        domain: Arc<ProtectionDomain>,
    ) -> Self {
        let number = NEXT_NUMBER.fetch_add(NUMBERS, Ordering::Relaxed) & NUMBER_MASK;
        let core = Arc::new(Core { side, in_flight, queues, _domain: domain });
        for queue in &core.queues {
            queue.attach(core.qpn(), &core.in_flight);
        }
        let parts = Parts { core, limits, number };
        Self { parts, state: PhantomData }
    }

    /// RESET → INIT; `rights` is what the peer may do, where its keys allow it too.
    ///
    /// # Errors
    /// The device refused.
    pub fn init(self, rights: PeerRights) -> Result<QueuePair<Init>, Error> {
        match &self.parts.core.side {
            Side::Embedded(embedded) => embedded.modify(Transition::Init(InitAttributes { rights }))?,
            Side::Ibv(queue_pair) => queue_pair.init(rights)?,
        }
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
        match &self.parts.core.side {
            Side::Embedded(embedded) => {
                if peer.lid.is_some() {
                    return Err(Error::Unreachable {
                        own: "of the embedded device".into(),
                        peer: peer.gid,
                        reason: "the peer's is on InfiniBand, which the embedded device doesn't speak".into(),
                    });
                }
                let attributes = ReceiveAttributes {
                    path_mtu: options.path_mtu,
                    peer_qpn: peer.qpn,
                    rq_psn: peer.psn.get(),
                    max_dest_rd_atomic: options.max_dest_rd_atomic,
                    min_rnr_timer: options.min_rnr_timer,
                };
                let path = rocev2_device::PathAttributes {
                    gid_index: options.gid_index,
                    peer_gid: peer.gid,
                    peer_port: peer.udp_port,
                };
                embedded.ready_to_receive(attributes, path)?;
            }
            Side::Ibv(queue_pair) => queue_pair.ready_to_receive(peer, options)?,
        }
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
        match &self.parts.core.side {
            Side::Embedded(embedded) => embedded.modify(Transition::ReadyToSend(attributes))?,
            Side::Ibv(queue_pair) => queue_pair.ready_to_send(&attributes)?,
        }
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
        match &self.parts.core.side {
            Side::Embedded(embedded) => embedded.modify(Transition::Drain)?,
            Side::Ibv(queue_pair) => queue_pair.drain()?,
        }
        Ok(self.become_state())
    }
}

impl QueuePair<Draining> {
    /// SQD → RTS. Soft-RoCE (Linux 6.1) goes on with requests that wait only when a further one is posted.
    ///
    /// # Errors
    /// The queue pair has failed.
    pub fn resume(self) -> Result<QueuePair<ReadyToSend>, Error> {
        match &self.parts.core.side {
            Side::Embedded(embedded) => embedded.modify(Transition::Resume)?,
            Side::Ibv(queue_pair) => queue_pair.resume()?,
        }
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
                let (work, kept) = request.split(self.parts.next_number(), len);
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
        let mut requests = requests.into_iter();
        if let Side::Ibv(_) = self.parts.core.side {
            return requests.try_for_each(|request| self.post_send(request));
        }
        self.parts.post_send_list(&mut requests)
    }
}

impl<S: Receives> QueuePair<S> {
    /// Queues a receive request.
    ///
    /// # Errors
    /// The request wasn't taken; its slices come back.
    pub fn post_recv(&mut self, request: RecvRequest) -> Result<(), PostError> {
        match request.check(&self.parts.limits) {
            Ok(()) => {
                let kept = request.keep(self.parts.next_number());
                self.parts.post_recv(kept)
            }
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
        match &self.parts.core.side {
            Side::Embedded(embedded) => {
                let rc::Snapshot { state, rights, receive, send, requester, responder, .. } =
                    embedded.query();
                let counters = Some(QueuePairCounters { requester, responder });
                Ok(Snapshot { state, rights, receive, send, counters })
            }
            Side::Ibv(queue_pair) => queue_pair.query(),
        }
    }

    fn become_state<T: QueuePairState>(self) -> QueuePair<T> {
        QueuePair { parts: self.parts, state: PhantomData }
    }
}

impl Parts {
    fn qpn(&self) -> Qpn {
        self.core.qpn()
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn post_send(&self, work: Work, kept: Kept) -> Result<(), PostError> {
        match &self.core.side {
            Side::Embedded(embedded) => {
                let request = embedded_request(work, &kept);
                self.keep(false, kept, || Ok(embedded.post_send(request.ok_or(PostReason::OtherDevice)?)?))
            }
            Side::Ibv(queue_pair) => {
                let elements = match &work.inline {
                    Some(bytes) => Some(Elements::from_iter([ibv_request::inline_element(bytes)])),
                    None => ibv_list(queue_pair, &kept.slices, Slice::len),
                };
                let flags = Flags {
                    signaled: work.signaled,
                    solicited: work.solicited,
                    fence: work.fence,
                    inline: work.inline.is_some(),
                };
                let limit = self.limits.max_send_requests;
                self.keep(false, kept, || {
                    let mut elements = elements.ok_or(PostReason::OtherDevice)?;
                    queue_pair.post_send(work.number, &work.operation, flags, &mut elements, limit)
                })
            }
        }
    }

    fn post_send_list(&mut self, requests: &mut dyn Iterator<Item = SendRequest>) -> Result<(), PostError> {
        let Self { core, limits, number } = self;
        let Core { side: Side::Embedded(embedded), in_flight, .. } = &**core else { return Ok(()) };
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
            *number += 1;
            let (work, kept) = request.split(*number, len);
            let Some(request) = embedded_request(work, &kept) else {
                refused = Some(PostError { reason: PostReason::OtherDevice, slices: kept.slices });
                return None;
            };
            // As in `keep`.
            in_flight.queue(false).push_back(kept);
            Some(request)
        });
        if let Err(reason) = embedded.post_send_list(taken) {
            let kept = in_flight.queue(false).pop_back();
            return Err(PostError {
                reason: reason.into(),
                slices: kept.map(|kept| kept.slices).unwrap_or_default(),
            });
        }
        refused.map_or(Ok(()), Err)
    }

    fn post_recv(&self, kept: Kept) -> Result<(), PostError> {
        let number = kept.number;
        match &self.core.side {
            Side::Embedded(embedded) => {
                let buffers = embedded_list(&kept.slices, Slice::capacity);
                let request = buffers.map(|buffers| {
                    let len = buffers.len();
                    rc::RecvRequest { id: number, buffers, len }
                });
                self.keep(true, kept, || Ok(embedded.post_recv(request.ok_or(PostReason::OtherDevice)?)?))
            }
            Side::Ibv(queue_pair) => {
                let elements = ibv_list(queue_pair, &kept.slices, Slice::capacity);
                let limit = self.limits.max_recv_requests;
                self.keep(true, kept, || {
                    let mut elements = elements.ok_or(PostReason::OtherDevice)?;
                    queue_pair.post_recv(number, &mut elements, limit)
                })
            }
        }
    }

    /// Keeps what a request needs back before the device has it: its completion may come at once, on another thread.
    fn keep(
        &self,
        recv: bool,
        kept: Kept,
        post: impl FnOnce() -> Result<(), PostReason>,
    ) -> Result<(), PostError> {
        self.core.in_flight.queue(recv).push_back(kept);
        post().map_err(|reason| {
            // Posting takes `&mut self`: the last one kept is this one.
            let kept = self.core.in_flight.queue(recv).pop_back();
            PostError { reason, slices: kept.map(|kept| kept.slices).unwrap_or_default() }
        })
    }
}

/// A send request as the embedded device takes it; `None` if a slice is another device's.
fn embedded_request(work: Work, kept: &Kept) -> Option<rc::SendRequest<Buffers>> {
    let buffers = match work.inline {
        Some(bytes) => Buffers::Inline(bytes),
        None => embedded_list(&kept.slices, Slice::len)?,
    };
    Some(rc::SendRequest {
        id: work.number,
        operation: work.operation,
        buffers,
        len: work.len,
        signaled: work.signaled,
        solicited: work.solicited,
        fence: work.fence,
    })
}

/// The slices as the embedded device takes them; `None` if one is another device's.
fn embedded_list(slices: &[Slice], len: impl Fn(&Slice) -> u32) -> Option<Buffers> {
    let elements = slices.iter().map(|slice| slice.embedded_element(len(slice)));
    Some(Buffers::List(elements.collect::<Option<_>>()?))
}

/// The slices as libibverbs takes them; `None` if one is another device's.
fn ibv_list(
    queue_pair: &ibv::queue_pair::QueuePair,
    slices: &[Slice],
    len: impl Fn(&Slice) -> u32,
) -> Option<Elements> {
    let element = |slice: &Slice| {
        let (region, offset) = slice.ibv_place()?;
        let own = region.is_of(queue_pair.domain());
        own.then(|| ibv_request::element(region, offset, len(slice)))
    };
    slices.iter().map(element).collect()
}

impl<S: QueuePairState> fmt::Debug for QueuePair<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuePair").field("qpn", &self.qpn()).finish_non_exhaustive()
    }
}
