//! A2: ending a connection. Sealing can't prevent it: a queue pair takes the packet before anybody looks at its seal.

use crate::attack::{Attack, Outcome, Played};
use crate::esp;
use crate::lab::{BOTH, Side, quote, run, session, within};
use crate::memory::read_response;
use crate::middle::{Caught, Way};
use crate::packets::{answer, inject, request, reth};
use crate::path::Path;
use rdma_verbs::Status;
use rocev2::wire::{Headers, NakCode, Opcode, Operation, Syndrome};
use rocev2::{Psn, Qpn};
use secure_rdma::{Report, SealedBy, Session, SessionError};

pub(crate) static WRONG_KEY: Attack =
    Attack::new("A2: a forged WRITE with a wrong rkey", "T2, T3", "QPN, PSN", wrong_key);
pub(crate) static BAD_OPCODE: Attack =
    Attack::new("A2: a forged packet out of sequence of opcodes", "T2, T3", "QPN, PSN", bad_opcode);
pub(crate) static NAK: Attack =
    Attack::new("A2: a forged NAK, the request withheld", "T3", "every packet", nak);

pub(crate) static READ_LENGTH: Attack = Attack::new(
    "A2: a READ withheld, and answered in the server's name with a packet of a wrong length",
    "T3",
    "every packet",
    read_length,
);

/// A2 by a packet that the responder refuses for good.
fn refused(forged: impl Fn(&Session) -> Headers, status: Status) -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in BOTH {
            let (_world, mut client, mut server) = session(seal).await;
            inject(&client, &forged(&client), b"forged");
            let at_server = within(server.recv()).await.unwrap_err();
            let at_client = within(client.send(b"more")).await.unwrap_err();
            assert!(
                matches!(at_client, SessionError::Operation { status: found, .. } if found == status),
                "{at_client}"
            );
            words.push(over(&at_client, &at_server));
        }
        let by_packets =
            esp::forged(&[Side::Server], |client| vec![(forged(client), b"forged".to_vec())]).await;
        Ok(both(&words, &by_packets))
    })
}

fn over(at_client: &SessionError, at_server: &SessionError) -> String {
    format!("The client: {}; the server: {}", quote(at_client), quote(at_server))
}

/// The same on both paths.
fn both(words: &[String], by_packets: &str) -> Outcome {
    assert!(words.iter().all(|other| *other == words[0]), "{words:?}");
    Outcome::new(
        format!("the connection ends. {}", words[0]),
        "**works too**: ended, with the same errors; no wrong byte",
        by_packets,
    )
}

fn wrong_key() -> Played {
    let forged = |client: &Session| {
        let mut region = client.remote_region().unwrap();
        region.rkey ^= 1;
        let mut forged = request(client, Operation::WriteOnly, 0);
        forged.reth = reth(&region, 0, 6);
        forged
    };
    refused(forged, Status::RemoteAccess)
}

fn bad_opcode() -> Played {
    refused(|client| request(client, Operation::SendLast, 0), Status::RemoteInvalidRequest)
}

/// A2 from the other side: the requester believes whoever refuses.
fn nak() -> Played {
    let mut words = Vec::new();
    for seal in BOTH {
        let path = Path::new(seal)?;
        let (mut client, mut server) = path.session();
        let info = client.info().clone();
        path.middle.rule(move |caught, out| {
            if caught.is_send_to_server() {
                let headers = answer(&info, caught.psn(), Syndrome::Nak(NakCode::InvalidRequest));
                out.push(Caught { way: Way::ToClient, headers, payload: Vec::new() });
            } else {
                out.push(caught);
            }
        });
        words.push(path.run(async {
            let at_client = within(client.send(b"more")).await.unwrap_err();
            assert!(
                matches!(at_client, SessionError::Operation { status: Status::RemoteInvalidRequest, .. }),
                "{at_client}"
            );
            client.abort(at_client.clone()).await;
            let at_server = within(server.recv()).await.unwrap_err();
            assert_eq!(
                at_server.to_string(),
                format!("the peer ended the session: {}", Report::new(&at_client))
            );
            over(&at_client, &at_server)
        }));
    }
    Ok(both(&words, &esp::nak_instead(&Path::new(SealedBy::Packets)?)))
}

/// The packets of a READ's answer of several packets, one of which isn't as long as it has to be.
fn of_wrong_length(to: Qpn, psn: Psn, len: u32, wrong: usize) -> Vec<Caught> {
    let mut packets = read_response(to, psn, len);
    let last = packets.len() - 1;
    match wrong {
        0 => packets[last].payload.clear(),
        1 => drop(packets[last].payload.pop()),
        2 => packets[last].payload.push(b'X'),
        3 => drop(packets[0].payload.pop()),
        // The answer ends with its first packet.
        _ => {
            packets.truncate(1);
            packets[0].headers.bth.opcode = Opcode::rc(Operation::ReadResponseOnly);
        }
    }
    packets
}

/// A2 by an answer: the requester takes it for the peer's, and for nonsense. Nothing of it is given to the program.
fn read_length() -> Played {
    let mut words = Vec::new();
    for seal in BOTH {
        for wrong in 0..5 {
            let path = Path::new(seal)?;
            let (mut client, mut server) = path.session();
            let own = client.info().own.qpn;
            path.run(async {
                client.write(0, &[b'A'; 8192]).await.unwrap();
                path.middle.rule(move |caught, out| match (caught.operation(), caught.headers.reth) {
                    (Operation::ReadRequest, Some(reth)) => {
                        out.extend(of_wrong_length(own, caught.psn(), reth.len, wrong));
                    }
                    _ => out.push(caught),
                });
                let at_client = within(client.read(0, 8192)).await.unwrap_err();
                assert!(
                    matches!(at_client, SessionError::Operation { status: Status::BadResponse, .. }),
                    "{at_client}"
                );
                client.abort(at_client.clone()).await;
                let at_server = within(server.recv()).await.unwrap_err();
                words.push(over(&at_client, &at_server));
            });
        }
    }
    let forge = |to, psn| of_wrong_length(to, psn, 4096, 1).remove(0);
    let by_packets = esp::read_answered(&Path::new(SealedBy::Packets)?, forge);
    Ok(both(&words, &by_packets))
}

#[test]
fn a_read_response_of_a_wrong_length_ends_the_connection_and_nothing_of_it_is_read() {
    let _ = READ_LENGTH.play();
}

#[test]
fn a_forged_request_with_a_wrong_key_ends_the_connection_whether_it_is_sealed_or_not() {
    WRONG_KEY.play().as_ref().unwrap();
}

#[test]
fn a_forged_packet_with_an_opcode_that_does_not_fit_ends_the_connection_whether_it_is_sealed_or_not() {
    BAD_OPCODE.play().as_ref().unwrap();
}

#[test]
fn a_forged_nak_ends_the_connection_whether_it_is_sealed_or_not() {
    let _ = NAK.play();
}
