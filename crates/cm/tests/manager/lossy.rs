//! Many connections over links that lose, reorder and duplicate: each ends in a known state on both sides, both sides
//! agree, and nothing is left.

use core::time::Duration;
use std::collections::BTreeMap;

use netem::{LinkConfig, Loss, Reorder};
use rocev2::{Qpn, Time};
use rocev2_cm::manager::QueuePairAttributes;
use rocev2_cm::wire::{PrivateData, RejectReason};
use rocev2_cm::{CommId, Config, Event, Exponent, Manager, Path, State};

use crate::world::{PORT, Random, Wire, agree, connect, manager, private_data, queue_pair, wire};

const SEEDS: u64 = 150;
const CONNECTIONS: u32 = 12;

/// What one end has been told of a connection, and its queue pair.
#[derive(Debug)]
struct Known {
    qpn: Qpn,
    /// What the connection's queue pair was given.
    attributes: Option<QueuePairAttributes>,
    established: bool,
    ended: bool,
    /// Nothing may follow.
    gone: bool,
}

/// Two managers, their callers, and the links between them.
struct World {
    seed: u64,
    now: u64,
    random: Random,
    ends: [Manager; 2],
    listens: [bool; 2],
    links: [Wire; 2],
    known: [BTreeMap<CommId, Known>; 2],
    next_queue_pair: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let config = LinkConfig {
            latency_ns: 1_000_000,
            jitter_ns: 3_000_000,
            loss: Loss::Bernoulli(random.below(60) as f64 / 100.0),
            reorder: Reorder { probability: random.below(50) as f64 / 100.0, extra_delay_ns: 700_000_000 },
            duplicate: random.below(50) as f64 / 100.0,
            ..LinkConfig::default()
        };
        let mut ends = [manager(Config::default(), random.next()), manager(Config::default(), random.next())];
        for end in &mut ends {
            end.listen(PORT.id(), None, 64).unwrap();
        }
        let links = [wire(config, random.next()), wire(config, random.next())];
        Self {
            seed,
            now: 1,
            random,
            ends,
            listens: [true; 2],
            links,
            known: [BTreeMap::new(), BTreeMap::new()],
            next_queue_pair: 1,
        }
    }

    fn time(&self) -> Time {
        Time::from_nanos(self.now)
    }

    fn draw_queue_pair(&mut self) -> u32 {
        self.next_queue_pair += 1;
        self.next_queue_pair
    }

    /// Programs come to listen, and leave.
    fn come_or_leave(&mut self) {
        for end in [0, 1] {
            let listens = self.random.below(4) > 0;
            if listens && !self.listens[end] {
                self.ends[end].listen(PORT.id(), None, 64).unwrap();
            } else if !listens && self.listens[end] {
                self.ends[end].close_listener(PORT.id(), None).unwrap();
            }
            self.listens[end] = listens;
        }
    }

    fn begin(&mut self, end: usize) {
        let number = self.draw_queue_pair();
        let mut connect = connect(number);
        connect.patience.listener_within = Duration::from_millis(self.random.below(400));
        if end == 1 {
            connect.path = Path { local: connect.path.remote, remote: connect.path.local };
        }
        connect.private_data = private_data(number);
        let id = self.ends[end].connect(self.time(), &connect).unwrap();
        let qpn = connect.queue_pair.qpn;
        let known = Known { qpn, attributes: None, established: false, ended: false, gone: false };
        assert!(self.known[end].insert(id, known).is_none());
    }

    /// What the programs do: usually the expected, now and then something else.
    fn react(&mut self, end: usize, event: Event) {
        let now = self.time();
        let whim = self.random.below(8);
        let manager = &mut self.ends[end];
        let known = &mut self.known[end];
        match event {
            Event::ConnectRequest { id, request } => {
                assert!(request.addressing.is_some());
                self.next_queue_pair += 1;
                let queue_pair = queue_pair(self.next_queue_pair);
                let entry = Known {
                    qpn: queue_pair.qpn,
                    attributes: None,
                    established: false,
                    ended: false,
                    gone: false,
                };
                assert!(known.insert(id, entry).is_none(), "an id was told twice");
                match whim {
                    0 => {
                        let reason = RejectReason::Consumer;
                        manager.reject(now, id, reason, &[], PrivateData::default()).unwrap();
                        known.get_mut(&id).unwrap().gone = true;
                    }
                    1 => {} // It takes its time, and then too long.
                    _ => {
                        manager
                            .accept(now, id, queue_pair, Exponent::default(), PrivateData::default())
                            .unwrap();
                        known.get_mut(&id).unwrap().attributes = manager.attributes(id);
                    }
                }
            }
            Event::ConnectResponse { id, .. } => {
                let entry = known.get_mut(&id).unwrap();
                assert!(entry.attributes.is_none() && !entry.gone, "{entry:?}");
                entry.attributes = manager.attributes(id);
                match whim {
                    0 => {
                        let reason = RejectReason::Consumer;
                        manager.reject(now, id, reason, &[], PrivateData::default()).unwrap();
                    }
                    _ => {
                        manager.establish(id, PrivateData::default()).unwrap();
                        entry.established = true;
                    }
                }
            }
            Event::Established { id, .. } => {
                let entry = known.get_mut(&id).unwrap();
                assert!(!entry.established && !entry.ended && !entry.gone, "{entry:?}");
                entry.established = true;
                if whim < 2 {
                    manager.disconnect(now, id, PrivateData::default()).unwrap();
                }
            }
            Event::Disconnected { id } => {
                let entry = known.get_mut(&id).unwrap();
                assert!(!entry.ended && !entry.gone, "{entry:?}");
                entry.ended = true;
                if whim < 6 {
                    manager.disconnect(now, id, PrivateData::default()).unwrap();
                }
            }
            Event::Rejected { id, .. } | Event::Unreachable { id } => {
                let entry = known.get_mut(&id).unwrap();
                assert!(!entry.ended && !entry.gone, "{entry:?}");
                entry.ended = true;
                entry.gone = manager.state(id).is_none();
            }
            Event::TimeWaitExit { id } => {
                let entry = known.get_mut(&id).unwrap();
                assert!(!entry.gone, "{entry:?}");
                entry.gone = true;
            }
            other => panic!("{other:?}"),
        }
    }

    /// Runs until nothing is under way and nothing is due, or `until` has come.
    fn run(&mut self, until: u64) {
        loop {
            for end in [0, 1] {
                while let Some(event) = self.ends[end].poll_event() {
                    self.react(end, event);
                }
                while let Some(transmit) = self.ends[end].poll_transmit() {
                    self.links[end].send(self.now, (transmit.path, transmit.mad.to_vec()));
                }
            }
            let arrivals = self.links.iter().filter_map(Wire::next_delivery);
            let timeouts = self.ends.iter().filter_map(Manager::poll_timeout).map(Time::as_nanos);
            let Some(next) = arrivals.chain(timeouts).min().filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            let now = self.time();
            for end in [0, 1] {
                while let Some((path, mad)) = self.links[end].recv(self.now) {
                    let path = Path { local: path.remote, remote: path.local };
                    let _ = self.ends[1 - end].handle(now, path, &mad);
                }
                self.ends[end].handle_timeout(now);
            }
        }
        self.now = self.now.max(until);
    }

    /// Whoever is established is so with the queue pair that its peer has for it.
    fn assert_agreement(&self) {
        for (id, known) in self.known[0].iter().filter(|(_, known)| known.established) {
            let attributes = known.attributes.as_ref().unwrap();
            let peer = self.known[1].values().find(|peer| peer.qpn == attributes.dest_qp_num);
            let peer = peer.unwrap_or_else(|| panic!("seed {}: {id} has a peer that isn't there", self.seed));
            let of_peer = peer.attributes.as_ref().unwrap();
            assert!(
                agree(attributes, of_peer, [known.qpn, peer.qpn]),
                "seed {}: {id}: {attributes:?} {of_peer:?}",
                self.seed
            );
        }
        for known in self.known[1].values().filter(|known| known.established) {
            let attributes = known.attributes.as_ref().unwrap();
            let peer = self.known[0].values().find(|peer| peer.qpn == attributes.dest_qp_num).unwrap();
            let of_peer = peer.attributes.as_ref().unwrap();
            assert!(agree(attributes, of_peer, [known.qpn, peer.qpn]), "seed {}", self.seed);
        }
    }
}

