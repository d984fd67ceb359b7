//! Requests in the client's name. Soft-RoCE carries out what has the right numbers.

use super::path::counted;
use super::{Ends, both, ended, is_on_the_page, message, within};
use crate::guest::SLOW;
use crate::middle::{Caught, Way};
use crate::packets::{packet, request, reth};
use rocev2::wire::{AtomicEth, Headers, Operation};
use rocev2::{Psn, Qpn};
use secure_rdma::{SealedBy, Session, SessionError};
use std::time::Duration;

/// Bits of the PSN that an attacker off the path isn't told, and how many of the QPN.
const UNKNOWN: u32 = 6;

fn is_open(session: &Session) -> bool {
    session.info().sealed == SealedBy::Nothing
}

/// Such a request to the server.
pub(super) fn to_server(headers: Headers, payload: &[u8]) -> Caught {
    Caught { way: Way::ToServer, headers, payload: payload.to_vec() }
}

/// A message with that PSN.
pub(super) fn send(client: &Session, to: Qpn, psn: Psn) -> Caught {
    let operation = if is_open(client) { Operation::SendOnlyImm } else { Operation::SendOnly };
    let mut headers = packet(operation, to, psn);
    headers.immediate = is_open(client).then_some(1);
    to_server(headers, b"forged")
}

pub(super) fn write(client: &Session, behind: u32) -> Caught {
    let mut headers = request(client, Operation::WriteOnly, behind);
    headers.reth = reth(&client.remote_region().unwrap(), 0, 6);
    to_server(headers, b"forged")
}

pub(super) fn add(client: &Session, behind: u32, counter: u64) -> Caught {
    let counters = client.remote_counters().unwrap();
    let mut headers = request(client, Operation::FetchAdd, behind);
    let (va, rkey) = (counters.addr + 8 * counter, counters.rkey);
    headers.atomic = Some(AtomicEth { va, rkey, swap_or_add: 1000, compare: 0 });
    to_server(headers, b"")
}

pub(super) fn wrong_key(client: &Session, behind: u32) -> Caught {
    let mut write = write(client, behind);
    if let Some(reth) = &mut write.headers.reth {
        reth.rkey ^= 1;
    }
    write
}

