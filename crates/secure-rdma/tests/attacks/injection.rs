//! A1: packets in another's name (ReDMArk: packet injection by impersonation).

use crate::attack::{Attack, Outcome, Played};
use crate::esp;
use crate::lab::{BOTH, Side, is_over, message, run, session, silence, within};
use crate::packets::{Injector, inject, packet, request, reth};
use crate::world::bytes;
use rdma_verbs::Status;
use rocev2::wire::{AtomicEth, Bth, Headers, Opcode, Operation, Reth};
use secure_rdma::SealedBy::{Messages, Nothing};
use secure_rdma::seal::SealError;
use secure_rdma::{Session, SessionError};
use std::time::Duration;

pub(crate) static SEND: Attack = Attack::new("A1: a forged SEND", "T2, T3", "QPN, PSN", send);
pub(crate) static WRITE: Attack =
    Attack::new("A1: a forged WRITE", "T2, T3", "QPN, PSN, rkey, address", write);
pub(crate) static WRITE_IMMEDIATE: Attack = Attack::new(
    "A1: a forged WRITE with immediate, of nothing, which takes a receive buffer with an old message in it",
    "T2, T3",
    "QPN, PSN",
    write_immediate,
);
pub(crate) static ATOMIC: Attack =
    Attack::new("A1: a forged FETCH ADD on a counter", "T2, T3", "QPN, PSN, rkey, address", atomic);

/// Whoever is told of congestion sends less at a time.
pub(crate) static CNP: Attack =
    Attack::new("a forged CNP, which slows the sender down", "T2, T3", "QPN", congestion);

/// A1 by a SEND. It needs no key of a region, and is the message of whoever's queue pair it names.
fn send() -> Played {
    run(async {
        let (_world, mut client, mut server) = session(Nothing).await;
        let mut forged = request(&client, Operation::SendOnlyImm, 0);
        forged.immediate = Some(1);
        inject(&client, &forged, b"forged");
        assert_eq!(message(&mut server).await, b"forged");
        // Acknowledged, and never seen.
        within(client.send(b"genuine")).await.unwrap();
        silence(&mut server).await;

        let mut words = String::new();
        for (before, payload) in
            [(3, bytes(200)), (1, b"".to_vec()), (2, bytes(4096)), (0, vec![0; 20]), (0, b"forged".to_vec())]
        {
            let (_world, mut client, mut server) = session(Messages).await;
            for _ in 0..before {
                client.send(b"genuine").await.unwrap();
                assert_eq!(message(&mut server).await, b"genuine");
            }
            inject(&client, &request(&client, Operation::SendOnly, before), &payload);
            let error = within(server.recv()).await.unwrap_err();
            let counter = u64::from(before);
            assert!(
                matches!(error, SessionError::Forged(SealError::Message { counter: c }) if c == counter),
                "{error}"
            );
            words = is_over((Side::Server, &mut server), &mut client, &error).await;
        }
        Ok(Outcome::new(
            "delivered as the client's; the genuine message with that PSN is acknowledged and never seen",
            words,
            esp::forged(&[Side::Server, Side::Client], |from| {
                let behind = 0..8;
                behind.map(|psn| (request(from, Operation::SendOnly, psn), b"forged".to_vec())).collect()
            })
            .await,
        ))
    })
}

/// A1 by an RDMA WRITE.
fn write() -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in BOTH {
            let (_world, mut client, mut server) = session(seal).await;
            let region = client.remote_region().unwrap();
            let mut forged = request(&client, Operation::WriteOnly, 0);
            forged.reth = reth(&region, 0, 6);
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
            words.push(if seal == Nothing {
                assert_eq!(found.unwrap(), b"forged");
                "the server's program reads it as the client's".into()
            } else {
                let error = found.unwrap_err();
                assert!(matches!(error, SessionError::Forged(SealError::Slot { slot: 0 })), "{error}");
                is_over((Side::Server, &mut server), &mut client, &error).await
            });
        }
        let by_packets = esp::forged(&[Side::Server], |client| {
            let forge = esp::write(client, b"forged");
            (0..8).map(forge).collect()
        });
        Ok(Outcome::new(&*words[0], &*words[1], by_packets.await))
    })
}

/// A1 by an RDMA WRITE with immediate. One of no bytes needs no key of a region; the receive that completes with
/// it was filled by an earlier message.
fn write_immediate() -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in BOTH {
            let (_world, mut client, mut server) = session(seal).await;
            // Each receive buffer has been used.
            for _ in 0..32 {
                client.send(b"genuine").await.unwrap();
                assert_eq!(message(&mut server).await, b"genuine");
            }
            let mut forged = request(&client, Operation::WriteOnlyImm, 32);
            forged.reth = Some(Reth { va: 0, rkey: 0, len: 0 });
            forged.immediate = Some(1);
            inject(&client, &forged, b"");
            let error = within(server.recv()).await.unwrap_err();
            assert!(matches!(error, SessionError::Protocol { .. }), "{error}");
            words.push(is_over((Side::Server, &mut server), &mut client, &error).await);
        }
        let by_packets = esp::forged(&[Side::Server, Side::Client], |from| {
            let mut forged = request(from, Operation::WriteOnlyImm, 0);
            forged.reth = Some(Reth { va: 0, rkey: 0, len: 0 });
            forged.immediate = Some(1);
            vec![(forged, Vec::new())]
        });
        Ok(Outcome::new(&*words[0], &*words[1], by_packets.await))
    })
}

