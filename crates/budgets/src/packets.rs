//! Two queue pairs joined by nothing: what one sends, with its ICRC, the other takes.

use crate::count::counted_if;
use rocev2::icrc::{self, PseudoHeader};
use rocev2::transport::{Context, Limits, QueuePair, Source, rc};
use rocev2::wire::{Headers, Packet};
use rocev2::work::{
    AtomicOperation, Event, InitAttributes, LocalFault, Memory, PeerRights, ReceiveAttributes, ReceiveQueue,
    RecvRequest, RemoteAddress, RemoteFault, RemoteRight, SendAttributes, SendOperation, SendRequest,
    Transition,
};
use rocev2::{Mtu, Psn, Qpn, Time, UDP_PORT};
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A long message has so many full packets.
const PACKETS: u64 = 16;
const LONG: u32 = 16 * 4096;
const SHORT: u32 = 64;

/// A buffer that everything is copied from and to.
struct Ram(RefCell<Vec<u8>>);

impl Memory for Ram {
    type Buffers = ();
    type Grant = ();

    fn gather(&self, (): &(), offset: u32, out: &mut [u8]) -> Result<(), LocalFault> {
        let from = offset as usize;
        out.copy_from_slice(self.0.borrow().get(from..from + out.len()).ok_or(LocalFault)?);
        Ok(())
    }

    fn scatter(&self, (): &(), offset: u32, data: &[u8]) -> Result<(), LocalFault> {
        let from = offset as usize;
        self.0.borrow_mut().get_mut(from..from + data.len()).ok_or(LocalFault)?.copy_from_slice(data);
        Ok(())
    }

    fn grant(&self, _rkey: u32, _va: u64, _len: u32, _right: RemoteRight) -> Result<(), RemoteFault> {
        Ok(())
    }

    fn read(&self, (): &(), offset: u32, out: &mut [u8]) -> Result<(), RemoteFault> {
        self.gather(&(), offset, out).map_err(|_| RemoteFault)
    }

    fn write(&self, (): &(), offset: u32, data: &[u8]) -> Result<(), RemoteFault> {
        self.scatter(&(), offset, data).map_err(|_| RemoteFault)
    }

    fn atomic(&self, (): &(), _operation: AtomicOperation) -> Result<u64, RemoteFault> {
        Err(RemoteFault)
    }

    fn invalidate(&self, _rkey: u32) -> Result<(), RemoteFault> {
        Err(RemoteFault)
    }
}

struct Side {
    qp: QueuePair<Ram>,
    receives: ReceiveQueue<()>,
    ram: Ram,
    source: Source,
    out: PseudoHeader,
    into: PseudoHeader,
}

impl Side {
    fn new(own: u32, peer: u32) -> Self {
        let limits = Limits { max_send_requests: 16, window: 1 << 20 };
        let mut qp = QueuePair::Rc(rc::QueuePair::new(limits));
        let mut receives = ReceiveQueue::new(16);
        let rights = PeerRights { read: true, write: true, atomic: true };
        for transition in [
            Transition::Init(InitAttributes { rights }),
            Transition::ReadyToReceive(ReceiveAttributes {
                path_mtu: Mtu::B4096,
                peer_qpn: Qpn::truncate(peer),
                rq_psn: Psn::truncate(peer),
                max_dest_rd_atomic: 16,
                min_rnr_timer: 1,
            }),
            Transition::ReadyToSend(SendAttributes {
                sq_psn: Psn::truncate(own),
                timeout: 14,
                retry_count: 7,
                rnr_retry: 7,
                max_rd_atomic: 16,
            }),
        ] {
            qp.modify(transition, &mut receives).expect("a transition in order");
        }
        let address = |number: u32| IpAddr::from(Ipv4Addr::from(0xc000_0200 + number % 256));
        let header = |from, to| {
            let [from, to] = [from, to].map(|number| SocketAddr::new(address(number), UDP_PORT));
            PseudoHeader::new(from, to).expect("IPv4 both")
        };
        let (source, destination) = (address(peer), address(own));
        Self {
            qp,
            receives,
            source: Source { source, destination, traffic_class: None, hop_limit: None },
            ram: Ram(RefCell::new(vec![0x5a; LONG as usize])),
            out: header(own, peer),
            into: header(peer, own),
        }
    }

