//! What an attacker does who sees and sends packets, or changes the memory that a region lies in. Each attack is shown to work on an open
//! session where it can be, and to end a sealed one.

use crate::world::{World, bytes};
use rocev2::icrc::{self, PseudoHeader};
use rocev2::wire::{Bth, Headers, Opcode, Operation, Reth};
use rocev2::{Psn, Qpn};
use secure_rdma::control::SealPolicy::{self, Off, Required};
use secure_rdma::control::{
    ControlChannel, Endpoint, ErrorKind, Fragments, Hello, Record, Redacted, Role, Text, VERSION,
};
use secure_rdma::seal::SealError;
use secure_rdma::tls::{ClientTls, Trust};
use secure_rdma::{Session, SessionError, SessionOptions};
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::num::NonZeroU16;
use std::time::Duration;
use tokio::net::TcpStream;
use verbs::Mtu;

const PATIENCE: Duration = Duration::from_secs(30);

/// A slot with its tag and stamp.
const STRIDE: u64 = 4096 + 24;

/// These attacks know how to forge the embedded device's packets only. Who runs them elsewhere must leave them out by name, and so say
/// what isn't proved.
fn on_the_embedded_device_only() {
    let device = std::env::var("SECURE_RDMA_TEST_DEVICE");
    assert!(device.is_err(), "{device:?}: this attack is one on the embedded device");
}

async fn session(address: &str, seal: SealPolicy) -> (World, Session, Session) {
    let options = SessionOptions { seal, ..SessionOptions::default() };
    let mut world = World::with(address, options, options, |_| {}).await;
    let (client, server) = world.session().await;
    (world, client, server)
}

/// Sends a packet that pretends to be the client's, from another socket: over IPv6, whose packets have no identification to guess.
fn inject(client: &Session, packet: &Headers, payload: &[u8]) {
    let to = client.info().remote.address;
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).expect("a socket");
    let from = socket.local_addr().expect("its address");
    let mut out = vec![0; 8192];
    let frame = packet.frame(&mut out, payload.len()).expect("a packet");
    frame.payload.copy_from_slice(payload);
    let end = frame.len + icrc::LEN;
    PseudoHeader::new(from, to).expect("IPv6 both").write(0, &mut out[..end]).expect("room");
    socket.send_to(&out[..end], to).expect("sent");
}

/// The header of the client's request with the PSN that is so many behind its first.
fn request(client: &Session, operation: Operation, behind: u32) -> Headers {
    let info = client.info();
    let first = info.own.psn.get().get();
    let psn = Psn::truncate(first.wrapping_add(behind));
    Headers::new(Bth { ack_req: true, ..Bth::new(Opcode::rc(operation), info.remote.qpn, psn) })
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// The session is over at the side that has found `error`, and the other is told why.
async fn is_over(finder: &mut Session, other: &mut Session, error: &SessionError) {
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
    assert!(told.to_string().contains("not authentic") || told.to_string().contains("rolled back"), "{told}");
}

#[tokio::test]
async fn a_forged_message_is_delivered_in_an_open_session_and_takes_the_place_of_the_genuine_one() {
    on_the_embedded_device_only();
    let (_world, mut client, mut server) = session("::1", Off).await;
    let mut forged = request(&client, Operation::SendOnlyImm, 0);
    forged.immediate = Some(1);
    inject(&client, &forged, b"forged");
    assert_eq!(within(server.recv()).await.unwrap().unwrap(), b"forged");
    // Acknowledged, and never seen.
    within(client.send(b"genuine")).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), server.recv()).await.is_err());
}

#[tokio::test]
async fn a_forged_message_ends_a_sealed_session_and_nothing_is_delivered() {
    on_the_embedded_device_only();
    for (before, payload) in
        [(0, b"forged".to_vec()), (0, vec![0; 20]), (3, bytes(200)), (1, b"".to_vec()), (2, bytes(4096))]
    {
        let (_world, mut client, mut server) = session("::1", Required).await;
        for _ in 0..before {
            client.send(b"genuine").await.unwrap();
            assert_eq!(server.recv().await.unwrap().unwrap(), b"genuine");
        }
        inject(&client, &request(&client, Operation::SendOnly, before), &payload);
        let error = within(server.recv()).await.unwrap_err();
        let counter = u64::from(before);
        assert!(
            matches!(error, SessionError::Forged(SealError::Message { counter: c }) if c == counter),
            "{error}"
        );
        is_over(&mut server, &mut client, &error).await;
    }
}

#[tokio::test]
async fn messages_that_had_arrived_before_a_forged_one_are_not_delivered_after_it() {
    on_the_embedded_device_only();
    let (_world, mut client, mut server) = session("::1", Required).await;
    client.send(b"first").await.unwrap();
    client.send(b"second").await.unwrap();
    inject(&client, &request(&client, Operation::SendOnly, 2), b"forged");
    tokio::time::sleep(Duration::from_millis(200)).await;
    // All three are in its queue when it looks for the first time.
    let error = within(async {
        loop {
            match server.recv().await {
                Ok(message) => assert!(message.is_some_and(|message| message != b"forged")),
                Err(error) => break error,
            }
        }
    })
    .await;
    assert!(matches!(error, SessionError::Forged(_)), "{error}");
    is_over(&mut server, &mut client, &error).await;
}

