//! One queue pair whose peer's packets are written by hand.

use super::driven::{Driven, Shared};
use super::memory::{Ram, RegionId, Rights, Slice};
use super::rng::Rng;
use super::world::{Options, check_transmit, protocol, transitions};
use rocev2::transport::DropReason;
use rocev2::wire::{Aeth, AtomicEth, Bth, Headers, NakCode, Opcode, Operation, Packet, Reth, Syndrome};
use rocev2::work::{
    AsyncEvent, AtomicOperation, Completion, Event, PostError, RecvRequest, RemoteAddress, SendOperation,
    SendRequest, State, Status, Transition,
};
use rocev2::{Mtu, Psn, Qpn, Time};
use std::time::Duration;

/// The queue pair's own number, and its peer's.
pub(crate) const OWN: Qpn = Qpn::truncate(0x1234);
pub(crate) const PEER: Qpn = Qpn::truncate(0xabcd);
/// The first PSN of the queue pair, and of its peer: both meet the end soon.
pub(crate) const SQ: Psn = Psn::truncate(0xff_fffe);
pub(crate) const RQ: Psn = Psn::truncate(0xff_fffd);

/// Bytes of the region that the queue pair and its peer both use.
pub(crate) const REGION: usize = 1 << 20;
/// Where the peer sees it.
pub(crate) const VA: u64 = 0xffff_0000;

/// A packet that the queue pair sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Out {
    pub(crate) operation: Operation,
    /// How far its PSN is from the first of its direction.
    pub(crate) number: i32,
    pub(crate) headers: Headers,
    pub(crate) payload: Vec<u8>,
}

impl Out {
    /// What it acknowledges or refuses.
    pub(crate) fn syndrome(&self) -> Option<Syndrome> {
        self.headers.aeth.map(|aeth| aeth.syndrome)
    }
}

pub(crate) const ACK: Syndrome = Syndrome::Ack { credits: Syndrome::NO_CREDITS };
pub(crate) const SEQUENCE_ERROR: Syndrome = Syndrome::Nak(NakCode::PsnSequenceError);

pub(crate) struct Lone {
    pub(crate) qp: Driven<Ram>,
    pub(crate) ram: Ram,
    pub(crate) region: RegionId,
    pub(crate) now: Time,
    pub(crate) events: Vec<AsyncEvent>,
    pub(crate) done: Vec<Completion>,
}

impl Lone {
    pub(crate) fn new(options: &Options) -> Self {
        Self::in_state(State::ReadyToSend, options)
    }

    /// A queue pair in that state, led there from RESET.
    pub(crate) fn in_state(state: State, options: &Options) -> Self {
        let ram = Ram::default();
        let region = ram.register(&mut Rng::new(1), VA, Rng::new(2).bytes(REGION), Rights::ALL);
        let qp = Driven::new(options.limits, options.max_recv_requests);
        let mut lone = Self { qp, ram, region, now: Time::ZERO, events: Vec::new(), done: Vec::new() };
        lone.restart(state, options);
        lone
    }

    /// A queue pair that takes its receive requests from `receives`.
    pub(crate) fn sharing(receives: Shared<Vec<Slice>>) -> Self {
        let mut lone = Self::new(&small());
        lone.qp = Driven::sharing(protocol(&small(), OWN), receives);
        for transition in transitions(&small(), PEER, SQ, RQ) {
            lone.qp.modify(transition).expect("the usual transitions");
        }
        lone
    }

    /// A new queue pair, with the same memory.
    pub(crate) fn restart(&mut self, state: State, options: &Options) {
        let mut qp = Driven::new(options.limits, options.max_recv_requests);
        let [init, receive, send] = transitions(options, PEER, SQ, RQ);
        let path: &[Transition] = match state {
            State::Reset => &[],
            State::Init => &[init],
            State::ReadyToReceive => &[init, receive],
            State::ReadyToSend => &[init, receive, send],
            State::SendQueueDrain => &[init, receive, send, Transition::Drain],
            State::Error => &[init, receive, send, Transition::Error],
            State::SendQueueError => panic!("a reliable connection never gets there"),
        };
        for &transition in path {
            qp.modify(transition).expect("the usual transitions");
        }
        assert_eq!(qp.state(), state);
        self.qp = qp;
        self.collect();
        self.events.clear();
        self.done.clear();
    }

    pub(crate) fn rkey(&self) -> u32 {
        self.ram.rkey(self.region)
    }

    /// That many bytes of the region.
    pub(crate) fn slice(&self, offset: usize, len: usize) -> Slice {
        Slice { region: self.region, offset, len }
    }

    /// A part of the region as the peer names it.
    pub(crate) fn reth(&self, offset: u64, len: u32) -> Reth {
        Reth { va: VA + offset, rkey: self.rkey(), len }
    }

    pub(crate) fn atomic(&self, offset: u64) -> AtomicEth {
        AtomicEth { va: VA + offset, rkey: self.rkey(), swap_or_add: 1, compare: 0 }
    }

    /// A place at the peer.
    pub(crate) const REMOTE: RemoteAddress = RemoteAddress { va: 0x7000, rkey: 0x5555 };

    /// Posts a send request whose bytes begin at the region's start.
    pub(crate) fn post(&mut self, id: u64, operation: SendOperation, len: u32) {
        self.try_post(id, operation, len, true).expect("the request is taken");
    }

    pub(crate) fn try_post(
        &mut self,
        id: u64,
        operation: SendOperation,
        len: u32,
        signaled: bool,
    ) -> Result<(), PostError> {
        let buffers = vec![self.slice(0, len as usize)];
        let request = SendRequest {
            id,
            operation,
            buffers,
            len,
            signaled,
            solicited: false,
            fence: false,
            destination: None,
        };
        let result = self.qp.post_send(request);
        self.collect();
        result
    }