    /// The next packet, as a datagram in `out`.
    fn send(&mut self, out: &mut [u8]) -> Option<usize> {
        let mut cx = Context::new(&self.ram, &mut self.receives);
        let len = self.qp.poll_transmit(Time::ZERO, &mut cx, out)?.len + icrc::LEN;
        self.out.write(0, &mut out[..len]).expect("room");
        Some(len)
    }

    fn take(&mut self, datagram: &[u8]) {
        let verified = self.into.verify(0, datagram).expect("the right ICRC");
        let packet = Packet::parse(verified.packet).expect("a packet");
        let mut cx = Context::new(&self.ram, &mut self.receives);
        self.qp.handle_packet(Time::ZERO, &self.source, &packet, &mut cx).expect("taken");
    }

    /// Hands out what has completed.
    fn completed(&mut self) -> usize {
        std::iter::from_fn(|| self.qp.poll()).filter(|event| matches!(event, Event::Completion(_))).count()
    }
}

/// What one moves a message over, and where its parts are counted.
#[derive(Default)]
struct Counting {
    sent: bool,
    received: bool,
    answered: bool,
    acknowledged: bool,
}

/// Sends so many messages, one after another.
fn messages(count: u64, operation: SendOperation, len: u32, counting: &Counting) {
    let (mut client, mut server) = (Side::new(0x11_1111, 0x22_2222), Side::new(0x22_2222, 0x11_1111));
    let mut datagram = vec![0; Headers::MAX_LEN + 4096 + 3 + icrc::LEN];
    for id in 0..count {
        let request = RecvRequest { id, buffers: (), len: LONG.into() };
        server.qp.post_recv(request, &mut server.receives).ok();
        counted_if(counting.sent && len == SHORT, || {
            let request = SendRequest {
                id,
                operation,
                buffers: (),
                len,
                signaled: true,
                solicited: false,
                fence: false,
                destination: None,
            };
            client.qp.post_send(request).expect("room");
        });
        let mut completed = 0;
        while completed == 0 {
            while let Some(len) = counted_if(counting.sent, || client.send(&mut datagram)) {
                counted_if(counting.received, || {
                    server.take(&datagram[..len]);
                    server.completed()
                });
            }
            // A window that is still small lets a long message through in parts.
            let mut answers = 0;
            while let Some(len) = counted_if(counting.answered, || server.send(&mut datagram)) {
                counted_if(counting.acknowledged, || client.take(&datagram[..len]));
                answers += 1;
            }
            assert!(answers > 0, "what asks for an acknowledgement gets one");
            completed += counted_if(counting.acknowledged, || client.completed());
        }
    }
}

const WRITE: SendOperation = SendOperation::Write(RemoteAddress { va: 0, rkey: 0 });

pub(crate) fn sent(times: u64) {
    messages(times.div_ceil(PACKETS), WRITE, LONG, &Counting { sent: true, ..Counting::default() });
}

pub(crate) fn received(times: u64) {
    messages(times.div_ceil(PACKETS), WRITE, LONG, &Counting { received: true, ..Counting::default() });
}

pub(crate) fn small_sent(times: u64) {
    messages(times, SendOperation::Send, SHORT, &Counting { sent: true, ..Counting::default() });
}

pub(crate) fn small_received(times: u64) {
    messages(times, SendOperation::Send, SHORT, &Counting { received: true, ..Counting::default() });
}

pub(crate) fn acknowledgement_made(times: u64) {
    messages(times, SendOperation::Send, SHORT, &Counting { answered: true, ..Counting::default() });
}

pub(crate) fn acknowledgement_taken(times: u64) {
    messages(times, SendOperation::Send, SHORT, &Counting { acknowledged: true, ..Counting::default() });
}
