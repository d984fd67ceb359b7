//! The embedded device's objects, as [`provider`](super) wants them.

use super::{Element, Ended, Needs, QueuePairOptions, Source, Work};
use crate::attributes::Attributes;
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::gid::{GidEntry, GidKind};
use crate::options::{
    self, Peer, QueuePairCounters, ReceiveOptions, SharedReceiveQueueLimits, Snapshot, TransportKind,
};
use crate::{Error, PostReason};
use rocev2::transport;
use rocev2::wire::Transport;
use rocev2::work::{self, AsyncEvent, Datagram, PeerRights, Recipient, SendAttributes, State, Transition};
use rocev2::{Psn, Qpn};
use rocev2_device::memory::{Access, Bind, Mapping, WindowRange, WindowType};
use rocev2_device::{Arm, Buffers, DeviceError, DeviceEvent, Gid, PathAttributes, WorkCompletion};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
#[cfg(feature = "tokio")]
use std::task::Waker;

pub(super) type SendRequest = work::SendRequest<Buffers>;
pub(super) type RecvRequest = work::RecvRequest<Buffers>;

const ATTRIBUTES: Attributes = {
    let rocev2_device::Attributes {
        max_qp,
        max_qp_wr,
        max_sge,
        max_inline,
        max_cqe,
        max_mr,
        max_mw: _,
        max_ah: _,
        max_srq_wr: _,
        max_mcast_grp: _,
        max_mcast_qp_attach: _,
        max_message,
        max_rd_atomic,
    } = rocev2_device::ATTRIBUTES;
    Attributes {
        max_qp,
        max_qp_wr,
        max_sge,
        max_inline: Some(max_inline),
        max_cqe,
        max_mr,
        max_message,
        max_qp_rd_atom: max_rd_atomic,
        max_qp_init_rd_atom: max_rd_atomic,
    }
};

pub(crate) struct Device(rocev2_device::Device);

impl Device {
    pub(super) fn open(address: Option<IpAddr>, port: Option<u16>) -> Result<Self, Error> {
        Ok(Self(rocev2_device::Device::open(rocev2_device::Config { address, port, ..Default::default() })?))
    }

    #[cfg(feature = "testing")]
    pub(super) fn stepped(
        platform: Arc<dyn rocev2_device::host::Platform>,
    ) -> Result<(Self, Arc<rocev2_device::Engine>), Error> {
        let (device, engine) = rocev2_device::Device::stepped(rocev2_device::Config::default(), platform)?;
        Ok((Self(device), engine))
    }

    #[cfg(feature = "testing")]
    pub(super) fn usage(&self) -> rocev2_device::Usage {
        self.0.usage()
    }

