//! A manager on a real UDP socket: queue pair 1 of a host that has nothing else.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::Child;
use std::time::{Duration, Instant};

use rocev2::icrc::{self, PseudoHeader};
use rocev2::wire::{Bth, Deth, Headers, Opcode, Operation, Packet, Transport};
use rocev2::{Psn, Qpn, Time, UDP_PORT};
use rocev2_cm::{Config, Event, GSI_QKEY, Gid, Manager, Path, Transmit};

const GSI: Qpn = Qpn::truncate(1);

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    socket: UdpSocket,
    address: Ipv4Addr,
    origin: Instant,
    psn: Psn,
    pub(crate) manager: Manager,
}

pub(crate) fn gid(address: Ipv4Addr) -> Gid {
    Gid::from(std::net::IpAddr::V4(address))
}

/// Numbers from the kernel's entropy.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}

impl Node {
    /// At RoCEv2's port of that address.
    pub(crate) fn new(address: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((address, UDP_PORT)).unwrap();
        // Sets DF: then the IP identification, which the ICRC covers, is 0.
        quinn_udp::UdpSocketState::new((&socket).into()).unwrap();
        let config = Config { ca_guid: 0x0200_00ff_fe00_0001, ..Config::default() };
        Self {
            socket,
            address,
            origin: Instant::now(),
            psn: Psn::default(),
            manager: Manager::new(config, Box::new(random)),
        }
    }

    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    fn send(&mut self, transmit: &Transmit) {
        let std::net::IpAddr::V4(peer) = transmit.path.remote.to_ip() else { panic!("{transmit:?}") };
        let opcode = Opcode::Known { transport: Transport::Ud, operation: Operation::SendOnly };
        let headers = Headers {
            deth: Some(Deth { qkey: GSI_QKEY, src_qp: GSI }),
            ..Headers::new(Bth::new(opcode, GSI, self.psn))
        };
        self.psn = self.psn.plus(1);
        let mut datagram = [0; 20 + rocev2_cm::wire::MAD_LEN + icrc::LEN];
        let frame = headers.frame(&mut datagram, transmit.mad.len()).unwrap();
        frame.payload.copy_from_slice(&transmit.mad);
        let (from, to) = (SocketAddrV4::new(self.address, UDP_PORT), SocketAddrV4::new(peer, UDP_PORT));
        PseudoHeader::new(from.into(), to.into()).unwrap().write(0, &mut datagram).unwrap();
        self.socket.send_to(&datagram, to).unwrap();
    }

    /// Gives what came to queue pair 1 to the manager.
    fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        let to = SocketAddr::from((self.address, UDP_PORT));
        let verified = PseudoHeader::new(from, to).unwrap().verify(0, datagram).unwrap();
        let packet = Packet::parse(verified.packet).unwrap();
        if packet.headers.bth.dest_qp != GSI {
            // A queue pair that isn't there, as far as this host has none.
            return;
        }
        let deth = packet.headers.deth.unwrap();
        assert_eq!((deth.qkey, deth.src_qp), (GSI_QKEY, GSI));
        let path = Path { local: gid(self.address), remote: Gid::from(from.ip()) };
        let now = self.now();
        let handled = self.manager.handle(now, path, packet.payload);
        println!("from {from}: {handled:?}");
    }

    /// Sends what there is to send.
    pub(crate) fn flush(&mut self) {
        while let Some(transmit) = self.manager.poll_transmit() {
            self.send(&transmit);
        }
    }

    /// The next event.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Event {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.next() {
                return event;
            }
            assert!(Instant::now() < deadline, "no event in {PATIENCE:?}");
        }
    }

    /// Answers what comes until `program` has ended: where an answer was lost, it asks again.
    pub(crate) fn serve(&mut self, program: &mut Child, mut answer: impl FnMut(&mut Self, &Event)) {
        while program.try_wait().unwrap().is_none() {
            if let Some(event) = self.next() {
                answer(self, &event);
            }
        }
    }

    /// Does what is due, and waits a moment for a datagram if there is no event by then.
    fn next(&mut self) -> Option<Event> {
        let now = self.now();
        self.manager.handle_timeout(now);
        self.flush();
        if let Some(event) = self.manager.poll_event() {
            println!("{event:?}");
            return Some(event);
        }
        let timeout = self.manager.poll_timeout().map_or(PATIENCE, |at| at.since(now));
        let timeout = timeout.clamp(Duration::from_millis(1), Duration::from_millis(200));
        self.socket.set_read_timeout(Some(timeout)).unwrap();
        let mut buffer = [0; 2048];
        if let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
            self.receive(from, &buffer[..len]);
        }
        None
    }
}
