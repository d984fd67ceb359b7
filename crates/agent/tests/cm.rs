//! Connection management by the agent, with processes' sides in this process: connections through real sockets, ports,
//! refusals, migration, and what a process leaves behind.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use rocev2_agent::cm::Client;
use rocev2_agent::cm::protocol::{CmEvent, Multicast, Params, Reply, Request};
use rocev2_agent::lease::is_there;
use rocev2_agent::serve;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const TCP: u16 = 0x0106;
const UDP: u16 = 0x0111;
const RC: u8 = 2;
const UD: u8 = 4;

/// `enum rdma_cm_event_type`.
const ADDR_RESOLVED: u32 = 0;
const ADDR_ERROR: u32 = 1;
const ROUTE_RESOLVED: u32 = 2;
const CONNECT_REQUEST: u32 = 4;
const CONNECT_RESPONSE: u32 = 5;
const UNREACHABLE: u32 = 7;
const REJECTED: u32 = 8;
const ESTABLISHED: u32 = 9;
const DISCONNECTED: u32 = 10;
const MULTICAST_JOIN: u32 = 12;

struct Agent {
    _directory: tempfile::TempDir,
    place: PathBuf,
}

/// An agent that is there as long as the test.
fn agent() -> Agent {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("agent");
    let own = place.clone();
    std::thread::spawn(move || serve(&own, Duration::MAX).unwrap());
    let deadline = Instant::now() + PATIENCE;
    while !is_there(&place) {
        assert!(Instant::now() < deadline, "no agent");
        std::thread::sleep(Duration::from_millis(5));
    }
    Agent { _directory: directory, place }
}

/// A process with one queue of events.
struct Process {
    client: Client,
    channel: u32,
    ready: OwnedFd,
}

impl Process {
    fn new(place: &Path, address: IpAddr) -> Self {
        let client = Client::connect(place, address, None).unwrap();
        let (channel, ready) = open(&client);
        Self { client, channel, ready }
    }

    fn call(&self, request: &Request) -> Result<Reply, Errno> {
        self.client.call(request).map(|(reply, _)| reply)
    }

    fn id(&self, port_space: u16, qp_type: u8) -> u32 {
        let made = self.call(&Request::CreateId { channel: self.channel, port_space, qp_type });
        let Ok(Reply::Number(id)) = made else { panic!("{made:?}") };
        id
    }

    /// The next event, which must be of that kind.
    #[track_caller]
    fn event(&self, kind: u32) -> CmEvent {
        assert!(readable(&self.ready, PATIENCE), "no event");
        let taken = self.call(&Request::GetEvent { channel: self.channel }).unwrap();
        let Reply::Event(event) = taken else { panic!("{taken:?}") };
        assert_eq!(event.kind, kind, "{event:?}");
        *event
    }

    fn listen(&self, port_space: u16, qp_type: u8, port: u16) -> u32 {
        let id = self.id(port_space, qp_type);
        let address = SocketAddr::from(([0, 0, 0, 0], port));
        self.call(&Request::Bind { id, address }).unwrap();
        self.call(&Request::Listen { id, backlog: 4 }).unwrap();
        id
    }

    fn resolve(&self, port_space: u16, qp_type: u8, destination: SocketAddr) -> u32 {
        let id = self.id(port_space, qp_type);
        self.call(&Request::ResolveAddress { id, source: None, destination }).unwrap();
        assert_eq!(self.event(ADDR_RESOLVED).id, id);
        self.call(&Request::ResolveRoute { id }).unwrap();
        assert_eq!(self.event(ROUTE_RESOLVED).id, id);
        id
    }
}

fn open(client: &Client) -> (u32, OwnedFd) {
    let (reply, ready) = client.call(&Request::OpenChannel).unwrap();
    let Reply::Number(channel) = reply else { panic!("{reply:?}") };
    (channel, ready.unwrap())
}

fn readable(descriptor: &OwnedFd, within: Duration) -> bool {
    let within = Timespec { tv_sec: within.as_secs().cast_signed(), tv_nsec: within.subsec_nanos().into() };
    poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&within)).unwrap() > 0
}

fn params(qpn: u32, private_data: &[u8]) -> Params {
    Params {
        qpn,
        responder_resources: 4,
        initiator_depth: 3,
        retry_count: 7,
        rnr_retry_count: 7,
        srq: false,
        private_data: private_data.into(),
    }
}

