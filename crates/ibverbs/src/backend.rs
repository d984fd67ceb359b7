//! Everything that touches the embedded device. Programs see one device; a process opens it once, whatever it opens
//! it for, so that the GID that it reads by one context is that of its queue pairs in another.

use crate::settings;
use libc::{EBUSY, EFAULT, EINVAL, EIO, ENODEV, ENOMEM, c_int};
use rocev2::transport::Snapshot;
use rocev2::wire::Transport;
use rocev2::work::{self, Transition};
use rocev2_agent::Lease;
use rocev2_device as device;
use rocev2_device::host::{Interface, interfaces};
use rocev2_device::memory::{Access, Base, Foreign, ForeignError};
use rocev2_device::{Config, DeviceError};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

pub(crate) use rocev2::work::{
    AsyncEvent, AtomicOperation, CompletionKind, InitAttributes, PeerRights, PostError, ReceiveAttributes,
    RecvRequest, RemoteAddress, SendAttributes, SendOperation, SendRequest,
};
pub(crate) use rocev2::{Mtu, Psn, Qpn};
pub(crate) use rocev2_device::{
    ATTRIBUTES, Arm, Buffers, CompletionChannel, CompletionQueue, DeviceEvent, Element, ForeignRegion, Gid,
    ProtectionDomain, QueuePair, Reregistration, WorkCompletion,
};

/// The embedded device with the one address that it uses.
pub(crate) struct Backend {
    device: device::Device,
    interface: Interface,
    mtu: Mtu,
}

/// The address that a device opened now would use: the one that was asked for, or the first that isn't loopback.
pub(crate) fn interface() -> Option<Interface> {
    let found = interfaces().ok()?;
    let Some(address) = settings::address() else { return found.into_iter().next() };
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

/// The device that this process has open.
static OPEN: Mutex<Option<(u64, Arc<Backend>)>> = Mutex::new(None);

/// The device, opened now if it wasn't yet. A process that was forked off opens its own: threads stay behind in a
/// fork, and the sockets are the parent's.
pub(crate) fn open() -> Result<Arc<Backend>, c_int> {
    static WATCH_FORKS: Once = Once::new();
    WATCH_FORKS.call_once(|| {
        // SAFETY: `forked` only counts, which a child may do at any time.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = forks();
    if let Some((of, backend)) = &*open
        && *of == generation
    {
        return Ok(Arc::clone(backend));
    }
    let backend = Arc::new(without_signals(Backend::new)?);
    without_signals(|| crate::events::start(Arc::clone(&backend))).map_err(|error| errno(&error))?;
    if let Some((_, inherited)) = open.replace((generation, Arc::clone(&backend))) {
        // Dropping it would wait for a thread that this process doesn't have.
        std::mem::forget(inherited);
    }
    Ok(backend)
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
    fn new() -> Result<Self, c_int> {
        let interface = interface().ok_or(ENODEV)?;
        let mtu = Mtu::for_interface(interface.mtu).ok_or(ENODEV)?;
        let device = match shared(&interface) {
            Some(device) => device,
            None => device::Device::open(Config { address: Some(interface.address), ..Config::default() }),
        };
        let device = device.map_err(|error| number(&error))?;
        Ok(Self { device, interface, mtu })
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

/// A device that shares UDP port 4791 with those of this user's other processes, if there is an agent.
///
/// Without one, the process has the port to itself, or gets another and a GID that tells it.
fn shared(interface: &Interface) -> Option<Result<device::Device, DeviceError>> {
    let place = settings::agent()?;
    let address = interface.address;
    let found = Lease::take(&place, address).map_err(|error| error.to_string());
    let shared = found.and_then(|lease| {
        let share = lease.share().map_err(|error| error.to_string())?;
        let keep = std::thread::Builder::new().name("rdma-lease".into()).spawn(move || lease.keep());
        keep.map_err(|error| error.to_string())?;
        Ok(share)
    });
    match shared {
        Ok(share) => Some(device::Device::open_shared(address, share)),
        Err(error) => {
            eprintln!("libibverbs (secure-rdma): {error}; going on alone at {address}");
            None
        }
    }
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

/// A queue pair of a reliable connection.
pub(crate) fn queue_pair(
    domain: &ProtectionDomain,
    send: &CompletionQueue,
    recv: &CompletionQueue,
    max_send: usize,
    max_recv: usize,
) -> Result<QueuePair, c_int> {
    let options = device::QueuePairOptions {
        transport: Transport::Rc,
        send_queue: send,
        recv_queue: recv,
        shared: None,
        max_send_requests: max_send,
        max_recv_requests: max_recv,
    };
    domain.queue_pair(options).map_err(|error| number(&error))
}

/// A change of a queue pair's state.
#[derive(Clone, Copy)]
pub(crate) enum Change {
    Reset,
    Init(InitAttributes),
    ReadyToReceive(ReceiveAttributes, [u8; 16]),
    ReadyToSend(SendAttributes),
    Drain,
    Resume,
    Error,
}

/// Changes a queue pair's state.
pub(crate) fn change(queue_pair: &QueuePair, change: Change) -> Result<(), c_int> {
    let transition = match change {
        Change::Reset => Transition::Reset,
        Change::Init(attributes) => Transition::Init(attributes),
        Change::ReadyToReceive(attributes, gid) => {
            let path = device::PathAttributes::new(0, Gid::from(gid));
            return queue_pair.ready_to_receive(attributes, path).map_err(|error| number(&error));
        }
        Change::ReadyToSend(attributes) => Transition::ReadyToSend(attributes),
        Change::Drain => Transition::Drain,
        Change::Resume => Transition::Resume,
        Change::Error => Transition::Error,
    };
    queue_pair.modify(transition).map_err(|error| number(&error))
}

/// What a queue pair tells of itself.
pub(crate) fn snapshot(queue_pair: &QueuePair) -> Snapshot {
    queue_pair.query()
}

/// Bytes of the longest message.
pub(crate) const MAX_MESSAGE: u32 = work::MAX_MESSAGE;
