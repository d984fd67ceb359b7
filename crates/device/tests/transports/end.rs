//! A queue pair of any transport, on a device of its own or on one that has others.

use rocev2::wire::Transport;
use rocev2::work::{
    Attributes, Completion, Datagram, PeerRights, PostError, QueuePairType, Recipient, RecvRequest,
    RemoteAddress, SendOperation, SendRequest, State, Status,
};
use rocev2::{Mtu, Psn};
use rocev2_device::memory::Access;
use rocev2_device::{
    AddressHandle, Buffers, CompletionQueue, Config, Device, Element, MemoryRegion, PathAttributes,
    ProtectionDomain, QueuePair, QueuePairOptions, SharedReceiveQueue,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const QKEY: u32 = 0x1111_2222;
pub(crate) const GRH: usize = 40;

/// Memory of an end: the first half to send from, the second to receive into.
pub(crate) const MEMORY: usize = 1 << 20;
const HALF: u64 = MEMORY as u64 / 2;

/// An address of 127.0.0.0/8 that no other process's tests use.
pub(crate) fn fresh() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

pub(crate) fn device(address: IpAddr) -> Arc<Device> {
    // Another test may have the port at an address that isn't fresh.
    Arc::new(Device::open(Config { address: Some(address), ..Config::default() }).unwrap())
}

pub(crate) struct End {
    pub(crate) device: Arc<Device>,
    pub(crate) gid_index: usize,
    pub(crate) domain: Arc<ProtectionDomain>,
    pub(crate) queue: Arc<CompletionQueue>,
    pub(crate) queue_pair: QueuePair,
    pub(crate) memory: MemoryRegion,
    arrived: RefCell<VecDeque<Completion>>,
}

impl End {
    pub(crate) fn new(transport: Transport, address: IpAddr) -> Self {
        Self::with(transport, &device(address), address, None)
    }

    pub(crate) fn with(
        transport: Transport,
        device: &Arc<Device>,
        address: IpAddr,
        shared: Option<&SharedReceiveQueue>,
    ) -> Self {
        Self::made(device, address, |domain, queue| {
            let options = QueuePairOptions { shared, ..QueuePairOptions::new(transport, queue, 1 << 11) };
            domain.queue_pair(options).unwrap()
        })
    }

    /// With a queue pair that `make` makes.
    pub(crate) fn made(
        device: &Arc<Device>,
        address: IpAddr,
        make: impl FnOnce(&ProtectionDomain, &CompletionQueue) -> QueuePair,
    ) -> Self {
        let gid_index = device.gid_index(address).unwrap();
        device.bind_gid(gid_index).unwrap();
        let domain = Arc::new(device.protection_domain());
        let queue = Arc::new(device.completion_queue(1 << 12, None).unwrap());
        let queue_pair = make(&domain, &queue);
        let access = Access::LOCAL_WRITE | Access::REMOTE_WRITE | Access::REMOTE_READ | Access::REMOTE_ATOMIC;
        let memory = domain.register(MEMORY, access).unwrap();
        let (device, arrived) = (Arc::clone(device), RefCell::default());
        Self { device, gid_index, domain, queue, queue_pair, memory, arrived }
    }

    /// The way to `peer`.
    pub(crate) fn path(&self, peer: &Self) -> PathAttributes {
        let (peer_gid, port) = peer.device.bind_gid(peer.gid_index).unwrap();
        PathAttributes { peer_port: Some(port), ..PathAttributes::new(self.gid_index, peer_gid) }
    }

    pub(crate) fn set(&self, attributes: Attributes, path: Option<PathAttributes>) {
        self.queue_pair.set_attributes(attributes, path).unwrap();
    }

    /// To RTS, as the queue pair's type wants it.
    pub(crate) fn connect(&self, peer: &Self) {
        let of = self.queue_pair.queue_pair_type();
        let connected = of != QueuePairType::Ud;
        let requester = matches!(of, QueuePairType::Rc | QueuePairType::XrcInitiator);
        let responder = matches!(of, QueuePairType::Rc | QueuePairType::XrcTarget);
        let rights = PeerRights { read: true, write: true, atomic: true };
        self.set(
            Attributes {
                state: Some(State::Init),
                pkey_index: Some(0),
                port: Some(1),
                rights: connected.then_some(rights),
                qkey: (!connected).then_some(QKEY),
                ..Attributes::default()
            },
            None,
        );
        self.set(
            Attributes {
                state: Some(State::ReadyToReceive),
                path_mtu: connected.then_some(Mtu::B1024),
                peer_qpn: connected.then_some(peer.queue_pair.qpn()),
                rq_psn: connected.then_some(Psn::truncate(0xff_fff0)),
                max_dest_rd_atomic: responder.then_some(4),
                min_rnr_timer: responder.then_some(1),
                ..Attributes::default()
            },
            connected.then(|| self.path(peer)),
        );
        self.set(
            Attributes {
                state: Some(State::ReadyToSend),
                sq_psn: Some(Psn::truncate(0xff_fff0)),
                timeout: of.is_reliable().then_some(14),
                retry_count: requester.then_some(7),
                rnr_retry: requester.then_some(7),
                max_rd_atomic: requester.then_some(4),
                ..Attributes::default()
            },
            None,
        );
    }

    fn buffers(&self, offset: u64, len: u32) -> Buffers {
        let region = Arc::clone(self.memory.region());
        let va = region.addr() + offset;
        Buffers::List([Element::new(region, va, len)].into_iter().collect())
    }

    pub(crate) fn request(
        &self,
        operation: SendOperation,
        len: u32,
        destination: Option<Recipient>,
    ) -> SendRequest<Buffers> {
        SendRequest {
            id: 1,
            operation,
            buffers: self.buffers(0, len),
            len,
            signaled: true,
            solicited: false,
            fence: false,
            destination,
        }
    }

    /// Posts a request with these bytes.
    pub(crate) fn post(
        &self,
        operation: SendOperation,
        bytes: &[u8],
        destination: Option<Recipient>,
    ) -> Result<(), PostError> {
        self.memory.mapping().write(0, bytes).unwrap();
        let len = u32::try_from(bytes.len()).unwrap();
        self.queue_pair.post_send(self.request(operation, len, destination))
    }

    pub(crate) fn receive_request(&self, id: u64, len: usize) -> RecvRequest<Buffers> {
        let buffers = self.buffers(HALF, u32::try_from(len).unwrap());
        RecvRequest { id, buffers, len: len as u64 }
    }

    /// Posts a receive request for `len` bytes at `offset` of where it receives.
    pub(crate) fn post_recv_at(&self, id: u64, offset: usize, len: usize) {
        let buffers = self.buffers(HALF + offset as u64, u32::try_from(len).unwrap());
        self.queue_pair.post_recv(RecvRequest { id, buffers, len: len as u64 }).unwrap();
    }

    pub(crate) fn post_recv(&self, len: usize) {
        self.queue_pair.post_recv(self.receive_request(2, len)).unwrap();
    }

    pub(crate) fn received(&self, len: usize) -> Vec<u8> {
        self.received_at(0, len)
    }

    pub(crate) fn received_at(&self, offset: usize, len: usize) -> Vec<u8> {
        self.bytes(HALF + offset as u64, len)
    }

    pub(crate) fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.mapping().read(usize::try_from(offset).unwrap(), &mut bytes).unwrap();
        bytes
    }

    /// The start of its memory, for a peer that writes there.
    pub(crate) fn target(&self, offset: u64) -> RemoteAddress {
        let region = self.memory.region();
        RemoteAddress { va: region.addr() + offset, rkey: region.rkey() }
    }

    /// The next completion, if there is one.
    pub(crate) fn poll(&self) -> Option<Completion> {
        let mut arrived = self.arrived.borrow_mut();
        if arrived.is_empty() {
            let mut out = Vec::new();
            self.queue.poll(&mut out, 64).unwrap();
            arrived.extend(out.iter().map(|done| done.completion));
        }
        arrived.pop_front()
    }

    pub(crate) fn next(&self) -> Completion {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(done) = self.poll() {
                return done;
            }
            assert!(Instant::now() < deadline, "no completion; {:?}", self.counters());
        }
    }

    /// The next completion, a success.
    pub(crate) fn done(&self) -> Completion {
        let done = self.next();
        assert_eq!(done.status, Status::Success, "{done:?}");
        done
    }

    /// So many completions more, all of them successes.
    pub(crate) fn all_done(&self, count: usize) {
        (0..count).for_each(|_| {
            self.done();
        });
    }

    pub(crate) fn counters(&self) -> Vec<(&'static str, u64)> {
        self.device.counters().into_iter().filter(|(_, count)| *count > 0).collect()
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        self.device.counters().into_iter().find(|row| row.0 == name).unwrap().1
    }

    /// Waits until a counter is `count`.
    pub(crate) fn wait_for(&self, name: &str, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(name) < count {
            self.queue.poll(&mut Vec::new(), 0).unwrap();
            assert!(Instant::now() < deadline, "{name}: {:?}", self.counters());
        }
    }

    pub(crate) fn handle(&self, peer: &Self) -> AddressHandle {
        self.domain.address_handle(self.path(peer)).unwrap()
    }

    pub(crate) fn to(&self, handle: &AddressHandle, qkey: u32) -> Option<Recipient> {
        let remote_qpn = self.queue_pair.qpn();
        Some(Recipient::Datagram(Datagram { address: handle.id(), remote_qpn, remote_qkey: qkey }))
    }
}
