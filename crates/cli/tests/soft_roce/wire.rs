//! What is on the wire between the kernel's device and the embedded one.

use crate::dissect::{ANSWERS, dissect, figure};
use crate::guest::{End, SLOW, Server};
use crate::process::Process;
use crate::whole_capture;
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// tcpdump at the near end of the cable, of what `filter` is for.
pub(crate) fn capture(file: &Path, filter: &str) -> Process {
    let mut command = Command::new("tcpdump");
    command.args(["-i", "near", "--immediate-mode", "-U", "-B", "16384", "-Z", "root", "-w"]);
    let process = Process::start(command.arg(file).arg(filter), "");
    process.wait_until("start of tcpdump", SLOW, |process| process.err().contains("listening on "));
    process
}

/// Each direction's first request has the PSN that was negotiated, and goes to the negotiated queue pair.
#[track_caller]
fn check_first_psns(server_end: End, client_end: End) {
    let files = TempDir::new().unwrap();
    let file = files.path().join("pcap");
    let server = Server::start(server_end, server_end.device());
    let tcpdump = capture(&file, "udp port 4791");
    let host = server_end.ipv4();
    let ended = server.client(client_end, host, client_end.device(), "send hello\nquit\n").succeeded();
    whole_capture::end(tcpdump, SLOW);

    let shown = ended.err.lines().find(|line| line.starts_with("QPN ")).unwrap();
    let arrival = server.process.says(": arrived from ");
    let (own_psn, peer_psn) = (figure(shown, "PSN ", " here"), figure(shown, "PSN ", " there"));
    assert_eq!(
        (own_psn, peer_psn),
        (figure(&arrival, "; PSN ", " there"), figure(&arrival, "; PSN ", " here")),
        "{arrival}"
    );
    // What the device itself says, asked before there was any traffic.
    let told = ended.err.lines().find(|line| line.starts_with("the device has ")).unwrap();
    let told = (figure(told, "sq_psn", " to send with"), figure(told, "rq_psn", " to receive with"));
    assert_eq!(told, (own_psn, peer_psn));

    let packets = dissect(&file, &HashSet::from([4791]));
    let (own_qpn, peer_qpn) = (figure(shown, "QPN ", " here"), figure(shown, "QPN ", " there"));
    for (end, destination, psn) in [(client_end, peer_qpn, own_psn), (server_end, own_qpn, peer_psn)] {
        let mut sent = packets.iter().filter(|packet| packet.source == end.ipv4());
        let first = sent.find(|packet| !ANSWERS.contains(&packet.opcode)).unwrap();
        assert_eq!((first.qpn, first.psn), (destination, psn), "{end:?}");
    }
}

#[test]
fn each_direction_begins_with_its_negotiated_psn_when_the_server_is_on_soft_roce() {
    check_first_psns(End::Near, End::Peer);
}

#[test]
fn each_direction_begins_with_its_negotiated_psn_when_the_client_is_on_soft_roce() {
    check_first_psns(End::Peer, End::Near);
}
