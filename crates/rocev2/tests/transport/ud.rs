//! Datagrams: whole packets with the header they came with, from whoever knows the queue key.

use super::driven::Driven;
use super::memory::{Ram, RegionId, Rights, Slice};
use super::rng::{Rng, seeds};
use super::world::{ADDRESS, Options, QKEY, Receiving, World, changes, protocol};
use netem::{Corrupt, LinkConfig, Loss, Reorder};
use rocev2::transport::{Destination, DropReason, Limits, Source};
use rocev2::wire::{Bth, Deth, Headers, Opcode, Operation as O, Packet, Transport};
use rocev2::work::{
    AsyncEvent, Attributes, Completion, CompletionKind, Datagram, Event, PostError, QueuePairType, Recipient,
    RecvRequest, RemoteAddress, SendOperation, SendRequest, State, Status,
};
use rocev2::{Mtu, Psn, Qpn, Time};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const OWN: Qpn = Qpn::truncate(0x1234);
const SENDER: Qpn = Qpn::truncate(0xabcd);
const GRH: usize = 40;

fn options() -> Options {
    Options { of: QueuePairType::Ud, ..Options::default() }
}

const V4: Source = Source {
    source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 33)),
    destination: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
    traffic_class: Some(0xb8),
    hop_limit: Some(61),
};

struct Alone {
    qp: Driven<Ram>,
    ram: Ram,
    region: RegionId,
    done: Vec<Completion>,
    events: Vec<AsyncEvent>,
}

impl Alone {
    fn new(steps: usize) -> Self {
        let ram = Ram::default();
        let region = ram.register(&mut Rng::new(1), 0, vec![0xee; 1 << 14], Rights::LOCAL);
        let mut qp = Driven::with(protocol(&options(), OWN), 16);
        let all = changes(&options(), SENDER, Psn::truncate(0xff_ffff), Psn::truncate(0));
        for change in all.into_iter().take(steps) {
            qp.set(change).expect("the usual transitions");
        }
        Self { qp, ram, region, done: Vec::new(), events: Vec::new() }
    }

    fn receive(&mut self, id: u64, offset: usize, len: usize) {
        let buffers = vec![Slice { region: self.region, offset, len }];
        self.qp.post_recv(RecvRequest { id, buffers, len: len as u64 }).expect("there is room");
        self.collect();
    }

    fn request(&self, operation: SendOperation, len: u32, remote_qkey: u32) -> SendRequest<Vec<Slice>> {
        SendRequest {
            id: 5,
            operation,
            buffers: vec![Slice { region: self.region, offset: 0, len: len as usize }],
            len,
            signaled: true,
            solicited: true,
            fence: false,
            destination: Some(Recipient::Datagram(Datagram {
                address: ADDRESS,
                remote_qpn: SENDER,
                remote_qkey,
            })),
        }
    }

    fn post(&mut self, operation: SendOperation, len: u32, remote_qkey: u32) {
        let request = self.request(operation, len, remote_qkey);
        self.qp.post_send(request).expect("there is room");
    }

    fn handle(&mut self, from: &Source, headers: &Headers, payload: &[u8]) -> Result<(), DropReason> {
        let mut bytes = vec![0; Headers::MAX_LEN + payload.len() + 3];
        let frame = headers.frame(&mut bytes, payload.len()).expect("the headers fit the opcode");
        frame.payload.copy_from_slice(payload);
        let len = frame.len;
        let packet = Packet::parse(&bytes[..len]).expect("it was just written");
        let result = self.qp.handle_packet_from(Time::ZERO, from, &packet, &self.ram);
        self.collect();
        result
    }

    fn sent(&mut self) -> Vec<Headers> {
        let mut bytes = vec![0; Headers::MAX_LEN + 4096 + 3];
        let mut sent = Vec::new();
        while let Some(transmit) = self.qp.poll_transmit(Time::ZERO, &self.ram, &mut bytes) {
            assert_eq!(transmit.to, Destination::Address(ADDRESS));
            sent.push(Packet::parse(&bytes[..transmit.len]).expect("what is sent can be read").headers);
        }
        self.collect();
        sent
    }

    fn bytes(&self, offset: usize, len: usize) -> Vec<u8> {
        self.ram.bytes(Slice { region: self.region, offset, len })
    }

    fn collect(&mut self) {
        while let Some(event) = self.qp.poll() {
            match event {
                Event::Completion(completion) => self.done.push(completion),
                Event::Async(event) => self.events.push(event),
            }
        }
    }
}

fn datagram(operation: O, qkey: u32) -> Headers {
    let opcode = Opcode::Known { transport: Transport::Ud, operation };
    let mut headers = Headers::new(Bth::new(opcode, OWN, Psn::truncate(4711)));
    headers.deth = Some(Deth { qkey, src_qp: SENDER });
    headers.immediate = (operation == O::SendOnlyImm).then_some(77);
    headers
}

