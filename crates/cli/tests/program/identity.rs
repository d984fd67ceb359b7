//! Who the clients are, who of them may come and do what, and that a server learns of changes without a restart.

use crate::harness::{
    Ended, Program, SECURE_CLIENT, SECURE_RDMA, SECURE_SERVER, Server, State, secure_rdma, text,
};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const ALL: &str = r#""send", "write", "read", "atomic""#;

fn certs(state: &State, command: &str, arguments: &[&str]) -> Ended {
    let dir = state.path();
    let mut all = vec!["certs", command, "--certs", text(&dir)];
    all.extend(arguments);
    secure_rdma(&all).succeeded()
}

/// A private CA with a revocation list, and clients with certificates: `NAME.example`.
fn site(members: &[&str]) -> State {
    let state = State::new();
    certs(&state, "init", &[]);
    certs(&state, "revoke", &[]);
    for name in members {
        certs(&state, "issue", &[&format!("{name}.example"), "--client", "--as", name]);
    }
    state
}

fn list(state: &State) -> PathBuf {
    state.path().join("allow.toml")
}

/// Writes the list: names, and their operations.
fn allow(state: &State, entries: &[(&str, &str)]) {
    let entry = |(name, operations): &(&str, &str)| {
        format!("[[client]]\nidentity = \"dns:{name}.example\"\noperations = [{operations}]\n")
    };
    fs::write(list(state), entries.iter().map(entry).collect::<String>()).unwrap();
}

/// A server that goes by both lists.
fn start(state: State) -> Server {
    let (crl, list) = (state.path().join("crl.pem"), list(&state));
    let rules = ["--client-auth", "required", "--crl", text(&crl), "--allow", text(&list)];
    Server::start_in(state, "127.0.0.1:0", &rules)
}

fn member(server: &Server, name: &str, arguments: &[&str]) -> Program {
    let file = |end: &str| server.state.path().join(format!("{name}{end}.pem"));
    let (cert, key) = (file(""), file("-key"));
    let mut all = vec!["--cert", text(&cert), "--key", text(&key)];
    all.extend(arguments);
    server.client(&all)
}

/// A member that says hello and leaves.
fn hello(server: &Server, name: &str) -> Ended {
    member(server, name, &["--exec", "send hello"]).end()
}

/// Who trusts the server and has no certificate.
fn stranger(server: &Server) -> Ended {
    let (place, ca) = (server.address.to_string(), server.state.path().join("ca.pem"));
    let arguments = [&place, "localhost", "--ca", text(&ca), "--exec", "send hello"];
    Program::start(SECURE_CLIENT, &arguments).end()
}

#[track_caller]
fn goes_on(client: &mut Program, words: &str) {
    client.type_line(&format!("send {words}"));
    client.says(words);
}

#[test]
fn a_server_says_who_its_clients_are_and_when_it_does_not_know() {
    let server = Server::start_in(site(&["one"]), "127.0.0.1:0", &["--client-auth", "optional"]);
    hello(&server, "one").succeeded();
    let line = server.program.says("client 1: arrived");
    assert!(line.contains("; identity dns:one.example; certificate sha256:"), "{line}");
    stranger(&server).succeeded();
    let line = server.program.says("client 2: arrived");
    assert!(line.contains("; no client certificate;") && !line.contains("identity"), "{line}");
}

#[test]
fn lists_without_certificates_to_look_up_are_wrong_usage() {
    let state = State::new();
    let dir = state.path();
    for (arguments, words) in [
        (vec!["--allow", "a", "--client-auth", "off"], "--allow needs --client-auth required"),
        (vec!["--allow", "a", "--client-auth", "optional"], "--allow needs --client-auth required"),
        (vec!["--crl", "a", "--client-auth", "off"], "--crl needs --client-auth required or optional"),
    ] {
        let mut all = vec!["--listen", "127.0.0.1:0", "--certs", text(&dir)];
        all.extend(arguments);
        Program::start(SECURE_SERVER, &all).end().failed(2, &[words]);
    }
    secure_rdma(&["certs", "revoke", "serial:xy", "--certs", text(&dir)]).failed(2, &["serial:xy"]);
    assert!(!dir.exists(), "nothing was made");
}

