//! The attacker on the path: every packet goes through its hands. It lets them pass, unless a rule says otherwise.

use crate::network::{ATTACKER, CLIENT, Machine, Network, SERVER};
use crate::packets::{datagram, packet};
use rdma_verbs::esp::Spi;
use rocev2::icrc;
use rocev2::wire::{Headers, Opcode, Operation, Packet};
use rocev2::{Mtu, Psn, Qpn};
use secure_rdma::SessionInfo;
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a thread that waits for packets looks whether it is over.
const LOOK: Duration = Duration::from_millis(20);

/// Where a packet goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

impl Way {
    pub(crate) const fn back(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// A packet on its way.
#[derive(Clone, Debug)]
pub(crate) struct Caught {
    pub(crate) way: Way,
    pub(crate) headers: Headers,
    pub(crate) payload: Vec<u8>,
}

impl Caught {
    pub(crate) fn operation(&self) -> Operation {
        match self.headers.bth.opcode {
            Opcode::Known { operation, .. } => operation,
            other => panic!("{other:?}"),
        }
    }

    /// Whether it carries a message, or a part of one, of the client's.
    pub(crate) fn is_send_to_server(&self) -> bool {
        self.is_send(Way::ToServer)
    }

    /// The same of the server's.
    pub(crate) fn is_send_to_client(&self) -> bool {
        self.is_send(Way::ToClient)
    }

    fn is_send(&self, way: Way) -> bool {
        self.way == way && self.operation().is_send()
    }

    pub(crate) fn psn(&self) -> Psn {
        self.headers.bth.psn
    }
}

/// A sealed packet on its way: all that there is to see of it.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) way: Way,
    /// ESP: the SPI, the number, and what is encrypted.
    pub(crate) bytes: Vec<u8>,
}

/// Takes a packet and puts what is to be sent instead, to whomever, into the list.
type Rule = Box<dyn FnMut(Caught, &mut Vec<Caught>) + Send>;

/// The same for sealed ones.
type SealedRule = Box<dyn FnMut(Sealed, &mut Vec<Sealed>) + Send>;

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    on_sealed: Option<SealedRule>,
    seen: Vec<Caught>,
    sealed: Vec<Sealed>,
    /// Of each of the server's queue pairs, the PSN that it expects.
    expected: HashMap<Qpn, Psn>,
    /// By how much the PSNs of the requests that go that way are behind what their receiver expects, by either queue
    /// pair: since packets were put in or left out.
    shifts: HashMap<(Way, Qpn), u32>,
}

pub(crate) struct Middle {
    state: Arc<Mutex<State>>,
    sockets: Arc<Sockets>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Each has the address of one end, receives what is for it, and sends in its name.
struct Sockets {
    as_server: UdpSocket,
    as_client: UdpSocket,
    as_itself: UdpSocket,
    /// Packets to the server come from the attacker's own address.
    from_own_address: AtomicBool,
}

impl Sockets {
    fn send(&self, caught: &Caught) {
        let (from, to) = self.path(caught.way);
        let own = from.local_addr().expect("its address");
        from.send_to(&datagram(own, to, &caught.headers, &caught.payload), to).expect("sent");
    }

    fn send_sealed(&self, sealed: &Sealed) {
        let (from, to) = self.path(sealed.way);
        from.send_to(&sealed.bytes, to).expect("sent");
    }

    /// From where, and to where.
    fn path(&self, way: Way) -> (&UdpSocket, SocketAddr) {
        match way {
            Way::ToServer if self.from_own_address.load(Ordering::Relaxed) => {
                (&self.as_itself, address(SERVER))
            }
            Way::ToServer => (&self.as_client, address(SERVER)),
            Way::ToClient => (&self.as_server, address(CLIENT)),
        }
    }
}

fn address(text: &str) -> SocketAddr {
    SocketAddr::new(text.parse().expect("an address"), rocev2::UDP_PORT)
}

impl Middle {
    pub(crate) fn new(network: &Network) -> Self {
        let door = network.door(Machine::Attacker);
        let (sender, sockets) = mpsc::channel();
        std::thread::spawn(move || {
            door();
            let socket = |text| {
                let socket = UdpSocket::bind(address(text)).expect("another's address");
                socket.set_read_timeout(Some(LOOK)).expect("a time limit");
                socket
            };
            let sockets = Sockets {
                as_server: socket(SERVER),
                as_client: socket(CLIENT),
                as_itself: socket(ATTACKER),
                from_own_address: AtomicBool::new(false),
            };
            sender.send(Arc::new(sockets)).expect("wanted");
        });
        let sockets = sockets.recv().expect("sockets");
        let (state, stop) = (Arc::default(), Arc::default());
        let threads = [Way::ToServer, Way::ToClient]
            .map(|way| {
                let (state, sockets, stop) = (Arc::clone(&state), Arc::clone(&sockets), Arc::clone(&stop));
                std::thread::spawn(move || relay(way, &state, &sockets, &stop))
            })
            .into();
        Self { state, sockets, stop, threads }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no rule has panicked")
    }

    /// From now on every packet is treated so.
    pub(crate) fn rule(&self, rule: impl FnMut(Caught, &mut Vec<Caught>) + Send + 'static) {
        self.state().rule = Some(Box::new(rule));
    }

    /// From now on every packet that `which` holds for is changed so.
    pub(crate) fn change(
        &self,
        which: impl Fn(&Caught) -> bool + Send + 'static,
        mut change: impl FnMut(&mut Caught) + Send + 'static,
    ) {
        self.rule(move |mut caught, out| {
            if which(&caught) {
                change(&mut caught);
            }
            out.push(caught);
        });
    }

