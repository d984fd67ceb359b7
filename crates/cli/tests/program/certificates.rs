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
fn a_ca_file_or_a_pin_is_enough_elsewhere_where_clients_need_no_certificate() {
    let server = Server::start(&["--client-auth", "off"]);
    server.program.says("clients: ANYONE who reaches this port (--client-auth off)");
    let place = server.address.to_string();
    let line = server.program.says("CA fingerprint: ");
    let pin = line.strip_prefix("CA fingerprint: ").unwrap();
    let ca = server.state.path().join("ca.pem");
    // These clients have no state directory at all.
    assert_eq!(hello(&[&place, "localhost", "--pin", pin]).succeeded().out, ["hello"]);
    assert_eq!(hello(&[&place, "localhost", "--ca", text(&ca)]).succeeded().out, ["hello"]);
    server.program.says("client 2: arrived").contains("; no client certificate");
}

#[test]
fn without_any_option_this_accounts_clients_come_in_and_nobody_else() {
    let server = Server::start(&[]);
    server.program.says("clients: only with a certificate by this CA");
    server.program.warns("made a NEW private CA in");
    assert_eq!(server.client_with("send hello\n").succeeded().out, ["hello"]);
    let line = server.program.says("client 1: arrived");
    assert!(line.contains("; identity dns:localhost") && line.contains("; certificate sha256:"), "{line}");
    // Whoever trusts the server, and is another account's.
    let place = server.address.to_string();
    let ca = server.state.path().join("ca.pem");
    let other = Server::start(&[]);
    let certs = other.state.path();
    for more in [&[][..], &["--certs", text(&certs)]] {
        let arguments = [&[&place, "localhost", "--ca", text(&ca)], more].concat();
        let advice = "certs issue NAME --client --bundle";
        hello(&arguments).failed(1, &["requires a client certificate", advice, "--identity FILE"]);
    }
    // The other account's clients show theirs to its own server only.
    let server = Server::start(&["--client-auth", "optional"]);
    let (place, ca) = (server.address.to_string(), server.state.path().join("ca.pem"));
    hello(&[&place, "localhost", "--ca", text(&ca), "--certs", text(&certs)]).succeeded();
    assert!(server.program.says("client 1: arrived").contains("; no client certificate"));
}

#[test]
fn a_client_elsewhere_needs_one_file() {
    let server = Server::start(&[]);
    let (certs, place) = (server.state.path(), server.address.to_string());
    let elsewhere = State::new();
    fs::create_dir(elsewhere.path()).unwrap();
    let bundle = elsewhere.path().join("worker");
    let bundle = text(&bundle);
    let issue = ["certs", "issue", "worker.example", "--client", "--bundle", bundle, "--certs", text(&certs)];
    let out = secure_rdma(&issue).succeeded().out.join("\n");
    assert!(out.contains(&format!("for --identity, to be kept secret: {bundle}")), "{out}");
    assert!(!certs.join("worker.example-key.pem").exists());
    assert_eq!(hello(&[&place, "localhost", "--identity", bundle]).succeeded().out, ["hello"]);
    assert!(server.program.says("client 1: arrived").contains("; identity dns:worker.example;"));
    let issue = ["certs", "issue", "worker.example", "--bundle", bundle, "--certs", text(&certs)];
    secure_rdma(&issue).failed(2, &["--client"]);
    hello(&[&place, "localhost", "--identity", "/nonexistent/worker"]).failed(1, &["/nonexistent/worker"]);
}