    pub(super) fn description(&self) -> Cow<'static, str> {
        "RoCEv2 in user space over UDP sockets; no RDMA hardware, kernel module or root needed".into()
    }

    pub(super) fn attributes(&self) -> Attributes {
        ATTRIBUTES
    }

    pub(super) fn facts(&self) -> Result<Vec<(&'static str, String)>, Error> {
        Ok(Vec::new())
    }

    pub(super) fn gids(&self) -> Vec<GidEntry> {
        self.0.gids().into_iter().enumerate().map(gid).collect()
    }

    pub(super) fn gid_for(&self, address: IpAddr) -> Result<GidEntry, Error> {
        let index = self.0.gid_index(address)?;
        self.0.bind_gid(index)?;
        let entry = self.gids().into_iter().nth(index);
        entry.ok_or(Error::Embedded(DeviceError::GidIndex { index, count: index }))
    }

    pub(super) fn protection_domain(&self) -> ProtectionDomain {
        ProtectionDomain(self.0.protection_domain())
    }

    pub(super) fn security_association(&self) -> rocev2_device::SecurityAssociation {
        self.0.security_association()
    }

    pub(super) fn completion_channel(&self) -> Result<Arc<CompletionChannel>, Error> {
        Ok(Arc::new(CompletionChannel(self.0.completion_channel()?)))
    }

    pub(super) fn completion_queue(
        &self,
        capacity: usize,
        channel: Option<&Arc<CompletionChannel>>,
    ) -> Result<CompletionQueue, Error> {
        let queue = self.0.completion_queue(capacity, channel.map(|channel| Arc::clone(&channel.0)))?;
        Ok(CompletionQueue { queue, scratch: Mutex::default() })
    }

    #[cfg(feature = "tokio")]
    pub(super) fn waking_completion_queue(
        &self,
        capacity: usize,
        waker: Waker,
    ) -> Result<CompletionQueue, Error> {
        let queue = self.0.waking_completion_queue(capacity, waker)?;
        Ok(CompletionQueue { queue, scratch: Mutex::default() })
    }

    pub(super) fn try_event(&self) -> Option<Event> {
        self.0.try_event().map(event)
    }

    pub(super) fn counters(&self) -> Vec<(Cow<'static, str>, u64)> {
        self.0.counters().into_iter().map(|(name, count)| (name.into(), count)).collect()
    }

    pub(super) fn queue_pairs(&self) -> Option<usize> {
        Some(self.0.queue_pairs())
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(crate) struct ProtectionDomain(rocev2_device::ProtectionDomain);

impl ProtectionDomain {
    pub(super) fn register(&self, len: usize, access: Access) -> Result<MemoryRegion, Error> {
        Ok(MemoryRegion(self.0.register(len, access)?))
    }

    pub(super) fn memory_window(&self, kind: options::WindowType) -> Result<MemoryWindow, Error> {
        Ok(MemoryWindow(self.0.window(match kind {
            options::WindowType::One => WindowType::One,
            options::WindowType::Two => WindowType::Two,
        })?))
    }

    pub(super) fn shared_receive_queue(
        &self,
        limits: &SharedReceiveQueueLimits,
    ) -> Result<SharedReceiveQueue, Error> {
        within("elements of a scatter/gather list", limits.max_sge, ATTRIBUTES.max_sge)?;
        Ok(SharedReceiveQueue(self.0.shared_receive_queue(limits.max_requests)?))
    }

    pub(super) fn address_handle(&self, own: &GidEntry, peer: &Endpoint) -> Result<AddressHandle, Error> {
        let path = path(own.index, peer.gid, peer.udp_port, peer.lid)?;
        Ok(AddressHandle(self.0.address_handle(path)?))
    }

    pub(super) fn queue_pair(
        &self,
        queues: [&CompletionQueue; 2],
        options: &QueuePairOptions<'_>,
    ) -> Result<QueuePair, Error> {
        let limits = &options.limits;
        within("elements of a scatter/gather list", limits.max_sge, ATTRIBUTES.max_sge)?;
        within("bytes of an inline request", limits.max_inline, ATTRIBUTES.max_inline.unwrap_or(0))?;
        let [send_queue, recv_queue] = queues.map(|queue| &queue.queue);
        let shared = options.shared.map(super::SharedReceiveQueue::embedded).transpose()?.map(|it| &it.0);
        Ok(QueuePair(self.0.queue_pair(rocev2_device::QueuePairOptions {
            transport: match options.transport {
                TransportKind::Rc => Transport::Rc,
                TransportKind::Uc => Transport::Uc,
                TransportKind::Ud => Transport::Ud,
            },
            send_queue,
            recv_queue,
            shared,
            max_send_requests: limits.max_send_requests,
            max_recv_requests: limits.max_recv_requests,
        })?))
    }
}

fn within(what: &'static str, asked: usize, limit: usize) -> Result<(), Error> {
    if asked <= limit { Ok(()) } else { Err(Error::Embedded(DeviceError::Limit { what, asked, limit })) }
}

pub(crate) struct SharedReceiveQueue(rocev2_device::SharedReceiveQueue);

impl SharedReceiveQueue {
    pub(super) fn number(&self) -> u64 {
        self.0.number()
    }

    pub(super) fn arm_limit(&self, limit: u32) -> Result<(), Error> {
        Ok(self.0.set_limit(limit as usize)?)
    }

    pub(super) fn prepare_recv<'a>(
        &self,
        elements: impl Iterator<Item = Element<'a>>,
    ) -> Result<RecvRequest, PostReason> {
        recv_request(elements)
    }

    pub(super) fn post_recv(&self, number: u64, request: RecvRequest) -> Result<(), PostReason> {
        Ok(self.0.post_recv(RecvRequest { id: number, ..request })?)
    }
}

pub(crate) struct AddressHandle(rocev2_device::AddressHandle);

pub(crate) struct MemoryRegion(rocev2_device::MemoryRegion);

impl MemoryRegion {
    pub(super) fn mapping(&self) -> &Mapping {
        self.0.mapping()
    }

    pub(super) fn access(&self) -> Access {
        self.0.region().access()
    }

    pub(super) fn addr(&self) -> u64 {
        self.0.region().addr()
    }

    pub(super) fn rkey(&self) -> u32 {
        self.0.region().rkey()
    }
}

pub(crate) struct MemoryWindow(rocev2_device::MemoryWindow);

impl MemoryWindow {
    pub(super) fn rkey(&self) -> u32 {
        self.0.window().rkey()
    }
}

pub(crate) struct CompletionChannel(Arc<rocev2_device::CompletionChannel>);

impl CompletionChannel {
    #[expect(clippy::unnecessary_wraps, reason = "a libibverbs device may be gone")]
    pub(super) fn try_event(&self) -> Result<Option<u64>, Error> {
        Ok(self.0.try_event())
    }
}

