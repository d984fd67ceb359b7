//! Messages up to the 2 GiB that one may have, made and checked on the fly instead of stored.

use super::driven::Driven;
use super::lone::{Lone, OWN, PEER, RQ, VA, small};
use super::rng::Rng;
use super::world::{Options, transitions};
use rocev2::transport::{DropReason, Transmit};
use rocev2::wire::{Headers, Operation as O, Packet, Reth};
use rocev2::work::{
    AtomicOperation, Event, LocalFault, MAX_MESSAGE, Memory, RecvRequest, RemoteAddress, RemoteFault,
    RemoteRight, SendOperation, SendRequest, Status,
};
use rocev2::{Mtu, Psn, Time};
use std::cell::Cell;

/// A message whose bytes follow from their offset, and which must be stored from its beginning to its end,
/// each byte once.
struct Pattern {
    /// A period that shares no factor with any packet's or window's length, and a packet more.
    bytes: Vec<u8>,
    stored: Cell<u64>,
}

const PERIOD: u32 = 1_000_003;

impl Pattern {
    fn new() -> Self {
        let mut bytes = Rng::new(0).bytes(PERIOD as usize);
        bytes.extend_from_within(..4096);
        Self { bytes, stored: Cell::new(0) }
    }

    fn at(&self, offset: u32, len: usize) -> &[u8] {
        &self.bytes[(offset % PERIOD) as usize..][..len]
    }

    fn store(&self, offset: u32, data: &[u8]) {
        assert_eq!(u64::from(offset), self.stored.get(), "in order, and each byte once");
        assert!(data == self.at(offset, data.len()), "at {offset}");
        self.stored.set(self.stored.get() + data.len() as u64);
    }
}

impl Memory for Pattern {
    type Buffers = ();
    /// Where the granted range begins in the message: a long READ is asked for in pieces.
    type Grant = u32;

    fn gather(&self, (): &(), offset: u32, out: &mut [u8]) -> Result<(), LocalFault> {
        out.copy_from_slice(self.at(offset, out.len()));
        Ok(())
    }

    fn scatter(&self, (): &(), offset: u32, data: &[u8]) -> Result<(), LocalFault> {
        self.store(offset, data);
        Ok(())
    }

    fn grant(&self, _: u32, va: u64, len: u32, _: RemoteRight) -> Result<u32, RemoteFault> {
        let start = va.checked_sub(VA).ok_or(RemoteFault)?;
        if start + u64::from(len) > u64::from(MAX_MESSAGE) {
            return Err(RemoteFault);
        }
        u32::try_from(start).map_err(|_| RemoteFault)
    }

    fn read(&self, start: &u32, offset: u32, out: &mut [u8]) -> Result<(), RemoteFault> {
        out.copy_from_slice(self.at(start + offset, out.len()));
        Ok(())
    }

    fn write(&self, start: &u32, offset: u32, data: &[u8]) -> Result<(), RemoteFault> {
        self.store(start + offset, data);
        Ok(())
    }

    fn atomic(&self, _: &u32, _: AtomicOperation) -> Result<u64, RemoteFault> {
        Err(RemoteFault)
    }

    fn invalidate(&self, _: u32) -> Result<(), RemoteFault> {
        Err(RemoteFault)
    }
}

const REMOTE: RemoteAddress = RemoteAddress { va: VA, rkey: 1 };

/// Carries one message from a queue pair to another that is joined to it directly, and says how many packets
/// went each way.
fn carry(operation: SendOperation, len: u32, mtu: Mtu) -> [u64; 2] {
    let options = Options { mtu, ..small() };
    let psn = [Psn::truncate(0x12_3456), Psn::truncate(0xff_ffff)];
    let memories = [Pattern::new(), Pattern::new()];
    let mut pairs = [(PEER, psn[0], psn[1]), (OWN, psn[1], psn[0])].map(|(peer, own, other)| {
        let mut qp = Driven::<Pattern>::new(options.limits, options.max_recv_requests);
        for transition in transitions(&options, peer, own, other) {
            qp.modify(transition).expect("the usual transitions");
        }
        qp
    });
    pairs[1].post_recv(RecvRequest { id: 1, buffers: (), len: len.into() }).expect("there is room");
    let request = SendRequest {
        id: 0,
        operation,
        buffers: (),
        len,
        signaled: true,
        solicited: false,
        fence: false,
        destination: None,
    };
    pairs[0].post_send(request).expect("there is room");
    let mut packets = [0; 2];
    let mut bytes = vec![0; Headers::MAX_LEN + mtu.bytes() as usize + 3];
    let mut micros = 0;
    loop {
        micros += 10;
        let now = Time::from_nanos(micros * 1000);
        for from in 0..2 {
            while let Some(Transmit { len, .. }) = pairs[from].poll_transmit(now, &memories[from], &mut bytes)
            {
                packets[from] += 1;
                let packet = Packet::parse(&bytes[..len]).expect("what is sent can be read");
                assert_eq!(pairs[1 - from].handle_packet(now, &packet, &memories[1 - from]), Ok(()));
            }
        }
        if let Some(Event::Completion(done)) = pairs[0].poll() {
            assert_eq!((done.status, done.len), (Status::Success, len));
            break;
        }
    }
    let target = usize::from(!matches!(operation, SendOperation::Read(_)));
    assert_eq!(memories[target].stored.get(), u64::from(len), "all of it was stored");
    if operation == SendOperation::Send {
        let Some(Event::Completion(done)) = pairs[1].poll() else { panic!("the receive request completes") };
        assert_eq!((done.status, done.len), (Status::Success, len));
    }
    assert_eq!(pairs[0].snapshot().requester.retransmitted, 0);
    packets
}