#[test]
fn a_list_that_is_wrong_keeps_a_server_from_starting_and_is_explained() {
    let state = site(&["one"]);
    let (dir, list) = (state.path(), list(&state));
    let start = || {
        let mut all = vec!["--listen", "127.0.0.1:0", "--certs", text(&dir), "--client-auth", "required"];
        all.extend(["--allow", text(&list)]);
        Program::start(SECURE_SERVER, &all).end()
    };
    start().failed(1, &["allow.toml", "no such file"]);
    for (operations, words) in [
        (r#""raed""#, vec!["allow.toml, line 3", "\"raed\" is no operation", "send, write, read and atomic"]),
        ("\"read\"]\nregion = [\"1M\"", vec!["allow.toml, line 4"]),
        ("\"read\"]\nregion = \"2M\"\n#[", vec!["allow.toml, line 2", "2097152", "--region"]),
    ] {
        allow(&state, &[("one", operations)]);
        start().failed(1, &words);
    }
    fs::write(&list, "").unwrap();
    start().failed(1, &["nobody is on it", "[[client]]"]);
    // The list of a CA that has nothing to do with it.
    let other = site(&[]);
    let crl = other.path().join("crl.pem");
    let arguments =
        ["--listen", "127.0.0.1:0", "--certs", text(&dir), "--client-auth", "required", "--crl", text(&crl)];
    Program::start(SECURE_SERVER, &arguments).end().failed(1, &["has no revocation list of the CA"]);
}

#[test]
fn each_client_does_what_its_entry_allows_and_nobody_else_comes_in() {
    let state = site(&["all", "reader", "stranger"]);
    allow(&state, &[("all", ALL), ("reader", "\"read\"]\nregion = \"64K\"\n#[")]);
    let server = start(state);
    hello(&server, "all").succeeded();
    hello(&server, "stranger").failed(1, &["not on the list of allowed clients", "dns:stranger.example"]);
    let line = server.program.says("refused 127.0.0.1:");
    assert!(line.contains("its certificate has dns:stranger.example; sha256:"), "{line}");
    stranger(&server).failed(1, &["requires a client certificate"]);
    // This account's own client isn't on the list either.
    server.client(&["--exec", "send hello"]).end().failed(1, &["not on the list", "dns:localhost"]);

    let reader = member(&server, "reader", &["--exec", "read 4", "--exec", "write x"]).end();
    let reader =
        reader.failed(1, &["doesn't allow this client the operation \"write\"", "allowed here: read"]);
    assert_eq!(reader.out, ["b\"\\x00\\x00\\x00\\x00\""]);
    member(&server, "reader", &["--exec", "read 65537"]).end().failed(1, &["outside the region"]);
    member(&server, "reader", &["--exec", "add 1"]).end().failed(1, &["no counters"]);
    hello(&server, "reader").failed(1, &["the operation \"send\""]);
    assert!(server.program.says("client 2: arrived").contains("; allowed: read;"));
}

#[test]
fn a_server_notices_what_changes_and_ends_only_the_sessions_that_are_not_allowed_any_more() {
    let state = site(&["good", "revoked", "unlisted"]);
    allow(&state, &[("good", ALL), ("revoked", ALL), ("unlisted", ALL)]);
    let server = start(state);
    let mut good = member(&server, "good", &[]);
    goes_on(&mut good, "before");
    let others = ["revoked", "unlisted"].map(|name| {
        let mut client = member(&server, name, &[]);
        goes_on(&mut client, "before");
        client
    });
    let [revoked, unlisted] = others;

    certs(&server.state, "revoke", &["revoked"]);
    let reason = "the client's certificate has been revoked";
    server.program.says("reloaded (files have changed)");
    revoked.ends().failed(1, &["the peer ended the session", reason]);
    assert!(server.program.says("client 2: lost").contains(reason));
    goes_on(&mut good, "after the first change");
    hello(&server, "revoked").failed(1, &["this client's certificate has been revoked"]);

    allow(&server.state, &[("good", ALL)]);
    let reason = "not on the list of allowed clients";
    unlisted.ends().failed(1, &["the peer ended the session", reason]);
    assert!(server.program.says("client 3: lost").contains(reason));
    goes_on(&mut good, "after the second change");
    hello(&server, "unlisted").failed(1, &[reason]);
    good.end().succeeded();
}

#[test]
fn a_hangup_has_everything_read_again_and_a_bad_file_leaves_everything_as_it_was() {
    let state = site(&["good", "new"]);
    allow(&state, &[("good", ALL)]);
    let server = start(state);
    let mut good = member(&server, "good", &[]);
    goes_on(&mut good, "before");
    hello(&server, "new").failed(1, &["not on the list"]);

    // Half of it: the first entry alone would do, and would throw nobody out.
    let whole =
        format!("{}[[client]]\nidentity = \"dns:new", fs::read_to_string(list(&server.state)).unwrap());
    fs::write(list(&server.state), &whole).unwrap();
    server.program.signal(Signal::HUP);
    let line = server.program.warns("not reloaded (SIGHUP), what was loaded before stays in use");
    assert!(line.contains("allow.toml, line 5"), "{line}");
    goes_on(&mut good, "after half a file");
    hello(&server, "good").succeeded();
    hello(&server, "new").failed(1, &["not on the list"]);

    allow(&server.state, &[("good", ALL), ("new", ALL)]);
    server.program.signal(Signal::HUP);
    assert!(server.program.says("reloaded (SIGHUP): ").contains("sessions ended: 0"));
    hello(&server, "new").succeeded();
    goes_on(&mut good, "after the whole one");

    // The revocation list and the CA's certificate too.
    for file in ["crl.pem", "ca.pem", "server.pem"] {
        let path = server.state.path().join(file);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        server.program.signal(Signal::HUP);
        let line = server.program.warns(file);
        assert!(line.contains("not reloaded"), "{line}");
        goes_on(&mut good, "after half a file of another kind");
        fs::write(&path, &bytes).unwrap();
        hello(&server, "new").succeeded();
        goes_on(&mut good, file);
    }
    good.end().succeeded();
}

/// The soft and the hard limit of a program's descriptors; `None` for no limit.
fn descriptor_limits(program: &Program) -> [Option<u64>; 2] {
    let limits = fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
    [numbers.next().unwrap(), numbers.next().unwrap()]
}

/// Sets how many descriptors a program may have from now on; returns how many it might before.
fn limit_descriptors(program: &Program, limit: Option<u64>) -> Option<u64> {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let [before, maximum] = descriptor_limits(program);
    let id = i32::try_from(program.id()).ok().and_then(Pid::from_raw);
    prlimit(id, Resource::Nofile, Rlimit { current: limit, maximum }).unwrap();
    before
}

/// The descriptors that a program has.
fn descriptors(program: &Program) -> BTreeSet<u64> {
    let dir = format!("/proc/{}/fd", program.id());
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.to_str().unwrap().parse().unwrap()).collect()
}

