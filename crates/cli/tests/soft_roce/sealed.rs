//! Sessions whose packets the kernel seals for Soft-RoCE: `--seal packets`.

use crate::guest::{End, SECURE_CLIENT, SECURE_RDMA, SECURE_SERVER, SLOW, Server, run};
use crate::process::{Process, wait_until};
use crate::whole_capture;
use crate::wire::capture;
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const SEALED: [&str; 2] = ["--seal", "packets"];

/// In what is sent and written: to be found in clear, and nowhere else.
const PATTERN: &str = "a pattern that nobody else would send";

fn lines() -> String {
    format!("send {PATTERN}\nwrite {PATTERN}\nread 9\nadd 5\nswap 5 6\nquit\n")
}

/// What the kernel has of IPsec at the near end.
fn ipsec() -> String {
    run("ip", &["xfrm", "policy"]) + &run("ip", &["xfrm", "state"])
}

#[track_caller]
pub(crate) fn wait_until_no_ipsec_is_left() {
    wait_until(SLOW, || ipsec().is_empty()).unwrap_or_else(|| panic!("left: {}", ipsec()));
}

/// The payloads of UDP in a capture of Ethernet and IPv4 or IPv6 without options, but TLS's.
fn payloads(file: &Path) -> Vec<Vec<u8>> {
    const FILE_HEADER: usize = 24;
    const RECORD_HEADER: usize = 16;
    const ETHERNET: usize = 14;
    let bytes = fs::read(file).unwrap();
    let (mut rest, mut found) = (&bytes[FILE_HEADER..], Vec::new());
    while let Some((header, behind)) = rest.split_at_checked(RECORD_HEADER) {
        let len = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
        assert_eq!(header[8..12], header[12..16], "a packet was cut off");
        let (packet, behind) = behind.split_at(len);
        rest = behind;
        let ip = if packet[ETHERNET] >> 4 == 4 { 20 } else { 40 };
        found.push(packet[ETHERNET + ip + 8..].to_vec());
    }
    found
}

fn has_pattern(payloads: &[Vec<u8>]) -> bool {
    payloads.iter().any(|payload| payload.windows(PATTERN.len()).any(|part| part == PATTERN.as_bytes()))
}

/// A session, and all that was on the wire of UDP meanwhile.
#[track_caller]
fn session(server_end: End, client_end: End, host: &str, arguments: &[&str]) -> (String, Vec<Vec<u8>>) {
    let files = TempDir::new().unwrap();
    let file = files.path().join("pcap");
    let tcpdump = capture(&file, "udp");
    let server = Server::start_with(server_end, server_end.device(), arguments);
    let mut command = server.client_with(client_end, host, client_end.device(), arguments);
    let ended = Process::start(&mut command, &lines()).end_within(SLOW).succeeded();
    assert!(ended.out.starts_with(&format!("{PATTERN}\n{} bytes written\n", PATTERN.len())), "{}", ended.out);
    assert!(ended.out.contains("0 + 5 = 5"), "{}", ended.out);
    let arrival = server.process.says(": arrived from ");
    wait_until_no_ipsec_is_left();
    whole_capture::end(tcpdump, SLOW);
    (ended.err + &arrival, payloads(&file))
}

#[track_caller]
fn check_sealed(server_end: End, client_end: End) {
    for host in [server_end.ipv4(), server_end.ipv6()] {
        let (said, sent) = session(server_end, client_end, host, &SEALED);
        assert_eq!(said.matches("by packets").count(), 2, "both sides say so: {said}");
        assert!(sent.len() >= 10, "{}", sent.len());
        // The SPIs of both begin with an opcode that RoCEv2 doesn't have.
        let clear = sent.iter().filter(|payload| payload[0] < 0xc0).count();
        assert_eq!((clear, has_pattern(&sent)), (0, false), "of {}", sent.len());
    }
    // Were it in clear, it would have been found.
    let (_, sent) = session(server_end, client_end, server_end.ipv4(), &["--seal", "off"]);
    assert!(has_pattern(&sent));
}

