//! `secure-rdma doctor`: each check, and the fault that it finds.

mod network;

use crate::harness::{Ended, SECURE_RDMA, State, rocev2_socket, secure_rdma, text};
use secure_rdma::certs::{Kind, Store, Timestamp, Validity};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// The findings of a check.
fn findings(ended: &Ended, check: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
    let all = document["checks"].as_array().unwrap();
    all.iter().filter(|finding| finding["check"] == check).cloned().collect()
}

/// A check has found this, and says what mends it.
fn assert_found(ended: &Ended, check: &str, state: &str, words: &str) {
    let found = findings(ended, check);
    let fits = |finding: &Value| finding["state"] == state && finding.to_string().contains(words);
    assert!(
        found.iter().any(|finding| fits(finding) && (state == "ok" || !finding["remedy"].is_null())),
        "{found:?}"
    );
}

/// The findings with these files in the system's place.
fn with_system(files: &[(&str, &str)]) -> Ended {
    let (system, state) = (TempDir::new().unwrap(), State::new());
    for (path, content) in files {
        let path = system.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    secure_rdma(&["doctor", "--json", "--system", text(system.path()), "--certs", text(&state.path())])
}

#[test]
fn an_old_kernel_small_buffers_and_short_packets_are_found() {
    let good = [
        ("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n"),
        ("proc/sys/net/core/rmem_max", "4194304\n"),
        ("proc/sys/net/core/wmem_max", "4194304\n"),
        ("sys/class/net/eth0/mtu", "9000\n"),
        ("sys/class/net/eth1/mtu", "68\n"),
        ("sys/class/net/eth1/operstate", "down\n"),
    ];
    let ended = with_system(&good).succeeded();
    for (check, words) in [("kernel", "6.1.0"), ("socket buffers", "4194304"), ("MTU", "eth0")] {
        assert_found(&ended, check, "ok", words);
    }
    for (check, state, file, content, words) in [
        ("kernel", "costs", "proc/sys/kernel/osrelease", "4.4.0\n", "no UDP segmentation"),
        ("kernel", "costs", "proc/sys/kernel/osrelease", "4.19.1\n", "coalesce"),
        ("socket buffers", "costs", "proc/sys/net/core/rmem_max", "212992\n", "net.core.rmem_max=4194304"),
        ("MTU", "costs", "sys/class/net/eth0/mtu", "1500\n", "packets carry 1024 bytes"),
        // There is no room for the headers of an atomic operation, which a device counts always.
        ("MTU", "costs", "sys/class/net/eth0/mtu", "4180\n", "packets carry 2048 bytes"),
        ("MTU", "broken", "sys/class/net/eth0/mtu", "200\n", "no RDMA packet fits"),
    ] {
        let files = good.map(|(path, usual)| (path, if path == file { content } else { usual }));
        let ended = with_system(&files);
        assert_eq!(ended.status.code(), Some(i32::from(state == "broken")), "{ended:?}");
        assert_found(&ended, check, state, words);
    }
}

/// A device file that can't be opened for writing, by root either: a directory.
#[test]
fn a_device_that_can_not_be_opened_is_found() {
    let ended = with_system(&[("dev/infiniband/uverbs0/x", "")]);
    assert_found(&ended, "permissions", "costs", "uverbs0");
}

/// The findings in a shell that has done that before.
fn after(commands: &str) -> Ended {
    let state = State::new();
    let line = format!("{commands}; exec {SECURE_RDMA} doctor --json --certs {}", text(&state.path()));
    let output = Command::new("bash").args(["-c", &line]).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    Ended { status: output.status, out, err: String::from_utf8(output.stderr).unwrap() }
}

#[test]
fn low_limits_and_a_library_that_does_not_load_are_found() {
    let ended = after("ulimit -l 64; ulimit -n 256");
    assert_found(&ended, "locked memory", "costs", "65536 bytes");
    assert_found(&ended, "file descriptors", "costs", "ulimit -Hn 3200");
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("libibverbs.so.1"), "not a library").unwrap();
    let ended = after(&format!("export LD_LIBRARY_PATH={}", text(dir.path())));
    assert_found(&ended, "libibverbs", "costs", "apt-get install");
}

#[test]
fn a_port_that_another_has_is_found() {
    let _held = rocev2_socket([127, 86, 0, 1]);
    assert_found(&after("true"), "port 4791", "costs", "sport = 4791");
}

fn doctor(certs: &Path) -> Ended {
    secure_rdma(&["doctor", "--json", "--certs", text(certs)])
}

#[test]
fn certificates_that_end_keys_that_others_read_and_a_clock_that_is_behind_are_found() {
    let state = State::new();
    let certs = state.path();
    assert_found(&doctor(&certs).succeeded(), "certificates", "ok", "none yet");
    let store = Store::open(&certs).unwrap();
    let names = ["localhost".parse().unwrap()];
    store.ensure_server(&names).unwrap();
    let good = doctor(&certs).succeeded();
    assert_found(&good, "certificate", "ok", "server.pem");
    assert_found(&good, "clock", "ok", "UTC");

    let issue = |from: Timestamp, days: u64| {
        let validity =
            Validity { not_before: from, not_after: from.plus(Duration::from_secs(days * 86_400)) };
        store.issue("other", &["other.example".parse().unwrap()], Kind::Client, validity).unwrap();
    };
    let now = Timestamp::now();
    issue(now.minus(Duration::from_secs(3600)), 3);
    assert_found(
        &doctor(&certs).succeeded(),
        "certificate",
        "costs",
        "secure-rdma certs issue other.example",
    );
    issue(now.minus(Duration::from_secs(10 * 86_400)), 3);
    let ended = doctor(&certs);
    assert_eq!(ended.status.code(), Some(1));
    assert_found(&ended, "certificate", "broken", "it has ended");
    issue(now.plus(Duration::from_secs(86_400)), 100);
    assert_found(&doctor(&certs), "clock", "broken", "timedatectl");

    fs::set_permissions(certs.join("server-key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_found(&doctor(&certs), "key", "broken", "chmod 600");
    fs::write(certs.join("other.pem"), "nothing").unwrap();
    assert_found(&doctor(&certs), "certificates", "broken", "other.pem");
}

/// As text it says the same.
#[test]
fn what_is_found_is_shown_with_what_mends_it() {
    let (system, certs) = (TempDir::new().unwrap(), State::new().path());
    let arguments = ["doctor", "--system", text(system.path()), "--certs", text(&certs)];
    let said = secure_rdma(&arguments).succeeded().out.join("\n");
    assert!(said.contains("costs   socket buffers: ") && said.contains("-> mount /proc"), "{said}");
}

#[test]
fn completions_and_pages_are_made_for_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = secure_rdma(&["completions", shell]).succeeded().out.join("\n");
        for word in ["doctor", "--max-clients", "devices"] {
            let word = if shell == "fish" { word.trim_start_matches('-') } else { word };
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let dir = TempDir::new().unwrap();
    secure_rdma(&["man", text(dir.path())]).succeeded();
    for page in ["secure-rdma.1", "secure-rdma-server.1", "secure-rdma-doctor.1", "secure-rdma-certs-issue.1"]
    {
        let text = fs::read_to_string(dir.path().join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
}
