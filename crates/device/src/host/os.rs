//! This host.

use super::group::Share;
use super::reactor::Reactor;
use super::{Interface, InterfacesError, Platform};
use crate::engine::{Engine, Host};
use crate::link::{
    BindError, Interest, Link, LinkCounters, Received, Reseal, RxBatch, Sent, Socket, TxBatch,
};
use rocev2::{Qpn, Time};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// The operating system, as a device's host.
#[derive(Debug)]
pub(crate) struct Os {
    reactor: Arc<Reactor>,
    slot: Option<u8>,
    /// The part of a group that the device gets instead of a socket of its own, until it has it.
    shared: Mutex<Option<Share>>,
}

impl Os {
    pub(crate) fn new(share: Option<Share>) -> io::Result<Self> {
        let slot = share.as_ref().map(|share| share.slot);
        Ok(Self { reactor: Arc::new(Reactor::new()?), slot, shared: Mutex::new(share) })
    }

    /// Starts the thread that makes the steps of `engine`.
    pub(crate) fn start(&self, engine: Arc<Engine>) -> io::Result<ProgressThread> {
        let reactor = Arc::clone(&self.reactor);
        let thread = {
            let reactor = Arc::clone(&reactor);
            std::thread::Builder::new().name("rdma-progress".into()).spawn(move || reactor.run(&engine))?
        };
        Ok(ProgressThread { reactor, thread: Some(thread) })
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
        let shared = crate::lock(&self.shared).take();
        let socket = match shared {
            Some(Share { socket, group, .. }) => Socket::adopt(socket, address, group)?,
            None => Socket::bind(address)?,
        };
        Ok(Box::new(UdpLink { socket, reactor: Arc::clone(&self.reactor), token, watched: Mutex::default() }))
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

    fn counters(&self) -> &LinkCounters {
        self.socket.counters()
    }
}
