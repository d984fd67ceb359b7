//! The whole receive path behind ESP: datagrams that a peer who has the key has sealed, with anything inside, those
//! that somebody without it has made, changed or repeated, and packets in clear; between this side's own requests, on
//! a whole device that is stepped.
//!
//! What isn't authentic, or is for a queue pair with another key, changes nothing, is answered by nothing and is
//! counted once. Everything that leaves is sealed. No byte changes that nobody was given, and each request ends once.

mod platform;

use crate::input::Input;
use platform::{OWN, PEER, Wire};
use rocev2::icrc::PseudoHeader;
use rocev2::wire::{Aeth, AtomicEth, Bth, Headers, Opcode, Operation, Packet, Reth, Syndrome, Transport};
use rocev2::work::{
    AtomicOperation, InitAttributes, PeerRights, ReceiveAttributes, RecvRequest, RemoteAddress,
    SendAttributes, SendOperation, SendRequest, State, Transition,
};
use rocev2::{Mtu, Psn, Qpn};
use rocev2_device::esp::{Algorithm, Inbound, Inner, Key, Outbound, Spi, layout};
use rocev2_device::link::put_icrc;
use rocev2_device::memory::Access;
use rocev2_device::{
    Buffers, CompletionQueue, Config, Device, Element, Engine, Gid, MemoryRegion, PathAttributes, Pause,
    Progress, ProtectionDomain, QueuePair, QueuePairOptions, Ready, SecurityAssociation,
};
use std::sync::Arc;
use std::time::Duration;

const STEPS: usize = 200;
const REQUESTS: usize = 8;
const SIZE: u32 = 4096;
/// READs and atomics under way at a time.
const DEPTH: u8 = 4;
/// Steps of the engine after which it has to be at rest.
const REST: usize = 1000;
/// How long one takes.
const STEP: Duration = Duration::from_micros(10);
/// Steps within which nothing may be due when it is looked at what a datagram leads to.
const SOON: u32 = 100;
/// Datagrams that may leave for one that arrives: all requests, and an answer for each that may be under way.
const BURST: usize = 400;
const WINDOW: u32 = 64;
/// What stands in memory that nobody may write to.
const UNTOUCHED: u8 = 0xa5;
const RQ: Psn = Psn::truncate(0xff_fffd);
const SQ: Psn = Psn::truncate(0xff_fffe);
const INNER: Inner = Inner { source_port: 4791, checksum: None };

fn key(number: u8) -> Key {
    Key::new(Algorithm::Aes256Gcm, &[number; 36]).expect("the right length")
}

/// A queue pair with keys of its own.
struct End {
    queue: CompletionQueue,
    queue_pair: QueuePair,
    memory: MemoryRegion,
    spi: Spi,
    /// Requests that have been posted, and that have ended.
    posted: usize,
    ended: usize,
    _domain: ProtectionDomain,
    _association: SecurityAssociation,
}

struct Bench {
    wire: Wire,
    device: Device,
    engine: Arc<Engine>,
    progress: Progress,
    /// Whose key the peer has, and another one.
    ends: [End; 2],
    /// Seals as the peer does, and opens what leaves for it.
    sealer: Arc<Outbound>,
    opener: Inbound,
    /// What the peer has sealed.
    sealed: Vec<Vec<u8>>,
    /// The PSN that the peer would use next.
    next: u32,
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut bench = Bench::new();
    bench.rest();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 16 {
            0..=6 => {
                let packet = bench.packet(&mut input);
                bench.authentic(&packet, &mut input);
            }
            7 => {
                let packet = input.piece().to_vec();
                bench.authentic(&packet, &mut input);
            }
            8 => bench.changed(&mut input),
            9 => bench.repeated(&mut input),
            10 => {
                let bytes = input.piece().to_vec();
                bench.refused(bytes);
            }
            11 => {
                let mut packet = bench.packet(&mut input);
                let header = PseudoHeader::new(PEER, (OWN, 4791).into()).expect("one family");
                packet.extend([0; 4]);
                put_icrc(&mut packet, |packet| header.icrc(0, packet));
                bench.refused(packet);
            }
            12 => {
                let mut state = bench.wire.state();
                state.now = state.now + Duration::from_micros(input.u16().into()) * 16;
                drop(state);
                bench.rest();
            }
            13 | 14 => bench.post_send(&mut input),
            _ => bench.post_recv(),
        }
        bench.check();
    }
    bench.finish();
}

