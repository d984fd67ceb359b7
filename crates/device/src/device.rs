//! The embedded device itself.

use crate::alarm::Alarm;
use crate::channel::CompletionChannel;
use crate::completion_queue::{CompletionQueue, QueueCore};
use crate::deadlines::Deadlines;
use crate::domain::ProtectionDomain;
use crate::error::DeviceError;
use crate::events::{DeviceEvent, EventQueue};
use crate::memory::{KeyLimits, KeySpace, KeyTable};
use crate::net::{self, Gid, Socket};
use crate::poll_mode::LOOK_IN;
use crate::port::{CatchUp, Port};
use crate::queue_pair::Surroundings;
use crate::queue_table::{MAX_QUEUE_PAIRS, QueueTable};
use crate::reactor::Reactor;
use rocev2::work;
use rocev2::{Mtu, Qpn, Time};
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

/// How a device is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The only local address to use; all of this host's otherwise.
    pub address: Option<IpAddr>,
    /// The UDP port to receive on; otherwise 4791 where it is free, and any free one where it isn't.
    pub port: Option<u16>,
}

/// What the device can do: the part of `ibv_device_attr` that isn't the same for every device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Queue pairs at a time.
    pub max_qp: usize,
    /// Work requests outstanding in one queue.
    pub max_qp_wr: usize,
    /// Elements of a scatter/gather list.
    pub max_sge: usize,
    /// Bytes of an inline request.
    pub max_inline: usize,
    /// Entries of a completion queue.
    pub max_cqe: usize,
    /// Memory regions at a time.
    pub max_mr: usize,
    /// Memory windows at a time.
    pub max_mw: usize,
    /// Bytes of a message.
    pub max_message: u32,
    /// Reads and atomics of one queue pair under way at a time, in each direction.
    pub max_rd_atomic: u8,
}

/// The limits of every embedded device.
pub const ATTRIBUTES: Attributes = Attributes {
    max_qp: MAX_QUEUE_PAIRS,
    max_qp_wr: 1 << 15,
    max_sge: 32,
    max_inline: 1024,
    max_cqe: 1 << 22,
    max_mr: 1 << 20,
    max_mw: 1 << 20,
    max_message: work::MAX_MESSAGE,
    max_rd_atomic: work::MAX_RD_ATOMIC,
};

/// One entry of the GID table: an address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GidEntry {
    /// The address.
    pub address: IpAddr,
    /// The interface that has it.
    pub interface: String,
    /// The largest path MTU that fits the interface.
    pub mtu: Mtu,
    /// Its GID and UDP port, once the address is in use.
    pub bound: Option<(Gid, u16)>,
}

struct Address {
    address: IpAddr,
    interface: String,
    mtu: Mtu,
    port: Option<Arc<Port>>,
}

impl Address {
    /// Every address of this host that RoCEv2 can use.
    fn all() -> Result<Vec<Self>, DeviceError> {
        Ok(net::interfaces()?.into_iter().filter_map(Self::of).collect())
    }

    /// One address of this host.
    fn find(address: IpAddr) -> Result<Self, DeviceError> {
        let found = net::interfaces()?;
        // All of 127.0.0.0/8 is this host, though the interface names only one of them.
        let loopback = address.is_ipv4() && address.is_loopback();
        let this = |interface: &&net::Interface| {
            interface.address == address
                || (loopback && interface.address.is_ipv4() && interface.address.is_loopback())
        };
        let interface =
            found.iter().find(this).map(|interface| net::Interface { address, ..interface.clone() });
        interface.and_then(Self::of).ok_or_else(|| DeviceError::NoSuchAddress {
            address,
            have: found.iter().map(|interface| interface.address.to_string()).collect::<Vec<_>>().join(", "),
        })
    }

    /// `None` where not even the smallest path MTU fits the interface.
    fn of(interface: net::Interface) -> Option<Self> {
        let mtu = Mtu::for_interface(interface.mtu)?;
        Some(Self { address: interface.address, interface: interface.name, mtu, port: None })
    }
}

/// Deadlines that a thread that polls looks at, at most, when it puts the alarm off.
const PUT_OFF: usize = 32;

/// What the device's objects share.
pub(crate) struct Inner {
    clock: Instant,
    config: Config,
    /// The GID table. Sockets are bound when an address is first used.
    addresses: Mutex<Vec<Address>>,
    ports: RwLock<Arc<[Arc<Port>]>>,
    keys: Arc<KeySpace>,
    pub(crate) table: QueueTable,
    pub(crate) surroundings: Surroundings,
    next_queue: AtomicU64,
    next_port: AtomicU64,
    reactor: Arc<Reactor>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Inner {
    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.clock.elapsed()
    }