/// A connection: the side that asked, and the one that was asked.
fn connected(client: &Process, server: &Process, to: SocketAddr) -> [u32; 2] {
    let id = client.resolve(TCP, RC, to);
    client.call(&Request::Connect { id, params: params(0x1111, b"hello") }).unwrap();
    let asked = server.event(CONNECT_REQUEST);
    assert!(asked.listener.is_some());
    assert_eq!((asked.params.qpn, &asked.params.private_data[..6]), (0x1111, &b"hello\0"[..]));
    assert_eq!((asked.params.responder_resources, asked.params.initiator_depth), (3, 4));
    let Ok(Reply::Attributes(peer)) = server.call(&Request::Attributes { id: asked.id }) else { panic!() };
    assert_eq!((peer.dest_qp_num, peer.max_dest_rd_atomic, peer.max_rd_atomic), (0x1111, 3, 4));
    server.call(&Request::Accept { id: asked.id, params: params(0x2222, b"welcome") }).unwrap();
    let answered = client.event(CONNECT_RESPONSE);
    assert_eq!((answered.id, &answered.params.private_data[..8]), (id, &b"welcome\0"[..]));
    let Ok(Reply::Attributes(own)) = client.call(&Request::Attributes { id }) else { panic!() };
    assert_eq!((own.dest_qp_num, own.rq_psn, own.sq_psn), (0x2222, peer.sq_psn, peer.rq_psn));
    client.call(&Request::Establish { id }).unwrap();
    assert_eq!(server.event(ESTABLISHED).id, asked.id);
    [id, asked.id]
}

#[test]
fn two_processes_at_one_address_connect_and_part() {
    let (agent, address) = (agent(), IpAddr::from([127, 83, 88, 1]));
    let [client, server] = [(); 2].map(|()| Process::new(&agent.place, address));
    server.listen(TCP, RC, 7174);
    let [here, there] = connected(&client, &server, (address, 7174).into());
    client.call(&Request::Disconnect { id: here }).unwrap();
    assert_eq!(server.event(DISCONNECTED).id, there);
    server.call(&Request::Disconnect { id: there }).unwrap();
    assert_eq!(client.event(DISCONNECTED).id, here);
    client.call(&Request::DestroyId { id: here }).unwrap();
    assert_eq!(client.call(&Request::DestroyId { id: here }), Err(Errno::NOENT));
}

#[test]
fn processes_at_two_addresses_connect() {
    let (agent, [here, there]) = (agent(), [5, 6].map(|last| IpAddr::from([127, 83, 88, last])));
    let [client, server] = [here, there].map(|address| Process::new(&agent.place, address));
    server.listen(TCP, RC, 7174);
    connected(&client, &server, (there, 7174).into());
}

#[test]
fn where_nobody_listens_and_where_the_program_refuses_the_reason_is_told() {
    let (agent, address) = (agent(), IpAddr::from([127, 83, 88, 2]));
    let [client, server] = [(); 2].map(|()| Process::new(&agent.place, address));
    let id = client.resolve(TCP, RC, (address, 7174).into());
    client.call(&Request::Connect { id, params: params(0x1111, b"") }).unwrap();
    assert_eq!(client.event(REJECTED).status, 8, "invalid service ID");
    server.listen(TCP, RC, 7174);
    let id = client.resolve(TCP, RC, (address, 7174).into());
    client.call(&Request::Connect { id, params: params(0x1111, b"") }).unwrap();
    let asked = server.event(CONNECT_REQUEST);
    server.call(&Request::Reject { id: asked.id, private_data: b"no".into() }).unwrap();
    let refused = client.event(REJECTED);
    assert_eq!((refused.status, &refused.params.private_data[..3]), (28, &b"no\0"[..]), "by the consumer");
}

#[test]
fn a_program_that_listens_right_after_it_was_asked_gets_the_request() {
    let (agent, address) = (agent(), IpAddr::from([127, 83, 88, 7]));
    let client = Process::new(&agent.place, address);
    // Who has no turn for long may listen too late; not each time.
    let connects = (0..50).any(|_| {
        let server = Process::new(&agent.place, address);
        let id = client.resolve(TCP, RC, (address, 7174).into());
        client.call(&Request::Connect { id, params: params(0x1111, b"") }).unwrap();
        // Long enough for the first refusal to be here.
        let told = readable(&client.ready, Duration::from_millis(20));
        server.listen(TCP, RC, 7174);
        if told || !readable(&server.ready, Duration::from_secs(1)) {
            assert_eq!(client.event(REJECTED).id, id);
            return false;
        }
        server.event(CONNECT_REQUEST);
        true
    });
    assert!(connects, "nobody who listened 20 ms late was asked again");
}

