//! Programs that use librdmacm on two hosts, sealed: tshark, given the keys, finds management datagrams and data in
//! well-formed RoCEv2, and without them nothing.

use crate::gate::{self, NETWORK, Need};
use crate::network::{End, Network};
use crate::process::{PATIENCE, Process, wait_until};
use crate::recorded_keys::{Recorded, Recorder};
use crate::sealed_programs::Site;
use crate::tcpdump::Capture;
use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The UDP port by which tshark knows ESP: 4791 would be plain RoCEv2.
const NAT_TRAVERSAL_PORT: u16 = 4500;

/// What rping sends, at the beginning of each of its messages.
const PATTERN: &[u8] = b"rdma-ping-";

/// Attributes of connection management's datagrams (IBA 12.6).
const REQ: u32 = 0x10;
const REP: u32 = 0x13;
const RTU: u32 = 0x14;
const DREQ: u32 = 0x15;

/// An agent at that end, in this process.
fn start_agent(network: &Network, site: &Site, end: End, recorded: &Recorded) {
    let place = site.path(end, "run").join("secure-rdma");
    DirBuilder::new().mode(0o700).create(&place).unwrap();
    let (socket, recorder) = (place.join("agent"), Recorder::new(recorded));
    let serve = {
        let socket = socket.clone();
        move || rocev2_agent::serve_with(&socket, LIMIT, Box::new(recorder))
    };
    thread::scope(|scope| {
        // The thread stays at that end, and so do those that it starts.
        scope.spawn(|| network.inside(end, || thread::spawn(serve)));
    });
    wait_until(PATIENCE, || rocev2_agent::lease::is_there(&socket)).unwrap();
}

/// rping and its server, with these options; the packets between them.
#[track_caller]
fn capture(network: &Network, site: &Site, options: &[&str]) -> Vec<u8> {
    let running = Capture::start(network, 0, "udp and port 4791");
    let rping = ["rping", "-a", End::Server.ipv4(), "-C", "20"];
    let start = |end, role: &str| {
        Process::start(&mut site.command(network, end, options, &[&rping[..], &[role]].concat()), "")
    };
    let server = start(End::Server, "-s");
    wait_until(PATIENCE, || {
        let ended = start(End::Client, "-c").end_within(LIMIT);
        let early = ["REJECTED", "no program there", "no agent answers"];
        assert!(ended.status.success() || early.iter().any(|word| ended.err.contains(word)), "{ended:?}");
        ended.status.success()
    })
    .unwrap();
    server.end_within(LIMIT);
    fs::read(running.end().without_drops().path()).unwrap()
}

/// The same packets at the port by which tshark knows ESP. (pcap: a header of 24 bytes, then records of 16 with the
/// length in the third word, Ethernet, IPv4 without options.)
fn at_nat_traversal_port(mut pcap: Vec<u8>) -> Vec<u8> {
    const PORTS: usize = 16 + 14 + 20;
    let mut at = 24;
    while at < pcap.len() {
        let len = u32::from_le_bytes(pcap[at + 8..at + 12].try_into().unwrap());
        for port in [0, 2] {
            let place = at + PORTS + port;
            pcap[place..place + 2].copy_from_slice(&NAT_TRAVERSAL_PORT.to_be_bytes());
        }
        // No checksum.
        pcap[at + PORTS + 6..at + PORTS + 8].fill(0);
        at += 16 + usize::try_from(len).unwrap();
    }
    pcap
}

/// A packet as tshark understands it: the destination queue pair, and of a management datagram the attribute.
#[derive(Debug)]
struct Packet {
    qpn: u32,
    attribute: Option<u32>,
}

#[track_caller]
fn dissect(pcap: &Path, keys: &Recorded) -> Vec<Packet> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(pcap).args(["-o", "esp.enable_encryption_decode:TRUE"]);
    for (spi, material) in &*keys.lock().unwrap() {
        let material: String = material.iter().map(|byte| format!("{byte:02x}")).collect();
        tshark.arg("-o").arg(format!(
            r#"uat:esp_sa:"IPv4","*","*","{spi:#010x}","AES-GCM with 16 octet ICV [RFC4106]","0x{material}","NULL","""#,
        ));
    }
    tshark.args(["-T", "fields", "-E", "separator=|", "-E", "occurrence=f"]);
    for field in ["frame.protocols", "infiniband.bth.destqp", "infiniband.mad.attributeid", "_ws.malformed"] {
        tshark.args(["-e", field]);
    }
    let ended = Process::start(&mut tshark, "").end_within(LIMIT).succeeded();
    let number = |text: &str| {
        u32::from_str_radix(text.strip_prefix("0x").unwrap_or_else(|| panic!("{text:?}")), 16).unwrap()
    };
    let packet = |line: &str| {
        let fields: Vec<_> = line.split('|').collect();
        let [protocols, qpn, attribute, malformed] = fields[..] else { panic!("{line}") };
        assert!(protocols.contains(":esp:") && protocols.contains("infiniband"), "{line}");
        assert!(malformed.is_empty() && !protocols.contains("malformed"), "{line}");
        Packet { qpn: number(qpn), attribute: (!attribute.is_empty()).then(|| number(attribute)) }
    };
    ended.out.lines().map(packet).collect()
}

fn has_pattern(bytes: &[u8]) -> bool {
    bytes.windows(PATTERN.len()).any(|window| window == PATTERN)
}

#[test]
fn tshark_opens_every_packet_of_a_sealed_connection_by_librdmacm_with_the_keys_and_none_without() {
    let tools = [Need::Tool("ethtool"), Need::Tool("tcpdump"), Need::Tool("tshark"), Need::Tool("rping")];
    let needs = [NETWORK.as_slice(), &tools].concat();
    if !gate::provides(&needs, "that connections by librdmacm are sealed on the wire") {
        return;
    }
    let (network, site, keys) = (Network::new(1500).without_offloads(), Site::new(), Recorded::default());
    for end in End::BOTH {
        start_agent(&network, &site, end, &keys);
    }
    let sealed = capture(&network, &site, &["--seal"]);
    assert!(!has_pattern(&sealed), "rping's data is to be seen");
    let files = TempDir::new().unwrap();
    let file = files.path().join("pcap");
    fs::write(&file, at_nat_traversal_port(sealed)).unwrap();
    let packets = dissect(&file, &keys);
    let said: HashSet<u32> = packets.iter().filter_map(|packet| packet.attribute).collect();
    for attribute in [REQ, REP, RTU, DREQ] {
        assert!(said.contains(&attribute), "no management datagram {attribute:#06x}: {said:x?}");
    }
    let management = packets.iter().filter(|packet| packet.qpn == 1);
    assert!(management.clone().all(|packet| packet.attribute.is_some()));
    assert!(packets.len() > management.count() + 40, "data, too: {}", packets.len());
    // Without sealing its data is there to be seen.
    assert!(has_pattern(&capture(&network, &site, &[])));
}
