//! What goes wrong with devices of libibverbs, and what the user is told.

use crate::guest::{End, Extra, SECURE_RDMA, SLOW, Server, run};
use crate::process::{Ended, Process};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Checks that a command failed, and that its message has all of these words.
#[track_caller]
fn says(ended: &Ended, words: &[&str]) {
    let Ended { status, out, err } = ended;
    assert_eq!(status.code(), Some(1), "{out} {err}");
    for word in words {
        // A demo's clients tell in its table.
        assert!(err.contains(word) || out.contains(word), "no {word:?} in: {out} {err}");
    }
    assert!(!err.contains("panicked"), "{err}");
}

#[track_caller]
fn demo(device: &str) -> Ended {
    let mut command = Command::new(SECURE_RDMA);
    command.args(["demo", "--clients", "1", "--device", device]);
    Process::start(&mut command, "").end_within(SLOW)
}

/// The same, run by a user without rights, in a shell that has run `limits`.
#[track_caller]
fn demo_as_nobody(limits: &str) -> Ended {
    let script = format!("{limits}; exec {SECURE_RDMA} demo --clients 1 --device rxe0");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "bash", "-c", &script]);
    Process::start(&mut command, "").end_within(SLOW)
}

/// The index of an address in rxe0's GID table. The kernel enters addresses there a little later than they are given.
#[track_caller]
fn wait_for_gid(address: &str) -> String {
    let script = format!(". lab/network.sh && until lab_gid_index {address}; do sleep 0.05; done");
    run("bash", &["-c", &script]).trim().to_owned()
}

#[test]
fn a_name_that_no_device_has() {
    says(&demo("mlx5_7"), &["no RDMA device mlx5_7", "libibverbs finds rxe0", "--device embedded"]);
}

#[test]
fn no_device_at_all_and_auto_takes_the_embedded_one() {
    run("rdma", &["link", "delete", "rxe0"]);
    let (named, auto) = (demo("rxe0"), demo("auto"));
    run("bash", &["-c", ". lab/network.sh && lab_rxe"]);
    says(&named, &["no RDMA device rxe0", "finds none at all", "rdma link add", "--device embedded"]);
    let auto = auto.succeeded();
    assert!(auto.out.contains("device: embedded"), "{}", auto.out);
}

#[test]
fn a_device_without_an_active_port() {
    // The interface is down, and so is the port.
    let _extra = Extra::new("rxe_down", "down0");
    says(&demo("rxe_down"), &["rxe_down can't be used", "port 1 is DOWN", "ip link set"]);
    says(&demo("rxe_down:2"), &["has no port 2", "it has 1"]);
}

#[test]
fn a_gid_index_that_does_not_exist() {
    says(&demo("rxe0:1:200"), &["no GID with index 200", "1: 10.77.0.1"]);
}

#[test]
fn no_permission_on_the_device_file() {
    let file = "/dev/infiniband/uverbs0";
    let before = std::fs::metadata(file).unwrap().permissions();
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
    let ended = demo_as_nobody("true");
    std::fs::set_permissions(file, before).unwrap();
    says(&ended, &["opening the device", "/dev/infiniband/uverbs", "run as root"]);
}

#[test]
fn a_limit_on_locked_memory_that_is_too_low() {
    says(&demo_as_nobody("ulimit -l 64"), &["registering memory", "may lock 64 KiB", "ulimit -l"]);
    demo_as_nobody("true").succeeded();
}

#[test]
fn gids_of_different_families_cannot_reach_each_other() {
    let server = Server::start(End::Near, &format!("rxe0:1:{}", wait_for_gid(End::Near.ipv4())));
    let device = format!("rxe0:1:{}", wait_for_gid(End::Near.ipv6()));
    let ended = server.client(End::Near, "127.0.0.1", &device, "send hello\nquit\n");
    says(&ended, &["can't reach each other", "one is IPv4, the other IPv6", "same family"]);
}

#[test]
fn a_gid_of_another_address_than_the_servers_is_not_sent_to() {
    // The server's device is to be reached by another address than the server itself.
    const OTHER: &str = "10.77.9.1";
    run("ip", &["address", "add", &format!("{OTHER}/24"), "dev", "near"]);
    let index = wait_for_gid(OTHER);
    let server = Server::start(End::Near, &format!("rxe0:1:{index}"));
    let ended = server.client(End::Peer, End::Near.ipv4(), "embedded", "send hello\nquit\n");
    run("ip", &["address", "delete", &format!("{OTHER}/24"), "dev", "near"]);
    says(&ended, &["10.77.0.1", "names 10.77.9.1", "was authenticated"]);
}

#[test]
fn an_embedded_device_on_another_port_than_4791() {
    let server = Server::start(End::Near, "rxe0");
    let ended = server.client(End::Peer, End::Near.ipv4(), "embedded:10.77.0.2:4792", "send hello\nquit\n");
    says(&ended, &["can't reach each other", "UDP port 4792", "4791"]);
}
