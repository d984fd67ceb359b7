//! What an attacker on the path does to messages: reading, changing, replay, reflection, splicing,
//! reordering, truncation.

use crate::attack::{Attack, Outcome, Played};
use crate::esp::{self, Then};
use crate::lab::{
    BOTH, Side, Skipped, assert_told, ended, goodbye, is_over, message, note, options, silence, until, within,
};
use crate::middle::{Caught, Sealed, Way};
use crate::packets::{answer, packet};
use crate::path::Path;
use rocev2::Psn;
use rocev2::wire::{Headers, Syndrome};
use secure_rdma::SealedBy::{Messages, Nothing, Packets};
use secure_rdma::seal::{Limits, SealError};
use secure_rdma::{SealedBy, Session, SessionError, SessionInfo};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

const ACK: Syndrome = Syndrome::Ack { credits: Syndrome::NO_CREDITS };

pub(crate) static READ: Attack =
    Attack::new("eavesdropping on messages, WRITEs and READs", "T3", "every packet", read);
pub(crate) static CHANGED: Attack = Attack::new("a SEND changed on the way", "T3", "every packet", changed);
pub(crate) static REPLAYED: Attack =
    Attack::new("replay: a packet sent again as it was", "T3", "every packet", replayed);
pub(crate) static RESTAMPED: Attack = Attack::new(
    "replay: an old payload with the PSN that is expected (as an old packet has after 2^24 others)",
    "T3",
    "every packet",
    restamped,
);
pub(crate) static OLD_SESSION: Attack =
    Attack::new("replay: a whole session's packets, in a later session", "T3", "every packet", old_session);
pub(crate) static ADDRESSED_ANEW: Attack = Attack::new(
    "replay: the same, with the later session's QPN and PSN",
    "T3",
    "every packet",
    addressed_anew,
);
pub(crate) static REFLECTED: Attack =
    Attack::new("reflection: a client's own message sent back to it", "T3", "every packet", reflected);
pub(crate) static SPLICED: Attack =
    Attack::new("splicing: one client's message in another's session", "T3", "every packet", || {
        spliced(Path::new)
    });
pub(crate) static REORDERED: Attack =
    Attack::new("reordering: the payloads of two packets exchanged", "T3", "every packet", reordered);
pub(crate) static LEFT_OUT: Attack = Attack::new(
    "forged ACK: a SEND withheld and acknowledged, later PSNs moved up",
    "T3",
    "every packet",
    left_out,
);
pub(crate) static CUT_OFF: Attack = Attack::new(
    "truncation: the last SEND withheld and acknowledged, then an orderly end",
    "T3",
    "every packet",
    cut_off,
);
pub(crate) static WRITE_LOST: Attack = Attack::new(
    "forged ACK: a WRITE withheld and acknowledged, later PSNs moved up",
    "T3",
    "every packet",
    write_lost,
);

pub(crate) static WRITE_WITHHELD: Attack = Attack::new(
    "forged ACK: the same, then a message, and nobody but the server reads",
    "T3",
    "every packet",
    write_withheld,
);
pub(crate) static WRITE_CUT_OFF: Attack = Attack::new(
    "forged ACK: the same, then an orderly end, after which the server reads",
    "T3",
    "every packet",
    write_cut_off,
);
pub(crate) static WRITE_MISSED: Attack = Attack::new(
    "forged ACK: the same, then an orderly end, and the server has read before and doesn't again",
    "T3",
    "every packet",
    write_missed,
);
pub(crate) static NOTE_CUT_OFF: Attack = Attack::new(
    "forged ACK: the same, and what the client tells of its WRITE withheld and acknowledged too",
    "T3",
    "every packet",
    note_cut_off,
);

pub(crate) static ELSEWHERE: Attack = Attack::new(
    "a client's packets sent on from another address, the numbers all right",
    "T3",
    "every packet",
    elsewhere,
);
pub(crate) static OLD_KEYS: Attack =
    Attack::new("replay: the same, when there are new keys", "T3", "every packet", old_keys);

