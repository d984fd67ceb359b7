//! Managers on queue pair 1 of real devices: two devices connect, and what is no management datagram changes nothing.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use rocev2::{Mtu, Psn, Qpn};
use rocev2_agent::cm::{Gsi, Node};
use rocev2_cm::ip::{IpAddressing, PortSpace, Service};
use rocev2_cm::manager::{Connect, LocalQueuePair, Patience, Route, Transport};
use rocev2_cm::wire::{PrivateData, RejectReason};
use rocev2_cm::{Config, Event, Exponent, Gid, Path};
use rocev2_device::{Config as DeviceConfig, Device, DeviceError};
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const SERVICE: Service = Service { space: PortSpace::Tcp, port: 7174 };

struct End {
    device: Arc<Device>,
    address: IpAddr,
    node: Node,
}

/// A device at an address of its own, whose port is the well-known one.
fn end(address: [u8; 4]) -> End {
    let address = IpAddr::from(address);
    let config = DeviceConfig { address: Some(address), port: Some(4791), ..DeviceConfig::default() };
    let device = Arc::new(Device::open(config).unwrap());
    device.bind_gid(0).unwrap();
    let node = Node::new(Arc::clone(&device), Config::default(), None).unwrap();
    End { device, address, node }
}

impl End {
    fn queue_pair(&self) -> LocalQueuePair {
        LocalQueuePair {
            qpn: Qpn::truncate(0x0b_0b0b),
            starting_psn: Psn::truncate(0xabcdef),
            responder_resources: 3,
            initiator_depth: 2,
            rnr_retry_count: 7,
            srq: false,
        }
    }

    fn connect(&mut self, peer: &End) -> rocev2_cm::CommId {
        let addressing = IpAddressing { source: (self.address, 40_000).into(), destination: peer.address };
        let connect = Connect {
            path: Path { local: Gid::from(self.address), remote: Gid::from(peer.address) },
            service_id: SERVICE.id(),
            transport: Transport::Rc,
            queue_pair: self.queue_pair(),
            route: Route::new(Mtu::B1024),
            patience: Patience::default(),
            private_data: PrivateData::new(&addressing.encode().unwrap()).unwrap(),
        };
        let now = self.node.now();
        self.node.manager.connect(now, &connect).unwrap()
    }
}

/// Gives all of them turns until the first has an event.
fn event(ends: &mut [&mut End]) -> Event {
    let deadline = Instant::now() + PATIENCE;
    loop {
        ends.iter_mut().for_each(|end| end.node.turn());
        if let Some(event) = ends[0].node.event() {
            return event;
        }
        assert!(Instant::now() < deadline, "nothing happens");
        std::thread::yield_now();
    }
}

#[test]
fn two_devices_connect_and_part() {
    let (mut a, mut b) = (end([127, 83, 87, 1]), end([127, 83, 87, 2]));
    b.node.manager.listen(SERVICE.id(), None, 4).unwrap();
    let id = a.connect(&b);
    let asked = event(&mut [&mut b, &mut a]);
    let Event::ConnectRequest { id: served, request } = asked else { panic!("{asked:?}") };
    assert_eq!(request.path, Path { local: Gid::from(b.address), remote: Gid::from(a.address) });
    let (now, own) = (b.node.now(), b.queue_pair());
    b.node.manager.accept(now, served, own, Exponent::default(), PrivateData::default()).unwrap();
    let answered = event(&mut [&mut a, &mut b]);
    assert!(
        matches!(&answered, Event::ConnectResponse { id: of, response } if *of == id && response.initiator_depth == 2)
    );
    a.node.manager.establish(id, PrivateData::default()).unwrap();
    let established = event(&mut [&mut b, &mut a]);
    assert!(matches!(established, Event::Established { id, .. } if id == served), "{established:?}");
    let now = a.node.now();
    a.node.manager.disconnect(now, id, PrivateData::default()).unwrap();
    assert_eq!(event(&mut [&mut b, &mut a]), Event::Disconnected { id: served });
    let now = b.node.now();
    b.node.manager.disconnect(now, served, PrivateData::default()).unwrap();
    assert_eq!(event(&mut [&mut a, &mut b]), Event::Disconnected { id });
}

