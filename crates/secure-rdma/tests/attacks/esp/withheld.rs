//! Requests that are withheld, and answered in the peer's name.

use super::{PSNS, refuses, unharmed};
use crate::lab::{Side, goodbye, message, within};
use crate::middle::{Caught, Way};
use crate::packets::answer;
use crate::path::Path;
use rocev2::wire::{Aeth, NakCode, Syndrome};
use rocev2::{Psn, Qpn};
use secure_rdma::Session;
use std::time::Duration;

/// What the programs do when the request has arrived after all.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// The client reads.
    Read,
    /// The client sends a message, and the server reads.
    Message,
    /// The client says goodbye, and the server reads.
    End,
}

const REFUSED: &str = "nothing: the answer is refused and counted (`esp_clear`); the client waits until the request \
                       has arrived";

/// Answers, in the server's name, each PSN that the client's requests may have.
fn answer_all(path: &Path, client: &Session, syndrome: Syndrome, msn: u32) {
    let first = client.info().own.psn.get();
    for psn in 0..PSNS {
        let mut headers = answer(client.info(), first.plus(psn), syndrome);
        headers.aeth = headers.aeth.map(|aeth| Aeth { msn, ..aeth });
        path.middle.send(&Caught { way: Way::ToClient, headers, payload: Vec::new() });
    }
}

/// Withholds what the client sends while its requests are answered; none of them is done.
async fn withheld(path: &Path, client: &mut Session, syndrome: Syndrome, msn: u32) {
    answer_all(path, client, syndrome, msn);
    let done = tokio::time::timeout(Duration::from_millis(200), client.flush()).await;
    assert!(done.is_err(), "{done:?}");
    refuses(&path.device(Side::Client), &[("esp_clear", u64::from(PSNS))]).await;
    path.middle.let_pass();
    within(client.flush()).await.unwrap();
}

fn withhold(path: &Path) {
    path.middle.on_sealed(|sealed, out| {
        if sealed.way == Way::ToClient {
            out.push(sealed);
        }
    });
}

const ACK: Syndrome = Syndrome::Ack { credits: Syndrome::NO_CREDITS };

/// A SEND is withheld and acknowledged.
pub(crate) fn send_acknowledged(path: &Path) -> String {
    let (mut client, mut server) = path.session();
    path.run(async {
        client.send(b"first").await.unwrap();
        assert_eq!(message(&mut server).await, b"first");
        withhold(path);
        client.post_send(b"second").await.unwrap();
        withheld(path, &mut client, ACK, 2).await;
        assert_eq!(message(&mut server).await, b"second");
        unharmed(client, server).await;
    });
    REFUSED.into()
}

/// A WRITE is withheld and acknowledged.
pub(crate) fn write_acknowledged(path: &Path, then: Then) -> String {
    let (mut client, mut server) = path.session();
    path.run(async {
        client.write(0, &[b'A'; 4096]).await.unwrap();
        assert_eq!(within(server.read_local(0, 5)).await.unwrap(), b"AAAAA");
        withhold(path);
        client.post_write(0, &[b'B'; 4096]).await.unwrap();
        withheld(path, &mut client, ACK, 2).await;
        match then {
            Then::Read => {
                assert_eq!(within(client.read(0, 5)).await.unwrap(), b"BBBBB");
                unharmed(client, server).await;
            }
            Then::Message => {
                client.send(b"written").await.unwrap();
                assert_eq!(message(&mut server).await, b"written");
                assert_eq!(within(server.read_local(0, 5)).await.unwrap(), b"BBBBB");
                unharmed(client, server).await;
            }
            Then::End => {
                let read = async {
                    assert!(server.recv().await.unwrap().is_none());
                    let found = server.read_local(0, 5).await.unwrap();
                    server.close().await.unwrap();
                    found
                };
                let (left, found) = within(async { tokio::join!(client.close(), read) }).await;
                left.unwrap();
                assert_eq!(found, b"BBBBB");
            }
        }
    });
    REFUSED.into()
}

/// A READ is withheld, and answered with other bytes.
pub(crate) fn read_answered(path: &Path, forge: impl Fn(Qpn, Psn) -> Caught) -> String {
    let (mut client, server) = path.session();
    let (to, first) = (client.info().own.qpn, client.info().own.psn.get());
    path.run(async {
        client.write(0, &[b'A'; 4096]).await.unwrap();
        withhold(path);
        client.post_read(0, 4096).await.unwrap();
        (0..PSNS).for_each(|psn| path.middle.send(&forge(to, first.plus(psn))));
        refuses(&path.device(Side::Client), &[("esp_clear", u64::from(PSNS))]).await;
        path.middle.let_pass();
        assert_eq!(within(client.next_read()).await.unwrap().unwrap(), [b'A'; 4096]);
        unharmed(client, server).await;
    });
    REFUSED.into()
}

/// A SEND is withheld and refused for good.
pub(crate) fn nak_instead(path: &Path) -> String {
    let (mut client, mut server) = path.session();
    path.run(async {
        withhold(path);
        client.post_send(b"more").await.unwrap();
        withheld(path, &mut client, Syndrome::Nak(NakCode::InvalidRequest), 0).await;
        assert_eq!(message(&mut server).await, b"more");
        unharmed(client, server).await;
    });
    REFUSED.into()
}

/// Many are under way when they are refused.
pub(crate) fn naks_while_busy(path: &Path, under_way: u32) {
    let (mut client, mut server) = path.session();
    path.run(async {
        client.send(b"first").await.unwrap();
        assert_eq!(message(&mut server).await, b"first");
        withhold(path);
        for _ in 0..under_way {
            within(client.post_send(b"under way")).await.unwrap();
        }
        withheld(path, &mut client, Syndrome::Nak(NakCode::InvalidRequest), 1).await;
        for _ in 0..under_way {
            assert_eq!(message(&mut server).await, b"under way");
        }
        let (left, stayed) = goodbye(client, server).await;
        left.unwrap();
        stayed.unwrap();
    });
}
