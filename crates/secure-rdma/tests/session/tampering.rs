//! What becomes of a sealed session whose memory somebody changes, or whose end somebody cuts off, on
//! whichever device. Attacks by packets are those of the attack lab (`tests/attacks`), on the embedded
//! device.

use crate::world::{World, bytes, messages};
use rdma_verbs::Mtu;
use rocev2::{Psn, Qpn};
use secure_rdma::control::SealPolicy::Required;
use secure_rdma::control::{
    ControlChannel, Endpoint, ErrorKind, Fragments, Hello, Record, Redacted, Role, Text, VERSION,
};
use secure_rdma::seal::SealError;
use secure_rdma::tls::{ClientTls, Trust};
use secure_rdma::{Report, Session, SessionError};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::time::Duration;
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(30);

/// A slot with its tag and stamp.
pub(crate) const STRIDE: u64 = 4096 + 24;

async fn session() -> (World, Session, Session) {
    let mut world = World::new("127.0.0.1", 4, messages()).await;
    let (client, server) = world.session().await;
    (world, client, server)
}

pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// The session is over at the side that has found `error`, and the other is told why.
pub(crate) async fn is_over(finder: &mut Session, other: &mut Session, error: &SessionError) {
    for again in
        [finder.recv().await.map(drop).expect_err("over"), finder.send(b"more").await.expect_err("over")]
    {
        assert_eq!(again.to_string(), error.to_string());
    }
    let told = within(other.ended()).await.expect("not an orderly end");
    assert!(
        matches!(&told, SessionError::Peer { code, .. } if code.kind() == Some(ErrorKind::Forged)),
        "{told}"
    );
    assert_eq!(told.to_string(), format!("the peer ended the session: {}", Report::new(error)));
}

/// What happens to the server's memory between a client's write and its read.
type Tamper = fn(&rdma_verbs::MemoryRegion, &[u8]);

pub(crate) fn raw(region: &rdma_verbs::MemoryRegion, slot: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4120];
    region.read(slot * STRIDE, &mut bytes).expect("inside");
    bytes
}

#[tokio::test]
async fn memory_that_was_tampered_with_is_noticed_by_the_client_that_reads_it() {
    const ROLLED_BACK: bool = true;
    let attacks: [(&str, Tamper, bool); 8] = [
        ("a bit of the ciphertext", |region, _| flip(region, 0), !ROLLED_BACK),
        ("a bit in the middle", |region, _| flip(region, 2000), !ROLLED_BACK),
        ("a bit of the tag", |region, _| flip(region, 4096), !ROLLED_BACK),
        ("a bit of the stamp", |region, _| flip(region, 4119), !ROLLED_BACK),
        ("another slot", |region, _| region.write(0, &raw(region, 1)).expect("inside"), !ROLLED_BACK),
        (
            "the slot's beginning",
            |region, before| region.write(0, &before[..100]).expect("inside"),
            !ROLLED_BACK,
        ),
        ("what was there before", |region, before| region.write(0, before).expect("inside"), ROLLED_BACK),
        ("zeros", |region, _| region.write(0, &[0; 4120]).expect("inside"), ROLLED_BACK),
    ];
    for (what, tamper, rolled_back) in attacks {
        let (_world, mut client, mut server) = session().await;
        client.write(0, &bytes(8192)).await.unwrap();
        let before = raw(server.region().unwrap(), 0);
        client.write(10, b"newer").await.unwrap();
        assert_eq!(client.read(10, 5).await.unwrap(), b"newer");
        tamper(server.region().unwrap(), &before);
        let error = client.read(10, 5).await.unwrap_err();
        let expected =
            if rolled_back { SealError::RolledBack { slot: 0 } } else { SealError::Slot { slot: 0 } };
        assert!(matches!(&error, SessionError::Forged(found) if *found == expected), "{what}: {error}");
        is_over(&mut client, &mut server, &error).await;
    }
}

fn flip(region: &rdma_verbs::MemoryRegion, at: u64) {
    let mut byte = [0];
    region.read(at, &mut byte).expect("inside");
    region.write(at, &[byte[0] ^ 1]).expect("inside");
}

/// A write of a part of a slot reads the rest of it: what was tampered with isn't sealed anew, as if it were
/// the client's.
#[tokio::test]
async fn a_part_of_a_slot_is_not_written_over_what_was_tampered_with() {
    let (_world, mut client, server) = session().await;
    client.write(0, &bytes(4096)).await.unwrap();
    flip(server.region().unwrap(), 3000);
    let error = client.write(10, b"newer").await.unwrap_err();
    assert!(matches!(error, SessionError::Forged(SealError::Slot { slot: 0 })), "{error}");
}

