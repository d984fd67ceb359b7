//! A machine that has too little of something.

use crate::harness::{Ended, Program, SECURE_CLIENT, SECURE_RDMA, SECURE_SERVER, Server, State, text};
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// A program under a shell's limits, to its end.
fn limited(limits: &str, program: &str, arguments: &str) -> Ended {
    let command = format!("ulimit {limits} && exec {program} {arguments}");
    Program::spawn(Command::new("sh").args(["-c", &command])).end()
}

fn client(server: &Server, limits: &str) -> Ended {
    let arguments =
        format!("{} localhost --certs {} --exec 'send hello'", server.address, text(&server.state.path()));
    limited(limits, SECURE_CLIENT, &arguments)
}

/// It was done, or a person is told why not.
#[track_caller]
fn done_or_told(ended: &Ended, words: &[&str]) -> bool {
    if ended.status.success() {
        return true;
    }
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(!ended.err.contains("panicked"), "{ended:?}");
    assert!(words.iter().any(|word| ended.err.contains(word)), "{ended:?}");
    false
}

#[test]
fn a_client_with_any_number_of_descriptors_does_its_work_or_says_what_it_lacks() {
    let server = Server::start(&[]);
    // Three are its inputs and outputs; with fewer than ten or so the dynamic loader itself opens nothing.
    let done: Vec<_> = (4..28)
        .filter(|count| {
            let ended = client(&server, &format!("-n {count}"));
            ended.status.code() != Some(127) && done_or_told(&ended, &["Too many open files", "os error 24"])
        })
        .collect();
    assert!(done.contains(&27) && !done.contains(&6), "{done:?}");
    server.serves();
}

/// The embedded device locks no memory.
#[test]
fn no_memory_has_to_be_locked() {
    let state = State::new();
    let certs = state.path();
    let command =
        format!("ulimit -l 0 && exec {SECURE_SERVER} --listen 127.0.0.1:0 --certs {}", text(&certs));
    let program = Program::spawn(Command::new("sh").args(["-c", &command]));
    let address = program.says("listening on ").split([' ', ',']).nth(2).unwrap().parse().unwrap();
    let server = Server { program, address, state };
    assert_eq!(client(&server, "-l 0").succeeded().out, ["hello"]);
}

/// Rust's programs end where there is no memory left: what matters is that none uses memory that it was not given, and
/// that the other side goes on.
#[test]
fn a_client_without_memory_ends_at_once_and_its_server_goes_on() {
    let server = Server::start(&["--max-clients", "1"]);
    let mut done = 0;
    for mebibytes in [16, 24, 32, 48, 64, 96, 128, 192, 4096] {
        // The server may notice late that the one before has gone.
        let ended = server.once_there_is_room(|| client(&server, &format!("-v {}", mebibytes << 10)));
        if ended.status.success() {
            done += 1;
        } else {
            // Without enough for the loader there isn't even a program. The cryptographic library aborts without a
            // word.
            let told = matches!(ended.status.code(), Some(1 | 127)) && !ended.err.is_empty();
            let aborted = ended.status.signal() == Some(Signal::ABORT.as_raw());
            assert!(told || aborted, "{mebibytes} MiB: {ended:?}");
        }
    }
    assert!(done > 0, "4 GiB are enough");
    server.serves();
}

/// A file system of 64 KiB that this thread's children see, and nobody else: in a namespace of its own.
fn on_a_full_disk(script: &str) -> Option<Ended> {
    let may = rustix::process::geteuid().is_root();
    if !may {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "a full disk needs root");
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    let script =
        format!("mount -t tmpfs -o size=64k,mode=700 none {0} && cd {0} && {script}", text(place.path()));
    Some(Program::spawn(Command::new("unshare").args(["-m", "sh", "-ec", &script])).end())
}

#[test]
fn a_full_disk_is_named_and_what_was_there_stays_good() {
    // The CA is made while there is room; then nothing fits any more, not even a directory's entry.
    let script = format!(
        "{SECURE_RDMA} certs init --certs state >/dev/null
         cp state/issued.jsonl before
         dd if=/dev/zero of=filling bs=1k 2>/dev/null || true
         ! {SECURE_RDMA} certs issue worker --client --certs state
         ! {SECURE_SERVER} --listen 127.0.0.1:0 --certs other
         rm filling
         {SECURE_RDMA} certs issue worker --client --certs state >/dev/null
         {SECURE_RDMA} certs show --certs state | grep -c worker
         ls state | grep -c tmp || true"
    );
    let Some(ended) = on_a_full_disk(&script) else { return };
    let ended = ended.succeeded();
    assert!(ended.err.matches("No space left on device").count() >= 1, "{ended:?}");
    assert!(!ended.err.contains("panicked"), "{ended:?}");
    assert!(ended.out.first().is_some_and(|count| count != "0"), "{ended:?}");
}
