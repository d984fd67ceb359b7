//! Two hosts with many queue pairs each, joined by two links that carry whole datagrams with their ICRC, in
//! virtual time.

use super::driven::{Driven, Shared, XrcDomain};
use super::memory::{Ram, Slice};
use super::rng::Rng;
use netem::{Link, LinkConfig};
use rocev2::icrc::{self, PseudoHeader};
use rocev2::transport::{
    Burst, Destination, DropReason, Limits, PacketKind, QueuePair, Source, Transmit, rc, uc, ud,
};
use rocev2::wire::{Headers, Opcode, Operation, Packet, Transport};
use rocev2::work::{
    AddressId, AsyncEvent, Attributes, Completion, Event, InitAttributes, PeerRights, QueuePairType,
    ReceiveAttributes, ReceiveQueue, SendAttributes, State, Transition,
};
use rocev2::{Mtu, Psn, Qpn, Srqn, Time, UDP_PORT};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

/// What a connection is made with, the same on both sides.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// On host 0; an XRC initiator's peer on host 1 is a target.
    pub(crate) of: QueuePairType,
    pub(crate) mtu: Mtu,
    pub(crate) limits: Limits,
    pub(crate) max_recv_requests: usize,
    pub(crate) rights: PeerRights,
    pub(crate) timeout: u8,
    pub(crate) retry_count: u8,
    pub(crate) rnr_retry: u8,
    pub(crate) min_rnr_timer: u8,
    pub(crate) rd_atomic: u8,
    /// The first PSN of either host, or random ones.
    pub(crate) psn: Option<[Psn; 2]>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            of: QueuePairType::Rc,
            mtu: Mtu::B1024,
            limits: Limits { max_send_requests: 64, window: 160 << 10 },
            max_recv_requests: 64,
            rights: PeerRights { read: true, write: true, atomic: true },
            timeout: 14,
            retry_count: 7,
            rnr_retry: 7,
            min_rnr_timer: 1,
            rd_atomic: 16,
            psn: None,
        }
    }
}

/// Four of the longest packets.
const BURST: Burst = Burst { bytes: 20_000, packets: 4, mixes_headers: true };

/// How a host takes packets off its socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Receiving {
    /// As they come, answering each at once.
    Single,
    /// Everything that has come, at these intervals, and only then answering.
    Batch(Duration),
}

/// A packet that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Time,
    pub(crate) from: usize,
    pub(crate) headers: Headers,
}

/// Sees each packet before its link does, and says whether it gets there.
pub(crate) type Tap = Box<dyn FnMut(&Sent) -> bool>;

/// Changes packets, from BTH through pad, before their ICRC is made: an attacker on the path.
pub(crate) type Attacker = Box<dyn FnMut(&mut Vec<u8>)>;

/// One end of a connection.
pub(crate) struct End {
    pub(crate) qp: Driven<Ram>,
    pub(crate) qpn: Qpn,
    /// On an extended reliable connection, the target's shared receive queue.
    pub(crate) xrc_srq: Option<(Srqn, Shared<Vec<Slice>>)>,
    pub(crate) done: Vec<Completion>,
    pub(crate) events: Vec<AsyncEvent>,
}

pub(crate) struct Host {
    pub(crate) ram: Ram,
    pub(crate) ends: Vec<End>,
    /// The receive queue that queue pairs made from now on share.
    pub(crate) shared: Option<Shared<Vec<Slice>>>,
    /// What its XRC targets belong to.
    pub(crate) domain: XrcDomain<Vec<Slice>>,
    by_qpn: HashMap<Qpn, usize>,
    /// Packets that the ICRC rejected.
    pub(crate) corrupt: u64,
    /// Packets that couldn't be read.
    pub(crate) malformed: u64,
    pub(crate) refused: HashMap<DropReason, u64>,
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) hosts: [Host; 2],
    /// By sender.
    pub(crate) links: [Link<Vec<u8>>; 2],
    pseudo: [PseudoHeader; 2],
    /// The addresses of the hosts.
    pub(crate) addresses: [IpAddr; 2],
    /// Whether an identification other than 0 means a corrupt packet (IPv4).
    v4: bool,
    receiving: Receiving,
    /// When the caller wants [`World::step`] to come back at the latest.
    pub(crate) alarm: Option<Time>,
    /// The ends that something happened to, for the caller to take.
    pub(crate) touched: Vec<(usize, usize)>,
    pub(crate) trace: Option<Vec<Sent>>,
    pub(crate) tap: Option<Tap>,
    pub(crate) attacker: Option<Attacker>,
    pub(crate) rng: Rng,
    packet: Vec<u8>,
}

