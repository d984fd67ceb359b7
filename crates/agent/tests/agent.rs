//! The agent with processes' sides in this process: slots, ends, and the death of an agent.

use rocev2_agent::lease::is_there;
use rocev2_agent::{Lease, LeaseError, Packets, serve};
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

type Serving = JoinHandle<std::io::Result<()>>;

/// An agent that ends as soon as nobody has used it for a moment.
fn spawn(place: &Path) -> Serving {
    let own = PathBuf::from(place);
    std::thread::spawn(move || serve(&own, Duration::from_millis(300)))
}

/// An agent, and what its first process is answered. One that has ended before, because this thread came late, is
/// followed by another.
#[track_caller]
fn start(place: &Path, address: IpAddr) -> (Serving, Result<Lease, LeaseError>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let agent = spawn(place);
        while !agent.is_finished() {
            match Lease::take(place, address, Packets::Clear) {
                Err(LeaseError::NoAgent { .. }) => std::thread::sleep(Duration::from_millis(5)),
                answer => return (agent, answer),
            }
        }
        agent.join().expect("it doesn't panic").expect("it ends");
        assert!(Instant::now() < deadline, "no agent");
    }
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
    let (agent, first) = start(&place, address);
    let more = (0..2).map(|_| Lease::take(&place, address, Packets::Clear));
    let leases: Vec<Lease> = [first].into_iter().chain(more).map(Result::unwrap).collect();
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
    agent.join().expect("it doesn't panic").expect("it ends");
    assert!(!place.exists(), "it is gone when nobody uses it");
    UdpSocket::bind((address, 4791)).unwrap();
}

#[test]
fn a_port_that_somebody_else_has_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path().join("agent");
    let address = IpAddr::from([127, 83, 83, 2]);
    let _other = UdpSocket::bind((address, 4791)).unwrap();
    let (agent, refused) = start(&place, address);
    let refused = refused.unwrap_err();
    assert!(
        matches!(&refused, LeaseError::Port(error) if error.kind() == std::io::ErrorKind::AddrInUse),
        "{refused}"
    );
    agent.join().expect("it doesn't panic").expect("it ends");
    let nobody = Lease::take(&place, address, Packets::Clear).unwrap_err();
    assert!(matches!(nobody, LeaseError::NoAgent { .. }), "{nobody}");
}

#[test]
fn only_so_many_processes_have_slots_and_one_that_ends_makes_room() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path().join("agent");
    let address = IpAddr::from([127, 83, 83, 3]);
    let (agent, first) = start(&place, address);
    let mut leases = vec![first.unwrap()];
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
    agent.join().expect("it doesn't panic").expect("it ends");
}

#[test]
fn an_agent_takes_the_place_of_one_that_still_ends() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path().join("agent");
    let deadline = Instant::now() + PATIENCE;
    let mut seen = false;
    // Again where this thread came so late that the agent has ended, too.
    while !seen {
        assert!(Instant::now() < deadline, "no agent");
        // What one has until its very end, when it has stopped listening.
        let lock = std::fs::File::create(place.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        let agent = spawn(&place);
        std::thread::sleep(Duration::from_millis(50));
        drop(lock);
        while !seen && !agent.is_finished() {
            seen = is_there(&place);
        }
        agent.join().expect("it doesn't panic").expect("it ends");
    }
}
