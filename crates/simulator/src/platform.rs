//! What a device of the simulation runs on: virtual time, seeded randomness, sockets of the simulated network.

use crate::network::Network;
use rocev2::{Qpn, Time};
use rocev2_device::Host;
use rocev2_device::host::{Interface, InterfacesError, Platform};
use rocev2_device::link::{
    BindError, Interest, Link, LinkCounters, Received, Reseal, RxBatch, Sent, TxBatch,
};
use rocev2_device::memory::{Mapping, MappingError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// What one device runs on.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) network: Arc<Network>,
    pub(crate) number: usize,
}

/// The address of a machine.
#[must_use]
pub fn address(machine: usize) -> IpAddr {
    let [.., number] = (machine as u64 + 1).to_be_bytes();
    Ipv4Addr::new(10, 0, 0, number).into()
}

impl Host for Machine {
    fn now(&self) -> Time {
        let mut state = self.network.lock();
        state.asked += 1;
        Time::from_nanos(state.now + state.machines[self.number].clock_offset)
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.network.lock().machines[self.number].random.fill(bytes);
        Ok(())
    }

    fn set_alarm(&self, at: Option<Time>) {
        let machine = &mut self.network.lock().machines[self.number];
        machine.alarm = at.map(|at| at.as_nanos().saturating_sub(machine.clock_offset));
    }
}

impl Platform for Machine {
    fn interfaces(&self) -> Result<Vec<Interface>, InterfacesError> {
        Ok(vec![Interface { name: "sim".into(), index: 1, address: address(self.number), mtu: 9000 }])
    }

    fn allocate(&self, len: usize) -> Result<Mapping, MappingError> {
        let refused = {
            let refuse = &mut self.network.lock().machines[self.number].refuse_allocations;
            let refused = *refuse & 1 == 1;
            *refuse >>= 1;
            refused
        };
        match refused {
            true => Err(MappingError { len, source: io::ErrorKind::OutOfMemory.into() }),
            false => Mapping::new(len),
        }
    }

    fn bind(&self, local: SocketAddr, token: u64) -> Result<Box<dyn Link>, BindError> {
        self.network.lock().bind(local, self.number, token);
        let (network, counters) = (Arc::clone(&self.network), LinkCounters::default());
        Ok(Box::new(SimulatedLink { network, machine: self.number, local, counters }))
    }
}

/// A socket of a simulated machine.
struct SimulatedLink {
    network: Arc<Network>,
    machine: usize,
    local: SocketAddr,
    counters: LinkCounters,
}

impl Link for SimulatedLink {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn send(&self, batch: &mut TxBatch, reseal: &mut Reseal<'_>) -> Sent {
        let mut state = self.network.lock();
        batch.drain(|mut run| {
            run.seal(false, reseal);
            run.bytes
                .chunks(run.segment)
                .enumerate()
                .find_map(|(at, datagram)| (!state.send(self.local, run.to, datagram)).then_some(at))
        })
    }

    fn recv(&self, batch: &mut RxBatch) -> Received {
        let mut state = self.network.lock();
        batch.fill_each(|buffer| state.take(self.local, buffer))
    }

    fn watch(&self, interest: Interest) -> io::Result<()> {
        let mut state = self.network.lock();
        let machine = &mut state.machines[self.machine];
        if machine.refuse_watches > 0 {
            machine.refuse_watches -= 1;
            machine.watches_refused += 1;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if let Some(socket) = state.sockets.get_mut(&self.local) {
            socket.interest = interest;
        }
        Ok(())
    }

    fn room(&self, to: SocketAddr, _: Qpn) -> Option<usize> {
        let state = self.network.lock();
        let socket = state.sockets.get(&to).filter(|socket| socket.machine == self.machine)?;
        // Up to half of the buffer, as of a socket's.
        Some((state.machines[self.machine].receive_buffer / 2).saturating_sub(socket.held))
    }

    fn send_buffer(&self) -> Option<[usize; 2]> {
        let state = self.network.lock();
        let capacity = state.machines[self.machine].egress.capacity?;
        Some([state.held(self.machine), capacity].map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))
    }

    fn counters(&self) -> &LinkCounters {
        &self.counters
    }
}

impl Drop for SimulatedLink {
    fn drop(&mut self) {
        self.network.lock().sockets.remove(&self.local);
    }
}
