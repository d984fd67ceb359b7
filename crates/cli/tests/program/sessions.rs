//! Good clients.

use crate::harness::{Program, SECURE_CLIENT, SECURE_RDMA, SECURE_SERVER, Server, State, secure_rdma, text};
use rustix::process::Signal;
use std::process::Command;

const LINES: &str = "send hello\nwrite some data\nread 9\nadd 5\nquit\n";
const RESULTS: [&str; 4] = ["hello", "9 bytes written", "some data", "0 + 5 = 5"];

#[test]
fn piped_lines_are_carried_out_in_a_session() {
    let server = Server::start(&[]);
    let ended = server.client_with(LINES).succeeded();
    assert_eq!(ended.out, RESULTS);
    assert!(ended.err.contains("data path: sealed, TLS13_"), "{ended:?}");
    assert!(ended.err.contains(", by packets") && !ended.err.contains("NOT sealed"), "{ended:?}");
    assert!(ended.err.contains("TLSv1.3"), "{ended:?}");
    let arrival = server.program.says("client 1: arrived from 127.0.0.1:");
    assert!(arrival.contains("QPN 0x") && !arrival.contains("PSN 0x"), "{arrival}");
    assert!(arrival.ends_with("; data path: sealed by packets"), "{arrival}");
    server.program.says("client 1: left; after ");
    assert!(server.program.says("messages echoed: 1, 5 bytes").starts_with("client 1"));
    server
        .program
        .says("data path: sealed; counters (add, swap): only where packets are sealed, or nothing is");
}

