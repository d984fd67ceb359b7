//! A C program, compiled with libibverbs' own header and linked with libibverbs, meets this library at run time: what
//! verbs programs rely on holds (`contract.c` says what).
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

/// Where cargo puts the library: beside the tests.
fn library() -> std::path::PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().join("libibverbs_rocev2.so")
}

/// Compiles `contract.c` with these options and runs it; `None`, where nothing need be proved, if it can't be compiled.
fn contract(address: &str, options: &[&str]) -> Option<Output> {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("contract");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract.c");
    let built = Command::new("cc")
        .args(["-Wall", "-Werror", "-O1", "-g"])
        .args(options)
        .arg("-o")
        .args([&program, &source])
        .args(["-libverbs", "-lpthread"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&built.stderr).into_owned();
    if errors.contains("infiniband/verbs.h: No such file") || errors.contains("cannot find -libverbs") {
        assert!(
            std::env::var("CI").is_err(),
            "libibverbs' header is missing: apt-get install libibverbs-dev"
        );
        eprintln!("skipped: libibverbs' header is missing (apt-get install libibverbs-dev)");
        return None;
    }
    assert!(built.status.success(), "{errors}");
    symlink(library(), place.path().join("libibverbs.so.1")).unwrap();
    let mut command = Command::new(&program);
    command.env("LD_LIBRARY_PATH", place.path()).env("SECURE_RDMA_ADDRESS", address);
    Some(command.env_remove("SECURE_RDMA_AGENT").output().unwrap())
}

fn assert_done(ended: &Output) {
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{}: {said}{}", ended.status, String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn what_verbs_programs_rely_on_holds() {
    if let Some(ended) = contract("127.83.86.1", &[]) {
        assert_done(&ended);
    }
}

#[test]
fn the_address_sanitizer_has_nothing_to_report_of_such_a_program() {
    if let Some(ended) = contract("127.83.86.2", &["-fsanitize=address", "-fno-omit-frame-pointer"]) {
        assert_done(&ended);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!said.contains("Sanitizer"), "{said}");
    }
}
