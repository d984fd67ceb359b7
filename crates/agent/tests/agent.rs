//! The agent with processes' sides in this process: slots, ends, and the death of an agent.

use rocev2_agent::lease::is_there;
use rocev2_agent::{Lease, LeaseError, Packets, serve};
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn start(place: &Path) -> JoinHandle<std::io::Result<()>> {
    let own = PathBuf::from(place);
    let agent = std::thread::spawn(move || serve(&own, Duration::from_millis(300)));
    wait(|| is_there(place));
    agent
}

#[track_caller]
fn wait(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "it doesn't happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn packet(slot: u8) -> [u8; 64] {
    let mut packet = [0; 64];
    packet[4..8].copy_from_slice(&((u32::from(slot) << 18) | 77).to_be_bytes());
    packet
}

#[test]
fn each_process_gets_a_slot_of_its_own_and_a_packet_finds_it() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path().join("agent");
    let address = IpAddr::from([127, 83, 83, 1]);
    let agent = start(&place);
    let leases: Vec<Lease> = (0..3).map(|_| Lease::take(&place, address, Packets::Clear).unwrap()).collect();
    let shares: Vec<_> = leases.iter().map(|lease| lease.share().unwrap()).collect();
    let sender = UdpSocket::bind((address, 0)).unwrap();
    for share in &shares {
        sender.send_to(&packet(share.slot), (address, 4791)).unwrap();
        share.socket.set_nonblocking(false).unwrap();
        share.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(share.socket.recv(&mut [0; 128]).unwrap(), 64);
    }
    let mut slots: Vec<u8> = shares.iter().map(|share| share.slot).collect();
    slots.dedup();
    assert_eq!(slots.len(), 3, "{slots:?}");
    drop((leases, shares));
    agent.join().unwrap().unwrap();
    assert!(!place.exists(), "it is gone when nobody uses it");
    UdpSocket::bind((address, 4791)).unwrap();
}

#[test]
fn a_port_that_somebody_else_has_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path().join("agent");
    let address = IpAddr::from([127, 83, 83, 2]);
    let _other = UdpSocket::bind((address, 4791)).unwrap();
    let agent = start(&place);
    let refused = Lease::take(&place, address, Packets::Clear).unwrap_err();
    assert!(
        matches!(&refused, LeaseError::Port(error) if error.kind() == std::io::ErrorKind::AddrInUse),
        "{refused}"
    );
    agent.join().unwrap().unwrap();
    let nobody = Lease::take(&place, address, Packets::Clear).unwrap_err();
    assert!(matches!(nobody, LeaseError::NoAgent { .. }), "{nobody}");
}

#[test]
fn only_so_many_processes_have_slots_and_one_that_ends_makes_room() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path().join("agent");
    let address = IpAddr::from([127, 83, 83, 3]);
    let agent = start(&place);
    let mut leases = Vec::new();
    let full = loop {
        match Lease::take(&place, address, Packets::Clear) {
            Ok(lease) => leases.push(lease),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, LeaseError::Full), "{full}");
    assert_eq!(leases.len(), 63);
    drop(leases.swap_remove(5));
    wait(|| Lease::take(&place, address, Packets::Clear).map(|lease| leases.push(lease)).is_ok());
    drop(leases);
    agent.join().unwrap().unwrap();
}

#[test]
fn an_agent_takes_the_place_of_one_that_still_ends() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path().join("agent");
    // What one has until its very end, when it has stopped listening.
    let lock = std::fs::File::create(place.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let own = place.clone();
    let agent = std::thread::spawn(move || serve(&own, Duration::from_millis(300)));
    std::thread::sleep(Duration::from_millis(50));
    drop(lock);
    wait(|| is_there(&place));
    agent.join().unwrap().unwrap();
}
