//! A4 and A5: using up what others need (ReDMArk: queue pair exhaustion, performance degradation).

use crate::attack::{Attack, Outcome, Played};
use crate::lab::{ALL, message, options, run, run_on_one_thread, until, within};
use crate::packets::{Injector, packet, request};
use crate::world::{World, counted};
use rocev2::Qpn;
use rocev2::wire::Operation;
use secure_rdma::{Arrival, Report, SealedBy, Session, SessionError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;
use tokio::time::MissedTickBehavior;

pub(crate) static PLACES: Attack =
    Attack::new("A4: every place among the clients taken", "T1", "its own sessions", places);
pub(crate) static HANDSHAKES: Attack =
    Attack::new("A4: connections that never do their handshake", "any host", "the server's port", handshakes);
pub(crate) static FLOOD: Attack =
    Attack::new("A5: a flood of packets that are refused", "T2, T3", "QPN", flood);

/// That client is served.
pub(crate) async fn serves(client: &mut Session, server: &mut Session) {
    within(client.send(b"served?")).await.unwrap();
    assert_eq!(message(server).await, b"served?");
    within(client.write(0, b"served")).await.unwrap();
    assert_eq!(within(client.read(0, 6)).await.unwrap(), b"served");
}

fn places() -> Played {
    run(async {
        let mut words = Vec::new();
        for seal in ALL {
            let mut world =
                World::with("::1", options(seal), options(seal), |config| config.options.max_clients = 3)
                    .await;
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
            words.push(Report::new(&error).to_string());
        }
        assert!(words.iter().all(|other| *other == words[0]), "{words:?}");
        let words = format!(
            "`--max-clients` limits it: who is there is served on, who comes is refused (“{}”) until a place is free",
            words[0]
        );
        Ok(Outcome::alike(&words))
    })
}

/// How often an attacker connects.
const ATTACK_EVERY: Duration = Duration::from_millis(2);

/// Connections from `from` to `to`, 500 a second, that are kept as long as the server keeps them and never say
/// anything; until it is dropped.
struct Idlers(tokio::task::JoinHandle<()>);

impl Idlers {
    fn start(from: &str, to: SocketAddr) -> Self {
        let from = SocketAddr::new(from.parse().unwrap(), 0);
        Self(tokio::spawn(async move {
            let mut held = std::collections::VecDeque::new();
            let mut every = tokio::time::interval(ATTACK_EVERY);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                every.tick().await;
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(from).unwrap();
                if let Ok(connection) = socket.connect(to).await {
                    held.push_front(connection);
                }
                // The server has closed the older ones long ago.
                held.truncate(400);
            }
        }))
    }
}

impl Drop for Idlers {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whoever is on the attacker's address has a quarter of a second for its first byte, until 128 others have come: on
/// one thread, no attacker goes on while its victim has to wait for the processor.
fn handshakes() -> Played {
    run_on_one_thread(async {
        for seal in ALL {
            let mut world = World::with("127.0.0.1", options(seal), options(seal), |config| {
                config.options.max_handshakes = 256;
            })
            .await;
            let (mut client, mut server) = world.session().await;
            for from in ["127.0.0.2", "127.0.0.1"] {
                let idlers = Idlers::start(from, world.server.local_addr());
                // The attack is under way when connections are dropped for newer ones.
                within(async {
                    loop {
                        let Arrival::Refused { error, .. } = world.server.next().await else { panic!() };
                        if matches!(error, SessionError::Crowded) {
                            break;
                        }
                    }
                })
                .await;
                for _ in 0..5 {
                    let mut late = within(world.connect()).await.unwrap();
                    let mut server = within(async {
                        loop {
                            if let Arrival::Session(session) = world.server.next().await {
                                break session;
                            }
                        }
                    })
                    .await;
                    serves(&mut late, &mut server).await;
                }
                serves(&mut client, &mut server).await;
                drop(idlers);
            }
        }
        let words = "500 a second, none of which says anything: a client on another address gets in at once, \
            since the attacker's own connections are dropped for newer ones; one on the attacker's address too if \
            its first byte comes soon";
        Ok(Outcome::alike(words))
    })
}

/// Packets of a flood that haven't been taken yet: the smallest receive buffers hold them, and some more.
const UNDER_WAY: u64 = 32;

/// Those that haven't been taken for so long have been lost all the same.
const LOST: Duration = Duration::from_secs(3);

/// Nothing is said of how fast the others are meanwhile: that is a matter of the machine.
fn flood() -> Played {
    run(async {
        for seal in ALL {
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
            let refused = if seal == SealedBy::Packets { "esp_clear" } else { "out_of_sequence" };
            let reasons = ["unknown_queue_pair", refused, "icrc"];
            let device = Arc::clone(&world.device);
            let flooding = std::thread::spawn(move || {
                let injector = Injector::new();
                let taken = || reasons.iter().map(|reason| counted(&device, reason)).sum::<u64>();
                let mut sent = taken();
                while !stop.load(Ordering::Relaxed) {
                    for headers in [&nobody, &ahead] {
                        injector.send(to, headers, &[0; 1024]);
                    }
                    injector.send_broken(to, &ahead, &[0; 1024]);
                    sent += 3;
                    // As fast as the device takes them. What a full buffer has no room for is lost, whosever it is, and
                    // how often that is depends on the machine.
                    let since = Instant::now();
                    while taken() + UNDER_WAY < sent && !stop.load(Ordering::Relaxed) {
                        if since.elapsed() > LOST {
                            sent = taken();
                        }
                        std::thread::yield_now();
                    }
                }
            });
            for _ in 0..50 {
                serves(&mut client, &mut server).await;
            }
            until(|| reasons.iter().all(|reason| counted(&world.device, reason) >= 1000)).await;
            enough.store(true, Ordering::Relaxed);
            flooding.join().unwrap();
            serves(&mut client, &mut server).await;
        }
        let words = |reason: &str| {
            format!(
                "the others' operations all complete; each packet is counted by its reason (`unknown_queue_pair`, \
                 `{reason}`, `icrc`). Not prevented: that it takes time and bandwidth"
            )
        };
        let [in_clear, sealed] = ["out_of_sequence", "esp_clear"].map(words);
        Ok(Outcome::new(&*in_clear, &*in_clear, sealed))
    })
}

#[test]
fn a_client_that_takes_every_place_keeps_others_out_and_no_one_else_is_hurt() {
    PLACES.play().as_ref().unwrap();
}

#[test]
fn connections_without_a_handshake_keep_nobody_out() {
    HANDSHAKES.play().as_ref().unwrap();
}

#[test]
fn a_flood_of_refused_packets_is_counted_and_others_make_progress() {
    FLOOD.play().as_ref().unwrap();
}
