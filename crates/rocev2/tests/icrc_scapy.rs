//! The ICRC against scapy, an implementation that shares nothing with this one (Debian: python3-scapy).
//!
//! Over IPv4 scapy computes the ICRC itself. It can't over IPv6: there it builds the IP and UDP headers,
//! masked as IBA Annex A17.3.3 lists, and Python's zlib computes the CRC.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use rocev2::UDP_PORT;
use rocev2::icrc::PseudoHeader;
use rocev2::wire::{Headers, Opcode};

const PYTHON: &str = "/usr/bin/python3";

/// Reads lines "src dst source-port id hex-packet", answers each with the ICRC as it stands on the wire, in hex.
const SCRIPT: &str = r#"
import logging, sys, zlib
logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw, raw
from scapy.contrib.roce import BTH

for line in sys.stdin:
    src, dst, sport, ident, packet = line.split()
    sport, ident, packet = int(sport), int(ident), bytes.fromhex(packet)
    if ":" in src:
        udp_len = 8 + len(packet) + 4
        bth = packet[:4] + b"\xff" + packet[5:]
        masked = (IPv6(src=src, dst=dst, tc=0xff, fl=0xfffff, hlim=0xff, nh=17, plen=udp_len)
                  / UDP(sport=sport, dport=4791, len=udp_len, chksum=0xffff) / Raw(bth))
        icrc = zlib.crc32(b"\xff" * 8 + raw(masked)).to_bytes(4, "little")
    else:
        bth = BTH(packet + bytes(4))
        bth.icrc = None
        ip = IP(src=src, dst=dst, id=ident, flags="DF", tos=ident & 0xff, ttl=1 + ident % 255)
        built = raw(ip / UDP(sport=sport, dport=4791) / bth)
        assert built[28:-4] == packet, "scapy changed the packet"
        icrc = built[-4:]
    print(icrc.hex())
"#;

/// Whether scapy is here. Where it isn't, CI fails, and everybody else is told what wasn't proved.
fn have_scapy() -> bool {
    let found = Command::new(PYTHON)
        .args(["-c", "import scapy.contrib.roce"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{PYTHON} has no scapy: CI must run this test; install python3-scapy"
        );
        // Not eprintln!: the test harness would swallow it.
        let message = format!(
            "\nSKIPPED: {PYTHON} has no scapy. NOT PROVED: that the ICRC agrees with another implementation.\n"
        );
        std::io::stderr().write_all(message.as_bytes()).expect("stderr takes a message");
    }
    found
}

#[test]
fn scapy_computes_the_same_icrc_for_every_opcode_over_ipv4_and_ipv6() {
    if !have_scapy() {
        return;
    }
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut input = String::new();
    let mut expected = Vec::new();
    for byte in 0..=u8::MAX {
        let opcode = Opcode::from_byte(byte);
        if matches!(opcode, Opcode::Unknown(_)) {
            continue;
        }
        for payload in [0, 4, 20, 256, 1024, 4096] {
            let mut packet =
                vec![0; Headers::len_for(opcode) + if opcode.carries_payload() { payload } else { 0 }];
            rng.fill_bytes(&mut packet);
            packet[0] = byte;
            let [v4, v6] = addresses(&mut rng);
            let [id, _] = words(&mut rng);
            for (src, dst) in [v4, v6] {
                let path = PseudoHeader::new(src, dst).expect("both of one family");
                let hex: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
                input += &format!("{} {} {} {id} {hex}\n", src.ip(), dst.ip(), src.port());
                expected.push(format!("{:08x}", path.icrc(id, &packet).swap_bytes()));
            }
        }
    }

    let answers = ask_scapy(&input);
    assert_eq!(answers.len(), expected.len());
    for ((line, theirs), ours) in input.lines().zip(&answers).zip(&expected) {
        assert_eq!(theirs, ours, "{line}");
    }
    assert!(expected.len() > 400);
}

fn words(rng: &mut TestRng) -> [u16; 2] {
    let [a, b, c, d] = rng.next_u32().to_be_bytes();
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

/// A random source and destination of each family.
fn addresses(rng: &mut TestRng) -> [(SocketAddr, SocketAddr); 2] {
    let mut v4 = [[0; 4]; 2];
    let mut v6 = [[0; 16]; 2];
    for (v4, v6) in v4.iter_mut().zip(&mut v6) {
        rng.fill_bytes(v4);
        rng.fill_bytes(v6);
        // Unicast addresses: scapy looks names and groups up.
        v4[0] = 10;
        v6[0] = 0x20;
    }
    let [port, _] = words(rng);
    [
        (SocketAddr::from((v4[0], port)), SocketAddr::from((v4[1], UDP_PORT))),
        (SocketAddr::from((v6[0], port)), SocketAddr::from((v6[1], UDP_PORT))),
    ]
}

fn ask_scapy(input: &str) -> Vec<String> {
    let mut python = Command::new(PYTHON)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut stdin = python.stdin.take().expect("stdin is a pipe");
    let output = std::thread::scope(|scope| {
        // Python answers while it reads: a full pipe must not stop both.
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        python.wait_with_output().expect("python ends")
    });
    assert!(output.status.success(), "scapy's script failed: {}", output.status);
    String::from_utf8(output.stdout).expect("hex").lines().map(str::to_owned).collect()
}