impl World {
    pub(crate) fn new(config: LinkConfig, receiving: Receiving, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let v4 = rng.percent(50);
        let (pseudo, addresses) = if v4 {
            let [a, b] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
            let headers =
                [PseudoHeader::v4(a, b, 0xc123, UDP_PORT), PseudoHeader::v4(b, a, 0xd456, UDP_PORT)];
            (headers, [IpAddr::V4(a), IpAddr::V4(b)])
        } else {
            let [a, b] = [1, 2].map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
            let headers =
                [PseudoHeader::v6(a, b, 0xc123, UDP_PORT), PseudoHeader::v6(b, a, 0xd456, UDP_PORT)];
            (headers, [IpAddr::V6(a), IpAddr::V6(b)])
        };
        let host = || Host {
            ram: Ram::default(),
            ends: Vec::new(),
            shared: None,
            domain: Rc::default(),
            by_qpn: HashMap::new(),
            corrupt: 0,
            malformed: 0,
            refused: HashMap::new(),
        };
        Self {
            now: Time::ZERO,
            hosts: [host(), host()],
            links: [Link::new(config, rng.next()), Link::new(config, rng.next())],
            pseudo,
            addresses,
            v4,
            receiving,
            alarm: None,
            touched: Vec::new(),
            trace: None,
            tap: None,
            attacker: None,
            rng,
            packet: vec![0; Headers::MAX_LEN + 4096 + 3 + icrc::LEN],
        }
    }

    /// A perfect link with this latency.
    pub(crate) fn quiet(latency: Duration) -> Self {
        let latency_ns = u64::try_from(latency.as_nanos()).expect("a short latency");
        Self::new(LinkConfig { latency_ns, ..LinkConfig::default() }, Receiving::Single, 0)
    }

    /// Connects a new pair of queue pairs, ready to send, and says which one it is; the number is the same on
    /// both hosts.
    pub(crate) fn connect(&mut self, options: &Options) -> usize {
        let index = self.hosts[0].ends.len();
        let psn =
            options.psn.unwrap_or_else(|| [Psn::truncate(self.rng.word()), Psn::truncate(self.rng.word())]);
        let qpn = [0, 1].map(|host| {
            loop {
                let qpn = Qpn::truncate(self.rng.word());
                if qpn.is_ordinary() && !self.hosts[host].by_qpn.contains_key(&qpn) {
                    break qpn;
                }
            }
        });
        let xrc_srq = (options.of == QueuePairType::XrcInitiator).then(|| {
            let number = Srqn::truncate(self.rng.word());
            let queue = Rc::new(RefCell::new(ReceiveQueue::shared(options.max_recv_requests)));
            self.hosts[1].domain.borrow_mut().insert(number, Rc::clone(&queue));
            (number, queue)
        });
        for host in 0..2 {
            let own = match options.of {
                QueuePairType::XrcInitiator if host == 1 => QueuePairType::XrcTarget,
                of => of,
            };
            let options = Options { of: own, ..options.clone() };
            let mut qp = match &self.hosts[host] {
                Host { domain, .. } if own == QueuePairType::XrcTarget => {
                    Driven::xrc_target(Rc::clone(domain))
                }
                Host { shared: Some(shared), .. } => {
                    Driven::sharing(protocol(&options, qpn[host]), Rc::clone(shared))
                }
                _ => Driven::with(protocol(&options, qpn[host]), options.max_recv_requests),
            };
            for change in changes(&options, qpn[1 - host], psn[host], psn[1 - host]) {
                qp.set(change).expect("the usual transitions");
            }
            // Some do as devices do whose system sends several packets at once.
            let number = qpn[host].get();
            qp.split_writes(if number & 1 == 0 { 0 } else { 64 << 10 });
            qp.begins_burst((number & 2 != 0).then_some(BURST));
            let (done, events) = (Vec::new(), Vec::new());
            let xrc_srq = xrc_srq.clone();
            self.hosts[host].ends.push(End { qp, qpn: qpn[host], xrc_srq, done, events });
            self.hosts[host].by_qpn.insert(qpn[host], index);
        }
        index
    }

    /// Goes to the next moment at which something happens, and lets it happen. False if nothing is going to.
    pub(crate) fn step(&mut self) -> bool {
        let Some(next) = self.next_event() else { return false };
        self.now = self.now.max(next);
        if self.alarm.is_some_and(|alarm| alarm <= self.now) {
            self.alarm = None;
        }
        for host in 0..2 {
            self.receive(host);
        }
        for host in 0..2 {
            self.time_out(host);
        }
        true
    }

