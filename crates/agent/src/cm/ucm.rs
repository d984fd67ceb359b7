//! The requests of processes, carried out on one address's manager: what `rdma_ucm` does in the kernel.

use super::channel::Channel;
use super::event::{Told, kind};
use super::id::{Id, QpType, State};
use super::node::Node;
use super::ports::Ports;
use super::protocol::{CmEvent, IdOption, MAX_LEN, Params, Reply, Request};
use rocev2::{Mtu, Psn};
use rocev2_cm::ip::{IpAddressing, PortSpace, Service};
use rocev2_cm::manager::{Answer, Connect, Error, Patience, Resolve, Route, Transport};
use rocev2_cm::wire::{PrivateData, RejectReason, SidrStatus};
use rocev2_cm::{CommId, Config, Event, Exponent, Gid, Path};
use rocev2_device::{Device, DeviceError};
use rustix::io::Errno;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// Ids at a time, of all processes together.
const MAX_IDS: usize = 32_768;

/// Queues of events at a time: each takes a descriptor.
const MAX_CHANNELS: usize = 16_384;

/// The most that may wait at a listener.
const MAX_BACKLOG: u32 = 1024;

/// The queue key of datagrams between programs that use librdmacm (`RDMA_UDP_QKEY`).
const UDP_QKEY: u32 = 0x0123_4567;

const _: () = assert!(MAX_LEN > 2 * 256, "an event has room for the longest private data");

/// Connection management at one address, for all of a user's processes.
#[derive(Debug)]
pub struct Ucm {
    node: Node,
    address: IpAddr,
    mtu: Mtu,
    ids: HashMap<u32, Id>,
    channels: HashMap<u32, Channel>,
    /// Whose a connection of the manager's is.
    connections: HashMap<CommId, u32>,
    /// Who listens to a service.
    listeners: HashMap<u64, u32>,
    ports: Ports,
    next: u32,
}

/// As many connections as there are ids, and as many requests of one peer as may wait at a listener: a program that
/// opens a thousand connections at once is no flood.
///
/// The kernel knows peers' queue pairs by GUID and number, and refuses one that it still knows as stale. So that no two
/// devices are taken for one, the GUID is drawn at random, with the bit of those that nobody has assigned.
fn config() -> Config {
    Config {
        ca_guid: getrandom::u64().unwrap_or_default() | 1 << 57,
        max_connections: MAX_IDS,
        max_half_open: 4096,
        max_half_open_per_source: MAX_BACKLOG as usize,
        ..Config::default()
    }
}

fn errno(error: Error) -> Errno {
    match error {
        Error::InUse => Errno::ADDRINUSE,
        Error::Full => Errno::NOMEM,
        Error::UnknownId => Errno::NOTCONN,
        Error::State(_) | Error::QueuePairNumber | Error::AdditionalInformation(_) => Errno::INVAL,
    }
}

/// Private data that has room.
fn private<const N: usize>(parts: &[&[u8]]) -> Result<PrivateData<N>, Errno> {
    PrivateData::new(&parts.concat()).map_err(|_| Errno::INVAL)
}

impl Ucm {
    /// Connection management on queue pair 1 of `device`, which has that one address.
    ///
    /// # Errors
    /// Somebody has that queue pair, or the system refuses what it needs.
    pub fn new(device: Arc<Device>, address: IpAddr) -> Result<Self, DeviceError> {
        let mtu = device.gids().first().map_or(Mtu::B1024, |gid| gid.mtu);
        device.bind_gid(0)?;
        Ok(Self {
            node: Node::new(device, config())?,
            address,
            mtu,
            ids: HashMap::new(),
            channels: HashMap::new(),
            connections: HashMap::new(),
            listeners: HashMap::new(),
            ports: Ports::default(),
            next: 0,
        })
    }

