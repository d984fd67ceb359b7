//! Waiting for several: as poll(2) and select(2), for rsockets and descriptors together.

use super::socket::{Socket, find};
use super::wait;
use crate::boundary::set_errno;
use libc::{
    EINVAL, FD_SETSIZE, POLLERR, POLLHUP, POLLIN, POLLOUT, c_int, c_short, fd_set, nfds_t, pollfd, timeval,
};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is polled in the kernel: descriptors, and after them those of rsockets.
struct Polled {
    descriptors: Vec<pollfd>,
    /// Of which rsocket each of the latter is, and whether it is that of its completions.
    of: Vec<(usize, bool)>,
}

fn readable(fd: RawFd) -> pollfd {
    pollfd { fd, events: POLLIN, revents: 0 }
}

/// What has happened to rsockets; how many have something to say.
fn look(fds: &mut [pollfd], sockets: &[(usize, Arc<Socket>)]) -> usize {
    let mut count = 0;
    for (at, socket) in sockets {
        let fd = &mut fds[*at];
        fd.revents = socket.inner().events(fd.events);
        count += usize::from(fd.revents != 0);
    }
    count
}

/// What to sleep on. Completions that come from here on raise an event; whether some may have come before.
fn arm(polled: &mut Polled, sockets: &[(usize, Arc<Socket>)]) -> bool {
    let mut was_unarmed = false;
    for (index, (_, socket)) in sockets.iter().enumerate() {
        let mut inner = socket.inner();
        if let Some(channel) = inner.channel() {
            polled.descriptors.push(readable(channel));
            polled.of.push((index, false));
        }
        if let Some(endpoint) = &mut inner.endpoint {
            was_unarmed |= endpoint.arm();
            polled.descriptors.push(readable(endpoint.descriptor()));
            polled.of.push((index, true));
        }
    }
    was_unarmed
}

