//! The network between the machines: a seeded link for each direction, sockets with buffers of limited size.

use crate::rng::Rng;
use crate::tally::Fault;
use crate::trace::Trace;
use netem::{LinkConfig, Loss};
use rocev2::Qpn;
use rocev2::icrc::PseudoHeader;
use rocev2_device::esp::Spi;
use rocev2_device::link::Interest;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A packet on its way: from where, to where, and a digest of its bytes.
type Flying = ((SocketAddr, SocketAddr, u64), Vec<u8>);

/// What all machines share.
#[derive(Debug)]
pub struct Network {
    state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) now: u64,
    /// Packets sent.
    pub(crate) packets: u64,
    pub(crate) trace: Trace,
    /// Whether the packets' bytes are the seed's too, so that the trace has something of them.
    pub(crate) is_seeded: bool,
    /// How often a device has asked for the time: it has been at work.
    pub(crate) asked: u64,
    /// By sender and receiver.
    links: BTreeMap<(usize, usize), Wire>,
    pub(crate) sockets: BTreeMap<SocketAddr, Socket>,
    pub(crate) machines: Vec<MachineState>,
    /// Queue pairs that nothing may be sent to in clear.
    pub(crate) seals: BTreeSet<(SocketAddr, Qpn)>,
    /// SPIs and numbers by which packets have left, by receiver.
    numbers: HashSet<(SocketAddr, [u8; 16])>,
    /// The last sealed packets that have left.
    recorded: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
}

/// Sealed packets that somebody on the way remembers.
const RECORDED: usize = 64;

/// One direction between two machines.
#[derive(Debug)]
struct Wire {
    link: netem::Link<Flying>,
    config: LinkConfig,
    /// Where the sender's buffer is limited: how fast it drains, and when what is in it has left, with its bytes.
    ns_per_byte: u64,
    leaving: VecDeque<(u64, u64)>,
}

/// What the network knows of a machine.
#[derive(Debug)]
pub(crate) struct MachineState {
    pub(crate) random: Rng,
    /// Added to the network's time to get the machine's.
    pub(crate) clock_offset: u64,
    pub(crate) alarm: Option<u64>,
    /// How many of the next changes of what is watched the system refuses, for want of memory.
    pub(crate) refuse_watches: u32,
    /// Which of the next allocations it refuses: the lowest bit is the first's.
    pub(crate) refuse_allocations: u64,
    /// Datagrams that its device has taken.
    pub(crate) taken: Arc<AtomicU64>,
    pub(crate) egress: Egress,
    /// Bytes that a receive buffer holds.
    pub(crate) receive_buffer: usize,
    /// Datagrams for which it had no room.
    pub(crate) overflowed: u64,
    /// Times that the send buffer had no room.
    pub(crate) blocked: u64,
    pub(crate) watches_refused: u64,
}

/// A machine's send buffer. What it holds leaves for each receiver as fast as the link there allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Egress {
    /// Bytes; `None` without a limit.
    pub(crate) capacity: Option<u64>,
    /// Nanoseconds a byte, at least.
    pub(crate) ns_per_byte: u64,
    /// Nothing leaves until then.
    pub(crate) shut_until: u64,
}

/// A socket of a machine.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) machine: usize,
    pub(crate) token: u64,
    pub(crate) interest: Interest,
    pub(crate) arrived: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Bytes of what has arrived.
    pub(crate) held: usize,
}

impl Network {
    pub(crate) fn new(trace: Trace) -> Self {
        let state = State {
            now: 0,
            packets: 0,
            trace,
            is_seeded: true,
            asked: 0,
            links: BTreeMap::new(),
            sockets: BTreeMap::new(),
            machines: Vec::new(),
            seals: BTreeSet::new(),
            numbers: HashSet::new(),
            recorded: VecDeque::new(),
        };
        Self { state: Mutex::new(state) }
    }

