//! Counters that a server was told to offer even where they aren't sealed, and pauses in a peer's name.

use crate::attack::{Attack, Outcome, Played};
use crate::esp;
use crate::lab::{BOTH, Side, message, run, session, within};
use crate::middle::{Caught, Way};
use crate::packets::{answer, inject, packet, request};
use crate::path::Path;
use rocev2::wire::{Aeth, AtomicEth, Headers, Operation, Syndrome};
use rocev2::{Psn, Qpn};
use secure_rdma::Session;
use std::time::Duration;

pub(crate) static COMPARE_SWAP: Attack = Attack::new(
    "A1: a forged COMPARE SWAP on a counter",
    "T2, T3",
    "QPN, PSN, rkey, address, what the counter holds",
    compare_swap,
);
pub(crate) static ANSWERED: Attack =
    Attack::new("a FETCH ADD withheld, and answered in the server's name", "T3", "every packet", answered);
pub(crate) static RNR_NAK: Attack =
    Attack::new("a forged RNR NAK, the request withheld once", "T3", "every packet", rnr_nak);

/// How a session whose messages are sealed has counters at all.
const ONLY_IF_TOLD: &str = "Only with `--counters on`: else there are none where messages are sealed";

/// What a counter holds, as the server's memory has it.
fn counter(server: &Session) -> u64 {
    let mut word = [0; 8];
    server.counter_region().unwrap().read(0, &mut word).unwrap();
    u64::from_ne_bytes(word)
}

fn compare_swap() -> Played {
    run(async {
        let forge = |client: &Session, counter: u64, compare: u64| {
            let counters = client.remote_counters().unwrap();
            let mut forged = request(client, Operation::CompareSwap, 0);
            let (va, rkey) = (counters.addr + 8 * counter, counters.rkey);
            forged.atomic = Some(AtomicEth { va, rkey, swap_or_add: 1000, compare });
            forged
        };
        for seal in BOTH {
            let (_world, mut client, server) = session(seal).await;
            inject(&client, &forge(&client, 0, 0), b"");
            within(async {
                while counter(&server) != 1000 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            // The answer to the forged one, whose PSN it has.
            assert_eq!(within(client.compare_swap(0, 0, 5)).await.unwrap(), 0);
            assert_eq!(counter(&server), 1000);
        }
        let words =
            "the counter is changed; the client believes that it holds what the client has swapped in";
        let by_packets = esp::forged(&[Side::Server], |client| vec![(forge(client, 1, 0), Vec::new())]);
        Ok(Outcome::new(words, format!("**works too**: {words}. {ONLY_IF_TOLD}"), by_packets.await))
    })
}

/// The answer to an atomic operation.
fn atomic_answer(to: Qpn, psn: Psn, held: u64) -> Headers {
    let mut headers = packet(Operation::AtomicAcknowledge, to, psn);
    headers.aeth = Some(Aeth { syndrome: Syndrome::Ack { credits: Syndrome::NO_CREDITS }, msn: 0 });
    headers.atomic_ack = Some(held);
    headers
}

fn answered() -> Played {
    for seal in BOTH {
        let path = Path::new(seal)?;
        let (mut client, server) = path.session();
        let own = client.info().own.qpn;
        path.middle.rule(move |caught, out| match caught.operation() {
            Operation::FetchAdd => {
                let headers = atomic_answer(own, caught.psn(), 4242);
                out.push(Caught { way: Way::ToClient, headers, payload: Vec::new() });
            }
            _ => out.push(caught),
        });
        path.run(async {
            assert_eq!(within(client.fetch_add(0, 5)).await.unwrap(), 4242);
            assert_eq!(counter(&server), 0);
        });
    }
    let words = "the client believes the attacker's number; the counter is as before";
    let by_packets = run(esp::forged(&[Side::Client], |server| {
        let (qpn, psn) = (server.info().remote.qpn, server.info().remote.psn.get());
        (0..8).map(|ahead| (atomic_answer(qpn, psn.plus(ahead), 4242), Vec::new())).collect()
    }));
    Ok(Outcome::new(words, format!("**works too**: {words}. {ONLY_IF_TOLD}"), by_packets))
}

/// The longest pause that there is, 655 ms: code 0.
const LONGEST: Syndrome = Syndrome::RnrNak { timer: 0 };

fn rnr_nak() -> Played {
    for seal in BOTH {
        let path = Path::new(seal)?;
        let (mut client, mut server) = path.session();
        let info = client.info().clone();
        let mut refused = false;
        path.middle.rule(move |caught, out| {
            if caught.is_send_to_server() && !refused {
                refused = true;
                let headers = answer(&info, caught.psn(), LONGEST);
                out.push(Caught { way: Way::ToClient, headers, payload: Vec::new() });
            } else {
                out.push(caught);
            }
        });
        path.run(async {
            within(client.send(b"later")).await.unwrap();
            assert_eq!(message(&mut server).await, b"later");
            let requester = client.queue_pair().unwrap().counters.unwrap().requester;
            assert_eq!(requester.rnr_naks, 1);
        });
    }
    let words = "taken, and counted (`rnr_naks`): a pause of up to 0.65 s; sent again, it arrives";
    let by_packets = run(esp::forged(&[Side::Client], |server| {
        let remote = server.info().remote;
        let forge = |ahead| {
            let mut headers = packet(Operation::Acknowledge, remote.qpn, remote.psn.get().plus(ahead));
            headers.aeth = Some(Aeth { syndrome: LONGEST, msn: 0 });
            (headers, Vec::new())
        };
        (0..8).map(forge).collect()
    }));
    Ok(Outcome::new(words, words, by_packets))
}

#[test]
fn a_forged_compare_swap_changes_a_counter_but_where_packets_are_sealed() {
    COMPARE_SWAP.play().as_ref().unwrap();
}

#[test]
fn a_forged_answer_to_an_atomic_operation_is_believed_but_where_packets_are_sealed() {
    let _ = ANSWERED.play();
}

#[test]
fn a_forged_rnr_nak_is_a_pause_and_nothing_else() {
    let _ = RNR_NAK.play();
}
