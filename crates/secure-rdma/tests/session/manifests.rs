//! What a client tells its server of its writes. Here somebody changes the server's memory: it looks as if
//! writes had never come, although the network said so. The attack lab withholds them on the way.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use crate::club::Club;
use crate::tampering::{STRIDE, is_over, raw, within};
use crate::world::{World, bytes, messages};
use secure_rdma::control::SealPolicy::Required;
use secure_rdma::seal::{Limits, SealError};
use secure_rdma::{Buffers, Report, Session, SessionError, SessionOptions};

const SLOT: u64 = 4096;

const SMALLEST: Buffers = Buffers { size: 256, receives: 2, sends: 1, ..Buffers::DEFAULT };

async fn session() -> (World, Session, Session) {
    session_with(messages()).await
}

async fn session_with(options: SessionOptions) -> (World, Session, Session) {
    let mut world = World::with("127.0.0.1", options, options, |_| {}).await;
    let (client, server) = world.session().await;
    (world, client, server)
}

/// Writes slots 0 and 1; what is written into slot 0 afterwards doesn't come.
async fn withhold(client: &mut Session, server: &Session) {
    client.write(0, &[b'A'; 8192]).await.unwrap();
    let before = raw(server.region().unwrap(), 0);
    client.write(0, &[b'B'; 4096]).await.unwrap();
    server.region().unwrap().write(0, &before).unwrap();
}

async fn is_withheld(server: &mut Session, slot: u32) -> SessionError {
    let error = within(server.read_local(u64::from(slot) * SLOT, 5)).await.unwrap_err();
    assert!(
        matches!(&error, SessionError::Forged(SealError::Withheld { slot: found }) if *found == slot),
        "{error}"
    );
    error
}

#[tokio::test]
async fn a_server_that_got_a_message_after_a_write_takes_nothing_older() {
    let (_world, mut client, mut server) = session().await;
    withhold(&mut client, &server).await;
    assert_eq!(server.read_local(0, 5).await.unwrap(), b"AAAAA", "it wasn't told");
    client.send(b"written").await.unwrap();
    assert_eq!(server.recv().await.unwrap().unwrap(), b"written");
    assert_eq!(server.read_local(SLOT, 5).await.unwrap(), b"AAAAA", "this is the newest");
    let error = is_withheld(&mut server, 0).await;
    assert!(Report::new(&error).to_string().contains("a WRITE was withheld"), "{error}");
    is_over(&mut server, &mut client, &error).await;
}

#[tokio::test]
async fn a_server_that_looks_at_no_messages_hears_of_writes_all_the_same() {
    let (_world, mut client, mut server) = session().await;
    withhold(&mut client, &server).await;
    client.send(b"for nobody").await.unwrap();
    let error = is_withheld(&mut server, 0).await;
    is_over(&mut server, &mut client, &error).await;
}

#[tokio::test]
async fn a_slot_that_was_written_once_and_never_came_is_missed() {
    let (_world, mut client, mut server) = session().await;
    client.write(3 * SLOT, &[b'A'; 4096]).await.unwrap();
    server.region().unwrap().write(3 * STRIDE, &[0; 4120]).unwrap();
    client.send(b"written").await.unwrap();
    server.recv().await.unwrap().unwrap();
    assert_eq!(server.read_local(0, 5).await.unwrap(), [0; 5], "nothing was written there");
    let error = is_withheld(&mut server, 3).await;
    is_over(&mut server, &mut client, &error).await;
}

/// The goodbye tells of what no message told.
#[tokio::test]
async fn a_server_that_reads_after_an_orderly_end_takes_nothing_older() {
    for looks_for_messages in [true, false] {
        let (_world, mut client, mut server) = session().await;
        withhold(&mut client, &server).await;
        let read = async {
            if looks_for_messages {
                assert!(server.recv().await.unwrap().is_none());
            } else {
                assert!(server.ended().await.is_none());
            }
            assert_eq!(server.read_local(SLOT, 5).await.unwrap(), b"AAAAA");
            is_withheld(&mut server, 0).await
        };
        let (error, closed) = within(async { tokio::join!(read, client.close()) }).await;
        let told = closed.unwrap_err();
        assert_eq!(told.to_string(), format!("the peer ended the session: {}", Report::new(&error)));
    }
}

/// What it has read is looked at once more.
#[tokio::test]
async fn a_server_that_read_too_early_and_never_again_finds_out_at_the_end() {
    for (was_written, says_goodbye_first) in [(true, false), (false, false), (true, true), (false, true)] {
        let (_world, mut client, mut server) = session().await;
        let slot = if was_written { 0 } else { 3 };
        if was_written {
            client.write(0, &[b'A'; 8192]).await.unwrap();
        }
        let before = raw(server.region().unwrap(), slot);
        client.write(slot * SLOT, &[b'B'; 4096]).await.unwrap();
        server.region().unwrap().write(slot * STRIDE, &before).unwrap();
        assert_eq!(server.read_local(slot * SLOT, 1).await.unwrap(), if was_written { b"A" } else { b"\0" });
        let (there, here) = if says_goodbye_first {
            let answer = async {
                assert!(client.recv().await.unwrap().is_none());
                client.close().await
            };
            within(async { tokio::join!(server.close(), answer) }).await
        } else {
            let answer = async {
                assert!(server.recv().await.unwrap().is_none());
                server.close().await
            };
            within(async { tokio::join!(answer, client.close()) }).await
        };
        let error = there.unwrap_err();
        assert!(
            matches!(&error, SessionError::Forged(SealError::Withheld { slot: found }) if u64::from(*found) == slot),
            "{error}"
        );
        // Whoever has answered a goodbye has closed before the other knows.
        if !says_goodbye_first {
            assert_eq!(
                here.unwrap_err().to_string(),
                format!("the peer ended the session: {}", Report::new(&error))
            );
        }
    }
}

