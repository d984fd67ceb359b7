//! What the device runs on: one address, packets that wait to be taken, and those that have left.

use rocev2::{Qpn, Time};
use rocev2_device::Host;
use rocev2_device::host::{Interface, InterfacesError, Platform};
use rocev2_device::link::{
    BindError, Interest, Link, LinkCounters, Received, Reseal, RxBatch, Sent, TxBatch,
};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub(super) const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 4791);

#[derive(Default)]
pub(super) struct State {
    pub(super) now: Time,
    pub(super) alarm: Option<Time>,
    /// What the link is reported as.
    pub(super) token: u64,
    /// What wakes the device.
    pub(super) interest: Interest,
    pub(super) arrived: VecDeque<Vec<u8>>,
    pub(super) left: Vec<Vec<u8>>,
    random: u8,
}

/// Shared by the device and whoever steps it.
#[derive(Clone, Default)]
pub(super) struct Wire(Arc<Mutex<State>>);

impl Wire {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for Wire {
    fn now(&self) -> Time {
        self.state().now
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        for byte in bytes {
            state.random = state.random.wrapping_mul(5).wrapping_add(113);
            *byte = state.random;
        }
        Ok(())
    }

    fn set_alarm(&self, at: Option<Time>) {
        self.state().alarm = at;
    }
}

impl Platform for Wire {
    fn interfaces(&self) -> Result<Vec<Interface>, InterfacesError> {
        Ok(vec![Interface { name: "wire".into(), index: 1, address: OWN, mtu: 9000 }])
    }

    fn bind(&self, address: SocketAddr, token: u64) -> Result<Box<dyn Link>, BindError> {
        self.state().token = token;
        let local = SocketAddr::new(address.ip(), 4791);
        Ok(Box::new(WireLink { wire: self.clone(), local, counters: LinkCounters::default() }))
    }
}

struct WireLink {
    wire: Wire,
    local: SocketAddr,
    counters: LinkCounters,
}

impl Link for WireLink {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn send(&self, batch: &mut TxBatch, reseal: &mut Reseal<'_>) -> Sent {
        let mut state = self.wire.state();
        batch.drain(|mut run| {
            run.seal(false, reseal);
            state.left.extend(run.bytes.chunks(run.segment).map(<[u8]>::to_vec));
            None
        })
    }

    fn recv(&self, batch: &mut RxBatch) -> Received {
        let mut state = self.wire.state();
        batch.fill_each(|buffer| {
            let bytes = state.arrived.pop_front()?;
            buffer.get_mut(..bytes.len())?.copy_from_slice(&bytes);
            Some((bytes.len(), PEER))
        })
    }

    fn watch(&self, interest: Interest) -> io::Result<()> {
        self.wire.state().interest = interest;
        Ok(())
    }

    fn room(&self, _: SocketAddr, _: Qpn) -> Option<usize> {
        None
    }

    fn counters(&self) -> &LinkCounters {
        &self.counters
    }
}
