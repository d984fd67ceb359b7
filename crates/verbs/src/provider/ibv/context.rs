//! An open device with the port in use.

use super::discovery::List;
use super::{check, made};
use crate::gid::GidEntry;
use crate::{Attributes, Error};
use core::ptr::NonNull;
use rdma_verbs_sys::{
    IBV_LINK_LAYER_ETHERNET, IBV_PORT_ACTIVE, IBV_PORT_ACTIVE_DEFER, IBV_PORT_ARMED, IBV_PORT_DOWN,
    IBV_PORT_INIT, Library, ibv_context, ibv_device, ibv_device_attr, ibv_port_attr,
};
use rocev2::Mtu;
use rocev2::work::MAX_MESSAGE;
use rustix::fs::Access;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A device of libibverbs, opened, and the port of it that is used.
pub(crate) struct Context {
    pub(super) library: &'static Library,
    pub(super) raw: NonNull<ibv_context>,
    name: String,
    pub(super) port: u8,
    /// The entry of the GID table that the user chose.
    gid_index: Option<usize>,
    pub(super) limits: ibv_device_attr,
    pub(super) port_limits: ibv_port_attr,
    pub(super) next_queue: AtomicU64,
}

// SAFETY: libibverbs' objects aren't tied to a thread.
unsafe impl Send for Context {}
// SAFETY: libibverbs locks what it has to.
unsafe impl Sync for Context {}

impl Context {
    /// Opens a device and one of its ports, by default the first active one.
    pub(crate) fn open(name: &str, port: Option<u8>, gid_index: Option<usize>) -> Result<Arc<Self>, Error> {
        let asked = || match port {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        let library = Library::get().map_err(|reason| Error::NoLibrary { asked: asked(), reason })?;
        let failed = |call, advice| {
            move |reason| Error::Verbs {
                device: name.to_owned(),
                call,
                reason,
                advice: Cow::Borrowed(advice),
            }
        };
        let list = List::new(library).map_err(failed("listing the RDMA devices", ""))?;
        let none = || Error::NoDevices { asked: asked() };
        let list = list.ok_or_else(none)?;
        let found = list.devices().find(|(_, found)| found == name);
        let Some((device, _)) = found else {
            let have = list.names();
            return Err(if have.is_empty() { none() } else { Error::NoSuchDevice { asked: asked(), have } });
        };
        // SAFETY: the device is one of a list that still exists.
        let raw = made(unsafe { library.ibv_open_device(device.as_ptr()) });
        let raw = raw.map_err(|source| not_opened(name, device, source))?;
        // From here on dropping the context closes it.
        let mut context = Self {
            library,
            raw,
            name: name.to_owned(),
            port: 1,
            gid_index,
            limits: ibv_device_attr::default(),
            port_limits: ibv_port_attr::default(),
            next_queue: AtomicU64::new(0),
        };
        // SAFETY: the context is open, and the structure is the caller's.
        check(unsafe { library.ibv_query_device(raw.as_ptr(), &raw mut context.limits) })
            .map_err(failed("asking for the device's limits", ""))?;
        context.choose_port(port)?;
        rustix::io::ioctl_fionbio(context.as_fd(), true)
            .map_err(|error| failed("making its event descriptor non-blocking", "")(error.into()))?;
        if let Some(index) = gid_index {
            context.gid(index)?;
        }
        Ok(Arc::new(context))
    }

    /// What libibverbs has no interface for.
    pub(crate) fn unsupported(&self, what: &'static str) -> Error {
        Error::Unsupported { device: self.name.clone(), what }
    }

    /// The device's name in libibverbs.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Queue pairs may be other processes' too: nothing tells how many there are.
    #[expect(clippy::unused_self, reason = "the embedded device knows")]
    pub(crate) fn queue_pairs(&self) -> Option<usize> {
        None
    }

    /// What it is, for a person.
    pub(crate) fn description(&self) -> Cow<'static, str> {
        let network = if self.is_ethernet() { "RoCE" } else { "InfiniBand" };
        format!("{network} through libibverbs, port {}, path MTU up to {}", self.port, self.mtu()).into()
    }

    /// The device and the port, for an error message.
    pub(super) fn place(&self) -> String {
        format!("{}, port {}", self.name, self.port)
    }

    /// The entry of the GID table that the user chose.
    pub(crate) fn chosen_gid(&self) -> Option<Result<GidEntry, Error>> {
        self.gid_index.map(|index| self.gid(index))
    }

    /// Whether the port is an Ethernet one, that is: RoCE.
    pub(super) fn is_ethernet(&self) -> bool {
        self.port_limits.link_layer == IBV_LINK_LAYER_ETHERNET
    }

    /// The largest path MTU that the port can use now.
    pub(crate) fn mtu(&self) -> Mtu {
        mtu(self.port_limits.active_mtu)
    }