#[test]
fn the_peer_of_a_process_that_ends_is_told() {
    let (agent, address) = (agent(), IpAddr::from([127, 83, 88, 3]));
    let [client, server] = [(); 2].map(|()| Process::new(&agent.place, address));
    server.listen(TCP, RC, 7174);
    let [here, _] = connected(&client, &server, (address, 7174).into());
    drop(server);
    assert_eq!(client.event(DISCONNECTED).id, here);
    // Its port is free, and a request that nobody has taken is refused when who listens ends.
    let server = Process::new(&agent.place, address);
    server.listen(TCP, RC, 7174);
    let id = client.resolve(TCP, RC, (address, 7174).into());
    client.call(&Request::Connect { id, params: params(0x3333, b"") }).unwrap();
    assert!(readable(&server.ready, PATIENCE));
    drop(server);
    assert_eq!(client.event(REJECTED).id, id);
}

#[test]
fn datagrams_are_asked_for_and_answered() {
    let (agent, address) = (agent(), IpAddr::from([127, 83, 88, 4]));
    let [client, server] = [(); 2].map(|()| Process::new(&agent.place, address));
    server.listen(UDP, UD, 7174);
    let id = client.resolve(UDP, UD, (address, 7174).into());
    client.call(&Request::Connect { id, params: params(0x1111, b"who") }).unwrap();
    let asked = server.event(CONNECT_REQUEST);
    assert_eq!(&asked.params.private_data[..4], b"who\0");
    server.call(&Request::Accept { id: asked.id, params: params(0x2222, b"me") }).unwrap();
    let answered = client.event(ESTABLISHED);
    assert_eq!((answered.params.qpn, answered.qkey), (0x2222, 0x0123_4567));
    // Nobody listens at the other port.
    let id = client.resolve(UDP, UD, (address, 7175).into());
    client.call(&Request::Connect { id, params: params(0x1111, b"") }).unwrap();
    assert_eq!(client.event(UNREACHABLE).status, 1, "unsupported");
}

#[test]
fn ports_addresses_and_states_are_checked() {
    let (agent, address) = (agent(), IpAddr::from([127, 83, 88, 7]));
    let [one, other] = [(); 2].map(|()| Process::new(&agent.place, address));
    let listener = one.listen(TCP, RC, 7174);
    let id = other.id(TCP, RC);
    let bind = |id, address: &str| other.call(&Request::Bind { id, address: address.parse().unwrap() });
    assert_eq!(bind(id, "0.0.0.0:7174"), Err(Errno::ADDRINUSE));
    assert_eq!(bind(id, "192.0.2.1:7174"), Err(Errno::ADDRNOTAVAIL));
    assert_eq!(bind(listener, "0.0.0.0:0"), Err(Errno::NOENT), "another process's");
    assert_eq!(other.call(&Request::ResolveRoute { id }), Err(Errno::INVAL));
    assert_eq!(other.call(&Request::Connect { id, params: params(7, b"") }), Err(Errno::INVAL));
    assert_eq!(other.call(&Request::Accept { id, params: params(7, b"") }), Err(Errno::INVAL));
    let Ok(Reply::Addresses(bound)) = bind(id, "0.0.0.0:0") else { panic!() };
    assert!(bound.source.unwrap().port() >= 32_768 && !bound.device);
    // Another family: there is no way.
    other
        .call(&Request::ResolveAddress { id, source: None, destination: "[2001:db8::1]:1".parse().unwrap() })
        .unwrap();
    assert_eq!(other.event(ADDR_ERROR).status, -Errno::NETUNREACH.raw_os_error());
    let id = other.resolve(TCP, RC, (address, 7174).into());
    let long = Request::Connect { id, params: params(7, &[0; 57]) };
    assert_eq!(other.call(&long), Err(Errno::INVAL), "there is room for 56 bytes");
    one.call(&Request::DestroyId { id: listener }).unwrap();
    other.listen(TCP, RC, 7174);
}

