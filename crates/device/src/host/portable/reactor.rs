//! What wakes the progress thread: sockets that are ready, the time, and other threads.

use super::Notifier;
use crate::engine::{Ready, Signal};
use crate::link::Interest;
use rocev2::Time;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long to sleep where `poll` fails.
const BLIND: Duration = Duration::from_millis(1);

/// A clock, and what is waited for.
#[derive(Debug)]
pub(crate) struct Reactor {
    clock: Instant,
    /// Raised where what is waited for changes while the thread sleeps.
    changed: Notifier,
    waits: Mutex<Waits>,
}

/// What the thread waits for.
#[derive(Debug, Default)]
struct Waits {
    sockets: Vec<Watched>,
    alarm: Option<Time>,
    stopped: bool,
    /// It sleeps, or is about to, for what was here then.
    sleeps: bool,
}

/// A socket by its token.
#[derive(Debug, Clone)]
struct Watched {
    token: u64,
    /// A duplicate: the socket may be closed while `poll` looks at it.
    socket: Arc<OwnedFd>,
    interest: Interest,
}

impl Reactor {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { clock: Instant::now(), changed: Notifier::new(false)?, waits: Mutex::default() })
    }

    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.clock.elapsed()
    }

    /// Watches a socket, which is reported as `token`, for something else than before.
    pub(crate) fn watch(
        &self,
        socket: impl AsFd,
        token: u64,
        _before: Interest,
        interest: Interest,
    ) -> io::Result<()> {
        let mut waits = crate::lock(&self.waits);
        let at = waits.sockets.iter().position(|watched| watched.token == token);
        let nothing = interest == Interest::default();
        match at {
            Some(at) if nothing => drop(waits.sockets.swap_remove(at)),
            Some(at) => waits.sockets[at].interest = interest,
            None if nothing => {}
            None => {
                let socket = Arc::new(socket.as_fd().try_clone_to_owned()?);
                waits.sockets.push(Watched { token, socket, interest });
            }
        }
        self.wake(&waits);
        Ok(())
    }

    /// Has the thread wake at `at`.
    pub(crate) fn set_alarm(&self, at: Option<Time>) {
        let mut waits = crate::lock(&self.waits);
        waits.alarm = at;
        self.wake(&waits);
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        let mut waits = crate::lock(&self.waits);
        waits.stopped = true;
        self.wake(&waits);
    }

    /// Whether the thread is to end.
    pub(crate) fn is_stopped(&self) -> bool {
        crate::lock(&self.waits).stopped
    }

    fn wake(&self, waits: &Waits) {
        if waits.sleeps {
            self.changed.raise();
        }
    }

    /// What the calling thread needs once that is going to sleep here.
    pub(crate) fn enter(&self) {}

    /// Sleeps until something happens, and adds the sockets that are ready to `ready`.
    pub(crate) fn sleep(&self, ready: &mut Vec<Ready>) {
        let (sockets, alarm) = {
            let mut waits = crate::lock(&self.waits);
            if waits.stopped {
                return;
            }
            waits.sleeps = true;
            (waits.sockets.clone(), waits.alarm)
        };
        let watched = sockets.iter().map(|watched| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, watched.interest.readable);
            flags.set(PollFlags::OUT, watched.interest.writable);
            PollFd::new(&*watched.socket, flags)
        });
        let mut polled: Vec<_> = watched.chain([PollFd::new(&self.changed, PollFlags::IN)]).collect();
        // What doesn't fit the system's type is as good as for ever.
        let left = alarm.and_then(|at| Timespec::try_from(at.since(self.now())).ok());
        match poll(&mut polled, left.as_ref()) {
            Ok(_) => ready.extend(sockets.iter().zip(&polled).filter_map(|(watched, polled)| {
                let flags = polled.revents();
                let failed = flags.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
                let readable = flags.contains(PollFlags::IN) || failed;
                let writable = flags.contains(PollFlags::OUT) || failed;
                (readable || writable).then_some(Ready { token: watched.token, readable, writable })
            })),
            Err(Errno::INTR) => {}
            // Nothing that could be done about it: the thread goes on with what it can see without `poll`.
            Err(_) => std::thread::sleep(BLIND),
        }
        self.changed.lower();
        let mut waits = crate::lock(&self.waits);
        waits.sleeps = false;
        // It rings once.
        if waits.alarm.is_some_and(|at| at <= self.now()) {
            waits.alarm = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::thread;

    const READS: Interest = Interest { readable: true, writable: false };
    const WRITES: Interest = Interest { readable: false, writable: true };
    const NOTHING: Interest = Interest { readable: false, writable: false };

    fn sleep(reactor: &Reactor) -> Vec<Ready> {
        let mut ready = Vec::new();
        reactor.sleep(&mut ready);
        ready
    }

    #[test]
    fn what_is_watched_and_ready_ends_the_sleep() {
        let reactor = Reactor::new().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        reactor.watch(&socket, 7, NOTHING, READS).unwrap();
        socket.send_to(&[1], socket.local_addr().unwrap()).unwrap();
        assert_eq!(sleep(&reactor), [Ready { token: 7, readable: true, writable: false }]);
        reactor.watch(&socket, 7, READS, WRITES).unwrap();
        assert_eq!(sleep(&reactor), [Ready { token: 7, readable: false, writable: true }]);
        reactor.watch(&socket, 7, WRITES, NOTHING).unwrap();
        reactor.set_alarm(Some(reactor.now()));
        assert_eq!(sleep(&reactor), []);
    }

    #[test]
    fn an_alarm_that_is_set_meanwhile_ends_the_sleep_once_it_rings() {
        let reactor = Arc::new(Reactor::new().unwrap());
        let at = reactor.now() + Duration::from_millis(20);
        let sleeper = thread::spawn({
            let reactor = Arc::clone(&reactor);
            // The first sleep may end because the alarm is set.
            move || {
                while reactor.now() < at {
                    reactor.sleep(&mut Vec::new());
                }
            }
        });
        reactor.set_alarm(Some(at));
        sleeper.join().unwrap();
        assert!(reactor.now() >= at);
    }

    #[test]
    fn whoever_stops_it_ends_the_sleep_and_those_to_come() {
        let reactor = Arc::new(Reactor::new().unwrap());
        let sleeper = thread::spawn({
            let reactor = Arc::clone(&reactor);
            move || reactor.sleep(&mut Vec::new())
        });
        reactor.stop();
        sleeper.join().unwrap();
        assert!(reactor.is_stopped());
        assert_eq!(sleep(&reactor), []);
    }
}
