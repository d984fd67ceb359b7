//! The embedded device itself.

use super::gid_table::GidTable;
use super::multicast::Groups;
use super::{
    CompletionChannel, CompletionQueue, DeviceError, ProtectionDomain, SecurityAssociation, XrcDomain,
};
use crate::engine::{self, Bell, DeviceEvent, Engine, Host, MAX_MEMBERS, MAX_QUEUE_PAIRS, Port, Usage};
use crate::gid::Gid;
#[cfg(target_os = "linux")]
use crate::host::group::Share;
use crate::host::{Interface, Notifier, Os, Platform, ProgressThread};
use crate::link::Capture;
use crate::memory::{KeyLimits, KeySpace, KeyTable, Mapping};
use rocev2::Mtu;
use rocev2::work;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

/// How a device is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The only local address to use; all of this host's otherwise.
    pub address: Option<IpAddr>,
    /// The UDP port to receive on; otherwise 4791 where it is free, and any free one where it isn't.
    pub port: Option<u16>,
    /// The largest path MTU to use, where the interface allows more.
    pub mtu: Option<Mtu>,
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
    /// Address handles at a time.
    pub max_ah: usize,
    /// Requests outstanding in one shared receive queue.
    pub max_srq_wr: usize,
    /// Multicast groups at a time.
    pub max_mcast_grp: usize,
    /// Queue pairs attached to one of them.
    pub max_mcast_qp_attach: usize,
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
    max_ah: 1 << 20,
    max_srq_wr: 1 << 15,
    // Each has a socket.
    max_mcast_grp: 64,
    max_mcast_qp_attach: MAX_MEMBERS,
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
    /// The same for packets sealed by ESP; `None` where not even the smallest fits.
    pub sealed_mtu: Option<Mtu>,
    /// Its GID and UDP port, once the address is in use.
    pub bound: Option<(Gid, u16)>,
}

/// What the device's objects share.
pub(crate) struct DeviceState {
    // Ends first: what is declared first is dropped first.
    _thread: Option<ProgressThread>,
    engine: Arc<Engine>,
    platform: Arc<dyn Platform>,
    gids: GidTable,
    groups: Groups,
    keys: Arc<KeySpace>,
    events: Arc<Notifier>,
    next_queue: AtomicU64,
    next_shared_queue: AtomicU64,
    sealed_only: AtomicBool,
}

impl DeviceState {
    fn new(
        config: Config,
        platform: Arc<dyn Platform>,
        start: impl FnOnce(&Arc<Engine>) -> Result<Option<ProgressThread>, DeviceError>,
    ) -> Result<Self, DeviceError> {
        let gids = GidTable::new(config, &*platform)?;
        let events = Notifier::new(false).map_err(DeviceError::system("making an event descriptor"))?;
        let events = Arc::new(events);
        let host: Arc<dyn Host> = Arc::<dyn Platform>::clone(&platform);
        let engine = Arc::new(Engine::new(Arc::clone(&host), Arc::<Notifier>::clone(&events)));
        let limits = KeyLimits { regions: ATTRIBUTES.max_mr, windows: ATTRIBUTES.max_mw };
        Ok(Self {
            _thread: start(&engine)?,
            engine,
            platform,
            gids,
            groups: Groups::default(),
            keys: Arc::new(KeySpace::new(limits, move |bytes| host.random(bytes))),
            events,
            next_queue: AtomicU64::new(0),
            next_shared_queue: AtomicU64::new(0),
            sealed_only: AtomicBool::new(false),
        })
    }

