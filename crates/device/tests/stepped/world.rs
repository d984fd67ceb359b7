//! A network in memory, and devices on it.

use rocev2::wire::Transport;
use rocev2::work::{
    Attributes, Completion, Datagram, InitAttributes, PeerRights, ReceiveAttributes, Recipient, RecvRequest,
    RemoteAddress, SendAttributes, SendOperation, SendRequest, State as QpState, Status, Transition,
};
use rocev2::{Mtu, Psn, Qpn, Time};
use rocev2_device::host::{Interface, InterfacesError, Platform};
use rocev2_device::link::{
    BindError, Interest, Link, LinkCounters, Received, Reseal, RxBatch, Sent, TxBatch,
};
use rocev2_device::memory::Access;
use rocev2_device::{
    AddressHandle, Buffers, CompletionQueue, Config, Device, DeviceError, Element, Engine, Host,
    MemoryRegion, PathAttributes, Pause, Progress, ProtectionDomain, QueuePair, QueuePairOptions, Ready,
    WorkCompletion,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

const REMOTE: Access = Access::REMOTE_READ.union(Access::REMOTE_WRITE).union(Access::REMOTE_ATOMIC);

/// How long a step takes at least.
const STEP: Duration = Duration::from_micros(1);

/// Bytes that a link keeps for its device.
const BUFFER: usize = 4 << 20;

/// Steps after which a test has failed.
const STEPS: usize = 1_000_000;

#[derive(Default)]
struct State {
    now: Time,
    random: u64,
    alarms: Vec<Option<Time>>,
    /// How often each alarm was set.
    alarms_set: Vec<u64>,
    /// Runs of datagrams of one length, each one system call, that have left, and datagrams in them.
    sent: [u64; 2],
    links: BTreeMap<SocketAddr, LinkState>,
    addresses: Vec<[u8; 4]>,
    /// Everything that has left, if it is recorded.
    wire: Option<Vec<Seen>>,
    attacker: Option<Attacker>,
    weather: Option<Weather>,
    /// The system has no memory to watch links.
    refuses_to_watch: bool,
}

/// A datagram that has left.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// Sees every datagram on its way, and says what arrives before it, in the name of the same sender.
pub(crate) type Attacker = Box<dyn FnMut(&Seen) -> Vec<Vec<u8>> + Send>;

/// What the network does to datagrams: in 1000 of them, so many are lost, delivered twice, or overtaken by others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) seed: u64,
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    pub(crate) overtaken: u64,
}

impl Weather {
    fn happens(&mut self, permille: u64) -> bool {
        self.draw() % 1000 < permille
    }

    fn draw(&mut self) -> u64 {
        // xorshift64.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed >> 16
    }
}

impl State {
    /// What arrives of a datagram that has left, and in which order.
    fn deliver(&mut self, seen: Seen) {
        let forged = self.attacker.as_mut().map(|attacker| attacker(&seen)).unwrap_or_default();
        if let Some(wire) = &mut self.wire {
            wire.push(seen.clone());
        }
        let Seen { from, to, bytes } = seen;
        let full =
            |link: &LinkState| link.arrived.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > BUFFER;
        let Some(link) = self.links.get_mut(&to).filter(|link| !full(link)) else { return };
        link.arrived.extend(forged.into_iter().map(|bytes| (from, bytes)));
        let Some(weather) = &mut self.weather else {
            link.arrived.push_back((from, bytes));
            return;
        };
        if weather.happens(weather.lost) {
            return;
        }
        let copies = 1 + usize::from(weather.happens(weather.twice));
        for _ in 0..copies {
            let back = if weather.happens(weather.overtaken) { weather.draw() % 8 } else { 0 };
            let at = link.arrived.len().saturating_sub(usize::try_from(back).unwrap());
            link.arrived.insert(at, (from, bytes.clone()));
        }
    }
}

#[derive(Default)]
struct LinkState {
    platform: usize,
    token: u64,
    arrived: VecDeque<(SocketAddr, Vec<u8>)>,
    interest: Interest,
    lose: bool,
}

/// What limits a local address's links.
#[derive(Clone, Copy, Debug, Default)]
struct Limit {
    /// Bytes that may leave, if they are limited.
    room: Option<usize>,
    /// How many more may leave with each step.
    rate: Option<usize>,
}