impl Bench {
    fn new() -> Self {
        let wire = Wire::default();
        let (device, engine) = Device::stepped(Config::default(), Arc::new(wire.clone())).expect("a device");
        let ends = [1, 2].map(|number| End::new(&device, number));
        let [peers, _] = &ends;
        let sealer = Arc::new(Outbound::new(peers.spi, key(1), INNER));
        let opener = Inbound::new(spi_of_peer(1), key(11), WINDOW);
        let (progress, sealed) = (Progress::default(), Vec::new());
        Self { wire, device, engine, progress, ends, sealer, opener, sealed, next: 0 }
    }

    /// Lets pass what is due soon: what leaves after that is an answer.
    fn settle(&mut self) {
        for _ in 0..SOON {
            self.rest();
            let mut state = self.wire.state();
            let Some(at) = state.alarm.filter(|at| *at <= state.now + STEP * 2 * SOON) else { return };
            state.now = state.now.max(at);
        }
    }

    /// Steps the engine until it has nothing to do at this time; checks what leaves and says how much that is.
    fn rest(&mut self) -> usize {
        for _ in 0..REST {
            let (ready, due) = {
                let mut state = self.wire.state();
                state.now = state.now + STEP;
                let readable = state.interest.readable && !state.arrived.is_empty();
                let ready = Ready { token: state.token, readable, writable: false };
                let now = state.now;
                (readable.then_some(ready), state.alarm.take_if(|at| *at <= now).is_some())
            };
            let again = self.progress.step(&self.engine, ready.as_slice()) != Pause::Sleep;
            // Where somebody polls, packets wait for the alarm.
            if ready.is_none() && !due && !again && self.wire.state().arrived.is_empty() {
                let left = std::mem::take(&mut self.wire.state().left);
                assert!(left.len() <= BURST, "{} datagrams leave", left.len());
                let count = left.len();
                for mut datagram in left {
                    let opened =
                        self.opener.open(&mut datagram).expect("sealed with the key of the first end");
                    let (packet, _) = opened.packet.split_last_chunk::<4>().expect("an ICRC");
                    Packet::parse(packet).expect("a packet");
                }
                return count;
            }
        }
        panic!("the engine never rests");
    }

    /// How many packets the device has refused.
    fn counted(&self) -> u64 {
        let sent = ["datagrams_sent", "datagrams_received"];
        self.device.counters().iter().filter(|(name, _)| !sent.contains(name)).map(|row| row.1).sum()
    }

    /// A datagram that must change nothing.
    fn refused(&mut self, datagram: Vec<u8>) {
        self.settle();
        // What ended until now did so for another reason, such as the last of the retries.
        self.check();
        let (counted, ended) = (self.counted(), self.ends.each_ref().map(|end| end.ended));
        let memory = self.ends.each_ref().map(End::bytes);
        self.wire.state().arrived.push_back(datagram);
        assert_eq!(self.rest(), 0, "something is answered");
        self.check();
        assert_eq!(self.counted(), counted + 1, "counted once");
        assert_eq!(self.ends.each_ref().map(|end| end.ended), ended);
        assert_eq!(self.ends.each_ref().map(End::bytes), memory);
    }

    /// What the peer seals arrives, for whichever queue pair.
    fn authentic(&mut self, packet: &[u8], input: &mut Input<'_>) {
        let padding = usize::from(input.u8() % 32) * 4;
        // The ICRC, which nobody looks at.
        let len = packet.len() + 4;
        let mut datagram = vec![0; layout::sealed_len(len) + padding];
        datagram[layout::HEADROOM..][..packet.len()].copy_from_slice(packet);
        self.sealer.sealer().seal(&mut datagram, len).expect("room for the padding");
        let dest = |end: &End| packet.first_chunk::<8>().is_some_and(|bth| bth[5..] == qpn(end));
        if dest(&self.ends[1]) {
            self.refused(datagram.clone());
        } else {
            self.wire.state().arrived.push_back(datagram.clone());
            self.rest();
        }
        if self.sealed.len() < 32 {
            self.sealed.push(datagram);
        }
    }

