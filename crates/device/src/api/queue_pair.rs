//! Queue pairs.

use super::device::DeviceState;
use super::{CompletionQueue, DeviceError, PathAttributes, SecurityAssociation, SharedReceiveQueue};
use crate::engine::{self, Buffers, PathMtu};
use crate::gid::Gid;
use rocev2::transport::Snapshot;
use rocev2::wire::Transport;
use rocev2::work::{
    Attributes, PostError, QueuePairType, ReceiveAttributes, RecvRequest, SendRequest, State, Transition,
};
use rocev2::{Mtu, Qpn};
use std::sync::{Arc, Weak};

/// What a queue pair is made with.
#[derive(Clone, Copy, Debug)]
pub struct QueuePairOptions<'a> {
    /// Its transport.
    pub transport: Transport,
    /// Where its send requests complete.
    pub send_queue: &'a CompletionQueue,
    /// Where its receive requests complete.
    pub recv_queue: &'a CompletionQueue,
    /// Where it takes receive requests from; otherwise it has a queue of its own.
    pub shared: Option<&'a SharedReceiveQueue>,
    /// Send requests that may be outstanding.
    pub max_send_requests: usize,
    /// Receive requests that may be outstanding in a queue of its own.
    pub max_recv_requests: usize,
}

impl<'a> QueuePairOptions<'a> {
    /// All requests complete in `queue`; in each direction there may be `max_requests`.
    #[must_use]
    pub fn new(transport: Transport, queue: &'a CompletionQueue, max_requests: usize) -> Self {
        Self {
            transport,
            send_queue: queue,
            recv_queue: queue,
            shared: None,
            max_send_requests: max_requests,
            max_recv_requests: max_requests,
        }
    }
}

/// A queue pair. It ends when it is dropped; an XRC target that was
/// [opened again](super::XrcDomain::open_target), when the last user drops it.
pub struct QueuePair(Arc<Owned>);

/// What all users of a queue pair have.
pub(crate) struct Owned {
    queue_pair: Arc<engine::QueuePair>,
    device: Arc<DeviceState>,
}

impl From<Arc<Owned>> for QueuePair {
    fn from(owned: Arc<Owned>) -> Self {
        Self(owned)
    }
}

impl QueuePair {
    pub(crate) fn new(queue_pair: Arc<engine::QueuePair>, device: Arc<DeviceState>) -> Self {
        Self(Arc::new(Owned { queue_pair, device }))
    }

    pub(crate) fn downgrade(&self) -> Weak<Owned> {
        Arc::downgrade(&self.0)
    }

    /// Its number.
    #[must_use]
    pub fn qpn(&self) -> Qpn {
        self.0.queue_pair.qpn()
    }

    /// What it was made for.
    #[must_use]
    pub fn queue_pair_type(&self) -> QueuePairType {
        self.0.queue_pair.queue_pair_type()
    }

