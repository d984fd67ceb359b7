//! Connection management of sealed programs: an agent's queue pair 1 takes and sends nothing in clear.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use rocev2::{Mtu, Psn, Qpn};
use rocev2_agent::cm::protocol::{CmEvent, Params, Reply, Request};
use rocev2_agent::cm::{Client, Node};
use rocev2_agent::lease::is_there;
use rocev2_agent::{LeaseError, serve_with};
use rocev2_cm::ip::{IpAddressing, PortSpace, Service};
use rocev2_cm::manager::{Connect, LocalQueuePair, Patience, Route, Transport};
use rocev2_cm::wire::PrivateData;
use rocev2_cm::{Config, Gid, Path};
use rocev2_device::{Config as DeviceConfig, Device};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use secure_rdma::certs::{Name, Store};
use secure_rdma_keys::{Keys, Settings};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const SERVICE: Service = Service { space: PortSpace::Tcp, port: 7174 };
const RC: u8 = 2;
const UD: u8 = 4;

/// `enum rdma_cm_event_type`.
const ADDR_RESOLVED: u32 = 0;
const ROUTE_RESOLVED: u32 = 2;
const CONNECT_REQUEST: u32 = 4;
const UNREACHABLE: u32 = 7;

/// A host's agent, and its certificates.
struct Host {
    files: TempDir,
    address: IpAddr,
}

impl Host {
    fn new(address: [u8; 4]) -> Self {
        let host = Self { files: TempDir::new().unwrap(), address: Ipv4Addr::from(address).into() };
        Store::open(host.state()).unwrap().ensure_agent(&[Name::from(host.address)]).unwrap();
        let own = host.place();
        // It is there as long as the test.
        std::thread::spawn(move || serve_with(&own, Duration::MAX, Box::new(Keys::new())).unwrap());
        let deadline = Instant::now() + PATIENCE;
        while !is_there(&host.place()) {
            assert!(Instant::now() < deadline, "no agent");
            std::thread::sleep(Duration::from_millis(5));
        }
        host
    }

    fn state(&self) -> PathBuf {
        self.files.path().join("state")
    }

    fn place(&self) -> PathBuf {
        self.files.path().join("agent")
    }

    fn settings(&self) -> String {
        Settings::new(self.state()).to_text().unwrap()
    }

    /// A process whose connections are sealed.
    fn process(&self) -> Process {
        let client = Client::connect(&self.place(), self.address, Some(self.settings())).unwrap();
        let (reply, ready) = client.call(&Request::OpenChannel).unwrap();
        let Reply::Number(channel) = reply else { panic!("{reply:?}") };
        Process { client, channel, ready: ready.unwrap() }
    }
}

struct Process {
    client: Client,
    channel: u32,
    ready: OwnedFd,
}

impl Process {
    fn call(&self, request: &Request) -> Reply {
        self.client.call(request).unwrap().0
    }

    fn id(&self, space: PortSpace, qp_type: u8) -> u32 {
        let port_space = if space == PortSpace::Tcp { 0x0106 } else { 0x0111 };
        let made = self.call(&Request::CreateId { channel: self.channel, port_space, qp_type });
        let Reply::Number(id) = made else { panic!("{made:?}") };
        id
    }

    fn listen(&self) {
        let id = self.id(PortSpace::Tcp, RC);
        self.call(&Request::Bind { id, address: (Ipv4Addr::UNSPECIFIED, SERVICE.port).into() });
        self.call(&Request::Listen { id, backlog: 4 });
    }

    /// The next event, if one comes.
    fn event(&self, within: Duration) -> Option<CmEvent> {
        let within =
            Timespec { tv_sec: within.as_secs().cast_signed(), tv_nsec: within.subsec_nanos().into() };
        poll(&mut [PollFd::new(&self.ready, PollFlags::IN)], Some(&within)).unwrap();
        match self.call(&Request::GetEvent { channel: self.channel }) {
            Reply::Event(event) => Some(*event),
            _ => None,
        }
    }

    #[track_caller]
    fn told(&self, kind: u32) -> CmEvent {
        let event = self.event(PATIENCE).expect("an event");
        assert_eq!(event.kind, kind, "{event:?}");
        event
    }

