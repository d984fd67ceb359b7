//! Packets for a queue pair, in any order and state, between this side's own requests and timeouts: queues
//! keep their bounds, nothing is sent without end, no byte is written that nobody was to write, and each
//! request ends at most once.

mod memory;

use crate::input::Input;
use memory::{RKEY, Ram, SIZE, VA};
use rocev2::transport::{Context, Limits, QueuePair, Source, rc};
use rocev2::wire::{Aeth, AtomicEth, Bth, Headers, Opcode, Operation, Packet, Reth, Syndrome};
use rocev2::work::{
    AtomicOperation, Attributes, Event, InitAttributes, PeerRights, QueuePairType, ReceiveAttributes,
    ReceiveQueue, Recipient, RecvRequest, RemoteAddress, SendAttributes, SendOperation, SendRequest, State,
    Transition,
};
use rocev2::{Mtu, Psn, Qpn, Srqn, Time};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::time::Duration;

const STEPS: usize = 300;
/// READs and atomics under way at a time.
const DEPTH: u8 = 4;
const REQUESTS: usize = 8;
const LIMITS: Limits = Limits { max_send_requests: REQUESTS, window: 20_000 };
/// Packets that are sent at once: all answers and all requests that there may be, as long as they may be.
const BURST: usize = 1000;
/// Where the circle of PSNs closes soon after.
const SQ: Psn = Psn::truncate(0xff_fffe);
const RQ: Psn = Psn::truncate(0xff_fffd);
const SOURCE: Source = Source {
    source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    destination: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
    traffic_class: None,
    hop_limit: None,
};
/// The shared receive queue that an extended reliable connection uses.
const XRC_SRQ: Srqn = Srqn::truncate(0x4321);
const REMOTE: RemoteAddress = RemoteAddress { va: 0x7000, rkey: 0x5555 };

/// Without the attributes that a queue pair of this type doesn't take.
fn fitting(of: QueuePairType, change: Attributes) -> Attributes {
    match of {
        QueuePairType::XrcInitiator => Attributes { max_dest_rd_atomic: None, min_rnr_timer: None, ..change },
        QueuePairType::XrcTarget => {
            Attributes { retry_count: None, rnr_retry: None, max_rd_atomic: None, ..change }
        }
        _ => change,
    }
}

struct Bench {
    of: QueuePairType,
    qp: QueuePair<Ram>,
    receives: ReceiveQueue<Range<usize>>,
    ram: Ram,
    now: Time,
    /// Numbers of the requests, send and receive, that haven't ended.
    open: [Range<u64>; 2],
    /// The PSN that the peer would use next.
    next: u32,
    /// A packet.
    out: Vec<u8>,
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let rights = input.u8();
    // Most are of a reliable connection.
    let of = match rights >> 6 {
        2 => QueuePairType::XrcInitiator,
        3 => QueuePairType::XrcTarget,
        _ => QueuePairType::Rc,
    };
    let rights = PeerRights { read: rights & 1 == 0, write: rights & 2 == 0, atomic: rights & 4 == 0 };
    let mut qp = QueuePair::Rc(match of {
        QueuePairType::XrcInitiator => rc::QueuePair::xrc_initiator(LIMITS),
        QueuePairType::XrcTarget => rc::QueuePair::xrc_target(),
        _ => rc::QueuePair::new(LIMITS),
    });
    let mut receives = match of {
        QueuePairType::XrcTarget => ReceiveQueue::shared(REQUESTS),
        _ => ReceiveQueue::new(REQUESTS),
    };
    let path = [
        Transition::Init(InitAttributes { rights }),
        Transition::ReadyToReceive(ReceiveAttributes {
            path_mtu: Mtu::B256,
            peer_qpn: Qpn::truncate(0xabcd),
            rq_psn: RQ,
            max_dest_rd_atomic: DEPTH,
            min_rnr_timer: 1,
        }),
        Transition::ReadyToSend(SendAttributes {
            sq_psn: SQ,
            timeout: 14,
            retry_count: 7,
            rnr_retry: input.u8() % 8,
            max_rd_atomic: DEPTH,
        }),
        Transition::Drain,
        Transition::Error,
    ];
    // Mostly ready to send.
    let steps = [3, 3, 3, 3, 0, 1, 2, 4, 5][usize::from(input.u8()) % 9];
    for transition in path.into_iter().take(steps) {
        let change = fitting(of, transition.into());
        qp.set_attributes(&change, &mut receives).expect("the usual transitions");
    }
    let mut bench = Bench {
        of,
        qp,
        receives,
        ram: Ram::new(rights),
        now: Time::ZERO,
        open: [0..0, 0..0],
        next: 0,
        out: vec![0; Headers::MAX_LEN + 4096 + 3],
    };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 16 {
            0..=7 => bench.packet(&mut input),
            8 => bench.raw(input.piece()),
            9 | 10 => bench.transmit(usize::from(input.u8() % 4) + 1),
            11 => bench.transmit(BURST),
            12 => bench.time_out(),
            13 | 14 => bench.post_send(&mut input),
            _ => bench.post_recv(),
        }
        bench.check();
    }
    assert!(bench.ram.is_intact(), "a byte was written that nobody was to write");
    // Whatever was, the queue pair comes to an end.
    if bench.qp.state() != State::Reset {
        bench.qp.modify(Transition::Error, &mut bench.receives).expect("from any state but RESET");
        bench.check();
        let [sends, receives] = &bench.open;
        assert!(sends.is_empty(), "each request has ended");
        // Nobody else's end takes a shared one along.
        assert!(receives.is_empty() || of == QueuePairType::XrcTarget);
        assert_eq!(bench.qp.poll_timeout(), None);
    }
}