    /// Runs until nothing is under way and no timer is set.
    pub(crate) fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        while self.next_event().is_some_and(|next| next <= end) {
            self.step();
        }
        assert_eq!(self.next_event(), None, "not idle after {limit:?}: at {:?}", self.now);
    }

    /// Runs up to a moment.
    pub(crate) fn run_until(&mut self, end: Time) {
        while self.next_event().is_some_and(|next| next <= end) {
            self.step();
        }
        self.now = self.now.max(end);
    }

    pub(crate) fn next_event(&self) -> Option<Time> {
        let arrivals = (0..2).filter_map(|host| self.next_arrival(host));
        let timeouts = self.hosts.iter().flat_map(|host| &host.ends).filter_map(|end| end.qp.poll_timeout());
        arrivals.chain(timeouts).chain(self.alarm).min()
    }

    /// When `host` next takes a packet off its socket.
    fn next_arrival(&self, host: usize) -> Option<Time> {
        let at = self.links[1 - host].next_delivery()?;
        Some(Time::from_nanos(match self.receiving {
            Receiving::Single => at,
            Receiving::Batch(interval) => {
                at.next_multiple_of(u64::try_from(interval.as_nanos()).expect("a short interval"))
            }
        }))
    }

    fn receive(&mut self, host: usize) {
        let mut answering = Vec::new();
        while self.next_arrival(host).is_some_and(|at| at <= self.now) {
            let Some(datagram) = self.links[1 - host].recv(self.now.as_nanos()) else { break };
            let Some(index) = self.deliver(host, &datagram) else { continue };
            match self.receiving {
                Receiving::Single => self.pump(host, index),
                Receiving::Batch(_) if !answering.contains(&index) => answering.push(index),
                Receiving::Batch(_) => {}
            }
        }
        for index in answering {
            self.pump(host, index);
        }
    }

    /// Gives a datagram to its queue pair.
    fn deliver(&mut self, host: usize, datagram: &[u8]) -> Option<usize> {
        let expected_id = self.v4.then_some(0);
        let verified = self.pseudo[1 - host].verify(0, datagram).ok().filter(|seen| seen.id == expected_id);
        let (source, destination) = (self.addresses[1 - host], self.addresses[host]);
        let from = Source { source, destination, traffic_class: None, hop_limit: Some(3) };
        let host = &mut self.hosts[host];
        let Some(verified) = verified else {
            host.corrupt += 1;
            return None;
        };
        let Ok(packet) = Packet::parse(verified.packet) else {
            host.malformed += 1;
            return None;
        };
        let index = *host.by_qpn.get(&packet.headers.bth.dest_qp)?;
        if let Err(refusal) = host.ends[index].qp.handle_packet_from(self.now, &from, &packet, &host.ram) {
            *host.refused.entry(refusal).or_default() += 1;
        }
        Some(index)
    }

    fn time_out(&mut self, host: usize) {
        for index in 0..self.hosts[host].ends.len() {
            let qp = &mut self.hosts[host].ends[index].qp;
            if qp.poll_timeout().is_none_or(|at| at > self.now) {
                continue;
            }
            qp.handle_timeout(self.now);
            assert!(
                qp.poll_timeout().is_none_or(|at| at > self.now),
                "a timer that was handled rings again at once"
            );
            self.pump(host, index);
        }
    }

    /// Sends everything that a queue pair has to send, and takes its events.
    pub(crate) fn pump(&mut self, host: usize, index: usize) {
        while self.transmit(host, index) {}
        let end = &mut self.hosts[host].ends[index];
        while let Some(event) = end.qp.poll() {
            match event {
                Event::Completion(completion) => end.done.push(completion),
                Event::Async(event) => end.events.push(event),
            }
        }
        self.touched.push((host, index));
    }

    fn transmit(&mut self, host: usize, index: usize) -> bool {
        let Self { hosts, packet, now, .. } = self;
        let Host { ends, ram, .. } = &mut hosts[host];
        let room = packet.len() - icrc::LEN;
        let Some(transmit) = ends[index].qp.poll_transmit(*now, ram, &mut packet[..room]) else {
            return false;
        };
        let len = transmit.len;
        let mut datagram = packet[..len + icrc::LEN].to_vec();
        if let Some(attack) = &mut self.attacker {
            datagram.truncate(len);
            attack(&mut datagram);
            datagram.extend([0; icrc::LEN]);
        }
        self.pseudo[host].write(0, &mut datagram).expect("there is room");
        if self.trace.is_some() || self.tap.is_some() {
            let parsed = Packet::parse(&packet[..len]).expect("what is sent can be read");
            check_transmit(&transmit, &parsed);
            let sent = Sent { at: self.now, from: host, headers: parsed.headers };
            let passes = self.tap.as_mut().is_none_or(|tap| tap(&sent));
            if let Some(trace) = &mut self.trace {
                trace.push(sent.clone());
            }
            if !passes {
                return true;
            }
        }
        self.links[host].send(self.now.as_nanos(), datagram);
        true
    }

    /// Takes some of an end's completions.
    pub(crate) fn take_done(
        &mut self,
        host: usize,
        index: usize,
        which: impl Fn(&Completion) -> bool,
    ) -> Vec<Completion> {
        self.hosts[host].ends[index].done.extract_if(.., |completion| which(completion)).collect()
    }

    /// What a failed assertion wants to say about a connection.
    pub(crate) fn describe(&self, index: usize) -> String {
        let end = |host: usize| {
            let End { qp, done, events, .. } = &self.hosts[host].ends[index];
            format!(
                "host {host}: {:?}\n  {events:?} {done:?}\n  timeout {:?}",
                qp.snapshot(),
                qp.poll_timeout()
            )
        };
        format!("connection {index} at {:?}\n {}\n {}", self.now, end(0), end(1))
    }

    pub(crate) fn describe_all(&self) -> String {
        (0..self.hosts[0].ends.len()).map(|index| self.describe(index)).collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn state(&self, host: usize, index: usize) -> State {
        self.hosts[host].ends[index].qp.state()
    }
}

