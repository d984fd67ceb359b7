//! Sessions over a network that loses packets.

use crate::gate::{self, NETWORK, Need};
use crate::network::{End, Network};
use crate::process::{PATIENCE, ends_of};
use crate::server::{LINES, Server};
use crate::sessions;
use std::fmt::Write;
use std::time::Duration;

/// How often the large lines are repeated, each time with other data.
const ROUNDS: u64 = 6;

/// Bytes of a large message or write. Twelve of them in each direction are at least 2,600 packets of the
/// largest path MTU.
const LARGE: usize = 900_000;

/// How long the large transfers may take.
const LIMIT: Duration = Duration::from_secs(400);

/// Text in which no piece is like another, so that a lost, repeated or misplaced packet shows.
fn text(round: u64, len: usize) -> String {
    let mut state = round + 1;
    let mut next = || {
        // Knuth's MMIX generator; its upper bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b"0123456789abcdefghijklmnopqrstuv"[(state >> 59) as usize])
    };
    (0..len).map(|_| next()).collect()
}

/// Large messages, writes and reads, and what they come to.
fn large_lines() -> (String, String) {
    let (mut lines, mut results) = (String::new(), String::new());
    for round in 0..ROUNDS {
        let (message, data) = (text(2 * round, LARGE), text(2 * round + 1, LARGE));
        writeln!(lines, "send {message}\nwrite {data}\nread\nadd 1").unwrap();
        writeln!(results, "{message}\n{LARGE} bytes written\n{data}\n{round} + 1 = {}", round + 1).unwrap();
    }
    (lines, results)
}

#[track_caller]
fn check_lossy(mtu: u32, path_mtu: u32) {
    let needs = [NETWORK.as_slice(), &[Need::Tool("nft"), Need::Tool("ethtool")]].concat();
    if !gate::provides(&needs, &format!("sessions over a network that loses 1 % of its packets, MTU {mtu}")) {
        return;
    }
    // With offloads a firewall would see, and drop, dozens of packets as one.
    let network = Network::new(mtu).without_offloads().with_loss();
    let server = Server::start(&network);
    let (lines, results) = large_lines();
    for host in [End::Server.ipv4(), End::Server.ipv6()] {
        let before = End::BOTH.map(|end| network.counted(end));
        for _ in 0..3 {
            sessions::check(server.client(host, LINES).end_within(PATIENCE), path_mtu);
        }
        let clients = [(); 3].map(|()| server.client(host, LINES));
        for client in clients {
            sessions::check(client.end_within(PATIENCE), path_mtu);
        }
        let ended = server.client(host, &lines).end_within(LIMIT).succeeded();
        assert!(ended.out == results, "not what was sent: {}", ends_of(&ended.out));
        for (end, before) in End::BOTH.into_iter().zip(before) {
            let now = network.counted(end);
            let (arrived, dropped) = (now.arrived - before.arrived, now.dropped - before.dropped);
            // 1 % of them is 26: that none of them was dropped has a probability of 1e-11.
            assert!(arrived > 2_600, "{end:?}: only {arrived} packets came to {host}");
            assert!(dropped > 0, "{end:?}: none of {arrived} packets to {host} was dropped");
            println!("{host}, {end:?}: {dropped} of {arrived} packets dropped");
        }
    }
}

#[test]
fn sessions_survive_the_loss_of_1_percent_of_packets_at_mtu_1500() {
    check_lossy(1500, 1024);
}

#[test]
fn sessions_survive_the_loss_of_1_percent_of_packets_at_mtu_9000() {
    check_lossy(9000, 4096);
}
