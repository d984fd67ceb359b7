//! Sessions whose packets are sealed by the devices.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use crate::world::{World, bytes, counted, is_embedded, messages};
use rocev2::icrc::PseudoHeader;
use rocev2::wire::{Aeth, Bth, Headers, NakCode, Opcode, Operation, Syndrome};
use secure_rdma::control::PacketPolicy::{Offered, Required};
use secure_rdma::seal::Limits;
use secure_rdma::{Arrival, SealedBy, Session, SessionError, SessionOptions};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

fn options(packets: Option<secure_rdma::control::PacketPolicy>) -> SessionOptions {
    SessionOptions::default().packets(packets)
}

/// Every operation once.
async fn use_it(client: &mut Session, server: &mut Session, round: u64) {
    let message = bytes(5000 + usize::try_from(round % 1000).unwrap());
    client.send(&message).await.unwrap();
    assert!(server.recv().await.unwrap().unwrap() == message);
    server.send(&message).await.unwrap();
    assert!(client.recv().await.unwrap().unwrap() == message);
    // Any offset and length: the region is plain memory.
    let offset = round * 7 % 100_000;
    client.write(offset, &message).await.unwrap();
    assert!(server.read_local(offset, message.len()).await.unwrap() == message);
    assert!(client.read(offset, message.len()).await.unwrap() == message);
    assert_eq!(client.fetch_add(1, 3).await.unwrap(), round * 3);
}

async fn close(client: Session, mut server: Session) {
    let goodbye = async {
        assert!(server.recv().await.unwrap().is_none());
        server.close().await
    };
    let (at_server, at_client) = tokio::join!(goodbye, client.close());
    at_server.unwrap();
    at_client.unwrap();
}

#[tokio::test]
async fn each_side_gets_what_both_can_and_never_less_than_it_requires() {
    if !is_embedded() {
        return;
    }
    for (at_client, at_server, expected) in [
        (Some(Offered), Some(Offered), Some(SealedBy::Packets)),
        (Some(Required), Some(Offered), Some(SealedBy::Packets)),
        (Some(Offered), Some(Required), Some(SealedBy::Packets)),
        // As older software, and devices of libibverbs.
        (Some(Offered), None, Some(SealedBy::Messages)),
        (None, Some(Offered), Some(SealedBy::Messages)),
        (Some(Required), None, None),
        (None, Some(Required), None),
    ] {
        let world = World::with("127.0.0.1", options(at_server), options(at_client), |_| {}).await;
        let (here, there) = (world.connect().await, world.server.next().await);
        match (here, there, expected) {
            (Ok(mut client), Arrival::Session(mut server), Some(by)) => {
                assert_eq!((client.info().sealed, server.info().sealed), (by, by));
                use_it(&mut client, &mut server, 0).await;
                close(client, *server).await;
            }
            (Err(client), Arrival::Refused { error: server, .. }, None) => {
                for error in [client, server] {
                    assert!(matches!(error, SessionError::NoPackets { .. }), "{error}");
                }
            }
            (here, there, _) => panic!("{at_client:?} and {at_server:?}: {here:?}, {there:?}"),
        }
    }
}

#[tokio::test]
async fn keys_change_under_traffic_and_nobody_notices() {
    if !is_embedded() {
        return;
    }
    let limits = Limits { records: 200, bytes: u64::MAX };
    let options = SessionOptions::default().key_limits(limits);
    let mut world = World::with("::1", options, options, |_| {}).await;
    let (mut client, mut server) = world.session().await;
    let begin = Instant::now();
    let mut round = 0;
    // The server's device and the client's are two; each end's key is replaced every few seconds.
    while counted(&world.device, "esp_rekeyed") < 2 {
        assert!(begin.elapsed() < Duration::from_secs(60), "no new keys after {round} rounds");
        use_it(&mut client, &mut server, round).await;
        round += 1;
    }
    for _ in 0..10 {
        use_it(&mut client, &mut server, round).await;
        round += 1;
    }
    for name in ["esp_not_authentic", "esp_clear", "esp_unknown_spi", "esp_not_sent", "esp_replayed"] {
        assert_eq!(counted(&world.device, name), 0, "{name}");
    }
    close(client, server).await;
}

/// Bytes of a message that is under way for a while.
const MESSAGE: u32 = 200_000;

/// What ends a session whose messages are sealed: whoever knows numbers that travel in clear there sends a NAK in the
/// peer's name.
#[tokio::test]
async fn a_forged_nak_ends_nothing_and_is_counted() {
    if !is_embedded() {
        return;
    }
    for (options, ends) in [(messages(), true), (SessionOptions::default(), false)] {
        let mut world = World::with("127.0.0.1", options, options, |_| {}).await;
        let (mut client, mut server) = world.session().await;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = server.info().own;
        let to: SocketAddr = target.address;
        let header = PseudoHeader::new(socket.local_addr().unwrap(), to).unwrap();
        // While the server's message is under way.
        let packets = MESSAGE.div_ceil(server.info().path_mtu.bytes());
        let mut round = 0;
        let deadline = Instant::now() + Duration::from_secs(60);
        let over = loop {
            assert!(Instant::now() < deadline);
            let asked = server.post_send(&bytes(MESSAGE as usize)).await.is_err();
            // None of those that may be under way is left out: a few packets of a message aren't full.
            for ahead in packets * round..(packets + 11) * (round + 1) {
                let psn = target.psn.get().plus(ahead);
                let bth = Bth::new(Opcode::rc(Operation::Acknowledge), target.qpn, psn);
                let mut headers = Headers::new(bth);
                headers.aeth = Some(Aeth { syndrome: Syndrome::Nak(NakCode::RemoteAccess), msn: 0 });
                let mut packet = vec![0; 20];
                headers.encode(&mut packet).unwrap();
                header.write(0, &mut packet).unwrap();
                socket.send_to(&packet, to).unwrap();
            }
            round += 1;
            if asked || server.flush().await.is_err() {
                break true;
            }
            if client.recv().await.is_err() {
                break true;
            }
            if !ends && counted(&world.device, "esp_clear") >= 80 * 20 {
                break false;
            }
        };
        assert_eq!(over, ends);
        if !ends {
            use_it(&mut client, &mut server, 0).await;
        }
    }
}
