//! `secure-rdma run --seal`: programs that nobody changed, every packet of theirs sealed, or none sent.

use crate::harness::{Ended, PATIENCE, Program, SECURE_RDMA, rocev2_socket, secure_rdma, text};
use crate::run::is_installed;
use rustix::process::Signal;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A host: an address, an agent of its own, and its certificates.
pub(crate) struct Host {
    pub(crate) address: String,
    files: TempDir,
}

impl Host {
    /// A host that has made the CA.
    pub(crate) fn first(address: &str) -> Self {
        let host = Self::empty(address);
        secure_rdma(&["certs", "issue", "--agent", address, "--as", "a", "--certs", text(&host.state())])
            .succeeded();
        host
    }

    /// A host with a certificate for `named` by the CA of `ca`.
    fn with_certificate_of(ca: &Self, address: &str, named: &str) -> Self {
        let host = Self::empty(address);
        let from = ca.state();
        let issued =
            secure_rdma(&["certs", "issue", "--agent", named, "--as", address, "--certs", text(&from)]);
        issued.succeeded();
        fs::create_dir(host.state()).unwrap();
        for (file, own) in [
            (format!("{address}.pem"), "agent.pem"),
            (format!("{address}-key.pem"), "agent-key.pem"),
            ("ca.pem".into(), "ca.pem"),
        ] {
            fs::copy(from.join(file), host.state().join(own)).unwrap();
        }
        host
    }

    /// A host with a certificate for its address by the CA of `ca`.
    pub(crate) fn second(ca: &Self, address: &str) -> Self {
        Self::with_certificate_of(ca, address, address)
    }

    pub(crate) fn empty(address: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        fs::create_dir(files.path().join("run")).unwrap();
        Self { address: address.into(), files }
    }

    /// A TCP port for servers on this host that take one of all addresses: other tests run meanwhile.
    fn port(&self) -> String {
        let (_, last) = self.address.rsplit_once('.').unwrap();
        (18_700 + last.parse::<u16>().unwrap()).to_string()
    }

    fn state(&self) -> PathBuf {
        self.files.path().join("state")
    }

    /// A run of `program` with these options.
    pub(crate) fn run(&self, options: &[&str], program: &[&str]) -> Program {
        let mut command = Command::new(SECURE_RDMA);
        command.env("XDG_RUNTIME_DIR", self.files.path().join("run"));
        command.args(["run", "--address", &self.address]).args(options).arg("--").args(program);
        Program::spawn(&mut command)
    }

    /// The same, sealed.
    pub(crate) fn sealed(&self, options: &[&str], program: &[&str]) -> Program {
        let state = self.state();
        self.run(&[&["--seal", "--certs", text(&state)], options].concat(), program)
    }
}

/// Runs a client until its server listens: servers of this kind don't say when.
#[track_caller]
fn client(start: impl Fn() -> Program) -> Ended {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ended = start().end();
        if !ended.err.contains("Couldn't connect") || Instant::now() > deadline {
            return ended;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Starts a client until one says `words`, which it does once it is connected to its server.
#[track_caller]
pub(crate) fn connected(start: impl Fn() -> Program, words: &str) -> Program {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let running = start();
        if running.says_before_its_end(words) {
            return running;
        }
        let ended = running.end();
        assert!(ended.err.contains("Couldn't connect") && Instant::now() < deadline, "{ended:?}");
    }
}

/// Runs a program as a server on one host and as its client on another; both must be done. What the client said.
#[track_caller]
fn both(server: &Host, other: &Host, options: &[&str], program: &[&str]) -> Vec<String> {
    let serving = server.sealed(options, program);
    let whole = [program, &[server.address.as_str()]].concat();
    let said = client(|| other.sealed(options, &whole)).succeeded().out;
    serving.end().succeeded();
    said
}

#[test]
fn programs_of_one_host_are_sealed_by_its_one_agent() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") || !is_installed("ib_write_bw", "perftest") {
        return;
    }
    let host = Host::empty("127.83.90.1");
    for program in [
        &["ibv_rc_pingpong", "-g", "0", "-n", "200", "-c", "-p", "18601"][..],
        &["ibv_uc_pingpong", "-g", "0", "-n", "200", "-c", "-p", "18601"],
        &["ib_write_bw", "-x", "0", "-n", "200", "-p", "18601"],
        &["ib_read_lat", "-x", "0", "-n", "200", "-p", "18601"],
        &["ib_atomic_bw", "-x", "0", "-n", "200", "-p", "18601"],
        &["ibv_ud_pingpong", "-g", "0", "-n", "200", "-c", "-p", "18601"],
        &["ibv_xsrq_pingpong", "-g", "0", "-n", "200", "-p", "18601"],
    ] {
        let said = both(&host, &host, &[], program);
        let done = |line: &String| line.contains("200") || line == "success";
        assert!(said.iter().any(done), "{program:?}: {said:?}");
    }
}