    /// The ports as they are now.
    pub(crate) fn ports(&self) -> Arc<[Arc<Port>]> {
        Arc::clone(&self.ports.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Empties the socket; whether something was there, `None` if somebody else is at it.
    pub(crate) fn progress_port(&self, port: &Port) -> Option<bool> {
        port.progress(&self.table, &self.surroundings.counters, || self.now())
    }

    /// The same for a thread that polls `queue`, and perhaps will again.
    pub(crate) fn poll_port(&self, port: &Port, queue: &QueueCore, again: bool) {
        port.poll(queue, &self.table, &self.surroundings.counters, || self.now());
        if again && port.mode().polled(self.now()) {
            self.put_off();
        }
    }

    /// Puts the alarm off: somebody polls. What keeps the time is often a deadline that has moved on since it was
    /// announced.
    fn put_off(&self) {
        let soon = self.now() + LOOK_IN;
        let mut moved: SmallVec<[_; PUT_OFF]> = SmallVec::new();
        moved.extend(core::iter::from_fn(|| self.surroundings.deadlines.take_due(soon)).take(PUT_OFF));
        for (deadline, qpn) in moved {
            if let Some(queue_pair) = self.table.get(qpn) {
                queue_pair.announce_again(deadline);
            }
        }
        self.surroundings.alarm.postpone(|| self.next());
    }

    /// Whoever polled is about to wait for a completion channel.
    pub(crate) fn about_to_wait(&self, port: &Port) {
        if port.mode().waits() {
            self.arm(port, true);
        }
        port.settle(|| self.now());
    }

    /// Has packets wake the progress thread, or no longer.
    pub(crate) fn arm(&self, port: &Port, on: bool) {
        port.arm(on, || self.reactor.watch(port.socket(), port.token(), on));
    }

    /// When there is something to do next.
    fn next(&self) -> Option<Time> {
        let look_ins = self.ports();
        let look_ins = look_ins.iter().filter_map(|port| port.mode().look_in());
        look_ins.chain(self.surroundings.deadlines.earliest()).min()
    }

    /// The progress thread is about to sleep until there is something to do.
    pub(crate) fn sleep(&self) {
        self.surroundings.alarm.sleep(|| self.next());
    }

    /// Takes the queue pairs whose time has come.
    pub(crate) fn take_due(&self, now: Time) -> impl Iterator<Item = Qpn> {
        let taken = core::iter::from_fn(move || self.surroundings.deadlines.take_due(now));
        taken.filter_map(move |(deadline, qpn)| {
            self.table.get(qpn).filter(|queue_pair| queue_pair.is_due(now, deadline)).map(|_| qpn)
        })
    }

    /// Goes on with `port`; whether everything that had arrived is taken.
    pub(crate) fn catch_up(&self, port: &mut CatchUp) -> bool {
        port.go_on(&self.table, &self.surroundings.counters, || self.now())
    }

    pub(crate) fn handle_timeout(&self, qpn: Qpn, now: Time) {
        if let Some(queue_pair) = self.table.get(qpn) {
            queue_pair.handle_timeout(now);
        }
    }

    /// The port of the address at `index`, bound now if it wasn't yet.
    pub(crate) fn port(&self, index: usize) -> Result<Arc<Port>, DeviceError> {
        let mut addresses = crate::lock(&self.addresses);
        let count = addresses.len();
        let entry = addresses.get_mut(index).ok_or(DeviceError::GidIndex { index, count })?;
        if let Some(port) = &entry.port {
            return Ok(Arc::clone(port));
        }
        let socket = match self.config.port {
            Some(port) => Socket::bind(SocketAddr::new(entry.address, port))?,
            None => Socket::bind_preferred(entry.address)?,
        };
        let gid = Gid::for_endpoint(socket.local_addr());
        let token = self.next_port.fetch_add(1, Ordering::Relaxed);
        let port = Arc::new(Port::new(socket, token, gid, entry.mtu));
        self.reactor
            .watch(port.socket(), token, true)
            .map_err(DeviceError::system("watching a socket with epoll"))?;
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        *ports = ports.iter().chain([&port]).cloned().collect();
        entry.port = Some(Arc::clone(&port));
        Ok(port)
    }

    /// The sockets' counters, added up.
    fn net_counters(&self) -> Vec<(&'static str, u64)> {
        let mut total: Vec<(&'static str, u64)> = Vec::new();
        for port in self.ports().iter() {
            for (row, (name, count)) in port.socket().counters().rows().into_iter().enumerate() {
                match total.get_mut(row) {
                    Some((_, sum)) => *sum += count,
                    None => total.push((name, count)),
                }
            }
        }
        total
    }

    fn start_thread(self: &Arc<Self>) -> Result<(), DeviceError> {
        let handle = Arc::clone(&self.reactor)
            .start(Arc::downgrade(self))
            .map_err(DeviceError::system("starting the device's progress thread"))?;
        *crate::lock(&self.thread) = Some(handle);
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reactor.stop();
        let thread = crate::lock(&self.thread).take();
        // That thread itself may hold the last reference for a moment: it can't wait for itself.
        if let Some(thread) = thread.filter(|it| it.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

/// An embedded device: RoCEv2 over UDP sockets of this process.
pub struct Device {
    inner: Arc<Inner>,
}

impl Device {
    /// Opens a device. Sockets are bound when an address is first used.
    ///
    /// # Errors
    /// The address isn't this host's, or the operating system refuses what the device needs.
    pub fn open(config: Config) -> Result<Self, DeviceError> {
        let addresses = match config.address {
            Some(address) => vec![Address::find(address)?],
            None => Address::all()?,
        };
        if addresses.is_empty() {
            return Err(DeviceError::NoAddress);
        }
        let clock = Instant::now();
        let reactor =
            Arc::new(Reactor::new(clock).map_err(DeviceError::system("making an epoll descriptor"))?);
        let surroundings = Surroundings {
            counters: Arc::default(),
            deadlines: Arc::new(Deadlines::new()),
            events: Arc::new(EventQueue::new().map_err(DeviceError::system("making an event descriptor"))?),
            alarm: Arc::new(Alarm::new(Arc::<Reactor>::clone(&reactor))),
        };
        let inner = Arc::new(Inner {
            clock,
            config,
            addresses: Mutex::new(addresses),
            ports: RwLock::new(Arc::new([])),
            keys: Arc::new(KeySpace::new(KeyLimits {
                regions: ATTRIBUTES.max_mr,
                windows: ATTRIBUTES.max_mw,
            })),
            table: QueueTable::default(),
            surroundings,
            next_queue: AtomicU64::new(0),
            next_port: AtomicU64::new(0),
            reactor,
            thread: Mutex::default(),
        });
        inner.start_thread()?;
        Ok(Self { inner })
    }

    #[cfg(test)]
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The GID table.
    #[must_use]
    pub fn gids(&self) -> Vec<GidEntry> {
        crate::lock(&self.inner.addresses)
            .iter()
            .map(|entry| GidEntry {
                address: entry.address,
                interface: entry.interface.clone(),
                mtu: entry.mtu,
                bound: entry.port.as_ref().map(|port| (port.gid(), port.local().port())),
            })
            .collect()
    }

    /// The index of a local address in the GID table. An address that the host got since the device was
    /// opened is added, and so is any of 127.0.0.0/8, unless the device was opened for one address only.
    ///
    /// # Errors
    /// The device doesn't use that address.
    pub fn gid_index(&self, address: IpAddr) -> Result<usize, DeviceError> {
        let mut addresses = crate::lock(&self.inner.addresses);
        if let Some(index) = addresses.iter().position(|entry| entry.address == address) {
            return Ok(index);
        }
        if let Some(own) = self.inner.config.address {
            return Err(DeviceError::NoSuchAddress { address, have: own.to_string() });
        }
        addresses.push(Address::find(address)?);
        Ok(addresses.len() - 1)
    }

    /// The GID at `index` and the UDP port that it receives on. The address is in use from now on.
    ///
    /// # Errors
    /// No such entry, or its socket can't be had.
    pub fn bind_gid(&self, index: usize) -> Result<(Gid, u16), DeviceError> {
        let port = self.inner.port(index)?;
        Ok((port.gid(), port.local().port()))
    }

    /// A protection domain.
    #[must_use]
    pub fn protection_domain(&self) -> ProtectionDomain {
        let keys = Arc::new(KeyTable::new(Arc::clone(&self.inner.keys)));
        ProtectionDomain::new(Arc::clone(&self.inner), keys)
    }

    /// A completion channel.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn completion_channel(&self) -> Result<Arc<CompletionChannel>, DeviceError> {
        CompletionChannel::new().map(Arc::new).map_err(DeviceError::system("making a completion channel"))
    }

    /// A completion queue with room for `capacity` entries.
    ///
    /// # Errors
    /// The device has no queue of that size.
    pub fn completion_queue(
        &self,
        capacity: usize,
        channel: Option<Arc<CompletionChannel>>,
    ) -> Result<CompletionQueue, DeviceError> {
        within("completion queue entries", capacity, ATTRIBUTES.max_cqe)?;
        let number = self.inner.next_queue.fetch_add(1, Ordering::Relaxed);
        let core = Arc::new(QueueCore::new(number, capacity.max(1), channel));
        Ok(CompletionQueue::new(core, Arc::clone(&self.inner)))
    }

    /// The next asynchronous event, if there is one.
    #[must_use]
    pub fn try_event(&self) -> Option<DeviceEvent> {
        self.inner.surroundings.events.pop()
    }

    /// Queue pairs that exist.
    #[must_use]
    pub fn queue_pairs(&self) -> usize {
        self.inner.table.len()
    }

    /// Every counter with its name: what was received and sent, and every refused packet by reason.
    /// `gso_distrusted` are queue pairs that send packets one by one because those sent in runs didn't
    /// arrive.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut rows = self.inner.net_counters();
        rows.extend(self.inner.surroundings.counters.rows());
        rows.extend(self.inner.surroundings.counters.refused_by_reason());
        rows
    }
}

impl AsFd for Device {
    /// Readable while there are asynchronous events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.surroundings.events.as_fd()
    }
}

impl core::fmt::Debug for Device {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Device").field("gids", &self.gids()).finish_non_exhaustive()
    }
}

pub(crate) fn within(what: &'static str, asked: usize, limit: usize) -> Result<(), DeviceError> {
    if asked <= limit { Ok(()) } else { Err(DeviceError::Limit { what, asked, limit }) }
}