/// The lowest descriptor that a program hasn't got: what it would be given next.
fn next_descriptor(program: &Program) -> u64 {
    let taken = descriptors(program);
    (0..).find(|number| !taken.contains(number)).unwrap()
}

/// A server with a session of a client's that is about to be revoked.
fn with_session() -> (Server, Program) {
    let state = site(&["good", "revoked"]);
    allow(&state, &[("good", ALL), ("revoked", ALL)]);
    let server = start(state);
    let mut client = member(&server, "revoked", &[]);
    goes_on(&mut client, "before");
    (server, client)
}

/// Nothing changes after the revocation, of which the server notices at once and which it can't read.
#[test]
fn a_revocation_that_could_not_be_read_is_read_without_a_further_change() {
    let (server, mut revoked) = with_session();
    let usual = limit_descriptors(&server.program, Some(0));
    certs(&server.state, "revoke", &["revoked"]);
    let line = server.program.says("NOT reloaded (files have changed), what was loaded before stays in use");
    assert!(line.contains("Too many open files") && line.contains("failures: 1"), "{line}");
    server.program.says("NOT reloaded (tried again), what was loaded before stays in use");
    server.program.warns("failures: 2");
    goes_on(&mut revoked, "nobody knows");
    limit_descriptors(&server.program, usual);
    server.program.says("reloaded (tried again): certificates");
    revoked.ends().failed(1, &["the client's certificate has been revoked"]);
    hello(&server, "revoked").failed(1, &["this client's certificate has been revoked"]);
    hello(&server, "good").succeeded();
}

