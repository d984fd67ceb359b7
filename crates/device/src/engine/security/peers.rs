//! Which association seals datagrams for a peer, and whose the association is that has opened one: a queue pair for
//! datagrams has as many associations as it has peers (RFC 4301, section 4.4.1, has a database of policies for that).

use super::association::Association;
use super::inbound::AssociationId;
use super::peer::Peer;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};

/// The peers of a device, as far as datagrams for them can be sealed.
#[derive(Default)]
pub(crate) struct Peers(RwLock<Table>);

/// Associations know the device: it doesn't keep them.
#[derive(Default)]
struct Table {
    associations: HashMap<Peer, (AssociationId, Weak<Association>)>,
    peers: HashMap<AssociationId, Peer>,
}

impl Peers {
    /// Has datagrams for `peer` sealed by this association from now on.
    pub(super) fn set(&self, peer: Peer, association: &Arc<Association>) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let new = (association.id(), Arc::downgrade(association));
        if let Some((before, _)) = table.associations.insert(peer, new) {
            table.peers.remove(&before);
        }
        table.peers.insert(association.id(), peer);
    }

    /// Forgets an association that has ended.
    pub(super) fn forget(&self, association: AssociationId) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(peer) = table.peers.remove(&association) else { return };
        table.associations.remove(&peer);
    }

    /// What seals datagrams for `peer`.
    pub(crate) fn association(&self, peer: Peer) -> Option<Arc<Association>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.associations.get(&peer).and_then(|(_, association)| association.upgrade())
    }

    /// Whose datagrams the association opens.
    pub(crate) fn peer(&self, association: AssociationId) -> Option<Peer> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).peers.get(&association).copied()
    }
}
