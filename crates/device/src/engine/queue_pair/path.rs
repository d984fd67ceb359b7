//! The way to a peer.

use super::segmentation::Segmentation;
use crate::engine::Port;
use crate::link::Marking;
use rocev2::icrc::{MixedFamilies, PseudoHeader};
use rocev2::wire::Transport;
use std::net::SocketAddr;
use std::sync::Arc;

/// The way to a peer: a connection's, or an address handle's.
#[derive(Clone)]
pub(crate) struct Path {
    pub(crate) port: Arc<Port>,
    pub(crate) peer: SocketAddr,
    /// What the IP headers say.
    pub(crate) marking: Marking,
    /// Whether the peer is on this host.
    pub(crate) is_here: bool,
    pub(crate) pseudo_header: PseudoHeader,
    pub(crate) segmentation: Segmentation,
}

impl Path {
    /// The way from `port` to `peer` for packets of that transport.
    pub(crate) fn new(
        port: Arc<Port>,
        peer: SocketAddr,
        marking: Marking,
        is_here: bool,
        transport: Transport,
    ) -> Result<Self, MixedFamilies> {
        let pseudo_header = PseudoHeader::new(port.local(), peer)?;
        let segmentation = match transport {
            Transport::Rc | Transport::Xrc => Segmentation::new(peer.ip()),
            Transport::Uc | Transport::Ud => Segmentation::unwatched(peer.ip(), is_here),
        };
        Ok(Self { port, peer, marking, is_here, pseudo_header, segmentation })
    }

    /// A packet's ICRC: its IP identification is `id`.
    pub(super) fn icrc(&self, id: u16, packet: &[u8], to: SocketAddr) -> u32 {
        if to == self.peer {
            return self.pseudo_header.icrc(id, packet);
        }
        // A datagram that had no room in the link before, for another address handle of the same port.
        let other = PseudoHeader::new(self.port.local(), to);
        other.map_or(0, |pseudo_header| pseudo_header.icrc(id, packet))
    }
}