    /// Only one thread is ever here.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    pub(crate) fn record(&mut self, what: &'static str, values: &[(&'static str, u64)]) {
        self.trace.record(self.now, what, values);
    }

    pub(crate) fn connect(&mut self, from: usize, to: usize, config: LinkConfig, seed: u64) {
        let Egress { capacity, ns_per_byte, .. } = self.machines[from].egress;
        let (config, ns_per_byte) = match (capacity, config.bandwidth_bits_per_s) {
            // The buffer holds what waits for the link.
            (Some(_), Some(rate)) => {
                let config = LinkConfig { bandwidth_bits_per_s: None, ..config };
                (config, ns_per_byte.max(8_000_000_000 / rate))
            }
            _ => (config, ns_per_byte),
        };
        let (link, leaving) = (netem::Link::new(config, seed), VecDeque::new());
        self.links.insert((from, to), Wire { link, config, ns_per_byte, leaving });
    }

    /// Cuts the link in one direction, or heals it.
    pub(crate) fn cut(&mut self, from: usize, to: usize, cut: bool) {
        if let Some(wire) = self.links.get_mut(&(from, to)) {
            let lost = LinkConfig { loss: Loss::Bernoulli(1.0), ..wire.config };
            wire.link.set_config(if cut { lost } else { wire.config });
        }
    }

    pub(crate) fn bind(&mut self, local: SocketAddr, machine: usize, token: u64) {
        let socket =
            Socket { machine, token, interest: Interest::default(), arrived: VecDeque::new(), held: 0 };
        self.sockets.insert(local, socket);
    }

    /// Sends a datagram; whether there was room for it.
    pub(crate) fn send(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        let now = self.now;
        let Some(machine) = self.sockets.get(&from).map(|socket| socket.machine) else { return true };
        let len = datagram.len() as u64;
        let Egress { capacity, shut_until, .. } = self.machines[machine].egress;
        let held = self.held(machine);
        if shut_until > now || capacity.is_some_and(|capacity| held > 0 && held + len > capacity) {
            self.machines[machine].blocked += 1;
            self.record("blocked", &[("machine", machine as u64)]);
            return false;
        }
        let Some(peer) = self.sockets.get(&to).map(|socket| socket.machine) else { return true };
        self.packets += 1;
        self.check_sealing(from, to, datagram);
        // The last bytes are a checksum of all of them.
        let check = datagram.last_chunk().filter(|_| self.is_seeded);
        let check = check.map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let values = [
            ("from", machine as u64),
            ("to", peer as u64),
            ("bytes", datagram.len() as u64),
            ("icrc", check.into()),
        ];
        self.record("send", &values);
        if self.trace.is_printed() {
            let text = describe(datagram);
            self.trace.comment(&text);
        }
        if let Some(wire) = self.links.get_mut(&(machine, peer)) {
            let leaves = match capacity {
                Some(_) => {
                    let idle_at = wire.leaving.back().map_or(now, |(at, _)| (*at).max(now));
                    let leaves = idle_at + len * wire.ns_per_byte;
                    wire.leaving.push_back((leaves, len));
                    leaves
                }
                None => now,
            };
            wire.link.send(leaves, ((from, to, digest(datagram)), datagram.to_vec()));
        }
        true
    }

    /// Sends a datagram of an attacker's, who writes any sender's address, from a machine whose link carries it.
    pub(crate) fn forge(&mut self, machine: usize, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        let Some(peer) = self.sockets.get(&to).map(|socket| socket.machine) else { return };
        if let Some(wire) = self.links.get_mut(&(machine, peer)) {
            wire.link.send(self.now, ((from, to, digest(&datagram)), datagram));
        }
    }

    /// A packet that leaves is sealed if its receiver is, by a number that no other packet has.
    fn check_sealing(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        match (datagram.first(), datagram.first_chunk()) {
            (Some(first), Some(number)) if Spi::is_sealed(*first) => {
                assert!(self.numbers.insert((to, *number)), "a number is used for two packets");
                self.recorded.truncate(RECORDED - 1);
                self.recorded.push_front((from, to, datagram.to_vec()));
            }
            _ => {
                let end = datagram.len().saturating_sub(4);
                let packet = rocev2::wire::Packet::parse(&datagram[..end]).expect("a packet");
                let receiver = (to, packet.headers.bth.dest_qp);
                assert!(!self.seals.contains(&receiver), "a packet for a sealed queue pair in clear");
            }
        }
    }

    /// Lets one of the last sealed packets arrive again, as it was, changed, or with the SPI of another; whether there
    /// was one, and room for it.
    pub(crate) fn replay(&mut self, rng: &mut Rng) -> bool {
        if self.recorded.is_empty() {
            return false;
        }
        let (from, to, mut bytes) = self.recorded[rng.index(self.recorded.len())].clone();
        match rng.below(3) {
            0 => {}
            1 => {
                // Not the byte that tells what it is.
                let at = 4 + rng.index(bytes.len() - 4);
                bytes[at] ^= 1 << rng.below(8);
            }
            _ => {
                let (_, _, other) = &self.recorded[rng.index(self.recorded.len())];
                bytes[..4].copy_from_slice(&other[..4]);
            }
        }
        let Some(socket) = self.sockets.get_mut(&to) else { return false };
        if socket.held + bytes.len() > self.machines[socket.machine].receive_buffer {
            return false;
        }
        socket.held += bytes.len();
        let values = [("machine", socket.machine as u64), ("bytes", bytes.len() as u64)];
        socket.arrived.push_back((from, bytes));
        self.record("replay", &values);
        true
    }

    /// Datagrams that a machine's device has taken.
    pub(crate) fn taken(&self, machine: usize) -> u64 {
        self.machines[machine].taken.load(Ordering::Relaxed)
    }

    /// Whether nothing is under way to a machine, nor waits there.
    pub(crate) fn is_quiet(&self, machine: usize) -> bool {
        let mut sockets = self.sockets.values().filter(|socket| socket.machine == machine);
        self.next_arrival(machine).is_none() && sockets.all(|socket| socket.arrived.is_empty())
    }

    /// Bytes that a machine's send buffer holds.
    pub(crate) fn held(&self, machine: usize) -> u64 {
        let wires = self.links.range((machine, 0)..(machine + 1, 0));
        let waiting = wires.flat_map(|(_, wire)| wire.leaving.iter().filter(|(at, _)| *at > self.now));
        waiting.map(|(_, len)| len).sum()
    }

    /// When half of a machine's send buffer is free: then a socket says that there is room.
    pub(crate) fn writable_at(&self, machine: usize) -> u64 {
        let Egress { capacity, shut_until, .. } = self.machines[machine].egress;
        let open = shut_until.max(self.now);
        let Some(capacity) = capacity else { return open };
        let mut held = self.held(machine);
        let wires = self.links.range((machine, 0)..(machine + 1, 0));
        let mut leaving: Vec<_> = wires.flat_map(|(_, wire)| wire.leaving.iter().copied()).collect();
        leaving.sort_unstable();
        let mut at = open;
        for (leaves, len) in leaving.into_iter().filter(|(leaves, _)| *leaves > self.now) {
            if held <= capacity / 2 {
                break;
            }
            held -= len;
            at = at.max(leaves);
        }
        at
    }

    /// Puts what has arrived by now into the sockets' buffers.
    pub(crate) fn deliver(&mut self) {
        let Self { now, trace, links, sockets, machines, .. } = self;
        for (&(_, peer), wire) in links {
            while wire.leaving.pop_front_if(|(at, _)| *at <= *now).is_some() {}
            while let Some(((from, to, sum), bytes)) = wire.link.recv(*now) {
                if digest(&bytes) != sum && is_accepted(from, to, &bytes) {
                    trace.record(*now, "checksum", &[("machine", peer as u64)]);
                    continue;
                }
                let Some(socket) = sockets.get_mut(&to) else { continue };
                let machine = &mut machines[peer];
                if socket.held + bytes.len() > machine.receive_buffer {
                    machine.overflowed += 1;
                    trace.record(*now, "overflow", &[("machine", peer as u64)]);
                    continue;
                }
                trace.record(*now, "arrive", &[("machine", peer as u64), ("bytes", bytes.len() as u64)]);
                socket.held += bytes.len();
                socket.arrived.push_back((from, bytes));
            }
        }
    }

    /// Takes what has arrived first at a socket.
    pub(crate) fn take(&mut self, local: SocketAddr, into: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let socket = self.sockets.get_mut(&local)?;
        let (from, bytes) = socket.arrived.pop_front()?;
        socket.held -= bytes.len();
        self.machines[socket.machine].taken.fetch_add(1, Ordering::Relaxed);
        into[..bytes.len()].copy_from_slice(&bytes);
        Some((bytes.len(), from))
    }

    /// When the next datagram arrives at a machine.
    pub(crate) fn next_arrival(&self, machine: usize) -> Option<u64> {
        let to = self.links.iter().filter(|((_, to), _)| *to == machine);
        to.filter_map(|(_, wire)| wire.link.next_delivery()).min()
    }

    /// Datagrams on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.links.values().map(|wire| wire.link.in_flight()).sum()
    }

    /// What the links and sockets have done to packets.
    pub(crate) fn faults(&self) -> Vec<(Fault, u64)> {
        let mut sum = netem::Counters::default();
        for wire in self.links.values() {
            let counters = wire.link.counters();
            sum.lost += counters.lost;
            sum.reordered += counters.reordered;
            sum.duplicated += counters.duplicated;
            sum.corrupted += counters.corrupted;
            sum.dropped_by_queue += counters.dropped_by_queue;
        }
        let of = |count: fn(&MachineState) -> u64| self.machines.iter().map(count).sum();
        vec![
            (Fault::Lost, sum.lost),
            (Fault::Reordered, sum.reordered),
            (Fault::Duplicated, sum.duplicated),
            (Fault::Corrupted, sum.corrupted),
            (Fault::QueueFull, sum.dropped_by_queue),
            (Fault::ReceiveBufferFull, of(|machine| machine.overflowed)),
            (Fault::SendBufferFull, of(|machine| machine.blocked)),
            (Fault::WatchRefused, of(|machine| machine.watches_refused)),
        ]
    }
}