#[test]
fn an_ipv4_datagram_brings_its_header_in_bytes_20_to_39_with_a_right_checksum() {
    for len in [0, 1, 2, 3, 4, 1024] {
        let mut alone = Alone::new(2);
        alone.receive(1, 0, 2000);
        let payload = Rng::new(len as u64).bytes(len);
        assert_eq!(alone.handle(&V4, &datagram(O::SendOnlyImm, QKEY), &payload), Ok(()));
        let done = alone.done.pop().expect("a completion");
        let expected = Completion {
            len: u32::try_from(GRH + len).expect("short"),
            immediate: Some(77),
            source_qp: Some(SENDER),
            grh: true,
            ..Completion::new(1, Status::Success, CompletionKind::Recv)
        };
        assert_eq!(done, expected);
        assert_eq!(alone.bytes(GRH, len), payload);
        let grh = alone.bytes(0, GRH);
        assert_eq!(&grh[..20], &[0; 20]);
        let header = &grh[20..];
        assert_eq!((header[0], header[1], header[8], header[9]), (0x45, 0xb8, 61, 17));
        // IP, UDP, BTH, DETH, immediate, payload with pad, ICRC.
        let total = 20 + 8 + 12 + 8 + 4 + len.next_multiple_of(4) + 4;
        assert_eq!(usize::from(u16::from_be_bytes([header[2], header[3]])), total);
        assert_eq!((&header[12..16], &header[16..20]), (&[192, 0, 2, 33][..], &[198, 51, 100, 7][..]));
        let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "a header sums up to ones (RFC 1071)");
        assert!(alone.bytes(GRH + len, 100).iter().all(|byte| *byte == 0xee), "no byte behind it changes");
    }
}

#[test]
fn an_ipv6_datagram_brings_an_ipv6_header() {
    let (source, destination) =
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));
    let from = Source {
        source: source.into(),
        destination: destination.into(),
        traffic_class: Some(0x12),
        hop_limit: None,
    };
    let mut alone = Alone::new(3);
    alone.receive(1, 0, 48);
    assert_eq!(alone.handle(&from, &datagram(O::SendOnly, QKEY), &[5; 6]), Ok(()));
    let grh = alone.bytes(0, GRH);
    assert_eq!(&grh[..8], &[0x61, 0x20, 0, 0, 0, 8 + 12 + 8 + 8 + 4, 17, 64]);
    assert_eq!((&grh[8..24], &grh[24..]), (&source.octets()[..], &destination.octets()[..]));
    assert_eq!(alone.bytes(GRH, 8), [5, 5, 5, 5, 5, 5, 0xee, 0xee]);
}

#[test]
fn another_queue_key_is_dropped_before_anything_is_touched() {
    let mut alone = Alone::new(3);
    alone.receive(1, 0, 100);
    for qkey in [0, QKEY ^ 1, QKEY | 1 << 31, u32::MAX] {
        assert_eq!(alone.handle(&V4, &datagram(O::SendOnly, qkey), &[1; 8]), Err(DropReason::QueueKey));
    }
    assert_eq!((alone.done.len(), alone.qp.recv_outstanding(), alone.bytes(0, 100)), (0, 1, vec![0xee; 100]));
    alone.qp.set(Attributes { qkey: Some(9), ..Attributes::default() }).expect("RTS to RTS");
    assert_eq!(alone.handle(&V4, &datagram(O::SendOnly, QKEY), &[1; 8]), Err(DropReason::QueueKey));
    assert_eq!(alone.handle(&V4, &datagram(O::SendOnly, 9), &[1; 8]), Ok(()));
}

#[test]
fn a_controlled_queue_key_stands_for_the_senders_own() {
    let mut alone = Alone::new(3);
    for (asked, sent) in
        [(7, 7), (0x7fff_ffff, 0x7fff_ffff), (0x8000_0000, QKEY), (0x8001_0000, QKEY), (u32::MAX, QKEY)]
    {
        alone.post(SendOperation::SendImmediate(3), 10, asked);
        let headers = alone.sent().pop().expect("a packet");
        assert_eq!(headers.deth, Some(Deth { qkey: sent, src_qp: OWN }));
        assert_eq!((headers.immediate, headers.bth.dest_qp, headers.bth.solicited), (Some(3), SENDER, true));
        assert_eq!(alone.done.pop().map(|done| (done.id, done.status)), Some((5, Status::Success)));
    }
    // The wire's key is the queue pair's, also if that has the bit.
    alone.qp.set(Attributes { qkey: Some(0x8001_0000), ..Attributes::default() }).expect("RTS to RTS");
    alone.post(SendOperation::Send, 10, 0x8000_0001);
    assert_eq!(alone.sent()[0].deth.map(|deth| deth.qkey), Some(0x8001_0000));
}