/// A1 by an atomic operation, which no card could carry out on a sealed counter.
fn atomic() -> Played {
    run(async {
        let forge = |client: &Session, counter: u64| {
            let counters = client.remote_counters().unwrap();
            let mut forged = request(client, Operation::FetchAdd, 0);
            let (va, rkey) = (counters.addr + 8 * counter, counters.rkey);
            forged.atomic = Some(AtomicEth { va, rkey, swap_or_add: 1000, compare: 0 });
            forged
        };
        for seal in BOTH {
            let (_world, mut client, server) = session(seal).await;
            inject(&client, &forge(&client, 0), b"");
            let counter = || {
                let mut word = [0; 8];
                server.counter_region().unwrap().read(0, &mut word).unwrap();
                u64::from_ne_bytes(word)
            };
            within(async {
                while counter() != 1000 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            // The answer to the forged one, whose PSN it has.
            assert_eq!(within(client.fetch_add(0, 5)).await.unwrap(), 0);
            assert_eq!(counter(), 1000);
            assert_eq!(within(client.fetch_add(0, 5)).await.unwrap(), 1000);
        }
        let words = "the counter is changed; the client's own operation with that PSN is answered and not carried out";
        Ok(Outcome::new(
            words,
            format!(
                "**works too**: {words}. Only with `--counters on`: else there are none where messages are sealed"
            ),
            // The counter that the victim looks at afterwards.
            esp::forged(&[Side::Server], |client| vec![(forge(client, 1), Vec::new())]).await,
        ))
    })
}

/// The sender is told of a congestion that there isn't.
fn congestion() -> Played {
    let notification = |from: &Session| {
        let bth = Bth::new(Opcode::Cnp, from.info().remote.qpn, from.info().own.psn.get());
        (Headers::new(bth), Vec::new())
    };
    run(async {
        for seal in BOTH {
            let (_world, mut client, mut server) = session(seal).await;
            let (headers, payload) = notification(&server);
            let notified = || {
                let counters = client.queue_pair().unwrap().counters.unwrap();
                counters.requester.congestion_notifications
            };
            assert_eq!(notified(), 0);
            Injector::new().send(client.info().own.address, &headers, &payload);
            within(async {
                while notified() == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            client.send(b"still there").await.unwrap();
            assert_eq!(message(&mut server).await, b"still there");
        }
        let words = "taken, and counted (`congestion_notifications`); the session goes on";
        let by_packets = esp::forged(&[Side::Server, Side::Client], |from| vec![notification(from); 8]).await;
        Ok(Outcome::new(words, words, by_packets))
    })
}

#[test]
fn a_forged_cnp_is_taken_but_where_packets_are_sealed() {
    CNP.play().as_ref().unwrap();
}

#[test]
fn a_forged_message_takes_the_place_of_the_genuine_one_in_an_open_session_and_ends_a_sealed_one() {
    SEND.play().as_ref().unwrap();
}

#[test]
fn a_forged_write_changes_an_open_region_and_is_refused_where_a_sealed_one_is_opened() {
    WRITE.play().as_ref().unwrap();
}

#[test]
fn a_forged_write_with_immediate_ends_the_session_and_delivers_nothing() {
    WRITE_IMMEDIATE.play().as_ref().unwrap();
}

/// A client's queue pair lets nobody write: its device refuses the packet before the session sees it.
#[tokio::test]
async fn a_forged_write_with_immediate_to_a_client_delivers_nothing_either() {
    for seal in BOTH {
        let (_world, mut client, mut server) = session(seal).await;
        for _ in 0..32 {
            server.send(b"genuine").await.unwrap();
            assert_eq!(message(&mut client).await, b"genuine");
        }
        let info = client.info();
        let mut forged = packet(Operation::WriteOnlyImm, info.own.qpn, info.remote.psn.get().plus(32));
        forged.reth = Some(Reth { va: 0, rkey: 0, len: 0 });
        forged.immediate = Some(1);
        Injector::new().send(info.own.address, &forged, b"");
        let error = within(client.recv()).await.unwrap_err();
        assert!(
            matches!(error, SessionError::Operation { operation: "receive", status: Status::Flushed }),
            "{error}"
        );
    }
}

#[test]
fn a_forged_atomic_changes_a_counter_whether_the_session_is_sealed_or_not() {
    ATOMIC.play().as_ref().unwrap();
}

#[tokio::test]
async fn messages_that_had_arrived_before_a_forged_one_are_not_delivered_after_it() {
    let (_world, mut client, mut server) = session(Messages).await;
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
    is_over((Side::Server, &mut server), &mut client, &error).await;
}
