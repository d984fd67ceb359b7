//! A client that ignores what it is told: it posts whatever it likes to a queue pair of its own.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use crate::club::Club;
use crate::world::{World, device};
use rdma_verbs::{
    Access, CompletionQueue, Gid, GidEntry, MemoryRegion, OwnPsn, Peer, PeerPsn, PeerRights, Qpn, QueuePair,
    QueuePairLimits, ReadyToSend, ReceiveOptions, RemoteRegion, SendOptions, SendRequest, Slice, Status,
};
use secure_rdma::certs::Identity;
use secure_rdma::control::{
    ControlChannel, Counters, Endpoint, ErrorKind, Hello, Lid, Record, Redacted, Region, Role, SealPolicy,
    Text, VERSION,
};
use secure_rdma::tls::{ClientTls, Trust};
use secure_rdma::{Arrival, Report, SessionError};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

const PATIENCE: Duration = Duration::from_secs(30);

/// A connection whose TLS handshake is done, and nothing else.
pub(crate) struct Secured {
    address: IpAddr,
    control: ControlChannel<TlsStream<TcpStream>>,
}

/// The same after the whole bootstrap.
pub(crate) struct Hostile {
    qp: QueuePair<ReadyToSend>,
    queue: Arc<CompletionQueue>,
    memory: MemoryRegion,
    /// What the server has told it.
    pub(crate) region: Region,
    control: ControlChannel<TlsStream<TcpStream>>,
}

impl Secured {
    pub(crate) async fn connect(world: &World, identity: Identity) -> Self {
        let tls = ClientTls::new(Trust::State(world.dir.clone()), Some(identity)).unwrap();
        let stream = TcpStream::connect(world.server.local_addr()).await.unwrap();
        let address = stream.local_addr().unwrap().ip();
        let secured = tls.connect(stream, &"localhost".parse().unwrap(), PATIENCE).await.unwrap();
        Self { address, control: ControlChannel::new(secured.stream) }
    }

    /// What the server says why it comes to nothing.
    pub(crate) async fn told(&mut self) -> (Option<ErrorKind>, String) {
        told(&mut self.control).await
    }

    async fn next(&mut self) -> Record {
        self.control.recv_within(PATIENCE).await.unwrap()
    }

    async fn say(&mut self, record: Record) {
        self.control.send_within(&record, PATIENCE).await.unwrap();
    }

    /// Describes a queue pair that isn't there, `change`d, and returns what the server says to that.
    async fn name_endpoint(mut self, change: impl FnOnce(&mut Endpoint)) -> (Option<ErrorKind>, String) {
        self.say(hello()).await;
        let gid = device().gid_for(self.address).unwrap();
        let mut endpoint = endpoint(&gid, Qpn::new(0x123456).unwrap(), OwnPsn::random().unwrap());
        change(&mut endpoint);
        self.say(Record::Endpoint(endpoint)).await;
        self.told().await
    }

    /// Goes on to an open session.
    pub(crate) async fn open(self) -> Hostile {
        let mut opened = self.open_but_for_the_last_word().await;
        opened.control.send_within(&Record::Ready, PATIENCE).await.unwrap();
        opened
    }