    pub(crate) fn fetch_add() -> SendOperation {
        SendOperation::Atomic(Self::REMOTE, AtomicOperation::FetchAdd { add: 1 })
    }

    pub(crate) fn post_recv(&mut self, id: u64, len: usize) {
        let buffers = vec![self.slice(REGION / 2, len)];
        let request = RecvRequest { id, buffers, len: len as u64 };
        self.qp.post_recv(request).expect("the request is taken");
        self.collect();
    }

    /// A request packet's headers: the peer's packet with that number, counted from 0.
    pub(crate) fn request(operation: Operation, number: i32) -> Headers {
        let mut bth = Bth::new(Opcode::rc(operation), OWN, at(RQ, number));
        bth.ack_req = true;
        let mut headers = Headers::new(bth);
        match operation {
            Operation::SendOnlyImm | Operation::SendLastImm | Operation::WriteLastImm => {
                headers.immediate = Some(7);
            }
            Operation::SendLastInvalidate | Operation::SendOnlyInvalidate => headers.invalidate = Some(7),
            _ => {}
        }
        headers
    }

    /// The same with a RETH.
    pub(crate) fn request_with(operation: Operation, number: i32, reth: Reth) -> Headers {
        let mut headers = Self::request(operation, number);
        headers.reth = Some(reth);
        if operation == Operation::WriteOnlyImm {
            headers.immediate = Some(7);
        }
        headers
    }

    /// An answer's headers, to the queue pair's packet with that number.
    pub(crate) fn response(operation: Operation, number: i32, syndrome: Syndrome) -> Headers {
        let mut headers = Headers::new(Bth::new(Opcode::rc(operation), OWN, at(SQ, number)));
        if operation != Operation::ReadResponseMiddle {
            headers.aeth = Some(Aeth { syndrome, msn: 0 });
        }
        if operation == Operation::AtomicAcknowledge {
            headers.atomic_ack = Some(77);
        }
        headers
    }

    /// Gives the queue pair a packet.
    pub(crate) fn handle(&mut self, headers: &Headers, payload: &[u8]) -> Result<(), DropReason> {
        let mut bytes = vec![0; Headers::MAX_LEN + payload.len() + 3];
        let frame = headers.frame(&mut bytes, payload.len()).expect("the headers fit the opcode");
        frame.payload.copy_from_slice(payload);
        let len = frame.len;
        let packet = Packet::parse(&bytes[..len]).expect("it was just written");
        let result = self.qp.handle_packet(self.now, &packet, &self.ram);
        self.collect();
        result
    }

    pub(crate) fn ack(&mut self, number: i32) -> Result<(), DropReason> {
        self.handle(&Self::response(Operation::Acknowledge, number, ACK), &[])
    }

    pub(crate) fn nak(&mut self, number: i32, syndrome: Syndrome) -> Result<(), DropReason> {
        self.handle(&Self::response(Operation::Acknowledge, number, syndrome), &[])
    }

    /// The next packet that the queue pair sends.
    pub(crate) fn next_sent(&mut self) -> Option<Out> {
        let mut bytes = vec![0; Headers::MAX_LEN + 4096 + 3];
        let transmit = self.qp.poll_transmit(self.now, &self.ram, &mut bytes);
        self.collect();
        let transmit = transmit?;
        let packet = Packet::parse(&bytes[..transmit.len]).expect("what is sent can be read");
        check_transmit(&transmit, &packet);
        let Opcode::Known { operation, .. } = packet.headers.bth.opcode else {
            panic!("only known packets are sent")
        };
        assert_eq!(packet.headers.bth.dest_qp, PEER);
        let origin = if operation.is_request() { SQ } else { RQ };
        let number = packet.headers.bth.psn.distance_from(origin);
        Some(Out { operation, number, headers: packet.headers, payload: packet.payload.to_vec() })
    }

    /// Everything that the queue pair sends now.
    pub(crate) fn sent(&mut self) -> Vec<Out> {
        let sent: Vec<Out> = std::iter::from_fn(|| self.next_sent()).take(100_000).collect();
        assert!(sent.len() < 100_000, "it sends without end");
        sent
    }

    /// The same, each packet's operation and number.
    pub(crate) fn sent_brief(&mut self) -> Vec<(Operation, i32)> {
        self.sent().iter().map(|out| (out.operation, out.number)).collect()
    }

    /// Goes to the next moment that the queue pair wants to be called at, and calls it. False if there is none.
    pub(crate) fn time_out(&mut self) -> bool {
        let Some(at) = self.qp.poll_timeout() else { return false };
        self.now = self.now.max(at);
        self.qp.handle_timeout(self.now);
        assert!(
            self.qp.poll_timeout().is_none_or(|next| next > self.now),
            "it wants to be called again at once"
        );
        self.collect();
        true
    }

    pub(crate) fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    pub(crate) fn collect(&mut self) {
        while let Some(event) = self.qp.poll() {
            match event {
                Event::Completion(completion) => self.done.push(completion),
                Event::Async(event) => self.events.push(event),
            }
        }
    }

    /// Which requests completed, and how; takes them.
    pub(crate) fn outcome(&mut self) -> Vec<(u64, Status)> {
        self.done.drain(..).map(|completion| (completion.id, completion.status)).collect()
    }
}

fn at(origin: Psn, number: i32) -> Psn {
    Psn::truncate(origin.get().wrapping_add(number.cast_unsigned()))
}

/// Options for hand-written packets: small packets, a large window.
pub(crate) fn small() -> Options {
    Options { mtu: Mtu::B256, ..Options::default() }
}
