//! Everything that touches the embedded device. A process opens each of the devices that it sees once, whatever it
//! opens it for, so that the GID that it reads by one context is that of its queue pairs in another.

use crate::{settings, statistics};
use libc::{EACCES, EBUSY, EFAULT, EINVAL, EIO, ENODEV, ENOMEM, EOPNOTSUPP, c_int};
use rocev2::transport::Snapshot;
use rocev2::work;
use rocev2_agent::pairs::{Instance, Pairs};
use rocev2_agent::{Lease, Packets, Place};
use rocev2_device as device;
use rocev2_device::host::group::Share;
use rocev2_device::host::{Interface, interfaces};
use rocev2_device::link::Capture;
use rocev2_device::memory::{Access, Base, Foreign, ForeignError, WindowRange};
use rocev2_device::{Config, DeviceError};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

pub(crate) use rocev2::wire::Transport;
pub(crate) use rocev2::work::{
    AsyncEvent, AtomicOperation, AttributeMask, Attributes, CompletionKind, Datagram, PeerRights, PostError,
    QueuePairType, Recipient, RecvRequest, RemoteAddress, SendOperation, SendRequest, State, rules,
};
pub(crate) use rocev2::{Mtu, Psn, Qpn, Srqn};
pub(crate) use rocev2_device::link::Marking;
pub(crate) use rocev2_device::memory::{Bind, WindowType};
pub(crate) use rocev2_device::{
    ATTRIBUTES, AddressHandle, Arm, Buffers, CompletionChannel, CompletionQueue, DeviceEvent, Element,
    ForeignRegion, Gid, MemoryWindow, PathAttributes, ProtectionDomain, QueuePair, QueuePairOptions,
    Reregistration, SharedReceiveQueue, WorkCompletion, XrcDomain,
};

/// The embedded device with the one address that it uses.
pub(crate) struct Backend {
    /// Its place among the devices that the program sees.
    index: usize,
    device: Arc<device::Device>,
    interface: Interface,
    mtu: Mtu,
    /// What seals packets, if they are to be sealed: then none leaves in clear.
    pairs: Option<Pairs>,
}

/// For which of the devices at an address there are keys, as an address handle knows.
pub(crate) struct KnownPeers {
    /// The address; none for a multicast group.
    address: Option<IpAddr>,
    /// A bit for each slot, and how many pairs had ended then.
    slots: Mutex<(u64, u64)>,
}

impl KnownPeers {
    pub(crate) fn new(peer: Gid) -> Self {
        let address = peer.group().is_none().then(|| peer.endpoint().ok()).flatten();
        Self { address: address.map(|(address, _)| address), slots: Mutex::default() }
    }

    fn has(&self, slot: u8, endings: u64) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.1 == endings && slots.0 >> slot & 1 != 0
    }

    fn add(&self, slot: u8, endings: u64) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.1 != endings {
            *slots = (0, endings);
        }
        slots.0 |= 1 << slot;
    }
}

/// The address that a device opened now would use: the one that was asked for, or the first that isn't loopback.
pub(crate) fn interface(asked: Option<IpAddr>) -> Option<Interface> {
    let found = interfaces().ok()?;
    let Some(address) = asked else { return found.into_iter().next() };
    // All of 127.0.0.0/8 is this host, though the interface names only one of them.
    let own = |interface: &&Interface| {
        interface.address == address
            || (address.is_ipv4()
                && address.is_loopback()
                && interface.address.is_loopback()
                && interface.address.is_ipv4())
    };
    found.iter().find(own).map(|interface| Interface { address, ..interface.clone() })
}

/// Processes that were forked off count here: what their parent opened isn't theirs.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// How often this process and those that it descends from were forked, since the device was first opened.
pub(crate) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The devices that this process has open, and after how many forks it opened them.
static OPEN: Mutex<BTreeMap<usize, (u64, Arc<Backend>)>> = Mutex::new(BTreeMap::new());