    /// Goes on until both queue pairs can be used, and the server waits for the client to say that it is ready.
    pub(crate) async fn open_but_for_the_last_word(mut self) -> Hostile {
        let device = device();
        let gid = device.gid_for(self.address).unwrap();
        let domain = device.protection_domain().unwrap();
        let queue = device.completion_queue(64, None).unwrap();
        let limits =
            QueuePairLimits { max_send_requests: 8, max_recv_requests: 8, max_sge: 1, max_inline: 0 };
        let memory = domain.register(4096, Access::LOCAL_WRITE).unwrap();
        let qp = domain.queue_pair(&queue, &queue, limits).unwrap().init(PeerRights::default()).unwrap();
        let psn = OwnPsn::random().unwrap();
        self.say(hello()).await;
        let Record::Hello(_) = self.next().await else { panic!("no hello") };
        self.say(Record::Endpoint(endpoint(&gid, qp.qpn(), psn))).await;
        let Record::Endpoint(server) = self.next().await else { panic!("no endpoint") };
        let Record::Region(region) = self.next().await else { panic!("no region") };
        let Record::Ready = self.next().await else { panic!("not ready") };
        let peer = Peer {
            qpn: server.qpn,
            psn: PeerPsn::new(server.psn.expose()),
            gid: Gid::from(server.gid),
            udp_port: Some(server.udp_port.get()),
            lid: None,
        };
        let receive = ReceiveOptions {
            gid_index: gid.index,
            path_mtu: server.mtu.min(gid.mtu),
            max_dest_rd_atomic: 1,
            min_rnr_timer: 4,
        };
        // Soft-RoCE would go on for ever with 7 retries.
        let send = SendOptions { timeout: 14, retry_count: 6, rnr_retry: 7, max_rd_atomic: 1 };
        let qp = qp.ready_to_receive(&peer, &receive).unwrap().ready_to_send(psn, &send).unwrap();
        Hostile { qp, queue, memory, region, control: self.control }
    }
}

/// A client's greeting, which wants the data path in clear.
fn hello() -> Record {
    Record::Hello(Hello {
        version: VERSION,
        role: Role::Client,
        seal: SealPolicy::Off,
        max_message: 1 << 20,
        heartbeat_ms: 5000,
        software: Text::lossy("hostile"),
        packets: None,
    })
}

/// A queue pair as it is described to the server.
fn endpoint(gid: &GidEntry, qpn: Qpn, psn: OwnPsn) -> Endpoint {
    Endpoint {
        qpn,
        psn: Redacted::new(psn.get()),
        gid: match gid.address {
            Some(IpAddr::V4(v4)) => v4.to_ipv6_mapped().octets(),
            Some(IpAddr::V6(v6)) => v6.octets(),
            None => gid.gid.to_bytes(),
        },
        udp_port: NonZeroU16::new(gid.udp_port.unwrap_or(rdma_verbs::UDP_PORT)).unwrap(),
        mtu: gid.mtu,
        max_rd_atomic: 1,
        recv_depth: 1,
        recv_size: 4096,
        min_rnr_timer: 4,
        ack_timeout: 14,
        retry_count: 7,
        rnr_retry: 7,
        lid: None,
        spi: None,
        esp_port: None,
        joins: None,
    }
}

/// The next error that comes.
async fn told(control: &mut ControlChannel<TlsStream<TcpStream>>) -> (Option<ErrorKind>, String) {
    tokio::time::timeout(PATIENCE, async {
        loop {
            if let Record::Error { code, text } = control.recv_within(PATIENCE).await.unwrap() {
                break (code.kind(), text.to_string());
            }
        }
    })
    .await
    .unwrap()
}

impl Hostile {
    /// A client that knows the rules and doesn't keep to them.
    pub(crate) async fn connect(world: &World, identity: Identity) -> Self {
        Secured::connect(world, identity).await.open().await
    }

    /// A request to the region that was given to it.
    pub(crate) fn ranged(
        &self,
        offset: u64,
        len: u32,
        request: impl FnOnce(Slice, rdma_verbs::RemoteRange) -> SendRequest,
    ) -> SendRequest {
        // Whoever has no use for it has a region of one byte: it is the server that has to say so.
        let Region { addr, len: size, .. } = self.region;
        let remote = RemoteRegion { addr, rkey: self.region.rkey.expose(), len: size.max(4096) };
        request(self.memory.slice(0, len).unwrap(), remote.range(offset, len.into()).unwrap())
    }

    /// A request to the first of its counters, as it `change`s them.
    pub(crate) fn counted(
        &self,
        change: impl FnOnce(RemoteRegion) -> RemoteRegion,
        request: impl FnOnce(Slice, rdma_verbs::RemoteRange) -> SendRequest,
    ) -> SendRequest {
        let Counters { addr, rkey, len } = self.region.counters.unwrap();
        let counters = change(RemoteRegion { addr, rkey: rkey.expose(), len });
        request(self.memory.slice(0, 8).unwrap(), counters.range(0, 8).unwrap())
    }