#[test]
fn every_connection_ends_in_a_known_state_on_both_sides_and_nothing_is_left() {
    const HOUR: u64 = 3_600_000_000_000;
    let (mut established, mut begun) = (0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for number in 0..CONNECTIONS {
            world.begin(usize::from(number % 3 == 0));
            for _ in 0..2 {
                let pause = world.random.below(200_000_000);
                world.run(world.now + pause);
                world.come_or_leave();
            }
        }
        world.run(world.now + HOUR);
        world.assert_agreement();

        // Each connection is either established or over, and the caller knows which.
        for end in [0, 1] {
            for (&id, known) in &world.known[end] {
                let state = world.ends[end].state(id);
                match state {
                    Some(State::Established) => {
                        assert!(known.established && !known.ended, "seed {seed}, end {end}, {id}: {known:?}");
                    }
                    None => assert!(known.gone, "seed {seed}, end {end}, {id}: {known:?}"),
                    other => panic!("seed {seed}, end {end}, {id}: {other:?} after an hour"),
                }
            }
            established += world.known[end].values().filter(|known| known.established).count();
            begun += world.known[end].len();
        }

        // What is left is ended by both sides: then nothing is.
        for end in [0, 1] {
            let now = world.time();
            let left: Vec<_> = world.known[end].keys().copied().collect();
            for id in left {
                if world.ends[end].state(id) == Some(State::Established) {
                    world.ends[end].disconnect(now, id, PrivateData::default()).unwrap();
                }
            }
            world.run(world.now + HOUR);
        }
        for end in [0, 1] {
            assert!(world.ends[end].is_idle(), "seed {seed}, end {end}: {:?}", world.ends[end]);
            assert!(world.known[end].values().all(|known| known.gone), "seed {seed}, end {end}");
        }
    }
    // Not everything failed, and not everything went well.
    assert!(established * 2 > begun && established < begun, "{established} of {begun}");
}

#[test]
fn without_loss_every_connection_is_established_on_both_sides() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let config = LinkConfig { latency_ns: 1_000_000, jitter_ns: 500_000, ..LinkConfig::default() };
        world.links = [wire(config, seed), wire(config, seed + 1)];
        for number in 0..CONNECTIONS {
            world.begin(usize::from(number % 2 == 0));
        }
        world.run(world.now + 100_000_000);
        world.assert_agreement();
        let ends = [0, 1].map(|end| {
            world.known[end]
                .values()
                .filter(|known| known.established)
                .filter_map(|known| known.attributes.map(|attributes| attributes.dest_qp_num))
                .count()
        });
        assert!(ends[0] > 0 && ends[0] == ends[1], "seed {seed}: {ends:?}");
    }
}
