//! A3 and A6: regions of memory (ReDMArk: unauthorized memory access, and one-sided access that nobody notices).

use crate::attack::{Attack, Outcome, Played};
use crate::esp;
use crate::lab::{ALL, BOTH, Side, Skipped, is_over, options, quote, run, within};
use crate::middle::{Caught, Way};
use crate::packets::{packet, reth};
use crate::path::Path;
use crate::world::World;
use rdma_verbs::{RemoteRegion, Status};
use rocev2::wire::{Aeth, Headers, Operation, Syndrome};
use rocev2::{Psn, Qpn};
use secure_rdma::SealedBy::{Nothing, Packets};
use secure_rdma::seal::SealError;
use secure_rdma::{SealedBy, Session, SessionError};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) static OTHERS: Attack =
    Attack::new("A3: another client's region, with its rkey and address", "T1", "rkey, address", others);
pub(crate) static OUTSIDE: Attack =
    Attack::new("A3: one's own rkey, an address outside the region", "T1", "its own session", outside);
pub(crate) static SPLICED: Attack = Attack::new(
    "A3: a part of a region put in another part's place, by a forged WRITE",
    "T3",
    "every packet",
    || overwritten(|written| &written[1], "BBBBB", &SealError::Slot { slot: 0 }),
);
pub(crate) static ROLLED_BACK: Attack =
    Attack::new("rollback: what was there before put back, by a forged WRITE", "T3", "every packet", || {
        overwritten(|written| &written[0], "AAAAA", &SealError::RolledBack { slot: 0 })
    });
pub(crate) static ROLLED_BACK_THERE: Attack = Attack::new(
    "rollback: the same, after the server's program has read the newer bytes",
    "T3",
    "every packet",
    rolled_back_there,
);
pub(crate) static ZEROED: Attack = Attack::new(
    "rollback: zeros, as if nothing had been written, by a forged WRITE",
    "T3",
    "every packet",
    || overwritten(|_| &[0; 4120], "\0\0\0\0\0", &SealError::RolledBack { slot: 0 }),
);
pub(crate) static ANOTHERS_SLOT: Attack = Attack::new(
    "splicing: a part of another client's region, by a forged WRITE",
    "T3",
    "every packet",
    || anothers_slot(Path::new, "the client reads the other's bytes as its own"),
);
pub(crate) static READ_CHANGED: Attack =
    Attack::new("a READ response changed on the way", "T3", "every packet", read_changed);
pub(crate) static READ_FORGED: Attack =
    Attack::new("a READ withheld, and answered in the server's name", "T3", "every packet", read_forged);
pub(crate) static READ_REPLAYED: Attack = Attack::new(
    "rollback: an older READ response in a newer one's place",
    "T3",
    "every packet",
    read_replayed,
);
pub(crate) static COVERT: Attack =
    Attack::new("A6: a forged READ, its answer read on the way", "T3", "every packet", covert);

/// A3 by a client of the same server, whose queue pair is in another protection domain.
fn others() -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in ALL {
            let mut world = World::with("127.0.0.1", options(seal), options(seal), |_| {}).await;
            let (mut victim, _served) = world.session().await;
            victim.write(0, b"mine").await.unwrap();
            let target = victim.remote_region().unwrap();
            for write in [true, false] {
                let (intruder, served) = world.session().await;
                words.push(intrude(intruder, served, &target, write).await);
            }
            assert_eq!(victim.read(0, 4).await.unwrap(), b"mine");
        }
        Ok(refused(&words, "; the other client is served on"))
    })
}

/// A3 by a client that leaves its own region.
fn outside() -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in ALL {
            let mut world = World::with("127.0.0.1", options(seal), options(seal), |_| {}).await;
            for (ahead, write) in [(true, true), (true, false), (false, true), (false, false)] {
                let (intruder, served) = world.session().await;
                let own = intruder.remote_region().unwrap();
                // Only its last byte, or its first, is outside.
                let addr = if ahead { own.addr + own.len - 3 } else { own.addr - 1 };
                words.push(intrude(intruder, served, &RemoteRegion { addr, ..own }, write).await);
            }
        }
        Ok(refused(&words, ""))
    })
}

/// What becomes of a client that reaches for 4 bytes of `target`.
async fn intrude(mut intruder: Session, mut served: Session, target: &RemoteRegion, write: bool) -> String {
    let result = match write {
        true => intruder.write_raw(target, 0, b"gone").await,
        false => intruder.read_raw(target, 0, 4).await.map(|_| ()),
    };
    let error = result.unwrap_err();
    assert!(matches!(error, SessionError::Operation { status: Status::RemoteAccess, .. }), "{error}");
    within(served.recv()).await.unwrap_err();
    quote(&error)
}