impl AsFd for CompletionChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(crate) struct CompletionQueue {
    queue: rocev2_device::CompletionQueue,
    /// Reused from poll to poll.
    scratch: Mutex<Vec<WorkCompletion>>,
}

impl CompletionQueue {
    pub(super) fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    pub(super) fn poll(&self, max: usize, take: impl FnMut(Ended)) -> Result<usize, Error> {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        scratch.clear();
        let taken = self.queue.poll(&mut scratch, max)?;
        scratch.drain(..).map(ended).for_each(take);
        Ok(taken)
    }

    pub(super) fn arm(&self, arm: Arm) {
        self.queue.arm(arm);
    }
}

pub(crate) struct QueuePair(rocev2_device::QueuePair);

impl QueuePair {
    pub(super) fn qpn(&self) -> Qpn {
        self.0.qpn()
    }

    pub(super) fn seal_by(&self, association: &rocev2_device::SecurityAssociation) -> Result<(), Error> {
        Ok(self.0.seal_by(association)?)
    }

    pub(super) fn init(&self, rights: PeerRights, qkey: u32) -> Result<(), Error> {
        let datagrams = self.0.transport() == Transport::Ud;
        let attributes = work::Attributes {
            rights: (!datagrams).then_some(rights),
            qkey: datagrams.then_some(qkey),
            pkey_index: Some(0),
            port: Some(1),
            ..to(State::Init)
        };
        Ok(self.0.set_attributes(attributes, None)?)
    }

    pub(super) fn ready_to_receive(&self, peer: &Peer, options: &ReceiveOptions) -> Result<(), Error> {
        let reliable = self.0.transport() == Transport::Rc;
        let attributes = work::Attributes {
            path_mtu: Some(options.path_mtu),
            peer_qpn: Some(peer.qpn),
            rq_psn: Some(peer.psn.get()),
            max_dest_rd_atomic: reliable.then_some(options.max_dest_rd_atomic),
            min_rnr_timer: reliable.then_some(options.min_rnr_timer),
            ..to(State::ReadyToReceive)
        };
        let path = path(options.gid_index, peer.gid, peer.udp_port, peer.lid)?;
        Ok(self.0.set_attributes(attributes, Some(path))?)
    }

    pub(super) fn ready_for_datagrams(&self, psn: Psn) -> Result<(), Error> {
        self.0.set_attributes(to(State::ReadyToReceive), None)?;
        let send = work::Attributes { sq_psn: Some(psn), ..to(State::ReadyToSend) };
        Ok(self.0.set_attributes(send, None)?)
    }

    pub(super) fn ready_to_send(&self, send: &SendAttributes) -> Result<(), Error> {
        let reliable = self.0.transport() == Transport::Rc;
        let attributes = work::Attributes {
            sq_psn: Some(send.sq_psn),
            timeout: reliable.then_some(send.timeout),
            retry_count: reliable.then_some(send.retry_count),
            rnr_retry: reliable.then_some(send.rnr_retry),
            max_rd_atomic: reliable.then_some(send.max_rd_atomic),
            ..to(State::ReadyToSend)
        };
        Ok(self.0.set_attributes(attributes, None)?)
    }

    pub(super) fn drain(&self) -> Result<(), Error> {
        Ok(self.0.modify(Transition::Drain)?)
    }

    pub(super) fn resume(&self) -> Result<(), Error> {
        Ok(self.0.modify(Transition::Resume)?)
    }

    pub(super) fn fail(&self) -> Result<(), Error> {
        Ok(self.0.modify(Transition::Error)?)
    }

    pub(super) fn query(&self) -> Result<Snapshot, Error> {
        let transport::Snapshot { state, rights, receive, send, requester, responder, .. } = self.0.query();
        let counters = Some(QueuePairCounters { requester, responder });
        Ok(Snapshot { state, rights, receive, send, counters })
    }

