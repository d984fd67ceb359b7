//! What tshark, an implementation of ESP and RoCEv2 that shares nothing with this one, sees in recorded datagrams.

use crate::world::Seen;
use rocev2_device::esp::{NAT_TRAVERSAL_PORT, Spi};
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};

/// What tshark says of one datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dissected {
    /// The BTH's opcode and destination queue pair.
    pub(crate) opcode: u8,
    pub(crate) qpn: u32,
}

/// Whether tshark is here. Where it isn't, CI fails, and everybody else is told what wasn't proved.
pub(crate) fn have_tshark() -> bool {
    let found = Command::new("tshark")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "tshark isn't there: CI must run this test; install tshark"
        );
        let message =
            b"\nSKIPPED: no tshark. NOT PROVED: that another implementation opens what the device seals.\n";
        // Not eprintln!: the test harness would swallow it.
        std::io::stderr().write_all(message).unwrap();
    }
    found
}

/// Decrypts and dissects recorded datagrams; `keys` are the SAs' key material.
pub(crate) fn dissect<'a>(
    recorded: &[Seen],
    keys: impl Iterator<Item = (&'a Spi, [u8; 36])>,
) -> Vec<Option<Dissected>> {
    let file = std::env::temp_dir().join(format!("rocev2-device-{}.pcap", std::process::id()));
    fs::write(&file, capture(recorded)).unwrap();
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&file).args(["-o", "esp.enable_encryption_decode:TRUE"]);
    for (spi, material) in keys {
        let material: String = material.iter().map(|byte| format!("{byte:02x}")).collect();
        tshark.arg("-o").arg(format!(
            r#"uat:esp_sa:"IPv4","*","*","{:#010x}","AES-GCM with 16 octet ICV [RFC4106]","0x{material}","NULL","""#,
            spi.number()
        ));
    }
    tshark.args(["-d", &format!("udp.port=={NAT_TRAVERSAL_PORT},udpencap")]);
    tshark.args([
        "-T",
        "fields",
        "-e",
        "infiniband.bth.opcode",
        "-e",
        "infiniband.bth.destqp",
        "-e",
        "_ws.malformed",
    ]);
    let output = tshark.stderr(Stdio::null()).output().unwrap();
    fs::remove_file(&file).unwrap();
    assert!(output.status.success(), "tshark failed");
    let number = |text: &str| {
        let hex = text.strip_prefix("0x").map(|hex| u32::from_str_radix(hex, 16).ok());
        hex.unwrap_or_else(|| text.parse().ok())
    };
    let line = |line: &str| match line.split('\t').collect::<Vec<_>>()[..] {
        [opcode, qpn, ""] => Some(Dissected { opcode: number(opcode)?.try_into().ok()?, qpn: number(qpn)? }),
        _ => None,
    };
    String::from_utf8(output.stdout).unwrap().lines().map(line).collect()
}

/// A pcap file of IPv4 packets, whose outer UDP ports are those by which tshark knows ESP: 4791 would be plain RoCEv2.
fn capture(recorded: &[Seen]) -> Vec<u8> {
    const RAW_IP: u32 = 101;
    let mut file: Vec<u8> = [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65_535, RAW_IP]
        .iter()
        .flat_map(|word| if *word == 0x0002_0004 { [2, 0, 4, 0] } else { word.to_le_bytes() })
        .collect();
    for Seen { from, to, bytes } in recorded {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (from.ip(), to.ip()) else { panic!("IPv4 only") };
        let udp = u16::try_from(8 + bytes.len()).unwrap();
        let len = u32::from(udp) + 20;
        file.extend([0, 0, len, len].iter().flat_map(|word: &u32| word.to_le_bytes()));
        let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
        file.extend([0x45, 0, high, low, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        file.extend(from.octets().into_iter().chain(to.octets()));
        let ports = [NAT_TRAVERSAL_PORT; 2];
        file.extend([ports[0], ports[1], udp, 0].iter().flat_map(|half| half.to_be_bytes()));
        file.extend_from_slice(bytes);
    }
    file
}