struct Network {
    state: Mutex<State>,
    limits: Mutex<BTreeMap<IpAddr, Limit>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// The platform of one device.
struct Machine {
    network: Arc<Network>,
    number: usize,
}

struct TestLink {
    network: Arc<Network>,
    local: SocketAddr,
    counters: LinkCounters,
}

impl Host for Machine {
    fn now(&self) -> Time {
        lock(&self.network.state).now
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut state = lock(&self.network.state);
        for byte in bytes {
            // Knuth's MMIX.
            state.random =
                state.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = state.random.to_be_bytes()[0];
        }
        Ok(())
    }

    fn set_alarm(&self, at: Option<Time>) {
        let mut state = lock(&self.network.state);
        state.alarms[self.number] = at;
        state.alarms_set[self.number] += 1;
    }
}

impl Platform for Machine {
    fn interfaces(&self) -> Result<Vec<Interface>, InterfacesError> {
        let addresses = lock(&self.network.state).addresses.clone();
        let interface = |address: [u8; 4]| Interface {
            name: "test".into(),
            index: 1,
            address: address.into(),
            mtu: 9000,
        };
        Ok(addresses.into_iter().map(interface).collect())
    }

    fn bind(&self, address: SocketAddr, token: u64) -> Result<Box<dyn Link>, BindError> {
        let mut state = lock(&self.network.state);
        let taken = |port| state.links.contains_key(&SocketAddr::new(address.ip(), port));
        let port = match address.port() {
            0 => (50_000..).find(|port| !taken(*port)).unwrap(),
            port if taken(port) => return Err(BindError::InUse(address)),
            port => port,
        };
        let local = SocketAddr::new(address.ip(), port);
        state.links.insert(local, LinkState { platform: self.number, token, ..LinkState::default() });
        Ok(Box::new(TestLink {
            network: Arc::clone(&self.network),
            local,
            counters: LinkCounters::default(),
        }))
    }
}

impl Link for TestLink {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn send(&self, batch: &mut TxBatch, reseal: &mut Reseal<'_>) -> Sent {
        let mut state = lock(&self.network.state);
        let mut limits = lock(&self.network.limits);
        let mut room = limits.get_mut(&self.local.ip()).and_then(|limit| limit.room.as_mut());
        batch.drain(|mut run| {
            // One by one, as where the system has no segmentation offload.
            run.seal(false, reseal);
            let datagrams = run.bytes.chunks(run.segment).len() as u64;
            state.sent = [state.sent[0] + 1, state.sent[1] + datagrams];
            for (at, datagram) in run.bytes.chunks(run.segment).enumerate() {
                if let Some(room) = &mut room {
                    if **room < datagram.len() {
                        return Some(at);
                    }
                    **room -= datagram.len();
                }
                let lost =
                    state.links.get_mut(&self.local).is_some_and(|link| std::mem::take(&mut link.lose));
                if !lost {
                    state.deliver(Seen { from: self.local, to: run.to, bytes: datagram.to_vec() });
                }
            }
            None
        })
    }

    fn recv(&self, batch: &mut RxBatch) -> Received {
        let mut state = lock(&self.network.state);
        let Some(link) = state.links.get_mut(&self.local) else { return batch.fill_each(|_| None) };
        batch.fill_each(|buffer| {
            let (from, bytes) = link.arrived.pop_front()?;
            buffer[..bytes.len()].copy_from_slice(&bytes);
            Some((bytes.len(), from))
        })
    }

    fn room(&self, to: SocketAddr, _receiver: Qpn) -> Option<usize> {
        let state = lock(&self.network.state);
        let filled: usize = state.links.get(&to)?.arrived.iter().map(|(_, bytes)| bytes.len()).sum();
        Some((BUFFER / 2).saturating_sub(filled))
    }

