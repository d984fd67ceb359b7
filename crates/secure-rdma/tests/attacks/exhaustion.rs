//! A4 and A5: using up what others need (ReDMArk: queue pair exhaustion, performance degradation).

use crate::attack::{Attack, Outcome, Played};
use crate::lab::{BOTH, message, options, quote, run, within};
use crate::packets::{Injector, packet, request};
use crate::world::{World, counted};
use rocev2::Qpn;
use rocev2::wire::Operation;
use secure_rdma::{Arrival, Session, SessionError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

pub(crate) static PLACES: Attack =
    Attack::new("A4: every place among the clients taken", "T1", "its own sessions", places);
pub(crate) static HANDSHAKES: Attack =
    Attack::new("A4: connections that never do their handshake", "any host", "the server's port", handshakes);
pub(crate) static FLOOD: Attack =
    Attack::new("A5: a flood of packets that are refused", "T2, T3", "QPN", flood);

/// That client is served.
async fn serves(client: &mut Session, server: &mut Session) {
    within(client.send(b"served?")).await.unwrap();
    assert_eq!(message(server).await, b"served?");
    within(client.write(0, b"served")).await.unwrap();
    assert_eq!(within(client.read(0, 6)).await.unwrap(), b"served");
}

fn places() -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in BOTH {
            let mut world =
                World::with("::1", options(seal), options(seal), |config| config.max_clients = 3).await;
            let (mut client, mut server) = world.session().await;
            let greedy = [world.session().await, world.session().await];
            let error = world.connect().await.unwrap_err();
            let refused = within(world.server.next()).await;
            assert!(
                matches!(refused, Arrival::Refused { error: SessionError::Full { max: 3 }, .. }),
                "{refused:?}"
            );
            serves(&mut client, &mut server).await;
            drop(greedy);
            let (mut late, mut server) = world.session().await;
            serves(&mut late, &mut server).await;
            words.push(error.to_string());
        }
        assert_eq!(words[0], words[1]);
        let words = format!(
            "`--max-clients` limits it: who is there is served on, who comes is refused ({}) until a place is free",
            quote(&words[0])
        );
        Ok(Outcome::new(&*words, &*words))
    })
}

fn handshakes() -> Played {
    run(async {
        for seal in BOTH {
            let mut world =
                World::with("::1", options(seal), options(seal), |config| config.max_handshakes = 3).await;
            let (mut client, mut server) = world.session().await;
            let address = world.server.local_addr();
            let mut idle = Vec::new();
            for _ in 0..3 {
                idle.push(TcpStream::connect(address).await.unwrap());
            }
            // They are accepted in order: this one is the fourth.
            let error = world.connect().await.unwrap_err();
            assert!(matches!(error, SessionError::Tls(_)), "{error}");
            serves(&mut client, &mut server).await;
            drop(idle);
            for _ in 0..3 {
                assert!(matches!(within(world.server.next()).await, Arrival::Refused { .. }));
            }
            let (mut late, mut server) = world.session().await;
            serves(&mut late, &mut server).await;
        }
        let words = "limits on their number and their time hold: who is there is served on, further \
            connections are closed at once until one has ended";
        Ok(Outcome::new(words, words))
    })
}

/// Nothing is said of how fast the others are meanwhile: that is a matter of the machine.
fn flood() -> Played {
    run(async {
        for seal in BOTH {
            let mut world = World::with("::1", options(seal), options(seal), |_| {}).await;
            let (mut client, mut server) = world.session().await;
            let to = client.info().remote.address;
            let nobody = packet(
                Operation::SendOnly,
                Qpn::truncate(client.info().remote.qpn.get() ^ 1),
                client.info().own.psn.get(),
            );
            let ahead = request(&client, Operation::SendOnly, 1 << 20);
            let enough = Arc::new(AtomicBool::new(false));
            let stop = Arc::clone(&enough);
            let flooding = std::thread::spawn(move || {
                let injector = Injector::new();
                while !stop.load(Ordering::Relaxed) {
                    for headers in [&nobody, &ahead] {
                        injector.send(to, headers, &[0; 1024]);
                    }
                    injector.send_broken(to, &ahead, &[0; 1024]);
                }
            });
            let reasons = ["unknown_queue_pair", "out_of_sequence", "icrc"];
            for _ in 0..50 {
                serves(&mut client, &mut server).await;
            }
            within(async {
                while reasons.iter().any(|reason| counted(&world.device, reason) < 1000) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            enough.store(true, Ordering::Relaxed);
            flooding.join().unwrap();
            serves(&mut client, &mut server).await;
        }
        let words = "the others' operations all complete; each packet is counted by its reason \
                     (`unknown_queue_pair`, `out_of_sequence`, `icrc`). Not prevented: that it takes time \
                     and bandwidth";
        Ok(Outcome::new(words, words))
    })
}

#[test]
fn a_client_that_takes_every_place_keeps_others_out_and_no_one_else_is_hurt() {
    PLACES.play().as_ref().unwrap();
}

#[test]
fn connections_without_a_handshake_keep_others_out_only_while_they_last() {
    HANDSHAKES.play().as_ref().unwrap();
}

#[test]
fn a_flood_of_refused_packets_is_counted_and_others_make_progress() {
    FLOOD.play().as_ref().unwrap();
}
