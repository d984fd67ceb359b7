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
        let memory = domain.register(LEN as usize, Access::LOCAL_WRITE).unwrap();
        Self { device, queue, qp, memory }
    }

    fn connect(&self, peer: &Self) {
        self.qp.modify(Transition::Init(rc::InitAttributes { rights: PeerRights::default() })).unwrap();
        let receive = ReceiveAttributes {
            path_mtu: Mtu::B1024,
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

    fn buffers(&self) -> Buffers {
        let region = Arc::clone(self.memory.region());
        let va = region.addr();
        Buffers::List(smallvec![Element { region, va, len: LEN }])
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
fn send(a: &End, b: &End) {
    b.qp.post_recv(rc::RecvRequest { id: 0, buffers: b.buffers(), len: LEN.into() }).unwrap();
    let request = rc::SendRequest {
        id: 0,
        operation: SendOperation::Send,
        buffers: a.buffers(),
        len: LEN,
        signaled: true,
        solicited: false,
        fence: false,
    };
    a.qp.post_send(request).unwrap();
    a.done();
    b.done();
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
    let (a, b) = (End::at("127.0.0.1"), End::at("127.0.0.2"));
    a.connect(&b);
    b.connect(&a);
    send(&a, &b);
    assert_eq!(a.count("gso_distrusted"), 1, "{:?}", a.counters());
    let again = || a.qp.query().requester.retransmitted;
    let (runs, before) = (a.count("gso_runs"), again());
    for _ in 0..10 {
        send(&a, &b);
    }
    assert_eq!(a.count("gso_runs"), runs);
    // A busy machine may be late now and then; before, nearly every packet had to be sent again.
    assert!(again() - before < 100, "{:?}", a.qp.query().requester);
}

#[test]
fn a_path_on_which_runs_arrive_keeps_them() {
    let (a, b) = (End::at("127.77.0.1"), End::at("127.77.0.2"));
    a.connect(&b);
    b.connect(&a);
    for _ in 0..10 {
        send(&a, &b);
    }
    assert_eq!(a.count("gso_distrusted"), 0);
    assert!(a.count("gso_runs") > 10 && !a.qp.core.is_on_trial(), "{:?}", a.counters());
}
