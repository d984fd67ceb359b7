//! Sessions that join the security association of others, as those with a host whose kernel seals packets: played by
//! hand, without a kernel.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use crate::world::{World, is_embedded};
use rdma_verbs::Qpn;
use rdma_verbs::esp::Spi;
use rocev2::{Mtu, Psn};
use secure_rdma::control::{
    ControlChannel, Endpoint, ErrorKind, Hello, Joins, PacketPolicy, Record, Redacted, Role, SealPolicy,
    Text, VERSION,
};
use secure_rdma::seal::{self, JoinSecret, PacketContext, PacketEnd, PacketKeys, PacketRegion};
use secure_rdma::tls::{ClientTls, Trust};
use secure_rdma::{Arrival, SealedBy, Session, SessionError, SessionOptions};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

const PATIENCE: Duration = Duration::from_secs(60);

/// By which the kernel that there isn't takes its first packets, and the UDP port where it opens them.
const SPI: u32 = 0xc1c2_c3c4;
const PORT: u16 = 40_500;

/// A client whose kernel would seal, and what the server has told it.
struct ByHand {
    control: ControlChannel<TlsStream<TcpStream>>,
    keys: PacketKeys,
    server: Endpoint,
    /// What the server has shown.
    shown: Option<[u8; 32]>,
}

async fn secured(world: &World) -> ControlChannel<TlsStream<TcpStream>> {
    let tls = ClientTls::new(Trust::State(world.dir.clone()), None).unwrap();
    let stream = TcpStream::connect(world.server.local_addr()).await.unwrap();
    ControlChannel::new(tls.connect(stream, &"localhost".parse().unwrap(), PATIENCE).await.unwrap().stream)
}

fn endpoint(qpn: u32) -> Endpoint {
    Endpoint {
        qpn: Qpn::new(qpn).unwrap(),
        psn: Redacted::new(Psn::truncate(0x5678)),
        gid: Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
        udp_port: NonZeroU16::new(4791).unwrap(),
        mtu: Mtu::from_bytes(1024).unwrap(),
        max_rd_atomic: 1,
        recv_depth: 1,
        recv_size: 4096,
        min_rnr_timer: 1,
        ack_timeout: 14,
        retry_count: 7,
        rnr_retry: 7,
        lid: None,
        spi: Spi::new(SPI),
        esp_port: NonZeroU16::new(PORT),
        joins: None,
    }
}

/// Says what a client says first.
async fn greet(control: &mut ControlChannel<TlsStream<TcpStream>>, own: &Endpoint) {
    let hello = Hello {
        version: VERSION,
        role: Role::Client,
        seal: SealPolicy::Required,
        max_message: 1 << 20,
        heartbeat_ms: 60_000,
        software: Text::lossy("by hand"),
        packets: Some(PacketPolicy::Required),
    };
    for record in [Record::Hello(hello), Record::Endpoint(own.clone())] {
        control.send_within(&record, PATIENCE).await.unwrap();
    }
}

fn end(policy: SealPolicy, packets: PacketPolicy, endpoint: &Endpoint) -> PacketEnd {
    let Endpoint { qpn, gid, udp_port, esp_port, .. } = *endpoint;
    let udp_port = esp_port.unwrap_or(udp_port).get();
    let endpoint_there = seal::Endpoint { qpn, psn: endpoint.psn.expose(), gid, udp_port, lid: 0 };
    PacketEnd { policy, packets, endpoint: endpoint_there, spi: endpoint.spi.unwrap() }
}

impl ByHand {
    /// Goes on until the server waits for the client's last words.
    async fn begin(world: &World, own: Endpoint) -> Self {
        let mut control = secured(world).await;
        greet(&mut control, &own).await;
        let (mut hello, mut server, mut region, mut shown) = (None, None, None, None);
        loop {
            match control.recv_within(PATIENCE).await.unwrap() {
                Record::Hello(record) => hello = Some(record),
                Record::Endpoint(record) => server = Some(record),
                Record::Region(record) => region = Some(record),
                Record::Joined { proof } => shown = Some(proof),
                Record::Ready => break,
                other => panic!("{other:?}"),
            }
        }
        let (hello, server, region) = (hello.unwrap(), server.unwrap(), region.unwrap());
        let context = PacketContext {
            version: VERSION,
            client: end(SealPolicy::Required, PacketPolicy::Required, &own),
            server: end(hello.seal, hello.packets.unwrap(), &server),
            region: Some(PacketRegion {
                addr: region.addr,
                rkey: region.rkey.expose(),
                len: region.len,
                data_len: region.data_len,
                counters: region.counters,
                access: region.access,
            }),
            client_certificate: None,
        };
        let keys = PacketKeys::new(control.get_ref(), &context, Role::Client).unwrap();
        Self { control, keys, server, shown }
    }

    async fn say(&mut self, record: Record) {
        self.control.send_within(&record, PATIENCE).await.unwrap();
    }

    /// The error that the server ends it with.
    async fn told(mut self) -> Option<ErrorKind> {
        told(&mut self.control).await
    }

    /// Whether the server still answers.
    async fn is_open(&mut self, n: u64) -> bool {
        self.say(Record::Ping { n }).await;
        loop {
            match self.control.recv_within(PATIENCE).await {
                Ok(Record::Pong { n: answered }) if answered == n => return true,
                Ok(Record::Error { .. }) | Err(_) => return false,
                Ok(_) => {}
            }
        }
    }
}

async fn told(control: &mut ControlChannel<TlsStream<TcpStream>>) -> Option<ErrorKind> {
    loop {
        if let Record::Error { code, .. } = control.recv_within(PATIENCE).await.unwrap() {
            return code.kind();
        }
    }
}