pub(crate) static MADE_UP: Attack =
    Attack::new("A1: a made-up ESP packet, with the next number", "T3", "every packet", made_up);

/// Plays on each kind of path, and returns what is said of it: `play` where packets aren't sealed.
pub(crate) fn both(by_packets: fn(&Path) -> String, play: impl Fn(&Path, bool) -> String) -> Played {
    both_on(Path::new, by_packets, play)
}

/// The same on these paths.
pub(crate) fn both_on(
    on: impl Fn(SealedBy) -> Result<Path, Skipped>,
    by_packets: fn(&Path) -> String,
    play: impl Fn(&Path, bool) -> String,
) -> Played {
    let mut words = Vec::new();
    for seal in BOTH {
        words.push(play(&on(seal)?, seal == Nothing));
    }
    Ok(Outcome::new(&*words[0], &*words[1], by_packets(&on(Packets)?)))
}

/// The server refuses what it gets as the client's fragment with that number.
pub(crate) async fn refused_by_server(server: &mut Session, client: &mut Session, number: u64) -> String {
    let error = within(server.recv()).await.unwrap_err();
    assert!(
        matches!(error, SessionError::Forged(SealError::Message { counter }) if counter == number),
        "{error}"
    );
    is_over((Side::Server, server), client, &error).await
}

/// A message of that side's, as it was seen on the way.
pub(crate) fn seen_send(path: &Path, sender: &SessionInfo) -> Caught {
    let seen = path.middle.seen();
    let mut sends = seen.into_iter().filter(|caught| caught.operation().is_send());
    sends.find(|caught| caught.headers.bth.dest_qp == sender.remote.qpn).expect("a message was sent")
}

pub(crate) fn same_immediate(caught: &Caught) -> impl FnOnce(&mut Headers) + use<> {
    let immediate = caught.headers.immediate;
    move |headers| headers.immediate = immediate
}

fn read() -> Played {
    const SECRETS: [&[u8]; 2] = [b"a message for nobody else", b"written for nobody else"];
    both(esp::eavesdropping, |path, open| {
        let (mut client, mut server) = path.session();
        path.run(async {
            client.send(SECRETS[0]).await.unwrap();
            assert_eq!(message(&mut server).await, SECRETS[0]);
            client.write(0, SECRETS[1]).await.unwrap();
            assert_eq!(client.read(0, SECRETS[1].len()).await.unwrap(), SECRETS[1]);
        });
        let seen = path.middle.seen();
        for (secret, times) in SECRETS.into_iter().zip([1, 2]) {
            let holds =
                |caught: &&Caught| caught.payload.windows(secret.len()).any(|window| window == secret);
            let found = seen.iter().filter(holds).count();
            // Packets may be sent again.
            assert!(if open { found >= times } else { found == 0 }, "{found}");
        }
        if open { "every byte is in the packets" } else { "not a byte of it is in the packets" }.into()
    })
}

fn changed() -> Played {
    both(esp::changed, |path, open| {
        let (mut client, mut server) = path.session();
        path.middle.change(Caught::is_send_to_server, |caught| {
            let last = caught.payload.last_mut().unwrap();
            *last ^= 1;
        });
        path.run(async {
            within(client.send(b"pay 100")).await.unwrap();
            if open {
                assert_eq!(message(&mut server).await, b"pay 101");
                return "the server gets the changed message".into();
            }
            refused_by_server(&mut server, &mut client, 0).await
        })
    })
}

/// The responder takes it for one whose acknowledgement was lost.
fn replayed() -> Played {
    const TIMES: u64 = 100;
    both(esp::as_it_was, |path, _| {
        let (mut client, mut server) = path.session();
        let before = path.counted("duplicate_request");
        path.run(async {
            client.send(b"once").await.unwrap();
            assert_eq!(message(&mut server).await, b"once");
            let old = seen_send(path, client.info());
            (0..TIMES).for_each(|_| path.middle.send(&old));
            // The client may have sent something again by itself.
            until(|| path.counted("duplicate_request") >= before + TIMES).await;
            silence(&mut server).await;
        });
        path.run(async {
            client.send(b"next").await.unwrap();
            assert_eq!(message(&mut server).await, b"next");
            let (left, stayed) = goodbye(client, server).await;
            left.unwrap();
            stayed.unwrap();
        });
        REPLAYED_IN_CLEAR.into()
    })
}

