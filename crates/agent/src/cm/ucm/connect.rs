//! Connections, and questions for queue pairs of datagrams: from a request to their end.

use super::{Ucm, errno};
use crate::cm::event::{Told, UDP_QKEY};
use crate::cm::id::{Id, QpType, State};
use crate::cm::protocol::{Params, Reply};
use rocev2_cm::ip::{IpAddressing, Service};
use rocev2_cm::manager::{Answer, Connect, Patience, Resolve, Route, Transport};
use rocev2_cm::wire::{PrivateData, RejectReason, SidrStatus};
use rocev2_cm::{CommId, Event, Exponent, Gid, Path};
use rustix::io::Errno;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long a peer where nobody listens is asked again before the program is told. perftest's server with `-R`, for
/// one, tells its client to connect before it listens.
const LISTENER_WITHIN: Duration = Duration::from_millis(200);

/// Private data that has room.
fn private<const N: usize>(parts: &[&[u8]]) -> Result<PrivateData<N>, Errno> {
    PrivateData::new(&parts.concat()).map_err(|_| Errno::INVAL)
}

impl Ucm {
    pub(super) fn connect(&mut self, client: u64, number: u32, params: &Params) -> Result<Reply, Errno> {
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
        let patience = Patience { listener_within: LISTENER_WITHIN, ..Patience::default() };
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

    pub(super) fn attributes(&mut self, client: u64, number: u32) -> Result<Reply, Errno> {
        let connection = self.connection(client, number)?;
        let expected = self.own(client, number)?.expected_queue_pair();
        let manager = &mut self.node.manager;
        if manager.state(connection) == Some(rocev2_cm::State::ReqRcvd) {
            manager.prepare(connection, expected).map_err(errno)?;
        }
        manager.attributes(connection).map(|found| Reply::Attributes(found.into())).ok_or(Errno::INVAL)
    }

    pub(super) fn accept(&mut self, client: u64, number: u32, params: &Params) -> Result<Reply, Errno> {
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

    pub(super) fn reject(&mut self, client: u64, number: u32, private_data: &[u8]) -> Result<Reply, Errno> {
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

    pub(super) fn disconnect(&mut self, client: u64, number: u32) -> Result<Reply, Errno> {
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

    /// Tells the program what the manager says.
    pub(super) fn tell(&mut self, event: &Event) {
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

    /// There are no keys for a peer: who has asked it, and has no answer yet, is told that it can't be reached.
    pub(super) fn give_up(&mut self, peer: IpAddr, reason: &str) {
        let manager = &self.node.manager;
        let asks = |connection: &CommId| {
            use rocev2_cm::State::{ReqSent, SidrReqSent};
            matches!(manager.state(*connection), Some(ReqSent | SidrReqSent))
        };
        let is_for = |number: &u32| {
            let destination = self.ids.get(number).and_then(|id| id.destination);
            destination.is_some_and(|destination| destination.ip().to_canonical() == peer)
        };
        let asking: Vec<_> = self
            .connections
            .iter()
            .filter(|(connection, number)| is_for(number) && asks(connection))
            .map(|(connection, number)| (*connection, *number))
            .collect();
        let now = self.node.now();
        for (connection, number) in asking {
            self.release(number);
            self.node.manager.abandon(now, connection);
            if let Some(id) = self.ids.get_mut(&number) {
                id.state = State::Answered;
            }
            self.push(number, None, Told::unsealed(reason));
        }
    }

    /// A peer's request: a new id of the process that listens.
    pub(super) fn request(
        &mut self,
        connection: CommId,
        service_id: u64,
        from: Option<SocketAddr>,
        asked: [u8; 2],
        told: Told,
    ) {
        let listener = self.listeners.get(&service_id).copied();
        let psn = self.random.psn();
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
                ..Id::new(own.client, own.channel, own.space, own.qp_type, psn)
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