impl Bench {
    /// A packet of the peer's whose headers fit its opcode, near what is expected.
    fn packet(&mut self, input: &mut Input<'_>) {
        let operation = input.pick(&Operation::ALL);
        let near = i32::from(input.u8().cast_signed() / 16);
        let psn = if operation.is_request() {
            RQ.plus(self.next.wrapping_add_signed(near))
        } else {
            self.qp.unacknowledged().plus(0_u32.wrapping_add_signed(near))
        };
        let bits = input.u8();
        let bth = Bth {
            ack_req: bits & 1 != 0,
            solicited: bits & 2 != 0,
            ..Bth::new(
                Opcode::Known { transport: self.of.transport(), operation },
                Qpn::truncate(0x1234),
                psn,
            )
        };
        let rkey = if bits & 4 == 0 { RKEY } else { input.u32() };
        let va = if bits & 8 == 0 { VA + u64::from(input.u16()) % SIZE as u64 } else { input.u64() };
        let len = if bits & 16 == 0 { u32::from(input.u16() % 2048) } else { input.u32() };
        // Those headers that the opcode has.
        let mut zeros = [0; Headers::MAX_LEN];
        zeros[0] = bth.opcode.to_byte();
        let zeros = &zeros[..Headers::len_for(bth.opcode)];
        let has = Packet::parse(zeros).expect("a packet of zeros").headers;
        let syndrome = Syndrome::from_byte(if has.aeth.is_some() { input.u8() } else { 0 });
        let headers = Headers {
            // Now and then one of another domain.
            xrc_srq: has.xrc_srq.map(|_| if bits & 12 == 12 { Srqn::truncate(rkey) } else { XRC_SRQ }),
            reth: has.reth.map(|_| Reth { va, rkey, len }),
            atomic: has.atomic.map(|_| AtomicEth { va: va & !7, rkey, swap_or_add: len.into(), compare: 0 }),
            aeth: has.aeth.map(|_| Aeth { syndrome, msn: len & 0xff_ffff }),
            atomic_ack: has.atomic_ack.map(|_| va),
            immediate: has.immediate.map(|_| len),
            invalidate: has.invalidate.map(|_| rkey),
            ..Headers::new(bth)
        };
        let lens = [256, 256, 256, 0, 1, 255, 257, usize::from(input.u8())];
        let len = if bth.opcode.carries_payload() { lens[usize::from(bits >> 5)] } else { 0 };
        let packet = Packet { headers, payload: &[0x55; 300][..len] };
        let packets = headers.reth.filter(|_| operation == Operation::ReadRequest);
        let packets = packets.map_or(1, |reth| Mtu::B256.packets(reth.len));
        let taken = self.handle(&packet);
        if taken && operation.is_request() && near == 0 {
            self.next = self.next.wrapping_add(packets);
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        if let Ok(packet) = Packet::parse(bytes) {
            self.handle(&packet);
        }
    }

    /// Gives the queue pair a packet, and says whether it took it.
    fn handle(&mut self, packet: &Packet<'_>) -> bool {
        // The target's domain has one queue; a message that is arriving keeps it.
        let target = self.of == QueuePairType::XrcTarget;
        let there = self.qp.message_arrives() || packet.headers.xrc_srq == Some(XRC_SRQ);
        let xrc_srq = (target && there).then_some(XRC_SRQ);
        let mut cx = Context { memory: &self.ram, receives: &mut self.receives, xrc_srq };
        self.qp.handle_packet(self.now, &SOURCE, packet, &mut cx).is_ok()
    }

    fn transmit(&mut self, most: usize) {
        for sent in 0.. {
            assert!(sent < BURST || most < BURST, "it sends without end");
            if sent == most {
                break;
            }
            let mut cx = Context::new(&self.ram, &mut self.receives);
            let Some(transmit) = self.qp.poll_transmit(self.now, &mut cx, &mut self.out) else { break };
            let packet = Packet::parse(&self.out[..transmit.len]).expect("what is sent can be read");
            assert!(packet.payload.len() <= 256, "no packet is longer than the path takes");
        }
    }

    fn time_out(&mut self) {
        let Some(at) = self.qp.poll_timeout() else { return };
        self.now = self.now.max(at);
        self.qp.handle_timeout(self.now, &mut self.receives);
        let next = self.qp.poll_timeout();
        assert!(next.is_none_or(|next| next > self.now), "it wants to be called again at once");
        self.now = self.now + Duration::from_nanos(1);
    }

    fn post_send(&mut self, input: &mut Input<'_>) {
        let operation = input.pick(&[
            SendOperation::Send,
            SendOperation::SendImmediate(7),
            SendOperation::SendInvalidate(7),
            SendOperation::Write(REMOTE),
            SendOperation::WriteImmediate(REMOTE, 7),
            SendOperation::Read(REMOTE),
            SendOperation::Atomic(REMOTE, AtomicOperation::FetchAdd { add: 1 }),
            SendOperation::Atomic(REMOTE, AtomicOperation::CompareSwap { compare: 0, swap: 1 }),
            SendOperation::BindWindow,
            SendOperation::LocalInvalidate(RKEY),
            SendOperation::LocalInvalidate(7),
        ]);
        let flags = input.u8();
        let len = match operation {
            SendOperation::Atomic(..) => 8,
            _ => u32::from(input.u16() % 1500),
        };
        // Some buffers are too short.
        let buffers = 0..(len as usize).saturating_sub(usize::from(flags & 8));
        let writes = operation.is_read_or_atomic();
        let request = SendRequest {
            id: self.open[0].end,
            operation,
            buffers: buffers.clone(),
            len,
            signaled: true,
            solicited: flags & 2 != 0,
            fence: flags & 4 != 0,
            destination: (self.of == QueuePairType::XrcInitiator)
                .then_some(Recipient::SharedReceiveQueue(XRC_SRQ)),
        };
        if self.qp.post_send(request).is_ok() {
            self.open[0].end += 1;
            if writes {
                self.ram.reach(&buffers);
            }
        }
    }

    fn post_recv(&mut self) {
        let buffers = 2048..3072;
        let request = RecvRequest { id: self.open[1].end, buffers: buffers.clone(), len: 1024 };
        let taken = match self.of {
            QueuePairType::XrcTarget => self.receives.post(request),
            _ => self.qp.post_recv(request, &mut self.receives),
        };
        if taken.is_ok() {
            self.open[1].end += 1;
            self.ram.reach(&buffers);
        }
    }

    fn check(&mut self) {
        let snapshot = self.qp.snapshot();
        assert!(snapshot.answers_waiting <= 4 * usize::from(DEPTH) + 2, "{snapshot:?}");
        let outstanding = [snapshot.send_outstanding, self.receives.outstanding()];
        assert!(outstanding.iter().all(|&count| count <= REQUESTS));
        while let Some(event) = self.qp.poll() {
            let Event::Completion(done) = event else { continue };
            assert_eq!(
                self.open[usize::from(done.kind.is_recv())].next(),
                Some(done.id),
                "each ends once, in order"
            );
        }
        let open = self.open.each_ref().map(|open| open.end - open.start);
        assert_eq!(open, outstanding.map(|count| count as u64));
    }
}
