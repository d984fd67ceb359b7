//! Memory, under valgrind.

use crate::gate::{self, Need};
use crate::process::{Process, ends_of};
use crate::server::SECURE_RDMA;
use std::process::Command;
use std::time::Duration;

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