/// As when clients have taken all of them.
#[test]
fn descriptors_are_kept_for_reading_a_revocation() {
    let (server, revoked) = with_session();
    limit_descriptors(&server.program, Some(next_descriptor(&server.program)));
    certs(&server.state, "revoke", &["revoked"]);
    server.program.says("reloaded (files have changed): certificates");
    revoked.ends().failed(1, &["the client's certificate has been revoked"]);
}

#[test]
fn connections_leave_descriptors_free_for_files_and_sessions() {
    // Those that say nothing are waited for.
    let server = Server::start(&["--handshake-limit", "5"]);
    let (taken, before) = (next_descriptor(&server.program), descriptors(&server.program).len());
    // Ten more than those that are kept free.
    limit_descriptors(&server.program, Some(taken + 64 + 10));
    let idle: Vec<_> = (0..60).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    server.program.warns("closed, hardly any file descriptors are left");
    assert!(next_descriptor(&server.program) <= taken + 12);
    // None waits to be accepted any more once the server has ended each, those that it let in for saying nothing.
    for mut connection in idle {
        connection.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
        match connection.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("a connection on which nothing was said: {other:?}"),
        }
    }
    let deadline = Instant::now() + crate::harness::PATIENCE;
    while descriptors(&server.program).len() > before {
        assert!(Instant::now() < deadline, "connections that have gone keep their descriptors");
        std::thread::sleep(Duration::from_millis(10));
    }
    server.serves();
}

#[test]
fn a_server_has_as_many_descriptors_as_it_may_and_says_if_they_are_too_few() {
    let state = State::new();
    let dir = state.path();
    let run = |limits: &str, more: &str| {
        let line = format!(
            "ulimit {limits}; exec {SECURE_SERVER} --listen 127.0.0.1:0 --device embedded --certs {} {more}",
            text(&dir)
        );
        Program::spawn(Command::new("sh").args(["-c", &line]))
    };
    let needed = ["need 2176 file descriptors", "1312 are allowed", "ulimit -Hn 2176", "--max-clients 160"];
    run("-n 1312", "").end().failed(1, &needed);
    run("-n 1312", "--max-clients 160").says("listening on ");
    run("-n 500", "").end().failed(1, &["fewer --max-handshakes"]);
    let server = run("-Sn 256", "");
    server.says("listening on ");
    let [soft, hard] = descriptor_limits(&server);
    assert!(soft == hard && soft != Some(256), "{soft:?}, {hard:?}");
}

