//! The network between two machines goes away under traffic and comes back: an interface that is down, an address that
//! is taken away, a firewall. A session outlives what its retries last for; otherwise each side says what has happened,
//! nothing is kept, and whoever connects again goes on.

mod fault;
mod feeder;

use crate::gate::{self, NETWORK, Need};
use crate::network::Network;
use crate::process::{Ended, PATIENCE, Process, wait_until};
use crate::server::{LINES, Server, descriptors, threads};
use fault::{FAULTS, Fault, Outage};
use feeder::{Feeder, is_answer};
use std::thread;
use std::time::Duration;

/// How long a side may take to see that the other is gone: its heartbeat's 15 s, and the steps of a goodbye that isn't
/// answered.
const NOTICED: Duration = Duration::from_secs(60);

/// Lines that show that a session goes on.
const SOME: usize = 50;

/// Each fault by itself, all at once: most of the time they wait.
fn with_each_fault(promise: &str, scene: impl Fn(&Network, Fault) + Copy + Send + 'static) {
    if !gate::provides(&[NETWORK.as_slice(), &[Need::Tool("nft")]].concat(), promise) {
        return;
    }
    let play = |fault| thread::spawn(move || scene(&Network::new(1500), fault));
    let scenes: Vec<_> = FAULTS.into_iter().map(|fault| (fault, play(fault))).collect();
    let failed: Vec<_> =
        scenes.into_iter().filter_map(|(fault, scene)| scene.join().err().map(|_| fault)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A server for one client, and this one.
struct Stage<'a> {
    server: Server<'a>,
    /// What the server had without it.
    before: [usize; 2],
    client: Process,
    feeder: Feeder,
}

fn start<'a>(network: &'a Network, fault: Fault, arguments: &[&str]) -> Stage<'a> {
    let server = Server::start_with(network, &["--max-clients", "1"]);
    // What is there once for all clients is there from now on.
    serves(&server, fault);
    server.process.says(": left");
    let before = held(&server);
    let mut client = server.waiting_client(fault.host(), arguments);
    let feeder = Feeder::start(client.take_input());
    client.wait_until("traffic", PATIENCE, |client| client.out().lines().count() >= SOME);
    Stage { server, before, client, feeder }
}

/// A client does everything, at the latest when the one before it has been given up.
#[track_caller]
fn serves(server: &Server<'_>, fault: Fault) {
    let mut ended = None;
    wait_until(PATIENCE, || {
        let client = server.client(fault.host(), LINES).end_within(PATIENCE);
        // A neighbour that was looked for in vain counts as unreachable for a moment longer.
        let served = !["the server is full", "can't connect"].iter().any(|words| client.err.contains(words));
        ended = Some(client);
        served
    });
    let ended = ended.unwrap().succeeded();
    assert_eq!(ended.out, "hello\n9 bytes written\nsome data\n0 + 5 = 5\n", "{}", ended.err);
}

/// What a server has, beside memory.
fn held(server: &Server<'_>) -> [usize; 2] {
    [descriptors(&server.process), threads(&server.process)]
}

#[track_caller]
fn holds_no_more_than(server: &Server<'_>, before: [usize; 2]) {
    let free = wait_until(PATIENCE, || held(server).iter().zip(before).all(|(now, before)| *now <= before));
    assert!(free.is_some(), "descriptors and threads: {:?} now, {before:?} before", held(server));
}

/// How often its client's session with this server has ended otherwise than by a goodbye.
fn lost(server: &Process) -> usize {
    server.out().matches(": lost: ").count()
}

/// A client that was left says so in one line, and by its exit code.
#[track_caller]
fn noticed(ended: &Ended) {
    let reason = ended.err.lines().last().unwrap_or_default();
    assert!(ended.status.code() == Some(1) && reason.starts_with("error: "), "{}", ended.err);
    let words = ["nothing was heard from the peer", "RETRY_EXC_ERR", "the connection was lost", "within "];
    assert!(words.iter().any(|word| reason.contains(word)), "{reason}");
}

#[test]
fn a_session_goes_on_after_a_short_outage() {
    with_each_fault("that a session outlives a short outage of the network", |network, fault| {
        let Stage { server, client, feeder, .. } = start(network, fault, &[]);
        let outage = Outage::begin(network, fault);
        outage.is_felt();
        drop(outage);
        let done = client.out().lines().count();
        client.wait_until("traffic after it", PATIENCE, |client| {
            client.out().lines().count() >= done + SOME || client.err().contains("error: ")
        });
        let given = feeder.stop();
        // Its goodbye takes both channels, in both directions.
        let ended = client.end_within(PATIENCE).succeeded();
        assert_eq!(ended.out.lines().count(), given);
        ended.out.lines().enumerate().for_each(|(at, line)| assert!(is_answer(at, line), "{at}: {line}"));
        server
            .process
            .wait_until("two goodbyes", PATIENCE, |server| server.out().matches(": left").count() == 2);
        assert_eq!(lost(&server.process), 0);
    });
}

#[test]
fn a_long_outage_ends_the_session_on_both_sides_and_frees_what_it_held() {
    with_each_fault("that both sides notice when the network is gone", |network, fault| {
        let Stage { server, before, client, feeder } = start(network, fault, &[]);
        let outage = Outage::begin(network, fault);
        let ended = client.end_within(NOTICED);
        noticed(&ended);
        ended.out.lines().enumerate().for_each(|(at, line)| assert!(is_answer(at, line), "{at}: {line}"));
        feeder.stop();
        server.process.wait_until("loss of the client", NOTICED, |server| lost(server) == 1);
        drop(outage);
        serves(&server, fault);
        holds_no_more_than(&server, before);
    });
}

#[test]
fn a_client_that_reconnects_comes_back_by_itself_after_each_outage() {
    const OUTAGES: usize = 2;
    const UNKNOWN: &str = "unknown: ";
    with_each_fault("that a client comes back when the network does", |network, fault| {
        let Stage { server, client, feeder, .. } = start(network, fault, &["--reconnect"]);
        for _ in 0..OUTAGES {
            let (before, outage) = (lost(&server.process), Outage::begin(network, fault));
            server.process.wait_until("loss of the client", NOTICED, |server| lost(server) > before);
            drop(outage);
            let done = client.out().lines().count();
            client.wait_until("traffic", PATIENCE, |client| client.out().lines().count() >= done + SOME);
        }
        let given = feeder.stop();
        let ended = client.end_within(PATIENCE);
        assert_eq!(ended.out.lines().count(), given, "{}", ended.err);
        let mut unknown = 0;
        for (at, line) in ended.out.lines().enumerate() {
            unknown += usize::from(line.starts_with(UNKNOWN));
            assert!(line.starts_with(UNKNOWN) || is_answer(at, line), "{at}: {line}");
        }
        // What was in flight is one line.
        let sessions = ended.err.matches("connected again: ").count();
        assert!(sessions >= OUTAGES && unknown <= sessions, "{unknown} lines unknown, {sessions} sessions");
        assert_eq!(ended.status.code(), Some(i32::from(unknown > 0)), "{}", ended.err);
        server.process.wait_until("goodbye", PATIENCE, |server| server.out().matches(": left").count() == 2);
    });
}
