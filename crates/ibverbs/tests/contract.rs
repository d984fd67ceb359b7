//! A C program, compiled with libibverbs' own header and linked with libibverbs, meets this library at run time: what
//! verbs programs rely on holds (`contract.c` says what).
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Where cargo puts the library: beside the tests.
fn library() -> std::path::PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().join("libibverbs_rocev2.so")
}

#[test]
fn what_verbs_programs_rely_on_holds() {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("contract");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract.c");
    let built = Command::new("cc")
        .args(["-Wall", "-Werror", "-O1", "-g", "-o"])
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
        return;
    }
    assert!(built.status.success(), "{errors}");
    symlink(library(), place.path().join("libibverbs.so.1")).unwrap();
    let ended = Command::new(&program)
        .env("LD_LIBRARY_PATH", place.path())
        .env("SECURE_RDMA_ADDRESS", "127.83.86.1")
        .env_remove("SECURE_RDMA_AGENT")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{}: {said}{}", ended.status, String::from_utf8_lossy(&ended.stderr));
}
