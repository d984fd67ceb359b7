//! ESP against scapy, an implementation that shares nothing with this one (Debian: python3-scapy): it opens what is
//! sealed here, and what it seals is opened here, over IPv4 and IPv6.

use rocev2_esp::replay::ReplayWindow;
use rocev2_esp::{Algorithm, Inbound, Inner, Key, Outbound, Spi, layout};
use std::io::Write as _;
use std::process::{Command, Stdio};

const PYTHON: &str = "/usr/bin/python3";

/// Reads lines "open|seal material spi number hex". `open` answers with the inner UDP datagram of an ESP datagram, in
/// hex, `seal` with the ESP datagram of a RoCEv2 packet that comes from UDP port 0xc123.
const SCRIPT: &str = r#"
import logging, sys
logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw, raw

def association(material, spi, number):
    return SecurityAssociation(ESP, spi=spi, seq_num=number & 0xffffffff, crypt_algo="AES-GCM",
                               crypt_key=material, esn_en=True, esn=number >> 32)

for line in sys.stdin:
    what, material, spi, number, data = line.split()
    sa = association(bytes.fromhex(material), int(spi), int(number))
    data, number = bytes.fromhex(data), int(number)
    if what == "open":
        plain = sa.decrypt(IP(src="192.0.2.1", dst="192.0.2.2", proto=50) / ESP(data),
                           esn_en=True, esn=number >> 32)
        print(raw(plain[UDP]).hex())
    else:
        packet = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=0xc123, dport=4791) / Raw(data)
        sealed = sa.encrypt(packet, seq_num=number & 0xffffffff, iv=number.to_bytes(8, "big"),
                            esn_en=True, esn=number >> 32)
        print(raw(sealed[ESP]).hex())
"#;

/// Whether scapy is here. Where it isn't, CI fails, and everybody else is told what wasn't proved.
fn have_scapy() -> bool {
    let found = Command::new(PYTHON)
        .args(["-c", "from scapy.layers.ipsec import SecurityAssociation; import cryptography"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{PYTHON} has no scapy with ESP: CI must run this test; install python3-scapy and python3-cryptography"
        );
        // Not eprintln!: the test harness would swallow it.
        let message = format!(
            "\nSKIPPED: {PYTHON} has no scapy with ESP. NOT PROVED: that ESP agrees with another implementation.\n"
        );
        std::io::stderr().write_all(message.as_bytes()).expect("stderr takes a message");
    }
    found
}

fn scapy(input: &str) -> Vec<Vec<u8>> {
    let mut child = Command::new(PYTHON)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("scapy reads");
    let output = child.wait_with_output().expect("scapy ends");
    assert!(output.status.success(), "scapy failed");
    String::from_utf8(output.stdout).expect("hex").lines().map(bytes).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

/// Every algorithm, numbers on both sides of 2^32, and packets from a bare ACK to the longest WRITE.
fn cases() -> impl Iterator<Item = (Algorithm, Vec<u8>, Spi, u64, Vec<u8>)> {
    let algorithms = [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm];
    let numbers = [1, 77, u64::from(u32::MAX), 1 << 32, (9 << 32) + 5];
    algorithms.into_iter().flat_map(move |algorithm| {
        numbers.into_iter().flat_map(move |number| {
            [20usize, 44, 1056, 4132].into_iter().map(move |len| {
                let material = (0..algorithm.material_len()).map(|at| at.to_le_bytes()[0] ^ 0x3c).collect();
                let packet = (0..len).map(|at| at.to_le_bytes()[0] ^ number.to_le_bytes()[0]).collect();
                (algorithm, material, Spi::for_shared_port(0x0a0b_0c0d, 3), number, packet)
            })
        })
    })
}

#[test]
fn scapy_opens_what_is_sealed_here() {
    if !have_scapy() {
        return;
    }
    let mut input = String::new();
    let mut expected = Vec::new();
    for (padding, (algorithm, material, spi, number, packet)) in (0..).zip(cases()) {
        let key = Key::new(algorithm, &material).expect("the right length");
        let inner = Inner { source_port: 0xc123, checksum: None };
        let out = Outbound::with_numbers(spi, key, inner, number, u64::MAX);
        let mut datagram = vec![0; layout::sealed_len(packet.len()) + padding % 64 * 4];
        datagram[layout::HEADROOM..][..packet.len()].copy_from_slice(&packet);
        assert_eq!(out.sealer().seal(&mut datagram, packet.len()), Ok(number));
        input += &format!("open {} {} {number} {}\n", hex(&material), spi.number(), hex(&datagram));
        let len = u16::try_from(8 + packet.len()).expect("short").to_be_bytes();
        expected.push([&[0xc1, 0x23, 0x12, 0xb7, len[0], len[1], 0, 0][..], &packet].concat());
    }
    assert_eq!(scapy(&input), expected);
}

#[test]
fn what_scapy_seals_is_opened_here() {
    if !have_scapy() {
        return;
    }
    let mut input = String::new();
    for (_, material, spi, number, packet) in cases() {
        input += &format!("seal {} {} {number} {}\n", hex(&material), spi.number(), hex(&packet));
    }
    let sealed = scapy(&input);
    assert_eq!(sealed.len(), cases().count());
    for (mut datagram, (algorithm, material, spi, number, packet)) in sealed.into_iter().zip(cases()) {
        let key = Key::new(algorithm, &material).expect("the right length");
        let mut into = Inbound::with_window(spi, key, ReplayWindow::after(64, number - 1));
        let opened = into.open(&mut datagram).expect("authentic");
        assert_eq!((&*opened.packet, opened.source_port, opened.number), (&packet[..], 0xc123, number));
    }
}
