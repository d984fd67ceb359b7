//! Sessions and demos: the kernel's device alone, and together with the embedded one.

use crate::guest::{End, SECURE_RDMA, SLOW, Server};
use crate::process::{Ended, Process};
use serde_json::Value;

/// What `demo --json` shows when everything went well: `clients` at once, and each did everything.
#[track_caller]
fn check_demo(ended: Ended, device: &str, clients: usize) {
    let ended = ended.succeeded();
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["device"], device);
    assert_eq!(report["ok"], true, "{report:#}");
    assert_eq!(report["sealed"], true);
    let list = report["clients"].as_array().unwrap();
    assert_eq!(list.len(), clients, "{report:#}");
    for client in list {
        for operation in ["send", "write", "read", "fetch_add", "compare_swap"] {
            assert_eq!(client["ops"][operation], "ok", "{client:#}");
        }
        assert_eq!(client["ops"]["foreign_region"], "refused", "{client:#}");
        assert_eq!(client["path_mtu"], 4096, "{client:#}");
    }
}

#[test]
fn ten_clients_and_their_server_meet_on_soft_roce() {
    let mut command = End::Near.command(SECURE_RDMA);
    command.args(["demo", "--clients", "10", "--device", "rxe0", "--json"]);
    check_demo(Process::start(&mut command, "").end_within(SLOW), "rxe0", 10);
}

/// A server at one end and ten clients at the other, over IPv4 and IPv6.
#[track_caller]
fn check_mixed(server_end: End, client_end: End) {
    let server = Server::start(server_end, server_end.device());
    for host in [server_end.ipv4(), server_end.ipv6()] {
        let mut command = client_end.command(SECURE_RDMA);
        command.args(["demo", "--clients", "10", "--json", "--device", client_end.device()]);
        command.args(["--connect", host, "--server-name", "localhost"]);
        let ended = Process::start(server.trusted(&mut command), "").end_within(SLOW);
        check_demo(ended, client_end.device(), 10);
    }
    // Each client comes once as itself and twice as an attacker, over each version of IP. The server may be late to
    // say so.
    let arrivals = |server: &Process| server.out().matches(": arrived from ").count();
    server.process.wait_until("arrival of all", SLOW, |server| arrivals(server) >= 2 * 3 * 10);
    assert_eq!(arrivals(&server.process), 2 * 3 * 10);
}

#[test]
fn a_server_on_soft_roce_serves_clients_on_the_embedded_device() {
    check_mixed(End::Near, End::Peer);
}

#[test]
fn a_server_on_the_embedded_device_serves_clients_on_soft_roce() {
    check_mixed(End::Peer, End::Near);
}

/// The commands that the system was first described with, on the device that it was first described with.
#[test]
fn auto_finds_soft_roce_and_a_client_on_the_same_host_meets_the_server_at_127_0_0_1() {
    let server = Server::start(End::Near, "auto");
    let line = server.process.says("listening on ");
    assert!(line.contains("device rxe0"), "{line}");
    let lines = "send hello\nwrite some data\nread 9\nadd 5\nswap 5 6\nquit\n";
    for host in ["127.0.0.1", "::1"] {
        let ended = server.client(End::Near, host, "auto", lines).succeeded();
        assert!(ended.out.starts_with("hello\n9 bytes written\nsome data\n0 + 5 = 5\n"), "{}", ended.out);
        assert!(ended.err.contains("device rxe0"), "{}", ended.err);
    }
}

#[test]
fn devices_lists_both_kinds_and_shows_what_ibv_devinfo_shows() {
    let mut command = End::Near.command(SECURE_RDMA);
    let ended = Process::start(command.args(["devices", "--json"]), "").end_within(SLOW).succeeded();
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    let devices = document["devices"].as_array().unwrap();
    let names: Vec<_> = devices.iter().map(|device| device["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["rxe0", "embedded"]);
    let details = devices[0]["details"].as_object().unwrap();
    let info = crate::guest::run("ibv_devinfo", &["-v", "-d", "rxe0"]);
    let mut compared = 0;
    for line in info.lines() {
        let Some((name, value)) = line.trim().split_once(':') else { continue };
        let Some(own) = details.get(name).and_then(Value::as_str) else { continue };
        // `PORT_ACTIVE (4)` is ACTIVE here, `4096 (5)` is 4096; ibv_devinfo adds a unit or an explanation to
        // some numbers.
        let value = value.trim().trim_start_matches("PORT_");
        let (own_first, first) = (own.split(' ').next(), value.split(' ').next());
        let number = |text: Option<&str>| {
            let text = text?.to_lowercase();
            match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).ok(),
                None => text.parse().ok(),
            }
        };
        let equal = own_first == first
            || (number(own_first).is_some() && number(own_first) == number(first))
            || own.replace(':', "") == value.replace(':', "");
        assert!(equal, "{name}: {own} here, {value} there");
        compared += 1;
    }
    assert!(compared >= 40, "only {compared} values could be compared:\n{info}");
    let gids = devices[0]["gids"].as_array().unwrap();
    let addresses: Vec<_> = gids.iter().filter_map(|gid| gid["address"].as_str()).collect();
    assert!(addresses.contains(&End::Near.ipv4()) && addresses.contains(&End::Near.ipv6()), "{addresses:?}");
}