fn refused(words: &[String], end: &str) -> Outcome {
    let mut different = words.to_vec();
    different.sort();
    different.dedup();
    let words = format!("refused, and the attacker's connection ends: {}{end}", different.join(", "));
    Outcome::alike(&words)
}

/// What each WRITE of the client's wrote, in their order. Packets may have been sent again, and each may be a message
/// of its own: then one that begins where the one before it ended belongs to the same request.
fn written(seen: &[Caught]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut known = HashSet::new();
    let mut goes_on = None;
    let writes = seen.iter().filter(|caught| caught.operation().is_write());
    for caught in writes.filter(|caught| known.insert((caught.headers.bth.dest_qp, caught.psn()))) {
        let only = matches!(caught.operation(), Operation::WriteOnly);
        let va = caught.headers.reth.map(|reth| reth.va);
        if caught.operation().is_first_or_only() && (va.is_none() || va != goes_on) {
            all.push(Vec::new());
        }
        goes_on = va.filter(|_| only).map(|va| va + caught.payload.len() as u64);
        all.last_mut().expect("begun").extend(&caught.payload);
    }
    all
}

/// Forged WRITEs, each of a packet.
fn overwrite(path: &Path, client: &Session, offset: u64, bytes: &[u8]) {
    let region = client.remote_region().unwrap();
    for (piece, at) in bytes.chunks(4096).zip((offset..).step_by(4096)) {
        let fill = |headers: &mut Headers| headers.reth = reth(&region, at, piece.len());
        path.middle.put_in(client.info(), Operation::WriteOnly, fill, piece);
    }
}

/// A WRITE by whoever was told everything, where packets are sealed: what it would write doesn't matter.
fn forged_write(path: &Path) -> String {
    let (client, server) = path.session();
    let forge = esp::write(&client, b"forged");
    esp::forged_on_the_way(path, (client, server), forge)
}

/// The client writes one block, another behind it, and then something newer in the first one's place; that is
/// overwritten.
fn overwritten(with: fn(&[Vec<u8>]) -> &[u8], open: &str, sealed: &SealError) -> Played {
    let mut words = Vec::new();
    for seal in BOTH {
        let path = Path::new(seal)?;
        let (mut client, mut server) = path.session();
        words.push(path.run(async {
            for (offset, byte) in [(0, b'A'), (8192, b'B'), (0, b'C')] {
                client.write(offset, &[byte; 4096]).await.unwrap();
            }
            assert_eq!(within(client.read(0, 5)).await.unwrap(), b"CCCCC");
            let written = written(&path.middle.seen());
            assert_eq!(written.len(), 3);
            let bytes = with(&written);
            overwrite(&path, &client, 0, &bytes[..bytes.len().min(written[0].len())]);
            let found = within(client.read(0, 5)).await;
            if seal == Nothing {
                assert_eq!(found.unwrap(), open.as_bytes());
                return "the client reads it as what it wrote there last".into();
            }
            let error = found.unwrap_err();
            assert!(matches!(&error, SessionError::Forged(found) if found == sealed), "{error}");
            is_over((Side::Client, &mut client), &mut server, &error).await
        }));
    }
    Ok(Outcome::new(&*words[0], &*words[1], forged_write(&Path::new(Packets)?)))
}

/// The server's program can't know what it wasn't told, but it never goes back behind what it has seen.
fn rolled_back_there() -> Played {
    let mut words = Vec::new();
    for seal in BOTH {
        let path = Path::new(seal)?;
        let (mut client, mut server) = path.session();
        words.push(path.run(async {
            for byte in [b'A', b'B'] {
                client.write(0, &[byte; 4096]).await.unwrap();
            }
            assert_eq!(within(server.read_local(0, 5)).await.unwrap(), b"BBBBB");
            overwrite(&path, &client, 0, &written(&path.middle.seen())[0]);
            // When this is answered, the server's device has taken what came before it.
            within(client.fetch_add(0, 1)).await.unwrap();
            let found = within(server.read_local(0, 5)).await;
            if seal == Nothing {
                assert_eq!(found.unwrap(), b"AAAAA");
                return "the server's program reads it as the newest".into();
            }
            let error = found.unwrap_err();
            assert!(matches!(error, SessionError::Forged(SealError::RolledBack { slot: 0 })), "{error}");
            is_over((Side::Server, &mut server), &mut client, &error).await
        }));
    }
    Ok(Outcome::new(&*words[0], &*words[1], forged_write(&Path::new(Packets)?)))
}

