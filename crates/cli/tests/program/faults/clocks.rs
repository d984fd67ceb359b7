//! Clocks that are set, by hours and by years, in the middle of sessions: nothing but certificates and revocation lists
//! goes by them.

use super::clock::Clock;
use crate::harness::{Ended, PATIENCE, Program, SECURE_CLIENT, SECURE_RDMA, SECURE_SERVER, Server, State};
use crate::harness::{secure_rdma, text};
use rustix::process::Signal;
use secure_rdma::certs::Timestamp;
use serde_json::Value;
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// For how long each time is looked whether something goes by the clock: the server looks at certificates every second.
const LOOK: Duration = Duration::from_secs(3);

#[track_caller]
fn goes_on(client: &mut Program, words: &str) {
    client.type_line(&format!("send {words}"));
    client.says(words);
}

/// It goes on for some time.
#[track_caller]
fn keeps_going_on(client: &mut Program, words: &str) {
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < LOOK {
        goes_on(client, &format!("{words}, {count}"));
        count += 1;
        thread::sleep(Duration::from_millis(100));
    }
}

/// Runs `secure-rdma certs` by a clock.
#[track_caller]
fn certs(command: &mut Command, state: &State, arguments: &[&str]) {
    command.arg("certs").args(arguments).args(["--certs", text(&state.path())]);
    Program::spawn(command).end().succeeded();
}

/// A client with a certificate of its own, whose clock is right.
fn member(server: &Server, name: &str, arguments: &[&str]) -> Program {
    let file = |end: &str| server.state.path().join(format!("{name}{end}.pem"));
    let (cert, key) = (file(""), file("-key"));
    server.client(&[&["--cert", text(&cert), "--key", text(&key)], arguments].concat())
}

fn hello(server: &Server, command: &mut Command) -> Ended {
    server.client_as(command, &["--exec", "send hello"]).end()
}

/// What is so when the server has looked at its certificate again, for which it has a second or two.
#[track_caller]
fn soon(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "its certificate is still the same");
    }
}

/// The server's clock, as it says it in its lines, is so many hours ahead of this process's, to the day.
#[track_caller]
fn clock_is_ahead(server: &Program, events: &mut usize, address: std::net::SocketAddr, hours: i64) {
    drop(TcpStream::connect(address).unwrap());
    *events += 1;
    let line = server.says_times("\"refused\"", *events).pop().unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    let shown = event["timestamp"].as_str().unwrap();
    // Its day, or the one that has just begun.
    let day = |earlier: u64| {
        let now = i64::try_from(Timestamp::now().as_unix() - earlier).unwrap() + hours * 3600;
        Timestamp::from_unix(now.try_into().unwrap()).to_string()[..10].to_owned()
    };
    assert!([0, 60].map(day).contains(&shown[..10].to_owned()), "{shown} is not {hours} hours ahead");
}

#[test]
fn sessions_go_on_when_the_servers_clock_is_set() {
    let Some(clock) = Clock::new("that sessions go on when the server's clock is set") else { return };
    // Older than it may be only by a clock that is ahead.
    let arguments = ["--max-session-age", "3600", "--log-format", "json"];
    let state = State::new();
    let certs = state.path();
    let program = Program::spawn(
        clock
            .command(SECURE_SERVER)
            .args(["--listen", "127.0.0.1:0", "--handshake-limit", "60", "--certs", text(&certs)])
            .args(arguments),
    );
    let listening: Value = serde_json::from_str(&program.says("\"listening\"")).unwrap();
    let address = listening["address"].as_str().unwrap().parse().unwrap();
    let server = Server { program, address, state };
    let (mut busy, mut idle) = (server.client(&["--reconnect"]), server.client(&["--reconnect"]));
    goes_on(&mut busy, "before");
    goes_on(&mut idle, "before");
    let mut refused = 0;
    for (offset, hours) in [("+30h", 30), ("-30h", -30), ("+40d", 960), ("-400d", -9600), ("+0", 0)] {
        clock.set(offset);
        clock_is_ahead(&server.program, &mut refused, address, hours);
        keeps_going_on(&mut busy, offset);
        if hours < -9000 {
            // By this clock the server's certificate hasn't begun, so that it is replaced, and all sessions are judged.
            server.program.says("sessions ended: 0");
            goes_on(&mut busy, "with another certificate");
        }
    }
    goes_on(&mut idle, "after");
    for client in [busy, idle] {
        let ended = client.end().succeeded();
        assert!(!ended.err.contains("not connected"), "{ended:?}");
    }
    let left = server.program.says_times("\"event\":\"left\"", 2);
    for line in left {
        let event: Value = serde_json::from_str(&line).unwrap();
        assert!(event["outcome"] == "left" && event["seconds"].as_f64().unwrap() < 3600.0, "{event}");
    }
    server.program.signal(Signal::TERM);
    let ended = server.program.ends();
    assert!(ended.status.success() && !ended.err.contains("panicked"), "{ended:?}");
}

