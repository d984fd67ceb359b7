//! Two ends of a connection on real devices, for tests.

mod place;

pub(crate) use place::{Place, places};

use rdma_verbs::{
    Access, Completion, CompletionQueue, ConnectOptions, Device, Endpoint, GidEntry, MemoryRegion, OwnPsn,
    PeerRights, ProtectionDomain, QueuePair, QueuePairLimits, ReadyToSend, RecvRequest, Reset, Status,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Long enough for any machine; a test that works never waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One end: its own device, with its own sockets.
pub(crate) struct End {
    pub(crate) place: Place,
    pub(crate) device: Arc<Device>,
    pub(crate) domain: Arc<ProtectionDomain>,
    pub(crate) queue: Arc<CompletionQueue>,
    pub(crate) qp: Option<QueuePair<ReadyToSend>>,
    pub(crate) memory: MemoryRegion,
    pub(crate) gid: GidEntry,
}

/// How the ends are made.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// Whether they are joined by IPv6.
    pub(crate) v6: bool,
    pub(crate) rights: PeerRights,
    pub(crate) access: Access,
    pub(crate) memory: usize,
    pub(crate) connect: ConnectOptions,
    pub(crate) limits: QueuePairLimits,
    pub(crate) receives: u64,
    pub(crate) queue: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            v6: false,
            rights: PeerRights { read: true, write: true, atomic: true },
            access: Access::LOCAL_WRITE | Access::REMOTE_WRITE | Access::REMOTE_READ | Access::REMOTE_ATOMIC,
            memory: 4 << 20,
            connect: ConnectOptions { min_rnr_timer: 1, ..ConnectOptions::default() },
            limits: QueuePairLimits {
                max_send_requests: 256,
                max_recv_requests: 256,
                max_sge: 4,
                max_inline: 64,
            },
            receives: 0,
            queue: 1024,
        }
    }
}

impl End {
    fn new(
        setup: &Setup,
        psn: OwnPsn,
        (place, device, gid): (Place, Arc<Device>, GidEntry),
    ) -> (Self, QueuePair<Reset>) {
        let domain = device.protection_domain().expect("a protection domain");
        let channel = device.completion_channel().expect("a channel");
        let queue = device.completion_queue(setup.queue, Some(&channel)).expect("a completion queue");
        let qp =
            QueuePair::builder(&domain, &queue).limits(setup.limits).psn(psn).build().expect("a queue pair");
        let memory = domain.register(setup.memory, setup.access).expect("memory");
        (Self { place, device, domain, queue, qp: None, memory, gid }, qp)
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

    /// What the device says of the queue pair's state.
    pub(crate) fn state(&self) -> rdma_verbs::State {
        self.qp.as_ref().expect("connected").query().expect("the device answers").state
    }
}

/// Two ends, connected: where [`places`] says.
pub(crate) fn connect(setup: &Setup) -> (End, End) {
    connect_with(setup, [OwnPsn::random().expect("random"), OwnPsn::random().expect("random")])
}

/// Two ends, connected, with these PSNs.
pub(crate) fn connect_with(setup: &Setup, psns: [OwnPsn; 2]) -> (End, End) {
    join(setup, psns, &open(setup.v6), |_, _| ())
}

/// Two ends, connected once `prepare` has seen both with their queue pairs, and may have changed what they tell each
/// other.
pub(crate) fn connect_prepared(
    setup: &Setup,
    prepare: impl FnOnce([(&End, &QueuePair<Reset>); 2], &mut [Endpoint; 2]),
) -> (End, End) {
    let psns = [OwnPsn::random().expect("random"), OwnPsn::random().expect("random")];
    join(setup, psns, &open(setup.v6), prepare)
}

/// Several connections between the same two devices; their setups are alike in the version of IP.
pub(crate) fn connect_all(setups: &[Setup]) -> Vec<(End, End)> {
    let devices = open(setups[0].v6);
    let psns = || [OwnPsn::random().expect("random"), OwnPsn::random().expect("random")];
    setups.iter().map(|setup| join(setup, psns(), &devices, |_, _| ())).collect()
}

/// Where [`places`] says: the devices, and the addresses that are used.
fn open(v6: bool) -> [(Place, Arc<Device>, GidEntry); 2] {
    places().map(|place| {
        let (device, gid) = place.open(v6);
        (place, device, gid)
    })
}

fn join(
    setup: &Setup,
    psns: [OwnPsn; 2],
    devices: &[(Place, Arc<Device>, GidEntry); 2],
    prepare: impl FnOnce([(&End, &QueuePair<Reset>); 2], &mut [Endpoint; 2]),
) -> (End, End) {
    let [own, peers] = psns;
    let [of_a, of_b] = devices.clone();
    let (mut a, qp_a) = End::new(setup, own, of_a);
    let (mut b, qp_b) = End::new(setup, peers, of_b);
    let mut endpoints = [qp_a.endpoint(&a.gid), qp_b.endpoint(&b.gid)];
    prepare([(&a, &qp_a), (&b, &qp_b)], &mut endpoints);
    let [endpoint_a, endpoint_b] = endpoints;
    let drive = |qp: QueuePair<Reset>, end: &End, peer: &Endpoint| {
        let mut qp = qp.init(setup.rights).expect("INIT");
        for id in 0..setup.receives {
            let slice = end.memory.slice((1 << 20) + id * 4096, 4096).expect("a slice");
            qp.post_recv(RecvRequest::new([slice]).id(id)).expect("posted");
        }
        qp.connect(&end.gid, peer, &setup.connect).expect("connected")
    };
    a.qp = Some(drive(qp_a, &a, &endpoint_b));
    b.qp = Some(drive(qp_b, &b, &endpoint_a));
    (a, b)
}

/// Waits until `device` has found no receive request for a message, the first one: where no acknowledgement tells, it
/// is lost then. The embedded device counts it; others get time for it.
pub(crate) fn wait_for_not_ready(device: &Device) {
    const OTHERS: Duration = Duration::from_millis(300);
    let not_ready =
        || device.counters().into_iter().find(|row| row.0 == "receiver_not_ready").map(|row| row.1);
    if not_ready().is_none() {
        std::thread::sleep(OTHERS);
    }
    let deadline = Instant::now() + PATIENCE;
    while not_ready() == Some(0) {
        assert!(Instant::now() < deadline, "it doesn't come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(len: usize, seed: u8) -> Vec<u8> {
    let place = (0..251u8).cycle();
    let round = (0..=255u8).cycle().flat_map(|round| core::iter::repeat_n(round, 251));
    place.zip(round).map(|(place, round)| place ^ round ^ seed).take(len).collect()
}
