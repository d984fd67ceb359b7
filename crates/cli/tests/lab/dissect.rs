//! Captured packets as tshark, an implementation that isn't ours, understands them.

use crate::process::Process;
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long tshark may take.
const LIMIT: Duration = Duration::from_secs(240);

/// The InfiniBand specification's opcodes of reliable connections, as far as they are answers: READ
/// responses, acknowledgements.
pub(crate) const ANSWERS: std::ops::RangeInclusive<u8> = 0x0d..=0x12;

/// SEND FIRST, MIDDLE, LAST and ONLY, with and without immediate.
pub(crate) const SENDS: std::ops::RangeInclusive<u8> = 0x00..=0x05;

/// A packet, as tshark understands it.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) source: String,
    pub(crate) opcode: u8,
    pub(crate) qpn: u32,
    pub(crate) psn: u32,
}

fn number(text: &str) -> u32 {
    let hex = text.strip_prefix("0x");
    hex.map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16))
        .unwrap_or_else(|_| panic!("{text:?}"))
}

/// tshark's view of a capture. Both ends may have taken another port than RoCEv2's own.
#[track_caller]
pub(crate) fn dissect(capture: &Path, ports: &HashSet<u16>) -> Vec<Packet> {
    const FIELDS: [&str; 7] = [
        "frame.protocols",
        "ip.src",
        "ipv6.src",
        "infiniband.bth.opcode",
        "infiniband.bth.destqp",
        "infiniband.bth.psn",
        "_ws.malformed",
    ];
    let mut command = Command::new("tshark");
    command.arg("-r").arg(capture).args(["-T", "fields", "-E", "separator=|"]);
    for port in ports {
        command.arg("-d").arg(format!("udp.port=={port},infiniband"));
    }
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let ended = Process::start(&mut command, "").end_within(LIMIT).succeeded();
    let packet = |line: &str| {
        let fields: Vec<_> = line.split('|').collect();
        let [protocols, ipv4, ipv6, opcode, qpn, psn, malformed] = fields[..] else { panic!("{line}") };
        assert!(protocols.contains(":udp:infiniband") && malformed.is_empty(), "{line}");
        assert!(!protocols.contains("malformed"), "{line}");
        let opcode = u8::try_from(number(opcode)).unwrap();
        Packet { source: format!("{ipv4}{ipv6}"), opcode, qpn: number(qpn), psn: number(psn) }
    };
    ended.out.lines().map(packet).collect()
}

/// The hexadecimal number before each of these words.
#[track_caller]
pub(crate) fn figure(line: &str, word: &str, side: &str) -> u32 {
    let (_, rest) = line.split_once(word).unwrap_or_else(|| panic!("{word:?} is not in {line}"));
    let (before, _) = rest.split_once(side).unwrap_or_else(|| panic!("{side:?} is not in {line}"));
    number(before.rsplit(' ').next().unwrap())
}
