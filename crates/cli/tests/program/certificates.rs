//! Who is trusted, and who isn't.

use crate::harness::{Ended, Program, SECURE_CLIENT, Server, State, secure_rdma, text};
use secure_rdma::certs::{Kind, Name, Store, Timestamp, Validity};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// A client with these arguments says hello.
fn hello(arguments: &[&str]) -> Ended {
    let mut all = arguments.to_vec();
    all.extend(["--exec", "send hello"]);
    Program::start(SECURE_CLIENT, &all).end()
}

fn names() -> Vec<Name> {
    ["localhost", "127.0.0.1"].map(|name| name.parse().unwrap()).to_vec()
}

#[test]
fn a_ca_file_or_a_pin_is_enough_elsewhere() {
    let server = Server::start(&[]);
    let place = server.address.to_string();
    let line = server.program.says("CA fingerprint: ");
    let pin = line.strip_prefix("CA fingerprint: ").unwrap();
    let ca = server.state.path().join("ca.pem");
    // These clients have no state directory at all.
    assert_eq!(hello(&[&place, "localhost", "--pin", pin]).succeeded().out, ["hello"]);
    assert_eq!(hello(&[&place, "localhost", "--ca", text(&ca)]).succeeded().out, ["hello"]);
}

#[test]
fn without_trust_the_client_says_what_to_do() {
    let server = Server::start(&[]);
    let place = server.address.to_string();
    let nothing = State::new();
    hello(&[&place, "localhost", "--certs", text(&nothing.path())]).failed(1, &["--ca FILE", "--pin"]);
    hello(&[&place, "localhost", "--ca", "/nonexistent/ca.pem"]).failed(1, &["/nonexistent/ca.pem"]);
    server.serves();
}

#[test]
fn a_server_of_another_ca_is_refused() {
    let server = Server::start(&[]);
    let place = server.address.to_string();
    let other = State::new();
    secure_rdma(&["certs", "init", "--certs", text(&other.path())]).succeeded();
    let ca = other.path().join("ca.pem");
    let pin = format!("sha256:{}", "0".repeat(64));
    for trust in [["--certs", text(&other.path())], ["--ca", text(&ca)], ["--pin", &pin]] {
        let ended = hello(&[&place, "localhost", trust[0], trust[1]]);
        assert_eq!(ended.failed(1, &["not by a CA that is trusted"]).out, [""; 0]);
    }
    // The server says what its client objected to.
    server.program.says_times("it doesn't trust this server's CA", 3);
    server.serves();
}

#[test]
fn a_server_under_another_name_is_refused() {
    let server = Server::start(&[]);
    let place = server.address.to_string();
    let certs = server.state.path();
    let ended = hello(&[&place, "wrong.example", "--certs", text(&certs)]);
    assert_eq!(ended.failed(1, &["wrong.example", "localhost"]).out, [""; 0]);
    server.serves();
}

#[test]
fn a_server_has_the_names_that_it_is_given() {
    let server = Server::start(&["--name", "server.example"]);
    let place = server.address.to_string();
    let certs = server.state.path();
    assert_eq!(hello(&[&place, "server.example", "--certs", text(&certs)]).succeeded().out, ["hello"]);
}

/// The server has a certificate that ends while it runs, and no CA key to issue another with.
#[test]
fn a_certificate_that_has_ended_is_refused() {
    let state = State::new();
    let store = Store::open(state.path()).unwrap();
    let now = Timestamp::now();
    let life = Duration::from_secs(4);
    let validity = Validity { not_before: now.minus(life), not_after: now.plus(life) };
    store.issue("short", &names(), Kind::Server, validity).unwrap();
    let file = |name: &str| state.path().join(name);
    fs::rename(file("short.pem"), file("server.pem")).unwrap();
    fs::rename(file("short-key.pem"), file("server-key.pem")).unwrap();
    fs::remove_file(file("ca-key.pem")).unwrap();
    let server = Server::start_in(state, "127.0.0.1:0", &[]);
    server.program.warns("should be replaced");
    while Timestamp::now() <= validity.not_after {
        thread::sleep(Duration::from_millis(100));
    }
    server.client_with("send hello\n").failed(1, &["certificate ended on"]);
    server.program.says("certificate has ended");
}