#[test]
fn a_server_that_is_to_close_lets_nobody_in_by_rules_that_are_out_of_date() {
    let state = site(&["good"]);
    allow(&state, &[("good", ALL)]);
    let (crl, path) = (state.path().join("crl.pem"), list(&state));
    let rules = ["--crl", text(&crl), "--allow", text(&path), "--on-reload-failure", "close"];
    let server = Server::start_in(state, "127.0.0.1:0", &rules);
    let mut good = member(&server, "good", &[]);
    goes_on(&mut good, "before");
    // A link to nothing.
    let target = server.state.path().join("target.toml");
    fs::rename(&path, &target).unwrap();
    std::os::unix::fs::symlink(server.state.path().join("nothing"), &path).unwrap();
    server.program.says("NOT reloaded (files have changed), open sessions go on, nobody else is let in");
    hello(&server, "good").failed(1, &["lets no new client in"]);
    goes_on(&mut good, "as before");
    fs::rename(&target, server.state.path().join("nothing")).unwrap();
    server.program.says(" certificates and what is asked of clients; sessions ended: 0");
    hello(&server, "good").succeeded();
    good.end().succeeded();
}

#[test]
fn a_session_ends_with_its_clients_certificate_or_when_it_is_old_enough() {
    use secure_rdma::certs::{Kind, Store, Timestamp, Validity};
    let state = site(&["good", "short"]);
    allow(&state, &[("good", ALL), ("short", ALL)]);
    let store = Store::open(state.path()).unwrap();
    let server = start(state);
    let now = Timestamp::now();
    let hour = Duration::from_secs(3600);
    // Both have to be there before.
    let end = now.plus(Duration::from_secs(12));
    let validity = Validity { not_before: now.minus(hour), not_after: end };
    store.issue("short", &["short.example".parse().unwrap()], Kind::Client, validity).unwrap();
    let (mut good, mut short) = (member(&server, "good", &[]), member(&server, "short", &[]));
    goes_on(&mut good, "before");
    goes_on(&mut short, "before");
    short
        .ends()
        .failed(1, &["ended by the server's rules as they are now", "the client's certificate ended on"]);
    assert!(Timestamp::now() >= end);
    goes_on(&mut good, "after");
    drop((good, server));

    let state = site(&["good"]);
    allow(&state, &[("good", ALL)]);
    let (crl, path) = (state.path().join("crl.pem"), list(&state));
    let rules = ["--crl", text(&crl), "--allow", text(&path), "--max-session-age", "6"];
    let server = Server::start_in(state, "127.0.0.1:0", &rules);
    let mut good = member(&server, "good", &[]);
    goes_on(&mut good, "before");
    good.ends().failed(1, &["sessions here last for 6s at most"]);
    hello(&server, "good").succeeded();
}

#[test]
fn an_older_revocation_list_lets_nobody_back_in_also_after_a_restart() {
    let (server, revoked) = with_session();
    let crl = server.state.path().join("crl.pem");
    let old = fs::read(&crl).unwrap();
    certs(&server.state, "revoke", &["revoked"]);
    revoked.ends().failed(1, &["has been revoked"]);
    let new = fs::read(&crl).unwrap();
    fs::write(&crl, &old).unwrap();
    server.program.says("is older (number 01");
    hello(&server, "revoked").failed(1, &["has been revoked"]);
    let Server { program, state, .. } = server;
    drop(program);
    let dir = state.path();
    let list = list(&state);
    let arguments =
        ["--listen", "127.0.0.1:0", "--certs", text(&dir), "--crl", text(&crl), "--allow", text(&list)];
    Program::start(SECURE_SERVER, &arguments).end().failed(1, &["is older (number 01", "revocations-seen"]);
    fs::write(&crl, &new).unwrap();
    hello(&start(state), "good").succeeded();
}

#[test]
fn a_server_proves_itself_with_a_new_certificate_without_a_restart() {
    let server = Server::start(&[]);
    let mut old = server.client(&[]);
    goes_on(&mut old, "before");
    let (place, dir) = (server.address.to_string(), server.state.path());
    let client = || {
        let arguments = [&place, "new.example", "--certs", text(&dir), "--exec", "send hello"];
        Program::start(SECURE_CLIENT, &arguments).end()
    };
    client().failed(1, &["not for new.example"]);
    certs(&server.state, "init", &["new.example"]);
    server.program.says("reloaded (files have changed)");
    client().succeeded();
    goes_on(&mut old, "after");
    old.end().succeeded();
}

