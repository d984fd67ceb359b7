//! Processes that are killed in the middle of it.

use crate::harness::{Program, Server};
use rustix::process::Signal;
use std::io::Write;
use std::thread;

/// Keeps a client busy with big messages, until it is gone.
fn keep_busy(client: &mut Program) {
    let mut input = client.take_input();
    thread::spawn(move || {
        let line = format!("send {}\n", "x".repeat(500_000));
        while input.write_all(line.as_bytes()).is_ok() {}
    });
}

#[test]
fn a_client_killed_in_mid_transfer_costs_only_itself() {
    let server = Server::start(&["--max-clients", "1"]);
    for number in 1..=3 {
        let mut client = server.client(&[]);
        keep_busy(&mut client);
        client.says("xxxx");
        client.signal(Signal::KILL);
        server.program.says(&format!("client {}: lost: ", 2 * number - 1));
        // It was the only one that may be there: everything that it held is free.
        server.serves();
    }
}

#[test]
fn a_server_killed_in_mid_transfer_is_missed_by_its_clients() {
    let server = Server::start_alone(&[]);
    let mut busy = server.client(&[]);
    let mut idle = server.client(&[]);
    idle.type_line("send hello");
    idle.says("hello");
    keep_busy(&mut busy);
    busy.says("xxxx");
    server.program.signal(Signal::KILL);
    for client in [busy, idle] {
        let ended = client.ends();
        assert_eq!(ended.status.code(), Some(1), "{:?}", ended.err);
        assert!(ended.err.contains("error: ") && !ended.err.contains("panicked"), "{:?}", ended.err);
        let reason = ended.err.lines().last().unwrap();
        assert!(
            reason.contains("broke off") || reason.contains("gone") || reason.contains("connection"),
            "{reason}"
        );
    }
    // The port and the certificates are there for another.
    let Server { address, state, program } = server;
    drop(program);
    let again = Server::start_in(state, &address.to_string(), &[]);
    again.serves();
}
