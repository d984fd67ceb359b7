//! Having the server work for what costs an attacker nothing: answers that are longer than what asks for them, and
//! reads that have to be tried again.

use crate::attack::{Attack, Outcome, Played};
use crate::exhaustion::serves;
use crate::lab::{ALL, options, run, session, until, within};
use crate::packets::{Injector, datagram, request, reth};
use crate::world::{World, counted};
use rocev2::wire::Operation;
use secure_rdma::SealedBy::Messages;
use secure_rdma::seal::SealError;
use secure_rdma::{SealedBy, Session, SessionError};
use std::time::Duration;

pub(crate) static REPEATED: Attack = Attack::new(
    "amplification: a READ asked for again and again, by packets in the client's name",
    "T2, T3",
    "QPN, PSN, rkey, address",
    repeated,
);
pub(crate) static TORN: Attack = Attack::new(
    "a client that tears its slots while the server's program reads them, and makes each whole in time",
    "T1",
    "its own session",
    torn,
);

/// How often a READ is answered once more.
const AGAIN: u64 = 64;

/// How often it is refused then.
const REFUSED: u64 = 20;

/// Bytes of a READ, a slot if it is sealed: so few are asked for by one request.
const OPEN: usize = 4096;
const SEALED: usize = 4120;

fn repeated() -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in ALL {
            let (world, mut client, mut server) = session(seal).await;
            let region = client.remote_region().unwrap();
            // The client's first request.
            within(client.read(0, OPEN)).await.unwrap();
            let len = if seal == Messages { SEALED } else { OPEN };
            let mut again = request(&client, Operation::ReadRequest, 0);
            again.reth = reth(&region, 0, len);
            let to = client.info().remote.address;
            let asks = datagram(to, to, &again, &[]).len() as u64;
            let device = &world.device;
            let counters = ["duplicate_request", "repeated_too_often", "esp_clear"];
            let counts = || counters.map(|reason| counted(device, reason));
            let (before, sent) = (counts(), counted(device, "bytes_sent"));
            let injector = Injector::new();
            let found = || {
                let now = counts();
                [0, 1, 2].map(|at| now[at] - before[at])
            };
            let mut asked = 0;
            // Requests that come while an answer waits to leave have that one together.
            within(async {
                while found()[1..].iter().sum::<u64>() < REFUSED {
                    asked += 1;
                    injector.send(to, &again, &[]);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
            .await;
            let answers = || counted(device, "bytes_sent") - sent;
            if seal == SealedBy::Packets {
                assert_eq!(found()[..2], [0, 0]);
                words.push("nothing: each is refused and counted (`esp_clear`)");
            } else {
                until(|| answers() >= AGAIN * len as u64).await;
                assert!(found()[0] >= AGAIN && found()[2] == 0, "{:?}", found());
                // Beside headers, what of the first answer was counted late.
                assert!(answers() < (AGAIN + 1) * len as u64 * 11 / 10, "{}", answers());
                words.push(
                    "each is answered, to the client, which drops what it knows; after 64 times the length of that \
                     READ no more, and it is counted (`repeated_too_often`); the session goes on",
                );
            }
            println!("{seal}: {} bytes in {asked} requests, {} bytes of answers", asked * asks, answers());
            serves(&mut client, &mut server).await;
        }
        Ok(Outcome::new(words[0], words[1], words[2]))
    })
}

/// Slots that are torn.
const SLOTS: u64 = 16;

/// How long each of them stays so: less than any one may.
const WHOLE_AFTER: Duration = Duration::from_secs(5);

/// Writes that slot as a whole.
async fn make_whole(attacker: &mut Session, slot: u64) -> Result<(), SessionError> {
    attacker.write(slot * 4096, &[slot.to_le_bytes()[0]; 4096]).await
}

fn torn() -> Played {
    run(async {
        let mut world = World::with("::1", options(Messages), options(Messages), |_| {}).await;
        let (mut victim, mut served) = world.session().await;
        let (mut attacker, mut read) = world.session().await;
        let region = attacker.remote_region().unwrap();
        for slot in 0..SLOTS {
            make_whole(&mut attacker, slot).await.unwrap();
            attacker.write_raw(&region, slot * 4120 + 2000, b"torn").await.unwrap();
        }
        let mut made_whole = 0;
        let tearing = async {
            for slot in 0..SLOTS {
                tokio::time::sleep(WHOLE_AFTER).await;
                if make_whole(&mut attacker, slot).await.is_err() {
                    break;
                }
                made_whole += 1;
            }
        };
        let mut rounds = 0_u32;
        let others = async {
            loop {
                serves(&mut victim, &mut served).await;
                rounds += 1;
            }
        };
        let reading = async {
            let result = read.read_local(0, usize::try_from(SLOTS).unwrap() * 4096).await;
            let error = result.unwrap_err();
            // Its client is told.
            read.abort(error.clone()).await;
            error
        };
        let (error, ()) = tokio::select! {
            both = async { tokio::join!(reading, tearing) } => both,
            never = others => never,
        };
        println!(
            "the server gave up after {made_whole} of {SLOTS} slots were whole; {rounds} rounds of the other's"
        );
        // Not as long as all of them together may be torn one by one.
        assert!(made_whole < SLOTS / 2, "{made_whole}");
        assert!(rounds >= 100, "{rounds}");
        let none = "there are no slots: what is in the region is read as it is";
        assert!(matches!(error, SessionError::Forged(SealError::Slot { .. })), "{error}");
        let words = "the server's program waits up to 10 s for all that it reads at a time, not for each slot, and \
                     takes the next one for forged, which ends that session; others are served meanwhile";
        Ok(Outcome::new(none, words, none))
    })
}

#[test]
fn a_read_repeated_by_others_is_answered_only_so_often() {
    REPEATED.play().as_ref().unwrap();
}

#[test]
fn a_client_that_tears_its_slots_holds_up_nobody_and_is_given_up() {
    TORN.play().as_ref().unwrap();
}
