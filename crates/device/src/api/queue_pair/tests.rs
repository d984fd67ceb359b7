use crate::link::testing::in_namespace;
use crate::memory::Access;
use crate::{
    Arm, Buffers, CompletionQueue, Config, Device, Element, MemoryRegion, PathAttributes, QueuePair,
    QueuePairOptions, WorkCompletion,
};
use rocev2::wire::Transport;
use rocev2::work::{self, PeerRights, ReceiveAttributes, SendAttributes, SendOperation, Status, Transition};
use rocev2::{Mtu, Psn};
use smallvec::smallvec;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One end: a device at one address, a queue pair, memory for a message.
struct End {
    device: Arc<Device>,
    gid_index: usize,
    queue: CompletionQueue,
    qp: QueuePair,
    memory: MemoryRegion,
}

const LEN: u32 = 256 << 10;

/// That may be outstanding, to send and to receive.
const REQUESTS: usize = 8;

const PATIENCE: Duration = Duration::from_secs(60);

/// Attempts until one is undisturbed; on a busy machine something may be sent again.
const ATTEMPTS: usize = 100;

impl End {
    fn at(address: &str) -> Self {
        let config = Config { address: Some(address.parse().unwrap()), ..Config::default() };
        Self::on(&Arc::new(Device::open(config).unwrap()), address)
    }

    /// On a device that may have others.
    fn on(device: &Arc<Device>, address: &str) -> Self {
        let device = Arc::clone(device);
        let gid_index = device.gid_index(address.parse().unwrap()).unwrap();
        let queue = device.completion_queue(16, None).unwrap();
        let domain = device.protection_domain();
        let qp = domain.queue_pair(QueuePairOptions::new(Transport::Rc, &queue, REQUESTS)).unwrap();
        let access = Access::LOCAL_WRITE | Access::REMOTE_WRITE;
        let memory = domain.register(LEN as usize, access).unwrap();
        Self { device, gid_index, queue, qp, memory }
    }

    fn connect(&self, peer: &Self, path_mtu: Mtu) {
        let rights = PeerRights { write: true, ..PeerRights::default() };
        self.qp.modify(Transition::Init(work::InitAttributes { rights })).unwrap();
        let receive = ReceiveAttributes {
            path_mtu,
            peer_qpn: peer.qp.qpn(),
            rq_psn: Psn::default(),
            max_dest_rd_atomic: 1,
            min_rnr_timer: 1,
        };
        let (peer_gid, peer_port) = peer.device.bind_gid(peer.gid_index).unwrap();
        let path =
            PathAttributes { peer_port: Some(peer_port), ..PathAttributes::new(self.gid_index, peer_gid) };
        self.qp.ready_to_receive(receive, path).unwrap();
        let send = SendAttributes {
            sq_psn: Psn::default(),
            timeout: 14,
            retry_count: 7,
            rnr_retry: 7,
            max_rd_atomic: 1,
        };
        self.qp.modify(Transition::ReadyToSend(send)).unwrap();
    }

    fn buffers(&self, len: u32) -> Buffers {
        let region = Arc::clone(self.memory.region());
        let va = region.addr();
        Buffers::List(smallvec![Element::new(region, va, len)])
    }

    /// Carries out a request of so many bytes.
    fn carry_out(&self, operation: SendOperation, len: u32) {
        self.post(operation, len);
        self.done();
    }

    fn post(&self, operation: SendOperation, len: u32) {
        self.qp.post_send(self.request(operation, len)).unwrap();
    }

    fn request(&self, operation: SendOperation, len: u32) -> work::SendRequest<Buffers> {
        let buffers = self.buffers(len);
        work::SendRequest {
            id: 0,
            operation,
            buffers,
            len,
            signaled: true,
            solicited: false,
            fence: false,
            destination: None,
        }
    }

    fn post_recv(&self, len: u32) {
        self.qp.post_recv(work::RecvRequest { id: 0, buffers: self.buffers(len), len: len.into() }).unwrap();
    }

    fn done(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_done() {
            assert!(Instant::now() < deadline, "no completion; {:?}", self.counters());
        }
    }

    /// Waits for a message; what else completes is of no interest.
    fn receive(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut done = Vec::new();
        while !done.iter().any(|done: &WorkCompletion| done.completion.kind.is_recv()) {
            done.clear();
            self.queue.poll(&mut done, 16).unwrap();
            assert!(Instant::now() < deadline, "no message; {:?}", self.counters());
        }
    }

    /// Looks once whether a request has completed.
    fn is_done(&self) -> bool {
        let mut done = Vec::new();
        let count = self.queue.poll(&mut done, 1).unwrap();
        assert!(done.iter().all(|done| done.completion.status == Status::Success), "{done:?}");
        count > 0
    }

