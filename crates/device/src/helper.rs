//! The helper thread: it works where nobody polls, and keeps the time.
//!
//! It sleeps in epoll on the sockets, but not before it has looked for more for a moment: packets mostly come
//! in streams. A thread that polls a completion queue empties the socket itself, and each packet would wake
//! the helper for nothing; so when the helper is woken and sees that somebody has polled since, it stops
//! watching that socket and only looks in now and then, until the polling has stopped or somebody waits on a
//! completion channel.

use crate::device::Inner;
use crate::port::{BUSY, Port};
use rocev2::Time;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the helper looks in while somebody else polls. When the polling stops without a word, packets
/// wait this long at most.
const LOOK_IN: Duration = Duration::from_millis(1);

/// How long the helper looks for further packets before it sleeps. A stream of them comes at shorter
/// intervals, and waking a thread costs its sender more than the packet.
const LINGER: Duration = Duration::from_micros(50);

/// Marks the waker among what epoll watches; sockets have their descriptor's number.
const WAKER: u64 = u64::MAX;

/// What the helper thread shares with the threads of the application.
pub(crate) struct Waker {
    epoll: OwnedFd,
    wake: OwnedFd,
    stop: AtomicBool,
    /// When the helper wakes by itself, in nanoseconds; 0 while it is awake.
    sleeps_until: AtomicU64,
    /// Held while a socket is watched from now on, or no longer.
    watching: Mutex<()>,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKER), EventFlags::IN)?;
        Ok(Self {
            epoll,
            wake,
            stop: AtomicBool::new(false),
            sleeps_until: AtomicU64::new(0),
            watching: Mutex::default(),
        })
    }

    /// Makes the helper look at deadlines and sockets now.
    pub(crate) fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Makes the helper look at deadlines in time for a new one, the earliest.
    pub(crate) fn announce(&self, deadline: Time) {
        // It looks at the deadlines once more after it has said how long it sleeps, and this one is among them by now.
        if deadline.as_nanos() < self.sleeps_until.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Somebody is about to wait for a completion channel: the socket must be watched.
    pub(crate) fn about_to_wait(&self, port: &Port) {
        port.attention().waits();
        if !port.attention().is_watched() {
            self.watch(port, true);
            self.wake();
        }
    }

    /// Watches another socket.
    pub(crate) fn add(&self, port: &Port) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, port.socket(), mark(port), EventFlags::IN)?)
    }

    fn remove(&self, port: &Port) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, port.socket())?)
    }

    /// A socket that isn't watched is no part of the epoll: else the kernel would call there twice for each
    /// datagram that it sends, which takes 0.4 µs, measured.
    fn watch(&self, port: &Port, on: bool) {
        let _watching = crate::lock(&self.watching);
        if port.attention().set_watched(on) != on {
            let changed = if on { self.add(port) } else { self.remove(port) };
            if on && changed.is_err() {
                // The system has no memory for it. The helper looks in then, and tries again.
                port.attention().set_watched(false);
            }
        }
    }

    /// Ends the helper thread.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Sleeps until something happens, or for `span`; adds the marks of the sockets that have packets to `ready`.
    fn sleep(&self, span: Option<Duration>, ready: &mut Vec<u64>) {
        let mut events: [epoll::Event; 16] = core::array::from_fn(|_| epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(WAKER),
        });
        match epoll::wait(&self.epoll, &mut events, span.map(timespec).as_ref()) {
            Ok(count) => {
                for event in events.iter().take(count) {
                    match event.data.u64() {
                        WAKER => self.clear_wake(),
                        socket => ready.push(socket),
                    }
                }
            }
            Err(Errno::INTR) => {}
            // Nothing that the helper could do about it: it goes on with what it can see without epoll.
            Err(_) => std::thread::sleep(LOOK_IN),
        }
    }

    fn clear_wake(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }
}

/// Starts the helper thread of `device`.
pub(crate) fn start(waker: Arc<Waker>, device: Weak<Inner>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("rdma-helper".into()).spawn(move || run(&waker, &device))
}

fn run(waker: &Waker, device: &Weak<Inner>) {
    let mut pause = Pause::Yield;
    // When packets came last.
    let mut arrived: Option<Instant> = None;
    let mut ready = Vec::new();
    loop {
        ready.clear();
        match pause {
            Pause::Yield => std::thread::yield_now(),
            Pause::Sleep(span) => waker.sleep(span, &mut ready),
        }
        waker.sleeps_until.store(0, Ordering::SeqCst);
        if waker.stop.load(Ordering::SeqCst) {
            return;
        }
        let Some(device) = device.upgrade() else { return };
        let (mut looks_in, mut busy) = (false, false);
        let now = device.now();
        device.each_port(|port| {
            let attention = port.attention();
            if !attention.is_watched() && now.since(attention.asked()) < LOOK_IN {
                // Awake for another reason. Whoever polls must have had the time to do so again.
                looks_in = true;
                return;
            }
            if !attention.take_polled(now) {
                waker.watch(port, true);
                match device.progress_port(port) {
                    Some(true) => arrived = Some(Instant::now()),
                    Some(false) => {}
                    None => busy = true,
                }
            } else if ready.contains(&mark(port).u64()) {
                // Somebody else takes these packets: no need to be woken for them.
                waker.watch(port, false);
            }
            port.settle_overdue(|| device.now());
            looks_in |= !attention.is_watched();
        });
        if busy {
            // The socket stays ready meanwhile: without this, the helper would go round and round. Where it
            // shares a core with the thread that it came upon, it would do so until the scheduler puts an end
            // to it: 1 ms, measured.
            std::thread::sleep(BUSY);
        }
        let mut now = device.now();
        if device.earliest_deadline().is_some_and(|deadline| deadline <= now) {
            device.run_deadlines(now);
            now = device.now();
        }
        pause = if arrived.is_some_and(|arrived| arrived.elapsed() < LINGER) {
            Pause::Yield
        } else {
            let looks_in = looks_in.then(|| now + LOOK_IN);
            let until = |deadline: Option<Time>| deadline.into_iter().chain(looks_in).min();
            let nanos = until(device.earliest_deadline()).map_or(u64::MAX, Time::as_nanos);
            waker.sleeps_until.store(nanos, Ordering::SeqCst);
            // Whoever announced a deadline in between took the helper to be awake.
            Pause::Sleep(until(device.earliest_deadline()).map(|until| until.since(now)))
        };
    }
}

/// What the helper does before it looks again.
enum Pause {
    /// More may come at once: others on this core go first.
    Yield,
    /// Until something happens, or for so long.
    Sleep(Option<Duration>),
}

/// What epoll reports a port's socket as.
fn mark(port: &Port) -> EventData {
    EventData::new_u64(u64::from(port.socket().as_fd().as_raw_fd().unsigned_abs()))
}

/// `span` as the system takes it; what doesn't fit is as good as for ever.
fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    }
}
