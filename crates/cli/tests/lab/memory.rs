//! Memory, under valgrind.

use crate::gate::{self, Need, PYTHON};
use crate::process::{Process, ends_of, wait_until};
use crate::server::SECURE_RDMA;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Valgrind makes a program some fifty times slower.
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn a_demo_under_valgrind_has_no_invalid_access_and_no_definite_leak() {
    if !gate::provides(&[Need::Tool("valgrind")], "no invalid access and no leak under valgrind") {
        return;
    }
    let mut command = Command::new("valgrind");
    command.args(["--error-exitcode=77", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
    command.args(["--fair-sched=yes", SECURE_RDMA, "demo", "--clients", "2", "--json"]);
    let ended = Process::start(&mut command, "").end_within(LIMIT);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.err);
    assert!(ended.err.contains("ERROR SUMMARY: 0 errors from 0 contexts"), "{}", ended.err);
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["ok"], true, "{}", ends_of(&ended.out));
}

/// A run of a verbs program under valgrind on the embedded device. `how` is valgrind's.
fn verbs_program(place: &TempDir, address: &str, how: &[&str], program: &[&str]) -> Process {
    let mut command = Command::new(SECURE_RDMA);
    command.env("XDG_RUNTIME_DIR", place.path()).current_dir(place.path());
    // Python's own allocator hides from valgrind what is free.
    command.env("PYTHONMALLOC", "malloc");
    command.args(["run", "--address", address, "--", "valgrind", "--error-exitcode=77", "--fair-sched=yes"]);
    Process::start(command.args(how).args(program), "")
}

/// Whether somebody listens at that TCP port.
fn is_listening(port: u16) -> bool {
    // The local address and port, the peer's, and TCP_LISTEN.
    let listens = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.len() > 3 && words[1].ends_with(&format!(":{port:04X}")) && words[3] == "0A"
    };
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .any(|table| fs::read_to_string(table).unwrap_or_default().lines().any(listens))
}

#[test]
fn pingpongs_under_valgrind_have_no_invalid_access_and_no_definite_leak() {
    let needs = [Need::Tool("valgrind"), Need::Tool("ibv_rc_pingpong")];
    if !gate::provides(&needs, "that verbs programs misuse no memory and leak none under valgrind") {
        return;
    }
    let (place, address) = (tempfile::tempdir().unwrap(), "127.83.87.2");
    for (kind, port) in ["uc", "ud"].into_iter().zip(18531..) {
        for end in pingpong(&place, address, kind, port) {
            played(kind, end);
        }
    }
}

#[test]
fn pingpongs_of_reliable_connections_under_valgrind_have_no_invalid_access_and_no_definite_leak() {
    let needs = [Need::Tool("valgrind"), Need::Tool("ibv_xsrq_pingpong")];
    if !gate::provides(&needs, "that verbs programs on shared receive queues misuse no memory and leak none")
    {
        return;
    }
    let (place, address) = (tempfile::tempdir().unwrap(), "127.83.87.4");
    for (kind, port) in ["rc", "srq", "xsrq"].into_iter().zip(18541..) {
        assert!((0..ATTEMPTS).any(|_| game(&place, address, kind, port)), "{kind}: {ATTEMPTS} games failed");
    }
}

/// How often a game of reliable connections is begun, and how long it may take. These programs wait half a second for
/// an answer, which is short for valgrind where the machine is busy. Then one says so and ends, and its peer waits for
/// ever. Of XRC, both wait for ever: the program doesn't look at what it has sent until all has come.
const ATTEMPTS: usize = 10;
const GAME: Duration = Duration::from_secs(90);

/// Whether both ends of a game have ended well; none may have misused memory.
fn game(place: &TempDir, address: &str, kind: &str, port: u16) -> bool {
    let mut ends = pingpong(place, address, kind, port);
    wait_until(GAME, || {
        let ended = ends.each_mut().map(Process::status);
        ended.iter().all(Option::is_some) || ended.iter().flatten().any(|status| !status.success())
    });
    if ends.iter_mut().all(|end| end.status().is_some_and(|status| status.success())) {
        ends.into_iter().for_each(|end| played(kind, end));
        return true;
    }
    for end in &mut ends {
        let status = end.status();
        let gave_up =
            end.err().contains("transport retry counter exceeded") && !end.err().contains("Invalid ");
        assert!(status.is_none_or(|status| status.success()) || gave_up, "{kind}: {}", end.err());
    }
    false
}

/// The server and the client of a stock pingpong under valgrind.
fn pingpong(place: &TempDir, address: &str, kind: &str, port: u16) -> [Process; 2] {
    let how = ["--leak-check=full", "--errors-for-leak-kinds=definite"];
    let (name, port_text) = (format!("ibv_{kind}_pingpong"), port.to_string());
    let common = [&name, "-g", "0", "-n", "20", "-e", "-p", &port_text];
    let server = verbs_program(place, address, &how, &common);
    wait_until(LIMIT, || is_listening(port)).unwrap_or_else(|| panic!("{name}: {}", server.err()));
    let client = verbs_program(place, address, &how, &[&common[..], &[address]].concat());
    [server, client]
}

/// An end of a pingpong has played to its end, and misused nothing.
fn played(kind: &str, end: Process) {
    let ended = end.end_within(LIMIT);
    assert_eq!(ended.status.code(), Some(0), "{kind}: {} {}", ended.out, ended.err);
    assert!(ended.err.contains("ERROR SUMMARY: 0 errors from 0 contexts"), "{kind}: {}", ended.err);
    let said = if kind == "xsrq" { "success" } else { "20 iters" };
    assert!(ended.out.contains(said), "{kind}: {}", ended.out);
}

/// Those of rdma-core's own tests that are run: objects of each kind, and traffic of each kind.
const PYVERBS: [&str; 8] = [
    "CQTest",
    "MRTest",
    "PDTest",
    "QPTest",
    "AHTest",
    "test_rc_traffic",
    "test_ud_traffic",
    "test_atomic_cmp_and_swap",
];

#[test]
fn some_of_rdma_cores_own_tests_under_valgrind_have_no_invalid_access() {
    let needs = [Need::Tool("valgrind"), Need::Module("pyverbs")];
    if !gate::provides(&needs, "that rdma-core's own tests find no misuse of memory under valgrind") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let tests = Path::new("/usr/share/doc/rdma-core/tests");
    let mut unpack = Command::new("sh");
    unpack.args(["-ec", "cp -r \"$0\" tests && gunzip --force --quiet tests/*.gz"]).arg(tests);
    Process::run(unpack.current_dir(place.path()), "").succeeded();
    let mut program = vec![PYTHON, "tests/run_tests.py", "--dev", "rocev2_0", "--gid", "0", "-v"];
    program.extend(PYVERBS.iter().flat_map(|pattern| ["-k", pattern]));
    // What Python leaks isn't looked at: it frees little of its own when it ends.
    let ended = verbs_program(&place, "127.83.87.3", &["--leak-check=no"], &program).end_within(LIMIT);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.err);
    assert!(ended.err.contains("ERROR SUMMARY: 0 errors from 0 contexts"), "{}", ended.err);
    // Some draw what they ask for, and are skipped where that is more than the device has.
    let passed = ended.err.lines().filter(|line| line.ends_with("... ok")).count();
    assert!(passed >= 20, "{passed}: {}", ended.err);
}
