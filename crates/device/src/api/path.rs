//! Where packets go.

use super::DeviceError;
use super::device::DeviceState;
use crate::engine::Path;
use crate::gid::Gid;
use crate::link::Marking;
use rocev2::UDP_PORT;
use rocev2::wire::Transport;
use std::net::SocketAddr;

/// Where packets go (the address vector): those of a connection, or of an address handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathAttributes {
    /// The local address, as an index of the GID table.
    pub gid_index: usize,
    /// The peer's GID.
    pub peer_gid: Gid,
    /// The peer's UDP port where its GID doesn't tell it (IPv6 on another port than 4791).
    pub peer_port: Option<u16>,
    /// What the IP headers say.
    pub marking: Marking,
}

impl PathAttributes {
    /// From the address at `gid_index` to a peer whose GID says all that is to be known.
    #[must_use]
    pub fn new(gid_index: usize, peer_gid: Gid) -> Self {
        Self { gid_index, peer_gid, peer_port: None, marking: Marking::default() }
    }

    /// The path, for packets of that transport.
    pub(super) fn resolve(self, device: &DeviceState, transport: Transport) -> Result<Path, DeviceError> {
        let Self { gid_index, peer_gid, peer_port, marking } = self;
        let port = device.port(gid_index)?;
        let group = peer_gid.group().filter(|_| transport == Transport::Ud);
        if let Some(group) = group {
            let local = port.address();
            // What is multicast on loopback stays on this host.
            let (peer, is_here) = (SocketAddr::new(group, UDP_PORT), local.is_loopback());
            let path = Path::new(port, peer, marking, is_here, transport);
            return path.map_err(|_| DeviceError::Family { local, peer: group });
        }
        let (address, gid_port) = peer_gid.endpoint().map_err(|_| DeviceError::Gid(peer_gid.to_string()))?;
        let peer = SocketAddr::new(address, peer_port.unwrap_or(gid_port));
        let local = port.address();
        // A connection that is acknowledged needn't know.
        let is_here = !transport.is_reliable() && device.is_here(address)?;
        Path::new(port, peer, marking, is_here, transport)
            .map_err(|_| DeviceError::Family { local, peer: address })
    }
}
