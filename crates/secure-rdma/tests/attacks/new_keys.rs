//! What an attacker on the path does at the moment when keys change. Sessions have new ones after a few fragments, or
//! packets.

use crate::attack::{Attack, Played};
use crate::esp;
use crate::lab::{Skipped, assert_told, goodbye, message, note, options, within};
use crate::messages::{both_on, exchange_next, refused_by_server, withhold};
use crate::middle::{Caught, Way};
use crate::path::Path;
use secure_rdma::SealedBy::{self, Messages, Nothing, Packets};
use secure_rdma::seal::Limits;
use secure_rdma::{Session, SessionError};

/// Fragments that are sealed by one key.
const FRAGMENTS: u64 = 4;

pub(crate) static LEFT_OUT: Attack = Attack::new(
    "at a change of keys: the last message under the old one withheld and acknowledged (sealed by packets: the first \
     under the new one), later PSNs moved up",
    "T3",
    "every packet",
    left_out,
);
pub(crate) static EXCHANGED: Attack = Attack::new(
    "at a change of keys: what is under the old one exchanged with what is under the new one",
    "T3",
    "every packet",
    exchanged,
);

fn path(seal: SealedBy) -> Result<Path, Skipped> {
    let records = if seal == Packets { esp::PACKETS } else { FRAGMENTS };
    Path::with(seal, options(seal).key_limits(Limits { records, bytes: u64::MAX }))
}

/// The first key has one fragment left.
async fn use_up(client: &mut Session, server: &mut Session) {
    for _ in 1..FRAGMENTS {
        client.send(b"under the first key").await.unwrap();
        assert_eq!(message(server).await, b"under the first key");
    }
}

/// The epochs of the last two fragments that the client has sent, as their headers have them.
fn epochs(path: &Path) -> [u32; 2] {
    let mut sends: Vec<_> = path.middle.seen().into_iter().filter(Caught::is_send_to_server).collect();
    sends.dedup_by_key(|caught| caught.psn());
    let epoch = |caught: &Caught| u32::from_be_bytes(*caught.payload.first_chunk().unwrap()) & !(0b11 << 30);
    let [.., last_but_one, last] = &*sends else { panic!("{sends:?}") };
    [epoch(last_but_one), epoch(last)]
}

fn left_out() -> Played {
    both_on(path, esp::new_keys_withheld, |path, open| {
        let (mut client, mut server) = path.session();
        path.run(async {
            use_up(&mut client, &mut server).await;
            let withheld = withhold(path, client.info(), Caught::is_send_to_server);
            within(client.send(b"the last under it")).await.unwrap();
            path.middle.let_pass();
            path.middle.leave_out(Way::ToServer, client.info(), withheld.lock().unwrap().len());
            client.send(b"the first under the second").await.unwrap();
            if open {
                assert_eq!(message(&mut server).await, b"the first under the second");
                let (left, stayed) = goodbye(client, server).await;
                let error = stayed.unwrap_err();
                assert!(
                    matches!(error, SessionError::Truncated { who: "the peer", sent: 5, arrived: 4 }),
                    "{error}"
                );
                assert_told(&error, &left.unwrap_err());
                return format!(
                    "there are no keys: the next message is delivered after the gap, and only the goodbye fails {}",
                    note(&error)
                );
            }
            let words = refused_by_server(&mut server, &mut client, FRAGMENTS - 1).await;
            assert_eq!(epochs(path), [0, 1]);
            words
        })
    })
}

fn exchanged() -> Played {
    both_on(path, esp::labels_exchanged, |path, open| {
        let (mut client, mut server) = path.session();
        path.run(async {
            use_up(&mut client, &mut server).await;
            let halves = exchange_next(path, open);
            within(client.send(&halves.concat())).await.unwrap();
            if open {
                let [first, second] = &halves;
                assert_eq!(message(&mut server).await, [&second[..], first].concat());
                return "there are no keys: the server gets a message with its halves exchanged".into();
            }
            let words = refused_by_server(&mut server, &mut client, FRAGMENTS - 1).await;
            assert_eq!(epochs(path), [0, 1]);
            words
        })
    })
}

/// The first fragments under a new key are as good as any: that nothing is refused without an attacker is what the
/// others' being refused is worth.
#[test]
fn keys_change_where_the_attacks_expect_it_and_all_arrives_when_nobody_attacks() {
    for seal in [Nothing, Messages] {
        let Ok(path) = path(seal) else { return };
        let (mut client, mut server) = path.session();
        path.run(async {
            use_up(&mut client, &mut server).await;
            for text in [b"the last under it", b"the first one now"] {
                client.send(text).await.unwrap();
                assert_eq!(message(&mut server).await, text);
            }
        });
        if seal == Messages {
            assert_eq!(epochs(&path), [0, 1]);
        }
    }
}

#[test]
fn a_message_left_out_at_a_change_of_keys_is_missed() {
    let _ = LEFT_OUT.play();
}

#[test]
fn what_is_exchanged_across_a_change_of_keys_is_refused() {
    let _ = EXCHANGED.play();
}
