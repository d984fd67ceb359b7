//! Two ends of a connection on real sockets, for tests.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use verbs::{
    Access, Completion, CompletionQueue, Device, DeviceSelector, MemoryRegion, Mtu, OwnPsn, Peer, PeerPsn,
    PeerRights, QueuePair, QueuePairLimits, ReadyToSend, ReceiveOptions, RecvRequest, Reset, SendOptions,
    Status,
};

/// Long enough for any machine; a test that works never waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One end: its own device, with its own sockets.
pub(crate) struct End {
    pub(crate) device: Arc<Device>,
    pub(crate) queue: Arc<CompletionQueue>,
    pub(crate) qp: Option<QueuePair<ReadyToSend>>,
    pub(crate) memory: MemoryRegion,
}

/// How the ends are made.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) address: IpAddr,
    pub(crate) mtu: Mtu,
    pub(crate) rights: PeerRights,
    pub(crate) access: Access,
    pub(crate) memory: usize,
    pub(crate) send: SendOptions,
    pub(crate) limits: QueuePairLimits,
    pub(crate) receives: u64,
    pub(crate) queue: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            address: [127, 0, 0, 1].into(),
            mtu: Mtu::B4096,
            rights: PeerRights { read: true, write: true, atomic: true },
            access: Access::LOCAL_WRITE | Access::REMOTE_WRITE | Access::REMOTE_READ | Access::REMOTE_ATOMIC,
            memory: 4 << 20,
            send: SendOptions { timeout: 14, retry_count: 7, rnr_retry: 7, max_rd_atomic: 16 },
            limits: QueuePairLimits { max_send_requests: 256, max_recv_requests: 256 },
            receives: 0,
            queue: 1024,
        }
    }
}

impl End {
    fn new(setup: &Setup) -> (Self, QueuePair<Reset>) {
        let selector = DeviceSelector::Embedded { address: Some(setup.address), port: None };
        let device = Device::open(&selector).expect("the embedded device opens");
        let domain = device.protection_domain().expect("a protection domain");
        let channel = device.completion_channel().expect("a channel");
        let queue = device.completion_queue(setup.queue, Some(&channel)).expect("a completion queue");
        let qp = domain.queue_pair(&queue, &queue, setup.limits).expect("a queue pair");
        let memory = domain.register(setup.memory, setup.access).expect("memory");
        (Self { device, queue, qp: None, memory }, qp)
    }

    pub(crate) fn qp(&mut self) -> &mut QueuePair<ReadyToSend> {
        self.qp.as_mut().expect("connected")
    }

    /// The next completion.
    pub(crate) fn next(&self) -> Completion {
        let mut out = Vec::new();
        self.queue.wait(&mut out, 1, PATIENCE).expect("the queue works");
        out.pop().expect("a completion in time")
    }

    /// The next completion, which is a success.
    pub(crate) fn done(&self) -> Completion {
        let completion = self.next();
        assert_eq!(completion.status, Status::Success, "{completion:?}");
        completion
    }
}

/// Two ends, connected.
pub(crate) fn connect(setup: &Setup) -> (End, End) {
    let ((mut a, qp_a), (mut b, qp_b)) = (End::new(setup), End::new(setup));
    let psns = [OwnPsn::random().expect("random"), OwnPsn::random().expect("random")];
    let entries = [&a, &b].map(|end| end.device.gid_of(setup.address).expect("the address is bound"));
    let peers = [(qp_a.qpn(), 0), (qp_b.qpn(), 1)].map(|(qpn, side)| {
        let (gid, port) = entries[side].bound.expect("bound");
        Peer { qpn, psn: PeerPsn::new(psns[side].get()), gid, port: Some(port) }
    });
    let drive = |qp: QueuePair<Reset>, end: &End, own: usize, peer: usize| {
        let mut qp = qp.init(setup.rights).expect("INIT");
        for id in 0..setup.receives {
            let slice = end.memory.slice((1 << 20) + id * 4096, 4096).expect("a slice");
            qp.post_recv(RecvRequest::new([slice]).id(id)).expect("posted");
        }
        let options = ReceiveOptions {
            gid_index: entries[own].index,
            path_mtu: setup.mtu,
            max_dest_rd_atomic: setup.send.max_rd_atomic,
            min_rnr_timer: 1,
        };
        let qp = qp.ready_to_receive(&peers[peer], &options).expect("RTR");
        qp.ready_to_send(psns[own], &setup.send).expect("RTS")
    };
    a.qp = Some(drive(qp_a, &a, 0, 1));
    b.qp = Some(drive(qp_b, &b, 1, 0));
    (a, b)
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(len: usize, seed: u8) -> Vec<u8> {
    let place = (0..251u8).cycle();
    let round = (0..=255u8).cycle().flat_map(|round| core::iter::repeat_n(round, 251));
    place.zip(round).map(|(place, round)| place ^ round ^ seed).take(len).collect()
}