/// Splicing between two sessions, of one client or two.
pub(crate) fn anothers_slot(on: fn(SealedBy) -> Result<Path, Skipped>, open: &str) -> Played {
    let mut words = Vec::new();
    for seal in BOTH {
        let path = on(seal)?;
        let (mut first, _at_server) = path.session();
        let (mut second, mut server) = path.session();
        words.push(path.run(async {
            first.write(0, &[b'A'; 4096]).await.unwrap();
            second.write(0, &[b'B'; 4096]).await.unwrap();
            let written = written(&path.middle.seen());
            overwrite(&path, &second, 0, &written[0]);
            let found = within(second.read(0, 5)).await;
            assert_eq!(within(first.read(0, 5)).await.unwrap(), b"AAAAA");
            if seal == Nothing {
                assert_eq!(found.unwrap(), b"AAAAA");
                return open.into();
            }
            let error = found.unwrap_err();
            assert!(matches!(error, SessionError::Forged(SealError::Slot { slot: 0 })), "{error}");
            is_over((Side::Client, &mut second), &mut server, &error).await
        }));
    }
    Ok(Outcome::new(&*words[0], &*words[1], forged_write(&on(Packets)?)))
}

fn read_changed() -> Played {
    let mut words = Vec::new();
    for seal in BOTH {
        let path = Path::new(seal)?;
        let (mut client, mut server) = path.session();
        words.push(path.run(async {
            client.write(0, &[b'A'; 4096]).await.unwrap();
            let first = |caught: &Caught| {
                caught.operation().is_read_response() && caught.operation().is_first_or_only()
            };
            path.middle.change(first, |caught| caught.payload[..5].copy_from_slice(b"wrong"));
            let found = within(client.read(0, 4096)).await;
            if seal == Nothing {
                assert_eq!(found.unwrap()[..10], *b"wrongAAAAA");
                return "the client reads the attacker's bytes".into();
            }
            let error = found.unwrap_err();
            assert!(matches!(error, SessionError::Forged(SealError::Slot { slot: 0 })), "{error}");
            is_over((Side::Client, &mut client), &mut server, &error).await
        }));
    }
    Ok(Outcome::new(&*words[0], &*words[1], esp::response_changed(&Path::new(Packets)?)))
}

/// The packets of an answer to the READ of `len` bytes with that PSN.
pub(crate) fn read_response(to: Qpn, psn: Psn, len: u32) -> Vec<Caught> {
    let bytes = vec![b'X'; usize::try_from(len).unwrap()];
    let packets: Vec<_> = bytes.chunks(4096).collect();
    let last = packets.len() - 1;
    let answer = packets.into_iter().zip(0_u32..).map(|(payload, at)| {
        let operation = match at {
            0 if last == 0 => Operation::ReadResponseOnly,
            0 => Operation::ReadResponseFirst,
            _ if usize::try_from(at).unwrap() == last => Operation::ReadResponseLast,
            _ => Operation::ReadResponseMiddle,
        };
        let mut headers = packet(operation, to, psn.plus(at));
        if operation != Operation::ReadResponseMiddle {
            let syndrome = Syndrome::Ack { credits: Syndrome::NO_CREDITS };
            headers.aeth = Some(Aeth { syndrome, msn: 0 });
        }
        Caught { way: Way::ToClient, headers, payload: payload.to_vec() }
    });
    answer.collect()
}

fn read_forged() -> Played {
    let mut words = Vec::new();
    for seal in BOTH {
        let path = Path::new(seal)?;
        let (mut client, mut server) = path.session();
        let own = client.info().own.qpn;
        path.middle.rule(move |caught, out| match (caught.operation(), caught.headers.reth) {
            (Operation::ReadRequest, Some(reth)) => out.extend(read_response(own, caught.psn(), reth.len)),
            _ => out.push(caught),
        });
        words.push(path.run(async {
            client.write(0, &[b'A'; 4096]).await.unwrap();
            let found = within(client.read(0, 4096)).await;
            if seal == Nothing {
                assert_eq!(found.unwrap(), [b'X'; 4096]);
                return "the client reads the attacker's bytes".into();
            }
            let error = found.unwrap_err();
            assert!(matches!(error, SessionError::Forged(SealError::Slot { slot: 0 })), "{error}");
            is_over((Side::Client, &mut client), &mut server, &error).await
        }));
    }
    let path = Path::new(Packets)?;
    let forge = |to, psn| read_response(to, psn, 4096).remove(0);
    Ok(Outcome::new(&*words[0], &*words[1], esp::read_answered(&path, forge)))
}

