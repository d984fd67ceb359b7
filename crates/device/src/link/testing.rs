//! What the network tests share.

use std::env;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::{RxBatch, Socket};

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "DEVICE_TEST_IN_NAMESPACE";

/// Both loopback addresses; the IPv4 one is nobody else's, so that its port 4791 is free.
pub(super) fn loopbacks() -> [IpAddr; 2] {
    [fresh_loopback(), "::1".parse().unwrap()]
}

/// An address of 127.0.0.0/8 that no other test or process uses.
pub(super) fn fresh_loopback() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

/// A socket at a port of the system's choice.
pub(super) fn socket_at(address: IpAddr) -> Socket {
    Socket::bind((address, 0).into()).unwrap()
}

/// What one datagram was: its place in its batch and its bytes.
pub(super) type Received = (u16, Vec<u8>);

/// Receives until `count` datagrams have arrived, for a minute at most.
pub(super) fn receive(socket: &Socket, count: usize) -> Vec<Received> {
    let mut buffers = RxBatch::new();
    let mut received = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while received.len() < count && Instant::now() < deadline {
        socket.recv(&mut buffers);
        received.extend(buffers.datagrams().map(|datagram| (datagram.index, datagram.bytes.to_vec())));
    }
    received
}

/// Runs a test in a network namespace of its own, where `setup` (shell commands that use `programs`) may do
/// as it likes. True in the process inside: go on with the test. False outside: the test has been run, or
/// can't be on this machine, which fails where CI=true.
///
/// `test` is the test's full path, as `concat!(module_path!(), "::name")` gives it.
pub(crate) fn in_namespace(test: &str, programs: &[&str], setup: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let Some(namespace) = namespace_options(programs) else {
        let missing = format!(
            "{test} needs a network namespace (unshare --net) and in it {programs:?}, and didn't get that: \
             NOT PROVED on this machine"
        );
        assert!(env::var("CI").as_deref() != Ok("true"), "{missing}");
        // Past the capture: it must be seen though the test doesn't fail.
        let _ = writeln!(io::stderr(), "{missing}");
        return false;
    };
    let (_crate, name) = test.split_once("::").unwrap();
    let script = format!("set -e; ip link set lo up; {setup}\nexec \"$@\"");
    let output = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", &script, "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{test} in its namespace:\n{text}");
    false
}

/// The way in which this user may make a network namespace and find the programs there.
fn namespace_options(programs: &[&str]) -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];
    WAYS.into_iter().find(|options| {
        let script = "ip link set lo up && for program; do command -v $program || exit; done";
        let made =
            Command::new("unshare").args(*options).args(["sh", "-c", script, "sh"]).args(programs).output();
        made.is_ok_and(|output| output.status.success())
    })
}