#[test]
fn programs_of_two_hosts_are_sealed_by_their_agents_whichever_of_them_begins() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") {
        return;
    }
    let (a, b) = (Host::first("127.83.90.2"), Host::empty("127.83.90.3"));
    let b = Host::second(&a, &b.address);
    let program = ["ibv_rc_pingpong", "-g", "0", "-n", "300", "-c", "-p", "18602"];
    let datagrams = ["ibv_ud_pingpong", "-g", "0", "-n", "300", "-c", "-p", "18602"];
    for (server, other) in [(&a, &b), (&b, &a)] {
        for program in [program, datagrams] {
            let said = both(server, other, &[], &program);
            assert!(said.iter().any(|line| line.contains("300 iters")), "{said:?}");
        }
    }
    // Where agents listen may be chosen, and said of each peer.
    let peers = a.files.path().join("peers.toml");
    fs::write(&peers, "[[peer]]\naddress = \"127.83.90.3\"\nport = 4502\n").unwrap();
    let server = a.sealed(&["--seal-port", "4501", "--peers", text(&peers)], &program);
    let whole = [&program[..], &["127.83.90.2"]].concat();
    let peers = b.files.path().join("peers.toml");
    fs::write(&peers, "[[peer]]\naddress = \"127.83.90.2\"\nport = 4501\n").unwrap();
    client(|| b.sealed(&["--seal-port", "4502", "--peers", text(&peers)], &whole)).succeeded();
    server.end().succeeded();
}

/// That the server, which is the first to name its peer, gets no keys for it, and says why; and that nothing went over
/// the data path. The client finds out that its server has ended.
#[track_caller]
fn refused(server: &Host, other: &Host, options: [&[&str]; 2], words: &[&str]) {
    let program = ["ibv_rc_pingpong", "-g", "0", "-n", "10", "-p", &server.port()];
    let serving = server.sealed(options[0], &program);
    let whole = [&program[..], &[server.address.as_str()]].concat();
    let ended = client(|| other.sealed(options[1], &whole));
    assert!(!ended.status.success(), "{ended:?}");
    let said = format!("packets for {} can't be sealed, so none is sent", other.address);
    serving.end().failed(1, &[&[said.as_str(), "Failed to modify QP to RTR"], words].concat());
}

#[test]
fn a_peer_whose_certificate_is_not_for_the_address_that_was_named_gets_no_keys() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") {
        return;
    }
    let a = Host::first("127.83.90.4");
    let b = Host::second(&a, "127.83.90.5");
    let names = a.files.path().join("names.toml");
    fs::write(&names, "[[peer]]\naddress = \"127.83.90.5\"\nname = \"b.example\"\n").unwrap();
    refused(&a, &b, [&["--peers", text(&names)], &[]], &["is not for b.example but for 127.83.90.5"]);
    // Who has no certificate for its own address gets nowhere.
    let c = Host::with_certificate_of(&a, "127.83.90.19", "127.83.90.99");
    let program = ["ibv_rc_pingpong", "-g", "0", "-n", "10", "-p", &c.port()];
    c.sealed(&[], &program).end().failed(1, &["127.83.90.19", "agent.pem"]);
}

#[test]
fn a_peer_of_another_authority_gets_no_keys() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") {
        return;
    }
    let (a, b) = (Host::first("127.83.90.6"), Host::first("127.83.90.7"));
    refused(&a, &b, [&[], &[]], &["not by a CA that is trusted here"]);
}

#[test]
fn a_peer_that_is_not_on_the_list_or_may_not_do_everything_gets_no_keys() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") {
        return;
    }
    let a = Host::first("127.83.90.8");
    let b = Host::second(&a, "127.83.90.9");
    let list = a.files.path().join("allow.toml");
    let entry = |identity: &str, operations: &str| {
        let entry = format!("[[client]]\nidentity = \"{identity}\"\noperations = [{operations}]\n");
        fs::write(&list, entry).unwrap();
    };
    let all = "\"send\", \"write\", \"read\", \"atomic\"";
    entry("ip:127.83.90.77", all);
    refused(&a, &b, [&["--allow", text(&list)], &[]], &["not on this side's list of who is allowed"]);
    entry("ip:127.83.90.9", "\"send\"");
    refused(&a, &b, [&["--allow", text(&list)], &[]], &["allows the agent of ip:127.83.90.9", "only send"]);
    // Whichever side has the list.
    refused(&b, &a, [&[], &["--allow", text(&list)]], &["its rules don't allow this host"]);
    entry("ip:127.83.90.9", all);
    let program = ["ibv_rc_pingpong", "-g", "0", "-n", "10", "-p", &a.port()];
    let serving = a.sealed(&["--allow", text(&list)], &program);
    let whole = [&program[..], &[a.address.as_str()]].concat();
    client(|| b.sealed(&[], &whole)).succeeded();
    serving.end().succeeded();
}