fn read_replayed() -> Played {
    let mut words = Vec::new();
    for seal in BOTH {
        let path = Path::new(seal)?;
        let (mut client, mut server) = path.session();
        words.push(path.run(async {
            client.write(0, &[b'A'; 4096]).await.unwrap();
            client.read(0, 4096).await.unwrap();
            let seen = path.middle.seen();
            let old = seen.into_iter().filter(|caught| caught.operation().is_read_response());
            let old: Vec<_> = old.map(|caught| (caught.operation(), caught.payload)).collect();
            client.write(0, &[b'B'; 4096]).await.unwrap();
            path.middle.change(
                |caught| caught.operation().is_read_response(),
                move |caught| {
                    let alike = old.iter().find(|(operation, _)| *operation == caught.operation());
                    caught.payload.clone_from(&alike.unwrap().1);
                },
            );
            let found = within(client.read(0, 4096)).await;
            if seal == Nothing {
                assert_eq!(found.unwrap(), [b'A'; 4096]);
                return "the client reads what it has overwritten".into();
            }
            let error = found.unwrap_err();
            assert!(matches!(error, SessionError::Forged(SealError::RolledBack { slot: 0 })), "{error}");
            is_over((Side::Client, &mut client), &mut server, &error).await
        }));
    }
    Ok(Outcome::new(&*words[0], &*words[1], esp::response(&Path::new(Packets)?)))
}

/// A6: whoever knows the numbers reads what he likes, and neither program is told. The client gets answers to
/// what it never asked, which its device refuses and counts.
fn covert() -> Played {
    const SECRET: &[u8] = b"for the server's eyes only";
    let mut words = Vec::new();
    for seal in BOTH {
        let path = Path::new(seal)?;
        let (mut client, mut server) = path.session();
        words.push(path.run(async {
            client.write(0, SECRET).await.unwrap();
            let region = client.remote_region().unwrap();
            let answers = Arc::new(Mutex::new(Vec::new()));
            let kept = Arc::clone(&answers);
            path.middle.rule(move |caught, out| {
                if caught.way == Way::ToClient && caught.operation().is_read_response() {
                    kept.lock().unwrap().extend(caught.payload);
                } else {
                    out.push(caught);
                }
            });
            let fill = |headers: &mut Headers| headers.reth = reth(&region, 0, 4000);
            path.middle.put_in(client.info(), Operation::ReadRequest, fill, b"");
            within(async {
                while answers.lock().unwrap().is_empty() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            path.middle.let_pass();
            // Both go on as if nothing had happened.
            assert_eq!(within(client.read(0, SECRET.len())).await.unwrap(), SECRET);
            client.send(b"still there").await.unwrap();
            assert_eq!(within(server.recv()).await.unwrap().unwrap(), b"still there");
            let answers = answers.lock().unwrap();
            answers.starts_with(SECRET)
        }));
    }
    assert_eq!(words, [true, false]);
    let path = Path::new(Packets)?;
    let ends = path.session();
    let region = ends.0.remote_region().unwrap();
    let (qpn, psn) = (ends.0.info().remote.qpn, ends.0.info().own.psn.get());
    let by_packets = esp::forged_on_the_way(&path, ends, |ahead| {
        let mut headers = packet(Operation::ReadRequest, qpn, psn.plus(ahead));
        headers.reth = reth(&region, 0, 4000);
        (headers, Vec::new())
    });
    Ok(Outcome::new(
        "the attacker has the plaintext; neither program notices",
        "the attacker has ciphertext; **neither program notices**",
        by_packets,
    ))
}

#[test]
fn another_clients_region_is_refused() {
    OTHERS.play().as_ref().unwrap();
}

#[test]
fn ones_own_key_does_not_reach_outside_the_region() {
    OUTSIDE.play().as_ref().unwrap();
}

#[test]
fn one_slot_in_anothers_place_is_noticed_where_it_is_sealed() {
    let _ = SPLICED.play();
}

#[test]
fn an_older_slot_is_noticed_where_it_is_sealed() {
    let _ = ROLLED_BACK.play();
}

#[test]
fn an_older_slot_is_noticed_by_the_server_that_has_seen_the_newer_one() {
    let _ = ROLLED_BACK_THERE.play();
}

#[test]
fn a_slot_that_was_zeroed_is_noticed_where_it_is_sealed() {
    let _ = ZEROED.play();
}

#[test]
fn another_clients_slot_is_noticed_where_it_is_sealed() {
    let _ = ANOTHERS_SLOT.play();
}

#[test]
fn a_changed_read_response_is_delivered_in_an_open_session_and_ends_a_sealed_one() {
    let _ = READ_CHANGED.play();
}

#[test]
fn a_forged_read_response_is_delivered_in_an_open_session_and_ends_a_sealed_one() {
    let _ = READ_FORGED.play();
}

#[test]
fn an_older_read_response_is_delivered_in_an_open_session_and_ends_a_sealed_one() {
    let _ = READ_REPLAYED.play();
}

#[test]
fn a_forged_read_yields_plaintext_in_an_open_session_and_ciphertext_in_a_sealed_one() {
    let _ = COVERT.play();
}
