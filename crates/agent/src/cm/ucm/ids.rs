//! Ids and queues of events.

use super::{MAX_CHANNELS, MAX_IDS, Ucm};
use crate::cm::channel::Channel;
use crate::cm::event::Told;
use crate::cm::id::{Id, State};
use crate::cm::protocol::{CmEvent, IdOption, Reply};
use rocev2_cm::{CommId, Exponent};
use rustix::io::Errno;

impl Ucm {
    pub(super) fn number(&mut self) -> u32 {
        loop {
            self.next = self.next.wrapping_add(1);
            if !self.ids.contains_key(&self.next) && !self.channels.contains_key(&self.next) {
                return self.next;
            }
        }
    }

    pub(super) fn open_channel(&mut self, client: u64) -> Result<Reply, Errno> {
        if self.channels.len() >= MAX_CHANNELS {
            return Err(Errno::NFILE);
        }
        let number = self.number();
        self.channels.insert(number, Channel::new(client)?);
        Ok(Reply::Number(number))
    }

    pub(super) fn add(&mut self, id: Id) -> Result<u32, Errno> {
        if self.ids.len() >= MAX_IDS {
            return Err(Errno::NOMEM);
        }
        let number = self.number();
        self.ids.insert(number, id);
        Ok(number)
    }

    /// An id of that process's.
    pub(super) fn own(&mut self, client: u64, id: u32) -> Result<&mut Id, Errno> {
        self.ids.get_mut(&id).filter(|id| id.client == client).ok_or(Errno::NOENT)
    }

    pub(super) fn own_channel(&mut self, client: u64, channel: u32) -> Result<&mut Channel, Errno> {
        self.channels.get_mut(&channel).filter(|channel| channel.client == client).ok_or(Errno::NOENT)
    }

    /// The manager's name for an id.
    pub(super) fn connection(&mut self, client: u64, id: u32) -> Result<CommId, Errno> {
        self.own(client, id)?.connection.ok_or(Errno::INVAL)
    }

    pub(super) fn push(&mut self, number: u32, listener: Option<u32>, told: Told) {
        let Some(id) = self.ids.get(&number) else { return };
        let Told { kind, status, params, qkey, multicast, reason } = told;
        let addresses = id.addresses();
        let event =
            CmEvent { kind, status, id: number, listener, addresses, params, qkey, multicast, reason };
        if let Some(channel) = self.channels.get_mut(&id.channel) {
            channel.push(event);
        }
    }

    /// An id and what belongs to it goes: events that wait, requests that nobody has taken.
    pub(super) fn destroy(&mut self, number: u32) {
        let Some(id) = self.ids.remove(&number) else { return };
        if let Some(port) = id.port {
            self.ports.give_back(port, number);
            if id.state == State::Listening {
                self.listeners.remove(&port.id());
                let _ = self.node.manager.close_listener(port.id(), None);
            }
        }
        if let Some(connection) = id.connection {
            self.connections.remove(&connection);
            let now = self.node.now();
            self.node.manager.abandon(now, connection);
        }
        if let Some(channel) = self.channels.get_mut(&id.channel) {
            let dropped = channel.take(|event| event.id == number || event.listener == Some(number));
            for requested in dropped.iter().filter(|event| event.listener == Some(number)) {
                self.destroy(requested.id);
            }
        }
    }

    pub(super) fn migrate(&mut self, client: u64, number: u32, channel: u32) -> Result<Reply, Errno> {
        self.own_channel(client, channel)?;
        let id = self.own(client, number)?;
        let before = std::mem::replace(&mut id.channel, channel);
        let waiting = self
            .channels
            .get_mut(&before)
            .map(|before| before.take(|event| event.id == number || event.listener == Some(number)));
        for event in waiting.into_iter().flatten() {
            // Requests that nobody has taken go with their listener.
            if let Some(requested) = self.ids.get_mut(&event.id) {
                requested.channel = channel;
            }
            if let Some(channel) = self.channels.get_mut(&channel) {
                channel.push(event);
            }
        }
        Ok(Reply::Done)
    }

    pub(super) fn set_option(&mut self, client: u64, number: u32, option: IdOption) -> Result<Reply, Errno> {
        let id = self.own(client, number)?;
        match option {
            IdOption::TypeOfService(class) => id.traffic_class = class,
            IdOption::ReuseAddress(reuse) => id.reuse = reuse,
            IdOption::FamilyOnly(_) => {}
            IdOption::AckTimeout(exponent) => {
                id.ack_timeout = Some(Exponent::new(exponent).ok_or(Errno::INVAL)?);
            }
        }
        Ok(Reply::Done)
    }

    /// The manager knows nothing of an id any more.
    pub(super) fn release(&mut self, number: u32) {
        if let Some(connection) = self.ids.get_mut(&number).and_then(|id| id.connection.take()) {
            self.connections.remove(&connection);
        }
    }
}