/// What came before the forgery isn't delivered any more either, nor what comes behind it.
#[tokio::test]
async fn posted_reads_end_with_the_first_slot_that_was_tampered_with() {
    let (_world, mut client, mut server) = session().await;
    client.write(0, &bytes(5 * 4096)).await.unwrap();
    flip(server.region().unwrap(), 2 * STRIDE);
    for slot in 0..5 {
        client.post_read(slot * 4096, 4096).await.unwrap();
    }
    let error = client.flush().await.unwrap_err();
    assert!(matches!(error, SessionError::Forged(SealError::Slot { slot: 2 })), "{error}");
    let again = client.next_read().await.unwrap_err();
    assert_eq!(again.to_string(), error.to_string());
    is_over(&mut client, &mut server, &error).await;
}

/// Two clients of one server: the slots of the one are put into the other's region.
#[tokio::test]
async fn slots_of_another_client_are_refused() {
    let mut world = World::new("127.0.0.1", 4, messages()).await;
    let (mut first, at_first) = world.session().await;
    let (mut second, at_second) = world.session().await;
    for client in [&mut first, &mut second] {
        client.write(0, &bytes(4096)).await.unwrap();
    }
    at_second.region().unwrap().write(0, &raw(at_first.region().unwrap(), 0)).unwrap();
    let error = second.read(0, 100).await.unwrap_err();
    assert!(matches!(error, SessionError::Forged(SealError::Slot { slot: 0 })), "{error}");
    assert_eq!(first.read(0, 100).await.unwrap(), bytes(100));
}

/// A client that says that it has sealed more than has come: as it looks when the last packets were dropped
/// and their acknowledgements forged.
#[tokio::test]
async fn a_message_that_was_cut_off_at_the_end_is_missed() {
    cut_off(async |server| within(server.recv()).await.map(drop)).await;
}

/// It may be a manifest of what was written.
#[tokio::test]
async fn what_was_cut_off_at_the_end_is_missed_by_a_server_that_looks_at_its_memory_alone() {
    cut_off(async |server| {
        assert!(within(server.ended()).await.is_none());
        within(server.read_local(0, 1)).await.map(drop)
    })
    .await;
}

async fn cut_off(look: impl AsyncFnOnce(&mut Session) -> Result<(), SessionError>) {
    let mut world = World::new("127.0.0.1", 4, messages()).await;
    let tls = ClientTls::new(Trust::State(world.dir.clone()), None).expect("as usual");
    let stream = TcpStream::connect(world.server.local_addr()).await.expect("as usual");
    let secured =
        tls.connect(stream, &"localhost".parse().expect("as usual"), PATIENCE).await.expect("as usual");
    let mut control = ControlChannel::new(secured.stream);
    let hello = Hello {
        version: VERSION,
        role: Role::Client,
        seal: Required,
        max_message: 1 << 20,
        heartbeat_ms: 5000,
        software: Text::lossy("by hand"),
        packets: None,
    };
    let endpoint = Endpoint {
        qpn: Qpn::new(0x1234).expect("as usual"),
        psn: Redacted::new(Psn::truncate(0x5678)),
        gid: Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
        udp_port: NonZeroU16::new(1024).expect("as usual"),
        mtu: Mtu::from_bytes(1024).expect("as usual"),
        max_rd_atomic: 1,
        recv_depth: 1,
        recv_size: 4096,
        min_rnr_timer: 1,
        ack_timeout: 14,
        retry_count: 7,
        rnr_retry: 7,
        lid: None,
        spi: None,
        esp_port: None,
        joins: None,
    };
    for record in [Record::Hello(hello), Record::Endpoint(endpoint), Record::Ready] {
        control.send_within(&record, PATIENCE).await.expect("as usual");
    }
    let mut server = world.arrival().await;
    control.send_within(&Record::Bye(Fragments { sent: 2, arrived: 0 }), PATIENCE).await.expect("as usual");
    let error = look(&mut server).await.expect_err("it is missed");
    assert!(matches!(error, SessionError::Truncated { who: "the peer", sent: 2, arrived: 0 }), "{error}");
    assert!(error.to_string().contains("left out"), "{error}");
    let told = within(async {
        loop {
            if let Record::Error { code, .. } = control.recv_within(PATIENCE).await.expect("as usual") {
                break code;
            }
        }
    })
    .await;
    assert_eq!(told.kind(), Some(ErrorKind::Forged));
}