#[test]
fn certificates_of_one_name_are_all_listed_and_revoked_by_it() {
    let state = State::new();
    let dir = state.path();
    let certs = |arguments: &[&str]| {
        secure_rdma(&[&["certs"], arguments, &["--certs", text(&dir)]].concat()).succeeded()
    };
    certs(&["init"]);
    let issue = ["issue", "w.example", "--client", "--as", "w"];
    let first = certs(&issue);
    assert!(first.err.is_empty(), "{first:?}");
    let second = certs(&issue);
    assert!(second.err.contains("still good, and issued as w before: serial:"), "{second:?}");
    let shown = || {
        let text = certs(&["show", "--json"]).out.join("\n");
        let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(shown["issued"]["complete"], true);
        let issued = shown["issued"]["certificates"].as_array().unwrap().clone();
        let of_w = issued.into_iter().filter(|entry| entry["name"] == "w");
        of_w.map(|entry| entry["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown(), ["valid", "valid"]);
    let revoked = certs(&["revoke", "w"]).out;
    assert_eq!(revoked.iter().filter(|line| line.ends_with(", now")).count(), 2, "{revoked:?}");
    assert_eq!(shown(), ["revoked", "revoked"]);
    let text_shown = certs(&["show"]).out.join("\n");
    assert!(text_shown.contains("revoked: w, client, issued "), "{text_shown}");
    fs::remove_file(dir.join("issued.jsonl")).unwrap();
    assert!(certs(&["show"]).out.join("\n").contains("issued before this record was begun isn't known"));
    secure_rdma(&["certs", "revoke", "nobody", "--certs", text(&dir)]).failed(1, &["nobody", "certs show"]);
}

/// With the CA's key elsewhere.
#[test]
fn a_server_whose_ca_is_elsewhere_needs_no_key_of_it() {
    let (admin, server) = (State::new(), State::new());
    secure_rdma(&["certs", "init", "--certs", text(&admin.path())]).succeeded();
    fs::create_dir(server.path()).unwrap();
    for file in ["ca.pem", "server.pem", "server-key.pem"] {
        fs::copy(admin.path().join(file), server.path().join(file)).unwrap();
    }
    let bundle = admin.path().join("w.bundle");
    let dir = admin.path();
    let issue = ["certs", "issue", "w", "--client", "--bundle", text(&bundle), "--certs", text(&dir)];
    secure_rdma(&issue).succeeded();
    let server = Server::start_in(server, "127.0.0.1:0", &[]);
    let place = server.address.to_string();
    assert_eq!(hello(&[&place, "localhost", "--identity", text(&bundle)]).succeeded().out, ["hello"]);
    let certs = server.state.path();
    secure_rdma(&["certs", "issue", "x", "--client", "--certs", text(&certs)]).failed(1, &["ca-key.pem"]);
}

/// Both would have hung, or made a CA, where somebody else says.
#[test]
fn a_state_directory_that_others_could_exchange_and_a_pipe_in_one_keep_a_server_from_starting() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let state = State::new();
    fs::create_dir(state.path()).unwrap();
    let real = state.path().join("real");
    fs::create_dir(&real).unwrap();
    let start = |dir: &Path| secure_rdma(&["server", "--listen", "127.0.0.1:0", "--certs", text(dir)]);
    fs::set_permissions(state.path(), fs::Permissions::from_mode(0o777)).unwrap();
    symlink(&real, state.path().join("link")).unwrap();
    for dir in ["real", "link", "new"] {
        start(&state.path().join(dir)).failed(1, &["can be written by others", "chmod go-w"]);
    }
    assert!(fs::read_dir(&real).unwrap().next().is_none(), "nothing was made");
    fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let pipe = real.join("server.pem");
    secure_rdma(&["certs", "init", "--certs", text(&real)]).succeeded();
    fs::remove_file(&pipe).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    start(&real).failed(1, &["server.pem is not a file"]);
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

/// The server has a certificate that ends while it runs, and no CA key to issue another with. Who is there stays: the
/// certificate was good when it was shown, and nothing goes by it any more.
#[test]
fn a_certificate_that_has_ended_is_refused_and_ends_no_session() {
    let state = State::new();
    let store = Store::open(state.path()).unwrap();
    let now = Timestamp::now();
    // The server has to listen by then, and a client to be there.
    let life = Duration::from_secs(20);
    let validity = Validity { not_before: now.minus(life), not_after: now.plus(life) };
    store.issue("short", &names(), Kind::Server, validity).unwrap();
    let file = |name: &str| state.path().join(name);
    fs::rename(file("short.pem"), file("server.pem")).unwrap();
    fs::rename(file("short-key.pem"), file("server-key.pem")).unwrap();
    store.ensure_account(&names()).unwrap();
    fs::remove_file(file("ca-key.pem")).unwrap();
    let server = Server::start_in(state, "127.0.0.1:0", &[]);
    server.program.warns("should be replaced");
    let mut client = server.client(&[]);
    client.type_line("send before");
    client.says("before");
    while Timestamp::now() <= validity.not_after {
        thread::sleep(Duration::from_millis(100));
    }
    server.client_with("send hello\n").failed(1, &["certificate ended on"]);
    server.program.says("certificate has ended");
    client.type_line("send after");
    client.says("after");
    client.end().succeeded();
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
    let (place, ca) = (server.address.to_string(), certs.join("ca.pem"));
    hello(&[&place, "localhost", "--ca", text(&ca)]).failed(1, &["requires a client certificate"]);
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
    assert_eq!(kinds, ["client", "ca", "client", "server"]);
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