    /// Something that the peer has sealed arrives again, with a byte changed, or the other's SPI.
    fn changed(&mut self, input: &mut Input<'_>) {
        let Some(old) = self.sealed.get(usize::from(input.u8()) % self.sealed.len().max(1)) else { return };
        let mut datagram = old.clone();
        let (at, change) = (usize::from(input.u16()) % datagram.len(), input.u8() | 1);
        if input.flag() {
            datagram[..4].copy_from_slice(&self.ends[1].spi.number().to_be_bytes());
        } else {
            datagram[at] ^= change;
        }
        self.refused(datagram);
    }

    fn repeated(&mut self, input: &mut Input<'_>) {
        let Some(old) = self.sealed.get(usize::from(input.u8()) % self.sealed.len().max(1)) else { return };
        self.refused(old.clone());
    }

    /// A packet of the peer's whose headers fit its opcode, near what is expected.
    fn packet(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let operation = input.pick(&Operation::ALL);
        let near = i32::from(input.u8().cast_signed() / 16);
        let first = if operation.is_request() { RQ.plus(self.next) } else { SQ };
        let bits = input.u8();
        let to = if bits & 32 == 0 { &self.ends[0] } else { &self.ends[1] };
        let bth = Bth {
            ack_req: bits & 1 != 0,
            solicited: bits & 2 != 0,
            ..Bth::new(
                Opcode::rc(operation),
                to.queue_pair.qpn(),
                first.plus(0_u32.wrapping_add_signed(near)),
            )
        };
        let region = to.memory.region();
        let rkey = if bits & 4 == 0 { region.rkey() } else { input.u32() };
        let offset = u64::from(input.u16() % 4096);
        let va = if bits & 8 == 0 { region.addr() + offset } else { input.u64() };
        let len = if bits & 16 == 0 { u32::from(input.u16() % 2048) } else { input.u32() };
        let mut zeros = [0; Headers::MAX_LEN];
        zeros[0] = bth.opcode.to_byte();
        let zeros = &zeros[..Headers::len_for(bth.opcode)];
        // Those headers that the opcode has.
        let has = Packet::parse(zeros).expect("a packet of zeros").headers;
        let syndrome = Syndrome::from_byte(if has.aeth.is_some() { input.u8() } else { 0 });
        let headers = Headers {
            reth: has.reth.map(|_| Reth { va, rkey, len }),
            atomic: has.atomic.map(|_| AtomicEth { va: va & !7, rkey, swap_or_add: len.into(), compare: 0 }),
            aeth: has.aeth.map(|_| Aeth { syndrome, msn: len & 0xff_ffff }),
            atomic_ack: has.atomic_ack.map(|_| va),
            immediate: has.immediate.map(|_| len),
            invalidate: has.invalidate.map(|_| rkey),
            ..Headers::new(bth)
        };
        let lens = [256, 0, 257, usize::from(input.u8())];
        let payload = if bth.opcode.carries_payload() { lens[usize::from(bits >> 6)] } else { 0 };
        let mut out = vec![0x3c; Headers::MAX_LEN + payload + 8];
        let len = headers.frame(&mut out, payload).expect("room").len;
        out.truncate(len);
        if operation.is_request() && near == 0 && bits & 32 == 0 {
            self.next += 1;
        }
        out
    }

    fn post_send(&mut self, input: &mut Input<'_>) {
        let [end, _] = &mut self.ends;
        let remote = RemoteAddress { va: 0x7000, rkey: 0x5555 };
        let operation = match input.u8() % 4 {
            0 => SendOperation::Send,
            1 => SendOperation::Write(remote),
            2 => SendOperation::Read(remote),
            _ => SendOperation::Atomic(remote, AtomicOperation::FetchAdd { add: 1 }),
        };
        let len =
            if matches!(operation, SendOperation::Atomic(..)) { 8 } else { u32::from(input.u16()) % SIZE };
        let (signaled, solicited, fence, destination) = (true, false, false, None);
        let buffers = end.buffers(len);
        let request = SendRequest { id: 0, operation, destination, buffers, len, signaled, solicited, fence };
        end.posted += usize::from(end.queue_pair.post_send(request).is_ok());
        self.rest();
    }