    /// When to call [`turn`](Self::turn) next, at the latest.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.node.timeout()
    }

    /// Whether all that was begun has ended.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.node.manager.is_idle()
    }

    /// Takes what has arrived, does what is due, and tells programs.
    pub fn turn(&mut self) {
        self.node.turn();
        while let Some(event) = self.node.event() {
            self.tell(&event);
        }
    }

    /// A process is gone: so is all that it had.
    pub fn end(&mut self, client: u64) {
        let ids: Vec<u32> =
            self.ids.iter().filter(|(_, id)| id.client == client).map(|(number, _)| *number).collect();
        for id in ids {
            self.destroy(id);
        }
        self.channels.retain(|_, channel| channel.client != client);
    }

    /// Carries a request of a process out. The second part of the answer is a descriptor that goes with it.
    pub fn handle(&mut self, client: u64, request: Request) -> (Reply, Option<BorrowedFd<'_>>) {
        let opens = request == Request::OpenChannel;
        match self.try_handle(client, request) {
            Ok(Reply::Number(channel)) if opens => {
                (Reply::Number(channel), self.channels.get(&channel).map(AsFd::as_fd))
            }
            Ok(reply) => (reply, None),
            Err(error) => (Reply::Error(error.raw_os_error()), None),
        }
    }

    fn try_handle(&mut self, client: u64, request: Request) -> Result<Reply, Errno> {
        match request {
            Request::OpenChannel => self.open_channel(client),
            Request::CloseChannel { channel } => {
                self.own_channel(client, channel)?;
                let ids = self.ids.iter().filter(|(_, id)| id.channel == channel);
                let ids: Vec<u32> = ids.map(|(number, _)| *number).collect();
                ids.into_iter().for_each(|id| self.destroy(id));
                self.channels.remove(&channel);
                Ok(Reply::Done)
            }
            Request::GetEvent { channel } => {
                let event = self.own_channel(client, channel)?.pop();
                Ok(event.map_or(Reply::NoEvent, |event| Reply::Event(Box::new(event))))
            }
            Request::CreateId { channel, port_space, qp_type } => {
                self.own_channel(client, channel)?;
                let space = PortSpace::from_code(port_space).ok_or(Errno::INVAL)?;
                let qp_type = QpType::from_code(qp_type).ok_or(Errno::OPNOTSUPP)?;
                self.add(Id::new(client, channel, space, qp_type, random_psn())).map(Reply::Number)
            }
            Request::DestroyId { id } => {
                self.own(client, id)?;
                self.destroy(id);
                Ok(Reply::Done)
            }
            Request::Bind { id, address } => {
                self.bind(client, id, address)?;
                Ok(Reply::Addresses(self.own(client, id)?.addresses()))
            }
            Request::ResolveAddress { id, source, destination } => {
                self.resolve_address(client, id, source, destination)?;
                Ok(Reply::Addresses(self.own(client, id)?.addresses()))
            }
            Request::ResolveRoute { id } => {
                let own = self.own(client, id)?;
                if own.state != State::AddressResolved {
                    return Err(Errno::INVAL);
                }
                own.state = State::RouteResolved;
                self.push(id, None, Told::new(kind::ROUTE_RESOLVED));
                Ok(Reply::Done)
            }
            Request::Listen { id, backlog } => self.listen(client, id, backlog),
            Request::Connect { id, params } => self.connect(client, id, &params),
            Request::Attributes { id } => self.attributes(client, id),
            Request::Accept { id, params } => self.accept(client, id, &params),
            Request::Establish { id } => {
                let connection = self.connection(client, id)?;
                self.node.manager.establish(connection, PrivateData::default()).map_err(errno)?;
                self.own(client, id)?.state = State::Answered;
                Ok(Reply::Done)
            }
            Request::Reject { id, private_data } => self.reject(client, id, &private_data),
            Request::Disconnect { id } => self.disconnect(client, id),
            Request::Migrate { id, channel } => self.migrate(client, id, channel),
            Request::CommunicationEstablished { id } => {
                let connection = self.connection(client, id)?;
                self.node.manager.communication_established(connection);
                Ok(Reply::Done)
            }
            Request::SetOption { id, option } => {
                let own = self.own(client, id)?;
                match option {
                    IdOption::TypeOfService(class) => own.traffic_class = class,
                    IdOption::ReuseAddress(reuse) => own.reuse = reuse,
                    IdOption::FamilyOnly(_) => {}
                    IdOption::AckTimeout(exponent) => {
                        own.ack_timeout = Some(Exponent::new(exponent).ok_or(Errno::INVAL)?);
                    }
                }
                Ok(Reply::Done)
            }
        }
    }

    fn number(&mut self) -> u32 {
        loop {
            self.next = self.next.wrapping_add(1);
            if !self.ids.contains_key(&self.next) && !self.channels.contains_key(&self.next) {
                return self.next;
            }
        }
    }

    fn open_channel(&mut self, client: u64) -> Result<Reply, Errno> {
        if self.channels.len() >= MAX_CHANNELS {
            return Err(Errno::NFILE);
        }
        let number = self.number();
        self.channels.insert(number, Channel::new(client)?);
        Ok(Reply::Number(number))
    }

    fn add(&mut self, id: Id) -> Result<u32, Errno> {
        if self.ids.len() >= MAX_IDS {
            return Err(Errno::NOMEM);
        }
        let number = self.number();
        self.ids.insert(number, id);
        Ok(number)
    }

    /// An id of that process's.
    fn own(&mut self, client: u64, id: u32) -> Result<&mut Id, Errno> {
        self.ids.get_mut(&id).filter(|id| id.client == client).ok_or(Errno::NOENT)
    }

    fn own_channel(&mut self, client: u64, channel: u32) -> Result<&mut Channel, Errno> {
        self.channels.get_mut(&channel).filter(|channel| channel.client == client).ok_or(Errno::NOENT)
    }

    /// The manager's name for an id.
    fn connection(&mut self, client: u64, id: u32) -> Result<CommId, Errno> {
        self.own(client, id)?.connection.ok_or(Errno::INVAL)
    }

    fn push(&mut self, number: u32, listener: Option<u32>, told: Told) {
        let Some(id) = self.ids.get(&number) else { return };
        let Told { kind, status, params, qkey } = told;
        let event = CmEvent { kind, status, id: number, listener, addresses: id.addresses(), params, qkey };
        if let Some(channel) = self.channels.get_mut(&id.channel) {
            channel.push(event);
        }
    }

    /// An id and what belongs to it goes: events that wait, requests that nobody has taken.
    fn destroy(&mut self, number: u32) {
        let Some(id) = self.ids.remove(&number) else { return };
        if let Some(port) = id.port {
            self.ports.give_back(port, number);
            if id.state == State::Listening {
                self.listeners.remove(&port.id());
                let _ = self.node.manager.close_listener(port.id(), None);
            }
        }
        if let Some(connection) = id.connection {
            self.connections.remove(&connection);
            let now = self.node.now();
            self.node.manager.abandon(now, connection);
        }
        if let Some(channel) = self.channels.get_mut(&id.channel) {
            let dropped = channel.take(|event| event.id == number || event.listener == Some(number));
            for requested in dropped.iter().filter(|event| event.listener == Some(number)) {
                self.destroy(requested.id);
            }
        }
    }

    /// The device's address for one that a program names: its own, any, or the host itself.
    fn local(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        (address == self.address || address.is_unspecified() || address.is_loopback()).then_some(self.address)
    }

    /// Any address, any port.
    fn any(&self) -> SocketAddr {
        let any: IpAddr = if self.address.is_ipv4() {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        SocketAddr::new(any, 0)
    }

    fn bind(&mut self, client: u64, number: u32, address: SocketAddr) -> Result<(), Errno> {
        let local = self.local(address.ip()).ok_or(Errno::ADDRNOTAVAIL)?;
        let id = self.own(client, number)?;
        if id.state != State::Idle {
            return Err(Errno::INVAL);
        }
        let (space, reuse) = (id.space, id.reuse);
        let port = match address.port() {
            0 => {
                let [.., high, low] = random().to_ne_bytes();
                let random = u16::from_ne_bytes([high, low]);
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

    fn resolve_address(
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

    fn listen(&mut self, client: u64, number: u32, backlog: u32) -> Result<Reply, Errno> {
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

    fn connect(&mut self, client: u64, number: u32, params: &Params) -> Result<Reply, Errno> {
        let (now, mtu) = (self.node.now(), self.mtu);
        let id = self.own(client, number)?;
        let (Some(source), Some(destination), State::RouteResolved) = (id.source, id.destination, id.state)
        else {
            return Err(Errno::INVAL);
        };
        let path = Path { local: Gid::from(source.ip()), remote: Gid::from(destination.ip()) };
        let addressing = IpAddressing { source, destination: destination.ip() };
        let addressing = addressing.encode().map_err(|_| Errno::INVAL)?;
        let service_id = Service { space: id.space, port: destination.port() }.id();
        let route = Route {
            retry_count: params.retry_count.min(7),
            traffic_class: id.traffic_class,
            ..Route::new(mtu)
        };
        let route = id.ack_timeout.map_or(route, |ack_timeout| Route { ack_timeout, ..route });
        let patience = Patience::default();
        let queue_pair = id.queue_pair(params);
        let parts = [&addressing[..], &params.private_data];
        let transport = match id.qp_type {
            QpType::Rc => Some(Transport::Rc),
            QpType::Uc => Some(Transport::Uc),
            QpType::Ud => None,
        };
        let manager = &mut self.node.manager;
        let connection = match transport {
            Some(transport) => {
                let private_data = private(&parts)?;
                let connect =
                    Connect { path, service_id, transport, queue_pair, route, patience, private_data };
                manager.connect(now, &connect)
            }
            None => {
                let (private_data, partition_key) = (private(&parts)?, route.partition_key);
                manager.resolve(now, &Resolve { path, service_id, partition_key, patience, private_data })
            }
        };
        let connection = connection.map_err(errno)?;
        self.connections.insert(connection, number);
        let id = self.own(client, number)?;
        id.connection = Some(connection);
        id.state = State::Connecting;
        Ok(Reply::Done)
    }

    fn attributes(&mut self, client: u64, number: u32) -> Result<Reply, Errno> {
        let connection = self.connection(client, number)?;
        let expected = self.own(client, number)?.expected_queue_pair();
        let manager = &mut self.node.manager;
        if manager.state(connection) == Some(rocev2_cm::State::ReqRcvd) {
            manager.prepare(connection, expected).map_err(errno)?;
        }
        manager.attributes(connection).map(|found| Reply::Attributes(found.into())).ok_or(Errno::INVAL)
    }

    fn accept(&mut self, client: u64, number: u32, params: &Params) -> Result<Reply, Errno> {
        let connection = self.connection(client, number)?;
        let now = self.node.now();
        let id = self.own(client, number)?;
        let (qp_type, queue_pair) = (id.qp_type, id.queue_pair(params));
        let manager = &mut self.node.manager;
        if qp_type == QpType::Ud {
            let answer = Answer {
                status: SidrStatus::Valid,
                qpn: queue_pair.qpn,
                qkey: UDP_QKEY,
                private_data: private(&[&params.private_data])?,
            };
            manager.answer(now, connection, &answer).map_err(errno)?;
            self.release(number);
        } else {
            let data = private(&[&params.private_data])?;
            manager.accept(now, connection, queue_pair, Exponent::default(), data).map_err(errno)?;
        }
        self.own(client, number)?.state = State::Answered;
        Ok(Reply::Done)
    }

    fn reject(&mut self, client: u64, number: u32, private_data: &[u8]) -> Result<Reply, Errno> {
        let connection = self.connection(client, number)?;
        let now = self.node.now();
        let id = self.own(client, number)?;
        let qp_type = id.qp_type;
        let manager = &mut self.node.manager;
        if qp_type == QpType::Ud {
            let answer = Answer {
                status: SidrStatus::Rejected,
                qpn: rocev2::Qpn::truncate(0),
                qkey: 0,
                private_data: private(&[private_data])?,
            };
            manager.answer(now, connection, &answer).map_err(errno)?;
        } else {
            let data = private(&[private_data])?;
            manager.reject(now, connection, RejectReason::Consumer, &[], data).map_err(errno)?;
        }
        if qp_type == QpType::Ud || self.node.manager.state(connection).is_none() {
            self.release(number);
        }
        self.own(client, number)?.state = State::Answered;
        Ok(Reply::Done)
    }

    fn disconnect(&mut self, client: u64, number: u32) -> Result<Reply, Errno> {
        let now = self.node.now();
        let id = self.own(client, number)?;
        if !matches!(id.state, State::Connecting | State::Answered) {
            return Err(Errno::INVAL);
        }
        if id.qp_type != QpType::Ud
            && let Some(connection) = id.connection
        {
            // As the kernel's: one that has ended, or isn't established yet, is no error.
            let _ = self.node.manager.disconnect(now, connection, PrivateData::default());
        }
        Ok(Reply::Done)
    }

    fn migrate(&mut self, client: u64, number: u32, channel: u32) -> Result<Reply, Errno> {
        self.own_channel(client, channel)?;
        let id = self.own(client, number)?;
        let before = std::mem::replace(&mut id.channel, channel);
        let waiting = self
            .channels
            .get_mut(&before)
            .map(|before| before.take(|event| event.id == number || event.listener == Some(number)));
        for event in waiting.into_iter().flatten() {
            // Requests that nobody has taken go with their listener.
            if let Some(requested) = self.ids.get_mut(&event.id) {
                requested.channel = channel;
            }
            if let Some(channel) = self.channels.get_mut(&channel) {
                channel.push(event);
            }
        }
        Ok(Reply::Done)
    }

    /// The manager knows nothing of an id any more.
    fn release(&mut self, number: u32) {
        if let Some(connection) = self.ids.get_mut(&number).and_then(|id| id.connection.take()) {
            self.connections.remove(&connection);
        }
    }

    /// Tells the program what the manager says.
    fn tell(&mut self, event: &Event) {
        let connection = match event {
            Event::ConnectRequest { id, request } => {
                let asked = [request.initiator_depth, request.responder_resources];
                let from = request.addressing.map(|addressing| addressing.source);
                self.request(*id, request.service_id, from, asked, Told::request(request));
                return;
            }
            Event::SidrRequest { id, service_id, addressing, private_data, .. } => {
                let from = addressing.map(|addressing| addressing.source);
                self.request(*id, *service_id, from, [0; 2], Told::datagrams(&private_data.0));
                return;
            }
            Event::ConnectResponse { id, .. }
            | Event::Established { id, .. }
            | Event::Rejected { id, .. }
            | Event::Unreachable { id }
            | Event::Disconnected { id }
            | Event::TimeWaitExit { id }
            | Event::Stale { id }
            | Event::SidrResponse { id, .. } => *id,
        };
        let Some(&number) = self.connections.get(&connection) else { return };
        if let Some(told) = Told::of(event) {
            if let Some(id) = self.ids.get_mut(&number)
                && !matches!(event, Event::ConnectResponse { .. })
            {
                id.state = State::Answered;
            }
            self.push(number, None, told);
        }
        if self.node.manager.state(connection).is_none() {
            self.release(number);
        }
    }

    /// A peer's request: a new id of the process that listens.
    fn request(
        &mut self,
        connection: CommId,
        service_id: u64,
        from: Option<SocketAddr>,
        asked: [u8; 2],
        told: Told,
    ) {
        let listener = self.listeners.get(&service_id).copied();
        let added = listener.and_then(|listener| {
            let own = self.ids.get(&listener)?;
            let port = own.port?.port;
            let id = Id {
                state: State::Connecting,
                source: Some(SocketAddr::new(self.address, port)),
                destination: from,
                device: true,
                traffic_class: own.traffic_class,
                ack_timeout: own.ack_timeout,
                connection: Some(connection),
                asked,
                ..Id::new(own.client, own.channel, own.space, own.qp_type, random_psn())
            };
            Some((listener, self.add(id).ok()?))
        });
        if let Some((listener, number)) = added {
            self.connections.insert(connection, number);
            self.push(number, Some(listener), told);
        } else {
            let now = self.node.now();
            self.node.manager.abandon(now, connection);
        }
    }
}

impl AsFd for Ucm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.node.as_fd()
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

fn random() -> u32 {
    // Ports and PSNs: a host without random numbers has no device either.
    getrandom::u32().unwrap_or_default()
}

fn random_psn() -> Psn {
    Psn::truncate(random())
}