    /// Whether no queue pair gets ready that isn't sealed.
    pub(crate) fn is_sealed_only(&self) -> bool {
        self.sealed_only.load(Ordering::Relaxed)
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// A number that no other shared receive queue has.
    pub(crate) fn shared_queue_number(&self) -> u64 {
        self.next_shared_queue.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether an address is this host's.
    pub(crate) fn is_here(&self, address: IpAddr) -> Result<bool, DeviceError> {
        let own = |interface: &Interface| interface.address == address;
        Ok(address.is_loopback() || self.platform.interfaces()?.iter().any(own))
    }

    /// The port of the address at `index`, bound now if it wasn't yet.
    pub(crate) fn port(&self, index: usize) -> Result<Arc<Port>, DeviceError> {
        self.gids.port(index, &self.engine, &*self.platform)
    }

    /// The multicast groups that queue pairs are attached to.
    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Zeroed bytes of memory for a region.
    pub(super) fn allocate(&self, len: usize) -> Result<Mapping, DeviceError> {
        Ok(self.platform.allocate(len)?)
    }

    /// A port at which what is sent to that group arrives, where this host has the address of `unicast`.
    pub(super) fn join(&self, group: SocketAddr, unicast: &Port) -> Result<Arc<Port>, DeviceError> {
        let token = self.gids.token();
        let link = self.platform.join(group, unicast.address(), token)?;
        self.engine
            .add_group(link, token, unicast.mtu())
            .map_err(DeviceError::system("having a socket's packets wake the progress thread"))
    }
}

/// An embedded device: RoCEv2 over UDP sockets of this process.
pub struct Device {
    state: Arc<DeviceState>,
}

impl Device {
    /// Opens a device. Sockets are bound when an address is first used.
    ///
    /// # Errors
    /// The address isn't this host's, or the operating system refuses what the device needs.
    pub fn open(config: Config) -> Result<Self, DeviceError> {
        Self::open_on(config, Os::new())
    }

    /// Opens a device that shares UDP port 4791 of its one address with other processes' devices.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(target_os = "linux")]
    pub fn open_shared(config: Config, share: Share) -> Result<Self, DeviceError> {
        Self::open_on(config, Os::sharing(share))
    }

    fn open_on(config: Config, os: io::Result<Os>) -> Result<Self, DeviceError> {
        let os = Arc::new(os.map_err(DeviceError::system("making the descriptors to wait for"))?);
        let start = |engine: &Arc<Engine>| {
            os.start(Arc::clone(engine))
                .map(Some)
                .map_err(DeviceError::system("starting the device's progress thread"))
        };
        let state = DeviceState::new(config, Arc::<Os>::clone(&os), start)?;
        Ok(Self { state: Arc::new(state) })
    }

    /// Opens a device on another platform than this host, without a thread: whoever opens it makes the engine's
    /// steps ([`Progress::step`](crate::Progress::step)).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn stepped(config: Config, platform: Arc<dyn Platform>) -> Result<(Self, Arc<Engine>), DeviceError> {
        let state = Arc::new(DeviceState::new(config, platform, |_| Ok(None))?);
        let engine = Arc::clone(state.engine());
        Ok((Self { state }, engine))
    }

    #[cfg(test)]
    pub(crate) fn state(&self) -> &Arc<DeviceState> {
        &self.state
    }

    /// The GID table.
    #[must_use]
    pub fn gids(&self) -> Vec<GidEntry> {
        self.state.gids.entries()
    }

    /// The index of a local address in the GID table. An address that the host got since the device was
    /// opened is added, and so is any of 127.0.0.0/8, unless the device was opened for one address only. There are
    /// 128 of the latter at a time: one that isn't used for half a minute is closed, and makes room for another.
    ///
    /// # Errors
    /// The device doesn't use that address.
    pub fn gid_index(&self, address: IpAddr) -> Result<usize, DeviceError> {
        self.state.gids.index(address, &self.state.engine, &*self.state.platform)
    }

    /// The GID at `index` and the UDP port that it receives on. The address is in use from now on.
    ///
    /// # Errors
    /// No such entry, or its socket can't be had.
    pub fn bind_gid(&self, index: usize) -> Result<(Gid, u16), DeviceError> {
        let port = self.state.port(index)?;
        Ok((port.gid(), port.local().port()))
    }

    /// A protection domain.
    #[must_use]
    pub fn protection_domain(&self) -> ProtectionDomain {
        let keys = Arc::new(KeyTable::new(Arc::clone(&self.state.keys)));
        ProtectionDomain::new(Arc::clone(&self.state), keys)
    }

    /// An XRC domain.
    #[must_use]
    pub fn xrc_domain(&self) -> XrcDomain {
        let keys = Arc::new(KeyTable::new(Arc::clone(&self.state.keys)));
        XrcDomain::new(Arc::clone(&self.state), keys)
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
        self.queue(capacity, channel.map(|channel| Bell::Channel(Arc::clone(channel.engine()))))
    }

    /// A completion queue with room for `capacity` entries whose event, when it is armed, is that `waker` is woken: it
    /// takes no descriptor. What that does, it does on the thread that makes progress, and mustn't wait there.
    ///
    /// # Errors
    /// The device has no queue of that size.
    pub fn waking_completion_queue(
        &self,
        capacity: usize,
        waker: Waker,
    ) -> Result<CompletionQueue, DeviceError> {
        self.queue(capacity, Some(Bell::Task(waker)))
    }

    fn queue(&self, capacity: usize, bell: Option<Bell>) -> Result<CompletionQueue, DeviceError> {
        within("completion queue entries", capacity, ATTRIBUTES.max_cqe)?;
        let number = self.state.next_queue.fetch_add(1, Ordering::Relaxed);
        let queue = Arc::new(engine::CompletionQueue::new(number, capacity.max(1), bell));
        Ok(CompletionQueue::new(queue, Arc::clone(&self.state)))
    }

    /// Has no queue pair get ready to receive any more that isn't sealed: nothing leaves in clear, whatever is asked of
    /// the device.
    pub fn seal_only(&self) {
        self.state.sealed_only.store(true, Ordering::Relaxed);
    }

    /// Has what passes at addresses that come into use from now on written down; what is sealed stays so. The first
    /// time counts.
    pub fn capture(&self, capture: Capture) {
        self.state.platform.capture(capture);
    }

    /// A security association: what seals packets and opens them, once it has keys.
    #[must_use]
    pub fn security_association(&self) -> SecurityAssociation {
        SecurityAssociation::new(&self.state)
    }

    /// The next asynchronous event, if there is one.
    #[must_use]
    pub fn try_event(&self) -> Option<DeviceEvent> {
        self.state.engine.shared().events.pop()
    }

    /// Queue pairs that exist.
    #[must_use]
    pub fn queue_pairs(&self) -> usize {
        self.state.engine.queue_pairs()
    }

    /// How much the device holds at the moment.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let (regions, windows, keys) = self.state.keys.usage();
        Usage { regions, windows, keys, ..self.state.engine.usage() }
    }

    /// Every counter with its name: what was received and sent, and every refused packet by reason.
    /// Those that have to do with ESP begin with `esp_`: `esp_clear` are packets in clear for a queue pair that takes
    /// sealed ones only, `esp_sealed` the other way round, `esp_other_association` packets that another one has sealed,
    /// `esp_not_sent` those that nothing could seal; `esp_rekeyed` are keys that have taken the place of others.
    /// `gso_distrusted` are queue pairs that send packets one by one because those sent in runs didn't
    /// arrive.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.state.engine.counters()
    }
}

impl AsFd for Device {
    /// Readable while there are asynchronous events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.state.events.as_fd()
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