fn client_certificate(store: &Store, file: &str, not_after: Timestamp) {
    let validity = Validity { not_before: Timestamp::now().minus(Duration::from_secs(7200)), not_after };
    store.issue(file, &["client.example".parse().unwrap()], Kind::Client, validity).unwrap();
}

#[test]
fn a_server_that_requires_certificates_lets_nobody_in_without() {
    let server = Server::start(&["--client-auth", "required"]);
    let store = Store::open(server.state.path()).unwrap();
    let (now, hour) = (Timestamp::now(), Duration::from_secs(3600));
    client_certificate(&store, "good", now.plus(hour));
    client_certificate(&store, "old", now.minus(hour));
    store.issue("wrong-kind", &names(), Kind::Server, Validity::days(1)).unwrap();
    let other = State::new();
    client_certificate(&Store::open(other.path()).unwrap(), "stranger", now.plus(hour));
    let with = |dir: &Path, name: &str| {
        let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}-key.pem")));
        server.client(&["--cert", text(&cert), "--key", text(&key), "--exec", "send hello"]).end()
    };
    let certs = server.state.path();
    assert_eq!(with(&certs, "good").succeeded().out, ["hello"]);
    assert!(server.program.says("client 1: arrived").contains("certificate sha256:"));
    server.client(&["--exec", "send hello"]).end().failed(1, &["requires a client certificate"]);
    with(&certs, "old").failed(1, &["certificate has ended"]);
    with(&certs, "wrong-kind").failed(1, &["not issued for a client"]);
    with(&other.path(), "stranger").failed(1, &["doesn't trust the CA of this client's certificate"]);
    server.program.says_times("refused 127.0.0.1:", 4);
    assert_eq!(with(&certs, "good").succeeded().out, ["hello"]);
}

#[test]
fn certificates_are_made_and_shown() {
    let state = State::new();
    let certs = state.path();
    let show = |json: bool| {
        let mut arguments = vec!["certs", "show", "--certs", text(&certs)];
        arguments.extend(json.then_some("--json"));
        secure_rdma(&arguments)
    };
    show(false).failed(1, &["there is no CA in"]);
    secure_rdma(&["certs", "init", "server.example", "--certs", text(&certs)]).succeeded();
    let issued = secure_rdma(&[
        "certs",
        "issue",
        "client.example",
        "--client",
        "--as",
        "one",
        "--days",
        "3",
        "--certs",
        text(&certs),
    ]);
    assert!(issued.succeeded().out.join("\n").contains("one-key.pem"));
    let out = show(false).succeeded().out.join("\n");
    for part in
        ["ca.pem: ca", "server.pem: server", "one.pem: client", "server.example", "client.example", "sha256:"]
    {
        assert!(out.contains(part), "{part:?} is missing in {out}");
    }
    let document: serde_json::Value = serde_json::from_str(&show(true).succeeded().out.join("\n")).unwrap();
    let kinds: Vec<_> = document["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["ca", "client", "server"]);
    secure_rdma(&["certs", "issue", "x", "--as", "../x", "--certs", text(&certs)]).failed(1, &["../x"]);
    secure_rdma(&["certs", "issue", "--certs", text(&certs)]).failed(2, &["NAME"]);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let state = State::new();
    let certs = state.path();
    secure_rdma(&["certs", "init", "--certs", text(&certs)]).succeeded();
    fs::set_permissions(certs.join("server-key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let arguments = ["server", "--listen", "127.0.0.1:0", "--certs", text(&certs)];
    secure_rdma(&arguments).failed(1, &["server-key.pem", "chmod 600"]);
}
