//! `client --reconnect`: servers that go and come again.

use crate::harness::{PATIENCE, Server, State};
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Another server in the place of one that is gone.
fn again(gone: Server, arguments: &[&str]) -> Server {
    let Server { program, address, state } = gone;
    drop(program);
    Server::start_in(state, &address.to_string(), arguments)
}

/// What the server says of its client's certificate.
fn certificate(server: &Server, client: u64) -> String {
    let line = server.program.says(&format!("client {client}: arrived"));
    line.split("; ").find(|part| part.starts_with("certificate sha256:")).unwrap().to_owned()
}

/// Waits until datagrams wait to be taken at that address of this machine: their receiver stands still.
fn wait_for_datagrams(to: SocketAddrV4) {
    let deadline = Instant::now() + PATIENCE;
    // As the kernel shows the address's four bytes: as one number of this machine's.
    let place = format!("{:08X}:{:04X}", u32::from_ne_bytes(to.ip().octets()), to.port());
    let waiting = || {
        fs::read_to_string("/proc/net/udp").unwrap().lines().skip(1).any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let queue = fields[4].split(':').nth(1).unwrap();
            fields[1] == place && u64::from_str_radix(queue, 16).unwrap() > 0
        })
    };
    while !waiting() {
        assert!(Instant::now() < deadline, "nothing comes to {to}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Where the server's queue pair takes packets: the second of the places in its line of a client's arrival.
fn data_path(server: &Server) -> SocketAddrV4 {
    let line = server.program.says("client 1: arrived");
    line.split(['(', ')']).nth(3).unwrap().parse().unwrap()
}

#[test]
fn a_client_finds_a_killed_server_again_with_the_same_identity_and_a_new_region() {
    let mut server = Server::start_alone(&[]);
    let mut client = server.client(&["--reconnect"]);
    client.type_line("write some data");
    client.says("9 bytes written");
    let first = certificate(&server, 1);
    for round in 1..=2 {
        server.program.signal(Signal::KILL);
        // It waits for nobody to type anything, and for the server to be there.
        client.warns_times("not connected: ", round);
        server = again(server, &[]);
        client.warns_times("connected again: ", round);
        assert_eq!(certificate(&server, 1), first);
        client.type_line(&format!("send round {round}"));
        client.says(&format!("round {round}"));
    }
    client.type_line("read 4");
    client.says("b\"\\x00\\x00\\x00\\x00\"");
    let ended = client.end().succeeded();
    assert!(!ended.out.iter().any(|line| line.starts_with("unknown")), "{ended:?}");
    server.program.says("client 1: left");
}

#[test]
fn what_was_in_flight_is_reported_as_unknown_and_not_repeated() {
    let server = Server::start_alone(&[]);
    let mut client = server.client(&["--reconnect"]);
    client.type_line("add 1");
    client.says("0 + 1 = 1");
    let data_path = data_path(&server);
    server.program.signal(Signal::STOP);
    client.type_line("add 5");
    wait_for_datagrams(data_path);
    server.program.signal(Signal::KILL);
    client.says("unknown: add 5");
    let server = again(server, &[]);
    client.warns("connected again: ");
    // Had it been repeated, the new session's counter would hold it.
    client.type_line("add 7");
    client.says("0 + 7 = 7");
    let ended = client.end().failed(1, &["1 of the lines are reported as unknown", "not repeated"]);
    assert_eq!(ended.out, ["0 + 1 = 1", "unknown: add 5", "0 + 7 = 7"]);
    server.program.says("client 1: left");
}

#[test]
fn lines_under_way_are_each_done_or_unknown_once_through_many_deaths_of_the_server() {
    const BETWEEN: usize = 500;
    let mut server = Server::start_alone(&[]);
    let mut client = server.client(&["--reconnect"]);
    let mut input = client.take_input();
    let enough = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&enough);
    // There are always lines under way, however late this test's thread is.
    let feeder = thread::spawn(move || {
        let mut lines = 0;
        while !stop.load(Ordering::Relaxed) {
            writeln!(input, "send {lines}.").unwrap();
            lines += 1;
        }
        lines
    });
    let mut done = 0;
    for death in 1..=4 {
        client.says_lines(done + BETWEEN);
        server.program.signal(Signal::KILL);
        server = again(server, &[]);
        client.warns_times("connected again: ", death);
        done = client.lines();
    }
    enough.store(true, Ordering::Relaxed);
    let lines = feeder.join().unwrap();
    let ended = client.end();
    assert_eq!(ended.out.len(), lines);
    let mut unknown = 0;
    for (at, line) in ended.out.iter().enumerate() {
        if *line == format!("unknown: send {at}.") {
            unknown += 1;
        } else {
            assert_eq!(*line, format!("{at}."));
        }
    }
    assert!(unknown <= 4, "a death costs what was in flight: one line at most");
    assert_eq!(ended.status.code(), Some(i32::from(unknown > 0)), "{}", ended.err);
}

#[test]
fn a_server_that_says_goodbye_is_answered_and_found_again() {
    let server = Server::start_alone(&[]);
    let client = server.client(&["--reconnect"]);
    server.program.says("client 1: arrived");
    server.program.signal(Signal::TERM);
    server.program.says("client 1: dismissed");
    client.warns("not connected: the server has closed the session; next try in ");
    let server = again(server, &[]);
    client.warns("connected again: ");
    client.end().succeeded();
    server.program.says("client 1: left");
}

#[test]
fn a_server_that_is_full_is_tried_again_until_there_is_room() {
    let server = Server::start_alone(&[]);
    let clients = [server.client(&["--reconnect"]), server.client(&["--reconnect"])];
    server.program.says("client 2: arrived");
    server.program.signal(Signal::KILL);
    let server = again(server, &["--max-clients", "1"]);
    // One of them is the first.
    let deadline = Instant::now() + PATIENCE;
    let late = loop {
        let late = clients
            .iter()
            .position(|client| client.has_warned("not connected: the peer ended the session: "));
        match late {
            Some(late) => break late,
            None => assert!(Instant::now() < deadline, "both are in"),
        }
        thread::sleep(Duration::from_millis(10));
    };
    clients[late].warns("the server is full");
    let [first, second] = clients;
    let (early, mut late) = if late == 1 { (first, second) } else { (second, first) };
    server.program.says("client 1: arrived");
    early.end().succeeded();
    late.warns("connected again: ");
    late.type_line("send there is room");
    late.says("there is room");
    late.end().succeeded();
}

/// Somebody else on the server's port isn't asked again and again, and gets nothing.
#[test]
fn another_server_in_its_place_is_no_server_of_this_clients() {
    let server = Server::start_alone(&[]);
    let client = server.client(&["--reconnect"]);
    server.program.says("client 1: arrived");
    let Server { program, address, state } = server;
    program.signal(Signal::KILL);
    drop(program);
    let other = Server::start_in(State::new(), &address.to_string(), &[]);
    let ended = client.ends().failed(1, &["not connected: ", "error: "]);
    assert!(ended.err.lines().last().unwrap().contains("CA"), "{ended:?}");
    other.serves();
    drop(state);
}
