//! What tshark, another implementation, reads in the packets of an extended reliable connection. It knows their
//! opcodes, and no XRCETH; what stands behind that is a reliable connection's.

use super::workload::{Flow, Kind, Op, Receives, run};
use super::world::{Options, World};
use rocev2::wire::Packet;
use rocev2::work::QueuePairType;
use rocev2::{Mtu, UDP_PORT, icrc};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

/// What both are asked for, in this order. tshark names addresses and keys of an AtomicETH as those of a RETH.
const FIELDS: [&str; 11] = [
    "infiniband.bth.opcode",
    "infiniband.bth.destqp",
    "infiniband.bth.psn",
    "infiniband.reth.va",
    "infiniband.reth.r_key",
    "infiniband.reth.dmalen",
    "infiniband.atomiceth.swapdt",
    "infiniband.aeth.msn",
    "infiniband.atomicacketh.origremdt",
    "infiniband.immdt",
    "infiniband.ieth",
];

/// From here on they are bytes to tshark.
const BYTES: usize = FIELDS.len() - 2;

/// Whether tshark is here. Where it isn't, CI fails, and everybody else is told what wasn't proved.
fn have_tshark() -> bool {
    let version =
        Command::new("tshark").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = version.is_ok_and(|status| status.success());
    assert!(found || std::env::var("CI").as_deref() != Ok("true"), "tshark isn't there: install tshark");
    if !found {
        eprintln!(
            "SKIPPED: no tshark. NOT PROVED: that another implementation reads XRC packets as they are meant."
        );
    }
    found
}

/// A pcap file of packets, from BTH through pad, over IPv4 and UDP.
fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
    const RAW_IP: u32 = 101;
    let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0]);
    file.extend([0, 0, 65_535, RAW_IP].into_iter().flat_map(u32::to_le_bytes));
    for packet in packets {
        let udp = u16::try_from(8 + packet.len() + icrc::LEN).expect("short packets");
        let len = 20 + udp;
        file.extend([0, 0, len.into(), len.into()].into_iter().flat_map(u32::to_le_bytes));
        let [high, low] = len.to_be_bytes();
        file.extend([0x45, 0, high, low, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        file.extend([0xc123, UDP_PORT, udp, 0].into_iter().flat_map(u16::to_be_bytes));
        file.extend(packet);
        file.extend([0; icrc::LEN]);
    }
    file
}

/// An opcode's bits that say what is done.
const OPERATION: u8 = 0x1f;

/// The packet as a reliable connection would have sent it: without XRCETH.
fn as_reliable_connection(bytes: &[u8], packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[0] &= OPERATION;
    if packet.headers.xrc_srq.is_some() {
        bytes.drain(12..16);
    }
    bytes
}

/// tshark's names of a transport's opcodes.
fn names(transport: &str) -> BTreeMap<u8, String> {
    let output =
        Command::new("tshark").args(["-G", "values"]).stderr(Stdio::null()).output().expect("tshark");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let entry = |line: &str| match line.split('\t').collect::<Vec<_>>()[..] {
        ["V", "infiniband.bth.opcode", code, name] => {
            Some((code.parse().ok()?, name.strip_prefix(transport)?.to_owned()))
        }
        _ => None,
    };
    text.lines().filter_map(entry).collect()
}

/// The fields of a packet as this crate reads them; those that aren't there are none.
fn ours(packet: &Packet<'_>) -> [Option<u64>; FIELDS.len()] {
    let headers = &packet.headers;
    let (reth, atomic) = (headers.reth, headers.atomic);
    [
        Some((headers.bth.opcode.to_byte() & OPERATION).into()),
        Some(headers.bth.dest_qp.get().into()),
        Some(headers.bth.psn.get().into()),
        reth.map(|reth| reth.va).or(atomic.map(|atomic| atomic.va)),
        reth.map(|reth| reth.rkey.into()).or(atomic.map(|atomic| atomic.rkey.into())),
        reth.map(|reth| reth.len.into()),
        atomic.map(|atomic| atomic.swap_or_add),
        headers.aeth.map(|aeth| aeth.msn.into()),
        headers.atomic_ack,
        headers.immediate.map(u64::from),
        headers.invalidate.map(u64::from),
    ]
}

/// A number as tshark writes it, sometimes twice; some are bytes to it.
fn number(text: &str, is_bytes: bool) -> Option<u64> {
    let text = text.split(',').next()?;
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if is_bytes => u64::from_str_radix(text, 16).ok(),
        None => text.parse().ok(),
    }
}

fn tshark(packets: &[Vec<u8>]) -> Vec<[Option<u64>; FIELDS.len()]> {
    let file = std::env::temp_dir().join(format!("rocev2-xrc-{}.pcap", std::process::id()));
    fs::write(&file, capture(packets)).expect("a file");
    let mut tshark = Command::new("tshark");
    // It guesses what payloads might be, and finds them malformed then.
    tshark.args(["--disable-protocol", "rpcordma"]).arg("-r").arg(&file);
    tshark.args(["-T", "fields", "-e", "_ws.malformed"]);
    FIELDS.iter().for_each(|field| {
        tshark.args(["-e", field]);
    });
    let output = tshark.stderr(Stdio::null()).output().expect("tshark");
    fs::remove_file(&file).expect("the file");
    assert!(output.status.success(), "tshark failed");
    let text = String::from_utf8(output.stdout).expect("text");
    let fields = |line: &str| {
        let mut fields = line.split('\t');
        assert_eq!(fields.next(), Some(""), "malformed: {line}");
        core::array::from_fn(|at| fields.next().and_then(|text| number(text, at >= BYTES)))
    };
    text.lines().map(fields).collect()
}

#[test]
fn tshark_reads_every_packet_of_an_extended_reliable_connection_as_it_is_meant() {
    if !have_tshark() {
        return;
    }
    let mut world = World::quiet(Duration::from_micros(10));
    let pair =
        world.connect(&Options { of: QueuePairType::XrcInitiator, mtu: Mtu::B256, ..Options::default() });
    let packets = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&packets);
    world.attacker = Some(Box::new(move |packet| seen.borrow_mut().push(packet.clone())));
    let ops: Vec<Op> = Kind::ALL
        .into_iter()
        .flat_map(|kind| [8, 256, 1000].map(|len| Op { kind, len, signaled: true }))
        .collect();
    let flow = Flow::new(&mut world, 0, pair, &ops);
    run(&mut world, vec![flow], Receives::Early);
    let packets = packets.borrow();
    let parsed: Vec<_> =
        packets.iter().map(|bytes| Packet::parse(bytes).expect("what is sent can be read")).collect();
    let plain: Vec<_> =
        packets.iter().zip(&parsed).map(|(bytes, packet)| as_reliable_connection(bytes, packet)).collect();
    let read = tshark(&plain);
    assert_eq!(read.len(), packets.len());
    for (packet, theirs) in parsed.iter().zip(read) {
        assert_eq!(ours(packet), theirs, "{:?}", packet.headers);
    }
    let opcodes: BTreeSet<u8> = parsed.iter().map(|packet| packet.headers.bth.opcode.to_byte()).collect();
    assert_eq!(opcodes.len(), 23, "every operation is among them: {opcodes:x?}");
    let [xrc, rc] = ["Extended Reliable Connection (XRC) - ", "Reliable Connection (RC) - "].map(names);
    for opcode in opcodes {
        let name = xrc.get(&opcode);
        assert!(name.is_some() && name == rc.get(&(opcode & OPERATION)), "{opcode:#x}: {name:?}");
    }
}
