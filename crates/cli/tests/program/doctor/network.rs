//! Interfaces' offloads and MTUs and the path to a peer, in networks that were made with a fault.

use super::{assert_found, findings};
use crate::harness::{Ended, PATIENCE, Program, SECURE_RDMA, State, text};
use std::process::{Command, Stdio};

/// What `doctor` finds in a network of its own that was set up so; `None` where this user can't make one.
fn in_network(setup: &str, arguments: &[&str]) -> Option<Ended> {
    const WAYS: [&[&str]; 2] = [&["--net", "--mount"], &["--user", "--map-root-user", "--net", "--mount"]];
    // Namespaces of networks have names in /run/netns, and their interfaces are in a /sys of their own.
    let begin = "mount -t tmpfs none /run; mount -t sysfs none /sys; ip link set lo up";
    let may = |way: &&&[&str]| {
        let tools = "command -v ethtool; command -v nft; ip netns add other";
        let mut command = Command::new("unshare");
        command.args(**way).args(["sh", "-ec", &format!("{begin}; {tools}")]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let Some(way) = WAYS.iter().find(may) else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "no network can be made: unshare, ip, ethtool, nft"
        );
        eprintln!("NOT PROVED: what doctor finds in networks with faults: this user can't make one");
        return None;
    };
    let state = State::new();
    let mut command = Command::new("unshare");
    command.args(*way).args([
        "sh",
        "-ec",
        &format!("{begin}\n{{\n{setup}\n}} >&2\nexec \"$@\""),
        "sh",
        SECURE_RDMA,
    ]);
    command.args(["doctor", "--json", "--certs", text(&state.path())]).args(arguments);
    // Who doesn't answer is waited for, several times.
    Some(Program::spawn(&mut command).ends_within(PATIENCE * 4))
}

/// Two hosts, of which this is one.
const CABLE: &str = "
    ip netns add peer
    ip link add here type veth peer name there netns peer
    ip link set here up
    ip -n peer link set there up
    ip address add 10.77.1.1/24 dev here
    ip -n peer address add 10.77.1.2/24 dev there
    ethtool -K here tx-udp-segmentation on gro on
";

#[test]
fn offloads_that_are_switched_off_are_found() {
    let Some(good) = in_network(CABLE, &[]) else { return };
    assert_found(&good, "segmentation offload", "ok", "here: tx-udp-segmentation on");
    assert_found(&good, "receive offload", "ok", "here: rx-gro on");
    let setup = format!("{CABLE}\nethtool -K here tx-udp-segmentation off gro off");
    let bad = in_network(&setup, &[]).unwrap();
    assert_found(&bad, "segmentation offload", "costs", "ethtool -K here tx-udp-segmentation on");
    assert_found(&bad, "receive offload", "costs", "ethtool -K here gro on");
    // It was asked for, and needs something else.
    let ended = in_network(&format!("{CABLE}\nethtool -K here tx off"), &[]).unwrap();
    assert_found(&ended, "segmentation offload", "costs", "ethtool -K here tx on");
    // Interfaces without an address carry nothing.
    assert!(findings(&bad, "receive offload").len() == 2, "lo and here: {bad:?}");
}

#[test]
fn an_interface_that_takes_short_packets_only_is_found() {
    let Some(ended) = in_network(&format!("{CABLE}\nip link set here mtu 1280"), &[]) else { return };
    assert_found(&ended, "MTU", "costs", "packets carry 1024 bytes");
    assert_found(&ended, "MTU", "costs", "ip link set dev here mtu 9000");
}

/// A router whose other side has a smaller MTU, and says so.
#[test]
fn a_path_that_is_narrower_than_the_interface_is_found() {
    let setup = "
        ip netns add router
        ip netns add peer
        ip link add here mtu 9000 type veth peer name near netns router
        ip -n router link add far mtu 1280 type veth peer name there netns peer
        ip -n router link set near mtu 9000 up
        ip link set here up
        ip -n router link set far up
        ip -n peer link set there mtu 1280 up
        join() {
            ip address add $1 dev here nodad
            ip -n router address add $2 dev near nodad
            ip -n router address add $3 dev far nodad
            ip -n peer address add $4 dev there nodad
            ip route add default via ${2%/*}
            ip -n peer route add default via ${3%/*}
        }
        join 10.77.1.2/24 10.77.1.1/24 10.77.2.1/24 10.77.2.2/24
        join fd77:1::2/64 fd77:1::1/64 fd77:2::1/64 fd77:2::2/64
        ip netns exec router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    ";
    let peers = ["--peer", "10.77.2.2", "--peer", "fd77:2::2", "--peer", "10.77.1.1"];
    let Some(ended) = in_network(setup, &peers) else { return };
    for peer in ["10.77.2.2", "fd77:2::2"] {
        let words = format!("{peer}: packets with 4096 bytes don't arrive, those with 1024 do");
        assert_found(&ended, "path MTU", "costs", &words);
    }
    for finding in &findings(&ended, "path MTU")[..2] {
        assert_eq!(finding["remedy"], "ip link set dev here mtu 1280");
    }
    assert_found(&ended, "path MTU", "ok", "10.77.1.1: packets with 4096 bytes arrive");
}

/// Nobody says that packets are too large; or nobody says anything.
#[test]
fn packets_that_are_dropped_in_silence_are_found() {
    let firewall = |size: &str| {
        format!(
            "nft -f - <<'END'
            table inet fault {{
                chain input {{
                    type filter hook input priority 0;
                    meta l4proto udp {size} drop
                }}
            }}\nEND"
        )
    };
    let peer = ["--peer", "127.77.1.2"];
    let Some(ended) = in_network(&firewall("meta length > 2000"), &peer) else { return };
    assert_found(&ended, "path MTU", "costs", "packets with 4096 bytes don't arrive, those with 1024 do");
    let ended = in_network(&firewall(""), &peer).unwrap();
    assert_found(&ended, "path MTU", "costs", "127.77.1.2 doesn't answer");
    let ended = in_network("true", &["--peer", "192.0.2.1"]).unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_found(&ended, "path MTU", "broken", "ip route get 192.0.2.1");
}