#[test]
fn one_server_on_every_address_serves_ipv4_and_ipv6() {
    let server = Server::start_at("[::]:0", &[]);
    let certs = server.state.path();
    for (host, name) in [
        ("127.0.0.1", "localhost"),
        ("[::1]", "localhost"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
    ] {
        let place = server.place(host);
        let mut client = Program::start(SECURE_CLIENT, &[&place, name, "--certs", text(&certs)]);
        client.type_line(LINES.trim_end());
        assert_eq!(client.end().succeeded().out, RESULTS, "{host}");
    }
    // Without a name, the host's own is verified.
    let place = server.place("[::1]");
    let client =
        Program::start(SECURE_RDMA, &["client", &place, "--certs", text(&certs), "--exec", "send six"]);
    assert_eq!(client.end().succeeded().out, ["six"]);
}

#[test]
fn the_state_directory_of_the_account_needs_no_argument() {
    let state = State::new();
    let with_state = |program: &str, arguments: &[&str]| {
        Program::spawn_with_state(Command::new(program).args(arguments), &state.path())
    };
    let server = with_state(SECURE_SERVER, &["--listen", "127.0.0.1:0"]);
    let place = server.says("listening on ").split([' ', ',']).nth(2).unwrap().to_owned();
    let client = with_state(SECURE_CLIENT, &[&place, "localhost", "--exec", "send hello"]);
    assert_eq!(client.end().succeeded().out, ["hello"]);
    assert!(state.path().join("secure-rdma/ca.pem").exists());
}

#[test]
fn the_end_of_the_input_ends_the_session_in_an_orderly_way() {
    let server = Server::start(&[]);
    assert_eq!(server.client_with("send a\nsend  b").succeeded().out, ["a", " b"]);
    server.program.says("client 1: left");
    assert_eq!(server.client_with("").succeeded().out, [""; 0]);
    server.program.says("client 2: left");
}

#[test]
fn exec_carries_out_its_lines_and_reads_no_input() {
    let server = Server::start(&[]);
    let lines = [
        "--exec",
        "write abc",
        "--exec",
        "read",
        "--exec",
        "add 2",
        "--exec",
        "swap 2 9",
        "--exec",
        "swap 2 1",
        "--exec",
        "add 0",
    ];
    let ended = server.client(&lines).end().succeeded();
    assert_eq!(
        ended.out,
        [
            "3 bytes written",
            "abc",
            "0 + 2 = 2",
            "it held 2, now 9",
            "it holds 9, not 2: unchanged",
            "9 + 0 = 9"
        ]
    );
}

#[test]
fn help_and_stats_say_what_there_is_and_what_was_done() {
    let server = Server::start(&[]);
    let ended = server.client_with("help\nsend abc\nwrite de\nread\nadd 1\nstats\n").succeeded();
    let out = ended.out.join("\n");
    for part in [
        "send TEXT",
        "quit",
        "messages sent and echoed: 1, 3 bytes",
        "writes: 1, 2 bytes",
        "reads: 1, 2 bytes",
        "atomics: 1",
        "data path: sealed, TLS13_",
    ] {
        assert!(out.contains(part), "{part:?} is missing in {out}");
    }
}

#[test]
fn what_is_not_text_is_shown_escaped() {
    let server = Server::start(&[]);
    let ended = server.client_with("write abc\nread 5\nsend \x1b[2J\nsend Grüße\n").succeeded();
    assert_eq!(ended.out, ["3 bytes written", r#"b"abc\x00\x00""#, r#"b"\x1b[2J""#, "Grüße"]);
}

#[test]
fn each_client_has_its_own_region_and_counter() {
    let server = Server::start(&[]);
    let (mut first, mut second) = (server.client(&[]), server.client(&[]));
    first.type_line("write first");
    first.says("5 bytes written");
    first.type_line("add 1");
    first.says("0 + 1 = 1");
    second.type_line("read 5");
    second.says(r#"b"\x00\x00\x00\x00\x00""#);
    second.type_line("add 10");
    second.says("0 + 10 = 10");
    first.type_line("read");
    first.says("first");
    first.end().succeeded();
    second.end().succeeded();
}

#[test]
fn results_come_line_by_line_even_into_a_pipe() {
    let server = Server::start(&[]);
    let mut client = server.client(&[]);
    for text in ["one", "two", "three"] {
        client.type_line(&format!("send {text}"));
        // It waits for input now: nothing else could flush its output.
        client.says(text);
    }
    client.end().succeeded();
}

#[test]
fn verbose_shows_psns_and_both_sides_agree_on_them() {
    let server = Server::start(&["-v"]);
    let ended = server.client(&["-v", "--exec", "send x"]).end().succeeded();
    let arrival = server.program.says("client 1: arrived");
    let (_, theirs) = arrival.split_once("; PSN ").unwrap();
    let (client, server_psn) = theirs.split(';').next().unwrap().split_once(" there, ").unwrap();
    let server_psn = server_psn.trim_end_matches(" here");
    assert!(ended.err.contains(&format!("PSN {client} here, {server_psn} there")), "{arrival} {ended:?}");
}

#[test]
fn an_interrupted_server_says_goodbye_to_its_clients() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = Server::start(&[]);
        let mut client = server.client(&[]);
        client.type_line("send hello");
        client.says("hello");
        server.program.signal(signal);
        let ended = server.program.ends().succeeded();
        assert!(ended.out.iter().any(|line| line.starts_with("client 1: dismissed")), "{ended:?}");
        client.ends().failed(1, &["the server has closed the session"]);
    }
}

#[test]
fn an_interrupted_client_says_goodbye_to_its_server() {
    let server = Server::start(&[]);
    let mut client = server.client(&[]);
    client.type_line("send hello");
    client.says("hello");
    client.signal(Signal::INT);
    client.ends().failed(1, &["interrupted"]);
    server.program.says("client 1: left");
}

#[test]
fn a_closed_output_ends_the_programs_quietly() {
    let pipeline = format!("{SECURE_RDMA} devices -v | head -n 1; {SECURE_RDMA} --help | head -n 1");
    let ended = Program::spawn(Command::new("sh").args(["-c", &pipeline])).end().succeeded();
    assert_eq!(ended.err, "");
    let server = Server::start(&[]);
    let certs = server.state.path();
    let place = server.address.to_string();
    let client =
        format!("yes 'send x' | {SECURE_CLIENT} {place} localhost --certs {} | head -n 3", text(&certs));
    let ended = Program::spawn(Command::new("sh").args(["-c", &client])).end().succeeded();
    assert_eq!(ended.out, ["x"; 3]);
    assert!(!ended.err.contains("panicked") && !ended.err.contains("error"), "{ended:?}");
    server.serves();
}

#[test]
fn versions_and_help_are_there() {
    let ended = secure_rdma(&["--version"]).succeeded();
    assert_eq!(ended.out, [concat!("secure-rdma ", env!("CARGO_PKG_VERSION"))]);
    for command in ["server", "client", "demo", "devices", "certs"] {
        let ended = secure_rdma(&[command, "--help"]).succeeded();
        assert!(ended.out.join("\n").contains("Usage: secure-rdma "), "{ended:?}");
    }
    Program::start(SECURE_SERVER, &["--help"]).end().succeeded();
    Program::start(SECURE_CLIENT, &["--help"]).end().succeeded();
}

#[test]
fn devices_are_listed_for_people_and_programs() {
    let out = secure_rdma(&["devices", "-v"]).succeeded().out.join("\n");
    assert!(
        out.contains("embedded: ")
            && out.contains("127.0.0.1 (RoCE v2, lo)")
            && out.contains("queue pairs: at most"),
        "{out}"
    );
    let out = secure_rdma(&["devices", "--json"]).succeeded().out.join("\n");
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    let device = &document["devices"][0];
    assert_eq!(device["name"], "embedded");
    assert!(device["gids"].as_array().unwrap().iter().any(|gid| gid["address"] == "127.0.0.1"), "{out}");
    assert!(device["limits"]["queue_pairs"].as_u64().unwrap() > 0);
}