#[test]
fn events_that_wait_go_with_their_id() {
    let (agent, address) = (agent(), IpAddr::from([127, 83, 88, 8]));
    let process = Process::new(&agent.place, address);
    let id = process.id(TCP, RC);
    process.call(&Request::ResolveAddress { id, source: None, destination: (address, 7174).into() }).unwrap();
    let (channel, ready) = open(&process.client);
    process.call(&Request::Migrate { id, channel }).unwrap();
    assert!(!readable(&process.ready, Duration::ZERO) && readable(&ready, Duration::ZERO));
    assert_eq!(process.call(&Request::GetEvent { channel: process.channel }), Ok(Reply::NoEvent));
    let taken = process.call(&Request::GetEvent { channel }).unwrap();
    assert!(matches!(&taken, Reply::Event(event) if event.kind == ADDR_RESOLVED), "{taken:?}");
    process.call(&Request::ResolveRoute { id }).unwrap();
    process.call(&Request::DestroyId { id }).unwrap();
    assert!(!readable(&ready, Duration::ZERO), "events of an id that is gone are forgotten");
}

#[test]
fn a_thousand_connections_at_once_are_no_flood() {
    const COUNT: u32 = 1000;
    let (agent, address) = (agent(), IpAddr::from([127, 83, 88, 9]));
    let [client, server] = [(); 2].map(|()| Process::new(&agent.place, address));
    let listener = server.id(TCP, RC);
    server.call(&Request::Bind { id: listener, address: ([0, 0, 0, 0], 7174).into() }).unwrap();
    server.call(&Request::Listen { id: listener, backlog: 0 }).unwrap();
    let ids: Vec<u32> = (0..COUNT).map(|_| client.resolve(TCP, RC, (address, 7174).into())).collect();
    for (number, &id) in ids.iter().enumerate() {
        let qpn = 0x1_0000 + u32::try_from(number).unwrap();
        client.call(&Request::Connect { id, params: params(qpn, b"") }).unwrap();
    }
    for number in 0..COUNT {
        let asked = server.event(CONNECT_REQUEST);
        server.call(&Request::Accept { id: asked.id, params: params(0x2_0000 + number, b"") }).unwrap();
    }
    for _ in 0..COUNT {
        let answered = client.event(CONNECT_RESPONSE);
        client.call(&Request::Establish { id: answered.id }).unwrap();
    }
    (0..COUNT).for_each(|_| {
        server.event(ESTABLISHED);
    });
    // All of them end with their process.
    drop(client);
    (0..COUNT).for_each(|_| {
        server.event(DISCONNECTED);
    });
}

#[test]
fn groups_are_told_once_and_not_after_they_were_left() {
    let (agent, address) = (agent(), IpAddr::from([127, 83, 88, 10]));
    let process = Process::new(&agent.place, address);
    let group = SocketAddr::from(([239, 1, 2, 3], 0));
    let id = process.id(UDP, UD);
    let join = |cookie| process.call(&Request::JoinMulticast { id, group, cookie });
    let leave = |cookie| process.call(&Request::LeaveMulticast { id, cookie });
    assert_eq!(join(1), Err(Errno::INVAL), "it belongs to no device yet");
    process.call(&Request::Bind { id, address: (address, 0).into() }).unwrap();
    join(1).unwrap();
    let joined = process.event(MULTICAST_JOIN);
    assert_eq!((joined.id, joined.status, joined.params.qpn, joined.qkey), (id, 0, 0xff_ffff, 0x0123_4567));
    let mgid = std::net::Ipv4Addr::from([239, 1, 2, 3]).to_ipv6_mapped().octets();
    assert_eq!(joined.multicast, Some(Multicast { cookie: 1, mgid, traffic_class: 0 }));
    assert_eq!(join(1), Err(Errno::INVAL), "names of groups differ");
    join(2).unwrap();
    join(3).unwrap();
    leave(2).unwrap();
    leave(1).unwrap();
    assert_eq!(leave(1), Err(Errno::ADDRNOTAVAIL));
    assert_eq!(process.event(MULTICAST_JOIN).multicast.unwrap().cookie, 3);
    assert!(!readable(&process.ready, Duration::ZERO), "what was left isn't told");
    let refused = (4..2000).map(join).find_map(Result::err);
    assert_eq!(refused, Some(Errno::NOMEM), "groups are limited");
}
