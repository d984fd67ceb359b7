//! What a queue pair for datagrams seals them with: an association for each peer.

use super::{Peer, Peers, Sealing};
use rocev2::Mtu;
use std::collections::HashMap;
use std::net::IpAddr;

/// Peers whose shares of numbers are kept while datagrams go to others. Those of one that is forgotten are never used.
const KEPT: usize = 64;

/// The peers that a queue pair has sent to.
#[derive(Default)]
pub(crate) struct SealedDatagrams {
    /// Whom the next datagram is for.
    current: Option<Peer>,
    others: HashMap<Peer, Sealing>,
}

impl SealedDatagrams {
    /// Has `sealing` be what seals for `peer`, to whom `local` sends; `None` if nothing does now.
    pub(crate) fn choose(
        &mut self,
        sealing: &mut Option<Sealing>,
        peers: &Peers,
        local: IpAddr,
        (peer, mtu): (Peer, Option<Mtu>),
    ) {
        if self.current != Some(peer) {
            let before = self.current.replace(peer).zip(sealing.take());
            *sealing = self.others.remove(&peer);
            if let Some((before, kept)) = before {
                if self.others.len() >= KEPT {
                    self.others.clear();
                }
                self.others.insert(before, kept);
            }
        }
        let association = peers.association(peer);
        let known = sealing.as_ref().map(Sealing::id);
        if known != association.as_ref().map(|association| association.id()) {
            *sealing = association.map(Sealing::new);
            if let (Some(sealing), Some(mtu)) = (&mut *sealing, mtu) {
                sealing.fit(mtu);
            }
        }
        if let Some(chosen) = sealing
            && !chosen.refresh(local, peer.address)
        {
            *sealing = None;
        }
    }
}