    fn watch(&self, interest: Interest) -> io::Result<()> {
        let mut state = lock(&self.network.state);
        if state.refuses_to_watch {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if let Some(link) = state.links.get_mut(&self.local) {
            link.interest = interest;
        }
        Ok(())
    }

    fn counters(&self) -> &LinkCounters {
        &self.counters
    }
}

impl Drop for TestLink {
    fn drop(&mut self) {
        lock(&self.network.state).links.remove(&self.local);
    }
}

/// An engine, what is remembered from step to step, its platform's number, and whether it wants to be stepped again.
type Stepped = (Arc<Engine>, Progress, usize, bool);

/// Devices on a network.
pub(crate) struct World {
    network: Arc<Network>,
    engines: RefCell<Vec<Stepped>>,
}

impl World {
    /// A network of these addresses, all of which each device has.
    pub(crate) fn new(addresses: &[[u8; 4]]) -> Self {
        let state = State { addresses: addresses.to_vec(), ..State::default() };
        let network = Network { state: Mutex::new(state), limits: Mutex::default() };
        Self { network: Arc::new(network), engines: RefCell::default() }
    }

    pub(crate) fn platform(&self) -> Arc<dyn Platform> {
        let mut state = lock(&self.network.state);
        state.alarms.push(Some(Time::ZERO));
        state.alarms_set.push(0);
        Arc::new(Machine { network: Arc::clone(&self.network), number: state.alarms.len() - 1 })
    }

    pub(crate) fn device(&self) -> Arc<Device> {
        let number = lock(&self.network.state).alarms.len();
        let (device, engine) = Device::stepped(Config::default(), self.platform()).unwrap();
        self.engines.borrow_mut().push((engine, Progress::default(), number, false));
        Arc::new(device)
    }

    /// Begins to record what leaves.
    pub(crate) fn record(&self) {
        lock(&self.network.state).wire = Some(Vec::new());
    }