    /// A message, as the library sends one in clear.
    pub(crate) fn message(&self, text: &[u8]) -> SendRequest {
        let mut slice = self.memory.slice(0, 4096).unwrap();
        slice.fill(text).unwrap();
        SendRequest::send([slice]).immediate(1)
    }

    /// What the server says why it is over.
    pub(crate) async fn told(&mut self) -> (Option<ErrorKind>, String) {
        told(&mut self.control).await
    }

    /// Posts it, and what comes of it.
    pub(crate) async fn post(&mut self, request: SendRequest) -> Status {
        self.qp.post_send(request).unwrap();
        let mut done = Vec::new();
        tokio::time::timeout(PATIENCE, async {
            while self.queue.poll(&mut done, 1).unwrap() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
        done.pop().unwrap().status
    }
}

/// An RDMA WRITE with immediate takes a receive buffer and puts nothing into it: what is in there is an earlier
/// message, which must not be delivered again.
#[tokio::test]
async fn a_write_with_immediate_is_refused_as_that_and_no_old_message_is_delivered_for_it() {
    let club = Club::new();
    club.allow(&[("one", "send write read", "")]);
    let mut world = club.world().await;
    type Breach = fn(&Hostile) -> SendRequest;
    let write: Breach =
        |client| client.ranged(0, 9, |slice, range| SendRequest::write([slice], range)).immediate(1);
    let write_nothing: Breach =
        |client| client.ranged(0, 0, |slice, range| SendRequest::write([slice], range)).immediate(1);
    let unknown: Breach = |client| client.message(b"fragment").immediate(2);
    for (breach, what) in [
        (write, "an RDMA WRITE with immediate"),
        (write_nothing, "an RDMA WRITE with immediate"),
        (unknown, "a message with an immediate that means nothing"),
    ] {
        let mut client = Hostile::connect(&world, club.identity("one")).await;
        let mut server = world.arrival().await;
        // Each receive buffer holds a message.
        for _ in 0..32 {
            assert_eq!(client.post(client.message(b"SECRET-01")).await, Status::Success);
            assert_eq!(server.recv().await.unwrap().unwrap(), b"SECRET-01");
        }
        assert_eq!(client.post(breach(&client)).await, Status::Success, "it has arrived there");
        for _ in 0..2 {
            let error = tokio::time::timeout(PATIENCE, server.recv()).await.unwrap().unwrap_err();
            assert!(matches!(error, SessionError::Protocol { what: found } if found == what), "{error}");
        }
        let told = client.told().await;
        assert_eq!(told.0, Some(ErrorKind::Unexpected));
        assert!(told.1.contains(what), "{}", told.1);
    }
}

#[tokio::test]
async fn a_client_cannot_have_packets_sent_where_it_likes() {
    type Change = fn(&mut Endpoint);
    let lid: Change = |endpoint| endpoint.lid = Lid::new(5);
    let lid_and_host: Change = |endpoint| {
        endpoint.lid = Lid::new(5);
        endpoint.gid = std::net::Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets();
    };
    let host: Change =
        |endpoint| endpoint.gid = std::net::Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets();
    let port: Change = |endpoint| endpoint.udp_port = NonZeroU16::new(53).unwrap();
    let club = Club::new();
    club.allow(&[("one", "send", "")]);
    let world = club.world().await;
    for (change, words) in [
        (lid, "InfiniBand LID"),
        (lid_and_host, "InfiniBand LID"),
        (host, "names 192.0.2.7 as its RDMA address"),
        (port, "a UDP port below 1024"),
    ] {
        let client = Secured::connect(&world, club.identity("one")).await;
        let ((kind, text), arrival) = tokio::join!(client.name_endpoint(change), world.server.next());
        assert_eq!(kind, Some(ErrorKind::Path));
        assert!(text.contains(words), "{text}");
        let Arrival::Refused { error, .. } = arrival else { panic!("let in") };
        assert_eq!(Report::new(&error).to_string(), text);
    }
}