#[test]
fn a_peer_whose_certificate_was_revoked_gets_no_keys() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") {
        return;
    }
    let a = Host::first("127.83.90.10");
    let b = Host::second(&a, "127.83.90.11");
    secure_rdma(&["certs", "revoke", "127.83.90.11", "--certs", text(&a.state())]).succeeded();
    let list = a.state().join("crl.pem");
    refused(&a, &b, [&["--crl", text(&list)], &[]], &["has been revoked"]);
}

#[test]
fn a_peer_in_clear_gets_nothing_and_is_not_heard() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") {
        return;
    }
    let (a, b) = (Host::first("127.83.90.12"), Host::empty("127.83.90.13"));
    let program = ["ibv_rc_pingpong", "-g", "0", "-n", "10", "-p", "18604"];
    let clear = b.run(&[], &program);
    let whole = [&program[..], &[b.address.as_str()]].concat();
    let ended = client(|| a.sealed(&[], &whole));
    ended
        .failed(1, &["packets for 127.83.90.13 can't be sealed, so none is sent", "no agent answers at TCP"]);
    // It waits for ever.
    drop(clear);
}

#[test]
fn without_keys_no_packet_leaves() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") {
        return;
    }
    let a = Host::first("127.83.90.14");
    // Where the peer's device would be.
    let wire = rocev2_socket([127, 83, 90, 15]);
    wire.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let fake = std::net::TcpListener::bind((Ipv4Addr::new(127, 83, 90, 15), 18605)).unwrap();
    let program = ["ibv_rc_pingpong", "-g", "0", "-n", "10", "-p", "18605", "127.83.90.15"];
    let running = a.sealed(&[], &program);
    // The exchange of ibv_rc_pingpong: LID, QPN, PSN and GID, each side's once.
    let (mut stream, _) = fake.accept().unwrap();
    let mut theirs = [0; 52];
    std::io::Read::read_exact(&mut stream, &mut theirs).unwrap();
    std::io::Write::write_all(&mut stream, b"0000:0c1234:123456:00000000000000000000ffff7f535a0f\0").unwrap();
    running.end().failed(1, &["packets for 127.83.90.15 can't be sealed", "no agent answers at TCP"]);
    assert!(wire.recv(&mut [0; 64]).is_err(), "something came");
}

#[test]
fn when_one_side_is_killed_the_other_ends_with_errors() {
    if !is_installed("ib_write_bw", "perftest") {
        return;
    }
    let a = Host::first("127.83.90.16");
    let b = Host::second(&a, "127.83.90.17");
    // What it writes has to be seen before it ends.
    let program = ["stdbuf", "-oL", "ib_write_bw", "-x", "0", "-D", "60", "-p", "18606"];
    let whole = [&program[..], &[a.address.as_str()]].concat();
    let serving = a.sealed(&[], &program);
    let running = connected(|| b.sealed(&[], &whole), "#bytes");
    serving.signal(Signal::KILL);
    running.ends().failed(1, &["Failed status 12"]);
}

#[test]
fn what_cannot_be_sealed_says_so() {
    let host = Host::empty("127.83.90.18");
    let peers = host.files.path().join("peers.toml");
    fs::write(&peers, "[[peer]]\naddress = \"10.0.0.1\"\nprot = 4\n").unwrap();
    let wrong = host.sealed(&["--peers", text(&peers)], &["true"]).end();
    wrong.failed(1, &["peers.toml, line 3", "unknown field"]);
    host.run(&["--peers", text(&peers)], &["true"]).end().failed(2, &["--seal"]);
    host.sealed(&["--crl", "/nonexistent/crl.pem"], &["true"]).end().failed(1, &["/nonexistent/crl.pem"]);
}

#[test]
fn having_the_kernel_seal_needs_a_right_and_says_which() {
    let host = Host::empty("127.83.90.40");
    let mut command = Command::new(SECURE_RDMA);
    if rustix::process::getuid().is_root() {
        command = Command::new("setpriv");
        command.args(["--inh-caps", "-net_admin", "--bounding-set", "-net_admin", "--", SECURE_RDMA]);
    }
    command.args(["agent", "--kernel", "--address", &host.address, "--peer", "10.77.0.2"]);
    command.arg("--certs").arg(host.state());
    Program::spawn(&mut command).end().failed(1, &["CAP_NET_ADMIN", "as root"]);
    assert!(!host.state().exists(), "it has made certificates for nothing");
}