/// A device, opened now if it wasn't yet. A process that was forked off opens its own: threads stay behind in a
/// fork, and the sockets are the parent's.
pub(crate) fn open(index: usize) -> Result<Arc<Backend>, c_int> {
    static WATCH_FORKS: Once = Once::new();
    WATCH_FORKS.call_once(|| {
        // SAFETY: `forked` only counts, which a child may do at any time.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = forks();
    if let Some((of, backend)) = open.get(&index)
        && *of == generation
    {
        return Ok(Arc::clone(backend));
    }
    let backend = Arc::new(without_signals(|| Backend::new(index))?);
    without_signals(|| crate::events::start(Arc::clone(&backend))).map_err(|error| errno(&error))?;
    if let Some((_, inherited)) = open.insert(index, (generation, Arc::clone(&backend))) {
        // Dropping it would wait for a thread that this process doesn't have.
        std::mem::forget(inherited);
    }
    if settings::statistics() {
        statistics::show_at_exit();
    }
    Ok(backend)
}

/// The devices that this process, and not one that it was forked off from, has open; none while one is being opened,
/// which in a process that was forked off meanwhile goes on for ever.
pub(crate) fn opened() -> Vec<Arc<Backend>> {
    let Ok(open) = OPEN.try_lock() else { return Vec::new() };
    let generation = forks();
    open.values().filter(|(of, _)| *of == generation).map(|(_, backend)| Arc::clone(backend)).collect()
}

/// Runs `start` with every signal blocked: the threads that it starts inherit that, and the program's handlers run
/// on the program's threads.
fn without_signals<R>(start: impl FnOnce() -> R) -> R {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are ours; the first is filled before it is read.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let result = start();
    // SAFETY: the call above filled it.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    result
}

fn errno(error: &std::io::Error) -> c_int {
    error.raw_os_error().unwrap_or(EIO)
}

impl Backend {
    fn new(index: usize) -> Result<Self, c_int> {
        let interface = interface(settings::devices().address(index)).ok_or(ENODEV)?;
        if let Some(settings) = settings::seal() {
            return Self::sealed(index, interface, settings).map_err(|error| {
                eprintln!(
                    "libibverbs (secure-rdma): {error}; there is no device, since nothing may go in clear"
                );
                ENODEV
            });
        }
        let device = match shared(&interface) {
            Some(device) => device,
            None => device::Device::open(config(&interface)),
        };
        let device = Arc::new(device.map_err(|error| number(&error))?);
        capture(&device, index);
        let mtu = device.gids().first().map(|entry| entry.mtu).ok_or(ENODEV)?;
        Ok(Self { index, device, interface, mtu, pairs: None })
    }

    /// The device of a program whose packets are sealed.
    fn sealed(index: usize, interface: Interface, settings: String) -> Result<Self, String> {
        let text = |error: &dyn ToString| error.to_string();
        let place = Place::from_env().ok_or("the environment names no agent (SECURE_RDMA_AGENT)")?;
        let (share, slot) = lease(&place, interface.address, Packets::Sealed)?;
        let device = device::Device::open_shared(config(&interface), share).map_err(|error| text(&error))?;
        let entry = device.gids().into_iter().next();
        let mtu = entry.and_then(|entry| entry.sealed_mtu);
        let mtu =
            mtu.ok_or_else(|| format!("{}: its packets are too short for sealed ones", interface.name))?;
        device.seal_only();
        capture(&device, index);
        let device = Arc::new(device);
        let own = (interface.address, slot);
        let pairs =
            Pairs::start(place.socket(), Arc::clone(&device), own, settings).map_err(|error| text(&error))?;
        Ok(Self { index, device, interface, mtu, pairs: Some(pairs) })
    }

    /// Its place among the devices that the program sees.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Every counter with its name.
    pub(crate) fn counters(&self) -> Vec<(&'static str, u64)> {
        self.device.counters()
    }

    /// Whether its packets are sealed.
    pub(crate) fn is_sealed(&self) -> bool {
        self.pairs.is_some()
    }

    /// Has a queue pair's packets for its peer, and that one's, sealed, where all are.
    pub(crate) fn seal(&self, queue_pair: &QueuePair, peer: Gid, qpn: Qpn) -> Result<(), c_int> {
        let Some(pairs) = &self.pairs else { return Ok(()) };
        let (address, _) = peer.endpoint().map_err(|_| EINVAL)?;
        let association = pairs.association(Instance::of(address, qpn)).map_err(|error| {
            eprintln!(
                "libibverbs (secure-rdma): packets for {address} can't be sealed, so none is sent: {error}"
            );
            EACCES
        })?;
        queue_pair.seal_by(&association).map_err(|error| number(&error))
    }

    /// Has datagrams from a peer's address taken, where all packets are sealed and the kernel is known to seal there:
    /// its programs may be the first to send, and nobody there can ask for keys.
    pub(crate) fn expect_datagrams(&self, known: &KnownPeers) -> Result<(), c_int> {
        let is_kernel = |address| self.pairs.as_ref().is_some_and(|pairs| pairs.is_kernel(address));
        match known.address {
            Some(address) if is_kernel(address) => self.seal_datagrams(known, Qpn::GSI),
            _ => Ok(()),
        }
    }

    /// Has datagrams for that queue pair sealed, where all packets are: `known` says for which of the devices at its
    /// address there are keys, as far as an address handle knows.
    pub(crate) fn seal_datagrams(&self, known: &KnownPeers, qpn: Qpn) -> Result<(), c_int> {
        let Some(pairs) = &self.pairs else { return Ok(()) };
        let Some(address) = known.address else { return Err(EOPNOTSUPP) };
        let peer = Instance::of(address, qpn);
        let endings = pairs.endings();
        if known.has(peer.slot, endings) {
            return Ok(());
        }
        match pairs.association(peer) {
            Ok(_) => known.add(peer.slot, endings),
            Err(error) => {
                eprintln!(
                    "libibverbs (secure-rdma): datagrams for {address} can't be sealed, so none is sent: {error}"
                );
                return Err(EACCES);
            }
        }
        Ok(())
    }

    /// The network interface that it uses.
    pub(crate) fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The largest path MTU.
    pub(crate) fn mtu(&self) -> Mtu {
        self.mtu
    }

    /// Its GID; the address is in use from now on.
    pub(crate) fn gid(&self) -> Result<[u8; 16], c_int> {
        self.device.bind_gid(0).map(|(gid, _)| gid.to_bytes()).map_err(|error| number(&error))
    }

    pub(crate) fn domain(&self) -> ProtectionDomain {
        self.device.protection_domain()
    }

    pub(crate) fn xrc_domain(&self) -> XrcDomain {
        self.device.xrc_domain()
    }

    pub(crate) fn channel(&self) -> Result<Arc<CompletionChannel>, c_int> {
        self.device.completion_channel().map_err(|error| number(&error))
    }

    pub(crate) fn completion_queue(
        &self,
        capacity: usize,
        channel: Option<Arc<CompletionChannel>>,
    ) -> Result<CompletionQueue, c_int> {
        self.device.completion_queue(capacity, channel).map_err(|error| number(&error))
    }

    /// Waits until something happens to an object of the device, and hands out what did.
    pub(crate) fn wait_events(&self, mut visit: impl FnMut(DeviceEvent)) {
        let mut poll = libc::pollfd { fd: self.device.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which is ours.
        unsafe { libc::poll(&raw mut poll, 1, -1) };
        while let Some(event) = self.device.try_event() {
            visit(event);
        }
    }
}

/// How the device at that interface's address is opened.
fn config(interface: &Interface) -> Config {
    Config { address: Some(interface.address), mtu: settings::mtu(), ..Config::default() }
}

/// Has what passes appended to the file that was asked for.
fn capture(device: &device::Device, index: usize) {
    let Some(path) = settings::capture() else { return };
    let failed = |error: &std::io::Error| {
        eprintln!("libibverbs (secure-rdma): the capture ends here: {error}");
    };
    match std::fs::OpenOptions::new().append(true).open(&path) {
        // `run` has described the interfaces in the same order.
        Ok(file) => device.capture(Capture::new(file, u32::try_from(index).unwrap_or(u32::MAX), failed)),
        Err(error) => eprintln!("libibverbs (secure-rdma): nothing is captured: {}: {error}", path.display()),
    }
}

/// A device that shares UDP port 4791 with those of this user's other processes, if there is an agent.
///
/// Without one, the process has the port to itself, or gets another and a GID that tells it.
fn shared(interface: &Interface) -> Option<Result<device::Device, DeviceError>> {
    let place = Place::from_env()?;
    let address = interface.address;
    match lease(&place, address, Packets::Clear) {
        Ok((share, _)) => Some(device::Device::open_shared(config(interface), share)),
        Err(error) => {
            eprintln!("libibverbs (secure-rdma): {error}; going on alone at {address}");
            None
        }
    }
}

/// A slot from the agent, kept for as long as this process lives.
fn lease(place: &Place, address: IpAddr, packets: Packets) -> Result<(Share, u8), String> {
    let lease =
        place.ask(|socket| Lease::take(socket, address, packets)).map_err(|error| error.to_string())?;
    let share = lease.share().map_err(|error| error.to_string())?;
    let keep = std::thread::Builder::new().name("rdma-lease".into()).spawn(move || lease.keep());
    keep.map_err(|error| error.to_string())?;
    let slot = share.slot;
    Ok((share, slot))
}

/// The error number of a verb that failed.
pub(crate) fn number(error: &DeviceError) -> c_int {
    match error {
        DeviceError::System { source, .. } => errno(source),
        DeviceError::Mapping(_) | DeviceError::Limit { .. } => ENOMEM,
        DeviceError::NoAddress | DeviceError::NoSuchAddress { .. } | DeviceError::Bind(_) => ENODEV,
        _ => EINVAL,
    }
}

/// The error number of a request that wasn't taken.
pub(crate) fn refused(error: &PostError) -> c_int {
    match error {
        PostError::QueueFull(_) => ENOMEM,
        _ => EINVAL,
    }
}

/// What a region may be used for. Flags that only say how the memory is to be treated mean nothing here: it is never
/// pinned, and its pages are as large as they are.
fn access(flags: u32) -> Result<Access, c_int> {
    Access::from_ibv(flags & !rdma_verbs_sys::IBV_ACCESS_ON_DEMAND).map_err(|_| EINVAL)
}

/// # Safety
/// As ibv_reg_mr(3) demands: the memory is the program's to give.
unsafe fn memory(address: *mut u8, len: usize) -> Result<Foreign, c_int> {
    // SAFETY: a C program's memory has no Rust references to it.
    unsafe { Foreign::new(address, len) }.map_err(|error| match error {
        ForeignError::Range { .. } => EINVAL,
        ForeignError::NotMapped { .. } => EFAULT,
        ForeignError::System(source) => errno(&source),
    })
}

/// Registers the program's memory under `iova`.
///
/// # Safety
/// As ibv_reg_mr(3) demands: the memory is the program's to give.
pub(crate) unsafe fn register(
    domain: &ProtectionDomain,
    address: *mut u8,
    len: usize,
    iova: u64,
    flags: u32,
) -> Result<ForeignRegion, c_int> {
    let access = access(flags)?;
    // SAFETY: the caller says so.
    let memory = unsafe { memory(address, len) }?;
    domain.register_foreign(memory, Base::At(iova), access).map_err(|error| number(&error))
}

/// Registers a region anew; what is `None` stays.
///
/// # Safety
/// As ibv_rereg_mr(3) demands: the memory is the program's to give.
pub(crate) unsafe fn reregister(
    region: &mut ForeignRegion,
    domain: Option<&ProtectionDomain>,
    place: Option<(*mut u8, usize)>,
    flags: Option<u32>,
) -> Result<(), c_int> {
    let access = flags.map(access).transpose()?;
    let memory = match place {
        // SAFETY: the caller says so.
        Some((address, len)) => Some((unsafe { memory(address, len) }?, Base::Address)),
        None => None,
    };
    region.reregister(Reregistration { domain, memory, access }).map_err(|error| number(&error))
}

/// Deregisters a region; it comes back where windows are bound to it.
pub(crate) fn deregister(region: ForeignRegion) -> Result<(), (ForeignRegion, c_int)> {
    region.deregister().map_err(|(region, _)| (region, EBUSY))
}

/// Has a queue pair's datagrams sealed, or not sent and not taken.
pub(crate) fn seal_datagrams(queue_pair: &QueuePair) -> Result<(), c_int> {
    queue_pair.seal_datagrams().map_err(|error| number(&error))
}

/// A queue pair.
pub(crate) fn queue_pair(
    domain: &ProtectionDomain,
    options: QueuePairOptions<'_>,
) -> Result<QueuePair, c_int> {
    domain.queue_pair(options).map_err(|error| number(&error))
}

/// Sets attributes of a queue pair, and with them its state.
pub(crate) fn set_attributes(
    queue_pair: &QueuePair,
    attributes: Attributes,
    path: Option<PathAttributes>,
) -> Result<(), c_int> {
    queue_pair.set_attributes(attributes, path).map_err(|error| number(&error))
}

/// Ends what a queue pair is at.
pub(crate) fn reset(queue_pair: &QueuePair) -> Result<(), c_int> {
    set_attributes(queue_pair, Attributes { state: Some(State::Reset), ..Attributes::default() }, None)
}

/// Has a queue pair get what is sent to a multicast group.
pub(crate) fn attach(queue_pair: &QueuePair, group: Gid) -> Result<(), c_int> {
    queue_pair.attach_multicast(0, group).map_err(|error| number(&error))
}

/// Ends that.
pub(crate) fn detach(queue_pair: &QueuePair, group: Gid) -> Result<(), c_int> {
    queue_pair.detach_multicast(0, group).map_err(|error| number(&error))
}

/// A shared receive queue.
pub(crate) fn shared_receive_queue(
    domain: &ProtectionDomain,
    capacity: usize,
) -> Result<SharedReceiveQueue, c_int> {
    domain.shared_receive_queue(capacity).map_err(|error| number(&error))
}

/// A shared receive queue of an XRC domain, whose requests complete in `queue`.
pub(crate) fn xrc_shared_receive_queue(
    xrc: &XrcDomain,
    domain: &ProtectionDomain,
    queue: &CompletionQueue,
    capacity: usize,
) -> Result<SharedReceiveQueue, c_int> {
    xrc.shared_receive_queue(domain, queue, capacity).map_err(|error| number(&error))
}

/// A target of an XRC domain.
pub(crate) fn xrc_target(domain: &XrcDomain) -> Result<QueuePair, c_int> {
    domain.target().map_err(|error| number(&error))
}

/// The target with that number, for one more user.
pub(crate) fn open_xrc_target(domain: &XrcDomain, qpn: u32) -> Result<QueuePair, c_int> {
    domain.open_target(Qpn::new(qpn).ok_or(EINVAL)?).map_err(|error| number(&error))
}

/// An address handle.
pub(crate) fn address_handle(
    domain: &ProtectionDomain,
    path: PathAttributes,
) -> Result<AddressHandle, c_int> {
    domain.address_handle(path).map_err(|error| number(&error))
}

/// A memory window.
pub(crate) fn window(domain: &ProtectionDomain, kind: WindowType) -> Result<MemoryWindow, c_int> {
    domain.window(kind).map_err(|error| number(&error))
}

/// The request that binds a window to `len` bytes at `va` of a region, with C's flags; to nothing, if there are none.
/// Its key ends with `variant`, if the program chooses it.
pub(crate) fn bind(
    window: &MemoryWindow,
    variant: Option<u8>,
    region: Option<&ForeignRegion>,
    (va, len): (u64, u64),
    flags: u32,
) -> Result<Bind, c_int> {
    let range = match region.filter(|_| len > 0) {
        Some(region) => {
            let region = Arc::clone(region.region());
            Some(WindowRange { region, va, len, access: access(flags)? })
        }
        None => None,
    };
    window.bind(variant, range).map_err(|error| number(&error))
}

/// What a queue pair tells of itself.
pub(crate) fn snapshot(queue_pair: &QueuePair) -> Snapshot {
    queue_pair.query()
}

/// Bytes of the longest message.
pub(crate) const MAX_MESSAGE: u32 = work::MAX_MESSAGE;