    /// Asks a peer for a connection, or for a queue pair of datagrams.
    fn connect(&self, space: PortSpace, qp_type: u8, to: IpAddr) -> u32 {
        let id = self.id(space, qp_type);
        let destination = SocketAddr::new(to, SERVICE.port);
        self.call(&Request::ResolveAddress { id, source: None, destination });
        self.told(ADDR_RESOLVED);
        self.call(&Request::ResolveRoute { id });
        self.told(ROUTE_RESOLVED);
        self.call(&Request::Connect { id, params: Params { qpn: 0x0b_0b0b, ..Params::default() } });
        id
    }
}

#[test]
fn a_request_in_clear_is_neither_taken_nor_answered() {
    let host = Host::new([127, 83, 92, 1]);
    let server = host.process();
    server.listen();
    // Somebody in clear asks first. On loopback what was sent has come.
    let address = IpAddr::from([127, 83, 92, 2]);
    let device =
        Device::open(DeviceConfig { address: Some(address), port: Some(4791), ..DeviceConfig::default() })
            .unwrap();
    let device = Arc::new(device);
    device.bind_gid(0).unwrap();
    let mut stranger = Node::new(Arc::clone(&device), Config::default(), None).unwrap();
    let addressing = IpAddressing { source: (address, 40_000).into(), destination: host.address };
    let queue_pair = LocalQueuePair {
        qpn: Qpn::truncate(0x0a_0a0a),
        starting_psn: Psn::truncate(1),
        responder_resources: 1,
        initiator_depth: 1,
        rnr_retry_count: 7,
        srq: false,
    };
    let connect = Connect {
        path: Path { local: Gid::from(address), remote: Gid::from(host.address) },
        service_id: SERVICE.id(),
        transport: Transport::Rc,
        queue_pair,
        route: Route::new(Mtu::B1024),
        patience: Patience::default(),
        private_data: PrivateData::new(&addressing.encode().unwrap()).unwrap(),
    };
    let now = stranger.now();
    stranger.manager.connect(now, &connect).unwrap();
    stranger.turn();
    let client = host.process();
    client.connect(PortSpace::Tcp, RC, host.address);
    let asked = server.told(CONNECT_REQUEST);
    assert_eq!(asked.addresses.destination.map(|from| from.ip()), Some(host.address), "the sealed one");
    assert_eq!(server.event(Duration::ZERO), None, "there is no other");
    stranger.turn();
    assert_eq!(stranger.event(), None);
    let counter = |name: &str| device.counters().into_iter().find(|row| row.0 == name).unwrap().1;
    assert_eq!(counter("datagrams_received"), 0, "{:?}", device.counters());
}

#[test]
fn a_request_to_a_peer_without_keys_ends_with_the_reason() {
    let (host, stranger) = (Host::new([127, 83, 92, 3]), Host::new([127, 83, 92, 4]));
    let (process, listener) = (host.process(), stranger.process());
    listener.listen();
    for (space, qp_type) in [(PortSpace::Tcp, RC), (PortSpace::Udp, UD)] {
        let id = process.connect(space, qp_type, stranger.address);
        let told = process.told(UNREACHABLE);
        assert_eq!((told.id, told.status), (id, -Errno::ACCESS.raw_os_error()), "{told:?}");
        assert!(told.reason.as_ref().unwrap().contains("not by a CA that is trusted here"), "{told:?}");
        // There is nothing to end.
        process.call(&Request::DestroyId { id });
    }
    assert_eq!(listener.event(Duration::ZERO), None);
}

#[test]
fn who_manages_connections_at_an_address_decides_how() {
    let host = Host::new([127, 83, 92, 5]);
    let other = Settings { port: 4499, ..Settings::new(host.state()) }.to_text().unwrap();
    let ours = host.process();
    for (settings, word) in [(None, "manages connections sealed"), (Some(other.clone()), "other options")] {
        let refused = Client::connect(&host.place(), host.address, settings).unwrap_err();
        assert!(matches!(&refused, LeaseError::Refused(why) if why.contains(word)), "{refused}");
    }
    // What can't be read is no reason to go on in clear.
    let refused = Client::connect(&host.place(), [127, 83, 92, 6].into(), Some("?".into())).unwrap_err();
    assert!(matches!(&refused, LeaseError::Refused(why) if why.contains("settings")), "{refused}");
    drop(ours);
    Client::connect(&host.place(), host.address, Some(other)).unwrap();
}