#[test]
fn sessions_go_on_when_the_clients_clock_is_set_and_new_ones_need_the_right_time() {
    let Some(clock) = Clock::new("that sessions go on when the client's clock is set") else { return };
    let server = Server::start_alone(&[]);
    let mut client = server.client_as(&mut clock.command(SECURE_CLIENT), &["--reconnect"]);
    goes_on(&mut client, "before");
    for offset in ["+30h", "-30h", "-400d", "+400d"] {
        clock.set(offset);
        keeps_going_on(&mut client, offset);
    }
    // Why a new one isn't opened is said by the clock that is wrong.
    hello(&server, &mut clock.command(SECURE_CLIENT))
        .failed(1, &["certificate ended on", "this side's clock"]);
    clock.set("-400d");
    hello(&server, &mut clock.command(SECURE_CLIENT)).failed(1, &["certificate begins on", "clocks wrong?"]);
    goes_on(&mut client, "still");
    // It waits between its tries by another clock, and connects by one that is right again.
    clock.set("+0");
    let Server { program, address, state } = server;
    program.signal(Signal::KILL);
    drop(program);
    client.warns("not connected: ");
    let server = Server::start_in(state, &address.to_string(), &[]);
    client.warns("connected again: ");
    goes_on(&mut client, "again");
    client.end().succeeded();
    server.program.says("client 1: left");
}

#[test]
fn a_clock_beyond_a_certificates_end_ends_its_sessions_and_no_others() {
    let Some(clock) = Clock::new("that sessions end with their clients' certificates by any clock") else {
        return;
    };
    let state = State::new();
    certs(&mut Command::new(SECURE_RDMA), &state, &["init"]);
    for (name, days) in [("brief", "100"), ("long", "1000")] {
        let names = format!("{name}.example");
        let arguments = ["issue", &names, "--client", "--as", name, "--days", days];
        certs(&mut Command::new(SECURE_RDMA), &state, &arguments);
    }
    let server = Server::start_as(&mut clock.command(SECURE_SERVER), state, "127.0.0.1:0", &[]);
    let mut brief = member(&server, "brief", &[]);
    goes_on(&mut brief, "before");
    let mut long = member(&server, "long", &[]);
    goes_on(&mut long, "before");
    clock.set("+200d");
    brief
        .ends()
        .failed(1, &["ended by the server's rules as they are now", "the client's certificate ended on"]);
    server.program.says("client 1: lost: ");
    keeps_going_on(&mut long, "after 200 days");
    member(&server, "brief", &["--exec", "send hello"]).end().failed(1, &["certificate has ended"]);

    // The server's own ends within 30 days, and is replaced by one that begins by the server's clock.
    clock.set("+340d");
    let right = || hello(&server, &mut Command::new(SECURE_CLIENT));
    soon(|| right().err.contains("certificate begins on"));
    hello(&server, &mut clock.command(SECURE_CLIENT)).succeeded();
    keeps_going_on(&mut long, "after 340 days");
    // And again where the clock was wrong: nobody would trust the server for 340 days.
    clock.set("+0");
    soon(|| right().status.success());
    goes_on(&mut long, "after all");
    long.end().succeeded();
    server.program.signal(Signal::TERM);
    let ended = server.program.ends();
    assert!(ended.status.success() && !ended.err.contains("panicked"), "{ended:?}");
}

#[test]
fn a_clock_beyond_a_revocation_lists_end_ends_sessions_until_there_is_another_list() {
    let Some(clock) = Clock::new("that a revocation list ends by any clock") else { return };
    let state = State::new();
    certs(&mut Command::new(SECURE_RDMA), &state, &["init"]);
    certs(&mut Command::new(SECURE_RDMA), &state, &["revoke"]);
    for name in ["good", "bad"] {
        let arguments = ["issue", &format!("{name}.example"), "--client", "--as", name];
        certs(&mut Command::new(SECURE_RDMA), &state, &arguments);
    }
    let crl = state.path().join("crl.pem");
    let server =
        Server::start_as(&mut clock.command(SECURE_SERVER), state, "127.0.0.1:0", &["--crl", text(&crl)]);
    let mut good = member(&server, "good", &[]);
    goes_on(&mut good, "before");
    clock.set("+29d");
    keeps_going_on(&mut good, "after 29 days");
    clock.set("+31d");
    good.ends().failed(1, &["ended by the server's rules as they are now", "revocation list ended on"]);
    let hello = |name| member(&server, name, &["--exec", "send hello"]).end();
    hello("good").failed(1, &["revocation"]);
    certs(&mut clock.command(SECURE_RDMA), &server.state, &["revoke"]);
    server.program.says_times("reloaded (files have changed)", 1);
    hello("good").succeeded();

    // The clock was wrong all the time: lists that are made by one that is right count all the same.
    clock.set("+0");
    let mut bad = member(&server, "bad", &[]);
    goes_on(&mut bad, "before");
    secure_rdma(&["certs", "revoke", "bad", "--certs", text(&server.state.path())]).succeeded();
    bad.ends().failed(1, &["has been revoked"]);
    hello("bad").failed(1, &["has been revoked"]);
    hello("good").succeeded();
    server.program.signal(Signal::TERM);
    let ended = server.program.ends();
    assert!(ended.status.success() && !ended.err.contains("panicked"), "{ended:?}");
}