const REPLAYED_IN_CLEAR: &str =
    "does nothing: acknowledged again, not carried out, counted as `duplicate_request`; the session goes on";

/// Where packets aren't sealed, what is in them is under older keys, and the packet is a duplicate before that.
fn old_keys() -> Played {
    let mut words = Vec::new();
    for seal in BOTH {
        let path = Path::with(seal, options(seal).key_limits(Limits { records: 4, bytes: u64::MAX }))?;
        let (mut client, mut server) = path.session();
        let before = path.counted("duplicate_request");
        path.run(async {
            for _ in 0..20 {
                client.send(b"over and over").await.unwrap();
                assert_eq!(message(&mut server).await, b"over and over");
            }
            let old = seen_send(&path, client.info());
            path.middle.send(&old);
            until(|| path.counted("duplicate_request") > before).await;
            silence(&mut server).await;
            client.send(b"next").await.unwrap();
            assert_eq!(message(&mut server).await, b"next");
        });
        words.push(REPLAYED_IN_CLEAR);
    }
    let limits = Limits { records: esp::PACKETS, bytes: u64::MAX };
    let path = Path::with(Packets, options(Packets).key_limits(limits))?;
    Ok(Outcome::new(words[0], words[1], esp::after_new_keys(&path)))
}

/// Where packets aren't sealed, no SPI is known.
fn made_up() -> Played {
    both(esp::made_up, |path, _| {
        let (mut client, mut server) = path.session();
        let mut bytes = vec![0; 100];
        bytes[..4].copy_from_slice(&[0xc5, 0x08, 0, 7]);
        (0..100).for_each(|_| path.middle.send_sealed(&Sealed { way: Way::ToServer, bytes: bytes.clone() }));
        path.run(async {
            until(|| path.counted("esp_unknown_spi") >= 100).await;
            silence(&mut server).await;
            client.send(b"genuine").await.unwrap();
            assert_eq!(message(&mut server).await, b"genuine");
        });
        assert_eq!(path.counted("esp_unknown_spi"), 100);
        "nothing: refused and counted (`esp_unknown_spi`)".into()
    })
}

#[test]
fn a_made_up_sealed_packet_is_refused() {
    let _ = MADE_UP.play();
}

/// The ICRC has no key: whoever sends it on makes it right for the new address.
fn elsewhere() -> Played {
    both(esp::readdressed, |path, _| {
        let (mut client, mut server) = path.session();
        let before = path.counted("wrong_address");
        path.middle.readdress(true);
        path.run(async {
            client.post_send(b"from elsewhere").await.unwrap();
            until(|| path.counted("wrong_address") > before).await;
            silence(&mut server).await;
            path.middle.readdress(false);
            assert_eq!(message(&mut server).await, b"from elsewhere");
        });
        "nothing: refused and counted (`wrong_address`); sent again, it arrives".into()
    })
}

fn restamped() -> Played {
    both(esp::relabelled, |path, open| {
        let (mut client, mut server) = path.session();
        path.run(async {
            client.send(b"pay 100").await.unwrap();
            assert_eq!(message(&mut server).await, b"pay 100");
            let old = seen_send(path, client.info()).payload;
            path.middle.change(Caught::is_send_to_server, move |caught| caught.payload.clone_from(&old));
            within(client.send(b"goodbye")).await.unwrap();
            if open {
                assert_eq!(message(&mut server).await, b"pay 100");
                return "delivered a second time, in the place of a genuine message".into();
            }
            refused_by_server(&mut server, &mut client, 1).await
        })
    })
}

