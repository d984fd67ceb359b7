//! What this process has of the agent and of the device: one connection to the one, one opened context of the other.

use crate::boundary::errno;
use libc::{EACCES, EIO, ENODEV, EOPNOTSUPP, c_int};
use rdma_verbs_sys::{Library, ibv_context, ibv_device, ibv_device_attr, ibv_pd};
use rocev2_agent::cm::Client;
use rocev2_agent::cm::protocol::{Reply, Request};
use rocev2_agent::{LeaseError, Place};
use std::env;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

/// What `secure-rdma run` sets in the environment: the addresses that devices use.
const ADDRESS: &str = "SECURE_RDMA_ADDRESS";
/// How packets are to be sealed, if they are.
const SEAL: &str = "SECURE_RDMA_SEAL";

/// The opened device. It is kept for as long as the process.
#[derive(Clone, Copy)]
pub(crate) struct Device {
    pub(crate) verbs: *mut ibv_context,
    /// For what programs make without a protection domain of their own.
    pub(crate) pd: *mut ibv_pd,
    pub(crate) max_responder_resources: u8,
    pub(crate) max_initiator_depth: u8,
    pub(crate) mtu: u8,
}

// SAFETY: libibverbs' objects may be used by any thread.
unsafe impl Send for Device {}

#[derive(Default)]
struct Session {
    /// The process that opened the rest: what is another one's isn't this one's.
    process: u32,
    client: Option<Arc<Client>>,
    device: Option<Device>,
}

static SESSION: Mutex<Option<Session>> = Mutex::new(None);

/// The connection to the agent. A process that was forked off closes it: otherwise its parent's end would go unnoticed.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// How often a process that had a connection to the agent was forked, down to this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Tells what this process has made from what it has inherited: the number differs then.
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    let descriptor = DESCRIPTOR.swap(-1, Ordering::Relaxed);
    if descriptor >= 0 {
        // SAFETY: the parent's connection, which nobody uses here: `current` forgets it.
        unsafe { libc::close(descriptor) };
    }
}

/// The session of this process.
fn current(session: &mut Option<Session>) -> &mut Session {
    let process = std::process::id();
    if session.as_ref().is_some_and(|session| session.process != process) {
        // Its descriptor is closed already, and its device's threads are the parent's.
        std::mem::forget(session.take());
    }
    session.get_or_insert_with(|| Session { process, ..Session::default() })
}

/// The connection to the agent, made now if there is none yet.
pub(crate) fn client() -> Result<Arc<Client>, c_int> {
    static WATCH_FORKS: Once = Once::new();
    let mut session = SESSION.lock().unwrap_or_else(PoisonError::into_inner);
    let session = current(&mut session);
    if let Some(client) = &session.client {
        return Ok(Arc::clone(client));
    }
    let place = Place::from_env().ok_or(ENODEV)?;
    let address: IpAddr = address().ok_or(ENODEV)?;
    // What can't be read is something all the same: the agent refuses it.
    let seal = env::var_os(SEAL).map(|settings| settings.to_string_lossy().into_owned());
    let client =
        place.ask(|socket| Client::connect(socket, address, seal.clone())).map_err(|error| match error {
            LeaseError::Port(error) => error.raw_os_error().unwrap_or(EIO),
            LeaseError::Refused(reason) => {
                eprintln!("librdmacm (secure-rdma): {reason}; there are no connections");
                EACCES
            }
            _ => ENODEV,
        })?;
    WATCH_FORKS.call_once(|| {
        // SAFETY: `forked` closes a descriptor, which a child may do at any time.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
    DESCRIPTOR.store(client.descriptor(), Ordering::Relaxed);
    let client = Arc::new(client);
    session.client = Some(Arc::clone(&client));
    Ok(client)
}

/// The address of the device that connections are made with: the first, where there are several.
pub(crate) fn address() -> Option<IpAddr> {
    env::var(ADDRESS).ok()?.split(',').next()?.parse().ok()
}

/// Whether packets are to be sealed.
pub(crate) fn is_sealed() -> bool {
    env::var_os(SEAL).is_some()
}

/// Asks the agent.
pub(crate) fn call(request: &Request) -> Result<(Reply, Option<OwnedFd>), c_int> {
    client()?.call(request).map_err(rustix::io::Errno::raw_os_error)
}

/// Asks the agent for something that has no answer but that it is done.
pub(crate) fn done(request: &Request) -> Result<(), c_int> {
    call(request).map(drop)
}

/// libibverbs, which is this project's where the program was started so.
pub(crate) fn verbs() -> Result<&'static Library, c_int> {
    Library::get().map_err(|_| ENODEV)
}

/// The device, opened now if it wasn't yet.
pub(crate) fn device() -> Result<Device, c_int> {
    let mut session = SESSION.lock().unwrap_or_else(PoisonError::into_inner);
    let session = current(&mut session);
    if let Some(device) = session.device {
        return Ok(device);
    }
    let device = open()?;
    session.device = Some(device);
    Ok(device)
}

fn open() -> Result<Device, c_int> {
    let library = verbs()?;
    let mut count = 0;
    // SAFETY: the number is written there.
    let list = unsafe { library.ibv_get_device_list(&raw mut count) };
    if list.is_null() {
        return Err(errno());
    }
    // SAFETY: the list ends with a null pointer.
    let first: *mut ibv_device = unsafe { *list };
    let verbs = if first.is_null() {
        std::ptr::null_mut()
    } else {
        // SAFETY: a device of the list, which isn't freed yet.
        unsafe { library.ibv_open_device(first) }
    };
    let failed = errno();
    // SAFETY: the list is the library's; what was opened stays.
    unsafe { library.ibv_free_device_list(list) };
    if verbs.is_null() {
        return Err(if count == 0 { ENODEV } else { failed });
    }
    let mut attributes = ibv_device_attr::default();
    let mut port = rdma_verbs_sys::ibv_port_attr::default();
    // SAFETY: the context is open, and the attributes are written where they belong.
    let queried = unsafe {
        library.ibv_query_device(verbs, &raw mut attributes) == 0
            && library.ibv_query_port(verbs, 1, &raw mut port) == 0
    };
    // SAFETY: as above.
    let pd = unsafe { library.ibv_alloc_pd(verbs) };
    if !queried || pd.is_null() {
        let failed = errno();
        // SAFETY: nobody else knows the context.
        unsafe { library.ibv_close_device(verbs) };
        return Err(failed);
    }
    let small = |number: c_int| u8::try_from(number).unwrap_or(u8::MAX);
    Ok(Device {
        verbs,
        pd,
        max_responder_resources: small(attributes.max_qp_rd_atom),
        max_initiator_depth: small(attributes.max_qp_init_rd_atom),
        mtu: u8::try_from(port.active_mtu).map_err(|_| EOPNOTSUPP)?,
    })
}
