//! IPv4 packets on the loopback interface, as whoever is on the path sees them: a packet socket (packet(7)).

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io::{self, ErrorKind, Read};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// `ETH_P_IP`: with it each packet of the loopback interface comes once.
const IPV4: u16 = 0x0800;

/// What the kernel keeps until it is read.
const BUFFER: usize = 8 << 20;

/// The longest packet, segmentation offload's included.
const LONGEST: usize = 65_536;

/// The most that is kept.
const ROOM: usize = 64 << 20;

/// So long after the last packet nothing more comes.
const QUIET: Duration = Duration::from_millis(200);

/// A running capture.
#[derive(Debug)]
pub(super) struct Capture {
    stop: Arc<AtomicBool>,
    reader: JoinHandle<io::Result<Vec<Vec<u8>>>>,
}

impl Capture {
    /// Begins to capture what goes to `address` and comes from there.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] without the right to capture, `CAP_NET_RAW`.
    pub(super) fn start(address: Ipv4Addr) -> io::Result<Self> {
        let protocol = Protocol::from(i32::from(IPV4.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
        socket.attach_filter(&filter(address))?;
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_read_timeout(Some(QUIET))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let reader =
            thread::Builder::new().name("capture".into()).spawn(move || read(socket, address, &stopped))?;
        Ok(Self { stop, reader })
    }

    /// What has come, from the IP headers on.
    pub(super) fn end(self) -> io::Result<Vec<Vec<u8>>> {
        self.stop.store(true, Ordering::Release);
        self.reader.join().unwrap_or_else(|_| Err(io::Error::other("the capture's thread has failed")))
    }
}

fn read(mut socket: Socket, address: Ipv4Addr, stopped: &AtomicBool) -> io::Result<Vec<Vec<u8>>> {
    let (mut packets, mut total, mut buffer) = (Vec::new(), 0, vec![0; LONGEST]);
    loop {
        match socket.read(&mut buffer) {
            Ok(len) => {
                let packet = &buffer[..len];
                // What came before the filter was there is anything.
                if ![12, 16].iter().any(|at| packet.get(*at..at + 4) == Some(&address.octets())) {
                    continue;
                }
                total += len;
                if total > ROOM {
                    return Err(io::Error::other("more was captured than a session is"));
                }
                packets.push(packet.to_vec());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stopped.load(Ordering::Acquire) {
                    return Ok(packets);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The kernel passes on what has `address` as its source or its destination (BPF, from the IP header on).
fn filter(address: Ipv4Addr) -> [SockFilter; 6] {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let address = address.to_bits();
    [
        SockFilter::new(LOAD_WORD, 0, 0, 12),
        SockFilter::new(JUMP_IF_EQUAL, 2, 0, address),
        SockFilter::new(LOAD_WORD, 0, 0, 16),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, address),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