fn old_session() -> Played {
    both(esp::old_session, |path, _| {
        let (mut client, mut server) = path.session();
        let old = path.run(async {
            client.send(b"pay 100").await.unwrap();
            assert_eq!(message(&mut server).await, b"pay 100");
            client.write(0, b"paid").await.unwrap();
            let seen = path.middle.seen();
            let (left, stayed) = goodbye(client, server).await;
            left.unwrap();
            stayed.unwrap();
            seen.into_iter().filter(|caught| caught.way == Way::ToServer).collect::<Vec<_>>()
        });
        let before = path.counted("unknown_queue_pair");
        let (mut client, mut server) = path.session();
        for caught in &old {
            path.middle.send(caught);
        }
        path.run(async {
            until(|| path.counted("unknown_queue_pair") >= before + old.len() as u64).await;
            silence(&mut server).await;
            client.send(b"new").await.unwrap();
            assert_eq!(message(&mut server).await, b"new");
            assert_eq!(client.read(0, 4).await.unwrap(), [0; 4]);
        });
        "does nothing: the QPN is another; every packet is counted as `unknown_queue_pair`".into()
    })
}

fn addressed_anew() -> Played {
    both(esp::into_another_session, |path, open| {
        let (mut client, mut server) = path.session();
        let old = path.run(async {
            client.send(b"pay 100").await.unwrap();
            assert_eq!(message(&mut server).await, b"pay 100");
            seen_send(path, client.info())
        });
        drop((client, server));
        let (mut client, mut server) = path.session();
        path.middle.put_in(client.info(), old.operation(), same_immediate(&old), &old.payload);
        path.run(async {
            if open {
                assert_eq!(message(&mut server).await, b"pay 100");
                return "delivered in the later session".into();
            }
            refused_by_server(&mut server, &mut client, 0).await
        })
    })
}

fn reflected() -> Played {
    both(
        |path| esp::reflected(path, Way::ToServer),
        |path, open| {
            let (mut client, mut server) = path.session();
            path.run(async {
                client.send(b"who are you?").await.unwrap();
                assert_eq!(message(&mut server).await, b"who are you?");
                let own = seen_send(path, client.info());
                let info = client.info();
                let mut headers = packet(own.operation(), info.own.qpn, info.remote.psn.get());
                same_immediate(&own)(&mut headers);
                path.middle.send(&Caught { way: Way::ToClient, headers, payload: own.payload });
                if open {
                    assert_eq!(message(&mut client).await, b"who are you?");
                    return "the client gets it as the server's".into();
                }
                let error = within(client.recv()).await.unwrap_err();
                assert!(matches!(error, SessionError::Forged(SealError::Message { counter: 0 })), "{error}");
                is_over((Side::Client, &mut client), &mut server, &error).await
            })
        },
    )
}

/// Two sessions, of one client or two.
pub(crate) fn spliced(on: fn(SealedBy) -> Result<Path, Skipped>) -> Played {
    both_on(on, esp::into_another_client, |path, open| {
        let (mut first, mut at_first) = path.session();
        let (mut second, mut at_second) = path.session();
        path.run(async {
            first.send(b"I am first").await.unwrap();
            assert_eq!(message(&mut at_first).await, b"I am first");
            let firsts = seen_send(path, first.info());
            path.middle.put_in(second.info(), firsts.operation(), same_immediate(&firsts), &firsts.payload);
            if open {
                assert_eq!(message(&mut at_second).await, b"I am first");
                return "delivered as the other session's".into();
            }
            let words = refused_by_server(&mut at_second, &mut second, 0).await;
            first.send(b"still here").await.unwrap();
            assert_eq!(message(&mut at_first).await, b"still here");
            words
        })
    })
}

/// Exchanges what two packets of the client's hold, the next ones of different PSNs. Returns what fills the fragments
/// of a message so that both have the same length.
pub(crate) fn exchange_next(path: &Path, open: bool) -> [Vec<u8>; 2] {
    let mut held: Option<Caught> = None;
    let mut exchanged = false;
    path.middle.rule(move |mut caught, out| {
        if !caught.is_send_to_server() || exchanged {
            return out.push(caught);
        }
        match &mut held {
            Some(first) if first.psn() != caught.psn() => {
                core::mem::swap(&mut first.payload, &mut caught.payload);
                out.push(first.clone());
                out.push(caught);
                exchanged = true;
            }
            _ => held = Some(caught),
        }
    });
    // Sealed, they have 20 bytes more.
    let half = if open { 4096 } else { 4096 - 20 };
    [vec![b'A'; half], vec![b'B'; half]]
}