    /// Its transport.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.queue_pair_type().transport()
    }

    /// Everything a query tells.
    #[must_use]
    pub fn query(&self) -> Snapshot {
        self.0.queue_pair.snapshot()
    }

    /// Makes a transition that needs neither a path nor a queue key.
    ///
    /// # Errors
    /// It isn't possible from this state, or an attribute is out of range.
    pub fn modify(&self, transition: Transition) -> Result<(), DeviceError> {
        let engine = self.0.device.engine();
        if transition == Transition::Error {
            engine.settle(&self.0.queue_pair);
        }
        Ok(self.0.queue_pair.modify(engine.now(), transition)?)
    }

    /// INIT → RTR of a connection, on that path.
    ///
    /// # Errors
    /// The path isn't possible, or the transition isn't.
    pub fn ready_to_receive(
        &self,
        attributes: ReceiveAttributes,
        path: PathAttributes,
    ) -> Result<(), DeviceError> {
        self.set_attributes(Transition::ReadyToReceive(attributes).into(), Some(path))
    }

    /// Sets attributes, and with them the state, as `ibv_modify_qp(3)` does: [`rules`](rocev2::work::rules) says
    /// which of them each transition of each transport needs and allows. The path is one of them.
    ///
    /// # Errors
    /// There is no such transition, an attribute is missing, not allowed or out of range, or the path isn't possible;
    /// or it is sealed by an association that has no SA for packets that leave. Nothing has changed then.
    pub fn set_attributes(
        &self,
        attributes: Attributes,
        path: Option<PathAttributes>,
    ) -> Result<(), DeviceError> {
        if let Some(port) = attributes.port.filter(|port| *port != 1) {
            return Err(DeviceError::Port(port));
        }
        if let Some(index) = attributes.pkey_index.filter(|index| *index != 0) {
            return Err(DeviceError::PartitionKey(index));
        }
        let engine = self.0.device.engine();
        let transport = self.transport();
        if attributes.state == Some(State::ReadyToReceive)
            && self.0.device.is_sealed_only()
            && !self.0.queue_pair.is_sealed()
        {
            return Err(DeviceError::NotSealed);
        }
        let path = path.map(|path| path.resolve(&self.0.device, transport)).transpose()?;
        if let Some(path) = &path
            && let Some(asked) = attributes.path_mtu.or(self.query().attributes.path_mtu)
        {
            let address = path.port.address();
            let limit = self.path_mtu(path.port.mtu())?.ok_or(DeviceError::NoRoomForEsp { address })?;
            if asked > limit {
                return Err(DeviceError::PathMtu { asked, limit, address });
            }
        }
        if transport == Transport::Ud && attributes.state == Some(State::ReadyToReceive) {
            // Datagrams arrive at every address that is in use.
            let ports = engine.ports();
            let addresses = ports.iter().filter(|port| port.members().is_none());
            addresses.for_each(|port| self.0.queue_pair.use_port(port));
        }
        if attributes.state == Some(State::Error) {
            engine.settle(&self.0.queue_pair);
        }
        Ok(self.0.queue_pair.set_attributes(engine.now(), attributes, path)?)
    }

    /// The largest path MTU of what it sends, of those that fit an interface.
    fn path_mtu(&self, mtu: PathMtu) -> Result<Option<Mtu>, DeviceError> {
        match self.0.queue_pair.association() {
            None => Ok(Some(mtu.clear)),
            Some(association) if association.outbound().is_none() => Err(DeviceError::NoSa),
            Some(_) => Ok(mtu.sealed),
        }
    }

    /// Has the queue pair, a connection's, send and take nothing but packets that `association` seals and opens. It
    /// stays so for as long as the queue pair exists.
    ///
    /// # Errors
    /// The queue pair is past INIT, or for datagrams; or the association is another device's.
    pub fn seal_by(&self, association: &SecurityAssociation) -> Result<(), DeviceError> {
        let association = association.of(&self.0.device).ok_or(DeviceError::OtherDevice)?;
        if self.transport() == Transport::Ud {
            return Err(DeviceError::SealedDatagrams);
        }
        self.0.queue_pair.seal_by(association).map_err(|state| DeviceError::SealedLate(state.0))
    }

    /// Has the queue pair, one for datagrams, send and take none in clear: those for a peer are sealed by the
    /// association that is [for it](SecurityAssociation::for_datagrams) when they leave, and lost if there is none, and
    /// those of a peer are taken if that one has opened them. It stays so for as long as the queue pair exists.
    ///
    /// # Errors
    /// The queue pair is past INIT, or a connection's.
    pub fn seal_datagrams(&self) -> Result<(), DeviceError> {
        if self.transport() != Transport::Ud {
            return Err(DeviceError::NotDatagrams);
        }
        self.0.queue_pair.seal_datagrams().map_err(|state| DeviceError::SealedLate(state.0))
    }

    /// Has the queue pair, one for datagrams, get what is sent to a multicast group (`ibv_attach_mcast(3)`), joined
    /// where this host has the address at `gid_index` of the GID table. Its queue key has to be the sender's, who sends
    /// by an address handle to queue pair [`Qpn::MULTICAST`]. It stays so until it is detached or dropped.
    ///
    /// # Errors
    /// It isn't for datagrams, the GID names no group or one of the other IP version, there are too many groups or
    /// queue pairs of this one, or the system refuses: something else has UDP port 4791 of all addresses.
    pub fn attach_multicast(&self, gid_index: usize, group: Gid) -> Result<(), DeviceError> {
        if self.transport() != Transport::Ud {
            return Err(DeviceError::MulticastType);
        }
        self.0.device.groups().attach(&self.0.device, gid_index, group, &self.0.queue_pair)
    }

    /// Ends that (`ibv_detach_mcast(3)`).
    ///
    /// # Errors
    /// It isn't attached to that group there.
    pub fn detach_multicast(&self, gid_index: usize, group: Gid) -> Result<(), DeviceError> {
        self.0.device.groups().detach(&self.0.device, gid_index, group, &self.0.queue_pair)
    }

    /// Queues a send request and sends what may be sent, on this thread.
    ///
    /// # Errors
    /// The request wasn't taken.
    pub fn post_send(&self, request: SendRequest<Buffers>) -> Result<(), PostError> {
        self.0.queue_pair.post_send(self.0.device.engine().now(), request)
    }

    /// Queues several requests before any is sent: their packets share system calls.
    ///
    /// # Errors
    /// One wasn't taken; those before it were, none after it was.
    pub fn post_send_list(
        &self,
        requests: impl Iterator<Item = SendRequest<Buffers>>,
    ) -> Result<(), PostError> {
        self.0.queue_pair.post_send_list(self.0.device.engine().now(), requests)
    }

    /// Queues a receive request.
    ///
    /// # Errors
    /// The request wasn't taken; where the queue pair shares a receive queue, it takes none.
    pub fn post_recv(&self, request: RecvRequest<Buffers>) -> Result<(), PostError> {
        self.0.queue_pair.post_recv(request)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.queue_pair.queue_pair_type() == QueuePairType::Ud {
            self.device.groups().forget(&self.device, &self.queue_pair);
        }
        self.device.engine().remove_queue_pair(&self.queue_pair);
    }
}

impl std::fmt::Debug for QueuePair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueuePair")
            .field("qpn", &self.qpn())
            .field("state", &self.query().state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
