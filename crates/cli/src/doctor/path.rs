//! What the path to a peer carries, tried out.
//!
//! The embedded device sends packets as large as its interface takes, with "don't fragment", whatever anybody on the
//! path has said by ICMP, since that may be forged. So does this: a datagram has arrived if the peer answers that its
//! port is closed.

use super::finding::Finding;
use rocev2::Mtu;
use rocev2_device::esp::layout;
use rocev2_device::host::{self, Interface};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

const CHECK: &str = "path MTU";

/// Where traceroute sends to, too: hosts have nothing there.
const CLOSED_PORT: u16 = 33434;

/// How long one waits for an answer, and how often one asks. Kernels give few such answers a second.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u32 = 3;

/// What a packet has around its payload at most, sealed by ESP.
const AROUND: usize = Mtu::OVERHEAD + layout::OVERHEAD;

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrived,
    /// Somebody on the path says so.
    TooLarge,
    /// Nobody says anything.
    Unanswered,
}

/// The path to `host`, one of its addresses.
pub(super) fn check(host: &str, interfaces: &[Interface]) -> Finding {
    match tried(host, interfaces) {
        Ok(finding) => finding,
        Err(error) => {
            let cost = "this host doesn't get to it, by whatever device";
            Finding::broken(CHECK, format!("{host}: {error}"), cost, format!("ip route get {host}"))
        }
    }
}

fn tried(host: &str, interfaces: &[Interface]) -> io::Result<Finding> {
    let peer = (host, CLOSED_PORT).to_socket_addrs()?.next().ok_or(ErrorKind::NotFound)?;
    let route = host::route(peer.ip()).map_err(io::Error::other)?;
    let own = |interface: &&Interface| interface.address == route.src;
    // All of 127.0.0.0/8 is this host, though the interface names only one of them.
    let local = |interface: &&Interface| route.src.is_loopback() && interface.address.is_loopback();
    let found = interfaces.iter().find(own).or_else(|| interfaces.iter().find(local));
    let Interface { name, mtu, .. } = found.ok_or(ErrorKind::AddrNotAvailable)?;
    let Some(largest) = Mtu::for_interface(*mtu) else {
        let remedy = format!("ip link set dev {name} mtu 1500");
        return Ok(Finding::broken(CHECK, format!("{name}: {mtu}"), "no RDMA packet fits", remedy));
    };
    // The smallest first: whoever doesn't answer that won't answer others.
    let smallest = fate(peer, Mtu::B256.bytes() as usize + AROUND)?;
    if smallest == Fate::Unanswered {
        let remedy =
            format!("tracepath -n {host}, or let it answer what comes to its closed UDP port {CLOSED_PORT}");
        let cost = "what the path carries isn't known";
        return Ok(Finding::costs(CHECK, format!("{host} doesn't answer"), cost, remedy));
    }
    Ok(match carried(peer, largest, *mtu)? {
        Some(size) if size == largest => {
            Finding::ok(CHECK, format!("{host}: packets with {size} bytes arrive"))
        }
        Some(size) => {
            let found = format!("{host}: packets with {largest} bytes don't arrive, those with {size} do");
            let cost =
                format!("a session with it stands still, unless its own interface allows {size} bytes only");
            // What the kernel has learnt of the path, if that leads to the same size.
            let learnt = host::route(peer.ip()).map_or(0, |route| route.mtu);
            let fitting = Mtu::for_interface(learnt.saturating_sub(layout::OVERHEAD)) == Some(size);
            let mtu = if fitting { learnt } else { size.bytes() as usize + AROUND };
            Finding::costs(CHECK, found, cost, format!("ip link set dev {name} mtu {mtu}"))
        }
        None => {
            let found = format!("{host}: not even packets with {} bytes arrive", Mtu::B256);
            let cost = "no session with it is possible";
            Finding::broken(CHECK, found, cost, format!("tracepath -n {host} shows where they end"))
        }
    })
}

/// The largest payload that arrives in a packet, of those that the interface's MTU allows.
fn carried(peer: SocketAddr, largest: Mtu, mtu: usize) -> io::Result<Option<Mtu>> {
    for size in Mtu::ALL.into_iter().rev().filter(|size| *size <= largest) {
        if fate(peer, (size.bytes() as usize + AROUND).min(mtu))? == Fate::Arrived {
            return Ok(Some(size));
        }
    }
    Ok(None)
}

/// Sends IP packets of that many bytes until one is answered.
fn fate(peer: SocketAddr, len: usize) -> io::Result<Fate> {
    // A socket for each size: what is said late of another isn't taken for an answer.
    let any: IpAddr = if peer.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    let header = if peer.is_ipv4() {
        sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
        20 + 8
    } else {
        sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?;
        40 + 8
    };
    socket.connect(peer)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let datagram = vec![0; len.saturating_sub(header)];
    for _ in 0..TRIES {
        match socket.send(&datagram).and_then(|_| socket.recv(&mut [0; 1])) {
            // Something is there, and answers.
            Ok(_) => return Ok(Fate::Arrived),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(Fate::Arrived),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::MSGSIZE) => return Ok(Fate::TooLarge),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Fate::Unanswered)
}