/// Polls in the kernel; how many descriptors are ready.
fn kernel(descriptors: &mut [pollfd], within: Option<Duration>) -> Result<usize, c_int> {
    let within = within.map_or(-1, |within| {
        // Rounded up: who wakes too early would spin.
        c_int::try_from(within.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
    });
    // SAFETY: so many entries.
    let count = unsafe { libc::poll(descriptors.as_mut_ptr(), descriptors.len() as nfds_t, within) };
    usize::try_from(count).map_err(|_| crate::boundary::errno())
}

/// Waits until something has happened to one of them; how many those are.
fn poll(fds: &mut [pollfd], timeout: Option<Duration>) -> Result<usize, c_int> {
    let started = Instant::now();
    let sockets: Vec<(usize, Arc<Socket>)> =
        fds.iter().enumerate().filter_map(|(at, fd)| find(fd.fd).ok().map(|socket| (at, socket))).collect();
    if sockets.is_empty() {
        return kernel(fds, timeout);
    }
    // Those that are rsockets mean nothing to the kernel.
    let is_socket = |at: usize| sockets.binary_search_by_key(&at, |(of, _)| *of).is_ok();
    let mut others: Vec<pollfd> = fds
        .iter()
        .enumerate()
        .map(|(at, fd)| pollfd { fd: if is_socket(at) { -1 } else { fd.fd }, events: fd.events, revents: 0 })
        .collect();
    let has_others = others.iter().any(|other| other.fd >= 0);
    let own = wait::own()?;
    others.push(readable(own));
    let (plain, mut spin) = (fds.len(), wait::Spin::default());
    loop {
        let mut ready = look(fds, &sockets);
        if ready > 0 && !has_others {
            return Ok(ready);
        }
        if ready == 0 && !has_others && timeout != Some(Duration::ZERO) && spin.goes_on() {
            continue;
        }
        sockets.iter().for_each(|(_, socket)| socket.inner().waiters.push(own));
        let mut polled = Polled { descriptors: others.clone(), of: Vec::new() };
        if ready == 0 && arm(&mut polled, &sockets) {
            ready = look(fds, &sockets);
        }
        let within = if ready > 0 {
            Some(Duration::ZERO)
        } else {
            timeout.map(|timeout| timeout.saturating_sub(started.elapsed()))
        };
        let woken = kernel(&mut polled.descriptors, within);
        sockets.iter().for_each(|(_, socket)| wait::leave(&mut socket.inner(), own));
        wait::seen();
        woken?;
        let (of_fds, of_sockets) = polled.descriptors.split_at(plain + 1);
        for (descriptor, (index, is_completion)) in of_sockets.iter().zip(&polled.of) {
            if descriptor.revents != 0 {
                let mut inner = sockets[*index].1.inner();
                if *is_completion {
                    inner.take_events();
                } else {
                    inner.manage();
                }
            }
        }
        if ready == 0 {
            ready = look(fds, &sockets);
        }
        for (at, descriptor) in
            of_fds[..plain].iter().enumerate().filter(|(_, descriptor)| descriptor.fd >= 0)
        {
            fds[at].revents = descriptor.revents;
            ready += usize::from(descriptor.revents != 0);
        }
        if ready > 0 || timeout.is_some_and(|timeout| started.elapsed() >= timeout) {
            return Ok(ready);
        }
    }
}

/// A set of descriptors that a program gave, or none.
#[derive(Clone, Copy)]
struct Set(*mut fd_set);

impl Set {
    fn has(self, fd: c_int) -> bool {
        // SAFETY: the program gave a set, and the number is below FD_SETSIZE.
        !self.0.is_null() && unsafe { libc::FD_ISSET(fd, self.0) }
    }

    fn clear(self) {
        if !self.0.is_null() {
            // SAFETY: the program gave a set.
            unsafe { libc::FD_ZERO(self.0) };
        }
    }

    /// Adds a descriptor if that was asked for and has happened; whether it has.
    fn mark(self, fd: c_int, happened: bool) -> usize {
        if self.0.is_null() || !happened {
            return 0;
        }
        // SAFETY: as in `has`.
        unsafe { libc::FD_SET(fd, self.0) };
        1
    }
}

fn select(count: c_int, [read, write, except]: [Set; 3], timeout: Option<Duration>) -> Result<usize, c_int> {
    if !(0..=c_int::try_from(FD_SETSIZE).unwrap_or(0)).contains(&count) {
        return Err(EINVAL);
    }
    let asked = |fd: c_int| -> c_short {
        let input = if read.has(fd) { POLLIN } else { 0 };
        input | if write.has(fd) { POLLOUT } else { 0 } | if except.has(fd) { libc::POLLPRI } else { 0 }
    };
    let mut fds: Vec<pollfd> = (0..count)
        .map(|fd| pollfd { fd, events: asked(fd), revents: 0 })
        .filter(|fd| fd.events != 0)
        .collect();
    poll(&mut fds, timeout)?;
    if fds.iter().any(|fd| fd.revents & libc::POLLNVAL != 0) {
        return Err(libc::EBADF);
    }
    [read, write, except].into_iter().for_each(Set::clear);
    Ok(fds
        .iter()
        .map(|fd| {
            let (asked, found) = (|events| fd.events & events != 0, |events| fd.revents & events != 0);
            read.mark(fd.fd, asked(POLLIN) && found(POLLIN | POLLHUP | POLLERR))
                + write.mark(fd.fd, asked(POLLOUT) && found(POLLOUT | POLLERR))
                + except.mark(fd.fd, asked(libc::POLLPRI) && found(libc::POLLPRI))
        })
        .sum())
}

fn number(found: Result<usize, c_int>) -> c_int {
    found.map_or_else(
        |error| {
            set_errno(error);
            -1
        },
        |count| c_int::try_from(count).unwrap_or(c_int::MAX),
    )
}

export! {
    "RDMACM_1.0", -1,
    /// As poll(2).
    fn rpoll(fds: *mut pollfd, nfds: nfds_t, timeout: c_int) -> c_int {
        let timeout = u64::try_from(timeout).ok().map(Duration::from_millis);
        let Ok(count) = usize::try_from(nfds) else { return number(Err(EINVAL)) };
        if count == 0 || fds.is_null() {
            return number(if count == 0 { kernel(&mut [], timeout) } else { Err(libc::EFAULT) });
        }
        // SAFETY: the program gives so many entries.
        number(poll(unsafe { std::slice::from_raw_parts_mut(fds, count) }, timeout))
    }

    "RDMACM_1.0", -1,
    /// As select(2).
    fn rselect(
        nfds: c_int,
        readfds: *mut fd_set,
        writefds: *mut fd_set,
        exceptfds: *mut fd_set,
        timeout: *mut timeval,
    ) -> c_int {
        // SAFETY: the program gives a time, or none.
        let timeout = unsafe { timeout.as_ref() }.map(|timeout| {
            let seconds = Duration::from_secs(u64::try_from(timeout.tv_sec).unwrap_or(0));
            seconds + Duration::from_micros(u64::try_from(timeout.tv_usec).unwrap_or(0))
        });
        number(select(nfds, [Set(readfds), Set(writefds), Set(exceptfds)], timeout))
    }
}
