//! How calls wait. A thread sleeps on the descriptors of the rsockets that it waits for, and on one of its own: whoever
//! takes an rsocket's completions wakes those that wait for it, since the event is gone then.

use super::endpoint::Endpoint;
use super::socket::{Inner, Socket};
use crate::boundary::errno;
use libc::{EIO, c_int};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

/// How long a call polls before it sleeps: about what sleeping and waking take.
const SPIN: Duration = Duration::from_micros(10);

thread_local! {
    /// This thread's descriptor.
    static WAKE: Option<OwnedFd> = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
}

/// Polling for a short while.
#[derive(Default)]
pub(super) struct Spin(Option<Instant>);

impl Spin {
    pub(super) fn goes_on(&mut self) -> bool {
        self.0.get_or_insert_with(Instant::now).elapsed() < SPIN
    }
}

/// A descriptor that somebody else closes.
fn borrowed<'a>(descriptor: RawFd) -> BorrowedFd<'a> {
    // SAFETY: it isn't -1; should it be closed meanwhile, what is asked of it fails.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}

/// Has calls on a descriptor of the device's or of the agent's not wait.
pub(super) fn set_nonblocking(descriptor: RawFd) -> Result<(), c_int> {
    // SAFETY: no memory is involved.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFL) };
    // SAFETY: as above.
    if flags < 0 || unsafe { libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK) } < 0 {
        return Err(errno());
    }
    Ok(())
}

pub(super) fn is_readable(descriptor: RawFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let of = borrowed(descriptor);
    poll(&mut [PollFd::new(&of, PollFlags::IN)], Some(&now)).is_ok_and(|count| count > 0)
}

/// Wakes threads, but this one.
pub(super) fn wake(waiters: &[RawFd]) {
    let own = own().ok();
    for waiter in waiters.iter().filter(|waiter| Some(**waiter) != own) {
        let _ = rustix::io::write(borrowed(*waiter), &1_u64.to_ne_bytes());
    }
}

/// This thread's descriptor: readable once somebody has woken it.
pub(super) fn own() -> Result<RawFd, c_int> {
    WAKE.with(|wake| wake.as_ref().map(AsRawFd::as_raw_fd).ok_or(EIO))
}

/// Whatever has woken this thread is seen.
pub(super) fn seen() {
    WAKE.with(|wake| wake.as_ref().map(|wake| rustix::io::read(wake.as_fd(), &mut [0_u8; 8])));
}

/// Sleeps until something may have happened to an rsocket.
pub(super) fn sleep(socket: &Socket, mut inner: MutexGuard<'_, Inner>) -> Result<(), c_int> {
    let own = own()?;
    inner.waiters.push(own);
    let descriptors = [Some(own), inner.channel(), inner.endpoint.as_ref().map(Endpoint::descriptor)];
    drop(inner);
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.into_iter().flatten().map(borrowed).collect();
    let mut polled: Vec<PollFd<'_>> = borrowed.iter().map(|of| PollFd::new(of, PollFlags::IN)).collect();
    let woken = poll(&mut polled, None);
    let is_ready = |at: usize| polled.get(at).is_some_and(|of| !of.revents().is_empty());
    let (is_told, has_completed) = (is_ready(1), is_ready(2));
    let mut inner = socket.inner();
    leave(&mut inner, own);
    seen();
    if has_completed {
        inner.take_events();
    }
    if is_told {
        inner.manage();
    }
    woken.map(drop).map_err(Errno::raw_os_error)
}

/// A thread no longer waits for an rsocket.
pub(super) fn leave(inner: &mut Inner, waiter: RawFd) {
    if let Some(at) = inner.waiters.iter().position(|other| *other == waiter) {
        inner.waiters.swap_remove(at);
    }
}
