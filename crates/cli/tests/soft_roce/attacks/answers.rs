//! Answers in the client's name, to messages that the server's kernel sends. Soft-RoCE believes them.

use super::{Ends, both, ended, is_on_the_page, message, within};
use crate::middle::{Caught, Way};
use crate::packets::answer;
use rdma_verbs::Status;
use rocev2::wire::{NakCode, Syndrome};
use secure_rdma::{SealedBy, SessionError};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

/// Has the server's messages withheld and answered; returns how many there were so far.
fn instead(path: &super::Path, Ends { server, .. }: &Ends, syndrome: Syndrome) -> Arc<Mutex<HashSet<u32>>> {
    let withheld: Arc<Mutex<HashSet<u32>>> = Arc::default();
    let (note, info) = (Arc::clone(&withheld), server.info().clone());
    path.middle.rule(move |caught, out| {
        if !caught.is_send_to_client() {
            return out.push(caught);
        }
        note.lock().unwrap().insert(caught.psn().get());
        let headers = answer(&info, caught.psn(), syndrome);
        out.push(Caught { way: Way::ToServer, headers, payload: Vec::new() });
    });
    withheld
}

#[test]
fn a_message_of_the_kernels_that_is_withheld_and_acknowledged_is_missed_where_it_is_sealed() {
    let [open, messages] = both(async |path, ends| {
        within(ends.server.send(b"first")).await.unwrap();
        assert_eq!(message(&mut ends.client).await, b"first");
        let withheld = instead(path, ends, Syndrome::Ack { credits: Syndrome::NO_CREDITS });
        within(ends.server.send(b"second")).await.unwrap();
        path.middle.let_pass();
        path.middle.leave_out(Way::ToClient, ends.server.info(), withheld.lock().unwrap().len());
        within(ends.server.send(b"third")).await.unwrap();
        if ends.client.info().sealed == SealedBy::Nothing {
            assert_eq!(message(&mut ends.client).await, b"third");
            return "the server takes it for delivered; the next message is delivered after the gap".into();
        }
        ended("client", &within(ends.client.recv()).await.unwrap_err())
    });
    is_on_the_page(
        "forged ACK: a SEND of the server's withheld and acknowledged, later PSNs moved up",
        ["T3", "every packet"],
        [&open, &messages, super::DROPPED],
    );
}

#[test]
fn a_forged_nak_ends_the_connection_whether_it_is_sealed_or_not() {
    let [open, messages] = both(async |path, ends| {
        let _ = instead(path, ends, Syndrome::Nak(NakCode::InvalidRequest));
        let error = within(ends.server.send(b"more")).await.unwrap_err();
        assert!(
            matches!(error, SessionError::Operation { status: Status::RemoteInvalidRequest, .. }),
            "{error}"
        );
        format!("the connection ends. The server: “{error}”")
    });
    assert_eq!(open, messages);
    is_on_the_page(
        "A2: a forged NAK, the server's SEND withheld",
        ["T3", "every packet"],
        [&open, "**works too**: ended, with the same error; no wrong byte", super::DROPPED],
    );
}
