//! Managers at the ends of links, in virtual time.

use std::collections::VecDeque;

use netem::{Link, LinkConfig};
use rocev2::{Mtu, Psn, Qpn, Time};
use rocev2_cm::ip::{IpAddressing, PortSpace, Service};
use rocev2_cm::manager::{
    Connect, ConnectRequest, Dropped, LocalQueuePair, Patience, QueuePairAttributes, Route, Transport,
};
use rocev2_cm::wire::{Mad, PrivateData};
use rocev2_cm::{CommId, Config, Event, Exponent, Gid, Manager, Path, State, Transmit};

pub(crate) const PORT: Service = Service { space: PortSpace::Tcp, port: 7174 };

/// The address of an end, by its number.
pub(crate) fn gid(end: u8) -> Gid {
    Gid(std::net::Ipv4Addr::new(192, 0, 2, end + 1).to_ipv6_mapped().octets())
}

/// Numbers that differ from seed to seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub(crate) fn manager(config: Config, seed: u64) -> Manager {
    let mut random = Random(seed);
    Manager::new(config, Box::new(move || random.next()))
}

/// A queue pair, different for each number.
pub(crate) fn queue_pair(number: u32) -> LocalQueuePair {
    LocalQueuePair {
        qpn: Qpn::truncate(0x100 + number),
        starting_psn: Psn::truncate(number.wrapping_mul(0x9_0001)),
        responder_resources: 4,
        initiator_depth: 3,
        rnr_retry_count: 6,
        srq: false,
    }
}

pub(crate) fn private_data<const N: usize>(number: u32) -> PrivateData<N> {
    let addressing = IpAddressing {
        source: "192.0.2.1:40001".parse().unwrap(),
        destination: "192.0.2.2".parse().unwrap(),
    };
    let consumer = number.to_be_bytes();
    PrivateData::new(&[addressing.encode().unwrap().as_slice(), &consumer].concat()).unwrap()
}

/// From the first end to the second, with a queue pair of that number.
pub(crate) fn connect(number: u32) -> Connect {
    Connect {
        path: Path { local: gid(0), remote: gid(1) },
        service_id: PORT.id(),
        transport: Transport::Rc,
        queue_pair: queue_pair(number),
        route: Route::new(Mtu::B1024),
        patience: Patience {
            response_timeout: Exponent::new(14).unwrap(),
            max_retries: 10,
            ..Patience::default()
        },
        private_data: private_data(number),
    }
}

/// Two managers that talk to each other; whatever a test wants to be lost or changed, it takes out of `wire`.
pub(crate) struct Pair {
    pub(crate) now: Time,
    pub(crate) ends: [Manager; 2],
    /// Datagrams under way, each with the number of the end that sent it.
    pub(crate) wire: VecDeque<(usize, Transmit)>,
}

impl Pair {
    /// The second end listens on [`PORT`].
    pub(crate) fn new() -> Self {
        Self::with(Config::default(), Config::default())
    }

    pub(crate) fn with(first: Config, second: Config) -> Self {
        let mut ends = [manager(first, 1), manager(second, 2)];
        ends[1].listen(PORT.id(), None, 8).unwrap();
        Self { now: Time::from_nanos(1), ends, wire: VecDeque::new() }
    }

    /// Puts what both want to send on the wire.
    pub(crate) fn send(&mut self) {
        for (end, manager) in self.ends.iter_mut().enumerate() {
            self.wire.extend(std::iter::from_fn(|| manager.poll_transmit()).map(|transmit| (end, transmit)));
        }
    }

    /// The messages on the wire.
    pub(crate) fn messages(&mut self) -> Vec<Mad> {
        self.send();
        self.wire.iter().map(|(_, transmit)| Mad::parse(&transmit.mad).unwrap()).collect()
    }

    /// Gives one datagram to the end that it is for.
    pub(crate) fn give(&mut self, from: usize, transmit: &Transmit) -> Result<(), Dropped> {
        let path = Path { local: transmit.path.remote, remote: transmit.path.local };
        self.ends[1 - from].handle(self.now, path, &transmit.mad)
    }

