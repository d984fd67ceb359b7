//! C programs, compiled with librdmacm's own headers and linked with librdmacm, meet this library at run time, with an
//! agent: what programs rely on holds (`contract.c` and `rsocket.c` say what).
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where cargo puts a library: beside the tests.
fn library(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().join(name)
}

/// Builds a C program of this directory and runs it at an address of its own.
fn run(name: &str, address: &str) {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("program");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let built = Command::new("cc")
        .args(["-Wall", "-Werror", "-O1", "-g", "-o"])
        .args([&program, &source])
        .args(["-lrdmacm", "-libverbs", "-lpthread"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&built.stderr).into_owned();
    if errors.contains("rdma_cma.h: No such file") || errors.contains("cannot find -lrdmacm") {
        assert!(std::env::var("CI").is_err(), "librdmacm's header is missing: apt-get install librdmacm-dev");
        eprintln!("skipped: librdmacm's header is missing (apt-get install librdmacm-dev)");
        return;
    }
    assert!(built.status.success(), "{errors}");
    for (name, built) in
        [("libibverbs.so.1", "libibverbs_rocev2.so"), ("librdmacm.so.1", "librdmacm_rocev2.so")]
    {
        symlink(library(built), place.path().join(name)).unwrap();
    }
    let agent = place.path().join("agent");
    let serves = agent.clone();
    std::thread::spawn(move || rocev2_agent::serve(&serves, Duration::from_secs(60)));
    while !rocev2_agent::lease::is_there(&agent) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = Command::new(&program)
        .arg(address)
        .env("LD_LIBRARY_PATH", place.path())
        .env("SECURE_RDMA_ADDRESS", address)
        .env("SECURE_RDMA_AGENT", &agent)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{}: {said}{}", ended.status, String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn what_programs_rely_on_holds() {
    run("contract.c", "127.83.89.1");
}

#[test]
fn what_programs_rely_on_of_rsockets_holds() {
    run("rsocket.c", "127.83.89.2");
}

#[test]
fn without_an_agent_there_is_no_device() {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("absent");
    let source = place.path().join("absent.c");
    let text = "#include <errno.h>\n#include <rdma/rdma_cma.h>\n\
                int main(void) { return rdma_create_event_channel() || errno != ENODEV; }\n";
    std::fs::write(&source, text).unwrap();
    let built = Command::new("cc").arg("-o").args([&program, &source]).arg("-lrdmacm").status().unwrap();
    if !built.success() {
        assert!(std::env::var("CI").is_err(), "librdmacm's header is missing: apt-get install librdmacm-dev");
        return;
    }
    symlink(library("librdmacm_rocev2.so"), place.path().join("librdmacm.so.1")).unwrap();
    let ended = Command::new(&program)
        .env("LD_LIBRARY_PATH", place.path())
        .env_remove("SECURE_RDMA_AGENT")
        .status()
        .unwrap();
    assert!(ended.success(), "{ended}");
}
