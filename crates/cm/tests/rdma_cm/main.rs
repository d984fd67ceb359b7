//! The kernel's rdma_cm at the other end: stock programs on Soft-RoCE, in the guest of `lab/guest`, and a manager on a
//! UDP socket at the far end of its cable. They connect and end connections; there is no data, since the manager's
//! side has no queue pair but number 1.
#![allow(clippy::unwrap_used, reason = "tests, though cargo is told not to run them")]

mod node;

use std::net::Ipv4Addr;
use std::process::{Child, Command, Output, Stdio};

use rocev2::{Mtu, Psn, Qpn};
use rocev2_cm::ip::{IpAddressing, PortSpace, Service};
use rocev2_cm::manager::{Answer, Connect, LocalQueuePair, Patience, Resolve, Route, Transport};
use rocev2_cm::wire::{PrivateData, RejectReason, SidrStatus};
use rocev2_cm::{Event, Exponent, Path};

use node::{Node, gid};

/// `lab/network.sh`'s addresses.
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// A stock program at the near end, where Soft-RoCE is: in the first process's network namespace.
fn stock(program: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new("nsenter");
    command.args(["--target", "1", "--net", "timeout", "50", "stdbuf", "-oL", program]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What the program said, and whether it ended well. Until then its peer goes on, and does this about what it is asked.
fn output(node: &mut Node, mut child: Child, answer: impl FnMut(&mut Node, &Event)) -> (bool, String) {
    node.serve(&mut child, answer);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    println!("{text}");
    (status.success(), text)
}

/// What was repeated meanwhile, and needs no answer any more.
fn ignore(_: &mut Node, _: &Event) {}

/// Refuses what is asked.
fn refuse(node: &mut Node, event: &Event) {
    let &Event::ConnectRequest { id, .. } = event else { panic!("{event:?}") };
    node.manager.reject(node.now(), id, RejectReason::Consumer, &[], PrivateData::default()).unwrap();
}

fn private_data<const N: usize>() -> PrivateData<N> {
    let addressing = IpAddressing { source: (PEER, 40_001).into(), destination: std::net::IpAddr::V4(NEAR) };
    PrivateData::new(&addressing.encode().unwrap()).unwrap()
}

fn queue_pair() -> LocalQueuePair {
    LocalQueuePair {
        qpn: Qpn::truncate(0x77),
        starting_psn: Psn::truncate(0x12_3456),
        responder_resources: 1,
        initiator_depth: 1,
        rnr_retry_count: 7,
        srq: false,
    }
}

fn connect(port: u16) -> Connect {
    Connect {
        path: Path { local: gid(PEER), remote: gid(NEAR) },
        service_id: Service { space: PortSpace::Tcp, port }.id(),
        transport: Transport::Rc,
        queue_pair: queue_pair(),
        route: Route::new(Mtu::B1024),
        patience: Patience::default(),
        private_data: private_data(),
    }
}

/// Waits until the kernel has a listener there. Asking until nobody refuses wouldn't do: on a cable that repeats and
/// reorders, a copy of a refused request may come once somebody listens, and be the one connection that is accepted.
fn wait_for_listener(port: u16) {
    let listener = format!(":{port} ");
    for _ in 0..200 {
        let mut command = Command::new("nsenter");
        command.args(["--target", "1", "--net", "rdma", "resource", "show", "cm_id"]);
        let Output { status, stdout, stderr } = command.output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        let listed = String::from_utf8_lossy(&stdout);
        if listed.lines().any(|line| line.contains("state LISTEN") && format!("{line} ").contains(&listener))
        {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("nobody listens at port {port}");
}

#[test]
fn a_port_that_nobody_listens_on_is_refused_by_the_kernel() {
    let mut node = Node::new(PEER);
    let id = node.manager.connect(node.now(), &connect(9)).unwrap();
    let event = node.event();
    let Event::Rejected { id: rejected, reason, .. } = event else { panic!("{event:?}") };
    assert_eq!((rejected, reason), (id, RejectReason::InvalidServiceId));
}

#[test]
fn ucmatose_accepts_a_connection_and_its_end() {
    let server = stock("ucmatose", &["-b", "10.77.0.1", "-p", "7471", "-C", "0", "-c", "1"]);
    wait_for_listener(7471);
    let mut node = Node::new(PEER);
    let id = node.manager.connect(node.now(), &connect(7471)).unwrap();
    let event = node.event();
    let Event::ConnectResponse { id: answered, response } = event else { panic!("{event:?}") };
    assert!(answered == id && response.qpn.is_ordinary(), "{response:?}");
    let attributes = node.manager.attributes(id).unwrap();
    assert_eq!((attributes.rq_psn, attributes.path_mtu), (queue_pair().starting_psn, Mtu::B1024));
    node.manager.establish(id, PrivateData::default()).unwrap();
    // Without messages to send, the server disconnects.
    assert_eq!(node.event(), Event::Disconnected { id });
    node.manager.disconnect(node.now(), id, PrivateData::default()).unwrap();
    assert_eq!(node.event(), Event::TimeWaitExit { id });
    assert!(node.manager.is_idle());
    let (well, text) = output(&mut node, server, ignore);
    assert!(well, "{text}");
}

#[test]
fn ucmatose_connects_and_follows_a_disconnection() {
    let mut node = Node::new(PEER);
    node.manager.listen(Service { space: PortSpace::Tcp, port: 7472 }.id(), None, 4).unwrap();
    let client = stock("ucmatose", &["-s", "10.77.0.2", "-p", "7472", "-C", "0", "-c", "1"]);
    let event = node.event();
    let Event::ConnectRequest { id, request } = event else { panic!("{event:?}") };
    let addressing = request.addressing.unwrap();
    assert_eq!((addressing.source.ip(), addressing.destination), (NEAR.into(), PEER.into()));
    assert_eq!(request.transport, Transport::Rc);
    node.manager.accept(node.now(), id, queue_pair(), Exponent::default(), PrivateData::default()).unwrap();
    let event = node.event();
    assert!(matches!(event, Event::Established { id: established, .. } if established == id), "{event:?}");
    // It waits for its server to disconnect.
    node.manager.disconnect(node.now(), id, PrivateData::default()).unwrap();
    assert_eq!(node.event(), Event::Disconnected { id });
    assert_eq!(node.event(), Event::TimeWaitExit { id });
    let (well, text) = output(&mut node, client, ignore);
    assert!(well, "{text}");
}

#[test]
fn ucmatose_is_told_that_it_is_refused() {
    let mut node = Node::new(PEER);
    node.manager.listen(Service { space: PortSpace::Tcp, port: 7473 }.id(), None, 4).unwrap();
    let client = stock("ucmatose", &["-s", "10.77.0.2", "-p", "7473", "-C", "0", "-c", "1"]);
    let event = node.event();
    let Event::ConnectRequest { request, .. } = &event else { panic!("{event:?}") };
    let first = request.qpn;
    refuse(&mut node, &event);
    let (_, text) = output(&mut node, client, refuse);
    assert!(text.contains("RDMA_CM_EVENT_REJECTED") && text.contains("28"), "{text}");
    // What the first one has repeated may still be on its way.
    let another = stock("ucmatose", &["-s", "10.77.0.2", "-p", "7473", "-C", "0", "-c", "1"]);
    let id = loop {
        let event = node.event();
        let Event::ConnectRequest { id, request } = &event else { panic!("{event:?}") };
        if request.qpn != first {
            break *id;
        }
        refuse(&mut node, &event);
    };
    let abandon = |node: &mut Node, id| node.manager.abandon(node.now(), id);
    abandon(&mut node, id);
    let (_, text) = output(&mut node, another, |node, event| {
        let &Event::ConnectRequest { id, .. } = event else { panic!("{event:?}") };
        abandon(node, id);
    });
    assert!(text.contains("RDMA_CM_EVENT_REJECTED"), "{text}");
}

#[test]
fn udaddy_says_which_queue_pair_serves_datagrams() {
    let mut node = Node::new(PEER);
    let resolve = Resolve {
        path: Path { local: gid(PEER), remote: gid(NEAR) },
        service_id: Service { space: PortSpace::Udp, port: 7174 }.id(),
        partition_key: 0xffff,
        patience: Patience::default(),
        private_data: private_data(),
    };
    // Its port can't be chosen.
    let serve = || stock("udaddy", &["-b", "10.77.0.1", "-C", "0", "-c", "1"]);
    let mut server = serve();
    let (qpn, qkey) = loop {
        let id = node.manager.resolve(node.now(), &resolve).unwrap();
        let event = node.event();
        let Event::SidrResponse { id: answered, status, qpn, qkey, .. } = event else { panic!("{event:?}") };
        assert_eq!(answered, id);
        if status == SidrStatus::Valid {
            break (qpn, qkey);
        }
        // The server was just started; or it has answered, and is done, and its answer was lost.
        if server.try_wait().unwrap().is_some() {
            let (well, text) = output(&mut node, server, ignore);
            assert!(well, "{text}");
            server = serve();
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    let (well, text) = output(&mut node, server, ignore);
    assert!(well, "{text}");
    // librdmacm's own key, RDMA_UDP_QKEY.
    assert!(qpn.is_ordinary() && qkey == 0x0123_4567, "{qpn} {qkey:#x}");
}

#[test]
fn udaddy_is_told_which_queue_pair_serves_datagrams() {
    let mut node = Node::new(PEER);
    node.manager.listen(Service { space: PortSpace::Udp, port: 7174 }.id(), None, 4).unwrap();
    let client = stock("udaddy", &["-s", "10.77.0.2", "-C", "0", "-c", "1"]);
    let event = node.event();
    let Event::SidrRequest { id, addressing, .. } = event else { panic!("{event:?}") };
    assert_eq!(addressing.unwrap().destination, PEER);
    let answer = Answer {
        status: SidrStatus::Valid,
        qpn: queue_pair().qpn,
        qkey: 0x0123_4567,
        private_data: PrivateData::default(),
    };
    let tell = |node: &mut Node, id| node.manager.answer(node.now(), id, &answer).unwrap();
    tell(&mut node, id);
    let (well, text) = output(&mut node, client, |node, event| {
        let &Event::SidrRequest { id, .. } = event else { panic!("{event:?}") };
        tell(node, id);
    });
    assert!(well, "{text}");
}