#[test]
fn two_gibibytes_are_sent() {
    assert_eq!(carry(SendOperation::Send, MAX_MESSAGE, Mtu::B4096)[0], 1 << 19);
}

#[test]
fn two_gibibytes_are_written() {
    assert_eq!(carry(SendOperation::Write(REMOTE), MAX_MESSAGE, Mtu::B4096)[0], 1 << 19);
}

#[test]
fn two_gibibytes_are_read() {
    assert_eq!(carry(SendOperation::Read(REMOTE), MAX_MESSAGE, Mtu::B4096)[1], 1 << 19);
}

#[test]
fn two_gibibytes_in_the_smallest_packets_use_half_of_all_psns() {
    assert_eq!(carry(SendOperation::Write(REMOTE), MAX_MESSAGE, Mtu::B256)[0], 1 << 23);
}

/// Hardware asks for all of it in one request, whose numbers are half of the circle: the farthest that still
/// count as behind.
#[test]
fn a_read_of_two_gibibytes_in_one_request_is_answered_and_repeated_from_its_beginning_to_its_end() {
    const PACKETS: i32 = 1 << 23;
    let memory = Pattern::new();
    let mut qp = Driven::<Pattern>::new(small().limits, 64);
    for transition in transitions(&small(), PEER, Psn::default(), RQ) {
        qp.modify(transition).expect("the usual transitions");
    }
    let mut bytes = [0; Headers::MAX_LEN + 256 + 3];
    let handle = |qp: &mut Driven<Pattern>, headers: &Headers| {
        let mut bytes = [0; Headers::MAX_LEN];
        let len = headers.encode(&mut bytes).expect("there is room");
        let packet = Packet::parse(&bytes[..len]).expect("it was just written");
        qp.handle_packet(Time::ZERO, &packet, &memory)
    };
    let mut expect = |qp: &mut Driven<Pattern>, from: i32, count: i32| {
        for number in (from..PACKETS).take(usize::try_from(count).expect("not negative")) {
            let Transmit { len, .. } = qp.poll_transmit(Time::ZERO, &memory, &mut bytes).expect("a response");
            let packet = Packet::parse(&bytes[..len]).expect("what is sent can be read");
            assert_eq!(packet.headers.bth.psn, RQ.plus(number.unsigned_abs()));
            assert_eq!(packet.payload, memory.at(256 * number.unsigned_abs(), 256));
        }
    };
    let whole = Reth { va: VA, rkey: 1, len: MAX_MESSAGE };
    let read = Lone::request_with(O::ReadRequest, 0, whole);
    let duplicate = Err(DropReason::Duplicate);
    assert_eq!(handle(&mut qp, &read), Ok(()));
    expect(&mut qp, 0, 1000);
    // It goes on, and its beginning is repeated behind its end.
    assert_eq!(handle(&mut qp, &read), duplicate);
    expect(&mut qp, 1000, PACKETS - 1000);
    expect(&mut qp, 0, PACKETS);
    assert_eq!(qp.poll_transmit(Time::ZERO, &memory, &mut [0; 400]), None);
    let rest = Reth { va: VA + u64::from(MAX_MESSAGE) - 2560, len: 2560, ..whole };
    assert_eq!(handle(&mut qp, &Lone::request_with(O::ReadRequest, PACKETS - 10, rest)), duplicate);
    expect(&mut qp, PACKETS - 10, 10);
    assert_eq!(qp.poll_transmit(Time::ZERO, &memory, &mut [0; 400]), None);
    assert_eq!(handle(&mut qp, &read), duplicate);
    expect(&mut qp, 0, 10);
    let next = Lone::request_with(O::WriteOnly, PACKETS, Reth { len: 0, ..whole });
    assert_eq!(handle(&mut qp, &next), Ok(()));
}
