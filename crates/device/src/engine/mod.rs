//! The engine: what the device's threads do, whoever runs them.
//!
//! It has no socket, thread, clock, randomness or descriptor of its own (`tests/layers.rs` sees to it): packets come
//! and go by a [`Link`](crate::link::Link), the rest is the [`Host`]'s. So whole devices run in virtual time, stepped
//! on one thread.
//!
//! | module | what it holds |
//! |---|---|
//! | `host` | what it needs of the system |
//! | `port` | one local address: from datagram to queue pair, and whose turn it is to send |
//! | `multicast_group` | a port that hands what arrives to several queue pairs |
//! | `queue_pair`, `queue_pair_table` | queue pairs, by random number |
//! | `shared_receive_queue`, `xrc_domain` | where receive requests wait; those of XRC |
//! | `address_table` | address handles |
//! | `security` | packets sealed by ESP: what opens those that arrive, and seals those that leave |
//! | `completion_queue`, `event_channel`, `events` | what programs wait for |
//! | `buffers` | the buffers of work requests, and memory as the protocol asks for it |
//! | `progress`, `linger`, `poll_mode` | what is done where nobody polls, step by step, and who takes what arrives |
//! | `alarm`, `deadlines` | time |
//! | `counters`, `usage` | every refused packet by its reason; how much the engine holds |
//! | `sync`, `models` | locks and atomics, and models of all that goes on without a lock (`.ci/loom`) |

mod address_table;
mod alarm;
mod buffers;
mod completion_queue;
mod counters;
mod deadlines;
mod delayed_acks;
mod event_channel;
mod events;
mod host;
mod linger;
#[cfg(all(test, loom))]
mod models;
mod multicast_group;
mod poll_mode;
mod port;
mod progress;
mod queue_pair;
mod queue_pair_table;
mod security;
mod shared_receive_queue;
mod sync;
mod usage;
mod xrc_domain;

pub(crate) use buffers::DomainMemory;
pub use buffers::{Buffers, Element};
pub use completion_queue::{Arm, Overflow, WorkCompletion};
pub(crate) use completion_queue::{Bell, CompletionQueue};
pub(crate) use counters::Counters;
pub(crate) use event_channel::EventChannel;
pub use events::DeviceEvent;
pub use host::{Host, Signal};
pub(crate) use multicast_group::{MAX_MEMBERS, Members};
pub(crate) use port::{PathMtu, Port};
pub use progress::{Pause, Progress, Ready};
pub(crate) use queue_pair::{Path, QueuePair};
pub(crate) use queue_pair_table::MAX_QUEUE_PAIRS;
pub use queue_pair_table::SLOTS;
pub(crate) use security::{Association, InboundStatus};
pub use security::{Peer, Receiver, SpiError};
pub(crate) use shared_receive_queue::{Receives, SharedReceiveQueue, XrcReceives};
pub use usage::Usage;
pub(crate) use xrc_domain::{XrcDomain, XrcQueue};

use crate::link::Link;
use address_table::AddressTable;
use alarm::Alarm;
use deadlines::Deadlines;
use events::EventQueue;
use port::CatchUp;
use queue_pair_table::QueuePairTable;
use rocev2::{Qpn, Time};
use smallvec::SmallVec;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

/// Deadlines that a thread that polls looks at at a time, at most.
const ATTENDED: usize = 32;

/// The engine of one device.
pub struct Engine {
    ports: RwLock<Arc<[Arc<Port>]>>,
    table: QueuePairTable,
    shared: Arc<Shared>,
}

/// What all parts of an engine use.
pub(crate) struct Shared {
    host: Arc<dyn Host>,
    pub(crate) counters: Counters,
    pub(crate) events: EventQueue,
    pub(crate) addresses: AddressTable,
    /// SAs for packets that arrive.
    database: security::Database,
    /// Whom they are with, as far as datagrams are sealed.
    peers: security::Peers,
    deadlines: Deadlines,
    alarm: Alarm,
}

