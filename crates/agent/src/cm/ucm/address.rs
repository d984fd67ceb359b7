//! Addresses and ports of ids.

use super::{MAX_BACKLOG, Ucm, errno};
use crate::cm::event::{Told, kind};
use crate::cm::id::State;
use crate::cm::protocol::Reply;
use rocev2_cm::ip::Service;
use rustix::io::Errno;
use std::net::{IpAddr, SocketAddr, UdpSocket};

impl Ucm {
    /// The device's address for one that a program names: its own, any, or the host itself.
    pub(super) fn local(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        (address == self.address || address.is_unspecified() || address.is_loopback()).then_some(self.address)
    }

    /// Any address, any port.
    pub(super) fn any(&self) -> SocketAddr {
        let any: IpAddr = if self.address.is_ipv4() {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        SocketAddr::new(any, 0)
    }

    pub(super) fn bind(&mut self, client: u64, number: u32, address: SocketAddr) -> Result<(), Errno> {
        let local = self.local(address.ip()).ok_or(Errno::ADDRNOTAVAIL)?;
        let id = self.own(client, number)?;
        if id.state != State::Idle {
            return Err(Errno::INVAL);
        }
        let (space, reuse) = (id.space, id.reuse);
        let port = match address.port() {
            0 => {
                let random = self.random.u16();
                self.ports.take_any(space, number, random).ok_or(Errno::ADDRNOTAVAIL)?
            }
            port => {
                let service = Service { space, port };
                if !self.ports.take(service, number, reuse) {
                    return Err(Errno::ADDRINUSE);
                }
                service
            }
        };
        let any = address.ip().is_unspecified();
        let id = self.own(client, number)?;
        let ip = if any { address.ip() } else { local };
        id.source = Some(SocketAddr::new(ip, port.port));
        id.port = Some(port);
        id.device = !any;
        id.state = State::Bound;
        Ok(())
    }

    pub(super) fn resolve_address(
        &mut self,
        client: u64,
        number: u32,
        source: Option<SocketAddr>,
        destination: SocketAddr,
    ) -> Result<(), Errno> {
        if self.own(client, number)?.state == State::Idle {
            self.bind(client, number, source.unwrap_or(self.any()))?;
        }
        let to = destination.ip().to_canonical();
        // The host itself is the device.
        let to = if self.address.is_loopback() { to } else { self.local(to).unwrap_or(to) };
        let to = if to.is_unspecified() { self.address } else { to };
        let (address, reached) = (self.address, reachable(self.address, to));
        let id = self.own(client, number)?;
        if id.state != State::Bound {
            return Err(Errno::INVAL);
        }
        id.source = Some(SocketAddr::new(address, id.source.map_or(0, |source| source.port())));
        id.destination = Some(SocketAddr::new(to, destination.port()));
        let told = match reached {
            Ok(()) => {
                id.device = true;
                id.state = State::AddressResolved;
                Told::new(kind::ADDR_RESOLVED)
            }
            Err(error) => Told::failed(kind::ADDR_ERROR, error),
        };
        self.push(number, None, told);
        Ok(())
    }

    pub(super) fn listen(&mut self, client: u64, number: u32, backlog: u32) -> Result<Reply, Errno> {
        if self.own(client, number)?.state == State::Idle {
            self.bind(client, number, self.any())?;
        }
        let id = self.own(client, number)?;
        let port = id.port.filter(|_| id.state == State::Bound).ok_or(Errno::INVAL)?;
        let backlog = if backlog == 0 { MAX_BACKLOG } else { backlog.min(MAX_BACKLOG) };
        self.node.manager.listen(port.id(), None, backlog as usize).map_err(errno)?;
        self.listeners.insert(port.id(), number);
        let id = self.own(client, number)?;
        id.state = State::Listening;
        Ok(Reply::Addresses(id.addresses()))
    }
}

/// Whether the host has a route from one address to another.
fn reachable(from: IpAddr, to: IpAddr) -> Result<(), Errno> {
    if from.is_ipv4() != to.is_ipv4() {
        return Err(Errno::NETUNREACH);
    }
    let probe = UdpSocket::bind((from, 0)).and_then(|socket| socket.connect((to, rocev2::UDP_PORT)));
    probe.map_err(|error| error.raw_os_error().map_or(Errno::HOSTUNREACH, Errno::from_raw_os_error))
}