#[test]
fn a_datagram_is_one_send_with_a_destination_and_fits_a_packet() {
    let mut alone = Alone::new(3);
    let longest = options().mtu.bytes();
    let too_long = alone.request(SendOperation::Send, longest + 1, 0);
    assert_eq!(alone.qp.post_send(too_long), Err(PostError::Datagram { len: longest + 1, mtu: longest }));
    alone.post(SendOperation::Send, longest, 0);
    let remote = RemoteAddress { va: 0, rkey: 0 };
    let write = alone.request(SendOperation::Write(remote), 4, 0);
    assert_eq!(alone.qp.post_send(write), Err(PostError::Operation));
    let nowhere = SendRequest { destination: None, ..alone.request(SendOperation::Send, 4, 0) };
    assert_eq!(alone.qp.post_send(nowhere), Err(PostError::Destination));
    assert_eq!(alone.qp.next_destination(), Some((Destination::Address(ADDRESS), SENDER)));
    assert_eq!(alone.sent().len(), 1);
    assert_eq!(alone.qp.next_destination(), None);
}

#[test]
fn what_has_no_room_is_dropped_and_leaves_the_request_to_the_next() {
    let mut alone = Alone::new(3);
    assert_eq!(alone.handle(&V4, &datagram(O::SendOnly, QKEY), &[]), Err(DropReason::ReceiverNotReady));
    alone.receive(1, 0, GRH + 8);
    assert_eq!(alone.handle(&V4, &datagram(O::SendOnly, QKEY), &[1; 9]), Err(DropReason::ReceiveTooShort));
    assert_eq!(alone.handle(&V4, &datagram(O::SendOnly, QKEY), &[1; 1025]), Err(DropReason::InvalidRequest));
    assert_eq!((alone.done.len(), alone.qp.recv_outstanding()), (0, 1));
    assert_eq!(alone.handle(&V4, &datagram(O::SendOnly, QKEY), &[1; 8]), Ok(()));
    assert_eq!(alone.done.len(), 1);
    alone.receive(2, 0, GRH - 1);
    assert_eq!(alone.handle(&V4, &datagram(O::SendOnly, QKEY), &[]), Err(DropReason::ReceiveTooShort));
    let connected = Headers::new(Bth::new(Opcode::rc(O::SendOnly), OWN, Psn::truncate(0)));
    assert_eq!(alone.handle(&V4, &connected, &[]), Err(DropReason::Transport));
    assert_eq!(Alone::new(1).handle(&V4, &datagram(O::SendOnly, QKEY), &[]), Err(DropReason::State));
}

#[test]
fn local_errors_stop_the_send_queue_or_end_the_queue_pair() {
    let mut alone = Alone::new(3);
    alone.receive(1, 0, 100);
    alone.receive(2, 0, 100);
    alone.post(SendOperation::Send, 4, 0);
    alone.ram.revoke(alone.region);
    assert_eq!((alone.sent(), alone.qp.state()), (vec![], State::SendQueueError));
    assert_eq!(alone.done.pop().map(|done| done.status), Some(Status::LocalProtection));
    assert_eq!(alone.handle(&V4, &datagram(O::SendOnly, QKEY), &[]), Err(DropReason::RemoteOperation));
    let ends: Vec<_> = alone.done.iter().map(|done| (done.id, done.status)).collect();
    assert_eq!(ends, [(1, Status::LocalProtection), (2, Status::Flushed)]);
    assert_eq!((alone.qp.state(), &alone.events[..]), (State::Error, &[AsyncEvent::Fatal][..]));
}