impl Shared {
    pub(crate) fn now(&self) -> Time {
        self.host.now()
    }

    pub(crate) fn host(&self) -> &dyn Host {
        &*self.host
    }

    /// A queue pair wants to be looked at.
    fn announce(&self, at: Time, qpn: Qpn) {
        if self.deadlines.add(at, qpn) {
            self.alarm.by_deadline(at);
        }
    }

    /// No thread that polls looks after the deadlines any more.
    fn unattended(&self) {
        self.alarm.unattended(|| self.deadlines.earliest());
    }
}

impl Engine {
    /// An engine without ports. `events` is raised while there are asynchronous events.
    pub(crate) fn new(host: Arc<dyn Host>, events: Arc<dyn Signal>) -> Self {
        let shared = Shared {
            alarm: Alarm::new(Arc::clone(&host)),
            host,
            counters: Counters::default(),
            events: EventQueue::new(events),
            addresses: AddressTable::default(),
            database: security::Database::default(),
            peers: security::Peers::default(),
            deadlines: Deadlines::new(),
        };
        Self { ports: RwLock::new(Arc::new([])), table: QueuePairTable::default(), shared: Arc::new(shared) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn now(&self) -> Time {
        self.shared.now()
    }

    /// The ports as they are now.
    pub(crate) fn ports(&self) -> Arc<[Arc<Port>]> {
        Arc::clone(&self.ports.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a port, whose link is reported as ready by `token`.
    pub(crate) fn add_port(&self, link: Box<dyn Link>, token: u64, mtu: PathMtu) -> io::Result<Arc<Port>> {
        Port::new(link, token, mtu, Arc::clone(&self.shared)).map(|port| self.keep_port(port))
    }

    /// Adds the port of a multicast group that has no members yet.
    pub(crate) fn add_group(&self, link: Box<dyn Link>, token: u64, mtu: PathMtu) -> io::Result<Arc<Port>> {
        Port::for_group(link, token, mtu, Arc::clone(&self.shared)).map(|port| self.keep_port(port))
    }

    fn keep_port(&self, port: Port) -> Arc<Port> {
        let port = Arc::new(port);
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        *ports = ports.iter().chain([&port]).cloned().collect();
        port
    }

    /// Removes a port that no queue pair uses; its link closes when the last thread has let go of it.
    pub(crate) fn remove_port(&self, port: &Arc<Port>) {
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        *ports = ports.iter().filter(|other| !Arc::ptr_eq(other, port)).cloned().collect();
    }

    /// Adds the queue pair that `make` makes for a number drawn at random.
    pub(crate) fn add_queue_pair(&self, make: impl FnOnce(Qpn) -> QueuePair) -> io::Result<Arc<QueuePair>> {
        self.table.add(&*self.shared.host, make)
    }

    /// Adds queue pair 1; `None` if there is one, or it is another process's.
    pub(crate) fn add_gsi(&self, make: impl FnOnce(Qpn) -> QueuePair) -> Option<Arc<QueuePair>> {
        self.table.add_gsi(&*self.shared.host, make)
    }

    /// Ends a queue pair: it neither sends nor remembers anything from here on.
    pub(crate) fn remove_queue_pair(&self, queue_pair: &QueuePair) {
        self.table.remove(queue_pair.qpn());
        queue_pair.destroy(self.now());
    }

    /// Queue pairs that exist.
    pub(crate) fn queue_pairs(&self) -> usize {
        self.table.len()
    }

    /// Looks at the network for a thread that polls `queue`.
    pub(crate) fn poll(&self, queue: &CompletionQueue) {
        // Who is about to wait for the channel, and looks once more before, leaves the packets to the progress thread.
        let polls = !queue.is_armed();
        queue.each_port(|port| {
            port.poll(queue, &self.table);
            let now = self.now();
            port.mode().note_poll(now);
            if !polls {
                return;
            }
            if let Some(until) = port.mode().polled(now) {
                self.shared.alarm.attend(until);
                self.shared.alarm.postpone(|| self.next());
            }
            self.attend(now);
        });
    }

    /// When somebody polled last.
    fn last_poll(&self) -> Option<Time> {
        self.ports().iter().map(|port| port.mode().last_poll()).max()
    }

    /// Whoever polled `queue` is about to wait for its channel.
    pub(crate) fn about_to_wait(&self, queue: &CompletionQueue) {
        queue.each_port(|port| port.about_to_wait());
    }

    /// Looks after the deadlines: somebody polls. One that has passed has mostly moved on since it was announced; for
    /// what is due in earnest the progress thread has to come.
    fn attend(&self, now: Time) {
        let Shared { deadlines, alarm, .. } = &*self.shared;
        let passed = || deadlines.earliest().is_some_and(|earliest| earliest <= now);
        if !passed() || alarm.attended() == Time::ZERO {
            return;
        }
        let taken: SmallVec<[_; ATTENDED]> =
            core::iter::from_fn(|| deadlines.take_due(now)).take(ATTENDED).collect();
        for (deadline, qpn) in taken {
            if let Some(queue_pair) = self.table.get(qpn) {
                queue_pair.announce_again(now, deadline);
            }
        }
        if passed() {
            self.shared.unattended();
        }
    }

    /// When there is something to do next.
    fn next(&self) -> Option<Time> {
        let Shared { deadlines, alarm, .. } = &*self.shared;
        let deadline = deadlines.earliest().map(|at| at.max(alarm.attended()));
        self.ports().iter().filter_map(|port| port.next()).chain(deadline).min()
    }

    /// The progress thread is awake.
    fn wake(&self, now: Time) {
        self.shared.alarm.awake(now);
    }

    /// The progress thread is about to sleep until there is something to do.
    fn sleep(&self) {
        self.shared.alarm.sleep(|| self.next());
    }

    /// Takes the queue pairs whose time has come.
    fn take_due(&self, now: Time) -> impl Iterator<Item = Qpn> {
        let taken = core::iter::from_fn(move || self.shared.deadlines.take_due(now));
        taken.filter_map(move |(deadline, qpn)| {
            self.table.get(qpn).filter(|queue_pair| queue_pair.is_due(now, deadline)).map(|_| qpn)
        })
    }

    /// Lets queue pairs of a port send in turn.
    fn give_turns(&self, port: &Port) {
        port.give_turns(&self.table);
    }

    /// Takes what has arrived at a port; whether something had, `None` if another thread is at it.
    fn receive(&self, port: &Port) -> Option<bool> {
        port.progress(&self.table)
    }

    /// Goes on with `port`; whether everything that had arrived is taken.
    pub(crate) fn catch_up(&self, port: &mut CatchUp) -> bool {
        port.go_on(&self.table)
    }

    /// Takes what has arrived for a queue pair that is about to fail: hardware would have acted on it already, and what
    /// was acknowledged in time doesn't end with an error.
    pub(crate) fn settle(&self, queue_pair: &QueuePair) {
        if let Some(port) = queue_pair.port() {
            port.begin_catch_up().go_on(&self.table);
        }
    }

    fn handle_timeout(&self, qpn: Qpn, now: Time) {
        if let Some(queue_pair) = self.table.get(qpn) {
            queue_pair.handle_timeout(now);
        }
    }

    /// The links' counters, added up, and the engine's own.
    pub(crate) fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut total: Vec<(&'static str, u64)> = Vec::new();
        for port in self.ports().iter() {
            for (row, (name, count)) in port.link().counters().rows().into_iter().enumerate() {
                match total.get_mut(row) {
                    Some((_, sum)) => *sum += count,
                    None => total.push((name, count)),
                }
            }
        }
        total.extend(self.shared.counters.rows());
        total.extend(self.shared.counters.refused_by_reason());
        total
    }
}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Engine").field("queue_pairs", &self.queue_pairs()).finish_non_exhaustive()
    }
}
