//! Unreliable connections, datagrams, and receive queues that several queue pairs share.

use crate::common::{PATIENCE, pattern, places, wait_for_not_ready};
use rdma_verbs::{
    Access, Completion, CompletionKind, CompletionQueue, ConnectOptions, Destination, Device, Event,
    GidEntry, MemoryRegion, PeerRights, ProtectionDomain, QueuePair, ReadyToSend, RecvRequest, SendRequest,
    Shared, SharedReceiveQueue, SharedReceiveQueueLimits, Source, Status, Uc, Ud,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes before each received datagram.
const GRH: usize = 40;

/// One end, with everything but queue pairs.
struct Host {
    device: Arc<Device>,
    gid: GidEntry,
    domain: Arc<ProtectionDomain>,
    queue: Arc<CompletionQueue>,
    memory: MemoryRegion,
}

impl Host {
    fn pair(v6: bool) -> [Self; 2] {
        places().map(|place| {
            let (device, gid) = place.open(v6);
            let domain = device.protection_domain().expect("a domain");
            let channel = device.completion_channel().expect("a channel");
            let queue = device.completion_queue(256, Some(&channel)).expect("a queue");
            let access = Access::LOCAL_WRITE | Access::REMOTE_WRITE;
            let memory = domain.register(1 << 20, access).expect("memory");
            Self { device, gid, domain, queue, memory }
        })
    }

    fn next(&self) -> Completion {
        let mut out = Vec::new();
        self.queue.wait(&mut out, 1, PATIENCE).expect("the queue works");
        out.pop().expect("a completion in time")
    }

    fn done(&self) -> Completion {
        let completion = self.next();
        assert_eq!(completion.status, Status::Success, "{completion:?}");
        completion
    }

    fn uc(&self) -> QueuePair<rdma_verbs::Init, Uc> {
        let built = QueuePair::builder(&self.domain, &self.queue).uc().build().expect("a queue pair");
        built.init(PeerRights { write: true, ..PeerRights::default() }).expect("INIT")
    }

    fn ud(&self, qkey: u32) -> QueuePair<ReadyToSend, Ud> {
        let built = QueuePair::builder(&self.domain, &self.queue).ud().build().expect("a queue pair");
        built.init(qkey).expect("INIT").ready().expect("RTS")
    }

    fn srq(&self, max_requests: usize) -> Arc<SharedReceiveQueue> {
        let limits = SharedReceiveQueueLimits { max_requests, max_sge: 1 };
        self.domain.shared_receive_queue(limits).expect("a shared receive queue")
    }
}

/// The two ends of an unreliable connection.
fn connect_uc(hosts: &[Host; 2]) -> [QueuePair<ReadyToSend, Uc>; 2] {
    let [a, b] = hosts.each_ref().map(Host::uc);
    let at = [a.endpoint(&hosts[0].gid), b.endpoint(&hosts[1].gid)];
    let options = ConnectOptions::default();
    let b = b.connect(&hosts[1].gid, &at[0], &options).expect("connected");
    [a.connect(&hosts[0].gid, &at[1], &options).expect("connected"), b]
}

#[test]
fn unreliable_connections_carry_sends_and_writes_in_order() {
    for v6 in [false, true] {
        let hosts = Host::pair(v6);
        let [mut a, mut b] = connect_uc(&hosts);
        let sizes = [0, 1, 1023, 1024, 1025, 4096, 70_000_u32];
        for (id, len) in sizes.into_iter().enumerate() {
            let id = id as u64;
            b.post_recv(RecvRequest::new([hosts[1].memory.slice(0, 100_000).unwrap()]).id(id)).unwrap();
            let data = pattern(len as usize, 7);
            let mut slice = hosts[0].memory.slice(0, len).unwrap();
            slice.fill(&data).unwrap();
            a.post_send(SendRequest::send([slice]).immediate(len).id(id)).unwrap();
            assert_eq!(hosts[0].done().kind, CompletionKind::Send);
            let mut received = hosts[1].done();
            assert_eq!((received.id, received.len, received.immediate), (id, len, Some(len)));
            assert_eq!(received.source, None);
            let mut bytes = vec![0; data.len()];
            received.slice().unwrap().read(0, &mut bytes).unwrap();
            assert!(bytes == data, "{len} bytes");
        }
        // A WRITE, and one whose immediate says that both have arrived.
        let data = pattern(10_000, 8);
        let target = |at, len| hosts[1].memory.remote().range(at, len).unwrap();
        let mut slice = hosts[0].memory.slice(0, 10_000).unwrap();
        slice.fill(&data).unwrap();
        b.post_recv(RecvRequest::new([])).unwrap();
        a.post_send(SendRequest::write([slice], target(200_000, 10_000))).unwrap();
        a.post_send(SendRequest::write([], target(0, 0)).immediate(9)).unwrap();
        for _ in 0..2 {
            assert_eq!(hosts[0].done().kind, CompletionKind::Write);
        }
        let received = hosts[1].done();
        assert_eq!((received.kind, received.immediate), (CompletionKind::RecvWriteImmediate, Some(9)));
        let mut bytes = vec![0; data.len()];
        hosts[1].memory.read(200_000, &mut bytes).unwrap();
        assert!(bytes == data);
    }
}

/// Nothing tells the sender of an unreliable connection that nobody takes its messages, and the next one that
/// finds a receive request arrives.
#[test]
fn a_message_that_finds_no_receive_is_lost_on_an_unreliable_connection_and_the_next_one_is_not() {
    let hosts = Host::pair(false);
    let [mut a, mut b] = connect_uc(&hosts);
    let mut send = |id: u8| {
        let mut slice = hosts[0].memory.slice(0, 1).unwrap();
        slice.fill(&[id]).unwrap();
        a.post_send(SendRequest::send([slice]).id(id.into())).unwrap();
        assert_eq!(hosts[0].done().id, u64::from(id));
    };
    send(1);
    // It is lost when the responder looks at it: what is posted too early takes it.
    wait_for_not_ready(&hosts[1].device);
    b.post_recv(RecvRequest::new([hosts[1].memory.slice(0, 8).unwrap()])).unwrap();
    send(2);
    let mut byte = [0];
    hosts[1].done().slice().unwrap().read(0, &mut byte).unwrap();
    assert_eq!(byte, [2]);
}

#[test]
fn datagrams_come_with_their_source_and_its_header_and_only_for_the_right_key() {
    const QKEY: u32 = 0x1122_3344;
    for v6 in [false, true] {
        let hosts = Host::pair(v6);
        let [mut a, mut b] = hosts.each_ref().map(|host| host.ud(QKEY));
        let there = b.endpoint(&hosts[1].gid);
        let way = hosts[0].domain.address_handle(&hosts[0].gid, &there).unwrap();
        let right = Destination { qpn: b.qpn(), qkey: QKEY };
        let wrong = Destination { qkey: QKEY ^ 1, ..right };
        for len in [0, 1, 1000_u32] {
            b.post_recv(RecvRequest::new([hosts[1].memory.slice(0, 2048).unwrap()])).unwrap();
            let data = pattern(len as usize, 3);
            for to in [wrong, right] {
                let mut slice = hosts[0].memory.slice(0, len).unwrap();
                slice.fill(&data).unwrap();
                a.post_send(SendRequest::datagram([slice], &way, to).immediate(to.qkey)).unwrap();
                assert_eq!(hosts[0].done().kind, CompletionKind::Send);
            }
            let mut received = hosts[1].done();
            assert_eq!((received.len, received.immediate), (len + 40, Some(QKEY)));
            assert_eq!(received.source, Some(Source { qpn: a.qpn(), grh: true }));
            let mut bytes = vec![0; GRH + data.len()];
            received.slice().unwrap().read(0, &mut bytes).unwrap();
            assert!(bytes[GRH..] == data, "{len} bytes");
            check_header(&bytes[..GRH], &hosts);
        }
    }
}

/// Of IPv4 the header stands in the last 20 bytes; IPv6's is as long as the global route header.
fn check_header(header: &[u8], hosts: &[Host; 2]) {
    match hosts.each_ref().map(|host| host.gid.address.expect("RoCE")) {
        [IpAddr::V4(from), IpAddr::V4(to)] => {
            let ip = &header[20..];
            assert_eq!(ip[0], 0x45, "IPv4, 20 bytes");
            assert_eq!([&ip[12..16], &ip[16..20]], [from.octets(), to.octets()]);
        }
        [IpAddr::V6(from), IpAddr::V6(to)] => {
            assert_eq!(header[0] >> 4, 6);
            assert_eq!([&header[8..24], &header[24..40]], [from.octets(), to.octets()]);
        }
        mixed => panic!("{mixed:?}"),
    }
}

#[test]
fn queue_pairs_share_a_receive_queue_which_tells_when_it_runs_low() {
    const CONNECTIONS: usize = 2;
    let hosts = Host::pair(false);
    let [a, b] = &hosts;
    let srq = b.srq(16);
    let build = |host: &Host| QueuePair::builder(&host.domain, &host.queue);
    let (mut senders, mut receivers) = (Vec::new(), Vec::<QueuePair<ReadyToSend, _, Shared>>::new());
    for _ in 0..CONNECTIONS {
        let near = build(a).build().unwrap().init(PeerRights::default()).unwrap();
        let far = build(b).shared_receive_queue(&srq).build().unwrap().init(PeerRights::default()).unwrap();
        let [at, to] = [near.endpoint(&a.gid), far.endpoint(&b.gid)];
        receivers.push(far.connect(&b.gid, &at, &ConnectOptions::default()).unwrap());
        senders.push(near.connect(&a.gid, &to, &ConnectOptions::default()).unwrap());
    }
    for id in 0..6_u64 {
        let slice = b.memory.slice(id * 4096, 4096).unwrap();
        srq.post_recv(RecvRequest::new([slice]).id(id)).unwrap();
    }
    srq.arm_limit(2).unwrap();
    let mut seen = Vec::new();
    for message in 0..5_u8 {
        let sender = &mut senders[usize::from(message) % CONNECTIONS];
        let mut slice = a.memory.slice(0, 1).unwrap();
        slice.fill(&[message]).unwrap();
        sender.post_send(SendRequest::send([slice])).unwrap();
        a.done();
        let mut received = b.done();
        assert_eq!(received.qpn, receivers[usize::from(message) % CONNECTIONS].qpn());
        assert!(received.released.is_empty());
        let (id, slice) = (received.id, received.slice().unwrap());
        let mut byte = [0];
        slice.read(0, &mut byte).unwrap();
        assert_eq!(byte, [message], "the slice is the one that the message went into");
        seen.push(id);
    }
    assert_eq!(seen, [0, 1, 2, 3, 4], "each message took the request that was posted first");
    let deadline = Instant::now() + PATIENCE;
    let event = loop {
        match b.device.try_event() {
            Some(event @ Event::SharedReceiveQueueLimit(_)) => break event,
            _ if Instant::now() > deadline => panic!("no event"),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    assert_eq!(event, Event::SharedReceiveQueueLimit(srq.number()));
    // The queue stays when one of its queue pairs goes.
    drop(receivers.remove(0));
    let slice = a.memory.slice(0, 0).unwrap();
    senders[1].post_send(SendRequest::send([slice])).unwrap();
    a.done();
    assert_eq!(b.done().id, 5);
}

#[test]
fn a_queue_pair_that_signals_all_reports_what_asked_for_no_report() {
    let [a, b] = &Host::pair(false);
    let make = |host: &Host| {
        let built = QueuePair::builder(&host.domain, &host.queue).signal_all().build();
        built.unwrap().init(PeerRights::default()).unwrap()
    };
    let (near, mut far) = (make(a), make(b));
    far.post_recv(RecvRequest::new([])).unwrap();
    let [at, to] = [near.endpoint(&a.gid), far.endpoint(&b.gid)];
    let _far = far.connect(&b.gid, &at, &ConnectOptions::default()).unwrap();
    let mut near = near.connect(&a.gid, &to, &ConnectOptions::default()).unwrap();
    near.post_send(SendRequest::send([]).unsignaled().id(3)).unwrap();
    assert_eq!(a.done().id, 3);
}