fn reordered() -> Played {
    both(esp::exchanged, |path, open| {
        let (mut client, mut server) = path.session();
        let halves = exchange_next(path, open);
        path.run(async {
            within(client.send(&halves.concat())).await.unwrap();
            if open {
                let [first, second] = &halves;
                assert_eq!(message(&mut server).await, [&second[..], first].concat());
                return "the server gets the message with its halves exchanged".into();
            }
            refused_by_server(&mut server, &mut client, 0).await
        })
    })
}

/// Withholds all requests of a kind and tells who made them that they have arrived; returns their PSNs.
pub(crate) fn withhold(
    path: &Path,
    asker: &SessionInfo,
    which: fn(&Caught) -> bool,
) -> Arc<Mutex<HashSet<Psn>>> {
    let withheld = Arc::new(Mutex::new(HashSet::new()));
    let (noted, info) = (Arc::clone(&withheld), asker.clone());
    path.middle.rule(move |caught, out| {
        if !which(&caught) {
            return out.push(caught);
        }
        noted.lock().unwrap().insert(caught.psn());
        let headers = answer(&info, caught.psn(), ACK);
        out.push(Caught { way: caught.way.back(), headers, payload: Vec::new() });
    });
    withheld
}

fn left_out() -> Played {
    both(
        |path| esp::send_acknowledged(path, Way::ToServer),
        |path, open| {
            let (mut client, mut server) = path.session();
            path.run(async {
            client.send(b"first").await.unwrap();
            assert_eq!(message(&mut server).await, b"first");
            let withheld = withhold(path, client.info(), Caught::is_send_to_server);
            // For the client it is done.
            within(client.send(b"second")).await.unwrap();
            path.middle.let_pass();
            path.middle.leave_out(Way::ToServer, client.info(), withheld.lock().unwrap().len());
            client.send(b"third").await.unwrap();
            if open {
                assert_eq!(message(&mut server).await, b"third");
                let (left, stayed) = goodbye(client, server).await;
                let error = stayed.unwrap_err();
                assert!(
                    matches!(error, SessionError::Truncated { who: "the peer", sent: 3, arrived: 2 }),
                    "{error}"
                );
                assert_told(&error, &left.unwrap_err());
                return format!(
                    "the sender takes it for delivered; the next message is delivered after the gap, and only \
                     the goodbye fails {}",
                    note(&error)
                );
            }
            refused_by_server(&mut server, &mut client, 1).await
        })
        },
    )
}

fn cut_off() -> Played {
    both(
        |path| esp::send_acknowledged(path, Way::ToServer),
        |path, _| {
            let (mut client, mut server) = path.session();
            path.run(async {
                client.send(b"first").await.unwrap();
                assert_eq!(message(&mut server).await, b"first");
                withhold(path, client.info(), Caught::is_send_to_server);
                within(client.send(b"last")).await.unwrap();
                let (left, stayed) = goodbye(client, server).await;
                let error = stayed.unwrap_err();
                assert!(
                    matches!(error, SessionError::Truncated { who: "the peer", sent: 2, arrived: 1 }),
                    "{error}"
                );
                assert_told(&error, &left.unwrap_err());
                ended(Side::Server, &error)
            })
        },
    )
}

/// A client overwrites a slot, as it believes: that WRITE is withheld, and the PSNs of what it sends later
/// are moved up.
async fn overwritten(path: &Path, client: &mut Session, server: &mut Session) {
    client.write(0, &[b'A'; 4096]).await.unwrap();
    let withheld = withhold(path, client.info(), |caught| caught.operation().is_write());
    within(client.write(0, &[b'B'; 4096])).await.unwrap();
    path.middle.let_pass();
    path.middle.leave_out(Way::ToServer, client.info(), withheld.lock().unwrap().len());
    // Nobody has told the server yet.
    assert_eq!(within(server.read_local(0, 5)).await.unwrap(), b"AAAAA");
}