#[test]
fn a_device_connects_with_itself() {
    let mut end = end([127, 83, 87, 3]);
    end.node.manager.listen(SERVICE.id(), None, 4).unwrap();
    let peer = End { device: Arc::clone(&end.device), address: end.address, ..self::end([127, 83, 87, 4]) };
    let id = end.connect(&peer);
    let asked = event(&mut [&mut end]);
    let Event::ConnectRequest { id: served, .. } = asked else { panic!("{asked:?}") };
    let (now, own) = (end.node.now(), LocalQueuePair { qpn: Qpn::truncate(0x0c_0c0c), ..end.queue_pair() });
    end.node.manager.accept(now, served, own, Exponent::default(), PrivateData::default()).unwrap();
    let answered = event(&mut [&mut end]);
    assert!(matches!(&answered, Event::ConnectResponse { id: of, .. } if *of == id), "{answered:?}");
    end.node.manager.establish(id, PrivateData::default()).unwrap();
    let established = event(&mut [&mut end]);
    assert!(matches!(established, Event::Established { id, .. } if id == served), "{established:?}");
    let now = end.node.now();
    end.node.manager.disconnect(now, served, PrivateData::default()).unwrap();
    assert_eq!(event(&mut [&mut end]), Event::Disconnected { id });
    let now = end.node.now();
    end.node.manager.disconnect(now, id, PrivateData::default()).unwrap();
    assert_eq!(event(&mut [&mut end]), Event::Disconnected { id: served });
}

#[test]
fn where_nobody_listens_a_request_is_refused() {
    let (mut a, mut b) = (end([127, 83, 87, 5]), end([127, 83, 87, 6]));
    let id = a.connect(&b);
    let refused = event(&mut [&mut a, &mut b]);
    let Event::Rejected { id: of, reason, .. } = refused else { panic!("{refused:?}") };
    assert_eq!((of, reason), (id, RejectReason::InvalidServiceId));
}

#[test]
fn queue_pair_1_has_one_owner() {
    let end = end([127, 83, 87, 7]);
    let second = Gsi::new(Arc::clone(&end.device)).unwrap_err();
    assert!(matches!(second, DeviceError::Gsi), "{second}");
    let End { device, node, .. } = end;
    drop(node);
    Gsi::new(device).unwrap();
}

#[test]
fn what_is_no_management_datagram_is_dropped() {
    use rocev2::icrc::{self, PseudoHeader};
    use rocev2::wire::{Bth, Deth, Headers, Opcode, Operation, Transport as Wire};
    let (mut a, mut b) = (end([127, 83, 87, 8]), end([127, 83, 87, 9]));
    b.node.manager.listen(SERVICE.id(), None, 4).unwrap();
    let socket = UdpSocket::bind("127.83.87.10:0").unwrap();
    quinn_udp::UdpSocketState::new((&socket).into()).unwrap();
    let to = (b.address, 4791).into();
    let send = |qkey: u32, src_qp: u32, len: usize| {
        let opcode = Opcode::Known { transport: Wire::Ud, operation: Operation::SendOnly };
        let headers = Headers {
            deth: Some(Deth { qkey, src_qp: Qpn::truncate(src_qp) }),
            ..Headers::new(Bth::new(opcode, Qpn::GSI, Psn::default()))
        };
        let mut datagram = vec![0; 20 + len + icrc::LEN];
        headers.frame(&mut datagram, len).unwrap().payload.fill(0xff);
        PseudoHeader::new(socket.local_addr().unwrap(), to).unwrap().write(0, &mut datagram).unwrap();
        socket.send_to(&datagram, to).unwrap();
    };
    for len in [0, 4, 252, 256] {
        for (qkey, src_qp) in [(0x8001_0000, 1), (0x8001_0000, 7), (0x8001_0001, 1), (0, 1)] {
            send(qkey, src_qp, len);
        }
    }
    // It still serves, more often than it has room for datagrams.
    for _ in 0..1500 {
        send(0x8001_0000, 1, 256);
    }
    a.connect(&b);
    let asked = event(&mut [&mut b, &mut a]);
    assert!(matches!(asked, Event::ConnectRequest { .. }), "{asked:?}");
    let wrong_key = b.device.counters().into_iter().find(|row| row.0 == "queue_key").unwrap().1;
    assert_eq!(wrong_key, 8);
}