/// What tells a packet's bytes from any others.
fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Whether a device would take a damaged packet for a good one: over IPv4 the ICRC covers an identification that the
/// receiver doesn't see, so that one in 65,536 passes for one with another identification. A host's UDP checksum keeps
/// these from it, but for one in as many again: too few to be of interest, and enough to be met (seed 38804).
fn is_accepted(from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> bool {
    PseudoHeader::new(from, to).is_ok_and(|pseudo_header| pseudo_header.verify(0, bytes).is_ok())
}

/// The headers of a packet, for a trace.
fn describe(datagram: &[u8]) -> String {
    if datagram.first().is_some_and(|first| Spi::is_sealed(*first)) {
        return format!("ESP {:?} number {:?}", Spi::of(datagram), datagram.get(8..16));
    }
    let end = datagram.len().saturating_sub(4);
    match rocev2::wire::Packet::parse(&datagram[..end]) {
        Ok(packet) => {
            let headers = &packet.headers;
            let mut text = format!(
                "{:?} qp={:#x} psn={}{}",
                headers.bth.opcode,
                headers.bth.dest_qp.get(),
                headers.bth.psn.get(),
                if headers.bth.ack_req { " ack_req" } else { "" }
            );
            if let Some(aeth) = headers.aeth {
                text += &format!(" {:?} msn={}", aeth.syndrome, aeth.msn);
            }
            if let Some(reth) = headers.reth {
                text += &format!(" va={:#x} len={}", reth.va, reth.len);
            }
            text
        }
        Err(error) => format!("{error}"),
    }
}