fn write_withheld() -> Played {
    both(
        |path| esp::write_acknowledged(path, Then::Message),
        |path, open| {
            let (mut client, mut server) = path.session();
            path.run(async {
                overwritten(path, &mut client, &mut server).await;
                client.send(b"written").await.unwrap();
                assert_eq!(message(&mut server).await, b"written");
                let found = within(server.read_local(0, 5)).await;
                if open {
                    assert_eq!(found.unwrap(), b"AAAAA");
                    let (left, stayed) = goodbye(client, server).await;
                    left.unwrap();
                    stayed.unwrap();
                    return "the server's program reads what was there before, and neither side ever notices"
                        .into();
                }
                let error = found.unwrap_err();
                assert!(matches!(error, SessionError::Forged(SealError::Withheld { slot: 0 })), "{error}");
                is_over((Side::Server, &mut server), &mut client, &error).await
            })
        },
    )
}

fn write_cut_off() -> Played {
    both(
        |path| esp::write_acknowledged(path, Then::End),
        |path, open| {
            let (mut client, mut server) = path.session();
            path.run(async {
                overwritten(path, &mut client, &mut server).await;
                let read = async {
                    assert!(server.recv().await.unwrap().is_none());
                    let found = server.read_local(0, 5).await;
                    if open {
                        server.close().await.unwrap();
                    }
                    found
                };
                let (left, found) = within(async { tokio::join!(client.close(), read) }).await;
                if open {
                    assert_eq!(found.unwrap(), b"AAAAA");
                    left.unwrap();
                    return "both sides end in good order; the server's program has read what was there before"
                    .into();
                }
                let error = found.unwrap_err();
                assert!(matches!(error, SessionError::Forged(SealError::Withheld { slot: 0 })), "{error}");
                assert_told(&error, &left.unwrap_err());
                ended(Side::Server, &error)
            })
        },
    )
}

fn write_missed() -> Played {
    both(
        |path| esp::write_acknowledged(path, Then::End),
        |path, open| {
            let (mut client, mut server) = path.session();
            path.run(async {
                overwritten(path, &mut client, &mut server).await;
                let (left, stayed) = goodbye(client, server).await;
                if open {
                    left.unwrap();
                    stayed.unwrap();
                    return "both sides end in good order; the server's program has read what was there before"
                    .into();
                }
                let error = stayed.unwrap_err();
                assert!(matches!(error, SessionError::Forged(SealError::Withheld { slot: 0 })), "{error}");
                assert_told(&error, &left.unwrap_err());
                format!(
                    "the server's program, which wasn't told yet, has read older bytes of the client's; at \
                the end, {}",
                    ended(Side::Server, &error).trim_start_matches("no wrong byte; ")
                )
            })
        },
    )
}

fn note_cut_off() -> Played {
    both(
        |path| esp::write_acknowledged(path, Then::End),
        |path, open| {
            let (mut client, mut server) = path.session();
            path.run(async {
                overwritten(path, &mut client, &mut server).await;
                withhold(path, client.info(), Caught::is_send_to_server);
                let (left, stayed) = goodbye(client, server).await;
                if open {
                    left.unwrap();
                    stayed.unwrap();
                    return "a client tells of nothing; both sides end in good order".into();
                }
                let error = stayed.unwrap_err();
                assert!(
                    matches!(error, SessionError::Truncated { who: "the peer", sent: 1, arrived: 0 }),
                    "{error}"
                );
                assert_told(&error, &left.unwrap_err());
                ended(Side::Server, &error)
            })
        },
    )
}

fn write_lost() -> Played {
    both(
        |path| esp::write_acknowledged(path, Then::Read),
        |path, open| {
            let (mut client, mut server) = path.session();
            path.run(async {
                client.write(0, &[b'A'; 4096]).await.unwrap();
                let withheld = withhold(path, client.info(), |caught| caught.operation().is_write());
                within(client.write(0, &[b'B'; 4096])).await.unwrap();
                path.middle.let_pass();
                path.middle.leave_out(Way::ToServer, client.info(), withheld.lock().unwrap().len());
                let found = within(client.read(0, 5)).await;
                if open {
                    assert_eq!(found.unwrap(), b"AAAAA");
                    return "the client takes it for written, and reads the old bytes back".into();
                }
                let error = found.unwrap_err();
                assert!(matches!(error, SessionError::Forged(SealError::RolledBack { slot: 0 })), "{error}");
                is_over((Side::Client, &mut client), &mut server, &error).await
            })
        },
    )
}

