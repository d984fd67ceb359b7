//! `secure-rdma run --seal` and librdmacm: programs that connect by addresses and ports, with what their agents say to
//! each other sealed, too, or not said.

use crate::harness::{Ended, PATIENCE, Program, rocev2_socket, text};
use crate::run::is_installed;
use crate::sealed_run::Host;
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

/// Two hosts whose agents have certificates by one CA.
fn hosts(addresses: [&str; 2]) -> [Host; 2] {
    let first = Host::first(addresses[0]);
    let second = Host::second(&first, addresses[1]);
    [first, second]
}

/// Runs a client until its server listens.
#[track_caller]
fn client(host: &Host, program: &[&str]) -> Ended {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ended = host.sealed(&[], program).end();
        if ended.status.success() {
            return ended;
        }
        // Nobody listens at the port, or there isn't even anybody to say so.
        let early = ["REJECTED", "no agent answers", "no program there", "refused", "UNREACHABLE, error: 1"];
        let said = [ended.out.join("\n"), ended.err.clone()].concat();
        assert!(early.iter().any(|word| said.contains(word)), "{program:?}: {ended:?}");
        assert!(Instant::now() < deadline, "{program:?}: {ended:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a server and its client, which must be done; the server must end. (rping's sometimes ends with an error, since
/// its main thread destroys what another one still uses.)
#[track_caller]
fn both(server: (&Host, &[&str]), other: (&Host, &[&str])) -> Ended {
    let serving = server.0.sealed(&[], server.1);
    let ended = client(other.0, other.1);
    let served = serving.end();
    assert!(!served.err.contains("sealed"), "{served:?}");
    ended
}

#[test]
fn programs_of_two_hosts_that_use_librdmacm_are_sealed_whichever_of_them_serves() {
    if !is_installed("rping", "rdmacm-utils") {
        return;
    }
    let [a, b] = hosts(["127.83.91.1", "127.83.91.2"]);
    for (server, other) in [(&a, &b), (&b, &a)] {
        let address = server.address.as_str();
        let rping = ["rping", "-a", address, "-C", "20", "-v"];
        let said = both((server, &[&rping[..], &["-s"]].concat()), (other, &[&rping[..], &["-c"]].concat()));
        assert!(said.out.iter().any(|line| line.contains("rdma-ping-19:")), "{said:?}");
        both(
            (server, &["ucmatose", "-b", address, "-c", "3"]),
            (other, &["ucmatose", "-s", address, "-c", "3"]),
        );
        both((server, &["udaddy", "-b", address]), (other, &["udaddy", "-s", address]));
    }
}

#[test]
fn a_file_is_copied_by_sealed_rsockets() {
    if !is_installed("rcopy", "rdmacm-utils") {
        return;
    }
    let [a, b] = hosts(["127.83.91.3", "127.83.91.4"]);
    let files = tempfile::tempdir().unwrap();
    let [from, to] = ["from", "to"].map(|name| files.path().join(name));
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&from, &bytes).unwrap();
    let serving = a.sealed(&[], &["rcopy"]);
    client(&b, &["rcopy", text(&from), &format!("{}:{}", a.address, text(&to))]);
    assert!(fs::read(&to).unwrap() == bytes, "the copy differs");
    drop(serving);
}

#[test]
fn programs_of_one_host_connect_sealed_by_its_one_agent() {
    if !is_installed("rping", "rdmacm-utils") {
        return;
    }
    let host = Host::empty("127.83.91.5");
    let rping = ["rping", "-a", host.address.as_str(), "-C", "20"];
    both((&host, &[&rping[..], &["-s"]].concat()), (&host, &[&rping[..], &["-c"]].concat()));
}

#[test]
fn tcp_programs_on_rsockets_are_sealed() {
    if !is_installed("iperf3", "iperf3") || !is_installed("rping", "rdmacm-utils") {
        return;
    }
    let [a, b] = hosts(["127.83.91.6", "127.83.91.7"]);
    let preloaded = "LD_PRELOAD=$LD_PRELOAD:$(echo /usr/lib/*/rsocket/librspreload.so) exec iperf3";
    let server = format!("{preloaded} -s -1 -B {} -p 18711", a.address);
    let whole = format!("{preloaded} -c {} -p 18711 -n 20M", a.address);
    let said = both((&a, &["sh", "-c", &server]), (&b, &["sh", "-c", &whole]));
    assert!(said.out.iter().any(|line| line.contains("20.0 MBytes")), "{said:?}");
}

#[test]
fn what_rsockets_cannot_connect_sealed_does_not_go_by_tcp_in_clear() {
    if !is_installed("iperf3", "iperf3") || !is_installed("rping", "rdmacm-utils") {
        return;
    }
    let a = Host::first("127.83.91.20");
    // Somebody who takes TCP, and has no keys.
    let listener = std::net::TcpListener::bind("127.83.91.21:18713").unwrap();
    listener.set_nonblocking(true).unwrap();
    let preloaded = "LD_PRELOAD=$LD_PRELOAD:$(echo /usr/lib/*/rsocket/librspreload.so) exec iperf3";
    let whole = format!("{preloaded} -c 127.83.91.21 -p 18713 -n 1M");
    let ended = a.sealed(&[], &["sh", "-c", &whole]).end();
    assert!(!ended.status.success(), "{ended:?}");
    assert!(ended.err.contains("a connection to 127.83.91.21:18713 can't be sealed"), "{ended:?}");
    let came = listener.accept();
    assert!(matches!(&came, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "{came:?}");
}

/// That a program on a host can't connect to one on another, and says why.
#[track_caller]
fn unreachable(from: &Host, to: &Host, words: &[&str]) {
    let ended = from.sealed(&[], &["rping", "-c", "-a", &to.address, "-C", "1"]).end();
    assert!(!ended.status.success(), "{ended:?}");
    let said = format!("a connection to {}:7174 can't be sealed, so nothing is sent: ", to.address);
    for word in [&[said.as_str(), "RDMA_CM_EVENT_UNREACHABLE, error -13"], words].concat() {
        assert!(ended.err.contains(word), "{word:?} is missing: {ended:?}");
    }
}

#[test]
fn a_program_is_told_why_its_peer_gets_no_connection() {
    if !is_installed("rping", "rdmacm-utils") {
        return;
    }
    let [a, b] = hosts(["127.83.91.8", "127.83.91.9"]);
    let stranger = Host::first("127.83.91.10");
    let serving = stranger.sealed(&[], &["rping", "-s", "-P", "-a", &stranger.address]);
    // It listens when one of its own can connect.
    client(&stranger, &["rping", "-c", "-a", &stranger.address, "-C", "1"]);
    unreachable(&a, &stranger, &["is not by a CA that is trusted here"]);
    drop(serving);
    // A peer in clear has no agent that listens.
    let clear = Host::empty("127.83.91.11");
    let serving = clear.run(&[], &["rping", "-s", "-P", "-a", &clear.address]);
    unreachable(&a, &clear, &["no agent answers at TCP"]);
    drop(serving);
    // Where there is a sealed program, but none that uses librdmacm, nobody has queue pair 1.
    let rc = ["stdbuf", "-oL", "ibv_rc_pingpong", "-g", "0", "-p", "18712"];
    if is_installed(rc[2], "ibverbs-utils") {
        let serving = b.sealed(&[], &rc);
        serving.says("local address");
        unreachable(&a, &b, &["uses librdmacm"]);
    }
}

#[test]
fn where_nobody_listens_the_refusal_comes_sealed() {
    if !is_installed("rping", "rdmacm-utils") {
        return;
    }
    let [a, b] = hosts(["127.83.91.12", "127.83.91.13"]);
    let serving = a.sealed(&[], &["rping", "-s", "-P", "-a", &a.address]);
    client(&b, &["rping", "-c", "-a", &a.address, "-C", "1"]);
    let ended = b.sealed(&[], &["rping", "-c", "-a", &a.address, "-p", "7175", "-C", "1"]).end();
    assert!(!ended.status.success() && ended.err.contains("RDMA_CM_EVENT_REJECTED, error 8"), "{ended:?}");
    drop(serving);
}

#[test]
fn without_keys_no_management_datagram_leaves() {
    if !is_installed("rping", "rdmacm-utils") {
        return;
    }
    let a = Host::first("127.83.91.14");
    // Where the peer's queue pair 1 would be.
    let wire = rocev2_socket([127, 83, 91, 15]);
    wire.set_nonblocking(true).unwrap();
    unreachable(&a, &Host::empty("127.83.91.15"), &["no agent answers at TCP"]);
    // On loopback what was sent has come.
    assert!(wire.recv(&mut [0; 512]).is_err(), "something came");
}

#[test]
fn who_has_connected_with_a_program_that_is_killed_is_told_sealed() {
    if !is_installed("rping", "rdmacm-utils") {
        return;
    }
    let [a, b] = hosts(["127.83.91.16", "127.83.91.17"]);
    let server = a.sealed(&[], &["rping", "-s", "-P", "-v", "-a", &a.address]);
    client(&b, &["rping", "-c", "-a", &a.address, "-C", "1"]);
    let endless = || -> Program {
        let client = b.sealed(&[], &["rping", "-c", "-v", "-a", &a.address, "-C", "100000000"]);
        client.says("rdma-ping-99:");
        client
    };
    let victim = endless();
    victim.signal(Signal::KILL);
    victim.end();
    // The first client's end, and the victim's.
    server.warns_times("DISCONNECT", 2);
    let left = endless();
    server.signal(Signal::KILL);
    server.end();
    assert!(left.end().err.contains("DISCONNECT"));
}

#[test]
fn what_is_not_sealed_is_refused() {
    if !is_installed("mckey", "rdmacm-utils") {
        return;
    }
    let host = Host::empty("127.83.91.18");
    let ended = host.sealed(&[], &["mckey", "-m", "239.83.91.18", "-b", &host.address]).end();
    let said = [ended.out.join("\n"), ended.err.clone()].concat();
    assert!(!ended.status.success() && said.contains("Operation not supported"), "{ended:?}");
    // Queue pair 1 is sealed or it isn't, whoever uses it.
    let serving = host.sealed(&[], &["rping", "-s", "-P", "-a", &host.address]);
    client(&host, &["rping", "-c", "-a", &host.address, "-C", "1"]);
    let ended = host.run(&[], &["rping", "-c", "-a", &host.address, "-C", "1"]).end();
    assert!(!ended.status.success(), "{ended:?}");
    assert!(ended.err.contains("another program at 127.83.91.18 manages connections sealed"), "{ended:?}");
    drop(serving);
}