    /// What has left since it was asked last.
    pub(crate) fn recorded(&self) -> Vec<Seen> {
        lock(&self.network.state).wire.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Lets somebody on the path see, and add, what he likes.
    pub(crate) fn attack(&self, attacker: Attacker) {
        lock(&self.network.state).attacker = Some(attacker);
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        lock(&self.network.state).weather = Some(weather);
    }

    /// Lets a datagram arrive, and the devices take it.
    pub(crate) fn inject(&self, seen: &Seen) {
        let Seen { from, to, bytes } = seen.clone();
        let arrived =
            |state: &mut State| state.links.get_mut(&to).map(|link| link.arrived.push_back((from, bytes)));
        arrived(&mut lock(&self.network.state)).expect("somebody receives there");
        self.steps(4);
    }

    pub(crate) fn steps(&self, count: usize) {
        (0..count).for_each(|_| self.step());
    }

    /// Two ends, each on a device of its own.
    pub(crate) fn pair(&self, a: [u8; 4], b: [u8; 4], memory: u32) -> [End; 2] {
        self.pair_on(&self.device(), a, b, memory)
    }

    /// An end on that device, and its peer on another.
    pub(crate) fn pair_on(&self, device: &Arc<Device>, a: [u8; 4], b: [u8; 4], memory: u32) -> [End; 2] {
        let ends = [End::new(device, a, memory), End::new(&self.device(), b, memory)];
        let [a, b] = &ends;
        a.connect(b);
        b.connect(a);
        ends
    }

    /// Another connection between the devices of two ends.
    pub(crate) fn pair_beside(ends: &[End; 2], memory: u32) -> [End; 2] {
        let pair = ends.each_ref().map(|end| End::new(&end.device, end.address(), memory));
        let [a, b] = &pair;
        a.connect(b);
        b.connect(a);
        pair
    }

    /// Two ends for datagrams, each on a device of its own, and the way from the first to the second.
    pub(crate) fn datagram_pair(&self, addresses: [[u8; 4]; 2], memory: u32) -> ([End; 2], AddressHandle) {
        let ends = addresses.map(|address| End::with(Transport::Ud, &self.device(), address, memory));
        for end in &ends {
            let to = |state| Attributes { state: Some(state), ..Attributes::default() };
            let init = Attributes { pkey_index: Some(0), port: Some(1), qkey: Some(0), ..to(QpState::Init) };
            let send = Attributes { sq_psn: Some(Psn::default()), ..to(QpState::ReadyToSend) };
            for attributes in [init, to(QpState::ReadyToReceive), send] {
                end.queue_pair.set_attributes(attributes, None).unwrap();
            }
        }
        let path = ends[0].path(&ends[1]);
        let handle = ends[0].domain.address_handle(path).unwrap();
        (ends, handle)
    }

    /// The same not connected yet.
    pub(crate) fn unconnected(&self, a: [u8; 4], b: [u8; 4], memory: u32) -> [End; 2] {
        [End::new(&self.device(), a, memory), End::new(&self.device(), b, memory)]
    }

    pub(crate) fn now(&self) -> Duration {
        lock(&self.network.state).now.since(Time::ZERO)
    }

    pub(crate) fn advance(&self, span: Duration) {
        let mut state = lock(&self.network.state);
        state.now = state.now + span;
    }

    pub(crate) fn links(&self) -> usize {
        lock(&self.network.state).links.len()
    }

    /// How often the devices have set their alarms.
    pub(crate) fn alarms_set(&self) -> u64 {
        lock(&self.network.state).alarms_set.iter().sum()
    }

    /// Runs of datagrams, each one system call, that have left, and datagrams in them.
    pub(crate) fn sent(&self) -> [u64; 2] {
        lock(&self.network.state).sent
    }

    /// Wakes the devices for what is ready; before they come to look, `first` happens.
    pub(crate) fn overtake(&self, first: impl FnOnce()) {
        let mut engines = self.engines.borrow_mut();
        let ready: Vec<_> = engines.iter().map(|(_, _, number, _)| self.ready(*number)).collect();
        first();
        for ((engine, progress, _, again), ready) in engines.iter_mut().zip(ready) {
            if !ready.is_empty() {
                *again = progress.step(engine, &ready) != Pause::Sleep;
            }
        }
    }

    /// Loses the next packet that leaves from that address.
    pub(crate) fn lose_next(&self, from: [u8; 4]) {
        let mut state = lock(&self.network.state);
        state.links.iter_mut().find(|(local, _)| local.ip() == IpAddr::from(from)).unwrap().1.lose = true;
    }

    /// So many bytes may leave from that address, or any number.
    pub(crate) fn set_room(&self, from: [u8; 4], room: Option<usize>) {
        lock(&self.network.limits).insert(from.into(), Limit { room, rate: None });
    }

    /// So many bytes may leave from that address with each step, or any number.
    pub(crate) fn set_rate(&self, from: [u8; 4], rate: Option<usize>) {
        lock(&self.network.limits).insert(from.into(), Limit { room: rate, rate });
    }

    /// Whether a device waits for room at that address.
    pub(crate) fn is_waited_for(&self, address: [u8; 4]) -> bool {
        let state = lock(&self.network.state);
        state.links.iter().any(|(local, link)| local.ip() == IpAddr::from(address) && link.interest.writable)
    }

    /// From now on the system has no memory to watch links, or has again.
    pub(crate) fn refuse_to_watch(&self, refuse: bool) {
        lock(&self.network.state).refuses_to_watch = refuse;
    }

    /// Steps the devices until `done`.
    pub(crate) fn run(&self, mut done: impl FnMut() -> bool) {
        for _ in 0..STEPS {
            if done() {
                return;
            }
            self.step();
        }
        panic!("nothing more happens after {:?}", self.now());
    }

    /// The same, for programs that poll all the time: never goes on to the next alarm, but for `pace` at a time.
    pub(crate) fn run_polled(&self, pace: Duration, mut done: impl FnMut() -> bool) {
        for _ in 0..STEPS {
            self.advance(pace);
            if done() {
                return;
            }
            self.step_engines();
        }
        panic!("nothing more happens after {:?}", self.now());
    }

    fn step(&self) {
        let busy = self.step_engines();
        let platforms = lock(&self.network.state).alarms.len();
        let nothing = !busy && (0..platforms).all(|it| self.ready(it).is_empty());
        let mut state = lock(&self.network.state);
        let next = state.alarms.iter().flatten().min().copied().filter(|_| nothing);
        state.now = next.unwrap_or_default().max(state.now + STEP);
    }

    /// Steps those engines that have a reason to; whether one wants to be stepped again.
    fn step_engines(&self) -> bool {
        for limit in lock(&self.network.limits).values_mut() {
            if limit.rate.is_some() {
                limit.room = limit.rate;
            }
        }
        let mut busy = false;
        for (engine, progress, number, again) in self.engines.borrow_mut().iter_mut() {
            let ready = self.ready(*number);
            let due = {
                let mut state = lock(&self.network.state);
                let now = state.now;
                // It rings once.
                state.alarms[*number].take_if(|at| *at <= now).is_some()
            };
            if !ready.is_empty() || due || *again {
                *again = progress.step(engine, &ready) != Pause::Sleep;
                busy |= *again;
            }
        }
        busy
    }

    fn ready(&self, platform: usize) -> Vec<Ready> {
        let state = lock(&self.network.state);
        let limits = lock(&self.network.limits);
        let ready = state.links.iter().filter(|(_, link)| link.platform == platform).map(|(local, link)| {
            let limit = limits.get(&local.ip()).copied().unwrap_or_default();
            Ready {
                token: link.token,
                readable: link.interest.readable && !link.arrived.is_empty(),
                writable: link.interest.writable && limit.room.is_none_or(|room| room > 5000),
            }
        });
        ready.filter(|ready| ready.readable || ready.writable).collect()
    }
}

/// A queue pair, and memory for what it sends and receives.
pub(crate) struct End {
    pub(crate) device: Arc<Device>,
    gid_index: usize,
    domain: ProtectionDomain,
    queue: CompletionQueue,
    pub(crate) queue_pair: QueuePair,
    memory: MemoryRegion,
    /// Requests that succeeded, and that failed.
    ended: RefCell<[u64; 2]>,
}

impl End {
    fn new(device: &Arc<Device>, address: [u8; 4], memory: u32) -> Self {
        Self::with(Transport::Rc, device, address, memory)
    }

