//! Two devices that are connected.

use rocev2::wire::Transport;
use rocev2::work::{
    InitAttributes, PeerRights, ReceiveAttributes, RecvRequest, SendAttributes, SendOperation, SendRequest,
    Status, Transition,
};
use rocev2::{Mtu, Psn};
use rocev2_device::{
    Buffers, CompletionQueue, Config, Device, PathAttributes, ProtectionDomain, QueuePair, QueuePairOptions,
    WorkCompletion,
};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// How long is waited for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One end of a connection.
pub(crate) struct End {
    pub(crate) device: Arc<Device>,
    pub(crate) gid_index: usize,
    queue: CompletionQueue,
    pub(crate) domain: Arc<ProtectionDomain>,
    pub(crate) queue_pair: QueuePair,
}

impl End {
    /// On a device of its own.
    fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        // An address that no other process's tests use.
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed)).into();
        let device = Arc::new(Device::open(Config { address: Some(address), ..Config::default() }).unwrap());
        let gid_index = device.gid_index(address).unwrap();
        Self::on(&device, gid_index, &Arc::new(device.protection_domain()))
    }

    /// On a device and in a protection domain that may have others.
    pub(crate) fn on(device: &Arc<Device>, gid_index: usize, domain: &Arc<ProtectionDomain>) -> Self {
        let queue = device.completion_queue(64, None).unwrap();
        let queue_pair = domain.queue_pair(QueuePairOptions::new(Transport::Rc, &queue, 8)).unwrap();
        Self { device: Arc::clone(device), gid_index, queue, domain: Arc::clone(domain), queue_pair }
    }

    pub(crate) fn pair() -> [Self; 2] {
        Self::connected([Self::new(), Self::new()])
    }

    /// Connects two ends with each other.
    pub(crate) fn connected(ends: [Self; 2]) -> [Self; 2] {
        ends[0].connect(&ends[1]);
        ends[1].connect(&ends[0]);
        ends
    }

    fn connect(&self, peer: &Self) {
        let rights = PeerRights { write: true, read: true, atomic: true };
        self.queue_pair.modify(Transition::Init(InitAttributes { rights })).unwrap();
        let (peer_gid, peer_port) = peer.device.bind_gid(peer.gid_index).unwrap();
        let path =
            PathAttributes { peer_port: Some(peer_port), ..PathAttributes::new(self.gid_index, peer_gid) };
        let receive = ReceiveAttributes {
            path_mtu: Mtu::B4096,
            peer_qpn: peer.queue_pair.qpn(),
            rq_psn: Psn::default(),
            max_dest_rd_atomic: 1,
            min_rnr_timer: 1,
        };
        self.queue_pair.ready_to_receive(receive, path).unwrap();
        let send = SendAttributes {
            sq_psn: Psn::default(),
            timeout: 14,
            retry_count: 7,
            rnr_retry: 7,
            max_rd_atomic: 1,
        };
        self.queue_pair.modify(Transition::ReadyToSend(send)).unwrap();
    }

    /// Bytes of a region, by its local key.
    pub(crate) fn list(&self, lkey: u32, va: u64, len: u32) -> Buffers {
        Buffers::List([self.domain.element(lkey, va, len)].into_iter().collect())
    }

    pub(crate) fn send(&self, operation: SendOperation, buffers: Buffers) {
        let len = u32::try_from(buffers.len()).unwrap();
        self.queue_pair
            .post_send(SendRequest {
                id: 1,
                operation,
                destination: None,
                buffers,
                len,
                signaled: true,
                solicited: false,
                fence: false,
            })
            .unwrap();
    }

    pub(crate) fn receive(&self, buffers: Buffers) {
        let len = buffers.len();
        self.queue_pair.post_recv(RecvRequest { id: 2, buffers, len }).unwrap();
    }

    /// The next completion, if there is one.
    pub(crate) fn poll(&self) -> Option<WorkCompletion> {
        let mut done = Vec::new();
        self.queue.poll(&mut done, 1).unwrap();
        done.pop()
    }

    /// The next completion.
    pub(crate) fn wait(&self) -> WorkCompletion {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(done) = self.poll() {
                return done;
            }
            assert!(Instant::now() < deadline, "no completion; {:?}", self.counters());
        }
    }

    /// What the next completion says.
    pub(crate) fn next(&self) -> Status {
        self.wait().completion.status
    }

    pub(crate) fn counters(&self) -> Vec<(&'static str, u64)> {
        self.device.counters()
    }
}
