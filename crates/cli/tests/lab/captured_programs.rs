//! `secure-rdma run --capture`: the file as tshark, an implementation that isn't ours, reads it.

use crate::dissect::dissect;
use crate::gate::{self, Need};
use crate::process::{PATIENCE, Process};
use crate::server::SECURE_RDMA;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A run of a pingpong that both ends' packets are captured of.
fn run(place: &TempDir, address: &str, capture: &str, client: bool) -> Process {
    let mut command = Command::new(SECURE_RDMA);
    command.env("XDG_RUNTIME_DIR", place.path()).current_dir(place.path());
    command.args(["run", "--address", address, "--capture", capture, "--"]);
    command.args(["ibv_rc_pingpong", "-g", "0", "-n", "50", "-s", "9000", "-m", "1024", "-p", "18530"]);
    // Where the server is told of: it listens by IPv4 alone, whatever its device's address is.
    command.args(client.then_some("localhost"));
    Process::start(&mut command, "")
}

/// How many packets of a capture pass that filter of tshark's.
fn count(capture: &Path, filter: &str) -> usize {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(capture).args(["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
    Process::run(command.args(["-Y", filter]), "").succeeded().out.lines().count()
}

#[test]
fn what_programs_send_and_receive_is_in_the_capture_as_others_read_it() {
    let needs = [Need::Tool("tshark"), Need::Tool("ibv_rc_pingpong")];
    if !gate::provides(&needs, "that a program's capture is read by others") {
        return;
    }
    for address in ["127.83.87.1", "::1"] {
        let place = tempfile::tempdir().unwrap();
        let server = run(&place, address, "server.pcapng", false);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = run(&place, address, "client.pcapng", true).end_within(PATIENCE);
            if ended.status.success() {
                break;
            }
            assert!(ended.err.contains("Couldn't connect") && Instant::now() < deadline, "{ended:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        server.end_within(PATIENCE).succeeded();
        for file in ["server.pcapng", "client.pcapng"] {
            let capture = place.path().join(file);
            assert_eq!(fs::metadata(&capture).unwrap().permissions().mode() & 0o777, 0o600);
            // 50 messages of 9 packets each way, and what acknowledges them; no two have the same PSN.
            let packets = dissect(&capture, &HashSet::new());
            for queue_pair in packets.iter().map(|packet| packet.qpn).collect::<HashSet<_>>() {
                let sent = packets.iter().filter(|packet| packet.qpn == queue_pair && packet.opcode <= 5);
                let psns: HashSet<_> = sent.map(|packet| packet.psn).collect();
                assert_eq!(psns.len(), 50 * 9, "{file} at {address}");
            }
            let outbound = count(&capture, "frame.packet_flags_direction == 2");
            let inbound = count(&capture, "frame.packet_flags_direction == 1");
            assert!(outbound >= 50 * 9 && inbound >= 50 * 9, "{outbound} {inbound}");
            assert_eq!(outbound + inbound, packets.len());
            assert_eq!(count(&capture, "udp.checksum.status == 1"), packets.len());
            if !address.contains(':') {
                assert_eq!(count(&capture, "ip.checksum.status == 1 && ip.flags.df == 1"), packets.len());
            }
            assert_eq!(count(&capture, "frame.interface_name == \"rocev2_0\""), packets.len());
        }
    }
}