    fn with(transport: Transport, device: &Arc<Device>, address: [u8; 4], memory: u32) -> Self {
        let gid_index = device.gid_index(address.into()).unwrap();
        let queue = device.completion_queue(4096, None).unwrap();
        let domain = device.protection_domain();
        let memory = domain.register(memory as usize, Access::LOCAL_WRITE | REMOTE).unwrap();
        let queue_pair = domain.queue_pair(QueuePairOptions::new(transport, &queue, 2048)).unwrap();
        Self {
            device: Arc::clone(device),
            gid_index,
            domain,
            queue,
            queue_pair,
            memory,
            ended: RefCell::default(),
        }
    }

    pub(crate) fn connect(&self, peer: &Self) {
        self.try_connect(peer).unwrap();
    }

    pub(crate) fn try_connect(&self, peer: &Self) -> Result<(), DeviceError> {
        let rights = PeerRights { read: true, write: true, atomic: true };
        self.queue_pair.modify(Transition::Init(InitAttributes { rights })).unwrap();
        let receive = ReceiveAttributes {
            path_mtu: Mtu::B4096,
            peer_qpn: peer.queue_pair.qpn(),
            rq_psn: Psn::default(),
            max_dest_rd_atomic: 1,
            min_rnr_timer: 1,
        };
        self.queue_pair.ready_to_receive(receive, self.path(peer))?;
        let send = SendAttributes {
            sq_psn: Psn::default(),
            timeout: 14,
            retry_count: 7,
            rnr_retry: 7,
            max_rd_atomic: 1,
        };
        self.queue_pair.modify(Transition::ReadyToSend(send))
    }

    fn path(&self, peer: &Self) -> PathAttributes {
        let (peer_gid, peer_port) = peer.device.bind_gid(peer.gid_index).unwrap();
        PathAttributes { peer_port: Some(peer_port), ..PathAttributes::new(self.gid_index, peer_gid) }
    }

    pub(crate) fn qpn(&self) -> Qpn {
        self.queue_pair.qpn()
    }

    /// Its memory, for the peer.
    pub(crate) fn memory(&self) -> RemoteAddress {
        let region = self.memory.region();
        RemoteAddress { va: region.addr(), rkey: region.rkey() }
    }

    fn address(&self) -> [u8; 4] {
        match self.socket().ip() {
            IpAddr::V4(address) => address.octets(),
            IpAddr::V6(address) => panic!("{address} is none of a test's addresses"),
        }
    }