    /// A write to this end's memory.
    fn write_target(&self) -> SendOperation {
        let region = self.memory.region();
        SendOperation::Write(work::RemoteAddress { va: region.addr(), rkey: region.rkey() })
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.device.counters().into_iter().filter(|(_, count)| *count > 0).collect()
    }

    fn count(&self, name: &str) -> u64 {
        self.device.counters().into_iter().find(|row| row.0 == name).unwrap().1
    }
}

/// Sends a message from `a` to `b`.
fn send(a: &End, b: &End, len: u32) {
    b.post_recv(len);
    a.carry_out(SendOperation::Send, len);
    b.done();
}

/// Writes from `a` to `b`.
fn write(a: &End, b: &End, len: u32) {
    a.carry_out(b.write_target(), len);
}

fn pair(mtu: Mtu, addresses: [&str; 2]) -> [End; 2] {
    let [a, b] = addresses.map(End::at);
    a.connect(&b, mtu);
    b.connect(&a, mtu);
    [a, b]
}

#[test]
#[cfg_attr(feature = "portable", ignore = "plain sockets send datagrams one by one")]
fn a_path_on_which_only_the_first_of_each_run_arrives_gets_no_runs() {
    // As where hardware numbers a run's packets in its own way and the peer, a strict one, drops those with
    // another number.
    if !in_namespace(
        concat!(module_path!(), "::a_path_on_which_only_the_first_of_each_run_arrives_gets_no_runs"),
        &["ethtool", "nft"],
        "ethtool -K lo tx-udp-segmentation off
        nft add table ip strict
        nft add chain ip strict input '{ type filter hook input priority 0; }'
        nft add rule ip strict input udp dport 4791 ip id != 0 drop",
    ) {
        return;
    }
    let [a, b] = pair(Mtu::B1024, ["127.0.0.1", "127.0.0.2"]);
    send(&a, &b, LEN);
    assert_eq!(a.count("gso_distrusted"), 1, "{:?}", a.counters());
    let again = || a.qp.query().requester.retransmitted;
    let runs = a.count("gso_runs");
    // Before, nearly every packet had to be sent again.
    let all_arrive = (0..ATTEMPTS).any(|_| {
        let before = again();
        send(&a, &b, LEN);
        again() == before
    });
    assert!(all_arrive, "{:?}", a.qp.query().requester);
    assert_eq!(a.count("gso_runs"), runs);
}

#[test]
#[cfg_attr(feature = "portable", ignore = "plain sockets send datagrams one by one")]
fn a_path_on_which_runs_arrive_keeps_them() {
    let [a, b] = pair(Mtu::B1024, ["127.77.0.1", "127.77.0.2"]);
    for _ in 0..10 {
        send(&a, &b, LEN);
    }
    assert_eq!(a.count("gso_distrusted"), 0);
    assert!(a.count("gso_runs") > 10 && !a.qp.0.queue_pair.is_on_trial(), "{:?}", a.counters());
}