/// The address handle that leads to the other host.
pub(crate) const ADDRESS: AddressId = AddressId(0x77);

/// A queue key that any program may send with.
pub(crate) const QKEY: u32 = 0x1234_5678;

pub(crate) fn protocol(options: &Options, own: Qpn) -> QueuePair<Ram> {
    match options.of {
        QueuePairType::Rc => QueuePair::Rc(rc::QueuePair::new(options.limits)),
        QueuePairType::Uc => QueuePair::Uc(uc::QueuePair::new(options.limits)),
        QueuePairType::Ud => QueuePair::Ud(ud::QueuePair::new(options.limits, own, options.mtu)),
        QueuePairType::XrcInitiator => QueuePair::Rc(rc::QueuePair::xrc_initiator(options.limits)),
        QueuePairType::XrcTarget => QueuePair::Rc(rc::QueuePair::xrc_target()),
    }
}

/// RESET to RTS, for queue pairs of any type.
pub(crate) fn changes(options: &Options, peer_qpn: Qpn, sq_psn: Psn, rq_psn: Psn) -> [Attributes; 3] {
    let mut changes = transitions(options, peer_qpn, sq_psn, rq_psn).map(Attributes::from);
    let [init, receive, send] = &mut changes;
    if !matches!(options.of, QueuePairType::Rc | QueuePairType::XrcTarget) {
        (receive.max_dest_rd_atomic, receive.min_rnr_timer) = (None, None);
    }
    if !matches!(options.of, QueuePairType::Rc | QueuePairType::XrcInitiator) {
        (send.retry_count, send.rnr_retry, send.max_rd_atomic) = (None, None, None);
    }
    if !options.of.is_reliable() {
        send.timeout = None;
    }
    if options.of == QueuePairType::Ud {
        (init.rights, init.qkey) = (None, Some(QKEY));
        (receive.path, receive.path_mtu, receive.peer_qpn, receive.rq_psn) = (false, None, None, None);
    }
    changes
}

/// RESET to RTS.
pub(crate) fn transitions(options: &Options, peer_qpn: Qpn, sq_psn: Psn, rq_psn: Psn) -> [Transition; 3] {
    [
        Transition::Init(InitAttributes { rights: options.rights }),
        Transition::ReadyToReceive(ReceiveAttributes {
            path_mtu: options.mtu,
            peer_qpn,
            rq_psn,
            max_dest_rd_atomic: options.rd_atomic,
            min_rnr_timer: options.min_rnr_timer,
        }),
        Transition::ReadyToSend(SendAttributes {
            sq_psn,
            timeout: options.timeout,
            retry_count: options.retry_count,
            rnr_retry: options.rnr_retry,
            max_rd_atomic: options.rd_atomic,
        }),
    ]
}

/// What a queue pair says of a packet that it has written is what the packet says.
pub(crate) fn check_transmit(transmit: &Transmit, packet: &Packet<'_>) {
    let Opcode::Known { operation, transport } = packet.headers.bth.opcode else {
        panic!("only known packets are sent")
    };
    let kind = match operation {
        Operation::Acknowledge => PacketKind::Acknowledge,
        Operation::AtomicAcknowledge => PacketKind::AtomicAcknowledge,
        operation if operation.is_request() => PacketKind::Request,
        _ => PacketKind::ReadResponse,
    };
    assert_eq!((transmit.kind, transmit.psn), (kind, packet.headers.bth.psn));
    let to = match transport {
        Transport::Ud => Destination::Address(ADDRESS),
        _ => Destination::Path,
    };
    assert_eq!(transmit.to, to);
}