    fn post_recv(&mut self) {
        let [end, _] = &mut self.ends;
        let request = RecvRequest { id: 0, buffers: end.buffers(SIZE), len: SIZE.into() };
        end.posted += usize::from(end.queue_pair.post_recv(request).is_ok());
    }

    fn check(&mut self) {
        for end in &mut self.ends {
            end.look();
            assert!(end.ended <= end.posted, "{} of {} requests have ended", end.ended, end.posted);
        }
        let [_, other] = &self.ends;
        assert!(other.bytes().iter().all(|byte| *byte == UNTOUCHED), "a byte of the other's was written");
    }

    /// Whatever was, every request ends.
    fn finish(mut self) {
        for end in &self.ends {
            end.queue_pair.modify(Transition::Error).expect("from any state but RESET");
        }
        self.wire.state().left.clear();
        self.check();
        for end in &self.ends {
            assert_eq!(
                (end.ended, end.queue_pair.query().state),
                (end.posted, State::Error),
                "each has ended"
            );
        }
    }
}

/// By which the peer of that end takes packets.
fn spi_of_peer(number: u8) -> Spi {
    Spi::for_shared_port(0x0102_0304, number)
}

fn qpn(end: &End) -> [u8; 3] {
    let [_, qpn @ ..] = end.queue_pair.qpn().get().to_be_bytes();
    qpn
}

impl End {
    fn new(device: &Device, number: u8) -> Self {
        let queue = device.completion_queue(64, None).expect("a queue");
        let domain = device.protection_domain();
        let rights = Access::LOCAL_WRITE
            .union(Access::REMOTE_READ)
            .union(Access::REMOTE_WRITE)
            .union(Access::REMOTE_ATOMIC);
        let memory = domain.register(SIZE as usize, rights).expect("memory");
        let untouched = [UNTOUCHED; SIZE as usize];
        memory.region().write(memory.region().addr(), &untouched).expect("its own bytes");
        let queue_pair =
            domain.queue_pair(QueuePairOptions::new(Transport::Rc, &queue, REQUESTS)).expect("a queue pair");
        let association = device.security_association();
        let spi = association.allocate_spi().expect("an SPI");
        association.install_inbound(Inbound::new(spi, key(number), WINDOW)).expect("the first SA");
        let out = Outbound::new(spi_of_peer(number), key(10 + number), INNER);
        association.install_outbound(out, rocev2_device::Receiver::Embedded);
        queue_pair.seal_by(&association).expect("before it receives");
        let rights = PeerRights { read: true, write: true, atomic: true };
        queue_pair.modify(Transition::Init(InitAttributes { rights })).expect("INIT");
        let receive = ReceiveAttributes {
            path_mtu: Mtu::B256,
            peer_qpn: Qpn::truncate(0xabcd),
            rq_psn: RQ,
            max_dest_rd_atomic: DEPTH,
            min_rnr_timer: 1,
        };
        let gid = Gid::for_endpoint(PEER);
        let index = device.gid_index(OWN).expect("its address");
        let path = PathAttributes { peer_port: Some(PEER.port()), ..PathAttributes::new(index, gid) };
        queue_pair.ready_to_receive(receive, path).expect("RTR");
        let send =
            SendAttributes { sq_psn: SQ, timeout: 14, retry_count: 7, rnr_retry: 7, max_rd_atomic: DEPTH };
        queue_pair.modify(Transition::ReadyToSend(send)).expect("RTS");
        let (posted, ended) = (0, 0);
        Self { queue, queue_pair, memory, spi, posted, ended, _domain: domain, _association: association }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; SIZE as usize];
        self.memory.region().read(self.memory.region().addr(), &mut bytes).expect("its own bytes");
        bytes
    }

    fn buffers(&self, len: u32) -> Buffers {
        let region = Arc::clone(self.memory.region());
        let va = region.addr();
        Buffers::List([Element::new(region, va, len)].into_iter().collect())
    }

    fn look(&mut self) {
        let mut out = Vec::new();
        self.queue.poll(&mut out, 64).expect("it hasn't overflowed");
        self.ended += out.len();
    }
}
