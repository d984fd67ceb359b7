//! How long one client waits while others, on slow links of their own, read from the same server as fast as they can.

use crate::machine::Machine;
use crate::network::{Egress, MachineState, Network};
use crate::plan::Timing;
use crate::rng::Rng;
use crate::trace::Trace;
use netem::LinkConfig;
use rocev2::wire::Transport;
use rocev2::work::{
    InitAttributes, PeerRights, ReceiveAttributes, RemoteAddress, SendAttributes, SendOperation, SendRequest,
    Status, Transition,
};
use rocev2::{Mtu, Psn, Qpn};
use rocev2_device::memory::Access;
use rocev2_device::{
    Buffers, CompletionQueue, Element, MemoryRegion, PathAttributes, ProtectionDomain, QueuePair,
    QueuePairOptions,
};
use std::sync::Arc;

/// What Linux gives a socket for what hasn't left yet, unless it is asked for more.
const SEND_BUFFER: u64 = 212_992;

/// From host to host, in nanoseconds.
const LATENCY: u64 = 20_000;

/// How fast a greedy client's link is.
const SLOW_NS_PER_BYTE: u64 = 80;

/// READs that each client has under way at a time, and the bytes of each.
const VICTIM: (usize, u32) = (1, 64);
const GREEDY: (usize, u32) = (16, 256 << 10);

/// How long a step of an engine takes, and how often a client polls.
pub(crate) const STEP: u64 = 500;
pub(crate) const TIMING: Timing = Timing { step_ns: STEP, yield_ns: 20 * STEP, wake_ns: 0 };

/// Virtual time after which something is stuck.
pub(crate) const PATIENCE: u64 = 600_000_000_000;

/// A client that reads from the server, again and again.
pub(crate) struct Reader {
    machine: usize,
    queue: CompletionQueue,
    queue_pair: QueuePair,
    memory: MemoryRegion,
    remote: RemoteAddress,
    under_way: (usize, u32),
    outstanding: usize,
    posted_at: u64,
    pub(crate) look_at: u64,
    /// How long each took that was read alone.
    pub(crate) took: Vec<u64>,
    _domain: ProtectionDomain,
}

/// The server's end of a connection.
pub(crate) struct Served {
    queue: CompletionQueue,
    queue_pair: QueuePair,
    memory: MemoryRegion,
    domain: ProtectionDomain,
}

/// What a client and the greedy ones beside it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// How long each of the client's READs took, in nanoseconds of virtual time, sorted.
    pub took: Vec<u64>,
    /// What part of their links' bandwidth the READs of the greedy ones took, in percent: the least of them.
    pub greedy_percent: u64,
}

/// Has a client read 64 bytes from a server, `rounds` times, one after the other. Meanwhile `greedy` other clients,
/// each on a link of its own of 100 Mb/s, have 16 READs of 256 KiB under way at any time.
///
/// # Panics
/// If a READ fails, or there is no end.
#[must_use]
pub fn read_beside(seed: u64, greedy: usize, rounds: usize) -> Reading {
    let network = network(seed, 1, greedy);
    let mut machines: Vec<_> = (0..greedy + 2).map(|number| Machine::new(&network, number, TIMING)).collect();
    let clients = (1..machines.len()).map(|number| connect(&machines, number));
    let (mut readers, _served): (Vec<_>, Vec<_>) = clients.unzip();
    while readers[0].took.len() < rounds {
        let steps = machines.iter().filter_map(Machine::next);
        let looks = readers.iter().map(|reader| reader.look_at);
        let next = steps.chain(looks).min().expect("clients look again and again");
        let now = {
            let mut state = network.lock();
            state.now = next.max(state.now + 1);
            state.deliver();
            state.now
        };
        assert!(now < PATIENCE, "{} round trips", readers[0].took.len());
        for machine in &mut machines {
            if !machine.is_busy(now) {
                machine.step(now);
            }
        }
        for reader in readers.iter_mut().filter(|reader| reader.look_at <= now) {
            reader.look(now);
        }
    }
    let bytes = |reader: &Reader| reader.took.len() as u64 * u64::from(reader.under_way.1);
    let greedy_percent =
        readers[1..].iter().map(|reader| bytes(reader) * SLOW_NS_PER_BYTE * 100 / network.lock().now);
    let greedy_percent = greedy_percent.min().unwrap_or(0);
    let mut took = readers.swap_remove(0).took;
    took.sort_unstable();
    Reading { took, greedy_percent }
}

