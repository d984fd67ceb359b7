//! What is read, changed and put in again on the way.

use super::{Ends, both, ended, is_on_the_page, message, within};
use crate::middle::{Caught, Way};
use crate::packets::reth;
use rocev2::wire::{Headers, Operation};
use secure_rdma::{SealedBy, Session};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn is_open(session: &Session) -> bool {
    session.info().sealed == SealedBy::Nothing
}

#[test]
fn a_changed_message_is_delivered_in_an_open_session_and_ends_a_sealed_one() {
    let [open, messages] = both(async |path, Ends { client, server }| {
        path.middle.change(Caught::is_send_to_server, |caught| {
            let last = caught.payload.last_mut().unwrap();
            *last ^= 1;
        });
        within(client.send(b"pay 100")).await.unwrap();
        if is_open(client) {
            assert_eq!(message(server).await, b"pay 101");
            return "the server gets the changed message".into();
        }
        ended("server", &within(server.recv()).await.unwrap_err())
    });
    is_on_the_page("a SEND changed on the way", ["T3", "every packet"], [&open, &messages, super::CHANGED]);
}

#[test]
fn an_old_message_in_a_newer_ones_place_is_delivered_in_an_open_session_and_ends_a_sealed_one() {
    let [open, messages] = both(async |path, Ends { client, server }| {
        within(client.send(b"pay 100")).await.unwrap();
        assert_eq!(message(server).await, b"pay 100");
        let seen = path.middle.seen();
        let old = seen.iter().find(|caught| caught.is_send_to_server()).unwrap().payload.clone();
        path.middle.change(Caught::is_send_to_server, move |caught| caught.payload.clone_from(&old));
        within(client.send(b"goodbye")).await.unwrap();
        if is_open(client) {
            assert_eq!(message(server).await, b"pay 100");
            return "delivered a second time, in the place of a genuine message".into();
        }
        ended("server", &within(server.recv()).await.unwrap_err())
    });
    is_on_the_page(
        "replay: an old payload with the PSN that is expected",
        ["T3", "every packet"],
        [&open, &messages, super::CHANGED],
    );
}

/// The kernel answers whoever knows the numbers, and neither program is told.
#[test]
fn a_forged_read_yields_plaintext_in_an_open_session_and_ciphertext_in_a_sealed_one() {
    const SECRET: &[u8] = b"for the server's eyes only";
    let [open, messages] = both(async |path, Ends { client, server }| {
        within(client.write(0, SECRET)).await.unwrap();
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
        within(client.send(b"still there")).await.unwrap();
        assert_eq!(message(server).await, b"still there");
        assert_eq!(answers.lock().unwrap().starts_with(SECRET), is_open(client));
        if is_open(client) {
            "the attacker has the plaintext; neither program notices".into()
        } else {
            "the attacker has ciphertext; **neither program notices**".into()
        }
    });
    is_on_the_page(
        "A6: a forged READ, its answer read on the way",
        ["T3", "every packet"],
        [&open, &messages, super::DROPPED],
    );
}
