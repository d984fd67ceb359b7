use crate::{
    Buffers, CompletionQueue, Config, Device, PathAttributes, QueuePair, QueuePairOptions, WorkCompletion,
};
use rocev2::wire::Transport;
use rocev2::work::{
    InitAttributes, PeerRights, ReceiveAttributes, RecvRequest, SendAttributes, SendOperation, SendRequest,
    Status, Transition,
};
use rocev2::{Mtu, Psn};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A device of its own on loopback.
struct End {
    device: Device,
    gid_index: usize,
    queue: CompletionQueue,
    queue_pair: QueuePair,
}

impl End {
    fn new() -> Self {
        let device =
            Device::open(Config { address: Some(Ipv4Addr::LOCALHOST.into()), ..Config::default() }).unwrap();
        let gid_index = device.gid_index(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        let queue = device.completion_queue(16, None).unwrap();
        let queue_pair =
            device.protection_domain().queue_pair(QueuePairOptions::new(Transport::Rc, &queue, 4)).unwrap();
        Self { device, gid_index, queue, queue_pair }
    }

    /// Gives its peer up after two timeouts of 4 ms.
    fn connect(&self, peer: &Self) {
        let (peer_gid, peer_port) = peer.device.bind_gid(peer.gid_index).unwrap();
        let rights = PeerRights { read: false, write: false, atomic: false };
        self.queue_pair.modify(Transition::Init(InitAttributes { rights })).unwrap();
        let receive = ReceiveAttributes {
            path_mtu: Mtu::B1024,
            peer_qpn: peer.queue_pair.qpn(),
            rq_psn: Psn::truncate(7),
            max_dest_rd_atomic: 1,
            min_rnr_timer: 1,
        };
        let path =
            PathAttributes { peer_port: Some(peer_port), ..PathAttributes::new(self.gid_index, peer_gid) };
        self.queue_pair.ready_to_receive(receive, path).unwrap();
        let send = SendAttributes {
            sq_psn: Psn::truncate(7),
            timeout: 10,
            retry_count: 1,
            rnr_retry: 7,
            max_rd_atomic: 1,
        };
        self.queue_pair.modify(Transition::ReadyToSend(send)).unwrap();
    }

    fn next(&self) -> WorkCompletion {
        let deadline = Instant::now() + PATIENCE;
        let mut out = Vec::new();
        while self.queue.poll(&mut out, 1).unwrap() == 0 {
            assert!(Instant::now() < deadline, "nothing completes");
            std::thread::yield_now();
        }
        out[0]
    }
}

#[test]
fn a_peer_whose_answer_is_in_a_stopped_threads_hands_is_not_given_up() {
    let [a, b] = [End::new(), End::new()];
    a.connect(&b);
    b.connect(&a);
    b.queue_pair.post_recv(RecvRequest { id: 1, buffers: Buffers::empty(), len: 0 }).unwrap();
    let port = a.device.state().port(a.gid_index).unwrap();

    // This thread is about to take what has arrived, and doesn't get to it for a long time.
    let receiving = crate::lock(&port.receive);
    let send = SendRequest {
        id: 2,
        operation: SendOperation::Send,
        buffers: Buffers::empty(),
        len: 0,
        signaled: true,
        solicited: false,
        fence: false,
        destination: None,
    };
    a.queue_pair.post_send(send).unwrap();
    assert_eq!(b.next().completion.status, Status::Success);
    // The answer is on its way.
    let sent = || b.device.counters().into_iter().find(|row| row.0 == "datagrams_sent").unwrap().1;
    let deadline = Instant::now() + PATIENCE;
    while sent() == 0 {
        assert!(Instant::now() < deadline, "no answer");
        std::thread::yield_now();
    }
    // Ten times as long as the peer may be silent.
    std::thread::sleep(Duration::from_millis(84));
    drop(receiving);

    assert_eq!(a.next().completion.status, Status::Success);
}

#[test]
fn who_catches_up_takes_everything_after_a_pause_too() {
    let [a, b] = [End::new(), End::new()];
    a.connect(&b);
    let state = a.device.state();
    let engine = state.engine();
    let port = state.port(a.gid_index).unwrap();
    // Where nothing came the last time, one is looked for.
    a.queue.poll(&mut Vec::new(), 1).unwrap();
    {
        let _nobody_takes_them = crate::lock(&port.receive);
        let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for len in [30, 60] {
            other.send_to(&[1; 60][..len], port.local()).unwrap();
        }
        // Somebody polls: the progress thread leaves the socket alone.
        port.mode().polled(engine.now());
    }
    let mut catch_up = port.begin_catch_up();
    while !engine.catch_up(&mut catch_up) {
        std::thread::yield_now();
    }
    let counters = a.device.counters();
    assert_eq!(counters.into_iter().find(|(name, _)| *name == "datagrams_received").unwrap().1, 2);
}

/// Whoever floods a port must not make it allocate, nor may what it takes.
#[test]
fn what_arrives_sealed_is_opened_or_refused_without_allocating() {
    use rocev2_esp::replay::DEFAULT_WINDOW;
    use rocev2_esp::{Algorithm, Inbound, Inner, Key, Outbound, layout};
    let end = End::new();
    let key = || Key::new(Algorithm::Aes256Gcm, &[9; 36]).unwrap();
    let association = end.device.security_association();
    let spi = association.allocate_spi().unwrap();
    association.install_inbound(Inbound::new(spi, key(), DEFAULT_WINDOW)).unwrap();
    let out = Outbound::new(spi, key(), Inner { source_port: 4791, checksum: None });
    let state = end.device.state();
    let (engine, port) = (state.engine(), state.port(end.gid_index).unwrap());
    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let count = |name| end.device.counters().into_iter().find(|row| row.0 == name).unwrap().1;
    // Nobody else takes them, but where this thread is kept waiting.
    port.arm(false);
    let mut allocated = Vec::new();
    for round in 1..=3 {
        for number in 0..8_u8 {
            // A packet that no queue pair here is for: authentic, then once more, then damaged, and one of nobody's.
            let mut datagram = vec![0; layout::sealed_len(20)];
            datagram[layout::HEADROOM] = 0x04;
            datagram[layout::HEADROOM + 2..][..2].fill(0xff);
            datagram[layout::HEADROOM + 7] = 0x10 + number;
            let mut damaged = datagram.clone();
            let mut sealer = out.sealer();
            sealer.seal(&mut datagram, 20).unwrap();
            sealer.seal(&mut damaged, 20).unwrap();
            other.send_to(&datagram, port.local()).unwrap();
            other.send_to(&datagram, port.local()).unwrap();
            damaged[30] ^= 1;
            other.send_to(&damaged, port.local()).unwrap();
            datagram[3] ^= 1;
            other.send_to(&datagram, port.local()).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        let mut here = 0;
        while count("datagrams_received") < 32 * round {
            assert!(Instant::now() < deadline, "{} of {}", count("datagrams_received"), 32 * round);
            here += allocation_counter::measure(|| _ = engine.receive(&port)).count_total;
        }
        // Another thread may have them in its hands yet.
        drop(crate::lock(&port.receive));
        allocated.push(here);
    }
    for (name, expected) in
        [("unknown_queue_pair", 24), ("esp_replayed", 24), ("esp_not_authentic", 24), ("esp_unknown_spi", 24)]
    {
        assert_eq!(count(name), expected, "{name}");
    }
    assert_eq!(allocated[1..], [0, 0], "the first may set things up");
}
