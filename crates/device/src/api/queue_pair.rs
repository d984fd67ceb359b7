//! Queue pairs.

use super::DeviceError;
use super::device::DeviceState;
use crate::engine::{self, Buffers, Path, Segmentation};
use crate::gid::Gid;
use rocev2::Qpn;
use rocev2::icrc::PseudoHeader;
use rocev2::transport::Snapshot;
use rocev2::work::{PostError, ReceiveAttributes, RecvRequest, SendRequest, Transition};
use std::net::SocketAddr;
use std::sync::Arc;

/// Where a queue pair's packets go (the address vector).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathAttributes {
    /// The local address, as an index of the GID table.
    pub gid_index: usize,
    /// The peer's GID.
    pub peer_gid: Gid,
    /// The peer's UDP port where its GID doesn't tell it (IPv6 on another port than 4791).
    pub peer_port: Option<u16>,
}

/// A queue pair of a reliable connection.
pub struct QueuePair {
    queue_pair: Arc<engine::QueuePair>,
    device: Arc<DeviceState>,
}

impl QueuePair {
    pub(crate) fn new(queue_pair: Arc<engine::QueuePair>, device: Arc<DeviceState>) -> Self {
        Self { queue_pair, device }
    }

    /// Its number.
    #[must_use]
    pub fn qpn(&self) -> Qpn {
        self.queue_pair.qpn()
    }

    /// Everything a query tells.
    #[must_use]
    pub fn query(&self) -> Snapshot {
        self.queue_pair.snapshot()
    }

    /// Makes a transition other than the one to RTR.
    ///
    /// # Errors
    /// It isn't possible from this state, or an attribute is out of range.
    pub fn modify(&self, transition: Transition) -> Result<(), DeviceError> {
        Ok(self.queue_pair.modify(self.device.engine().now(), transition, None)?)
    }

    /// INIT → RTR, on that path.
    ///
    /// # Errors
    /// The path isn't possible, or the transition isn't.
    pub fn ready_to_receive(
        &self,
        attributes: ReceiveAttributes,
        path: PathAttributes,
    ) -> Result<(), DeviceError> {
        let port = self.device.port(path.gid_index)?;
        let (address, gid_port) =
            path.peer_gid.endpoint().map_err(|_| DeviceError::Gid(path.peer_gid.to_string()))?;
        let (local, peer) = (port.local(), SocketAddr::new(address, path.peer_port.unwrap_or(gid_port)));
        let pseudo_header = PseudoHeader::new(local, peer)
            .map_err(|_| DeviceError::Family { local: local.ip(), peer: peer.ip() })?;
        if attributes.path_mtu > port.mtu() {
            let (asked, limit, address) = (attributes.path_mtu, port.mtu(), port.address());
            return Err(DeviceError::PathMtu { asked, limit, address });
        }
        let path = Path { port, peer, pseudo_header, segmentation: Segmentation::new(peer.ip()) };
        Ok(self.queue_pair.modify(
            self.device.engine().now(),
            Transition::ReadyToReceive(attributes),
            Some(path),
        )?)
    }

    /// Queues a send request and sends what may be sent, on this thread.
    ///
    /// # Errors
    /// The request wasn't taken.
    pub fn post_send(&self, request: SendRequest<Buffers>) -> Result<(), PostError> {
        self.queue_pair.post_send(self.device.engine().now(), request)
    }

    /// Queues several requests before any is sent: their packets share system calls.
    ///
    /// # Errors
    /// One wasn't taken; those before it were, none after it was.
    pub fn post_send_list(
        &self,
        requests: impl Iterator<Item = SendRequest<Buffers>>,
    ) -> Result<(), PostError> {
        self.queue_pair.post_send_list(self.device.engine().now(), requests)
    }

    /// Queues a receive request.
    ///
    /// # Errors
    /// The request wasn't taken.
    pub fn post_recv(&self, request: RecvRequest<Buffers>) -> Result<(), PostError> {
        self.queue_pair.post_recv(request)
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
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