/// Waits until memory of the server's is so.
async fn until(is_so: impl Fn() -> bool) {
    within(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// What became of a message that was forged: the server gets it, or ends the session.
async fn delivered(Ends { client, server }: &mut Ends) -> String {
    if is_open(client) {
        assert_eq!(message(server).await, b"forged");
        // Acknowledged, and never seen.
        within(client.send(b"genuine")).await.unwrap();
        within(client.send(b"next")).await.unwrap();
        assert_eq!(message(server).await, b"next");
        return "delivered as the client's; the genuine message with that PSN is acknowledged and never seen"
            .into();
    }
    ended("server", &within(server.recv()).await.unwrap_err())
}

#[test]
fn a_forged_send_is_delivered_in_an_open_session_and_ends_a_sealed_one() {
    let [open, messages] = both(async |path, ends| {
        let info = ends.client.info();
        path.middle.send(&send(&ends.client, info.remote.qpn, info.own.psn.get()));
        delivered(ends).await
    });
    is_on_the_page("A1: a forged SEND", ["T2, T3", "QPN, PSN"], [&open, &messages, super::DROPPED]);
}

/// Of all PSNs one is taken. The highest goes first: after the right one, lower ones are duplicates.
#[test]
fn of_all_guesses_at_a_psn_one_is_taken() {
    let [open, messages] = both(async |path, ends| {
        let (to, own) = (ends.client.info().remote.qpn, ends.client.info().own.psn.get());
        let known = own.get() & !((1 << UNKNOWN) - 1);
        for low in (0..1 << UNKNOWN).rev() {
            path.middle.send(&send(&ends.client, to, Psn::truncate(known | low)));
        }
        delivered(ends).await
    });
    let line = |words: &str| format!("of {} packets, all possibilities, one is taken: {words}", 1 << UNKNOWN);
    is_on_the_page(
        "the same, when 6 bits of the PSN aren't known",
        ["T2, T3", "QPN, 18 bits of the PSN"],
        [&line(&open), &line(&messages), super::DROPPED],
    );
}

/// The kernel's queue pairs have one number after another: whoever has one knows the next one's.
#[test]
fn the_next_sessions_queue_pair_has_the_next_number() {
    let [open, messages] = both(async |path, ends| {
        let first = ends.client.info().remote.qpn.get();
        let mut second = path.another().await;
        let own = second.client.info().own.psn.get();
        let distance = second.client.info().remote.qpn.get() - first;
        assert!((1..=4).contains(&distance), "{distance}");
        for guess in 1..=4 {
            path.middle.send(&send(&second.client, Qpn::truncate(first + guess), own));
        }
        delivered(&mut second).await
    });
    is_on_the_page(
        "the same to another's queue pair, whose number is guessed from one's own",
        ["T1 that is T2", "a session of its own, PSN"],
        [&open, &messages, super::DROPPED],
    );
}

#[test]
fn a_forged_write_changes_an_open_region_and_is_refused_where_a_sealed_one_is_opened() {
    let [open, messages] = both(async |path, Ends { client, server }| {
        path.middle.send(&write(client, 0));
        let region = server.region().unwrap();
        until(|| {
            let mut raw = [0; 6];
            region.read(0, &mut raw).unwrap();
            raw == *b"forged"
        })
        .await;
        let found = within(server.read_local(0, 6)).await;
        if is_open(client) {
            assert_eq!(found.unwrap(), b"forged");
            return "the server's program reads it as the client's".into();
        }
        ended("server", &found.unwrap_err())
    });
    is_on_the_page(
        "A1: a forged WRITE",
        ["T2, T3", "QPN, PSN, rkey, address"],
        [&open, &messages, super::DROPPED],
    );
}

#[test]
fn a_forged_atomic_changes_a_counter_but_where_packets_are_sealed() {
    let [open, messages] = both(async |path, Ends { client, server }| {
        path.middle.send(&add(client, 0, 0));
        let counters = server.counter_region().unwrap();
        until(|| {
            let mut word = [0; 8];
            counters.read(0, &mut word).unwrap();
            u64::from_ne_bytes(word) == 1000
        })
        .await;
        "the counter is changed".into()
    });
    assert_eq!(open, messages);
    let messages = format!("**works too**: {messages}. Only with `--counters on`");
    is_on_the_page(
        "A1: a forged FETCH ADD on a counter",
        ["T2, T3", "QPN, PSN, rkey, address"],
        [&open, &messages, super::DROPPED],
    );
}

/// The server's program is told that the connection has failed, and so is the client's, by whichever comes first.
async fn both_are_told(Ends { client, server }: &mut Ends) -> String {
    let at_server = within(server.recv()).await.unwrap_err();
    assert!(matches!(at_server, SessionError::Operation { .. }), "{at_server}");
    tokio::time::timeout(SLOW, client.send(b"more")).await.expect("in time").unwrap_err();
    "the connection ends".into()
}

#[test]
fn a_forged_request_with_a_wrong_key_or_opcode_ends_the_connection_whether_it_is_sealed_or_not() {
    type Forge = fn(&Session) -> Caught;
    let forged: [(&str, [&str; 2], Forge); 2] = [
        ("A2: a forged WRITE with a wrong rkey", ["T2, T3", "QPN, PSN"], |client| wrong_key(client, 0)),
        ("A2: a forged packet out of sequence of opcodes", ["T2, T3", "QPN, PSN"], |client| {
            to_server(request(client, Operation::SendLast, 0), b"forged")
        }),
    ];
    for (name, who, forge) in forged {
        let [open, messages] = both(async |path, ends| {
            path.middle.send(&forge(&ends.client));
            both_are_told(ends).await
        });
        assert_eq!(open, messages);
        let messages = "**works too**: ended; no wrong byte";
        is_on_the_page(name, who, [&open, messages, super::DROPPED]);
    }
}

/// The responder takes it for one whose acknowledgement was lost.
#[test]
fn a_repeated_packet_is_never_carried_out_twice() {
    const TIMES: u64 = 10;
    let [open, messages] = both(async |path, Ends { client, server }| {
        client.send(b"once").await.unwrap();
        assert_eq!(message(server).await, b"once");
        let seen = path.middle.seen();
        let old = seen.iter().find(|caught| caught.is_send_to_server()).unwrap();
        let before = counted("duplicate_request");
        (0..TIMES).for_each(|_| path.middle.send(old));
        until(|| counted("duplicate_request") >= before + TIMES).await;
        within(client.send(b"next")).await.unwrap();
        assert_eq!(message(server).await, b"next");
        "does nothing: not carried out, counted as `duplicate_request`; the session goes on".into()
    });
    is_on_the_page(
        "replay: a packet sent again as it was",
        ["T3", "every packet"],
        [&open, &messages, super::REPEATED],
    );
}