    pub(crate) fn attributes(&self) -> Attributes {
        let limits = &self.limits;
        let count = |number: i32| usize::try_from(number).unwrap_or(0);
        let few = |number: i32| u8::try_from(number.clamp(0, u8::MAX.into())).unwrap_or(0);
        Attributes {
            max_qp: count(limits.max_qp),
            max_qp_wr: count(limits.max_qp_wr),
            max_sge: count(limits.max_sge),
            max_inline: None,
            max_cqe: count(limits.max_cqe),
            max_mr: count(limits.max_mr),
            max_message: self.port_limits.max_msg_sz.min(MAX_MESSAGE),
            max_qp_rd_atom: few(limits.max_qp_rd_atom),
            max_qp_init_rd_atom: few(limits.max_qp_init_rd_atom),
        }
    }

    /// For `map_err`, of a call that failed.
    pub(super) fn failed(
        &self,
        call: &'static str,
        advice: impl Into<Cow<'static, str>>,
    ) -> impl FnOnce(io::Error) -> Error {
        let (device, advice) = (self.name.clone(), advice.into());
        move |reason| Error::Verbs { device, call, reason, advice }
    }

    /// Refuses what is more than the device has.
    pub(super) fn within(&self, what: &'static str, asked: usize, limit: i32) -> Result<(), Error> {
        let (asked, limit) = (asked as u64, u64::try_from(limit).unwrap_or(0));
        if asked <= limit {
            Ok(())
        } else {
            Err(Error::Limit { device: self.name.clone(), what, asked, limit })
        }
    }

    pub(super) fn query_port(&self, port: u8) -> Result<ibv_port_attr, Error> {
        let mut attributes = ibv_port_attr::default();
        // SAFETY: the context is open; the exported function writes a prefix of the structure, which is zeroed.
        check(unsafe { self.library.ibv_query_port(self.raw.as_ptr(), port, &raw mut attributes) })
            .map_err(self.failed("asking for a port's state", ""))?;
        Ok(attributes)
    }

    /// Takes the port that was asked for, or the first active one.
    fn choose_port(&mut self, asked: Option<u8>) -> Result<(), Error> {
        let count = self.limits.phys_port_cnt;
        if let Some(port) = asked.filter(|port| *port > count) {
            return Err(Error::NoPort { device: self.name.clone(), port, count });
        }
        let mut found = Vec::new();
        for port in asked.map_or(1..=count, |port| port..=port) {
            let attributes = self.query_port(port)?;
            if [IBV_PORT_ACTIVE, IBV_PORT_ACTIVE_DEFER].contains(&attributes.state) {
                (self.port, self.port_limits) = (port, attributes);
                return Ok(());
            }
            found.push(format!("port {port} is {}", port_state(attributes.state)));
        }
        if found.is_empty() {
            found.push("it has no port".to_owned());
        }
        Err(Error::Inactive { device: self.name.clone(), found: found.join(", ") })
    }
}

/// A path MTU by its number in `enum ibv_mtu`; the smallest where the device says nothing that is known.
pub(super) fn mtu(number: u32) -> Mtu {
    u8::try_from(number).ok().and_then(Mtu::from_code).unwrap_or(Mtu::B256)
}

/// Why a device can't be opened, and what to do. The library tries several ways and tells of the last one:
/// what its device file says for itself is more to the point.
fn not_opened(name: &str, device: NonNull<ibv_device>, source: io::Error) -> Error {
    // SAFETY: the device is one of a list that still exists.
    let file = unsafe { &(*device.as_ptr()).dev_name };
    let file: Vec<u8> = file.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|byte| *byte != 0).collect();
    let file = Path::new("/dev/infiniband").join(OsStr::from_bytes(&file));
    let source = match rustix::fs::access(&file, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => source,
        Err(error) => error.into(),
    };
    let file = file.display();
    let advice = match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => format!(
            "; this user may not use {file}: give it the right (a udev rule, or the group that `ls -l \
             {file}` shows), or run as root"
        ),
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => format!(
            "; {file} isn't there: load the kernel module ib_uverbs, or hand the file into the container"
        ),
        Some(libc::EMFILE | libc::ENFILE) => {
            "; no file descriptor is left: raise the limit (ulimit -n)".to_owned()
        }
        _ => String::new(),
    };
    Error::Verbs {
        device: name.to_owned(),
        call: "opening the device",
        reason: source,
        advice: advice.into(),
    }
}

impl AsFd for Context {
    /// Readable while there are asynchronous events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the context is open, and this field doesn't change.
        let fd = unsafe { (*self.raw.as_ptr()).async_fd };
        // SAFETY: the descriptor stays open as long as the context.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: everything made of the context holds it, so nothing is left; it is closed once.
        unsafe { self.library.ibv_close_device(self.raw.as_ptr()) };
    }
}

/// The state of a port.
pub(super) fn port_state(state: u32) -> String {
    match state {
        IBV_PORT_DOWN => "DOWN".into(),
        IBV_PORT_INIT => "INIT".into(),
        IBV_PORT_ARMED => "ARMED".into(),
        IBV_PORT_ACTIVE => "ACTIVE".into(),
        IBV_PORT_ACTIVE_DEFER => "ACTIVE_DEFER".into(),
        other => format!("in state {other}"),
    }
}
