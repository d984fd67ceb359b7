//! Requests that are withheld, and answered in the peer's name.

use super::{PSNS, receiver, refuses, sender_and_receiver, unharmed};
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

/// What is said of it, where the requests went that way.
fn refused(way: Way) -> String {
    let asker = receiver(way.back());
    format!(
        "nothing: the answer is refused and counted (`esp_clear`); the {asker} waits until the request has arrived"
    )
}

/// A requester whose requests go that way, and are withheld.
pub(super) struct Asker<'a> {
    pub(super) session: &'a mut Session,
    pub(super) way: Way,
    /// Requests that it has made before them, each of one packet.
    pub(super) before: u32,
}

impl Asker<'_> {
    /// Answers, in its peer's name, each PSN that its requests may have.
    fn answer_all(&self, path: &Path, syndrome: Syndrome, msn: u32) {
        let info = self.session.info();
        let first = info.own.psn.get().plus(self.before);
        for psn in 0..PSNS {
            let mut headers = answer(info, first.plus(psn), syndrome);
            headers.aeth = headers.aeth.map(|aeth| Aeth { msn, ..aeth });
            path.middle.send(&Caught { way: self.way.back(), headers, payload: Vec::new() });
        }
    }

    /// Its requests are answered; none of them is done before they pass.
    pub(super) async fn withheld(self, path: &Path, syndrome: Syndrome, msn: u32) {
        self.answer_all(path, syndrome, msn);
        let done = tokio::time::timeout(Duration::from_millis(200), self.session.flush()).await;
        assert!(done.is_err(), "{done:?}");
        refuses(&path.device(receiver(self.way.back())), &[("esp_clear", u64::from(PSNS))]).await;
        path.middle.let_pass();
        within(self.session.flush()).await.unwrap();
    }
}

/// Withholds what the client sends while its requests are answered; none of them is done.
async fn withheld(path: &Path, client: &mut Session, syndrome: Syndrome, msn: u32) {
    Asker { session: client, way: Way::ToServer, before: 0 }.withheld(path, syndrome, msn).await;
}

/// Withholds what goes that way.
fn withhold(path: &Path, way: Way) {
    path.middle.on_sealed(move |sealed, out| {
        if sealed.way != way {
            out.push(sealed);
        }
    });
}

pub(super) const ACK: Syndrome = Syndrome::Ack { credits: Syndrome::NO_CREDITS };

/// A SEND that goes that way is withheld and acknowledged.
pub(crate) fn send_acknowledged(path: &Path, way: Way) -> String {
    let mut ends = path.session();
    path.run(async {
        let (sender, receiver) = sender_and_receiver(&mut ends, way);
        sender.send(b"first").await.unwrap();
        assert_eq!(message(receiver).await, b"first");
        withhold(path, way);
        sender.post_send(b"second").await.unwrap();
        Asker { session: sender, way, before: 0 }.withheld(path, ACK, 2).await;
        assert_eq!(message(receiver).await, b"second");
        unharmed(ends.0, ends.1).await;
    });
    refused(way)
}

/// A WRITE is withheld and acknowledged.
pub(crate) fn write_acknowledged(path: &Path, then: Then) -> String {
    let (mut client, mut server) = path.session();
    path.run(async {
        client.write(0, &[b'A'; 4096]).await.unwrap();
        assert_eq!(within(server.read_local(0, 5)).await.unwrap(), b"AAAAA");
        withhold(path, Way::ToServer);
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
    refused(Way::ToServer)
}

/// A READ is withheld, and answered with other bytes.
pub(crate) fn read_answered(path: &Path, forge: impl Fn(Qpn, Psn) -> Caught) -> String {
    let (mut client, server) = path.session();
    let (to, first) = (client.info().own.qpn, client.info().own.psn.get());
    path.run(async {
        client.write(0, &[b'A'; 4096]).await.unwrap();
        withhold(path, Way::ToServer);
        client.post_read(0, 4096).await.unwrap();
        (0..PSNS).for_each(|psn| path.middle.send(&forge(to, first.plus(psn))));
        refuses(&path.device(Side::Client), &[("esp_clear", u64::from(PSNS))]).await;
        path.middle.let_pass();
        assert_eq!(within(client.next_read()).await.unwrap().unwrap(), [b'A'; 4096]);
        unharmed(client, server).await;
    });
    refused(Way::ToServer)
}

/// A SEND is withheld and refused for good.
pub(crate) fn nak_instead(path: &Path) -> String {
    let (mut client, mut server) = path.session();
    path.run(async {
        withhold(path, Way::ToServer);
        client.post_send(b"more").await.unwrap();
        withheld(path, &mut client, Syndrome::Nak(NakCode::InvalidRequest), 0).await;
        assert_eq!(message(&mut server).await, b"more");
        unharmed(client, server).await;
    });
    refused(Way::ToServer)
}

/// Many are under way when they are refused.
pub(crate) fn naks_while_busy(path: &Path, under_way: u32) {
    let (mut client, mut server) = path.session();
    path.run(async {
        client.send(b"first").await.unwrap();
        assert_eq!(message(&mut server).await, b"first");
        withhold(path, Way::ToServer);
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
