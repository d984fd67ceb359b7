//! What is on the wire: tshark dissects it, scapy agrees with its checksums, and it begins with the PSNs that
//! were negotiated.

use crate::dissect::{ANSWERS, SENDS, dissect, figure};
use crate::gate::{self, NETWORK, Need, PYTHON};
use crate::network::{End, Network};
use crate::process::{PATIENCE, Process};
use crate::server::Server;
use crate::tcpdump::Capture;
use std::collections::HashSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// How long scapy may take.
const LIMIT: Duration = Duration::from_secs(240);

#[track_caller]
fn check_capture(mtu: u32, client: End, address: fn(End) -> &'static str) {
    let tools = [
        Need::Tool("ethtool"),
        Need::Tool("tcpdump"),
        Need::Tool("tshark"),
        Need::Module("scapy.contrib.roce"),
    ];
    if !gate::provides(&[NETWORK.as_slice(), &tools].concat(), "what is on the wire is RoCEv2") {
        return;
    }
    // With offloads the capture would show dozens of packets as one.
    let network = Network::new(mtu).without_offloads();
    // In clear each operation has packets of its usual sizes; sealed, only whole slots are written and read.
    let server = Server::start_with(&network, &["--seal", "optional"]);
    let capture = Capture::start(&network, 0, "udp");
    let large = "0123456789abcdef".repeat(1000);
    let lines = format!(
        "send hello\nwrite some data\nread 9\nadd 5\nswap 5 6\nsend {large}\nwrite {large}\nread\nquit\n"
    );
    let open = ["--seal", "off"];
    let ended = server.client_with(address(End::Server), &open, &lines).end_within(PATIENCE).succeeded();
    let captured = capture.end().without_drops();
    let capture = captured.path();

    let shown = ended.err.lines().find(|line| line.starts_with("QPN ")).unwrap();
    let arrival = server.process.says(": arrived from ");
    let ports = arrival
        .match_indices(')')
        .filter_map(|(end, _)| arrival[..end].rsplit(':').next()?.parse().ok())
        .collect();
    let packets = dissect(&capture, &ports);
    let (own_psn, peer_psn) = (figure(shown, "PSN ", " here"), figure(shown, "PSN ", " there"));
    // The server says the same of itself.
    assert_eq!(
        (own_psn, peer_psn),
        (figure(&arrival, "; PSN ", " there"), figure(&arrival, "; PSN ", " here")),
        "{arrival}"
    );
    let (own_qpn, peer_qpn) = (figure(shown, "QPN ", " here"), figure(shown, "QPN ", " there"));

    for (end, destination, psn) in [(client, peer_qpn, own_psn), (End::Server, own_qpn, peer_psn)] {
        let sent: Vec<_> = packets.iter().filter(|packet| packet.source == address(end)).collect();
        assert!(sent.iter().all(|packet| packet.qpn == destination), "{end:?}: {sent:#?}");
        let first = sent.iter().find(|packet| !ANSWERS.contains(&packet.opcode)).unwrap();
        assert!(SENDS.contains(&first.opcode), "{end:?}: {first:?}");
        assert_eq!(first.psn, psn, "{end:?}: the first request's PSN, the negotiated one");
        // Large messages are there as several packets.
        for opcode in [0x00, 0x01] {
            assert!(
                sent.iter().any(|packet| packet.opcode == opcode),
                "{end:?}: no packet with opcode {opcode:#04x}"
            );
        }
    }
    // Every operation's requests and answers: WRITE, READ, ACK, COMPARE SWAP, FETCH ADD.
    let opcodes: HashSet<_> = packets.iter().map(|packet| packet.opcode).collect();
    for opcode in [0x06, 0x08, 0x0a, 0x0c, 0x0d, 0x0f, 0x10, 0x11, 0x12, 0x13, 0x14] {
        assert!(opcodes.contains(&opcode), "no packet with opcode {opcode:#04x} in {opcodes:?}");
    }

    let mut icrc = Command::new(PYTHON);
    icrc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/icrc.py")).arg(&capture);
    let ended = Process::start(&mut icrc, "").end_within(LIMIT).succeeded();
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let version = if address(client).contains(':') { "ipv6" } else { "ipv4" };
    assert_eq!(report["checked"][version], packets.len(), "{report}");
    assert_eq!(report["wrong"], serde_json::json!([]), "ICRCs that are not scapy's");
    assert_eq!(report["unnoticed"], serde_json::json!([]), "changed packets whose ICRC still fits");
    println!("{} packets to {}", packets.len(), address(End::Server));
}

#[test]
fn packets_over_ipv4_are_rocev2_for_tshark_with_scapys_icrc_and_begin_with_the_negotiated_psns() {
    check_capture(1500, End::Client, End::ipv4);
}

#[test]
fn packets_over_ipv6_are_rocev2_for_tshark_with_the_right_icrc_and_begin_with_the_negotiated_psns() {
    check_capture(1500, End::Client, End::ipv6);
}

/// What a client sends, writes and reads, each word so long that chance doesn't put it into a capture.
const SECRETS: [&str; 3] =
    ["a-message-that-nobody-else-may-read", "written-for-nobody-else", "swordfish-swordfish"];

/// How often each of the secrets is in the packets of a session with that sealing.
#[track_caller]
fn found_on_the_wire(seal: &str) -> [usize; 3] {
    let network = Network::new(9000).without_offloads();
    let server = Server::start_with(&network, &["--seal", seal]);
    let capture = Capture::start(&network, 0, "udp");
    let [sent, written, repeated] = SECRETS;
    let long = format!("{repeated} ").repeat(1000);
    let lines = format!("send {sent}\nwrite {written}\nread\nsend {long}\nwrite {long}\nread\nquit\n");
    let arguments = ["--seal", seal];
    let ended = server.client_with(End::Server.ipv4(), &arguments, &lines).end_within(PATIENCE).succeeded();
    assert!(ended.out.contains(sent) && ended.out.contains(written), "{}", ended.out);
    let captured = capture.end().without_drops();
    let capture = captured.path();
    let bytes = fs::read(capture).unwrap();
    // Everything was captured: each byte went there and back, in messages and in the region.
    assert!(bytes.len() > 4 * long.len(), "{} bytes were captured", bytes.len());
    SECRETS.map(|secret| bytes.windows(secret.len()).filter(|window| *window == secret.as_bytes()).count())
}

#[test]
fn a_sealed_sessions_packets_contain_nothing_of_what_is_sent_written_and_read_and_an_open_ones_all() {
    let needs = [NETWORK.as_slice(), &[Need::Tool("ethtool"), Need::Tool("tcpdump")]].concat();
    if !gate::provides(&needs, "a sealed session's packets contain no plaintext") {
        return;
    }
    assert_eq!(found_on_the_wire("required"), [0; 3]);
    let [sent, written, repeated] = found_on_the_wire("off");
    // There and back at least, since packets may be sent again; of the long ones some lie across the ends of packets.
    assert!(sent >= 2 && written >= 2 && repeated > 3500, "{sent}, {written}, {repeated}");
}
