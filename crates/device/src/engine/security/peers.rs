//! Which association seals datagrams for a peer, and whose the association is that has opened one: a queue pair for
//! datagrams has as many associations as it has peers (RFC 4301, section 4.4.1, has a database of policies for that).

use super::association::Association;
use super::inbound::AssociationId;
use super::peer::Peer;
use crate::engine::queue_pair_table::SLOTS;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, Weak};

/// The peers of a device, as far as datagrams for them can be sealed.
#[derive(Default)]
pub(crate) struct Peers(RwLock<Table>);

/// Associations know the device: it doesn't keep them.
#[derive(Default)]
struct Table {
    associations: HashMap<Peer, (AssociationId, Weak<Association>)>,
    peers: HashMap<AssociationId, Served>,
}

/// Whose datagrams an association opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// One device's.
    Device(Peer),
    /// Those of all devices at an address: a kernel opens and seals for all of them.
    Address(IpAddr),
}

impl Served {
    /// Where they come from.
    pub(crate) const fn address(self) -> IpAddr {
        match self {
            Self::Device(peer) => peer.address,
            Self::Address(address) => address,
        }
    }

    /// Whether `peer` is one of those whose they are.
    pub(crate) fn has(self, peer: Peer) -> bool {
        match self {
            Self::Device(device) => device == peer,
            Self::Address(address) => address == peer.address,
        }
    }
}

impl Peers {
    /// Has datagrams for `peer` sealed by this association from now on.
    pub(super) fn set(&self, peer: Peer, association: &Arc<Association>) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let new = (association.id(), Arc::downgrade(association));
        if let Some((before, _)) = table.associations.insert(peer, new) {
            table.peers.remove(&before);
        }
        table.peers.insert(association.id(), Served::Device(peer));
    }

    /// Has datagrams for all devices at the address of this association's peer sealed by it from now on.
    pub(super) fn widen(&self, association: &Arc<Association>) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(Served::Device(Peer { address, .. })) = table.peers.get(&association.id()).copied() else {
            return;
        };
        for slot in (0..SLOTS).filter_map(|slot| u8::try_from(slot).ok()) {
            let new = (association.id(), Arc::downgrade(association));
            let before = table.associations.insert(Peer { address, slot }, new);
            if let Some((before, _)) = before.filter(|(before, _)| *before != association.id()) {
                table.peers.remove(&before);
            }
        }
        table.peers.insert(association.id(), Served::Address(address));
    }

    /// Forgets an association that has ended.
    pub(super) fn forget(&self, association: AssociationId) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match table.peers.remove(&association) {
            None => {}
            Some(Served::Device(peer)) => drop(table.associations.remove(&peer)),
            Some(Served::Address(_)) => table.associations.retain(|_, (other, _)| *other != association),
        }
    }

    /// What seals datagrams for `peer`.
    pub(crate) fn association(&self, peer: Peer) -> Option<Arc<Association>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.associations.get(&peer).and_then(|(_, association)| association.upgrade())
    }

    /// Whose datagrams the association opens.
    pub(crate) fn served(&self, association: AssociationId) -> Option<Served> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).peers.get(&association).copied()
    }
}