#[test]
fn over_any_link_each_datagram_that_arrives_is_one_that_was_sent() {
    const COUNT: usize = 50;
    let mut dropped = 0;
    for seed in seeds(100) {
        let mut rng = Rng::new(seed);
        let mut share = || f64::from(rng.below(150)) / 1000.0;
        let link = LinkConfig {
            latency_ns: 10_000,
            loss: Loss::Bernoulli(share()),
            duplicate: share(),
            corrupt: Corrupt { probability: share(), max_bits: 3 },
            reorder: Reorder { probability: share(), extra_delay_ns: 30_000 },
            ..LinkConfig::default()
        };
        let mut world = World::new(link, Receiving::Single, seed);
        let limits = Limits { max_send_requests: COUNT, window: 0 };
        let options = Options { limits, max_recv_requests: 4 * COUNT, ..options() };
        // Two queue pairs send to one.
        let pairs = [world.connect(&options), world.connect(&options)];
        let (to, longest) = (world.hosts[1].ends[pairs[0]].qpn, options.mtu.bytes() as usize);
        let room = GRH + longest;
        let inbox = world.hosts[1].ram.register(&mut rng, 0, vec![0; 4 * COUNT * room], Rights::LOCAL);
        for at in 0..4 * COUNT {
            let buffers = vec![Slice { region: inbox, offset: at * room, len: room }];
            let request = RecvRequest { id: at as u64, buffers, len: room as u64 };
            world.hosts[1].ends[pairs[0]].qp.post_recv(request).expect("there is room");
        }
        let mut sent = HashSet::new();
        for pair in pairs {
            let from = world.hosts[0].ends[pair].qpn;
            for at in 0..COUNT {
                let len = rng.index(longest + 1).max(8);
                let bytes = rng.bytes(len);
                let source = world.hosts[0].ram.register(&mut rng, 0, bytes.clone(), Rights::LOCAL);
                sent.insert((from, bytes));
                let destination = Datagram { address: ADDRESS, remote_qpn: to, remote_qkey: QKEY };
                let request = SendRequest {
                    id: at as u64,
                    operation: SendOperation::Send,
                    buffers: vec![Slice { region: source, offset: 0, len }],
                    len: u32::try_from(len).expect("short"),
                    signaled: false,
                    solicited: false,
                    fence: false,
                    destination: Some(Recipient::Datagram(destination)),
                };
                world.hosts[0].ends[pair].qp.post_send(request).expect("there is room");
            }
            world.pump(0, pair);
        }
        world.run(Duration::from_secs(1));
        let received = world.take_done(1, pairs[0], |_| true);
        let mut arrived = HashSet::new();
        for (order, done) in received.iter().enumerate() {
            assert_eq!(
                (done.id, done.status, done.grh),
                (order as u64, Status::Success, true),
                "RC_SEED={seed}"
            );
            let slice = Slice { region: inbox, offset: order * room, len: done.len as usize };
            let bytes = world.hosts[1].ram.bytes(slice)[GRH..].to_vec();
            let datagram = (done.source_qp.expect("datagrams say so"), bytes);
            assert!(sent.contains(&datagram), "RC_SEED={seed}: nobody sent number {order}");
            arrived.insert(datagram);
        }
        dropped += sent.len() - arrived.len();
        assert!(world.take_done(0, pairs[0], |_| true).is_empty(), "unsignaled");
        assert_eq!(world.hosts[1].ends[pairs[1]].qp.recv_outstanding(), 0);
    }
    assert!(dropped > 100 || std::env::var_os("RC_SEED").is_some(), "the links are bad enough: {dropped}");
}

#[test]
fn a_datagram_queue_pair_survives_any_packet() {
    let mut taken = 0;
    for seed in seeds(60) {
        let mut rng = Rng::new(seed);
        let mut alone = Alone::new(3);
        for step in 0..300 {
            if rng.percent(30) && alone.qp.recv_outstanding() < 8 {
                alone.receive(step, 0, rng.index(300));
            }
            let anything = rng.pick(&O::ALL);
            let operation = rng.pick(&[O::SendOnly, O::SendOnlyImm, anything]);
            let opcode = Opcode::Known {
                transport: rng.pick(&[Transport::Ud, Transport::Ud, Transport::Uc]),
                operation,
            };
            let mut zeros = [0; Headers::MAX_LEN];
            zeros[0] = opcode.to_byte();
            let Ok(has) = Packet::parse(&zeros[..Headers::len_for(opcode)]) else { continue };
            let any = rng.word();
            let qkey = rng.pick(&[QKEY, QKEY, any]);
            let headers = Headers {
                bth: Bth::new(opcode, OWN, Psn::truncate(rng.word())),
                deth: has.headers.deth.map(|_| Deth { qkey, src_qp: SENDER }),
                ..has.headers
            };
            let payload = if opcode.carries_payload() { rng.index(1200) } else { 0 };
            let packet = Packet { headers, payload: &[0x55; 1200][..payload] };
            taken += u32::from(alone.qp.handle_packet(Time::ZERO, &packet, &alone.ram).is_ok());
            alone.collect();
            assert_eq!((alone.sent(), alone.qp.state()), (vec![], State::ReadyToSend));
        }
        assert_eq!(
            alone.bytes(300, 1000),
            vec![0xee; 1000],
            "RC_SEED={seed}: no byte behind the requests changes"
        );
    }
    assert!(taken > 100, "{taken}");
}

#[test]
fn a_path_mtu_is_that_of_the_port() {
    let small = Options { mtu: Mtu::B256, ..options() };
    let mut qp = Driven::with(protocol(&small, OWN), 1);
    for change in changes(&small, SENDER, Psn::truncate(0), Psn::truncate(0)) {
        qp.set(change).expect("the usual transitions");
    }
    let alone = Alone::new(3);
    let request = alone.request(SendOperation::Send, 257, 0);
    assert_eq!(qp.post_send(request), Err(PostError::Datagram { len: 257, mtu: 256 }));
}
