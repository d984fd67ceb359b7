//! A thousand clients of one server, of the programs as they were built.

use serde_json::Value;
use std::process::Command;

/// Wall-clock time isn't looked at, and so neither is what depends on it: how many rounds there were, and how fairly
/// they were shared, the command says.
#[test]
fn a_thousand_sealed_clients_at_once_find_all_their_data_and_leave_nothing() {
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(["crowd", "--clients", "1000", "--seconds", "3", "--json"])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains("isn't there"), "{error}");
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
    assert!(output.status.success(), "{verdict:#}");
    assert_eq!((&verdict["ok"], &verdict["clients"]), (&true.into(), &1000.into()), "{verdict:#}");
    assert_eq!(verdict["failures"], Value::Array(Vec::new()), "{verdict:#}");
    assert!(verdict["fewest"].as_u64().unwrap() > 0, "{verdict:#}");
    for what in ["descriptors", "threads"] {
        assert_eq!(verdict["server"][0][what], verdict["server"][2][what], "{verdict:#}");
    }
    // One each, its connection, and a few that handshakes leave for a moment.
    let descriptors = |at: usize| verdict["server"][at]["descriptors"].as_u64().unwrap();
    assert!((1000..1100).contains(&(descriptors(1) - descriptors(0))), "{verdict:#}");
}