    #[inline]
    pub(super) fn prepare_send<'a>(
        &self,
        work: Work,
        needs: &Needs<'_>,
        elements: impl Iterator<Item = Element<'a>>,
    ) -> Result<SendRequest, PostReason> {
        let buffers = match (work.inline, needs) {
            (_, Needs::Window(window, range)) => Buffers::Bind(Box::new(bind(window, range)?)),
            (Some(bytes), _) => Buffers::Inline(bytes),
            (None, _) => list(elements)?,
        };
        let destination = match (work.destination, needs) {
            (Some(to), Needs::Handle(handle)) => {
                let handle = handle.embedded().map_err(|_| PostReason::OtherDevice)?;
                Some(Recipient::Datagram(Datagram {
                    address: handle.0.id(),
                    remote_qpn: to.qpn,
                    remote_qkey: to.qkey,
                }))
            }
            _ => None,
        };
        Ok(SendRequest {
            id: 0,
            operation: work.operation,
            buffers,
            len: work.len,
            signaled: work.signaled,
            solicited: work.solicited,
            fence: work.fence,
            destination,
        })
    }

    #[inline]
    pub(super) fn prepare_recv<'a>(
        &self,
        elements: impl Iterator<Item = Element<'a>>,
    ) -> Result<RecvRequest, PostReason> {
        recv_request(elements)
    }

    #[inline]
    pub(super) fn post_send(&self, number: u64, request: SendRequest) -> Result<(), PostReason> {
        Ok(self.0.post_send(SendRequest { id: number, ..request })?)
    }

    pub(super) fn post_send_list(
        &self,
        requests: impl Iterator<Item = (u64, SendRequest)>,
    ) -> Result<(), PostReason> {
        let requests = requests.map(|(number, request)| SendRequest { id: number, ..request });
        Ok(self.0.post_send_list(requests)?)
    }

    #[inline]
    pub(super) fn post_recv(&self, number: u64, request: RecvRequest) -> Result<(), PostReason> {
        Ok(self.0.post_recv(RecvRequest { id: number, ..request })?)
    }
}

/// The request that binds a window of this device to a range of a region of this device.
fn bind(window: &super::MemoryWindow, range: &super::WindowRange<'_>) -> Result<Bind, PostReason> {
    let window = window.embedded().map_err(|_| PostReason::OtherDevice)?;
    let region = range.region.embedded().map_err(|_| PostReason::OtherDevice)?.0.region();
    let va = region.addr().wrapping_add(range.offset);
    let range = WindowRange { region: Arc::clone(region), va, len: range.len, access: range.access };
    // Only the randomness of a new key can be missing.
    window.0.bind(None, Some(range)).map_err(|_| PostReason::Refused(libc::EAGAIN))
}

/// Attributes that lead to `state`.
fn to(state: State) -> work::Attributes {
    work::Attributes { state: Some(state), ..work::Attributes::default() }
}

/// The way from the address at `gid_index` to a peer.
fn path(
    gid_index: usize,
    peer: Gid,
    peer_port: Option<u16>,
    lid: Option<u16>,
) -> Result<PathAttributes, Error> {
    if lid.is_some() {
        return Err(Error::Unreachable {
            own: "of the embedded device".into(),
            peer,
            reason: "the peer's is on InfiniBand, which the embedded device doesn't speak".into(),
        });
    }
    Ok(PathAttributes { peer_port, ..PathAttributes::new(gid_index, peer) })
}

fn recv_request<'a>(elements: impl Iterator<Item = Element<'a>>) -> Result<RecvRequest, PostReason> {
    let buffers = list(elements)?;
    let len = buffers.len();
    Ok(RecvRequest { id: 0, buffers, len })
}

fn list<'a>(elements: impl Iterator<Item = Element<'a>>) -> Result<Buffers, PostReason> {
    let element = |element: Element<'a>| {
        let own = element.region.embedded().map_err(|_| PostReason::OtherDevice)?;
        let region = Arc::clone(own.0.region());
        let va = region.addr().wrapping_add(element.offset);
        Ok(rocev2_device::Element::new(region, va, element.len))
    };
    Ok(Buffers::List(elements.map(element).collect::<Result<_, PostReason>>()?))
}

fn ended(entry: WorkCompletion) -> Ended {
    let done = entry.completion;
    let recv = done.kind.is_recv();
    Ended {
        number: done.id,
        qpn: entry.qpn,
        recv,
        status: done.status.into(),
        kind: recv.then_some(done.kind),
        len: if recv { done.len } else { 0 },
        immediate: done.immediate,
        invalidated: done.invalidated,
        source: done.source_qp.map(|qpn| Source { qpn, grh: done.grh }),
    }
}

fn event(event: DeviceEvent) -> Event {
    match event {
        DeviceEvent::QueuePair(qpn, AsyncEvent::LastWorkRequestReached) => Event::LastReceiveTaken(qpn),
        DeviceEvent::QueuePair(qpn, what) => Event::QueuePair(qpn, what),
        DeviceEvent::CompletionQueueOverflow(number) => Event::CompletionQueueOverflow(number),
        DeviceEvent::SharedReceiveQueueLimit(number) => Event::SharedReceiveQueueLimit(number),
    }
}

fn gid((index, entry): (usize, rocev2_device::GidEntry)) -> GidEntry {
    let unbound = SocketAddr::new(entry.address, rocev2::UDP_PORT);
    GidEntry {
        index,
        kind: GidKind::RoceV2,
        gid: entry.bound.map_or_else(|| Gid::for_endpoint(unbound), |(gid, _)| gid),
        address: Some(entry.address),
        interface: Some(entry.interface),
        mtu: entry.mtu,
        sealed_mtu: entry.sealed_mtu,
        udp_port: entry.bound.map(|(_, port)| port),
        lid: None,
    }
}
