//! Sessions between two machines.

use crate::gate::{self, NETWORK};
use crate::network::{End, Network};
use crate::process::{Ended, PATIENCE};
use crate::server::{LINES, Server};

const CLIENTS: usize = 3;

/// What [`LINES`] come to, and that the path MTU was the one that the interface has room for.
#[track_caller]
pub(crate) fn check(ended: Ended, path_mtu: u32) {
    let ended = ended.succeeded();
    assert_eq!(ended.out, "hello\n9 bytes written\nsome data\n0 + 5 = 5\n", "{}", ended.err);
    assert!(ended.err.contains(&format!("path MTU {path_mtu}\n")), "{}", ended.err);
}

/// Clients one after another, then at once, over IPv4 and over IPv6.
#[track_caller]
fn check_network(network: &Network, path_mtu: u32) {
    let server = Server::start(network);
    for host in [End::Server.ipv4(), End::Server.ipv6()] {
        for _ in 0..CLIENTS {
            check(server.client(host, LINES).end_within(PATIENCE), path_mtu);
        }
        let clients = [(); CLIENTS].map(|()| server.client(host, LINES));
        for client in clients {
            check(client.end_within(PATIENCE), path_mtu);
        }
    }
    let everyone = 4 * CLIENTS;
    server.process.wait_until("departure of all", PATIENCE, |server| {
        server.out().matches(": left").count() == everyone
    });
    // What was seen there is what was seen here.
    let arrivals = server.process.out();
    let arrivals: Vec<_> = arrivals.lines().filter(|line| line.contains(": arrived from ")).collect();
    assert_eq!(arrivals.len(), everyone, "{arrivals:#?}");
    for (version, address) in [("IPv4", End::Client.ipv4()), ("IPv6", End::Client.ipv6())] {
        let from = |line: &&&str| line.contains(address) && line.contains(&format!("path MTU {path_mtu};"));
        assert_eq!(arrivals.iter().filter(from).count(), everyone / 2, "{version}: {arrivals:#?}");
    }
}

#[test]
fn sessions_between_machines_with_mtu_1500_work_with_path_mtu_1024_over_ipv4_and_ipv6() {
    if gate::provides(&NETWORK, "sessions between two machines, MTU 1500") {
        check_network(&Network::new(1500), 1024);
    }
}

#[test]
fn sessions_between_machines_with_mtu_9000_work_with_path_mtu_4096_over_ipv4_and_ipv6() {
    if gate::provides(&NETWORK, "sessions between two machines, MTU 9000") {
        check_network(&Network::new(9000), 4096);
    }
}