#[test]
fn a_client_refuses_a_server_that_is_revoked() {
    let server = Server::start(&[]);
    certs(&server.state, "revoke", &[]);
    let crl = server.state.path().join("crl.pem");
    let client = || server.client(&["--crl", text(&crl), "--exec", "send hello"]).end();
    client().succeeded();
    let shown = certs(&server.state, "show", &["--json"]).out.join("\n");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let is_server = |entry: &&serde_json::Value| entry["kind"] == "server";
    let entry = shown["certificates"].as_array().unwrap().iter().find(is_server).unwrap();
    let made = certs(&server.state, "revoke", &[entry["serial"].as_str().unwrap(), "--json"]);
    let made: serde_json::Value = serde_json::from_str(&made.out.join("\n")).unwrap();
    assert_eq!(made["revoked"].as_array().unwrap(), &[entry["serial"].clone()]);
    client().failed(1, &["the server's certificate has been revoked"]);
    server.program.says("this server's certificate has been revoked");
}

/// Whether openssl is here. Where it isn't, CI fails, and everybody else is told what wasn't proved.
fn have_openssl() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !found {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "no openssl: CI must run this test; install it"
        );
        // Not eprintln!: the test harness would swallow it.
        let message =
            "\nSKIPPED: no openssl. NOT PROVED: that another implementation reads our revocation lists.\n";
        std::io::stderr().write_all(message.as_bytes()).unwrap();
    }
    found
}

#[test]
fn openssl_finds_the_same_certificates_revoked() {
    if !have_openssl() {
        return;
    }
    let state = site(&["good", "bad"]);
    certs(&state, "revoke", &["bad"]);
    let verify = |name: &str| {
        let file = |name: &str| state.path().join(format!("{name}.pem"));
        let mut command = Command::new("openssl");
        command.args(["verify", "-crl_check", "-x509_strict", "-purpose", "sslclient", "-CAfile"]);
        let output =
            command.arg(file("ca")).arg("-CRLfile").arg(file("crl")).arg(file(name)).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let (good, said) = verify("good");
    assert!(good, "{said}");
    let (bad, said) = verify("bad");
    assert!(!bad && said.contains("certificate revoked"), "{said}");
}

/// The commands of the section on mutual TLS in the documents, block by block.
fn documented_commands() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/certificates.md");
    let page = fs::read_to_string(page).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("Mutual TLS from zero")).unwrap();
    let blocks = section.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix("sh\n")).map(str::to_owned).collect()
}

/// They are run as they stand, but for the port, which must be a free one here.
#[test]
fn the_documented_commands_set_mutual_tls_up_from_zero() {
    let home = tempfile::tempdir().unwrap();
    let bin = Path::new(SECURE_RDMA).parent().unwrap();
    let path = format!("{}:{}", text(bin), std::env::var("PATH").unwrap());
    let shell = |block: &str| {
        let mut command = Command::new("sh");
        command.args(["-euc", block]).current_dir(home.path()).env("HOME", home.path()).env("PATH", &path);
        Program::spawn(&mut command)
    };
    let blocks = documented_commands();
    let [prepare, serve, connect, revoke] = &blocks[..] else { panic!("{blocks:?}") };
    shell(prepare).end().succeeded();
    assert!(serve.starts_with("secure-rdma server "), "{serve}");
    let server =
        shell(&serve.replace("secure-rdma server ", "exec secure-rdma server --listen 127.0.0.1:0 "));
    let line = server.says("listening on ");
    let address = line.split([' ', ',']).nth(2).unwrap();
    let connect = connect.replace("client server.example ", &format!("client {address} server.example "));
    let client = shell(&connect).end().succeeded();
    assert_eq!(client.out, ["hello"]);
    assert!(server.says("client 1: arrived").contains("identity dns:worker-7.example"));
    shell(revoke).end().succeeded();
    server.says("reloaded (files have changed)");
    shell(&connect).end().failed(1, &["has been revoked"]);
}