/// The same, or nothing where the server goes on.
async fn told_or_ready(control: &mut ControlChannel<TlsStream<TcpStream>>) -> Option<ErrorKind> {
    loop {
        match control.recv_within(PATIENCE).await.unwrap() {
            Record::Error { code, .. } => return code.kind(),
            Record::Ready => return None,
            _ => {}
        }
    }
}

/// What a server says to an endpoint that it can't go on with.
async fn refusal(world: &World, own: &Endpoint) -> Option<ErrorKind> {
    let mut control = secured(world).await;
    greet(&mut control, own).await;
    told(&mut control).await
}

fn joining(qpn: u32) -> Endpoint {
    Endpoint { joins: Some(Joins), ..endpoint(qpn) }
}

async fn world() -> World {
    World::new("127.0.0.1", 8, SessionOptions::default()).await
}

async fn first(world: &mut World) -> (ByHand, Session) {
    let mut first = ByHand::begin(world, endpoint(0x1234)).await;
    assert_eq!((first.server.joins, first.shown), (None, None));
    first.say(Record::Ready).await;
    let session = world.arrival().await;
    assert_eq!(session.info().sealed, SealedBy::Packets);
    (first, session)
}

/// A session that joins the association with that secret, for which the server has taken packets by `spi` first.
async fn another(world: &mut World, secret: &JoinSecret, spi: Option<Spi>, qpn: u32) -> (ByHand, Session) {
    let mut another = ByHand::begin(world, joining(qpn)).await;
    assert_eq!((another.server.joins, another.server.spi), (Some(Joins), spi));
    let shown = secret.proof(&another.keys.join, Role::Server).unwrap();
    assert_eq!(another.shown, Some(*shown.bytes()));
    let proof = *secret.proof(&another.keys.join, Role::Client).unwrap().bytes();
    another.say(Record::Joined { proof }).await;
    another.say(Record::Ready).await;
    let session = world.arrival().await;
    assert_eq!(session.info().sealed, SealedBy::Packets);
    (another, session)
}

#[tokio::test]
async fn who_has_an_associations_secret_joins_it_as_long_as_any_of_its_sessions_lives() {
    if !is_embedded() {
        return;
    }
    let mut world = world().await;
    let (first, first_there) = first(&mut world).await;
    let (secret, spi) = (first.keys.join, first.server.spi);
    let (second, second_there) = another(&mut world, &secret, spi, 0x2345).await;
    drop((first.control, first_there));
    let (mut third, third_there) = another(&mut world, &secret, spi, 0x3456).await;
    drop((second, second_there));
    assert!(third.is_open(1).await);
    drop((third, third_there));
    // The server may learn of the last one's end a little later.
    loop {
        let mut control = secured(&world).await;
        greet(&mut control, &joining(0x4567)).await;
        if told_or_ready(&mut control).await == Some(ErrorKind::Seal) {
            break;
        }
    }
}

#[tokio::test]
async fn nobody_joins_what_is_not_there_or_with_another_port_or_without_its_secret() {
    if !is_embedded() {
        return;
    }
    let mut world = world().await;
    assert_eq!(refusal(&world, &joining(0x2345)).await, Some(ErrorKind::Seal));
    let refused = world.server.next().await;
    let is_reason = |error: &SessionError| matches!(error, SessionError::OtherAssociation { .. });
    assert!(matches!(&refused, Arrival::Refused { error, .. } if is_reason(error)), "{refused:?}");
    let (first, _there) = first(&mut world).await;
    for change in [
        Endpoint { spi: Spi::new(SPI + 1), ..joining(0x2345) },
        Endpoint { esp_port: NonZeroU16::new(PORT + 1), ..joining(0x2345) },
        Endpoint { esp_port: None, ..joining(0x2345) },
        Endpoint { spi: None, ..joining(0x2345) },
    ] {
        assert_eq!(refusal(&world, &change).await, Some(ErrorKind::Seal), "{change:?}");
    }
    let secret = &first.keys.join;
    for attempt in 0..4 {
        let mut other = ByHand::begin(&world, joining(0x2345)).await;
        let proof = match attempt {
            // The server's own, another session's, by another secret.
            0 => secret.proof(&other.keys.join, Role::Server),
            1 => secret.proof(secret, Role::Client),
            2 => other.keys.join.proof(&other.keys.join, Role::Client),
            _ => {
                other.say(Record::Ready).await;
                assert_eq!(other.told().await, Some(ErrorKind::Unexpected), "none");
                continue;
            }
        };
        other.say(Record::Joined { proof: *proof.unwrap().bytes() }).await;
        assert_eq!(other.told().await, Some(ErrorKind::Unexpected), "{attempt}");
    }
}

#[tokio::test]
async fn the_same_new_key_is_announced_by_each_session_and_no_other_is_taken() {
    if !is_embedded() {
        return;
    }
    let mut world = world().await;
    let (mut first, _first_there) = first(&mut world).await;
    let (secret, spi) = (&first.keys.join, first.server.spi);
    let (mut second, _second_there) = another(&mut world, secret, spi, 0x2345).await;
    let announced = |epoch, spi| Record::Spi { epoch, spi: Spi::new(spi).unwrap() };
    first.say(announced(1, SPI + 1)).await;
    assert!(first.is_open(1).await);
    second.say(announced(1, SPI + 1)).await;
    second.say(announced(2, SPI + 2)).await;
    assert!(second.is_open(1).await);
    first.say(announced(2, SPI + 2)).await;
    assert!(first.is_open(2).await);
    first.say(announced(4, SPI + 4)).await;
    assert_eq!(first.told().await, Some(ErrorKind::Unexpected));
    assert!(second.is_open(2).await);
}
