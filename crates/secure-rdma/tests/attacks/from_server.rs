//! What an attacker on the path does to messages of the server's, as `messages` does to the client's.

use crate::attack::{Attack, Played};
use crate::esp;
use crate::lab::{Side, assert_told, ended, goodbye, is_over, message, note, within};
use crate::messages::{both, same_immediate, seen_send, withhold};
use crate::middle::{Caught, Way};
use crate::packets::packet;
use secure_rdma::SessionError;
use secure_rdma::seal::SealError;

pub(crate) static LEFT_OUT: Attack = Attack::new(
    "forged ACK: a SEND of the server's withheld and acknowledged, later PSNs moved up",
    "T3",
    "every packet",
    left_out,
);
pub(crate) static CUT_OFF: Attack = Attack::new(
    "truncation: the server's last SEND withheld and acknowledged, then an orderly end",
    "T3",
    "every packet",
    cut_off,
);
pub(crate) static REFLECTED: Attack = Attack::new(
    "reflection: a server's own message sent back to it, as the client's first",
    "T3",
    "every packet",
    reflected,
);

fn left_out() -> Played {
    both(
        |path| esp::send_acknowledged(path, Way::ToClient),
        |path, open| {
            let (mut client, mut server) = path.session();
            path.run(async {
                server.send(b"first").await.unwrap();
                assert_eq!(message(&mut client).await, b"first");
                let withheld = withhold(path, server.info(), Caught::is_send_to_client);
                within(server.send(b"second")).await.unwrap();
                path.middle.let_pass();
                path.middle.leave_out(Way::ToClient, server.info(), withheld.lock().unwrap().len());
                server.send(b"third").await.unwrap();
                if open {
                    assert_eq!(message(&mut client).await, b"third");
                    let (left, stayed) = goodbye(client, server).await;
                    let error = left.unwrap_err();
                    assert!(
                        matches!(error, SessionError::Truncated { who: "the peer", sent: 3, arrived: 2 }),
                        "{error}"
                    );
                    assert_told(&error, &stayed.unwrap_err());
                    return format!(
                        "the server takes it for delivered; the next message is delivered after the gap, and only \
                         the goodbye fails {}",
                        note(&error)
                    );
                }
                let error = within(client.recv()).await.unwrap_err();
                assert!(matches!(error, SessionError::Forged(SealError::Message { counter: 1 })), "{error}");
                is_over((Side::Client, &mut client), &mut server, &error).await
            })
        },
    )
}

fn cut_off() -> Played {
    both(
        |path| esp::send_acknowledged(path, Way::ToClient),
        |path, _| {
            let (mut client, mut server) = path.session();
            path.run(async {
                server.send(b"first").await.unwrap();
                assert_eq!(message(&mut client).await, b"first");
                withhold(path, server.info(), Caught::is_send_to_client);
                within(server.send(b"last")).await.unwrap();
                let (left, stayed) = goodbye(server, client).await;
                let error = stayed.unwrap_err();
                assert!(
                    matches!(error, SessionError::Truncated { who: "the peer", sent: 2, arrived: 1 }),
                    "{error}"
                );
                assert_told(&error, &left.unwrap_err());
                ended(Side::Client, &error)
            })
        },
    )
}

fn reflected() -> Played {
    both(
        |path| esp::reflected(path, Way::ToClient),
        |path, open| {
            let (mut client, mut server) = path.session();
            path.run(async {
                server.send(b"who are you?").await.unwrap();
                assert_eq!(message(&mut client).await, b"who are you?");
                let own = seen_send(path, server.info());
                let info = client.info();
                let mut headers = packet(own.operation(), info.remote.qpn, info.own.psn.get());
                same_immediate(&own)(&mut headers);
                path.middle.send(&Caught { way: Way::ToServer, headers, payload: own.payload });
                if open {
                    assert_eq!(message(&mut server).await, b"who are you?");
                    return "the server gets it as the client's".into();
                }
                let error = within(server.recv()).await.unwrap_err();
                assert!(matches!(error, SessionError::Forged(SealError::Message { counter: 0 })), "{error}");
                is_over((Side::Server, &mut server), &mut client, &error).await
            })
        },
    )
}

#[test]
fn a_message_of_the_servers_left_out_fails_the_goodbye_of_an_open_session_and_ends_a_sealed_one_at_once() {
    let _ = LEFT_OUT.play();
}

#[test]
fn a_last_message_of_the_servers_is_missed_by_the_goodbye_of_any_session() {
    let _ = CUT_OFF.play();
}

#[test]
fn a_message_sent_back_to_the_server_is_delivered_in_an_open_session_and_ends_a_sealed_one() {
    let _ = REFLECTED.play();
}
