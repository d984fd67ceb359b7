use crate::memory::Access;
use crate::net::testing::in_namespace;
use crate::{Buffers, CompletionQueue, Config, Device, Element, MemoryRegion, PathAttributes, QueuePair};
use rocev2::rc::{self, PeerRights, ReceiveAttributes, SendAttributes, SendOperation, Status, Transition};
use rocev2::{Mtu, Psn};
use smallvec::smallvec;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One end: a device at one address, a queue pair, memory for a message.
struct End {
    device: Device,
    queue: CompletionQueue,
    qp: QueuePair,
    memory: MemoryRegion,
}

const LEN: u32 = 256 << 10;

impl End {
    fn at(address: &str) -> Self {
        let address = address.parse().unwrap();
        let device = Device::open(Config { address: Some(address), port: None }).unwrap();
        let queue = device.completion_queue(16, None).unwrap();
        let domain = device.protection_domain();
        let qp = domain.queue_pair(&queue, &queue, 8, 8).unwrap();
        let access = Access::LOCAL_WRITE | Access::REMOTE_WRITE;
        let memory = domain.register(LEN as usize, access).unwrap();
        Self { device, queue, qp, memory }
    }

    fn connect(&self, peer: &Self, path_mtu: Mtu) {
        let rights = PeerRights { write: true, ..PeerRights::default() };
        self.qp.modify(Transition::Init(rc::InitAttributes { rights })).unwrap();
        let receive = ReceiveAttributes {
            path_mtu,
            peer_qpn: peer.qp.qpn(),
            rq_psn: Psn::default(),
            max_dest_rd_atomic: 1,
            min_rnr_timer: 1,
        };
        let (peer_gid, peer_port) = peer.device.bind_gid(0).unwrap();
        let path = PathAttributes { gid_index: 0, peer_gid, peer_port: Some(peer_port) };
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
        Buffers::List(smallvec![Element { region, va, len }])
    }

    /// Carries out a request of so many bytes.
    fn carry_out(&self, operation: SendOperation, len: u32) {
        let buffers = self.buffers(len);
        let request = rc::SendRequest {
            id: 0,
            operation,
            buffers,
            len,
            signaled: true,
            solicited: false,
            fence: false,
        };
        self.qp.post_send(request).unwrap();
        self.done();
    }

    fn done(&self) {
        let mut done = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.queue.poll(&mut done, 1).unwrap() == 0 {
            assert!(Instant::now() < deadline, "no completion; {:?}", self.counters());
        }
        assert_eq!(done[0].completion.status, Status::Success);
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
    b.qp.post_recv(rc::RecvRequest { id: 0, buffers: b.buffers(len), len: len.into() }).unwrap();
    a.carry_out(SendOperation::Send, len);
    b.done();
}

/// Writes from `a` to `b`.
fn write(a: &End, b: &End, len: u32) {
    let region = b.memory.region();
    a.carry_out(SendOperation::Write(rc::RemoteAddress { va: region.addr(), rkey: region.rkey() }), len);
}

fn pair(mtu: Mtu, addresses: [&str; 2]) -> [End; 2] {
    let [a, b] = addresses.map(End::at);
    a.connect(&b, mtu);
    b.connect(&a, mtu);
    [a, b]
}

#[test]
fn a_path_on_which_only_the_first_of_each_run_arrives_gets_no_runs() {
    // As where hardware numbers a run's packets in its own way and the peer, a strict one, drops those with another number.
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
    let (runs, before) = (a.count("gso_runs"), again());
    for _ in 0..10 {
        send(&a, &b, LEN);
    }
    assert_eq!(a.count("gso_runs"), runs);
    // A busy machine may be late now and then; before, nearly every packet had to be sent again.
    assert!(again() - before < 100, "{:?}", a.qp.query().requester);
}

#[test]
fn a_path_on_which_runs_arrive_keeps_them() {
    let [a, b] = pair(Mtu::B1024, ["127.77.0.1", "127.77.0.2"]);
    for _ in 0..10 {
        send(&a, &b, LEN);
    }
    assert_eq!(a.count("gso_distrusted"), 0);
    assert!(a.count("gso_runs") > 10 && !a.qp.core.is_on_trial(), "{:?}", a.counters());
}

#[test]
fn a_mebibyte_takes_so_many_system_calls_and_no_more() {
    const MESSAGE: u32 = 64 << 10;
    /// Attempts until one is undisturbed; on a busy machine something may be sent again.
    const ATTEMPTS: usize = 100;
    // 16 messages of 16 packets with headers. A segmented send takes 15 of them, all but the last of one size: the FIRST packet of
    // a WRITE, which has the remote address, is longer than the others and leaves with one that follows. Each message is acknowledged.
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
