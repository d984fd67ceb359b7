//! This host.

#[cfg(target_os = "linux")]
use super::group::Share;
use super::system::{Reactor, Socket};
use super::{Interface, InterfacesError, Platform};
use crate::engine::{Engine, Host, Pause, Progress};
use crate::link::{
    BindError, Capture, Interest, Link, LinkCounters, Received, Reseal, RxBatch, Sent, TxBatch, multicast,
};
use rocev2::{Qpn, Time};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

/// The operating system, as a device's host.
#[derive(Debug)]
pub(crate) struct Os {
    reactor: Arc<Reactor>,
    slot: Option<u8>,
    capture: OnceLock<Capture>,
    /// The part of a group that the device gets instead of a socket of its own, until it has it.
    #[cfg(target_os = "linux")]
    shared: Mutex<Option<Share>>,
}

impl Os {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            reactor: Arc::new(Reactor::new()?),
            slot: None,
            capture: OnceLock::new(),
            #[cfg(target_os = "linux")]
            shared: Mutex::default(),
        })
    }

    /// This host for a device that gets `share` instead of a socket of its own.
    #[cfg(target_os = "linux")]
    pub(crate) fn sharing(share: Share) -> io::Result<Self> {
        Ok(Self { slot: Some(share.slot), shared: Mutex::new(Some(share)), ..Self::new()? })
    }

    /// Starts the thread that makes the steps of `engine`.
    pub(crate) fn start(&self, engine: Arc<Engine>) -> io::Result<ProgressThread> {
        let reactor = Arc::clone(&self.reactor);
        let thread = {
            let reactor = Arc::clone(&reactor);
            std::thread::Builder::new().name("rdma-progress".into()).spawn(move || run(&reactor, &engine))?
        };
        Ok(ProgressThread { reactor, thread: Some(thread) })
    }
}

/// Makes the steps of `engine` until the thread is to end.
fn run(reactor: &Reactor, engine: &Engine) {
    reactor.enter();
    let mut progress = Progress::default();
    let mut ready = Vec::new();
    while !reactor.is_stopped() {
        let pause = progress.step(engine, &ready);
        ready.clear();
        match pause {
            Pause::Yield => std::thread::yield_now(),
            Pause::Busy(span) => std::thread::sleep(span),
            Pause::Sleep => reactor.sleep(&mut ready),
        }
    }
}

/// The thread that makes progress where nobody polls. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ProgressThread {
    reactor: Arc<Reactor>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for ProgressThread {
    fn drop(&mut self) {
        self.reactor.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Os {
    #[cfg(target_os = "linux")]
    fn socket(&self, address: SocketAddr) -> Result<Socket, BindError> {
        match crate::lock(&self.shared).take() {
            #[cfg(not(feature = "portable"))]
            Some(Share { socket, group, .. }) => Socket::adopt(socket, address, group),
            #[cfg(feature = "portable")]
            Some(Share { socket, .. }) => Socket::adopt(socket, address),
            None => Socket::bind(address),
        }
    }

    fn link(&self, mut socket: Socket, token: u64) -> Box<dyn Link> {
        socket.capture(self.capture.get().cloned());
        Box::new(UdpLink { socket, reactor: Arc::clone(&self.reactor), token, watched: Mutex::default() })
    }

    #[cfg(not(target_os = "linux"))]
    fn socket(&self, address: SocketAddr) -> Result<Socket, BindError> {
        Socket::bind(address)
    }
}

/// The index of the interface that has the address.
fn interface_of(address: IpAddr) -> Option<u32> {
    let found = super::interfaces().ok()?;
    // All of 127.0.0.0/8 is this host, though the interface names only one of them.
    let loopback = |other: IpAddr| other.is_loopback() && other.is_ipv4() == address.is_ipv4();
    let has = |interface: &&Interface| {
        interface.address == address || (address.is_loopback() && loopback(interface.address))
    };
    found.iter().find(has).map(|interface| interface.index)
}

impl Host for Os {
    fn now(&self) -> Time {
        self.reactor.now()
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        Ok(getrandom::fill(bytes)?)
    }

    fn slot(&self) -> Option<u8> {
        self.slot
    }

    fn set_alarm(&self, at: Option<Time>) {
        self.reactor.set_alarm(at);
    }
}

impl Platform for Os {
    fn interfaces(&self) -> Result<Vec<Interface>, InterfacesError> {
        super::interfaces()
    }

    fn bind(&self, address: SocketAddr, token: u64) -> Result<Box<dyn Link>, BindError> {
        let socket = self.socket(address)?;
        // Where it can't be said, multicasts leave by the route's interface, or not at all.
        if let Some(interface) = interface_of(address.ip()) {
            let _ = multicast::leave_by(&socket, address.ip(), interface);
        }
        Ok(self.link(socket, token))
    }

    fn capture(&self, capture: Capture) {
        // A second one has no place.
        let _ = self.capture.set(capture);
    }

    fn join(&self, group: SocketAddr, local: IpAddr, token: u64) -> Result<Box<dyn Link>, BindError> {
        let interface = interface_of(local).ok_or(BindError::NotLocal(local))?;
        let socket = multicast::join(group, local, interface)?;
        #[cfg(all(target_os = "linux", not(feature = "portable")))]
        let socket = Socket::set_up(socket.into(), group, None)?;
        #[cfg(any(not(target_os = "linux"), feature = "portable"))]
        let socket = Socket::adopt(socket.into(), group)?;
        Ok(self.link(socket, token))
    }
}

/// A UDP socket, and what the reactor is to watch of it.
struct UdpLink {
    socket: Socket,
    reactor: Arc<Reactor>,
    token: u64,
    watched: Mutex<Interest>,
}

impl Link for UdpLink {
    fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    fn send(&self, batch: &mut TxBatch, reseal: &mut Reseal<'_>) -> Sent {
        self.socket.send(batch, reseal)
    }

    fn recv(&self, batch: &mut RxBatch) -> Received {
        self.socket.recv(batch)
    }

    fn watch(&self, interest: Interest) -> io::Result<()> {
        let mut watched = crate::lock(&self.watched);
        if *watched != interest {
            self.reactor.watch(&self.socket, self.token, *watched, interest)?;
            *watched = interest;
        }
        Ok(())
    }

    fn room(&self, to: SocketAddr, receiver: Qpn) -> Option<usize> {
        self.socket.room(to, receiver)
    }

    fn send_buffer(&self) -> Option<[usize; 2]> {
        self.socket.send_buffer()
    }

    fn counters(&self) -> &LinkCounters {
        self.socket.counters()
    }
}
