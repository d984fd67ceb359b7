//! The demo, and what it proves.

use crate::harness::{Program, SECURE_RDMA, Server, secure_rdma};
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use std::process::Command;

fn demo(arguments: &[&str]) -> Value {
    let mut all = vec!["demo", "--json"];
    all.extend(arguments);
    let ended = secure_rdma(&all).succeeded();
    let document: Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
    assert_eq!(document["ok"], true, "{document}");
    document
}

/// The values of a field that are numbers of 24 bits.
fn numbers(document: &Value, field: &str) -> Vec<u32> {
    let clients = document["clients"].as_array().unwrap();
    let numbers = clients.iter().map(|client| u32::try_from(client[field].as_u64().unwrap()).unwrap());
    numbers.inspect(|number| assert!(*number < 1 << 24, "{field}: {number:#x}")).collect()
}

#[test]
fn ten_clients_at_once_do_everything_and_reach_no_foreign_region() {
    let document = demo(&[]);
    assert_eq!(document["device"], "embedded");
    assert_eq!(document["sealed"], true);
    assert_eq!(document["seal"], "packets");
    assert_eq!(document["counters_sealed"], true, "they are in packets, too");
    assert_eq!(document["tls"]["version"], "TLSv1.3");
    assert!(document["tls"]["suite"].as_str().unwrap().starts_with("TLS13_"), "{document}");
    assert_eq!(document["tls"]["group"], "X25519MLKEM768");
    let clients = document["clients"].as_array().unwrap();
    let ids: Vec<_> = clients.iter().map(|client| client["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=10).collect::<Vec<_>>());
    for client in clients {
        for operation in ["send", "write", "read", "fetch_add", "compare_swap"] {
            assert_eq!(client["ops"][operation], "ok", "{client}");
        }
        assert_eq!(client["ops"]["foreign_region"], "refused", "{client}");
        assert!(client["setup_ms"].as_f64().unwrap() > 0.0, "{client}");
    }
    for field in ["client_psn", "server_psn", "client_qpn", "server_qpn"] {
        let distinct: BTreeSet<_> = numbers(&document, field).into_iter().collect();
        // Two of 10 PSNs are equal once in 370,000 runs.
        assert_eq!(distinct.len(), 10, "{field}: {document}");
    }
}

#[test]
fn the_table_shows_the_same_to_people() {
    let ended = secure_rdma(&["demo", "--clients", "3"]).succeeded();
    let out = ended.out.join("\n");
    for part in [
        "data path: sealed, TLS13_",
        ", by packets; counters (fetch-add, compare-swap) too",
        "TLSv1.3",
        "foreign region",
        "refused",
        "3 clients at once: 3 of them did everything",
    ] {
        assert!(out.contains(part), "{part:?} is missing in {out}");
    }
    assert!(ended.out.last().unwrap().ends_with("; ok"), "{out}");
}

#[test]
fn a_demo_that_is_not_sealed_does_the_same_and_says_so() {
    let document = demo(&["--clients", "2", "--seal", "off"]);
    assert_eq!(document["sealed"], false);
    assert_eq!((&document["seal"], &document["counters_sealed"]), (&"none".into(), &false.into()));
    let ended = secure_rdma(&["demo", "--clients", "1", "--seal", "off"]).succeeded();
    assert!(ended.out.contains(&"data path: NOT sealed".to_owned()), "{ended:?}");
}

#[test]
fn one_client_alone_is_refused_from_another_session_of_its_own() {
    let document = demo(&["--clients", "1"]);
    assert_eq!(document["clients"][0]["ops"]["foreign_region"], "refused");
}

#[test]
fn an_address_of_ipv6_serves_as_well() {
    let document = demo(&["--clients", "2", "--device", "embedded:::1"]);
    assert_eq!(document["device"], "embedded:::1");
}

/// Two demos of 100 clients: 200 exchanges, each with a PSN in both directions. Each run also shows that 100
/// clients at once work, with a limit of file descriptors that is too low for them at first.
#[test]
fn two_hundred_psn_exchanges_use_all_24_bits_and_none_is_reused() {
    let mut psns = Vec::new();
    for _ in 0..2 {
        let command = format!("ulimit -Sn 256; exec {SECURE_RDMA} demo --json --clients 100");
        let ended = Program::spawn(Command::new("sh").args(["-c", &command])).end().succeeded();
        let document: Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
        assert_eq!(document["ok"], true, "{document}");
        psns.push([numbers(&document, "client_psn"), numbers(&document, "server_psn")]);
    }
    for side in 0..2 {
        let drawn: Vec<u32> = psns.iter().flat_map(|run| run[side].iter().copied()).collect();
        assert_eq!(drawn.len(), 200);
        assert_eq!(drawn.iter().fold(0, |seen, psn| seen | psn), 0xff_ffff, "each bit is 1 sometimes");
        assert_eq!(
            drawn.iter().fold(0, |seen, psn| seen | !psn) & 0xff_ffff,
            0xff_ffff,
            "each bit is 0 sometimes"
        );
        // 200 random numbers of 24 bits have one pair of equals once in 840 runs, three once in 10^8.
        let distinct: HashSet<_> = drawn.iter().collect();
        assert!(distinct.len() >= 198, "{} of 200 differ", distinct.len());
        // Client n of the second run is client n again: it has another PSN than the last time.
        let again =
            psns[0][side].iter().zip(&psns[1][side]).filter(|(first, second)| first == second).count();
        assert_eq!(again, 0);
    }
}

#[test]
fn too_few_file_descriptors_are_said_before_anything_is_tried() {
    let command = format!("ulimit -n 200; exec {SECURE_RDMA} demo --clients 100");
    let ended = Program::spawn(Command::new("sh").args(["-c", &command])).end();
    assert_eq!(ended.failed(1, &["file descriptors", "ulimit -Hn", "--clients"]).out, [""; 0]);
}

#[test]
fn whom_to_trust_is_wrong_usage_where_the_demo_brings_its_own_server() {
    for arguments in [["--ca", "ca.pem"], ["--certs", "/nowhere"]] {
        secure_rdma(&[&["demo"][..], &arguments].concat()).failed(2, &["--connect HOST"]);
    }
}

/// The demo's clients against a server of another process.
#[test]
fn a_demo_meets_a_server_that_runs_elsewhere() {
    let server = Server::start(&["--device", "embedded:127.0.0.1"]);
    let (place, certs) = (server.address.to_string(), server.state.path());
    let certs = certs.to_str().unwrap();
    let document =
        demo(&["--clients", "3", "--connect", &place, "--server-name", "localhost", "--certs", certs]);
    assert_eq!(document["sealed"], true);
    let clients = document["clients"].as_array().unwrap();
    assert_eq!(clients.len(), 3);
    for client in clients {
        assert_eq!(client["ops"]["foreign_region"], "refused", "{client}");
    }
}

#[test]
fn a_demo_without_clients_is_wrong_usage() {
    secure_rdma(&["demo", "--clients", "0"]).failed(2, &["--clients"]);
    secure_rdma(&["demo", "--clients", "many"]).failed(2, &["--clients"]);
}
