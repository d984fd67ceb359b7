//! The requests of processes, carried out on one address's manager: what `rdma_ucm` does in the kernel.
//!
//! | module | what it holds |
//! |---|---|
//! | `ids` | ids and queues of events |
//! | `address` | addresses and ports of ids |
//! | `connect` | connections, and questions for queue pairs of datagrams |
//! | `multicast` | groups that ids have joined |

mod address;
mod connect;
mod ids;
mod multicast;

use super::channel::Channel;
use super::event::{Told, kind};
use super::id::{Id, QpType, State};
use super::node::Node;
use super::ports::Ports;
use super::protocol::{MAX_LEN, Reply, Request};
use super::random::Random;
use super::sealing::Sealing;
use rocev2::Mtu;
use rocev2_cm::ip::PortSpace;
use rocev2_cm::manager::Error;
use rocev2_cm::wire::PrivateData;
use rocev2_cm::{CommId, Config};
use rocev2_device::{Device, DeviceError};
use rustix::io::Errno;
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// Ids at a time, of all processes together.
const MAX_IDS: usize = 32_768;

/// Queues of events at a time: each takes a descriptor.
const MAX_CHANNELS: usize = 16_384;

/// The most that may wait at a listener.
const MAX_BACKLOG: u32 = 1024;

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
    random: Random,
    next: u32,
}

/// As many connections as there are ids, and as many requests of one peer as may wait at a listener: a program that
/// opens a thousand connections at once is no flood.
///
/// The kernel knows peers' queue pairs by GUID and number, and refuses one that it still knows as stale. So that no two
/// devices are taken for one, the GUID is drawn at random, with the bit of those that nobody has assigned.
fn config(random: &mut Random) -> Config {
    Config {
        ca_guid: random.u64() | 1 << 57,
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

impl Ucm {
    /// Connection management on queue pair 1 of `device`, which has that one address; with `sealing` that of programs
    /// whose packets are sealed, on a device that sends nothing in clear.
    ///
    /// # Errors
    /// Somebody has that queue pair, or the system refuses what it needs.
    pub fn new(device: Arc<Device>, address: IpAddr, sealing: Option<Sealing>) -> Result<Self, DeviceError> {
        let entry = device.gids().into_iter().next();
        let mtu = match &sealing {
            None => entry.map_or(Mtu::B1024, |entry| entry.mtu),
            Some(_) => {
                entry.and_then(|entry| entry.sealed_mtu).ok_or(DeviceError::NoRoomForEsp { address })?
            }
        };
        device.bind_gid(0)?;
        let mut random = Random::new()?;
        Ok(Self {
            node: Node::new(device, config(&mut random), sealing)?,
            address,
            mtu,
            ids: HashMap::new(),
            channels: HashMap::new(),
            connections: HashMap::new(),
            listeners: HashMap::new(),
            ports: Ports::default(),
            random,
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

    /// What its datagrams are sealed by, if they are.
    #[must_use]
    pub fn sealing(&self) -> Option<&Sealing> {
        self.node.sealing()
    }

    /// Takes what has arrived, does what is due, and tells programs.
    pub fn turn(&mut self) {
        self.node.turn();
        while let Some(event) = self.node.event() {
            self.tell(&event);
        }
        while let Some((peer, reason)) = self.node.refused() {
            self.give_up(peer, &reason);
        }
    }

    /// Those that are readable when [`turn`](Self::turn) may have something to do.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.node.descriptors()
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
                let psn = self.random.psn();
                self.add(Id::new(client, channel, space, qp_type, psn)).map(Reply::Number)
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
            Request::SetOption { id, option } => self.set_option(client, id, option),
            Request::JoinMulticast { id, group, cookie } => self.join(client, id, group, cookie),
            Request::LeaveMulticast { id, cookie } => self.leave(client, id, cookie),
        }
    }
}