#[test]
#[cfg_attr(feature = "portable", ignore = "plain sockets send datagrams one by one")]
fn a_mebibyte_takes_so_many_system_calls_and_no_more() {
    const MESSAGE: u32 = 64 << 10;
    // 16 messages of 16 packets with headers. A segmented send takes 15 of them, all but the last of one
    // size: the FIRST packet of a WRITE, which has the remote address, is longer than the others and leaves
    // with one that follows. Each message is acknowledged.
    type Messages = (&'static str, fn(&End, &End, u32), [u64; 2]);
    let expected: [Messages; 2] = [("SEND", send, [32, 16]), ("WRITE", write, [32, 16])];
    let [a, b] = pair(Mtu::B4096, ["127.78.0.1", "127.78.0.2"]);
    // Until the window is open.
    (0..50).for_each(|_| send(&a, &b, MESSAGE));
    for (name, message, calls) in expected {
        let counts = || [a.count("send_calls"), b.count("send_calls"), a.qp.query().requester.retransmitted];
        let clean = (0..ATTEMPTS).find_map(|_| {
            let before = counts();
            (0..16).for_each(|_| message(&a, &b, MESSAGE));
            let after = counts();
            let [sends, answers, again] = core::array::from_fn(|at| after[at] - before[at]);
            // The last answer of one attempt may be counted in the next: its sender counts it when it has left.
            (again == 0 && [sends, answers] == calls).then_some([sends, answers])
        });
        assert_eq!(clean, Some(calls), "{name}: calls that send, and that acknowledge");
    }
}

#[test]
fn a_socket_that_nobody_polls_is_served_while_another_one_is_polled() {
    let device = Arc::new(Device::open(Config::default()).unwrap());
    let [polled, passive] = ["127.79.0.1", "127.79.0.2"].map(|address| End::on(&device, address));
    let [talks, writes] = ["127.79.0.3", "127.79.0.4"].map(End::at);
    for (a, b) in [(&polled, &talks), (&passive, &writes)] {
        a.connect(b, Mtu::B1024);
        b.connect(a, Mtu::B1024);
    }
    // So much that the device has learnt that somebody polls.
    (0..200).for_each(|_| send(&talks, &polled, 64));
    writes.post(passive.write_target(), 64);
    let deadline = Instant::now() + PATIENCE;
    while !writes.is_done() {
        assert!(!polled.is_done());
        assert!(Instant::now() < deadline, "{:?}", passive.qp.query());
    }
}

/// One message there and one back, by programs that poll.
fn round_trip(a: &End, b: &End, len: u32) {
    for (from, to) in [(a, b), (b, a)] {
        to.post_recv(len);
        from.post(SendOperation::Send, len);
        to.receive();
    }
}

#[test]
#[cfg_attr(feature = "portable", ignore = "plain sockets send datagrams one by one")]
fn the_shortest_messages_posted_together_share_a_system_call() {
    let [a, b] = pair(Mtu::B1024, ["127.83.0.1", "127.83.0.2"]);
    // As long as an ACK, with four bytes.
    for len in [1, 4, 5] {
        let counts = || [a.count("send_calls"), a.qp.query().requester.retransmitted];
        let calls = (0..ATTEMPTS).find_map(|_| {
            (0..REQUESTS).for_each(|_| b.post_recv(len));
            let before = counts();
            a.qp.post_send_list((0..REQUESTS).map(|_| a.request(SendOperation::Send, len))).unwrap();
            let after = counts();
            (0..REQUESTS).for_each(|_| a.done());
            (0..REQUESTS).for_each(|_| b.done());
            let [calls, again] = core::array::from_fn(|at| after[at] - before[at]);
            (again == 0).then_some(calls)
        });
        assert_eq!(calls, Some(1), "{len} bytes");
    }
}

#[test]
fn an_ack_does_not_wait_for_a_program_that_turns_away() {
    let [a, b] = pair(Mtu::B1024, ["127.80.0.1", "127.80.0.2"]);
    for turn_away in [|_: &End| {}, |end: &End| end.queue.arm(Arm::Any)] {
        // So much that the device has learnt that both programs poll, and answer.
        (0..200).for_each(|_| round_trip(&a, &b, 64));
        b.post_recv(64);
        a.post(SendOperation::Send, 64);
        b.receive();
        turn_away(&b);
        let deadline = Instant::now() + PATIENCE;
        while a.qp.query().send_outstanding > 0 {
            a.queue.poll(&mut Vec::new(), 16).unwrap();
            assert!(Instant::now() < deadline, "{:?}", b.qp.query());
        }
    }
}

/// Whoever hears of the acknowledgement may tell of it by another way: the receiver then finds the message.
#[test]
fn a_message_has_completed_before_it_is_acknowledged() {
    let [a, b] = pair(Mtu::B1024, ["127.84.0.1", "127.84.0.2"]);
    b.post_recv(64);
    let held = b.queue.engine().hold();
    a.post(SendOperation::Send, 64);
    let deadline = Instant::now() + PATIENCE;
    while b.count("datagrams_received") == 0 {
        assert!(Instant::now() < deadline, "{:?}", a.counters());
        std::thread::yield_now();
    }
    // The thread that has it waits for the queue.
    let until = Instant::now() + Duration::from_millis(100);
    while Instant::now() < until {
        assert!(!a.is_done(), "it is acknowledged, and nobody finds it");
    }
    drop(held);
    a.done();
    b.done();
}

#[test]
fn a_program_that_ends_its_queue_pair_has_acknowledged_what_it_received_and_keeps_no_port() {
    for _ in 0..10 {
        let [a, b] = pair(Mtu::B1024, ["127.81.0.1", "127.81.0.2"]);
        assert_eq!(b.device.bind_gid(0).unwrap().1, rocev2::UDP_PORT, "the last one's is free again");
        (0..200).for_each(|_| round_trip(&a, &b, 64));
        b.post_recv(64);
        a.post(SendOperation::Send, 64);
        b.receive();
        drop(b);
        let deadline = Instant::now() + PATIENCE;
        while a.qp.query().send_outstanding > 0 {
            // A success each, or the test fails here.
            a.is_done();
            assert!(Instant::now() < deadline, "{:?}", a.qp.query());
        }
    }
}