/// An RDMA WRITE by somebody who has seen the region's address and key, and where the client is in its numbers.
#[tokio::test]
async fn a_forged_write_changes_an_open_region_and_is_refused_where_a_sealed_one_is_opened() {
    on_the_embedded_device_only();
    for seal in [Off, Required] {
        let (_world, mut client, mut server) = session("::1", seal).await;
        let region = client.remote_region().unwrap();
        let mut forged = request(&client, Operation::WriteOnly, 0);
        forged.reth = Some(Reth { va: region.addr, rkey: region.rkey, len: 6 });
        inject(&client, &forged, b"forged");
        within(async {
            let mut raw = [0; 6];
            while raw != *b"forged" {
                server.region().unwrap().read(0, &mut raw).unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let found = within(server.read_local(0, 6)).await;
        if seal == Off {
            assert_eq!(found.unwrap(), b"forged");
        } else {
            let error = found.unwrap_err();
            assert!(matches!(error, SessionError::Forged(SealError::Slot { slot: 0 })), "{error}");
            is_over(&mut server, &mut client, &error).await;
        }
    }
}

/// What happens to the server's memory between a client's write and its read.
type Tamper = fn(&verbs::MemoryRegion, &[u8]);

fn raw(region: &verbs::MemoryRegion, slot: u64) -> Vec<u8> {
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
        let (_world, mut client, mut server) = session("127.0.0.1", Required).await;
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

fn flip(region: &verbs::MemoryRegion, at: u64) {
    let mut byte = [0];
    region.read(at, &mut byte).expect("inside");
    region.write(at, &[byte[0] ^ 1]).expect("inside");
}

/// A write of a part of a slot reads the rest of it: what was tampered with isn't sealed anew, as if it were the client's.
#[tokio::test]
async fn a_part_of_a_slot_is_not_written_over_what_was_tampered_with() {
    let (_world, mut client, server) = session("127.0.0.1", Required).await;
    client.write(0, &bytes(4096)).await.unwrap();
    flip(server.region().unwrap(), 3000);
    let error = client.write(10, b"newer").await.unwrap_err();
    assert!(matches!(error, SessionError::Forged(SealError::Slot { slot: 0 })), "{error}");
}

/// Two clients of one server: the slots of the one are put into the other's region.
#[tokio::test]
async fn slots_of_another_client_are_refused() {
    let mut world = World::new("127.0.0.1", 4, SessionOptions::default()).await;
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

/// A client that says that it has sealed more than has come: as it looks when the last packets were dropped and their acknowledgements
/// forged.
#[tokio::test]
async fn a_message_that_was_cut_off_at_the_end_is_missed() {
    let mut world = World::new("127.0.0.1", 4, SessionOptions::default()).await;
    let tls = ClientTls::new(Trust::State(world.dir.clone()), None).unwrap();
    let stream = TcpStream::connect(world.server.local_addr()).await.unwrap();
    let secured = tls.connect(stream, &"localhost".parse().unwrap(), PATIENCE).await.unwrap();
    let mut control = ControlChannel::new(secured.stream);
    let hello = Hello {
        version: VERSION,
        role: Role::Client,
        seal: Required,
        max_message: 1 << 20,
        heartbeat_ms: 5000,
        software: Text::lossy("by hand"),
    };
    let endpoint = Endpoint {
        qpn: Qpn::new(0x1234).unwrap(),
        psn: Redacted::new(Psn::truncate(0x5678)),
        gid: Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
        udp_port: NonZeroU16::new(9).unwrap(),
        mtu: Mtu::from_bytes(1024).unwrap(),
        max_rd_atomic: 1,
        recv_depth: 1,
        recv_size: 4096,
        min_rnr_timer: 1,
        ack_timeout: 14,
        retry_count: 7,
        rnr_retry: 7,
        lid: None,
    };
    for record in [Record::Hello(hello), Record::Endpoint(endpoint), Record::Ready] {
        control.send_within(&record, PATIENCE).await.unwrap();
    }
    let mut server = world.arrival().await;
    control.send_within(&Record::Bye(Fragments { sealed: 2, opened: 0 }), PATIENCE).await.unwrap();
    let error = within(server.recv()).await.unwrap_err();
    assert!(matches!(error, SessionError::Truncated { who: "the peer", sealed: 2, opened: 0 }), "{error}");
    assert!(error.to_string().contains("cut off"), "{error}");
    let told = within(async {
        loop {
            if let Record::Error { code, .. } = control.recv_within(PATIENCE).await.unwrap() {
                break code;
            }
        }
    })
    .await;
    assert_eq!(told.kind(), Some(ErrorKind::Forged));
}