    /// Delivers all that is on the wire, and what is answered to it.
    pub(crate) fn deliver(&mut self) {
        self.send();
        while let Some((from, transmit)) = self.wire.pop_front() {
            let _ = self.give(from, &transmit);
            self.send();
        }
    }

    /// Loses all that is on the wire.
    pub(crate) fn lose(&mut self) {
        self.send();
        self.wire.clear();
    }

    /// Goes to the next moment at which an end has to do something, and lets it.
    pub(crate) fn step(&mut self) -> bool {
        let Some(next) = self.ends.iter().filter_map(Manager::poll_timeout).min() else { return false };
        self.now = self.now.max(next);
        for manager in &mut self.ends {
            manager.handle_timeout(self.now);
        }
        true
    }

    pub(crate) fn events(&mut self, end: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.ends[end].poll_event()).collect()
    }

    /// The only event at that end.
    #[track_caller]
    pub(crate) fn event(&mut self, end: usize) -> Event {
        let events = self.events(end);
        let [event] = events.as_slice() else { panic!("{events:?}") };
        event.clone()
    }

    #[track_caller]
    pub(crate) fn request(&mut self) -> (CommId, ConnectRequest) {
        match self.event(1) {
            Event::ConnectRequest { id, request } => (id, request),
            other => panic!("{other:?}"),
        }
    }

    /// Accepts at the second end.
    #[track_caller]
    pub(crate) fn accept(&mut self, id: CommId, number: u32) {
        let private = PrivateData::new(&number.to_be_bytes()).unwrap();
        self.ends[1].accept(self.now, id, queue_pair(number), Exponent::default(), private).unwrap();
    }

    /// Connects queue pair `number` with one of `number` + 0x1000, and returns both sides' ids.
    #[track_caller]
    pub(crate) fn connected(&mut self, number: u32) -> [CommId; 2] {
        let first = self.ends[0].connect(self.now, &connect(number)).unwrap();
        self.deliver();
        let (second, _) = self.request();
        self.accept(second, number + 0x1000);
        self.deliver();
        assert!(matches!(self.event(0), Event::ConnectResponse { .. }));
        self.ends[0].establish(first, PrivateData::default()).unwrap();
        self.deliver();
        assert!(matches!(self.event(1), Event::Established { .. }));
        [first, second]
    }

    #[track_caller]
    pub(crate) fn assert_states(&self, ids: [CommId; 2], states: [State; 2]) {
        let found = [0, 1].map(|end| self.ends[end].state(ids[end]));
        assert_eq!(found, states.map(Some));
    }

    /// Lets all time limits pass without anything arriving.
    pub(crate) fn let_everything_expire(&mut self) {
        while self.step() {
            self.lose();
        }
    }

    /// Runs to the end: everything arrives.
    pub(crate) fn run(&mut self) {
        self.deliver();
        while self.step() {
            self.deliver();
        }
    }

    /// Nothing is left at either end.
    #[track_caller]
    pub(crate) fn assert_idle(&mut self) {
        self.lose();
        for end in [0, 1] {
            self.events(end);
            assert!(self.ends[end].is_idle(), "{:?}", self.ends[end]);
        }
    }
}

/// Whether two queue pairs with these attributes are connected with each other.
pub(crate) fn agree(first: &QueuePairAttributes, second: &QueuePairAttributes, qpns: [Qpn; 2]) -> bool {
    first.dest_qp_num == qpns[1]
        && second.dest_qp_num == qpns[0]
        && first.rq_psn == second.sq_psn
        && second.rq_psn == first.sq_psn
        && first.path_mtu == second.path_mtu
        && first.transport == second.transport
        && first.path.local == second.path.remote
        && first.path.remote == second.path.local
        && first.max_rd_atomic <= second.max_dest_rd_atomic
        && second.max_rd_atomic <= first.max_dest_rd_atomic
}

/// A link of netem's for datagrams.
pub(crate) type Wire = Link<(Path, Vec<u8>)>;

pub(crate) fn wire(config: LinkConfig, seed: u64) -> Wire {
    Link::new(config, seed)
}