/// Its writes are told at the end: a client that may not send messages may send manifests.
#[tokio::test]
async fn a_client_that_may_only_write_tells_of_it_at_the_end() {
    for withheld in [false, true] {
        let club = Club::new();
        club.allow(&[("writer", "write", "")]);
        let mut world = club.world().await;
        let (mut client, mut server) = club.session(&mut world, "writer", Required).await;
        client.write(0, &[b'A'; 4096]).await.unwrap();
        let before = raw(server.region().unwrap(), 0);
        client.write(0, &[b'B'; 4096]).await.unwrap();
        if withheld {
            server.region().unwrap().write(0, &before).unwrap();
        }
        let leave = async {
            assert!(server.recv().await.unwrap().is_none());
            if withheld {
                return Err(is_withheld(&mut server, 0).await);
            }
            assert_eq!(server.read_local(0, 5).await.unwrap(), b"BBBBB");
            server.close().await
        };
        let (there, here) = within(async { tokio::join!(leave, client.close()) }).await;
        assert_eq!((there.is_err(), here.is_err()), (withheld, withheld), "{there:?}, {here:?}");
    }
}

/// Fourteen entries fit a manifest here.
#[tokio::test]
async fn what_is_too_much_for_a_note_is_told_in_several() {
    const WRITTEN: u32 = 100;
    for tampered in [0, 6, 194, 198] {
        let options = messages().buffers(SMALLEST);
        let (_world, mut client, mut server) = session_with(options).await;
        // Every other slot, in an order of no use.
        let places = || (0..WRITTEN).map(|number| 2 * (number * 37 % WRITTEN));
        for slot in places() {
            client.write(u64::from(slot) * SLOT, &[1; 4096]).await.unwrap();
        }
        let before = raw(server.region().unwrap(), tampered.into());
        for slot in places() {
            client.write(u64::from(slot) * SLOT, &[2; 4096]).await.unwrap();
        }
        server.region().unwrap().write(u64::from(tampered) * STRIDE, &before).unwrap();
        let (sent, received) = tokio::join!(client.send(b"written"), server.recv());
        sent.unwrap();
        assert_eq!(received.unwrap().unwrap(), b"written");
        for slot in places().filter(|slot| *slot != tampered) {
            assert_eq!(server.read_local(u64::from(slot) * SLOT, 4096).await.unwrap(), [2; 4096]);
        }
        let error = is_withheld(&mut server, tampered).await;
        is_over(&mut server, &mut client, &error).await;
    }
}

/// Writes, messages, reads at both ends and key changes at a time, with much and with little room: nothing is
/// taken for an attack.
#[tokio::test]
async fn nobody_is_alarmed_by_what_is_genuine() {
    for (buffers, limits) in [
        (Buffers::DEFAULT, Limits::DEFAULT),
        (SMALLEST, Limits { records: 1, bytes: 100 }),
        (
            Buffers { size: 4096, receives: 2, sends: 3, ..Buffers::DEFAULT },
            Limits { records: 2, bytes: 9000 },
        ),
    ] {
        let (_world, mut client, mut server) =
            session_with(messages().buffers(buffers).key_limits(limits)).await;
        let rounds = 0..60_u64;
        let write = async {
            for round in rounds.clone() {
                for at in 0..round % 5 {
                    let (offset, fill) = (round * 7919 % 100 * 1000 + at * 5000, round.to_le_bytes()[0]);
                    client.post_write(offset, &vec![fill; 9000]).await.unwrap();
                }
                client.post_send(&round.to_le_bytes()).await.unwrap();
                if round % 7 == 0 {
                    client.read(round * 1000, 20_000).await.unwrap();
                }
            }
            client.flush().await.unwrap();
        };
        let read = async {
            for round in rounds.clone() {
                server.read_local(round * 1000, 30_000).await.unwrap();
                assert_eq!(server.recv().await.unwrap().unwrap(), round.to_le_bytes());
                if round % 5 > 0 {
                    let at = round * 7919 % 100 * 1000 + (round % 5 - 1) * 5000;
                    let found = server.read_local(at, 9000).await.unwrap();
                    assert!(found.iter().all(|byte| *byte >= round.to_le_bytes()[0]), "round {round}");
                }
            }
        };
        within(async { tokio::join!(write, read) }).await;
        let whole = client.read(0, 200_000).await.unwrap();
        let leave = async {
            assert!(server.recv().await.unwrap().is_none());
            assert!(server.read_local(0, 200_000).await.unwrap() == whole);
            server.close().await
        };
        let (there, here) = within(async { tokio::join!(leave, client.close()) }).await;
        there.unwrap();
        here.unwrap();
    }
}

/// A goodbye waits for no room at a server that looks at nothing until it hears of it.
#[tokio::test]
async fn a_server_that_only_waits_for_the_end_is_told_then() {
    for buffers in [Buffers::DEFAULT, SMALLEST] {
        let (_world, mut client, mut server) = session_with(messages().buffers(buffers)).await;
        // All of its receive buffers.
        for _ in 0..buffers.receives {
            client.send(b"for nobody").await.unwrap();
        }
        // More manifests than the smallest buffers take at a time.
        for slot in (0..120).step_by(2) {
            client.write(slot * 4096, &bytes(4096)).await.unwrap();
        }
        let leave = async {
            assert!(server.ended().await.is_none());
            server.close().await
        };
        let (there, here) = within(async { tokio::join!(leave, client.close()) }).await;
        there.unwrap();
        here.unwrap();
    }
}