/// Machine 0 is the server's, 1 the victim's, which is one of so many on fast links; the others' are slow.
pub(crate) fn network(seed: u64, fast: usize, slow: usize) -> Arc<Network> {
    let mut rng = Rng::new(seed);
    let machines = 1 + fast + slow;
    let network = Arc::new(Network::new(Trace::new(false)));
    let mut state = network.lock();
    for number in 0..machines {
        let capacity = (number == 0).then_some(SEND_BUFFER);
        state.machines.push(MachineState {
            random: rng.fork(),
            clock_offset: 0,
            alarm: Some(0),
            refuse_watches: 0,
            refuse_allocations: 0,
            taken: Arc::default(),
            egress: Egress { capacity, ns_per_byte: 1, shut_until: 0 },
            receive_buffer: 4 << 20,
            overflowed: 0,
            blocked: 0,
            watches_refused: 0,
        });
    }
    for client in 1..machines {
        let rate = if client <= fast { 10_000_000_000 } else { 8_000_000_000 / SLOW_NS_PER_BYTE };
        let config = LinkConfig {
            latency_ns: LATENCY,
            jitter_ns: 500,
            bandwidth_bits_per_s: Some(rate),
            ..LinkConfig::default()
        };
        state.connect(0, client, config, rng.next());
        state.connect(client, 0, config, rng.next());
    }
    drop(state);
    network
}

/// A queue pair of the machine, with memory to read into or from.
fn end(machine: &Machine, len: u32) -> Served {
    let domain = machine.device.protection_domain();
    let queue = machine.device.completion_queue(64, None).expect("a queue");
    let options = QueuePairOptions::new(Transport::Rc, &queue, 16);
    let queue_pair = domain.queue_pair(options).expect("a queue pair");
    let access = Access::LOCAL_WRITE | Access::REMOTE_READ;
    let memory = domain.register(len as usize, access).expect("a region");
    Served { queue, queue_pair, memory, domain }
}

pub(crate) fn connect(machines: &[Machine], number: usize) -> (Reader, Served) {
    let under_way = if number == 1 { VICTIM } else { GREEDY };
    let (client, server) = (end(&machines[number], under_way.1), end(&machines[0], under_way.1));
    bring_up(&machines[number], &client.queue_pair, &machines[0], &server.queue_pair);
    bring_up(&machines[0], &server.queue_pair, &machines[number], &client.queue_pair);
    let region = server.memory.region();
    let reader = Reader {
        machine: number,
        remote: RemoteAddress { va: region.addr(), rkey: region.rkey() },
        queue: client.queue,
        queue_pair: client.queue_pair,
        memory: client.memory,
        under_way,
        outstanding: 0,
        posted_at: 0,
        look_at: 0,
        took: Vec::new(),
        _domain: client.domain,
    };
    (reader, server)
}

fn bring_up(machine: &Machine, queue_pair: &QueuePair, there: &Machine, peer: &QueuePair) {
    let rights = PeerRights { read: true, ..PeerRights::default() };
    queue_pair.modify(Transition::Init(InitAttributes { rights })).expect("INIT");
    let (gid, port) = there.device.bind_gid(there.gid_index).expect("a port");
    let path = PathAttributes { peer_port: Some(port), ..PathAttributes::new(machine.gid_index, gid) };
    let receive = ReceiveAttributes {
        path_mtu: Mtu::B4096,
        peer_qpn: peer.qpn(),
        rq_psn: Psn::default(),
        max_dest_rd_atomic: 16,
        min_rnr_timer: 1,
    };
    queue_pair.ready_to_receive(receive, path).expect("RTR");
    let send = SendAttributes {
        sq_psn: Psn::default(),
        timeout: 18,
        retry_count: 7,
        rnr_retry: 7,
        max_rd_atomic: 16,
    };
    queue_pair.modify(Transition::ReadyToSend(send)).expect("RTS");
}

impl Served {
    pub(crate) fn qpn(&self) -> Qpn {
        self.queue_pair.qpn()
    }
}

impl Reader {
    pub(crate) fn look(&mut self, now: u64) {
        let mut done = Vec::new();
        self.queue.poll(&mut done, 16).expect("a queue that is large enough");
        for done in done {
            assert_eq!(done.completion.status, Status::Success, "a READ of machine {}", self.machine);
            self.outstanding -= 1;
            self.took.push(now - self.posted_at);
        }
        while self.outstanding < self.under_way.0 {
            self.posted_at = now;
            self.post();
            self.outstanding += 1;
        }
        self.look_at = now + STEP;
    }

    fn post(&self) {
        let region = Arc::clone(self.memory.region());
        let (va, len) = (region.addr(), self.under_way.1);
        let request = SendRequest {
            id: 0,
            operation: SendOperation::Read(self.remote),
            buffers: Buffers::List([Element::new(region, va, len)].into_iter().collect()),
            len,
            signaled: true,
            solicited: false,
            fence: false,
            destination: None,
        };
        self.queue_pair.post_send(request).expect("there is room");
    }
}
