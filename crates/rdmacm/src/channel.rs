//! Event channels. The descriptor is readable while there are events; the events themselves are the agent's.

use crate::abi::rdma_event_channel;
use crate::boundary::null;
use crate::session::{call, done};
use libc::{EAGAIN, EINVAL, EIO, c_int};
use rocev2_agent::cm::protocol::{CmEvent, Reply, Request};
use std::collections::HashSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// How long to wait before it is looked whether the agent is still there, in milliseconds.
const LOOK: c_int = 1000;

/// Where there is an event channel.
static PLACES: Mutex<Option<HashSet<usize>>> = Mutex::new(None);

fn places<R>(look: impl FnOnce(&mut HashSet<usize>) -> R) -> R {
    look(PLACES.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// An event channel.
#[repr(C)]
pub(crate) struct Channel {
    c: rdma_event_channel,
    pub(crate) number: u32,
    ready: OwnedFd,
}

impl Channel {
    /// The channel that a program means; `EINVAL` if there is none. As with ids, programs do name one that they have
    /// destroyed.
    ///
    /// # Safety
    /// If there is one, it isn't destroyed as long as the reference is used.
    pub(crate) unsafe fn of<'a>(c: *mut rdma_event_channel) -> Result<&'a Self, c_int> {
        if places(|places| places.contains(&c.addr())) {
            // SAFETY: it is the first field of ours, and the caller vouches for the rest.
            Ok(unsafe { &*c.cast::<Self>() })
        } else {
            Err(EINVAL)
        }
    }

    pub(crate) fn create() -> Result<*mut rdma_event_channel, c_int> {
        match call(&Request::OpenChannel)? {
            (Reply::Number(number), Some(ready)) => {
                let c = rdma_event_channel { fd: ready.as_raw_fd() };
                let channel = Box::into_raw(Box::new(Self { c, number, ready }));
                places(|places| places.insert(channel.addr()));
                Ok(channel.cast())
            }
            _ => Err(EIO),
        }
    }

    /// # Safety
    /// Nobody uses it.
    pub(crate) unsafe fn destroy(c: *mut rdma_event_channel) {
        if !places(|places| places.remove(&c.addr())) {
            return;
        }
        // SAFETY: `create` made it.
        let channel = unsafe { Box::from_raw(c.cast::<Self>()) };
        // Should the agent be gone, so is its end.
        let _ = done(&Request::CloseChannel { channel: channel.number });
    }

    /// The next event; waits for it unless the program has set the descriptor to `O_NONBLOCK`.
    pub(crate) fn next(&self) -> Result<CmEvent, c_int> {
        loop {
            match call(&Request::GetEvent { channel: self.number })?.0 {
                Reply::Event(event) => return Ok(*event),
                Reply::NoEvent => {}
                _ => return Err(EIO),
            }
            let fd = self.ready.as_raw_fd();
            // SAFETY: a descriptor of ours.
            if unsafe { libc::fcntl(fd, libc::F_GETFL) } & libc::O_NONBLOCK != 0 {
                return Err(EAGAIN);
            }
            let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one entry, which is ours.
            if unsafe { libc::poll(&raw mut poll, 1, LOOK) } < 0 {
                return Err(crate::boundary::errno());
            }
        }
    }
}

export! {
    "RDMACM_1.0", std::ptr::null_mut(),
    /// rdma_create_event_channel(3).
    fn rdma_create_event_channel() -> *mut rdma_event_channel {
        Channel::create().unwrap_or_else(null)
    }

    "RDMACM_1.0", (),
    /// rdma_destroy_event_channel(3).
    fn rdma_destroy_event_channel(channel: *mut rdma_event_channel) {
        // SAFETY: the program says that it is one, and no longer used.
        unsafe { Channel::destroy(channel) };
    }
}
