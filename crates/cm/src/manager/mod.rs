//! The state machines of both sides, driven from outside (IBA 12.9).

mod calls;
mod config;
mod connection;
mod error;
mod event;
mod listener;
mod listener_awaited;
mod params;
mod receive;
mod request;
mod sidr;
mod table;
mod timer;

use core::fmt;
use std::collections::VecDeque;

pub use config::Config;
pub use connection::State;
pub use error::{Dropped, Error, Refusal};
pub use event::{ConnectRequest, ConnectResponse, Event};
pub use params::{Answer, Connect, LocalQueuePair, Patience, QueuePairAttributes, Resolve, Route, Transport};
use rocev2::Time;

use self::listener::Listeners;
use self::table::Table;
use crate::wire::{MAD_LEN, Mad, Message};
use crate::{CommId, Gid};

/// The two ends, as this side sees them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Path {
    /// This side's address.
    pub local: Gid,
    /// The peer's address.
    pub remote: Gid,
}

/// A datagram to be sent to the peer's queue pair 1, from this side's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// From where to where.
    pub path: Path,
    /// The datagram.
    pub mad: [u8; MAD_LEN],
}

/// A communication manager: all connections of one channel adapter.
///
/// It has no clock: calls take the time, which must not go back. After each call, take what there is from
/// [`poll_transmit`](Self::poll_transmit) and [`poll_event`](Self::poll_event), and call
/// [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) says so.
///
/// Its randomness is the caller's: numbers that a peer can't predict. Whoever can't see the datagrams has to guess
/// them to end or change a connection: both communication IDs of an established one, one ID and the transaction's
/// 64 bits before. Everything that peers make it keep is bounded by [`Config`], and the tables are trees: no datagram
/// takes more than a few look-ups.
pub struct Manager {
    config: Config,
    random: Box<dyn FnMut() -> u64 + Send>,
    table: Table,
    listeners: Listeners,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    answered: sidr::Answered,
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("connections", &self.table.len()).finish_non_exhaustive()
    }
}

impl Manager {
    /// A manager without connections. `random` gives numbers that no peer can predict.
    #[must_use]
    pub fn new(config: Config, random: Box<dyn FnMut() -> u64 + Send>) -> Self {
        Self {
            config,
            random,
            table: Table::default(),
            listeners: Listeners::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            answered: sidr::Answered::new(),
        }
    }

    /// The next datagram to send. Repetitions come here too.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.table.next_deadline()
    }

    /// How many connections and SIDR requests there are, those in TIME-WAIT included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.table.len()
    }

    /// How many connections and SIDR requests of peers aren't established or answered.
    #[must_use]
    pub const fn half_open(&self) -> usize {
        self.listeners.half_open()
    }

    /// Whether nothing but listeners is left: no connection, no request, no timer, nothing to send or to tell.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.table.is_empty()
            && self.listeners.is_idle()
            && self.answered.is_empty()
            && self.transmits.is_empty()
            && self.events.is_empty()
    }

    /// The state of a connection or SIDR request; `None` if there is none with that id any more.
    #[must_use]
    pub fn state(&self, id: CommId) -> Option<State> {
        self.table
            .get(id)
            .map(|connection| connection.state)
            .or_else(|| self.table.sidr(id).map(|sidr| sidr.state))
    }

    /// What the connection's queue pair is to be given; `None` as long as the peer's or the caller's isn't known.
    #[must_use]
    pub fn attributes(&self, id: CommId) -> Option<QueuePairAttributes> {
        self.table.get(id)?.attributes()
    }

    /// Listens for REQs and SIDR_REQs to a service, at one of this side's addresses or at all (`None`). As many as
    /// `backlog` may wait for the caller's answer; one more is refused.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] if somebody listens there already.
    pub fn listen(&mut self, service_id: u64, address: Option<Gid>, backlog: usize) -> Result<(), Error> {
        self.listeners.listen((service_id, address), backlog)
    }

    /// Stops listening. Requests that were told already remain.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownId`] if nobody listens there.
    pub fn close_listener(&mut self, service_id: u64, address: Option<Gid>) -> Result<(), Error> {
        self.listeners.close((service_id, address))
    }

    /// Draws an id that isn't in use.
    fn draw_id(&mut self) -> CommId {
        loop {
            let [.., a, b, c, d] = (self.random)().to_be_bytes();
            let id = CommId::new(u32::from_be_bytes([a, b, c, d]));
            if id != CommId::NONE && !self.table.contains(id) {
                return id;
            }
        }
    }

    /// Whether there is room for one more connection, and for the events that it may cause.
    fn has_room(&self) -> bool {
        self.table.len() < self.config.max_connections && self.events.len() < 4 * self.config.max_connections
    }

    /// Puts a message into the queue, and returns its datagram. Where the queue is full it is as good as lost.
    fn send(&mut self, path: Path, transaction_id: u64, message: impl Into<Message>) -> Box<[u8; MAD_LEN]> {
        let mad = Mad { transaction_id, message: message.into() }.encode();
        self.send_again(path, &mad);
        Box::new(mad)
    }

    fn send_again(&mut self, path: Path, mad: &[u8; MAD_LEN]) {
        if self.transmits.len() < self.config.max_transmits {
            self.transmits.push_back(Transmit { path, mad: *mad });
        }
    }

    /// Tells the caller, if it hasn't given the connection up.
    fn tell(&mut self, id: CommId, event: Event) {
        if self.table.get(id).is_none_or(|connection| !connection.abandoned) {
            self.events.push_back(event);
        }
    }
}