    /// Where it receives packets.
    pub(crate) fn socket(&self) -> SocketAddr {
        let (_, port) = self.device.bind_gid(self.gid_index).unwrap();
        SocketAddr::new(self.device.gids()[self.gid_index].address, port)
    }

    pub(crate) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let region = self.memory.region();
        region.read(region.addr() + offset, &mut bytes).unwrap();
        bytes
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        let region = self.memory.region();
        region.write(region.addr() + offset, bytes).unwrap();
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.device.counters().into_iter().find(|row| row.0 == name).unwrap().1
    }

    fn buffers(&self, len: u32) -> Buffers {
        self.buffers_at(0, len)
    }

    fn buffers_at(&self, offset: u64, len: u32) -> Buffers {
        let region = Arc::clone(self.memory.region());
        let va = region.addr() + offset;
        Buffers::List([Element::new(region, va, len)].into_iter().collect())
    }

    /// Posts a request with that number, for `len` bytes at `offset` of its memory.
    pub(crate) fn post_at(&self, id: u64, operation: SendOperation, offset: u64, len: u32) {
        let request = self.request(operation, len, None);
        let request = SendRequest { id, buffers: self.buffers_at(offset, len), ..request };
        self.queue_pair.post_send(request).unwrap();
    }

    /// The same for a receive request.
    pub(crate) fn post_recv_at(&self, id: u64, offset: u64, len: u32) {
        let request = RecvRequest { id, buffers: self.buffers_at(offset, len), len: len.into() };
        self.queue_pair.post_recv(request).unwrap();
    }

    /// What has completed since it was asked last.
    pub(crate) fn completions(&self) -> Vec<Completion> {
        let mut out: Vec<WorkCompletion> = Vec::new();
        self.queue.poll(&mut out, 4096).unwrap();
        out.into_iter().map(|it| it.completion).collect()
    }

    pub(crate) fn post(&self, operation: SendOperation, len: u32) {
        self.queue_pair.post_send(self.request(operation, len, None)).unwrap();
    }

    /// Sends a datagram to `peer`.
    pub(crate) fn send_to(&self, peer: &Self, way: &AddressHandle, len: u32) {
        self.send_list_to(peer, way, len, 1);
    }

    /// Sends so many datagrams to `peer`, posted in one list.
    pub(crate) fn send_list_to(&self, peer: &Self, way: &AddressHandle, len: u32, count: u64) {
        let remote_qpn = peer.queue_pair.qpn();
        let to = Recipient::Datagram(Datagram { address: way.id(), remote_qpn, remote_qkey: 0 });
        let requests = (0..count).map(|_| self.request(SendOperation::Send, len, Some(to)));
        self.queue_pair.post_send_list(requests).unwrap();
    }

    fn request(
        &self,
        operation: SendOperation,
        len: u32,
        destination: Option<Recipient>,
    ) -> SendRequest<Buffers> {
        let buffers = self.buffers(len);
        let (signaled, solicited, fence) = (true, false, false);
        SendRequest { id: 0, operation, destination, buffers, len, signaled, solicited, fence }
    }

    pub(crate) fn post_recv(&self, len: u32) {
        let request = RecvRequest { id: 0, buffers: self.buffers(len), len: len.into() };
        self.queue_pair.post_recv(request).unwrap();
    }

    fn look(&self) -> [u64; 2] {
        let mut out: Vec<WorkCompletion> = Vec::new();
        self.queue.poll(&mut out, 4096).unwrap();
        let mut ended = self.ended.borrow_mut();
        for it in out {
            ended[usize::from(it.completion.status != Status::Success)] += 1;
        }
        assert!(ended[1] <= 1, "requests failed");
        *ended
    }

    /// How many requests have succeeded.
    pub(crate) fn done(&self) -> u64 {
        let [done, failed] = self.look();
        assert_eq!(failed, 0, "a request failed");
        done
    }

    /// How many have failed.
    pub(crate) fn failed(&self) -> u64 {
        self.look()[1]
    }

    pub(crate) fn retransmitted(&self) -> u64 {
        self.queue_pair.query().requester.retransmitted
    }
}
