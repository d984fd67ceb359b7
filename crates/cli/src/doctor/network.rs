//! Network interfaces, and the port of RoCEv2.

use super::finding::Finding;
use super::system::System;
use rocev2::Mtu;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};

pub(super) fn mtu(system: &System) -> Vec<Finding> {
    const CHECK: &str = "MTU";
    let Ok(entries) = std::fs::read_dir(system.path("sys/class/net")) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into()).collect();
    names.sort();
    let mut found = Vec::new();
    for name in names {
        let is_down =
            system.read(&format!("sys/class/net/{name}/operstate")).is_some_and(|state| state == "down");
        let Some(mtu) = system.number(&format!("sys/class/net/{name}/mtu")).filter(|_| !is_down) else {
            continue;
        };
        found.push(match usize::try_from(mtu).ok().and_then(Mtu::for_interface) {
            Some(Mtu::B4096) => Finding::ok(CHECK, format!("{name}: {mtu}")),
            Some(payload) => Finding::costs(
                CHECK,
                format!("{name}: {mtu}"),
                format!(
                    "packets carry {payload} bytes, where 4096 are possible: more packets for the same data"
                ),
                format!("ip link set dev {name} mtu 9000 (and on every host and switch between)"),
            ),
            None => Finding::broken(
                CHECK,
                format!("{name}: {mtu}"),
                "no RDMA packet fits",
                format!("ip link set dev {name} mtu 1500"),
            ),
        });
    }
    found
}

/// Network cards and Soft-RoCE send to this port alone.
pub(super) fn port() -> Finding {
    const CHECK: &str = "port 4791";
    match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, rdma_verbs::UDP_PORT)) {
        Ok(_) => Finding::ok(CHECK, "free"),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Finding::costs(
            CHECK,
            "in use",
            "another embedded device here takes another port, where network cards and Soft-RoCE don't find it",
            "ss -ulpn 'sport = 4791' shows who has it",
        ),
        Err(error) => Finding::costs(
            CHECK,
            error.to_string(),
            "the embedded device can't have it, where network cards and Soft-RoCE would find it",
            "see what the firewall or the container's policy says",
        ),
    }
}
