//! All connections and SIDR requests, by their own ids, by the peers', by the peers' queue pairs, and by time.

use std::collections::{BTreeMap, BTreeSet};

use rocev2::{Qpn, Time};

use super::connection::Connection;
use super::sidr::Sidr;
use crate::{CommId, Gid};

/// The tables, which agree with each other after every call. Trees: no peer chooses how long a look-up takes.
#[derive(Debug, Default)]
pub(super) struct Table {
    connections: BTreeMap<CommId, Connection>,
    sidr: BTreeMap<CommId, Sidr>,
    /// By the peer's address and its id for the connection.
    by_remote_id: BTreeMap<(Gid, CommId), CommId>,
    /// By the peer's address and its queue pair: TIME-WAIT included.
    by_remote_qpn: BTreeMap<(Gid, Qpn), CommId>,
    /// Peers' SIDR requests, by the peer's address and its id for the request.
    sidr_by_remote: BTreeMap<(Gid, CommId), CommId>,
    deadlines: BTreeSet<(Time, CommId)>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.connections.len() + self.sidr.len()
    }

    pub(super) fn contains(&self, id: CommId) -> bool {
        self.connections.contains_key(&id) || self.sidr.contains_key(&id)
    }

    pub(super) fn get(&self, id: CommId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: CommId) -> Option<&mut Connection> {
        self.connections.get_mut(&id)
    }

    pub(super) fn insert(&mut self, id: CommId, connection: Connection) {
        self.connections.insert(id, connection);
    }

    /// The connection that a peer calls so.
    pub(super) fn by_remote_id(&self, remote: Gid, id: CommId) -> Option<CommId> {
        self.by_remote_id.get(&(remote, id)).copied()
    }

    /// The connection with that queue pair of a peer's.
    pub(super) fn by_remote_qpn(&self, remote: Gid, qpn: Qpn) -> Option<CommId> {
        self.by_remote_qpn.get(&(remote, qpn)).copied()
    }

    /// Names the peer's end of a connection, which must be new.
    pub(super) fn set_remote(&mut self, id: CommId, remote: Gid, remote_id: CommId, qpn: Qpn) {
        self.by_remote_id.insert((remote, remote_id), id);
        self.by_remote_qpn.insert((remote, qpn), id);
    }

    pub(super) fn remove(&mut self, id: CommId) {
        self.set_deadline(id, None);
        let Some(connection) = self.connections.remove(&id) else { return };
        let remote = connection.path.remote;
        if self.by_remote_id(remote, connection.remote_id) == Some(id) {
            self.by_remote_id.remove(&(remote, connection.remote_id));
        }
        if let Some(queue_pair) = connection.remote
            && self.by_remote_qpn(remote, queue_pair.qpn) == Some(id)
        {
            self.by_remote_qpn.remove(&(remote, queue_pair.qpn));
        }
    }

    pub(super) fn sidr(&self, id: CommId) -> Option<&Sidr> {
        self.sidr.get(&id)
    }

    pub(super) fn sidr_mut(&mut self, id: CommId) -> Option<&mut Sidr> {
        self.sidr.get_mut(&id)
    }

    pub(super) fn insert_sidr(&mut self, id: CommId, sidr: Sidr) {
        if sidr.is_peers() {
            self.sidr_by_remote.insert((sidr.path.remote, sidr.request_id), id);
        }
        self.sidr.insert(id, sidr);
    }

    pub(super) fn sidr_by_remote(&self, remote: Gid, request_id: CommId) -> Option<CommId> {
        self.sidr_by_remote.get(&(remote, request_id)).copied()
    }

    pub(super) fn remove_sidr(&mut self, id: CommId) -> Option<Sidr> {
        self.set_deadline(id, None);
        let sidr = self.sidr.remove(&id)?;
        if sidr.is_peers() {
            self.sidr_by_remote.remove(&(sidr.path.remote, sidr.request_id));
        }
        Some(sidr)
    }

    /// Sets a connection's or SIDR request's only deadline, or takes it away.
    pub(super) fn set_deadline(&mut self, id: CommId, deadline: Option<Time>) {
        let old = if let Some(connection) = self.connections.get_mut(&id) {
            core::mem::replace(&mut connection.deadline, deadline)
        } else if let Some(sidr) = self.sidr.get_mut(&id) {
            core::mem::replace(&mut sidr.deadline, deadline)
        } else {
            return;
        };
        if let Some(old) = old {
            self.deadlines.remove(&(old, id));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// The first whose deadline has passed; it has none then.
    pub(super) fn pop_expired(&mut self, now: Time) -> Option<CommId> {
        let &(deadline, id) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.set_deadline(id, None);
        Some(id)
    }

    /// Whether nothing is left in any table.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
            && self.by_remote_id.is_empty()
            && self.by_remote_qpn.is_empty()
            && self.sidr_by_remote.is_empty()
            && self.deadlines.is_empty()
    }
}