    /// From now on every sealed packet is treated so.
    pub(crate) fn on_sealed(&self, rule: impl FnMut(Sealed, &mut Vec<Sealed>) + Send + 'static) {
        self.state().on_sealed = Some(Box::new(rule));
    }

    /// From now on everything passes.
    pub(crate) fn let_pass(&self) {
        let mut state = self.state();
        state.rule = None;
        state.on_sealed = None;
    }

    /// Whether packets for the server are sent on from the attacker's address instead of the client's.
    pub(crate) fn readdress(&self, on: bool) {
        self.sockets.from_own_address.store(on, Ordering::Relaxed);
    }

    /// Every sealed packet that was sent so far, as it was sent.
    pub(crate) fn sealed(&self) -> Vec<Sealed> {
        self.state().sealed.clone()
    }

    /// Sends a sealed packet as it is.
    pub(crate) fn send_sealed(&self, sealed: &Sealed) {
        self.sockets.send_sealed(sealed);
    }

    /// Everything that was sent so far, as it was sent.
    pub(crate) fn seen(&self) -> Vec<Caught> {
        self.state().seen.clone()
    }

    /// Sends a packet as it is.
    pub(crate) fn send(&self, caught: &Caught) {
        self.sockets.send(caught);
    }

    /// Puts a request of the client's in that the client never made. Its own requests are told to the server
    /// with PSNs that are moved on from then on, and the answers with those that the client knows.
    pub(crate) fn put_in(
        &self,
        client: &SessionInfo,
        operation: Operation,
        fill: impl FnOnce(&mut Headers),
        payload: &[u8],
    ) {
        let (server, own) = (client.remote.qpn, client.own.qpn);
        let mut state = self.state();
        let expected = state.expected.entry(server).or_insert(client.own.psn.get());
        let mut headers = packet(operation, server, *expected);
        fill(&mut headers);
        let used = used(&headers);
        *expected = expected.plus(used);
        for qpn in [server, own] {
            *state.shifts.entry((Way::ToServer, qpn)).or_default() += used;
        }
        // Still locked: no genuine packet overtakes it.
        self.sockets.send(&Caught { way: Way::ToServer, headers, payload: payload.to_vec() });
    }

    /// Sends on what goes that way from now on as if `count` of its requests, which were withheld, had never been.
    pub(crate) fn leave_out(&self, way: Way, session: &SessionInfo, count: usize) {
        let count = u32::try_from(count).expect("few");
        let mut state = self.state();
        for qpn in [session.remote.qpn, session.own.qpn] {
            let shift = state.shifts.entry((way, qpn)).or_default();
            *shift = shift.wrapping_sub(count);
        }
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// How many PSNs a request takes: a READ as many as its answer has packets.
fn used(headers: &Headers) -> u32 {
    match (headers.bth.opcode, headers.reth) {
        (Opcode::Known { operation: Operation::ReadRequest, .. }, Some(reth)) => Mtu::B4096.packets(reth.len),
        _ => 1,
    }
}

fn relay(way: Way, state: &Mutex<State>, sockets: &Sockets, stop: &AtomicBool) {
    let socket = match way {
        Way::ToServer => &sockets.as_server,
        Way::ToClient => &sockets.as_client,
    };
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, _)) = socket.recv_from(&mut buffer) else { continue };
        let mut state = state.lock().expect("no rule has panicked");
        if Spi::is_sealed(buffer[0]) {
            let sealed = Sealed { way, bytes: buffer[..len].to_vec() };
            state.relay_sealed(sealed).iter().for_each(|sealed| sockets.send_sealed(sealed));
            continue;
        }
        let bytes = &buffer[..len - icrc::LEN];
        let Packet { headers, payload } = Packet::parse(bytes).expect("a genuine packet");
        let caught = Caught { way, headers, payload: payload.to_vec() };
        state.seen.push(caught.clone());
        let mut out = Vec::new();
        match &mut state.rule {
            Some(rule) => rule(caught, &mut out),
            None => out.push(caught),
        }
        for mut caught in out {
            state.adapt(&mut caught);
            sockets.send(&caught);
        }
    }
}

impl State {
    /// What to send instead of a sealed packet.
    fn relay_sealed(&mut self, sealed: Sealed) -> Vec<Sealed> {
        self.sealed.push(sealed.clone());
        let mut out = Vec::new();
        match &mut self.on_sealed {
            Some(rule) => rule(sealed, &mut out),
            None => out.push(sealed),
        }
        out
    }

    /// Gives a packet the PSN that its receiver knows the request by.
    fn adapt(&mut self, caught: &mut Caught) {
        let bth = &mut caught.headers.bth;
        let request = is_request(bth.opcode);
        // An answer has the PSN of the request, which went the other way.
        let asked = if request { caught.way } else { caught.way.back() };
        let shift = self.shifts.get(&(asked, bth.dest_qp)).copied().unwrap_or_default();
        bth.psn = if request { bth.psn.plus(shift) } else { bth.psn.minus(shift) };
        if request && caught.way == Way::ToServer {
            let qpn = bth.dest_qp;
            let next = caught.headers.bth.psn.plus(used(&caught.headers));
            let expected = self.expected.entry(qpn).or_insert(next);
            if expected.is_before(next) {
                *expected = next;
            }
        }
    }
}

fn is_request(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::Known { operation, .. } if operation.is_request())
}