#[test]
fn the_kernel_seals_packets_for_a_server_on_soft_roce() {
    check_sealed(End::Near, End::Peer);
}

#[test]
fn the_kernel_seals_packets_for_a_client_on_soft_roce() {
    check_sealed(End::Peer, End::Near);
}

#[test]
fn it_seals_for_one_program_at_an_address_and_when_the_server_is_killed_nothing_leaves_in_clear() {
    let server = Server::start_with(End::Near, "rxe0", &SEALED);
    let host = End::Near.ipv4();
    let first = Process::start_waiting(&mut server.client_with(End::Peer, host, "embedded", &SEALED));
    let _ = server.process.says(": arrived from ");
    let policies = run("ip", &["xfrm", "policy"]);
    assert_eq!(policies.matches("proto esp").count(), 2, "{policies}");
    assert!(!policies.contains("block"), "{policies}");
    let mut second = server.client_with(End::Peer, host, "embedded:10.77.0.2:4792", &SEALED);
    let ended = Process::start(&mut second, &lines()).end_within(SLOW);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.err.contains("for one program at each of two addresses"), "{}", ended.err);
    assert_eq!(run("ip", &["xfrm", "policy"]), policies, "the first is as it was");

    let files = TempDir::new().unwrap();
    let file = files.path().join("pcap");
    let tcpdump = capture(&file, "udp");
    server.process.signal(Signal::KILL);
    let _ = server.process.end_within(SLOW);
    wait_until_no_ipsec_is_left();
    first.signal(Signal::INT);
    let _ = first.end_within(SLOW);
    whole_capture::end(tcpdump, SLOW);
    assert!(payloads(&file).iter().all(|payload| payload[0] >= 0xc0));
}

/// A user who isn't root, whose rights are CAP_NET_ADMIN alone.
#[test]
fn with_the_right_alone_a_server_has_the_kernel_seal() {
    let place = TempDir::new().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Where that user can reach it.
    let program = place.path().join("secure_server");
    fs::copy(SECURE_SERVER, &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    for sets in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.args([sets, "-all,+net_admin"]);
    }
    command.arg("--").arg(program).args(["-v", "--device", "rxe0"]).args(SEALED);
    let mut certs = PathBuf::new();
    let _server = Server::start_by(command, |path| {
        chown(path, Some(65534), Some(65534)).unwrap();
        certs = path.to_path_buf();
    });
    // Nobody trusts a directory of another user's.
    let own = place.path().join("certs");
    run("cp", &["-r", "--preserve=mode", certs.to_str().unwrap(), own.to_str().unwrap()]);
    let mut client = End::Peer.command(SECURE_CLIENT);
    client.args([End::Near.ipv4(), "localhost", "-v", "--device", "embedded"]).args(SEALED);
    let ended = Process::start(client.arg("--certs").arg(own), &lines()).end_within(SLOW).succeeded();
    assert!(ended.err.contains("by packets"), "{}", ended.err);
    wait_until_no_ipsec_is_left();
}

#[test]
fn who_could_have_the_kernel_seal_is_told_so() {
    let server = Server::start(End::Near, "rxe0");
    let told = |process: &Process| process.err().contains("--seal packets");
    server.process.wait_until("note", SLOW, told);
}

#[test]
fn without_the_right_the_program_says_so() {
    let script =
        format!("exec {SECURE_RDMA} server --listen 127.0.0.1:0 --device rxe0 --seal packets --certs \"$0\"");
    let certs = TempDir::new().unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_admin", "bash", "-c", &script]).arg(certs.path());
    let ended = Process::start(&mut command, "").end_within(SLOW);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.out);
    for part in ["rxe0 can't", "CAP_NET_ADMIN", "--seal required"] {
        assert!(ended.err.contains(part), "no {part}: {}", ended.err);
    }
}
