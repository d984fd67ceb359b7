//! A network namespace of a test's own, and what iproute2 sees there.

use nix::sched::{CloneFlags, unshare};
use secure_rdma_xfrm::helper::{Helper, serve, serve_standing};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Nothing here takes long; a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// This host's address, and a peer's to which there is a way.
pub(crate) const OWN: &str = "10.77.0.1";
pub(crate) const PEER: &str = "10.77.0.2";

/// Puts this thread, and what it starts, into a namespace of its own with the addresses `OWN` and fd77::1; says whether
/// it could. Where nothing may be skipped it has to.
#[must_use]
pub(crate) fn in_namespace() -> bool {
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        let message = format!("no network namespace can be made: {errno}");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
        eprintln!("skipped: {message}");
        return false;
    }
    for arguments in [
        "link set lo up",
        "link add net0 type veth peer name net1",
        "address add 10.77.0.1/24 dev net0",
        "address add fd77::1/64 dev net0 nodad",
        "link set net0 up",
        "link set net1 up",
        "neighbour add 10.77.0.2 lladdr 02:00:00:00:00:02 dev net0",
        "neighbour add fd77::2 lladdr 02:00:00:00:00:02 dev net0",
    ] {
        ip(arguments);
    }
    true
}

/// What `ip` says.
#[track_caller]
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The policies, one a line, in no order that means something.
pub(crate) fn policies() -> Vec<String> {
    let text = ip("xfrm policy").replace("\n\t", " ");
    let mut policies: Vec<_> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    policies.sort();
    policies
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A helper in this thread's namespace. The right is given up by another thread than this one.
pub(crate) fn helper() -> Arc<Helper> {
    start("common::the_helper_that_tests_start")
}

/// One that leaves blocks behind.
pub(crate) fn standing_helper() -> Arc<Helper> {
    start("common::the_standing_helper_that_tests_start")
}

fn start(test: &'static str) -> Arc<Helper> {
    thread::spawn(move || {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", test, "--ignored", "--nocapture"]);
        Helper::start(command).expect("a helper")
    })
    .join()
    .expect("it started")
}

#[test]
#[ignore = "other tests start it"]
fn the_helper_that_tests_start() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("its socket");
    serve(&socket).expect("served");
}

#[test]
#[ignore = "other tests start it"]
fn the_standing_helper_that_tests_start() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("its socket");
    serve_standing(&socket).expect("served");
}
