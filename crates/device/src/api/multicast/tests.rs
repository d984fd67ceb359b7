use crate::api::{Config, Device, PathAttributes, QueuePairOptions};
use crate::engine::{Buffers, Element};
use crate::gid::Gid;
use crate::link::testing::in_namespace;
use crate::memory::Access;
use rocev2::wire::Transport;
use rocev2::work::{Attributes, Datagram, Recipient, RecvRequest, SendOperation, SendRequest, State, Status};
use rocev2::{Psn, Qpn};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const QKEY: u32 = 0x1111_2222;
const GRH: usize = 40;
const TEXT: &[u8; 8] = b"to all..";

/// On an interface of a network, what leaves for a group comes back to this host's own members; the interface is chosen
/// by the local address.
#[test]
fn groups_of_both_ip_versions_are_joined_and_sent_to_at_the_interface_of_the_local_address() {
    let setup = "ip link add near type veth peer name far; ip link set near up; ip link set far up
        ip link add wrong type veth peer name way; ip link set wrong up; ip link set way up
        for host in 1 2; do
            ip address add 192.0.2.$host/24 dev near; ip address add fd00::$host/64 dev near nodad
        done
        ip route add 224.0.0.0/4 dev wrong; ip route add ff00::/8 dev wrong table local metric 1";
    let name = concat!(
        module_path!(),
        "::groups_of_both_ip_versions_are_joined_and_sent_to_at_the_interface_of_the_local_address"
    );
    if !in_namespace(name, &["ip"], setup) {
        return;
    }
    for (hosts, group) in [
        (["192.0.2.1", "192.0.2.2"], "::ffff:239.1.2.3"),
        (["fd00::1", "fd00::2"], "ff02::77"),
        (["fd00::1", "fd00::2"], "ff0e::77"),
    ] {
        let group = Gid::from(group.parse::<Ipv6Addr>().unwrap().octets());
        let devices = hosts.map(|host| {
            let address: IpAddr = host.parse().unwrap();
            Device::open(Config { address: Some(address), ..Config::default() }).unwrap()
        });
        let ends = devices.each_ref().map(|device| {
            let domain = device.protection_domain();
            let queue = device.completion_queue(16, None).unwrap();
            let queue_pair = domain.queue_pair(QueuePairOptions::new(Transport::Ud, &queue, 4)).unwrap();
            device.bind_gid(0).unwrap();
            let to = |state| Attributes { state: Some(state), ..Attributes::default() };
            let init = Attributes { pkey_index: Some(0), port: Some(1), qkey: Some(QKEY), ..to(State::Init) };
            let sq_psn = Some(Psn::truncate(1));
            for step in [init, to(State::ReadyToReceive), Attributes { sq_psn, ..to(State::ReadyToSend) }] {
                queue_pair.set_attributes(step, None).unwrap();
            }
            let memory = domain.register(4096, Access::LOCAL_WRITE).unwrap();
            (domain, queue, queue_pair, memory)
        });
        let [(domain, sends, sender, _), (_, receives, receiver, memory)] = &ends;
        receiver.attach_multicast(0, group).unwrap();
        let element = Element::new(Arc::clone(memory.region()), memory.region().addr(), 4096);
        let buffers = Buffers::List([element].into_iter().collect());
        receiver.post_recv(RecvRequest { id: 7, buffers, len: 4096 }).unwrap();
        let handle = domain.address_handle(PathAttributes::new(0, group)).unwrap();
        let datagram = Datagram { address: handle.id(), remote_qpn: Qpn::MULTICAST, remote_qkey: QKEY };
        let request = SendRequest {
            id: 1,
            operation: SendOperation::Send,
            buffers: Buffers::Inline(TEXT.as_slice().into()),
            len: 8,
            signaled: true,
            solicited: false,
            fence: false,
            destination: Some(Recipient::Datagram(datagram)),
        };
        sender.post_send(request).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        for queue in [sends, receives] {
            let mut out = Vec::new();
            while queue.poll(&mut out, 1).unwrap() == 0 {
                assert!(
                    Instant::now() < deadline,
                    "nothing came: {:?}",
                    devices.each_ref().map(Device::counters)
                );
            }
            assert_eq!(out[0].completion.status, Status::Success);
        }
        let mut bytes = [0; TEXT.len()];
        memory.mapping().read(GRH, &mut bytes).unwrap();
        assert_eq!(&bytes, TEXT);
    }
}