#[test]
fn packets_hold_everything_in_an_open_session_and_nothing_in_a_sealed_one() {
    let _ = READ.play();
}

#[test]
fn a_changed_message_is_delivered_in_an_open_session_and_ends_a_sealed_one() {
    let _ = CHANGED.play();
}

#[test]
fn a_repeated_packet_is_never_carried_out_twice() {
    let _ = REPLAYED.play();
}

#[test]
fn a_repeated_packet_is_not_carried_out_under_new_keys_either() {
    let _ = OLD_KEYS.play();
}

#[test]
fn a_packet_from_another_address_than_the_peers_is_refused() {
    let _ = ELSEWHERE.play();
}

#[test]
fn a_repeated_payload_with_a_new_psn_is_delivered_in_an_open_session_and_ends_a_sealed_one() {
    let _ = RESTAMPED.play();
}

#[test]
fn another_sessions_packets_find_no_queue_pair() {
    let _ = OLD_SESSION.play();
}

#[test]
fn another_sessions_messages_are_delivered_in_an_open_session_and_end_a_sealed_one() {
    let _ = ADDRESSED_ANEW.play();
}

#[test]
fn a_message_sent_back_is_delivered_in_an_open_session_and_ends_a_sealed_one() {
    let _ = REFLECTED.play();
}

#[test]
fn another_clients_message_is_delivered_in_an_open_session_and_ends_a_sealed_one() {
    let _ = SPLICED.play();
}

#[test]
fn exchanged_packets_are_delivered_in_an_open_session_and_end_a_sealed_one() {
    let _ = REORDERED.play();
}

#[test]
fn a_message_left_out_fails_the_goodbye_of_an_open_session_and_ends_a_sealed_one_at_once() {
    let _ = LEFT_OUT.play();
}

#[test]
fn a_message_cut_off_at_the_end_is_missed_by_the_goodbye_of_any_session() {
    let _ = CUT_OFF.play();
}

/// Where nobody looks for messages any more, the goodbyes' counts alone tell.
#[test]
fn a_message_cut_off_at_the_end_is_missed_by_a_side_that_leaves_without_looking() {
    let Ok(path) = Path::new(Messages) else { return };
    let (mut client, server) = path.session();
    path.run(async {
        withhold(&path, client.info(), Caught::is_send_to_server);
        within(client.send(b"last")).await.unwrap();
        let (left, stayed) = within(async { tokio::join!(client.close(), server.close()) }).await;
        let error = stayed.unwrap_err();
        assert!(matches!(error, SessionError::Truncated { who: "the peer", sent: 1, arrived: 0 }), "{error}");
        assert_told(&error, &left.unwrap_err());
    });
}

#[test]
fn a_lost_write_is_unnoticed_in_an_open_session_and_missed_by_the_reader_of_a_sealed_one_after_a_message() {
    let _ = WRITE_WITHHELD.play();
}

#[test]
fn a_lost_write_is_unnoticed_in_an_open_session_and_missed_by_the_reader_of_a_sealed_one_after_its_end() {
    let _ = WRITE_CUT_OFF.play();
}

#[test]
fn a_write_that_never_arrived_goes_unnoticed_in_an_open_session_and_is_missed_at_the_end_of_a_sealed_one() {
    let _ = WRITE_MISSED.play();
}

#[test]
fn what_a_client_tells_of_its_writes_is_missed_when_it_never_arrived() {
    let _ = NOTE_CUT_OFF.play();
}

#[test]
fn a_write_that_never_arrived_goes_unnoticed_in_an_open_session_and_is_noticed_by_the_next_read_of_a_sealed_one()
 {
    let _ = WRITE_LOST.play();
}
