//! What users get wrong: each time a message that says what to do, an exit code, and a server that goes on serving.

use crate::harness::{Program, SECURE_CLIENT, SECURE_SERVER, Server, State, secure_rdma, text};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use std::net::SocketAddr;

#[test]
fn wrong_usage_exits_with_2() {
    secure_rdma(&[]).failed(2, &["Usage"]);
    secure_rdma(&["nonsense"]).failed(2, &["nonsense"]);
    Program::start(SECURE_CLIENT, &[]).end().failed(2, &["HOST"]);
    Program::start(SECURE_CLIENT, &["host:notaport"]).end().failed(2, &["notaport"]);
    Program::start(SECURE_CLIENT, &["host", "--pin", "12"]).end().failed(2, &["sha256:"]);
    Program::start(SECURE_SERVER, &["--listen", "nowhere"]).end().failed(2, &["--listen"]);
    Program::start(SECURE_SERVER, &["--max-clients", "0"]).end().failed(2, &["--max-clients"]);
    Program::start(SECURE_SERVER, &["--region", "1X"]).end().failed(2, &["--region", "64K"]);
    secure_rdma(&["demo", "--device", ""]).failed(2, &["auto"]);
    secure_rdma(&["demo", "--device", "embedded:nowhere"]).failed(2, &["embedded:ADDR"]);
}

#[test]
fn an_unknown_device_is_named() {
    let state = State::new();
    let certs = state.path();
    let words = ["rxe7", "embedded"];
    secure_rdma(&["demo", "--device", "rxe7"]).failed(1, &words);
    Program::start(SECURE_SERVER, &["--device", "rxe7", "--listen", "127.0.0.1:0", "--certs", text(&certs)])
        .end()
        .failed(1, &words);
    Program::start(SECURE_CLIENT, &["localhost", "--device", "rxe7", "--certs", text(&certs)])
        .end()
        .failed(1, &words);
    // An address that isn't this host's (RFC 5737: nobody's).
    secure_rdma(&["demo", "--device", "embedded:192.0.2.1"]).failed(1, &["192.0.2.1", "127.0.0.1"]);
}

#[test]
fn a_second_server_on_a_port_says_so() {
    let server = Server::start(&[]);
    let (listen, certs) = (server.address.to_string(), server.state.path());
    let second = Program::start(SECURE_SERVER, &["--listen", &listen, "--certs", text(&certs)]);
    second.end().failed(1, &[&listen, "in use", "--listen"]);
    server.serves();
}

#[test]
fn an_unreachable_host_is_named() {
    let state = State::new();
    let certs = state.path();
    secure_rdma(&["certs", "init", "--certs", text(&certs)]).succeeded();
    // A port that nobody can listen at meanwhile.
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let place = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap().to_string();
    let client = Program::start(SECURE_CLIENT, &[&place, "localhost", "--certs", text(&certs)]);
    client.end().failed(1, &["can't connect", &place, "is the server running there"]);
    // RFC 6761: no such name will ever exist.
    let client = Program::start(SECURE_CLIENT, &["nowhere.invalid", "--certs", text(&certs)]);
    client.end().failed(1, &["nowhere.invalid", "no such host"]);
}

#[test]
fn the_first_line_that_fails_ends_a_piped_session_with_1() {
    let server = Server::start(&[]);
    for (lines, words) in [
        ("send a\nsned b\nsend c\n", vec!["\"sned\" is no command"]),
        ("send a\nadd five\nsend c\n", vec!["\"five\" is not a number", "add N"]),
        ("send a\nread\nsend c\n", vec!["nothing was written yet", "read LEN"]),
        ("send a\nread 2000000\nsend c\n", vec!["outside the region"]),
    ] {
        let ended = server.client_with(lines).failed(1, &words);
        assert_eq!(ended.out, ["a"], "nothing after the line that failed is done");
    }
    let ended = server.client(&["--exec", "send a", "--exec", "nonsense", "--exec", "send b"]).end();
    assert_eq!(ended.failed(1, &["nonsense"]).out, ["a"]);
    // Those sessions were closed in an orderly way.
    server.program.says_times(": left; after", 5);
    server.serves();
}

#[test]
fn input_that_is_no_text_is_explained() {
    use std::io::Write;
    let server = Server::start(&[]);
    let mut client = server.client(&[]);
    client.take_input().write_all(b"send a\nsend \xff\xfe\n").unwrap();
    let ended = client.end().failed(1, &["standard input, line 2"]);
    assert_eq!(ended.out, ["a"]);
}

#[test]
fn limits_of_the_server_are_said_to_the_client() {
    let server = Server::start(&["--region", "4096", "--max-message", "1000"]);
    let long = |command: &str, len: usize| format!("{command} {}\nadd 1\n", "x".repeat(len));
    server.client_with(&long("send", 1000)).succeeded();
    server.client_with(&long("send", 1001)).failed(1, &["1001 bytes", "1000"]);
    server.client_with(&long("write", 4096)).succeeded();
    server
        .client_with(&long("write", 4097))
        .failed(1, &["4097 bytes at offset 0", "outside the region", "4096"]);
    server.client_with("read 4096\n").succeeded();
    server.client_with("read 4097\n").failed(1, &["4097 bytes at offset 0", "4096"]);
    server.client_with("read 18446744073709551615\n").failed(1, &["outside the region"]);
    server.serves();
}

#[test]
fn the_eleventh_of_ten_clients_is_turned_away_until_one_leaves() {
    let server = Server::start(&["--max-clients", "10"]);
    let mut clients: Vec<Program> = (0..10).map(|_| server.client(&[])).collect();
    for client in &mut clients {
        client.type_line("send here");
        client.says("here");
    }
    for _ in 0..3 {
        server.client_with("send hello\n").failed(1, &["full", "10 clients"]);
    }
    server.program.says_times("refused 127.0.0.1:", 3);
    // The others don't notice.
    for client in &mut clients {
        client.type_line("send still here");
        client.says("still here");
    }
    clients.pop().unwrap().end().succeeded();
    server.serves();
    for client in clients {
        client.end().succeeded();
    }
}
